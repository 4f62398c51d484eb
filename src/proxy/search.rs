//! What is stored for a request, or a fetch for it: by this request, or with another one (RFC 9111 §4).

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::answer::{Answer, Answered};
use super::body::Body;
use super::cache_status::{Forwarded, Verdict};
use super::cached::Cached;
use super::error::ProxyError;
use super::fetch_request;
use super::fields::{Asks, Parts};
use super::fill::Fill;
use super::forward::Failed;
use super::learned::{Learned, Own};
use super::record::Record;
use super::reply::{self, Reply};
use super::storable::{self, Times, is_failure};
use crate::cache::{
    Asker, Epoch, Follow, HeadSays, Joined, Lead, Outcome, Refusal, Resource, Reuse, Selected,
    Stored, head_says, is_personal, reuse,
};
use crate::deadline::{self, Ticks};
use crate::semantics::cache_control::RequestDirectives;
use crate::semantics::coding::{self, Content};

/// A request that may be answered by what is stored.
pub(super) struct Search<'r> {
    pub(super) cached: &'r Cached<'r>,
    pub(super) key: &'r [u8],
    /// What the response depends on beside the key and the request's fields.
    pub(super) scope: &'r [u8],
    pub(super) asks: Asks,
    pub(super) directives: &'r RequestDirectives,
}

/// What has been tried for a request.
#[derive(Default)]
struct Tried {
    /// Fetches of others that failed.
    failures: u32,
    /// What another fetched was not for this one.
    alone: bool,
    /// What tells apart for whom it was, as this request says it.
    variant: Option<Vec<u8>>,
    /// What was stored was another once it was to make a fetch than when it looked.
    was_late: bool,
}

/// What is stored for a request, short of an answer.
pub(super) struct Need {
    pub(super) why: Forwarded,
    pub(super) stale: Option<Arc<Stored>>,
    /// Whether the stale one may be used if the server fails.
    on_error: bool,
    /// Why what was fetched last was not stored, and until when that is believed.
    uncacheable: Option<(Refusal, Instant)>,
    /// Why it is not for this request, nor what is fetched for it for others.
    passes: Option<&'static str>,
    /// Each request has to ask for itself.
    is_for_one: bool,
    /// What tells the variants of the target apart, as this request says it.
    variant: Vec<u8>,
}

/// A stored response that answers the request.
pub(super) struct FoundStored {
    stored: Arc<Stored>,
    pub(super) verdict: Verdict,
    /// In the background, meanwhile.
    is_to_be_renewed: bool,
}

impl FoundStored {
    fn new(stored: &Arc<Stored>, verdict: Verdict) -> Self {
        Self {
            stored: Arc::clone(stored),
            verdict,
            is_to_be_renewed: false,
        }
    }
}

/// What is done where nothing that is stored answers.
pub(super) enum Without {
    /// It is passed on as if there were no store.
    Pass(Verdict),
    /// The client wants nothing else.
    Refuse(Verdict),
    /// A HEAD is passed on, and stores nothing.
    PassHead,
    /// What was fetched last could not be stored, and why.
    PassMarked((Refusal, Instant)),
    /// The response is fetched, for the store too.
    Fetch,
}

