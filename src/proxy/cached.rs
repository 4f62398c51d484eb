//! Requests of a route that caches: answered from the store, or by a fetch for it, or passed on (RFC 9111 §4).

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

use http::header::HeaderMap;
use http::{Method, Response, StatusCode};
use http_body::Body as _;

use super::Proxy;
use super::answer::Answer;
use super::asked::{asked, told};
use super::body::Body;
use super::cache_status::{CACHE_STATUS, Forwarded, Verdict};
use super::error::ProxyError;
use super::fields::Asks;
use super::forward::{Failed, Forward};
use super::invalidate;
use super::local::{LocalCache, LocalUpstream};
use super::record::Record;
use super::request_body::RequestBody;
use super::search::Search;
use super::storable::{self, Times, is_failure};
use super::target::Target;
use crate::cache::{Asker, Caching, Fetch, Purge, Refusal, key};
use crate::config::Cache;
use crate::deadline;
use crate::semantics::cache_control::RequestDirectives;
use crate::semantics::hop_by_hop::{Nominated, is_hop_by_hop};
use crate::state::{Action, Listener, Route};

/// What a request of a route that caches is answered by.
pub(super) struct Cached<'r> {
    pub(super) proxy: &'r Rc<Proxy>,
    pub(super) listener: &'r Listener,
    pub(super) route: &'r Route,
    pub(super) upstream: &'r Rc<LocalUpstream>,
    pub(super) target: &'r Target<'r>,
    pub(super) rules: &'r Cache,
    pub(super) cache: &'r Rc<LocalCache>,
}

