//! A fetch for the store: in a task of its own on the worker of the request that needs it, so that it lasts as long as anybody
//! waits for it.
//!
//! The request is forwarded as any other, without what makes the answer a part or an absence of the response; the answer's
//! head decides. What may be stored goes to all who wait, piece by piece as it comes, and into the store when it is whole.
//! What may not is handed to the one who asked, as it is.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use tokio::sync::oneshot;

use super::Proxy;
use super::answer::{Answer, Answered, Content};
use super::error::ProxyError;
use super::fields::{Fields, Parts};
use super::forward::Forward;
use super::local::{LocalCache, LocalServer, LocalUpstream};
use super::record::Record;
use super::respond::{original, prepared};
use super::target::Target;
use super::upstream_body::UpstreamBody;
use crate::cache::{
    Asker, BLOCK, Caching, Epoch, Exchange, Fetch, Lead, Lease, Outcome, Packing, Refusal,
    Reservation, Resource, Store, Stored, freshened, is_of, judge, storable_fields,
};
use crate::config::Cache;
use crate::deadline::{self, Ticks};
use crate::http1::read_buffer::READ_SIZE;
use crate::semantics::cache_control::Directives;
use crate::semantics::coding;
use crate::state::{Listener, Route};

/// What is fetched, and who makes the fetch.
pub(super) struct Fill {
    pub(super) proxy: Rc<Proxy>,
    pub(super) cache: Rc<LocalCache>,
    pub(super) upstream: Rc<LocalUpstream>,
    pub(super) key: Box<[u8]>,
    pub(super) scope: Box<[u8]>,
    pub(super) lead: Lead,
    /// What is to be validated, if anything is.
    pub(super) stale: Option<Arc<Stored>>,
    /// The request whose fetch it is; `None`: it is made in the background.
    pub(super) own: Option<oneshot::Sender<Own>>,
    /// No purge that came later than this is undone by what is fetched.
    pub(super) since: Epoch,
}

/// What the request gets that had to make the fetch.
pub(super) enum Own {
    /// It is stored, or about to be. Its body is coming to all who wait.
    Coming(Arc<Stored>, OwnFields, Learned),
    /// It is stored, whole. The status is the server's.
    Stored(Arc<Stored>, StatusCode, OwnFields, Learned),
    /// A 304 confirmed it for this client, but said what keeps it from being stored so.
    Confirmed(Arc<Stored>, Refusal, OwnFields, Learned),
    /// It is for this client alone.
    Answered(Box<Answered>, Refusal),
    /// There is none.
    Failed(ProxyError, Learned),
}

/// Fields of the response that are not stored, since they are for the one who asked only.
pub(super) type OwnFields = Option<Box<HeaderMap>>;

/// What the fetch has to tell of its attempts.
pub(super) struct Learned {
    server: Option<Rc<LocalServer>>,
    attempts: u32,
    queued: Option<Duration>,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
}

impl Learned {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            server: record.server.clone(),
            attempts: record.attempts,
            queued: record.queued,
            connect: record.connect,
            first_byte: record.first_byte,
        }
    }

    /// As if the request had made the attempts itself.
    pub(super) fn tell(self, record: &mut Record) {
        record.server = self.server;
        record.attempts += self.attempts;
        record.queued = self.queued;
        record.connect = self.connect;
        record.first_byte = self.first_byte;
    }
}

/// The request of a fetch: the client's, without conditions and ranges of its own, with those that validate `stale`. It is a
/// GET also where the client asks for the head alone: what comes is stored.
pub(super) fn request(asked: &Parts, stale: Option<&Stored>) -> Parts {
    let mut request = asked.clone();
    request.method = Method::GET;
    let mut headers = HeaderMap::clone(&asked.headers);
    for name in OWN_CONDITIONS {
        headers.remove(name);
    }
    if let Some(stale) = stale {
        let mut copy = |from: HeaderName, to: HeaderName| {
            if let Some(value) = stale.headers.get(from) {
                headers.insert(to, value.clone());
            }
        };
        copy(header::ETAG, header::IF_NONE_MATCH);
        copy(header::LAST_MODIFIED, header::IF_MODIFIED_SINCE);
    }
    request.headers = Rc::new(Fields::new(headers));
    request
}

