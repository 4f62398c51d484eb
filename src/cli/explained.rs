//! What `weir explain` prints for people.

use std::fmt::Write as _;

use super::explain::{On, Told};
use crate::proxy::explain::{
    Answer, Caching, Compressed, Explanation, Kept, Responded, Retries, Sent, Server, Timeouts,
};

/// Routes beside the one that takes the request.
const MOST_OTHERS: usize = 8;

pub(super) fn text(told: &Told) -> String {
    let mut out = Lines(String::new());
    let it = &told.explanation;
    out.line("request", &told.request);
    listener(&mut out, &told.listener);
    if let Some(asked) = &it.asked {
        let query = asked.query.as_deref().map(|query| format!("?{query}"));
        let query = query.unwrap_or_default();
        let (scheme, host, path) = (asked.scheme, &asked.host, &asked.path);
        out.line(
            "seen as",
            format!("{scheme}://{host}{path}{query} from {}", asked.client),
        );
    }
    routes(&mut out, it);
    if let Some(each) = &it.answer {
        answer(&mut out, each);
    }
    let is_forwarded = !it.forward.is_empty();
    if is_forwarded || it.cache.is_some() {
        cache(&mut out, it);
    }
    for each in &it.forward {
        sent(&mut out, each);
    }
    if is_forwarded {
        compress(&mut out, it.compress.as_ref());
    }
    if let Some(each) = &it.response {
        response(&mut out, each);
    }
    out.0
}

fn listener(out: &mut Lines, on: &On) {
    let how = if on.tls { "TLS" } else { "cleartext" };
    out.line(
        "listener",
        format!("{} ({}, {how})", on.name, on.addresses.join(", ")),
    );
    if let Some(because) = &on.because {
        out.line("", because);
    }
    if let Some(certificate) = &on.certificate {
        let default = match on.certificate_is_default {
            true => " (the default: none is for this name)",
            false => "",
        };
        out.line("", format!("certificate {certificate}{default}"));
    }
    if on.refuses_handshake {
        out.line(
            "answer",
            "none: no certificate is for this name, so the TLS handshake is refused",
        );
    }
}

fn routes(out: &mut Lines, it: &Explanation) {
    if it.to_https {
        out.line(
            "route",
            "none is looked for: `redirect_to_https` comes first",
        );
        return;
    }
    match &it.route {
        Some(route) => out.line("route", format!("{}: {}", route.name, route.because)),
        None if it.asked.is_some() => out.line("route", "none"),
        None => return,
    }
    let near = it.others.iter().filter(|other| other.near).count();
    for other in it.others.iter().take(MOST_OTHERS.max(near)) {
        out.line("", format!("not {}: {}", other.name, other.because));
    }
    let more = it.others.len().saturating_sub(MOST_OTHERS.max(near));
    if more > 0 {
        out.line(
            "",
            format!("nor {more} more, for other paths, hosts or listeners"),
        );
    }
}

fn answer(out: &mut Lines, answer: &Answer) {
    let why = answer.refused.as_ref().map(|why| format!(": {why}"));
    let status = http::StatusCode::from_u16(answer.status).ok();
    let reason = status.and_then(|status| status.canonical_reason());
    let (reason, why) = (reason.unwrap_or_default(), why.unwrap_or_default());
    out.line("answer", format!("{} {reason}{why}", answer.status));
    out.fields(&answer.fields);
}

fn sent(out: &mut Lines, sent: &Sent) {
    let share = sent
        .share
        .as_ref()
        .map(|share| format!(" (weight {share})"));
    let over = if sent.tls { " over TLS" } else { "" };
    out.line(
        "forward",
        format!(
            "to upstream {}{over}{}: {}",
            sent.upstream,
            share.unwrap_or_default(),
            sent.target
        ),
    );
    out.fields(&sent.fields);
    if sent.host_is_servers {
        out.line("", "`host` is the address of the server that is chosen");
    }
    if !sent.dropped.is_empty() {
        out.line("", format!("not passed on: {}", sent.dropped.join(", ")));
    }
    let each: Vec<_> = sent.servers.iter().map(server).collect();
    let mut servers = format!("{}: ", sent.balance);
    let names = sent.names.join(", ");
    let names = format!("what these names stand for, which are not resolved here: {names}");
    match each.is_empty() {
        true => servers.push_str(&names),
        false => servers.push_str(&each.join(", ")),
    }
    out.line("servers", servers);
    if !each.is_empty() && !sent.names.is_empty() {
        out.line("", format!("and {names}"));
    }
    if let Some(because) = sent.order_because {
        match sent.order.is_empty() {
            true => out.line("", format!("no order is told: {because}")),
            false => out.line(
                "",
                format!("first {} ({because})", sent.order.join(", then ")),
            ),
        }
    }
    if sent.sets_cookie {
        out.line("", "the client gets a cookie that brings it back");
    }
    retries(out, &sent.retries);
    timeouts(out, &sent.timeouts);
}

fn server(server: &Server) -> String {
    let mut out = server.address.clone();
    let weight = (server.weight != 1).then(|| format!("weight {}", server.weight));
    let backup = server.backup.then(|| "backup".to_owned());
    let limit = server
        .max_in_flight
        .map(|limit| format!("{limit} requests at once"));
    let more: Vec<_> = [weight, backup, limit].into_iter().flatten().collect();
    if !more.is_empty() {
        let _ = write!(out, " ({})", more.join(", "));
    }
    out
}

