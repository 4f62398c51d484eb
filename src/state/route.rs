//! Routes, with the names of upstreams resolved to places.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{self, Compress, FieldEdits};
use crate::deadline::Ticks;
use crate::units::{ByteSize, RouteName, UpstreamName};

/// `[route.NAME]` at work.
pub(crate) struct Route {
    pub(crate) name: RouteName,
    pub(crate) action: Action,
    pub(crate) strip_prefix: Option<String>,
    pub(crate) add_prefix: Option<String>,
    pub(crate) request_headers: FieldEdits,
    pub(crate) response_headers: FieldEdits,
    pub(crate) timeout: Option<Ticks>,
    pub(crate) max_body: Option<u64>,
    /// Read that much of the body before a server is chosen.
    pub(crate) buffer_request: Option<usize>,
    /// Shared with what is stored by it and outlives the state.
    pub(crate) cache: Option<Arc<config::Cache>>,
    /// Tells what is stored for this route, by the rules that it has now, from what is for others.
    pub(crate) scope: Box<[u8]>,
    pub(crate) compress: Option<Compress>,
}

/// What a route does with a request.
pub(crate) enum Action {
    /// Places in `State::upstreams`, each with the sum of the weights up to and including it.
    Forward(Vec<(usize, u64)>),
    Redirect {
        to: String,
        status: http::StatusCode,
    },
    Respond {
        status: http::StatusCode,
        body: bytes::Bytes,
        content_type: HeaderValue,
    },
}

impl Route {
    pub(super) fn build(route: &config::Route, upstreams: &HashMap<&UpstreamName, usize>) -> Self {
        let action = match &route.action {
            config::Action::Forward(choices) => {
                let mut sum = 0;
                let choices = choices.iter().filter_map(|(name, weight)| {
                    sum += u64::from(*weight);
                    Some((*upstreams.get(name)?, sum))
                });
                Action::Forward(choices.collect())
            }
            config::Action::Redirect { to, status } => Action::Redirect {
                to: to.clone(),
                status: *status,
            },
            config::Action::Respond {
                status,
                body,
                content_type,
            } => Action::Respond {
                status: *status,
                body: body.clone().into(),
                content_type: content_type.clone(),
            },
        };
        Self {
            name: route.name.clone(),
            action,
            strip_prefix: route
                .strip_prefix
                .clone()
                .filter(|prefix| !prefix.is_empty()),
            add_prefix: route.add_prefix.clone().filter(|prefix| !prefix.is_empty()),
            request_headers: route.request_headers.clone(),
            response_headers: route.response_headers.clone(),
            timeout: route.timeout.map(Ticks::of),
            max_body: route.max_body.map(|size| size.0),
            buffer_request: route.buffer_request.map(ByteSize::as_usize),
            cache: route.cache.clone().map(Arc::new),
            scope: scope(route),
            compress: route.compress.clone(),
        }
    }
}

/// Its name, and a digest of its rules: what was stored by others may not be stored by these.
fn scope(route: &config::Route) -> Box<[u8]> {
    let rules = format!("{:?}", route.cache);
    let mut scope = route.name.as_str().as_bytes().to_vec();
    scope.push(0);
    scope.extend_from_slice(&xxh3_64(rules.as_bytes()).to_be_bytes());
    scope.into()
}
