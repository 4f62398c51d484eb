//! What the cache does with a request, and with the response that a server is said to give.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};

use super::told::{CacheRules, Caching, Kept};
use crate::cache::{Fetch, Refusal, Resource, Stored, Vary};
use crate::deadline;
use crate::proxy::cache_status::Verdict;
use crate::proxy::cached::{Cached, OF_OTHER_METHODS, is_looked_up};
use crate::proxy::fetch_request;
use crate::proxy::record::Record;
use crate::proxy::request_body::RequestBody;
use crate::proxy::search::{Search, Without};
use crate::proxy::storable::{self, Times};
use crate::upstream::http1::head::{Asked, BadHead};
use crate::upstream::http1::workspace::Workspace;

/// A response that a server is said to give, as weir's codec reads it.
#[derive(Debug)]
pub(crate) struct Given {
    pub(super) status: StatusCode,
    /// Without hop-by-hop fields.
    pub(super) headers: HeaderMap,
    /// Of the content, where it is known.
    length: Option<u64>,
}

impl Given {
    /// `head` is a whole response head.
    ///
    /// # Errors
    /// If weir would take it for no response.
    pub(crate) fn parse(head: &[u8], to: &Method) -> Result<Self, BadHead> {
        let asked = Asked {
            head: *to == Method::HEAD,
            upgrade: false,
        };
        let parsed = Workspace::new().parse(&Bytes::copy_from_slice(head), asked)?;
        // It is whole, so there is one.
        let (_, head) = parsed.ok_or(BadHead::Status)?;
        Ok(Self {
            status: head.status,
            length: head.framing.remaining(),
            headers: head.headers,
        })
    }
}

/// What is told, and the verdict that the client gets.
pub(super) async fn tell(
    cached: &Cached<'_>,
    record: &Record,
    body: &RequestBody,
    given: Option<&Given>,
) -> (Caching, Verdict) {
    let request = &record.request;
    let mut key = Vec::new();
    cached.write_key(&mut key, record);
    let window = |duration: Option<Duration>| {
        duration.map(|duration| humantime::format_duration(duration).to_string())
    };
    let mut told = Caching {
        key: String::from_utf8_lossy(&key).into_owned(),
        looked_up: false,
        fetched: false,
        otherwise: "passed on",
        verdict: String::new(),
        refused: false,
        told: cached.rules.cache_status,
        stored: None,
        again: None,
        rules: CacheRules {
            heuristic: cached.rules.heuristic,
            default_ttl: window(cached.rules.default_ttl),
            stale_while_revalidate: window(cached.rules.stale_while_revalidate),
            stale_if_error: window(cached.rules.stale_if_error),
        },
    };
    let asks = request.headers.asks;
    let directives = asks.directives(&request.headers);
    let verdict = if !is_looked_up(&request.method) {
        OF_OTHER_METHODS
    } else if let Some(verdict) = cached.is_passed(asks, &directives, (&request.headers, body)) {
        if directives.only_if_cached {
            refuse(&mut told);
        }
        verdict
    } else {
        told.looked_up = true;
        let scope = cached.scope(record);
        let search = Search {
            cached,
            key: &key,
            scope: &scope,
            asks,
            directives: &directives,
        };
        look_up(&search, record, given, &mut told).await
    };
    told.verdict = verdict.to_string();
    (told, verdict)
}

/// The client wants what is stored, and nothing else.
fn refuse(told: &mut Caching) {
    told.otherwise = "refused";
    told.refused = true;
}

/// The verdict where nothing is stored.
async fn look_up(
    search: &Search<'_>,
    record: &Record,
    given: Option<&Given>,
    told: &mut Caching,
) -> Verdict {
    let now = deadline::now();
    let need = match search.look(record, None, now) {
        Ok(found) => return found.verdict,
        Err(need) => need,
    };
    let verdict = Verdict::forwarded(need.why);
    match search.without(&record.request.method, &need) {
        Without::Pass(verdict) => verdict,
        Without::Refuse(verdict) => {
            refuse(told);
            verdict
        }
        Without::PassHead => {
            told.otherwise = "passed on, and nothing stored";
            verdict
        }
        Without::PassMarked(_) => verdict,
        Without::Fetch => {
            told.fetched = true;
            told.otherwise = "fetched, and stored if the response allows";
            let Some(given) = given else {
                return verdict;
            };
            let kept = keep(search, record, given).await;
            told.stored = Some(kept_or_not(search, given, &kept));
            match kept {
                Ok(stored) => {
                    told.again = again(search, record, &stored);
                    Verdict {
                        stored: true,
                        ..verdict
                    }
                }
                Err(refusal) => verdict.with_detail(refusal.name()),
            }
        }
    }
}

/// What would be stored of the response.
async fn keep(search: &Search<'_>, record: &Record, given: &Given) -> Result<Arc<Stored>, Refusal> {
    let (caching, rules) = (search.cached.caching(), search.cached.rules);
    let request = fetch_request::request(&record.request, None);
    // It comes at once, and so as old as it says.
    let now = deadline::now();
    let times = Times {
        requested: now,
        received: now,
        wall: SystemTime::now(),
    };
    let response = (given.status, &given.headers, given.length);
    let lease = storable::judged(caching, &request.headers, response, times, rules)?;
    let fetch = Fetch {
        key: search.key,
        request: search.asker(record),
        rules,
        since: caching.store.epoch(),
    };
    storable::stored_head(caching, fetch, response, lease, times.wall).await
}

fn kept_or_not(search: &Search<'_>, given: &Given, kept: &Result<Arc<Stored>, Refusal>) -> Kept {
    let lease = kept.as_ref().ok().map(|stored| &stored.lease);
    let seconds = |duration: Duration| duration.as_secs();
    let vary = Vary::of(&given.headers, search.cached.rules);
    Kept {
        stored: kept.is_ok(),
        why_not: kept.as_ref().err().map(|refusal| refusal.name()),
        fresh_seconds: lease.map(|lease| {
            let left = lease.lifetime.saturating_sub(lease.age_when_received);
            seconds(left)
        }),
        assumed: lease.is_some_and(|lease| lease.is_assumed),
        always_validated: lease.is_some_and(|lease| lease.always_validate),
        stale_while_revalidate_seconds: lease.map_or(0, |lease| seconds(lease.while_revalidate)),
        stale_if_error_seconds: lease.map_or(0, |lease| seconds(lease.if_error)),
        vary: vary.map(|vary| vary.names()).unwrap_or_default(),
    }
}

/// The verdict on the same request once the response is stored.
fn again(search: &Search<'_>, record: &Record, stored: &Arc<Stored>) -> Option<String> {
    let (asker, rules) = (search.asker(record), search.cached.rules);
    let resource = Resource::of_one(search.key, asker, stored, rules).ok()?;
    let now = stored.lease.received;
    Some(match search.look(record, Some(&resource), now) {
        Ok(found) => found.verdict.to_string(),
        Err(need) => Verdict::forwarded(need.why).to_string(),
    })
}