impl Cached<'_> {
    pub(super) async fn answer(
        &self,
        mut record: Box<Record>,
        body: RequestBody,
    ) -> Result<Response<Body>, Failed> {
        let request = Rc::clone(&record.request);
        if !is_looked_up(&request.method) {
            return self.pass_method(record, body).await;
        }
        let asks = request.headers.asks;
        let directives = asks.directives(&request.headers);
        if let Some(verdict) = self.is_passed(asks, &directives, (&request.headers, &body)) {
            // RFC 9111 §5.2.1.7: it is not for the server, for whatever reason it is not looked up.
            if directives.only_if_cached {
                self.count(&mut record, &verdict);
                return Err((record, ProxyError::NotStored));
            }
            return self.pass(record, Some(body), verdict).await;
        }
        let mut key = std::mem::take(&mut *self.proxy.key.borrow_mut());
        key.clear();
        self.write_key(&mut key, &record);
        let scope = self.scope(&record);
        let answer = Search {
            cached: self,
            key: &key,
            scope: &scope,
            asks,
            directives: &directives,
        }
        .find(record)
        .await;
        *self.proxy.key.borrow_mut() = key;
        answer
    }

    /// Appends what the response is found by.
    pub(super) fn write_key(&self, key: &mut Vec<u8>, record: &Record) {
        asked(record, self.listener, self.target, |asked| {
            key::write(key, asked, self.rules);
        });
    }

    /// The verdict on a request that is not looked up, if it is none that is.
    pub(super) fn is_passed(
        &self,
        asks: Asks,
        directives: &RequestDirectives,
        (headers, body): (&HeaderMap, &RequestBody),
    ) -> Option<Verdict> {
        let detail = self.why_passed(asks, directives, (headers, body))?;
        Some(Verdict::forwarded(Forwarded::Bypass).with_detail(detail))
    }

    fn why_passed(
        &self,
        asks: Asks,
        directives: &RequestDirectives,
        (headers, body): (&HeaderMap, &RequestBody),
    ) -> Option<&'static str> {
        if !body.is_end_stream() {
            Some("request-body")
        } else if self.target.present.upgrade {
            Some("upgrade")
        } else if directives.no_store {
            Some("request-no-store")
        } else if asks.for_the_origin {
            Some("precondition")
        } else if self.target.present.connection && names_fields(headers) {
            // What it names is not passed on, so the response is to another request than it seems.
            Some("connection-options")
        } else if !self.target.is_in_normal_form() {
            // The server is told it as it is spelt, and may spell links so; others shall not get them.
            Some("host-spelling")
        } else {
            None
        }
    }

    /// What the response depends on beside the target and the fields that `Vary` names: the route, its upstream if it has
    /// several, and the host of the request where trusted proxies tell another.
    pub(super) fn scope(&self, record: &Record) -> Cow<'_, [u8]> {
        let route = &*self.route.scope;
        let drawn = match &self.route.action {
            Action::Forward(choices) if choices.len() > 1 => self.upstream.upstream.name.as_str(),
            _ => "",
        };
        // Routed by, and told to the server too.
        let host = match told(record, self.listener) {
            Some(_) => self.target.authority,
            None => "",
        };
        if drawn.is_empty() && host.is_empty() {
            return Cow::Borrowed(route);
        }
        Cow::Owned([route, drawn.as_bytes(), b"\0", host.as_bytes()].concat())
    }

    pub(super) fn count(&self, record: &mut Record, verdict: &Verdict) {
        let result = verdict.result();
        record.cache = Some(result);
        let metrics = &self.proxy.metrics;
        if let Some(shard) = record.at.as_ref().and_then(|at| at.cache_shard(metrics)) {
            shard.request(result);
        }
    }

    /// Passes a request on whose method is not answered from the store, and forgets what it may have changed (RFC 9111 §4.4).
    async fn pass_method(
        &self,
        mut record: Box<Record>,
        body: RequestBody,
    ) -> Result<Response<Body>, Failed> {
        let verdict = OF_OTHER_METHODS;
        self.count(&mut record, &verdict);
        let answer = self.forward().run(record, Some(body)).await?;
        if let Answer::Answered(answered) = &answer
            && invalidate::may_have(&answered.record.request.method, answered.status)
        {
            let rules = &self.cache.key_rules;
            let keys = asked(&answered.record, self.listener, self.target, |asked| {
                invalidate::keys(asked, &answered.headers, rules)
            });
            self.caching().purge(&Purge::Keys(keys), false).await;
        }
        Ok(self.respond(answer, verdict))
    }

    /// Passes a request on whose target had nothing to store when it was fetched last, with the client's own conditions. If
    /// it has by now, the next request may fetch it for all.
    pub(super) async fn pass_marked(
        &self,
        mut record: Box<Record>,
        (key, scope): (&[u8], &[u8]),
        why: Forwarded,
        (refusal, until): (Refusal, Instant),
    ) -> Result<Response<Body>, Failed> {
        let verdict = Verdict::forwarded(why).with_detail(refusal.name());
        self.count(&mut record, &verdict);
        let requested = deadline::now();
        let since = self.caching().store.epoch();
        let answer = self.forward().run(record, None).await?;
        if let Answer::Answered(answered) = &answer
            && answered.status != StatusCode::NOT_MODIFIED
            && !is_failure(answered.status)
        {
            let times = Times::since(requested);
            let fetch = Fetch {
                key,
                request: Asker {
                    scope,
                    fields: &answered.record.request.headers,
                },
                rules: self.rules,
                since,
            };
            storable::mark(self.caching(), fetch, answered, times, until).await;
        }
        Ok(self.respond(answer, verdict))
    }

    /// Passes a request on as if there were no store.
    pub(super) async fn pass(
        &self,
        mut record: Box<Record>,
        body: Option<RequestBody>,
        verdict: Verdict,
    ) -> Result<Response<Body>, Failed> {
        self.count(&mut record, &verdict);
        let answer = self.forward().run(record, body).await?;
        Ok(self.respond(answer, verdict))
    }

    pub(super) fn caching(&self) -> &Caching {
        &self.cache.caching
    }

    pub(super) fn forward(&self) -> Forward<'_> {
        Forward {
            proxy: self.proxy,
            listener: self.listener,
            route: self.route,
            upstream: self.upstream,
            target: self.target,
            is_looked_at: true,
        }
    }

    pub(super) fn respond(&self, mut answer: Answer, verdict: Verdict) -> Response<Body> {
        if let Answer::Answered(answered) = &mut answer {
            self.say(&mut answered.headers, verdict);
        }
        answer.respond(self.listener, self.route)
    }

    /// Tells the client what the cache did.
    pub(super) fn say(&self, headers: &mut HeaderMap, verdict: Verdict) {
        if self.rules.cache_status
            && let Some(value) = verdict.to_value()
        {
            headers.append(CACHE_STATUS, value);
        }
    }
}

/// Whether requests of that method are answered from the store.
pub(super) fn is_looked_up(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The verdict on the others.
pub(super) const OF_OTHER_METHODS: Verdict = Verdict::forwarded(Forwarded::Method);

/// Whether `Connection` names fields that would be passed on if it did not (RFC 9110 §7.6.1).
fn names_fields(headers: &HeaderMap) -> bool {
    let nominated = Nominated::of(headers);
    let mut names = headers.keys();
    names.any(|name| nominated.contains(name) && !is_hop_by_hop(name.as_str()))
}
