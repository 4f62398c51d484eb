//! A fetch for the store: in a task of its own on the worker of the request that needs it, so that it lasts as long as anybody
//! waits for it.
//!
//! The request is forwarded as any other, without what makes the answer a part or an absence of the response; the answer's
//! head decides. What may be stored goes to all who wait, piece by piece as it comes, and into the store when it is whole.
//! What may not is handed to the one who asked, as it is.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::HeaderMap;
use tokio::sync::oneshot;

use super::Proxy;
use super::answer::{Answer, Answered, Content};
use super::error::ProxyError;
use super::fetch_request::request;
use super::filling::{Filling, packed};
use super::forward::Forward;
use super::learned::{Learned, Own, own_fields, own_fields_of};
use super::local::{LocalCache, LocalUpstream};
use super::record::Record;
use super::respond::prepared;
use super::storable::{
    Times, brought_up_to_date, is_failure, judged, length, storable, stored_head, updated,
};
use super::target::Target;
use crate::cache::{
    Asker, Caching, Epoch, Fetch, Lead, Lease, Outcome, Refusal, Resource, Stored, is_of,
};
use crate::config::Cache;
use crate::deadline;
use crate::semantics::cache_control::Directives;
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

    pub(super) fn asker<'f>(&'f self, fields: &'f HeaderMap) -> Asker<'f> {
        Asker {
            scope: &self.scope,
            fields,
        }
    }

    pub(super) fn fetch<'f>(&'f self, request: &'f HeaderMap, rules: &'f Cache) -> Fetch<'f> {
        Fetch {
            key: &self.key,
            request: self.asker(request),
            rules,
            since: self.since,
        }
    }

    /// Tells the request whose fetch it is, if that is still there.
    pub(super) fn tell(&mut self, own: Own) {
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
}

enum Asked {
    Answered(Box<Answered>),
    Failed(Box<Record>, ProxyError),
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