/// The same in the background. What the client says to caches is about what it has got already; `only-if-cached`, above all,
/// would keep a cache on the way from asking.
pub(super) fn request_in_background(asked: &Parts, stale: &Stored) -> Parts {
    let mut request = request(asked, Some(stale));
    let mut headers = HeaderMap::clone(&request.headers);
    headers.remove(header::CACHE_CONTROL);
    headers.remove(header::PRAGMA);
    request.headers = Rc::new(Fields::new(headers));
    request
}

const OWN_CONDITIONS: [HeaderName; 4] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

/// When a response came, and how old it may have been by then (RFC 9111 §4.2.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) requested: Instant,
    pub(super) received: Instant,
    /// That of the clock on the wall, when it was received.
    pub(super) wall: SystemTime,
}

impl Times {
    /// Of a response that is just here.
    pub(super) fn since(requested: Instant) -> Self {
        Self {
            requested,
            received: deadline::now(),
            wall: SystemTime::now(),
        }
    }
}

/// The fields of the stored response with what another says of it.
pub(super) fn updated(stale: &Stored, from: &HeaderMap) -> HeaderMap {
    freshened(&original(&stale.headers), from)
}

/// The stored response with these fields, which are [`updated`]; why it may not be stored any more, if so.
pub(super) fn brought_up_to_date(
    stale: &Stored,
    asked: &HeaderMap,
    headers: &HeaderMap,
    times: Times,
    rules: &Cache,
) -> Result<Stored, Refusal> {
    if headers.len() > MOST_FIELDS {
        return Err(Refusal::TooManyFields);
    }
    let lease = judge(&exchange(asked, stale.status, headers, times), rules)?;
    let headers = prepared(stale.status, storable(headers, times.wall), stale.length);
    Ok(stale.with(headers, lease, times.wall))
}

/// Renews or takes away the mark of a target that had nothing to store.
pub(super) async fn mark(
    caching: &Caching,
    fetch: Fetch<'_>,
    answered: &Answered,
    times: Times,
    until: Instant,
) {
    let store = &caching.store;
    let response = (answered.status, &answered.headers, length(answered));
    let asked = &answered.record.request.headers;
    match judged(caching, asked, response, times, fetch.rules) {
        Ok(_) => store.unmark(fetch.key, fetch.request).await,
        // It need not be written down each time.
        Err(_) if until > times.received + HALF_A_MARK => {}
        Err(refusal) => {
            let now = times.received;
            store
                .mark_uncacheable(fetch, &answered.headers, refusal, now)
                .await;
        }
    }
}

/// Whether a response may be stored, and for how long it may be used. Its length, where that is known.
pub(super) fn judged(
    caching: &Caching,
    asked: &HeaderMap,
    (status, headers, length): (StatusCode, &HeaderMap, Option<u64>),
    times: Times,
    rules: &Cache,
) -> Result<Lease, Refusal> {
    let lease = judge(&exchange(asked, status, headers, times), rules)?;
    match length {
        _ if is_stream(headers) => Err(Refusal::Stream),
        Some(length) if length > caching.store.max_object_size() => Err(Refusal::TooLarge),
        _ => Ok(lease),
    }
}

/// What is stored of a response, short of its body; why it is not after all, if so.
pub(super) async fn stored_head(
    caching: &Caching,
    fetch: Fetch<'_>,
    (status, headers, length): (StatusCode, &HeaderMap, Option<u64>),
    lease: Lease,
    wall: SystemTime,
) -> Result<Arc<Stored>, Refusal> {
    let headers = prepared(status, storable(headers, wall), length);
    let head = Arc::new(Stored::head(status, headers, length, lease, wall));
    match caching.store.objection(fetch, &head).await {
        Some(refusal) => Err(refusal),
        None => Ok(head),
    }
}

fn exchange<'e>(
    request: &'e HeaderMap,
    status: StatusCode,
    response: &'e HeaderMap,
    times: Times,
) -> Exchange<'e> {
    Exchange {
        method: &Method::GET,
        request,
        status,
        response,
        requested: times.requested,
        received: times.received,
        wall: times.wall,
    }
}