fn retries(out: &mut Lines, retries: &Retries) {
    let others = retries.on.iter().filter(|on| **on != "connect");
    let others: Vec<_> = others.copied().collect();
    let mut parts = Vec::new();
    if retries.on.contains(&"connect") {
        parts.push(format!(
            "after a failed connect, {} tries in all",
            retries.connects
        ));
    }
    match (retries.replayable, others.is_empty()) {
        (true, false) => parts.push(format!("{} more after {}", retries.max, others.join(", "))),
        (true, true) => {}
        (false, _) => parts.push("else none: it may not be sent twice".to_owned()),
    }
    let none = || "none".to_owned();
    out.line(
        "retries",
        if parts.is_empty() {
            none()
        } else {
            parts.join("; ")
        },
    );
}

fn timeouts(out: &mut Lines, timeouts: &Timeouts) {
    let route = timeouts
        .route
        .as_ref()
        .map(|route| format!(", {route} in all"));
    let Timeouts {
        connect,
        response,
        stall,
        stream,
        queue,
        ..
    } = timeouts;
    let route = route.unwrap_or_default();
    out.line(
        "timeouts",
        format!("connect {connect}, response {response}, stall {stall}, stream {stream}, queue {queue}{route}"),
    );
}

fn cache(out: &mut Lines, it: &Explanation) {
    match &it.cache {
        Some(cache) => caching(out, cache),
        None => out.line("cache", "off for this route"),
    }
    if it.invalidates {
        out.line("", "a success makes what is stored for this URL invalid");
    }
}

fn caching(out: &mut Lines, cache: &Caching) {
    out.line("cache", format!("key {}", cache.key));
    let otherwise = cache.otherwise;
    out.line(
        "",
        match cache.looked_up {
            true => format!("looked up; what is not stored is {otherwise}"),
            false => format!("not looked up: it is {otherwise}"),
        },
    );
    if cache.refused {
        return;
    }
    let quiet = if cache.told {
        ""
    } else {
        " (the client is not told)"
    };
    let when = if cache.looked_up {
        " while nothing is stored"
    } else {
        ""
    };
    let verdict = &cache.verdict;
    out.line("", format!("Cache-Status{when}: {verdict}{quiet}"));
    if let Some(kept) = &cache.stored {
        stored(out, kept);
    } else if cache.fetched {
        let off = |window: &Option<String>| window.clone().unwrap_or_else(|| "off".to_owned());
        let rules = &cache.rules;
        out.line(
            "",
            format!(
                "where the response does not say: default_ttl {}, stale_while_revalidate {}, stale_if_error {}, heuristic {}",
                off(&rules.default_ttl),
                off(&rules.stale_while_revalidate),
                off(&rules.stale_if_error),
                rules.heuristic
            ),
        );
    }
    if let Some(again) = &cache.again {
        out.line("", format!("Cache-Status of the same again: {again}"));
    }
}

fn stored(out: &mut Lines, kept: &Kept) {
    if let Some(why) = kept.why_not {
        out.line("", format!("the response is not stored: {why}"));
        return;
    }
    let fresh = kept.fresh_seconds.unwrap_or_default();
    let mut parts = vec![match (kept.always_validated, kept.assumed) {
        (true, _) => "validated each time".to_owned(),
        (false, true) => format!("fresh for {fresh} s (assumed by the route)"),
        (false, false) => format!("fresh for {fresh} s"),
    }];
    for (what, seconds) in [
        ("while it is renewed", kept.stale_while_revalidate_seconds),
        ("when servers fail", kept.stale_if_error_seconds),
    ] {
        if seconds > 0 {
            parts.push(format!("then for {seconds} s {what}"));
        }
    }
    if !kept.vary.is_empty() {
        parts.push(format!("variants by {}", kept.vary.join(", ")));
    }
    out.line("", format!("the response is stored: {}", parts.join("; ")));
}

fn compress(out: &mut Lines, compress: Option<&Compressed>) {
    let Some(compress) = compress else {
        return out.line("compress", "off for this route");
    };
    match (&compress.coding, &compress.why_not) {
        (Some(coding), _) => out.line("compress", format!("{coding}, if the response is worth it")),
        (None, why) => {
            let why = why.as_deref().unwrap_or_default();
            out.line("compress", format!("nothing: {why}"));
        }
    }
}

fn response(out: &mut Lines, response: &Responded) {
    out.line("response", response.status.to_string());
    out.fields(&response.fields);
    if let Some(why) = &response.as_is {
        out.line("", format!("not encoded: {why}"));
    }
    if let Some(bytes) = response.at_least {
        out.line("", format!("encoded only if it has {bytes} bytes or more"));
    }
}

/// Text in two columns: what it is about, and what is to be said.
struct Lines(String);

impl Lines {
    fn line(&mut self, about: &str, text: impl AsRef<str>) {
        let _ = writeln!(self.0, "{about:<9} {}", plain(text.as_ref()));
    }

    fn fields(&mut self, fields: &[(String, String)]) {
        for (name, value) in fields {
            self.line("", format!("  {name}: {value}"));
        }
    }
}

/// What a file or a command line holds is no command for a terminal.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
}
