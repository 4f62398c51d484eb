//! For `benches/`.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};

use crate::config::Config;
use crate::deadline::{Clock, Deadlines};
use crate::listen::tls;
use crate::proxy::Proxy;
use crate::proxy::client::Client;
use crate::proxy::record::Record;
use crate::proxy::request_head::RequestHead;
use crate::proxy::target::Target;
use crate::route::{Table, Wanted};
use crate::state::{Published, State, Surroundings};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::worker::WorkerMetrics;
use crate::upstream::http1::head::Asked;
use crate::upstream::http1::workspace::Workspace;

/// The routes of a config on its first listener.
pub struct Routes(Table<usize>);

impl Routes {
    /// As a start or a reload arranges them.
    pub fn of(config: &Config) -> Self {
        Self(Table::build(config.routes.iter().zip(0..)))
    }

    /// The number of the route that a GET takes.
    pub fn find(&self, host: &str, path: &str, headers: &HeaderMap) -> Option<usize> {
        self.0
            .find(&Wanted {
                host,
                path,
                method: &Method::GET,
                headers,
                query: None,
            })
            .copied()
    }
}

/// A worker that gets responses.
pub struct Receiver(Workspace);

impl Receiver {
    /// One that has seen none yet.
    #[expect(clippy::new_without_default, reason = "nobody needs a default one")]
    pub fn new() -> Self {
        Self(Workspace::new())
    }

    /// Parses the head of a response to a GET; the number of its fields that are passed on.
    pub fn parse_response_head(&self, bytes: &Bytes) -> Option<usize> {
        let asked = Asked {
            head: false,
            upgrade: false,
        };
        let (_, head) = self.0.parse(bytes, asked).ok()??;
        Some(head.headers.len())
    }
}

/// A request that came, ready to be written to the first server of the first upstream.
pub struct ReceivedRequest {
    state: Arc<State>,
    record: Box<Record>,
    _access: AccessLog,
}

impl ReceivedRequest {
    /// Takes the first route. `None` if the config has no listener, route or upstream, or no access log can be started.
    pub fn new(config: Config, request: Request<()>) -> Option<Self> {
        let access = AccessLog::start(&config.log).ok()?;
        let clock = Clock::start();
        let around = Surroundings::alone(&tls::settings, clock);
        let state = Arc::new(State::build(Arc::new(config), &around));
        let metrics = Arc::new(WorkerMetrics::default());
        let published = Arc::new(Published::new(Arc::clone(&state), clock));
        let proxy = Proxy::new(
            published,
            Deadlines::new(clock),
            Arc::clone(&metrics),
            access.sink(),
            1,
        );
        let listener = state.listeners.first()?.as_ref()?;
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let client = Rc::new(Client::new(
            peer,
            listener,
            metrics.listener(&listener.name),
            proxy.deadlines.deadline(),
        ));
        let (request, ()) = request.into_parts();
        let record = Record::start(
            &proxy,
            &client,
            proxy.local().no_route(0).cloned(),
            Rc::new(request.into()),
        );
        let complete = !state.routes.is_empty() && state.servers().next().is_some();
        complete.then_some(Self {
            state,
            record,
            _access: access,
        })
    }

    /// Calls `time` with what writes the head once.
    pub fn with_writer(&self, time: impl FnOnce(&dyn Fn(&mut Vec<u8>))) -> Option<()> {
        let listener = self.state.listeners.first()?.as_ref()?;
        let target = Target::of(&self.record.request, &listener.limits).ok()?;
        let upstream = self.state.upstreams.first()?;
        let server = &upstream.servers.first()?.server.address;
        let head = RequestHead {
            record: &self.record,
            listener,
            route: self.state.routes.first()?,
            upstream,
            server,
            target: &target,
            body: None,
            upgrade: None,
        };
        time(&|out| head.write(out));
        Some(())
    }
}