impl Fill {
    /// Makes the fetch. `record` is that of a request of its own.
    pub(super) async fn run(mut self, mut record: Box<Record>) {
        let (at, cache) = (record.at.clone(), Rc::clone(&self.cache));
        let (at, caching) = (at.as_deref(), &*cache.caching);
        let Some((listener, route)) = at.and_then(|at| Some((&*at.listener, at.route.as_deref()?)))
        else {
            return;
        };
        let Some(rules) = &route.cache else {
            return;
        };
        let mut validates = self.stale.is_some();
        loop {
            let requested = deadline::now();
            let answered = match self.ask(record, listener, route).await {
                Asked::Answered(answered) => answered,
                Asked::Failed(record, error) => return self.failed(&record, error),
                Asked::Deserted => return,
            };
            let times = Times::since(requested);
            if answered.status == StatusCode::NOT_MODIFIED
                && validates
                && let Some(stale) = self.stale.clone()
            {
                if is_of(&stale.headers, &answered.headers) {
                    return self
                        .validated(caching, rules, &stale, answered, times)
                        .await;
                }
                // It speaks of something that is not here: the response itself is needed.
                validates = false;
                let again = request(&answered.record.request, None);
                record = Record::of_fetch(&answered.record, Rc::new(again));
                continue;
            }
            return self.answered(caching, rules, answered, times).await;
        }
    }

