//! The journey of a request: target -> route -> upstream -> response -> record. The only place where the capabilities meet.

mod answer;
mod as_stored;
mod asked;
mod at_work;
mod attempt;
pub(crate) mod body;
mod cache_status;
mod cached;
mod choose;
pub(crate) mod client;
mod compress_once;
mod course;
mod decoded;
mod encoded;
mod encoding;
pub(crate) mod error;
pub(crate) mod explain;
mod failure;
mod fetch_request;
pub(crate) mod fields;
mod fill;
mod filling;
mod flight;
mod forward;
mod invalidate;
mod learned;
pub(crate) mod local;
mod local_route;
mod occasion;
mod place;
pub(crate) mod record;
mod reply;
pub(crate) mod request_body;
pub(crate) mod request_head;
pub(crate) mod respond;
mod retries;
pub(crate) mod running;
mod search;
mod shared;
mod storable;
pub(crate) mod stream_clock;
pub(crate) mod target;
pub(crate) mod tunnel;
mod upstream_body;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body as _;

use self::asked::asked;
use self::body::Body;
use self::cached::Cached;
use self::client::Client;
use self::course::Course;
use self::error::ProxyError;
use self::fields::Parts;
use self::forward::{Failed, Forward};
use self::local::Local;
use self::record::Record;
use self::request_body::RequestBody;
use self::running::Exchanges;
use self::target::Target;
use crate::cache::Purge;
use crate::compress::CodecMemory;
use crate::deadline::Deadlines;
use crate::state::{Listener, Published};
use crate::telemetry::access_log::AccessSink;
use crate::telemetry::request_id::RequestIds;
use crate::telemetry::worker::WorkerMetrics;
use crate::upstream::http1::workspace::Workspace;

/// So many fields a browser sends, and some more.
const USUAL_FIELDS: usize = 24;
/// A map with room for more is not kept.
const MOST_FIELDS: usize = 64;

/// The data plane of one worker.
pub(crate) struct Proxy {
    published: Arc<Published>,
    generation: Cell<u64>,
    local: RefCell<Rc<Local>>,
    /// Listeners that a reload removed, each with the last state that had it: what its connections finish with.
    retired: RefCell<HashMap<usize, Rc<Local>>>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) exchanges: Rc<Exchanges>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access: AccessSink,
    pub(crate) workspace: Workspace,
    pub(crate) head: RefCell<Vec<u8>>,
    /// The key of what a request asks for.
    key: RefCell<Vec<u8>>,
    pub(super) ids: RequestIds,
    pub(super) codec_memory: CodecMemory,
    /// The map of a request that is over.
    spare_fields: Cell<HeaderMap>,
    seed: Cell<u64>,
}

impl Proxy {
    pub(crate) fn new(
        published: Arc<Published>,
        deadlines: Rc<Deadlines>,
        metrics: Arc<WorkerMetrics>,
        access: AccessSink,
        seed: u64,
    ) -> Rc<Self> {
        let generation = published.generation();
        let local = Rc::new(Local::new(published.state(), None, &metrics, seed));
        Rc::new(Self {
            generation: Cell::new(generation),
            local: RefCell::new(local),
            retired: RefCell::new(HashMap::new()),
            published,
            exchanges: Exchanges::new(&deadlines),
            deadlines,
            metrics,
            access,
            workspace: Workspace::new(),
            head: RefCell::new(Vec::with_capacity(4096)),
            key: RefCell::default(),
            ids: RequestIds::random(),
            codec_memory: CodecMemory::default(),
            spare_fields: Cell::default(),
            seed: Cell::new(seed | 1),
        })
    }

    /// The running state as this worker uses it; taken up anew when another was published.
    pub(crate) fn local(&self) -> Rc<Local> {
        let generation = self.published.generation();
        if generation != self.generation.get() {
            let previous = Rc::clone(&self.local.borrow());
            let next = Local::new(
                self.published.state(),
                Some(&previous),
                &self.metrics,
                self.random(),
            );
            for listener in previous.state.listeners.iter().flatten() {
                if next.state.listener(listener.number).is_none() {
                    self.retired
                        .borrow_mut()
                        .insert(listener.number, Rc::clone(&previous));
                }
            }
            let drain = next.state.config.process.drain;
            self.exchanges.leave(&next, drain);
            self.local.replace(Rc::new(next));
            self.generation.set(generation);
        }
        Rc::clone(&self.local.borrow())
    }

    /// The state for a connection of that listener: the running one, or the last one that had the listener.
    pub(crate) fn local_for(&self, listener: usize) -> Rc<Local> {
        let local = self.local();
        if local.state.listener(listener).is_some() {
            return local;
        }
        self.retired
            .borrow()
            .get(&listener)
            .map_or(local, Rc::clone)
    }

    /// The last connection of a removed listener is gone.
    pub(crate) fn forget(&self, listener: usize) {
        self.retired.borrow_mut().remove(&listener);
    }

    /// Lets requests in that wait for a server. Called once per tick.
    pub(crate) fn serve_queues(&self) {
        let now = self.deadlines.now();
        for upstream in &self.local().upstreams {
            upstream.keep_queue(now);
        }
    }