impl Search<'_> {
    pub(super) async fn find(&self, mut record: Box<Record>) -> Result<Response<Body>, Failed> {
        let request = Rc::clone(&record.request);
        let mut tried = Tried::default();
        // The clock is not asked again where nothing took time since it was.
        let mut now = record.started;
        loop {
            let resource = self.cached.caching().store.find(self.key).await;
            let need = match self.look(&record, resource.as_deref(), now) {
                Ok(found) => {
                    if found.is_to_be_renewed {
                        let variant =
                            Resource::variant_of(resource.as_deref(), self.asker(&record));
                        let renewed = (&found.stored, resource);
                        // Boxed: few are stale.
                        Box::pin(self.refresh(&record, &variant, renewed)).await;
                    }
                    return Ok(self.reply(record, &found.stored, None, found.verdict, now));
                }
                Err(need) => need,
            };
            match self.without(&request.method, &need) {
                Without::Pass(verdict) => return self.cached.pass(record, None, verdict).await,
                Without::Refuse(verdict) => {
                    self.cached.count(&mut record, &verdict);
                    return Err((record, ProxyError::NotStored));
                }
                Without::PassHead => return Box::pin(self.pass_head(record, need)).await,
                Without::PassMarked(mark) => {
                    let (searched, why) = ((self.key, self.scope), need.why);
                    return Box::pin(self.cached.pass_marked(record, searched, why, mark)).await;
                }
                Without::Fetch => {}
            }
            let fetch = self.fetch(record, need, resource, &mut tried);
            // Boxed: what is stored is to be found without paying for what is not.
            record = match Box::pin(fetch).await? {
                Fetched::Response(response) => return Ok(response),
                Fetched::Again(record) => record,
            };
            now = deadline::now();
        }
    }

    /// What is done where nothing that is stored answers the request.
    pub(super) fn without(&self, method: &Method, need: &Need) -> Without {
        if self.directives.only_if_cached {
            Without::Refuse(Verdict::forwarded(need.why))
        } else if let Some(detail) = need.passes {
            Without::Pass(Verdict::forwarded(Forwarded::Bypass).with_detail(detail))
        } else if *method == Method::HEAD {
            Without::PassHead
        } else if let Some(mark) = need.uncacheable {
            Without::PassMarked(mark)
        } else if self.asks.for_ranges && need.stale.is_none() {
            // The whole may be much larger than what is asked for.
            Without::Pass(Verdict::forwarded(need.why).with_detail("range"))
        } else {
            Without::Fetch
        }
    }

    pub(super) fn asker<'a>(&'a self, record: &'a Record) -> Asker<'a> {
        Asker {
            scope: self.scope,
            fields: &record.request.headers,
        }
    }

    /// What is stored for this request, and how it may be used now.
    pub(super) fn look(
        &self,
        record: &Record,
        resource: Option<&Resource>,
        now: Instant,
    ) -> Result<FoundStored, Need> {
        let asker = self.asker(record);
        let nothing = |why, uncacheable| Need {
            why,
            stale: None,
            on_error: false,
            uncacheable,
            passes: None,
            is_for_one: false,
            variant: Resource::variant_of(resource, asker),
        };
        let Some(known) = resource else {
            return Err(nothing(Forwarded::UriMiss, None));
        };
        let stored = match known.select(asker, self.cached.route.compress.is_some(), now) {
            Selected::Response(stored) => stored,
            Selected::Uncacheable(why, until) => {
                return Err(nothing(Forwarded::UriMiss, Some((why, until))));
            }
            Selected::OtherVariants => return Err(nothing(Forwarded::VaryMiss, None)),
        };
        if is_for_others(stored, record) {
            return Err(Need {
                passes: Some(PERSONAL),
                ..nothing(Forwarded::Bypass, None)
            });
        }
        if !reply::can_be_taken(record, stored) {
            return Err(Need {
                passes: Some(NO_DECODER),
                ..nothing(Forwarded::Bypass, None)
            });
        }
        let ttl = stored.lease.ttl(now);
        let hit = Verdict::hit(ttl);
        let on_error = match reuse(&stored.lease, self.directives, now) {
            Reuse::Fresh => return Ok(FoundStored::new(stored, hit)),
            Reuse::Stale => return Ok(FoundStored::new(stored, hit.with_detail("max-stale"))),
            Reuse::StaleWhileRevalidating => {
                let verdict = hit.with_detail("stale-while-revalidate");
                return Ok(FoundStored {
                    is_to_be_renewed: !stored.has_just_failed(now),
                    ..FoundStored::new(stored, verdict)
                });
            }
            Reuse::Validate { on_error } => on_error,
        };
        if on_error && (self.cached.upstream.is_down() || stored.has_just_failed(now)) {
            return Ok(FoundStored::new(stored, hit.with_detail("stale-if-error")));
        }
        let is_asked_to = stored.lease.is_fresh(now) && !stored.lease.always_validate;
        Err(Need {
            why: if is_asked_to {
                Forwarded::Request
            } else {
                Forwarded::Stale
            },
            stale: Some(Arc::clone(stored)),
            on_error,
            uncacheable: None,
            passes: None,
            is_for_one: stored.lease.is_for_one(),
            variant: known.variant(asker),
        })
    }

    /// Answers with a stored response.
    fn reply(
        &self,
        record: Box<Record>,
        stored: &Arc<Stored>,
        coming: Option<Follow>,
        verdict: Verdict,
        now: Instant,
    ) -> Response<Body> {
        self.reply_with(record, stored, coming, verdict, (now, None))
    }

    /// The same with fields that are for this client only.
    fn reply_with(
        &self,
        mut record: Box<Record>,
        stored: &Arc<Stored>,
        coming: Option<Follow>,
        verdict: Verdict,
        (now, own): (Instant, Option<&HeaderMap>),
    ) -> Response<Body> {
        self.cached.count(&mut record, &verdict);
        let reply = Reply {
            listener: self.cached.listener,
            route: self.cached.route,
            asks: self.asks,
            verdict,
            tells: self.cached.rules.cache_status,
            now,
            random: self.cached.proxy.random(),
            own,
            caching: self.cached.caching(),
            key: self.key,
        };
        reply.of(record, stored, coming)
    }

    /// Fetches what is stored anew, while it is used.
    async fn refresh(
        &self,
        record: &Record,
        variant: &[u8],
        (stale, seen): (&Arc<Stored>, Option<Arc<Resource>>),
    ) {
        let fetches = &self.cached.caching().fetches;
        let Some(lead) = fetches.in_background(self.key, variant) else {
            return;
        };
        if self.has_changed(seen).await {
            return lead.decide(Outcome::Again);
        }
        let request = fetch_request::request_in_background(&record.request, stale);
        self.fill(record, request, lead, (Some(Arc::clone(stale)), None));
    }

    /// Whether there is something else in the store than there was: between looking there and beginning a fetch, that of
    /// another may have ended, and what it brought must not be asked for once more.
    async fn has_changed(&self, seen: Option<Arc<Resource>>) -> bool {
        let now = self.cached.caching().store.find(self.key).await;
        let (seen, now) = (seen.as_ref(), now.as_ref());
        seen.map(Arc::as_ptr) != now.map(Arc::as_ptr)
    }

    /// Begins a fetch by this request.
    fn fill(
        &self,
        record: &Record,
        request: Parts,
        lead: Lead,
        (stale, own): (Option<Arc<Stored>>, Option<oneshot::Sender<Own>>),
    ) {
        let fill = Fill {
            proxy: Rc::clone(self.cached.proxy),
            cache: Rc::clone(self.cached.cache),
            upstream: Rc::clone(self.cached.upstream),
            key: self.key.into(),
            scope: self.scope.into(),
            lead,
            stale,
            own,
            since: self.cached.caching().store.epoch(),
        };
        spawn_local(fill.run(Record::of_fetch(record, Rc::new(request))));
    }

    /// Has the response fetched, by this request or with another one.
    async fn fetch(
        &self,
        record: Box<Record>,
        need: Need,
        seen: Option<Arc<Resource>>,
        tried: &mut Tried,
    ) -> Result<Fetched, Failed> {
        let is_for_many = self.cached.rules.collapse
            && !need.is_for_one
            && !tried.alone
            // Another's fetch may have begun before this was asked for.
            && !wants_validation(self.directives);
        let fetches = &self.cached.caching().fetches;
        let joined = if is_for_many {
            let variant = tried.variant.as_ref().unwrap_or(&need.variant);
            fetches.join(self.key, variant, tried.failures)
        } else {
            fetches.alone()
        };
        match joined {
            Joined::Lead(lead, follow) => {
                if is_for_many && !tried.was_late && self.has_changed(seen).await {
                    // Once: others may change what is no answer to this one.
                    tried.was_late = true;
                    lead.decide(Outcome::Again);
                    return Ok(Fetched::Again(record));
                }
                self.lead(record, need, lead, follow).await
            }
            Joined::Follow(follow) => Ok(self.follow(record, need, follow, tried).await?),
        }
    }

    /// Makes the fetch, for itself and for whoever joins.
    async fn lead(
        &self,
        mut record: Box<Record>,
        need: Need,
        lead: Lead,
        follow: Follow,
    ) -> Result<Fetched, Failed> {
        let spare = need.stale.clone().filter(|_| need.on_error);
        let (sender, own) = oneshot::channel();
        let request = fetch_request::request(&record.request, need.stale.as_deref());
        self.fill(&record, request, lead, (need.stale.clone(), Some(sender)));
        let verdict = Verdict::forwarded(need.why);
        let now = deadline::now;
        let response = match own.await {
            Ok(Own::Coming(stored, own, learned)) => {
                learned.tell(&mut record);
                let verdict = Verdict {
                    stored: true,
                    answered: Some(stored.status),
                    ..verdict
                };
                let (coming, own) = (Some(follow), own.as_deref());
                self.reply_with(record, &stored, coming, verdict, (now(), own))
            }
            Ok(Own::Stored(stored, status, own, learned)) => {
                learned.tell(&mut record);
                let verdict = Verdict {
                    stored: true,
                    answered: Some(status),
                    ..verdict
                };
                let own = (now(), own.as_deref());
                self.reply_with(record, &stored, None, verdict, own)
            }
            Ok(Own::Confirmed(stored, refusal, own, learned)) => {
                learned.tell(&mut record);
                let verdict = Verdict {
                    answered: Some(StatusCode::NOT_MODIFIED),
                    ..verdict.with_detail(refusal.name())
                };
                let own = (now(), own.as_deref());
                self.reply_with(record, &stored, None, verdict, own)
            }
            Ok(Own::Answered(answered, _))
                if let Some(stale) = &spare
                    && is_failure(answered.status) =>
            {
                Learned::of(&answered.record).tell(&mut record);
                self.despite(record, stale, verdict, Some(answered.status))
            }
            Ok(Own::Answered(mut answered, refusal)) => {
                Learned::of(&answered.record).tell(&mut record);
                let verdict = verdict.with_detail(refusal.name());
                self.cached.count(&mut record, &verdict);
                answered.record = record;
                self.cached.say(&mut answered.headers, verdict);
                answered.respond(self.cached.listener, self.cached.route)
            }
            Ok(Own::Failed(_, learned)) if let Some(stale) = &spare => {
                learned.tell(&mut record);
                self.despite(record, stale, verdict, None)
            }
            Ok(Own::Failed(error, learned)) => {
                learned.tell(&mut record);
                self.cached.count(&mut record, &verdict);
                return Err((record, error));
            }
            Err(_) => {
                self.cached.count(&mut record, &verdict);
                return Err((record, ProxyError::FetchEnded));
            }
        };
        Ok(Fetched::Response(response))
    }

    /// The server failed: the stale response instead.
    fn despite(
        &self,
        record: Box<Record>,
        stale: &Arc<Stored>,
        verdict: Verdict,
        answered: Option<StatusCode>,
    ) -> Response<Body> {
        let now = deadline::now();
        let verdict = Verdict {
            answered,
            ttl: Some(stale.lease.ttl(now)),
            ..verdict.with_detail("stale-if-error")
        };
        self.reply(record, stale, None, verdict, now)
    }

    /// Waits for the fetch of another request.
    async fn follow(
        &self,
        mut record: Box<Record>,
        need: Need,
        follow: Follow,
        tried: &mut Tried,
    ) -> Result<Fetched, Failed> {
        let deadline = self.cached.route.timeout.map(|timeout| {
            let deadline = self.cached.proxy.deadlines.deadline();
            let left = timeout.0.saturating_sub(Ticks::of(record.age()).0);
            deadline.arm(Ticks(left.max(1)));
            deadline
        });
        let outcome = std::future::poll_fn(|context| {
            if let Poll::Ready(outcome) = follow.poll_outcome(context) {
                return Poll::Ready(Some(outcome));
            }
            match &deadline {
                Some(deadline) => deadline.poll_over(context).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await;
        let now = deadline::now();
        let verdict = Verdict {
            collapsed: true,
            ..Verdict::forwarded(need.why)
        };
        let (resource, answered, coming) = match outcome {
            Some(Outcome::Coming(resource)) => (resource, None, Some(follow)),
            Some(Outcome::Stored(resource, status)) => (resource, Some(status), None),
            Some(Outcome::Private) => {
                tried.alone = true;
                return Ok(Fetched::Again(record));
            }
            Some(Outcome::Again) => {
                tried.failures += 1;
                return Ok(Fetched::Again(record));
            }
            Some(outcome @ (Outcome::Failed(_) | Outcome::TimedOut)) => {
                if let Some(stale) = need.stale.filter(|_| need.on_error) {
                    let answered = match outcome {
                        Outcome::Failed(answered) => answered,
                        _ => None,
                    };
                    let response = self.despite(record, &stale, verdict, answered);
                    return Ok(Fetched::Response(response));
                }
                if let Outcome::TimedOut = outcome {
                    // To wait as long once more would be of no more use.
                    self.cached.count(&mut record, &verdict);
                    return Err((record, ProxyError::FetchTimedOut));
                }
                tried.failures += 1;
                return Ok(Fetched::Again(record));
            }
            None => {
                let upstream = self.cached.upstream.upstream.name.clone();
                self.cached.count(&mut record, &verdict);
                return Err((record, ProxyError::RouteTimeout { upstream }));
            }
        };
        let asker = self.asker(&record);
        let compresses = self.cached.route.compress.is_some();
        let stored = match resource.select(asker, compresses, now) {
            Selected::Response(stored) if reply::can_be_taken(&record, stored) => {
                Arc::clone(stored)
            }
            Selected::Uncacheable(..) => {
                tried.alone = true;
                return Ok(Fetched::Again(record));
            }
            // It is the response to another kind of request. Who asks as this one does waits for the next with it.
            Selected::Response(_) | Selected::OtherVariants => {
                let variant = resource.variant_in_full(asker);
                tried.alone = tried.variant.replace(variant).is_some();
                return Ok(Fetched::Again(record));
            }
        };
        if is_for_others(&stored, &record) {
            let verdict = Verdict::forwarded(Forwarded::Bypass).with_detail(PERSONAL);
            let response = self.cached.pass(record, None, verdict).await?;
            return Ok(Fetched::Response(response));
        }
        if !matches!(reuse(&stored.lease, self.directives, now), Reuse::Fresh) {
            tried.alone = true;
            return Ok(Fetched::Again(record));
        }
        let verdict = Verdict {
            answered: answered.or(Some(stored.status)),
            ..verdict
        };
        let response = self.reply(record, &stored, coming, verdict, now);
        Ok(Fetched::Response(response))
    }

    /// Passes a HEAD on. What it says of the response to a GET holds for the stored one too (RFC 9111 §4.3.5).
    async fn pass_head(
        &self,
        mut record: Box<Record>,
        need: Need,
    ) -> Result<Response<Body>, Failed> {
        let verdict = Verdict::forwarded(need.why);
        let spare = need.stale.as_ref().filter(|_| need.on_error);
        let (requested, since) = (deadline::now(), self.cached.caching().store.epoch());
        self.cached.count(&mut record, &verdict);
        let answer = match (self.cached.forward().run(record, None).await, spare) {
            (Ok(Answer::Answered(answered)), Some(stale)) if is_failure(answered.status) => {
                let status = Some(answered.status);
                return Ok(self.despite(answered.record, stale, verdict, status));
            }
            (Err((record, _)), Some(stale)) => {
                return Ok(self.despite(record, stale, verdict, None));
            }
            (answer, _) => answer?,
        };
        let mut answer = answer;
        if let Answer::Answered(answered) = &mut answer {
            let times = Times::since(requested);
            if let Some(stale) = &need.stale {
                self.compare(stale, answered, times, since).await;
            }
            self.tell_as_of_get(answered, times);
        }
        Ok(self.cached.respond(answer, verdict))
    }

    /// What a GET brings into the store is decoded for those who cannot take it, and its HEAD tells so (RFC 9110 §9.3.2).
    fn tell_as_of_get(&self, answered: &mut Answered, times: Times) {
        let (status, headers) = (answered.status, &answered.headers);
        let asked = &answered.record.request.headers;
        let is_decoded = reply::decodes_content(asked, headers, Content::of(headers)).is_some()
            && storable::judged(
                self.cached.caching(),
                asked,
                (status, headers, None),
                times,
                self.cached.rules,
            )
            .is_ok();
        if is_decoded {
            coding::describe_decoded(&mut answered.headers);
        }
    }

    /// Brings what is stored up to date with an answer to HEAD, or makes it stale.
    async fn compare(&self, stale: &Arc<Stored>, answered: &Answered, times: Times, since: Epoch) {
        // Of another coding, it is about another representation.
        let is_comparable =
            stale.status == StatusCode::OK && Content::of(&answered.headers) == stale.coded;
        if !is_comparable {
            return;
        }
        let length = stale.body.len() as u64;
        let from = &answered.headers;
        let fresh = match head_says(&stale.headers, length, answered.status, from) {
            HeadSays::Update => {
                let asked = &answered.record.request.headers;
                let updated = storable::updated(stale, from);
                storable::brought_up_to_date(stale, asked, &updated, times, self.cached.rules)
            }
            HeadSays::Invalidate => {
                let mut old = Stored::clone(stale);
                old.lease.expire(times.received);
                Ok(old)
            }
            HeadSays::Nothing => return,
        };
        if let Ok(fresh) = fresh {
            let store = &self.cached.caching().store;
            // If it is not taken, there is nothing to tell: what the client gets is the answer of the server.
            let _ = store
                .replace(self.key, stale, &Arc::new(fresh), since)
                .await;
        }
    }
}

/// Whether a stored response is for nobody in particular, as far as is known, and the request tells who asks.
fn is_for_others(stored: &Stored, record: &Record) -> bool {
    stored.lease.is_assumed && is_personal(&record.request.headers)
}

/// Why such a request is passed on.
const PERSONAL: &str = "personal";
const NO_DECODER: &str = "decoder-memory";

enum Fetched {
    Response(Response<Body>),
    /// Nothing came of it; what is stored may have changed.
    Again(Box<Record>),
}

/// Whether the client wants to hear it from the server itself.
fn wants_validation(directives: &RequestDirectives) -> bool {
    directives.no_cache || directives.max_age.is_some_and(|age| age.is_zero())
}