    /// Forwards the request, unless nobody waits for it any more.
    async fn ask(&mut self, record: Box<Record>, listener: &Listener, route: &Route) -> Asked {
        let request = Rc::clone(&record.request);
        let target = match Target::of(&request, &listener.limits) {
            Ok(target) => target,
            Err(error) => return Asked::Failed(record, error),
        };
        let forward = Forward {
            proxy: &self.proxy,
            listener,
            route,
            upstream: &self.upstream,
            target: &target,
            is_looked_at: true,
        };
        let mut forwarding = Box::pin(forward.run(record, None));
        let lead = &mut self.lead;
        std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = forwarding.as_mut().poll(context) {
                return Poll::Ready(match answer {
                    Ok(Answer::Answered(answered)) => Asked::Answered(answered),
                    // A request that asks for no upgrade gets none.
                    Ok(Answer::Response(_)) => Asked::Deserted,
                    Err((record, error)) => Asked::Failed(record, error),
                });
            }
            lead.poll_deserted(context).map(|()| Asked::Deserted)
        })
        .await
    }

    fn failed(mut self, record: &Record, error: ProxyError) {
        if let Some(stale) = &self.stale {
            stale.failed(deadline::now());
        }
        let outcome = match error.told().status {
            StatusCode::GATEWAY_TIMEOUT => Outcome::TimedOut,
            _ => Outcome::Failed(None),
        };
        self.tell(Own::Failed(error, Learned::of(record)));
        self.lead.decide(outcome);
    }

    fn asker<'f>(&'f self, fields: &'f HeaderMap) -> Asker<'f> {
        Asker {
            scope: &self.scope,
            fields,
        }
    }

    fn fetch<'f>(&'f self, request: &'f HeaderMap, rules: &'f Cache) -> Fetch<'f> {
        Fetch {
            key: &self.key,
            request: self.asker(request),
            rules,
            since: self.since,
        }
    }

    /// Tells the request whose fetch it is, if that is still there.
    fn tell(&mut self, own: Own) {
        if let Some(sender) = self.own.take() {
            // If not, what it would have got ends with it.
            let _ = sender.send(own);
        }
    }

    /// The stored response holds on (RFC 9111 §4.3.4).
    async fn validated(
        mut self,
        caching: &Caching,
        rules: &Cache,
        stale: &Arc<Stored>,
        answered: Box<Answered>,
        times: Times,
    ) {
        let learned = Learned::of(&answered.record);
        let asked = &answered.record.request.headers;
        let store = &caching.store;
        let updated = updated(stale, &answered.headers);
        // Where the 304 does not repeat the directives, the stored ones hold.
        let fields = own_fields(&Directives::of_response(&updated), &answered.headers);
        // Whatever becomes of it in the store: the server has just said that it is right for this request.
        let (own, outcome) = match brought_up_to_date(stale, asked, &updated, times, rules) {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                let kept = store.replace(&self.key, stale, &fresh, self.since).await;
                let resource = Resource::of_one(&self.key, self.asker(asked), &fresh, rules);
                match (kept, resource) {
                    (Ok(()), Ok(resource)) => {
                        let own = Own::Stored(fresh, answered.status, fields, learned);
                        let resource = Arc::new(resource);
                        (own, Outcome::Stored(resource, answered.status))
                    }
                    (Err(refusal), _) | (_, Err(refusal)) => {
                        let own = Own::Confirmed(fresh, refusal, fields, learned);
                        (own, Outcome::Again)
                    }
                }
            }
            Err(refusal) => {
                if !refusal.is_of_the_moment() {
                    store.remove(&self.key, stale).await;
                }
                let headers = storable(&updated, times.wall);
                let headers = prepared(stale.status, headers, stale.length);
                let lease = Lease {
                    received: times.received,
                    age_when_received: Duration::ZERO,
                    ..stale.lease.clone()
                };
                let own = stale.with(headers, lease, times.wall);
                let own = Own::Confirmed(Arc::new(own), refusal, fields, learned);
                (own, Outcome::Private)
            }
        };
        self.tell(own);
        self.lead.decide(outcome);
    }

    /// Another response than the stored one, or the first.
    async fn answered(
        self,
        caching: &Caching,
        rules: &Cache,
        answered: Box<Answered>,
        times: Times,
    ) {
        if is_failure(answered.status)
            && let Some(stale) = &self.stale
        {
            stale.failed(times.received);
            if stale.lease.staleness(times.received) < stale.lease.if_error {
                // However long it may be kept: what there is is better.
                return self
                    .refuse(caching, rules, answered, Refusal::Status, times.received)
                    .await;
            }
        }
        let response = (answered.status, &answered.headers, length(&answered));
        let asked = &answered.record.request.headers;
        match judged(caching, asked, response, times, rules) {
            Ok(lease) => self.keep(caching, rules, answered, lease, times).await,
            Err(refusal) => {
                self.refuse(caching, rules, answered, refusal, times.received)
                    .await
            }
        }
    }

    /// Hands a response that is not stored to the one who asked.
    async fn refuse(
        mut self,
        caching: &Caching,
        rules: &Cache,
        answered: Box<Answered>,
        refusal: Refusal,
        now: Instant,
    ) {
        let store = &caching.store;
        if is_failure(answered.status) {
            self.lead.decide(Outcome::Failed(Some(answered.status)));
            if let Some(own) = self.own.take() {
                let _ = own.send(Own::Answered(answered, refusal));
            }
            return;
        }
        if refusal == Refusal::NoRoom {
            self.tell(Own::Answered(answered, refusal));
            return self.lead.decide(Outcome::Private);
        }
        if answered.status == StatusCode::NOT_MODIFIED {
            // To a condition that was none of ours.
            self.tell(Own::Answered(answered, refusal));
            return self.lead.decide(Outcome::Again);
        }
        if let Some(stale) = &self.stale
            && !refusal.is_of_the_moment()
        {
            store.remove(&self.key, stale).await;
        }
        let fetch = self.fetch(&answered.record.request.headers, rules);
        store
            .mark_uncacheable(fetch, &answered.headers, refusal, now)
            .await;
        self.tell(Own::Answered(answered, refusal));
        self.lead.decide(Outcome::Private);
    }

    /// Takes in a response that may be stored.
    async fn keep(
        self,
        caching: &Caching,
        rules: &Cache,
        answered: Box<Answered>,
        lease: Lease,
        times: Times,
    ) {
        let (length, now) = (length(&answered), times.received);
        let Some(reservation) = caching.store.reserve(length.unwrap_or(0)) else {
            return self
                .refuse(caching, rules, answered, Refusal::NoRoom, now)
                .await;
        };
        let fetch = self.fetch(&answered.record.request.headers, rules);
        let response = (answered.status, &answered.headers, length);
        let head = match stored_head(caching, fetch, response, lease, times.wall).await {
            Ok(head) => head,
            Err(refusal) => return self.refuse(caching, rules, answered, refusal, now).await,
        };
        match answered.content {
            Content::Whole(ref bytes) => {
                // Of its own: it must not hold on to what else was read with it.
                let body = packed(vec![bytes.clone()], &caching.store).await;
                let stored = head.with_body(head.headers.clone(), body);
                self.put(caching, rules, answered, stored).await;
            }
            Content::Upstream(body) => {
                let own = own_fields_of(&answered.headers);
                let filling = Filling {
                    record: answered.record,
                    body,
                    head,
                    own,
                    reservation,
                };
                self.fill(caching, rules, filling).await;
            }
        }
    }

    /// Stores a response that is here.
    async fn put(
        mut self,
        caching: &Caching,
        rules: &Cache,
        answered: Box<Answered>,
        stored: Stored,
    ) {
        let asked = Rc::clone(&answered.record.request);
        let fetch = self.fetch(&asked.headers, rules);
        let put = caching.store.put(fetch, stored).await;
        match put {
            Ok(stored) => {
                let learned = Learned::of(&answered.record);
                let resource =
                    Resource::of_one(&self.key, self.asker(&asked.headers), &stored, rules);
                let own = own_fields_of(&answered.headers);
                self.tell(Own::Stored(stored, answered.status, own, learned));
                self.lead.decide(match resource {
                    Ok(resource) => Outcome::Stored(Arc::new(resource), answered.status),
                    Err(_) => Outcome::Private,
                });
            }
            Err(refusal) => {
                self.tell(Own::Answered(answered, refusal));
                self.lead.decide(released(refusal));
            }
        }
    }

    /// Reads a response into the store, and hands it to all who wait as it comes.
    async fn fill(mut self, caching: &Caching, rules: &Cache, filling: Filling) {
        let Filling {
            record,
            mut body,
            head,
            own,
            reservation,
        } = filling;
        let mut reservation = Some(reservation);
        // So much is reserved already.
        let mut covered = head.length.unwrap_or(0);
        let asked = Rc::clone(&record.request);
        let Ok(resource) = Resource::of_one(&self.key, self.asker(&asked.headers), &head, rules)
        else {
            return;
        };
        self.tell(Own::Coming(Arc::clone(&head), own, Learned::of(&record)));
        drop(record);
        self.lead.coming(Arc::new(resource));
        let max = caching.store.max_object_size();
        let mut packing = caching.store.packing();
        let mut size = 0_u64;
        loop {
            let piece = match self.piece(&mut body, &mut packing).await {
                Piece::Data(piece) => piece,
                Piece::Other => continue,
                Piece::End => break,
                // The lead tells by its end.
                Piece::Broken => return self.push_all(packing.rest()),
                Piece::Deserted => return,
            };
            let length = piece.len() as u64;
            size += length;
            let more = length.saturating_sub(covered) + COST_OF_PIECE;
            covered = covered.saturating_sub(length);
            let fits = |reserved: &mut Reservation| size <= max && reserved.grow(more);
            if reservation.as_mut().is_some_and(|reserved| !fits(reserved)) {
                // From here on it waits for those who read it.
                reservation = None;
                self.lead.pass();
                if size > max {
                    let now = deadline::now();
                    let fetch = self.fetch(&asked.headers, rules);
                    caching
                        .store
                        .mark_uncacheable(fetch, &head.headers, Refusal::TooLarge, now)
                        .await;
                }
            }
            if reservation.is_some() {
                packing.push(&piece);
                self.push_all(packing.whole());
                continue;
            }
            self.push_all(packing.rest());
            self.lead.push(of_its_own(piece));
            if self.is_deserted_before_there_is_room().await {
                return;
            }
        }
        self.push_all(packing.rest());
        if reservation.is_some() {
            let mut body = self.lead.pieces();
            if body.len() as u64 > FEW_PIECES + size / (BLOCK as u64 / 2) {
                // It came bit by bit.
                body = packed(body, &caching.store).await;
            }
            let headers = prepared(head.status, original(&head.headers), Some(size));
            let stored = head.with_body(headers, body);
            // If it is not taken, who comes next fetches it anew.
            let fetch = self.fetch(&asked.headers, rules);
            let _ = caching.store.put(fetch, stored).await;
        }
        self.lead.complete();
    }

    /// Waits for the slowest, but not for good where others have all there is.
    async fn is_deserted_before_there_is_room(&mut self) -> bool {
        let mut patience = None;
        std::future::poll_fn(|context| {
            if self.lead.poll_deserted(context).is_ready() {
                return Poll::Ready(true);
            }
            loop {
                if self.lead.poll_room(context).is_ready() {
                    return Poll::Ready(false);
                }
                let deadline = patience.get_or_insert_with(|| self.proxy.deadlines.deadline());
                if deadline.is_armed() {
                    ready!(deadline.poll_over(context));
                    self.lead.let_go_of_stalled();
                }
                self.lead.look();
                deadline.arm(Ticks::of(PATIENCE));
            }
        })
        .await
    }

    fn push_all(&self, pieces: impl IntoIterator<Item = Bytes>) {
        for piece in pieces {
            self.lead.push(piece);
        }
    }

    /// The next piece. If it takes a while, what is packed is handed out before.
    async fn piece(&mut self, body: &mut UpstreamBody, packing: &mut Packing) -> Piece {
        std::future::poll_fn(|context| {
            match body.poll_next(context, Some(READ_SIZE)) {
                Poll::Ready(None) => return Poll::Ready(Piece::End),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Piece::Broken),
                Poll::Ready(Some(Ok(frame))) => {
                    return Poll::Ready(match frame.into_data() {
                        Ok(data) => Piece::Data(data),
                        // Trailers are not stored, as RFC 9111 §3 allows.
                        Err(_) => Piece::Other,
                    });
                }
                Poll::Pending => self.push_all(packing.rest()),
            }
            self.lead.poll_deserted(context).map(|()| Piece::Deserted)
        })
        .await
    }
}