    /// Closes idle connections that are too old. Called about once a second.
    pub(crate) fn sweep(&self) {
        let now = self.deadlines.now();
        for upstream in &self.local().upstreams {
            upstream.deposit(now);
            let members = upstream.upstream.servers.iter();
            upstream
                .upstream
                .group
                .remember_trials(members.map(|member| &member.server));
            for server in &upstream.servers {
                server.pool.sweep(now);
            }
        }
        // A single large head must not stay for good.
        self.head.borrow_mut().shrink_to(16 * 1024);
    }

    /// Answers one request. Never fails: an error becomes a response here and nowhere else.
    pub(crate) async fn handle(
        self: Rc<Self>,
        client: Rc<Client>,
        request: Parts,
        body: RequestBody,
    ) -> Response<Body> {
        let local = self.local_for(client.listener);
        let request = Rc::new(request);
        let has_body = !body.is_end_stream();
        let here = local.no_route(client.listener).cloned();
        let record = Record::start(&self, &client, here.clone(), request);
        let Some(listener) = here.as_ref().map(|here| &*here.listener) else {
            return respond::error(record, &ProxyError::NoRoute, None);
        };
        let mut response = match self.answer(local, listener, record, body).await {
            Ok(response) if response.body().compress().is_some() => {
                Box::pin(encoding::encode(response, listener, &self.codec_memory)).await
            }
            Ok(response) => response,
            Err((record, error)) => {
                if has_body {
                    client.leave_unread();
                }
                respond::error(record, &error, Some(listener))
            }
        };
        if client.is_draining()
            && !client.http2.get()
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answer(
        self: &Rc<Self>,
        local: Rc<Local>,
        listener: &Listener,
        mut record: Box<Record>,
        body: RequestBody,
    ) -> Result<Response<Body>, Failed> {
        let request = Rc::clone(&record.request);
        course::identify(&mut record, listener);
        let target = match Target::of(&request, &listener.limits) {
            Ok(target) => target,
            Err(error) => return Err((record, error)),
        };
        let length = body.size_hint().lower();
        let choices = match course::decide(&mut record, &local, listener, &target, length) {
            Ok(Course::Forward(choices)) => choices,
            Ok(Course::Answer(answer)) => {
                leave(&record, &body);
                return Ok(answer.respond(record, listener, &target));
            }
            Err(error) => return Err((record, error)),
        };
        let choice = self.draw(choices, &local, &request);
        let upstream = choices
            .get(choice)
            .and_then(|(upstream, _)| local.upstreams.get(*upstream));
        let upstream = upstream.cloned();
        record.choose(&local, choice);
        let at = record.at.clone();
        let route = at.as_ref().and_then(|at| at.route.as_deref());
        let (Some(route), Some(upstream)) = (route, &upstream) else {
            return Err((record, ProxyError::NoRoute));
        };
        let cache = local.cache.clone();
        // How long the rest takes is up to clients and servers, and reloads do not wait for them.
        drop(local);
        if let (Some(rules), Some(cache)) = (&route.cache, &cache) {
            let cached = Cached {
                proxy: self,
                listener,
                route,
                upstream,
                target: &target,
                rules,
                cache,
            };
            return cached.answer(record, body).await;
        }
        let forward = Forward {
            proxy: self,
            listener,
            route,
            upstream,
            target: &target,
            is_looked_at: false,
        };
        let answer = forward.run(record, Some(body)).await?;
        let response = answer.respond(listener, route);
        if let Some(cache) = &cache
            && invalidate::may_have(&request.method, response.status())
            && let Some(record) = response.body().record()
        {
            // Another route may have stored what this one has changed.
            let keys = asked(record, listener, &target, |asked| {
                invalidate::keys(asked, response.headers(), &cache.key_rules)
            });
            Box::pin(cache.caching.purge(&Purge::Keys(keys), false)).await;
        }
        Ok(response)
    }

    /// The place of one of the choices: where the client's cookie says, else by weight.
    fn draw(&self, choices: &[(usize, u64)], local: &Local, request: &Parts) -> usize {
        if let Some(choice) = course::choice(choices, &local.state, request) {
            return choice;
        }
        let Some((_, sum)) = choices.last() else {
            return 0;
        };
        let point = self.random() % sum;
        choices
            .iter()
            .position(|(_, up_to)| point < *up_to)
            .unwrap_or(0)
    }

    /// An empty map for the fields of the next request, with room for the usual ones: most often that of one before.
    pub(crate) fn fields(&self) -> HeaderMap {
        let mut fields = self.spare_fields.take();
        if fields.capacity() == 0 {
            fields.reserve(USUAL_FIELDS);
        }
        fields
    }

    /// A request is over.
    fn keep_fields(&self, mut fields: HeaderMap) {
        if (1..=MOST_FIELDS).contains(&fields.capacity()) {
            fields.clear();
            self.spare_fields.set(fields);
        }
    }

    /// xorshift64*; spreads load, keeps no secrets.
    fn random(&self) -> u64 {
        let mut state = self.seed.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.seed.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }
}

/// The body of a request that is answered without it.
fn leave(record: &Record, body: &RequestBody) {
    if !body.is_end_stream() {
        record.client.leave_unread();
    }
}
