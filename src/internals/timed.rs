//! For `benches/`.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};

use crate::balance::{Balancer, Candidate};
use crate::config::Config;
use crate::deadline::Deadlines;
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

/// Servers of equal weight, and a policy to choose among them.
pub struct Servers {
    balancer: Balancer,
    servers: Vec<Sample>,
}

struct Sample(usize);

impl Candidate for Sample {
    fn weight(&self) -> u32 {
        1
    }

    fn in_flight(&self) -> u32 {
        // Mixed, so that the least loaded one is anywhere.
        u32::try_from(self.0 * 7 % 13).unwrap_or_default()
    }

    fn id(&self) -> usize {
        self.0
    }
}

impl Servers {
    /// That take turns.
    pub fn round_robin(count: usize) -> Self {
        Self {
            balancer: Balancer::round_robin(1),
            servers: (0..count).map(Sample).collect(),
        }
    }

    /// Of which the least loaded one is chosen.
    pub fn least_connections(count: usize) -> Self {
        Self {
            balancer: Balancer::least_connections(1),
            servers: (0..count).map(Sample).collect(),
        }
    }

    /// The place of the next one.
    pub fn pick(&mut self) -> Option<usize> {
        self.balancer.pick(&self.servers, |_| true)
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
            room: 0,
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
        let around = Surroundings {
            previous: None,
            found: &|_, _| Vec::new(),
            workers: 1,
            max_files: 1024,
            tls: &tls::settings,
            now: SystemTime::now(),
        };
        let state = Arc::new(State::build(Arc::new(config), &around));
        let metrics = Arc::new(WorkerMetrics::default());
        let published = Arc::new(Published::new(Arc::clone(&state)));
        let proxy = Proxy::new(
            published,
            Deadlines::new(Instant::now()),
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
        let record = Record::start(&proxy, &client, proxy.local(), Rc::new(request));
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