/// A response on its way into the store.
struct Filling {
    record: Box<Record>,
    body: Box<UpstreamBody>,
    head: Arc<Stored>,
    own: OwnFields,
    reservation: Reservation,
}

enum Asked {
    Answered(Box<Answered>),
    Failed(Box<Record>, ProxyError),
    Deserted,
}

enum Piece {
    Data(Bytes),
    Other,
    End,
    Broken,
    Deserted,
}

/// What who waited gets where a response was not taken into the store.
fn released(refusal: Refusal) -> Outcome {
    match refusal {
        // It can be fetched again at once, and then be stored.
        Refusal::Purged => Outcome::Again,
        _ => Outcome::Private,
    }
}

/// RFC 5861 §4.
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

fn is_stream(headers: &HeaderMap) -> bool {
    coding::media_type(headers).is_some_and(|kind| kind == coding::EVENT_STREAM)
}

/// The length of the content, where it is known.
fn length(answered: &Answered) -> Option<u64> {
    match &answered.content {
        Content::Whole(bytes) => Some(bytes.len() as u64),
        Content::Upstream(body) => body.framing.remaining(),
    }
}

/// The fields that are stored.
fn storable(headers: &HeaderMap, wall: SystemTime) -> HeaderMap {
    let mut fields = storable_fields(headers, &Directives::of_response(headers), wall);
    // Who cannot take the coding gets the response decoded.
    if let coding::Content::Coded(_) = coding::Content::of(&fields)
        && !coding::forbids_transformation(&fields)
    {
        coding::vary_by_accept_encoding(&mut fields);
    }
    fields
}

/// The fields of a whole response that are not.
fn own_fields_of(response: &HeaderMap) -> OwnFields {
    own_fields(&Directives::of_response(response), response)
}

/// The same by these directives (RFC 9111 §5.2.2.4, §5.2.2.7).
fn own_fields(directives: &Directives, headers: &HeaderMap) -> OwnFields {
    let mut own = HeaderMap::new();
    for (name, value) in headers {
        if directives.names(name) {
            own.append(name, value.clone());
        }
    }
    (!own.is_empty()).then(|| Box::new(own))
}

/// A piece that holds on to no more memory than its bytes.
fn of_its_own(piece: Bytes) -> Bytes {
    if piece.len() < READ_SIZE / 2 {
        Bytes::copy_from_slice(&piece)
    } else {
        piece
    }
}

/// The same bytes as they are stored. Others have their turn in between.
async fn packed(received: Vec<Bytes>, store: &Store) -> Vec<Bytes> {
    let mut packing = store.packing();
    let mut since = 0;
    for piece in received {
        packing.push(&piece);
        since += piece.len();
        if since > COPY_AT_A_STRETCH {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
    packing.end()
}

/// Each 304 may bring fields that the stored response does not have. So many are more than any response comes with.
const MOST_FIELDS: usize = 256;
/// Half of the time that a mark holds.
const HALF_A_MARK: Duration = Duration::from_secs(30);
/// So long a client that takes nothing may hold up those who share a response with it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A body in more pieces than half full blocks would be, and so many, is packed anew when it is whole.
const FEW_PIECES: u64 = 4;
/// What a piece takes beside its bytes.
const COST_OF_PIECE: u64 = 96;
/// Some 0.1 ms.
const COPY_AT_A_STRETCH: usize = 1 << 20;
