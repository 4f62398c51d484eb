//! One line of the access log, as JSON or in Apache's combined format. Written by hand into the worker's buffer: a
//! line costs no allocation.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::{StatusCode, Version};

use super::escape;
use crate::config::AccessFormat;
use crate::telemetry::labels::CacheResult;
use crate::units::ServerAddr;

/// What is known of an exchange when it has ended. Values that a client chose are bytes: they need not be text.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a> {
    /// When the request came.
    pub(crate) time: SystemTime,
    pub(crate) request_id: &'a [u8],
    pub(crate) listen: &'a str,
    pub(crate) client: IpAddr,
    pub(crate) method: &'a str,
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) target: &'a [u8],
    pub(crate) protocol: Version,
    /// `None`: the exchange broke before there was a response.
    pub(crate) status: Option<StatusCode>,
    /// Bytes of the bodies.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) seconds: Duration,
    pub(crate) route: Option<&'a str>,
    pub(crate) upstream: Option<&'a str>,
    /// The server of the last attempt.
    pub(crate) server: Option<&'a ServerAddr>,
    pub(crate) attempts: u32,
    /// `None`: it did not wait for a server with room.
    pub(crate) queue_seconds: Option<Duration>,
    /// `None`: no connection was made for it.
    pub(crate) connect_seconds: Option<Duration>,
    pub(crate) first_byte_seconds: Option<Duration>,
    /// `None`: its route has no cache.
    pub(crate) cache: Option<CacheResult>,
    pub(crate) coding: Option<&'a str>,
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) referer: Option<&'a [u8]>,
    /// Why it ended.
    pub(crate) end: &'a str,
}

impl Line<'_> {
    /// Appends exactly one line, its end included.
    pub(super) fn append(&self, format: AccessFormat, to: &mut Vec<u8>) {
        match format {
            AccessFormat::Json => self.append_json(to),
            AccessFormat::Combined => self.append_combined(to),
        }
    }

    /// An object. What is not known is left out.
    fn append_json(&self, to: &mut Vec<u8>) {
        raw(to, "{\"time\":\"");
        escape::rfc3339(to, self.time);
        raw(to, "\"");
        text(to, ",\"request_id\":\"", self.request_id, LIMIT);
        text(to, ",\"listen\":\"", self.listen.as_bytes(), LIMIT);
        raw(to, ",\"client\":\"");
        escape::ip(to, self.client);
        raw(to, "\"");
        text(to, ",\"method\":\"", self.method.as_bytes(), LIMIT);
        optional(to, ",\"host\":\"", self.host);
        text(to, ",\"target\":\"", self.target, TARGET_LIMIT);
        text(to, ",\"protocol\":\"", self.protocol().as_bytes(), LIMIT);
        if let Some(status) = &self.status {
            raw(to, ",\"status\":");
            raw(to, status.as_str());
        }
        number(to, ",\"bytes_in\":", self.bytes_in);
        number(to, ",\"bytes_out\":", self.bytes_out);
        seconds(to, ",\"seconds\":", Some(self.seconds));
        optional(to, ",\"route\":\"", self.route.map(str::as_bytes));
        optional(to, ",\"upstream\":\"", self.upstream.map(str::as_bytes));
        if let Some(server) = self.server {
            raw(to, ",\"server\":\"");
            match server {
                ServerAddr::Ip(address) => escape::socket(to, *address),
                ServerAddr::Unix(_) => escape::json(to, server.to_string().as_bytes(), LIMIT),
            }
            raw(to, "\"");
        }
        number(to, ",\"attempts\":", u64::from(self.attempts));
        seconds(to, ",\"queue_seconds\":", self.queue_seconds);
        seconds(to, ",\"connect_seconds\":", self.connect_seconds);
        seconds(to, ",\"first_byte_seconds\":", self.first_byte_seconds);
        let cache = self.cache.map(CacheResult::label);
        optional(to, ",\"cache\":\"", cache.map(str::as_bytes));
        optional(to, ",\"coding\":\"", self.coding.map(str::as_bytes));
        optional(to, ",\"user_agent\":\"", self.user_agent);
        optional(to, ",\"referer\":\"", self.referer);
        text(to, ",\"end\":\"", self.end.as_bytes(), LIMIT);
        raw(to, "}\n");
    }

    /// `client - - [time] "method target protocol" status bytes "referer" "user agent"`: Apache's `combined`, for the
    /// tools that read it. Identity and user are never known.
    fn append_combined(&self, to: &mut Vec<u8>) {
        escape::ip(to, self.client);
        raw(to, " - - [");
        escape::clf_time(to, self.time);
        raw(to, "] \"");
        escape::quoted(to, self.method.as_bytes(), LIMIT);
        raw(to, " ");
        escape::quoted(to, self.target, TARGET_LIMIT);
        raw(to, " ");
        raw(to, self.protocol());
        raw(to, "\" ");
        raw(to, self.status.as_ref().map_or("-", StatusCode::as_str));
        raw(to, " ");
        match self.bytes_out {
            0 => raw(to, "-"),
            bytes => escape::number(to, bytes),
        }
        for field in [self.referer, self.user_agent] {
            raw(to, " \"");
            escape::quoted(to, field.unwrap_or(b"-"), LIMIT);
            raw(to, "\"");
        }
        raw(to, "\n");
    }

    fn protocol(&self) -> &'static str {
        match self.protocol {
            Version::HTTP_09 => "HTTP/0.9",
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        use std::net::{IpAddr, Ipv4Addr, SocketAddr};
        static SERVER: ServerAddr =
            ServerAddr::Ip(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3000));
        Self {
            time: std::time::UNIX_EPOCH + Duration::from_millis(1_795_355_736_045),
            request_id: b"0123456789abcdef0123456789abcdef",
            listen: "web",
            client: [192, 0, 2, 7].into(),
            method: "GET",
            host: Some(b"shop.example.com"),
            target: b"/a?b=c",
            protocol: Version::HTTP_11,
            status: Some(StatusCode::OK),
            bytes_in: 0,
            bytes_out: 1234,
            seconds: Duration::from_micros(1_500),
            route: Some("site"),
            upstream: Some("app"),
            server: Some(&SERVER),
            attempts: 1,
            queue_seconds: None,
            connect_seconds: None,
            first_byte_seconds: Some(Duration::from_millis(1)),
            cache: None,
            coding: None,
            user_agent: Some(b"curl/8"),
            referer: None,
            end: "complete",
        }
    }
}

#[inline]
fn raw(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(text.as_bytes());
}

/// `lead` ends with the opening quote.
fn text(to: &mut Vec<u8>, lead: &str, value: &[u8], limit: usize) {
    raw(to, lead);
    escape::json(to, value, limit);
    to.push(b'"');
}

fn optional(to: &mut Vec<u8>, lead: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        text(to, lead, value, LIMIT);
    }
}

fn number(to: &mut Vec<u8>, lead: &str, value: u64) {
    raw(to, lead);
    escape::number(to, value);
}

fn seconds(to: &mut Vec<u8>, lead: &str, value: Option<Duration>) {
    if let Some(value) = value {
        raw(to, lead);
        escape::seconds(to, value);
    }
}

/// Of a target, in bytes: it may be as long as `max_target_size` allows, a line should not.
const TARGET_LIMIT: usize = 8 * 1024;

/// Of any other value, in bytes.
const LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn line(line: &Line<'_>, format: AccessFormat) -> String {
        let mut bytes = Vec::new();
        line.append(format, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_the_fields_that_are_known() {
        assert_eq!(
            line(&Line::example(), AccessFormat::Json),
            concat!(
                r#"{"time":"2026-11-22T13:55:36.045Z","request_id":"0123456789abcdef0123456789abcdef","#,
                r#""listen":"web","client":"192.0.2.7","method":"GET","host":"shop.example.com","target":"/a?b=c","#,
                r#""protocol":"HTTP/1.1","status":200,"bytes_in":0,"bytes_out":1234,"seconds":0.001500,"#,
                r#""route":"site","upstream":"app","server":"127.0.0.1:3000","attempts":1,"#,
                r#""first_byte_seconds":0.001000,"user_agent":"curl/8","end":"complete"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn every_field_can_be_there() {
        let full = Line {
            queue_seconds: Some(Duration::ZERO),
            connect_seconds: Some(Duration::ZERO),
            cache: Some(CacheResult::Hit),
            coding: Some("br"),
            referer: Some(b"https://a.example/"),
            ..Line::example()
        };
        let value: Value = serde_json::from_str(&line(&full, AccessFormat::Json)).unwrap();
        assert_eq!(value["cache"], "hit");
        for field in [
            "time",
            "request_id",
            "listen",
            "client",
            "method",
            "host",
            "target",
            "protocol",
            "status",
            "bytes_in",
            "bytes_out",
            "seconds",
            "route",
            "upstream",
            "server",
            "attempts",
            "queue_seconds",
            "connect_seconds",
            "first_byte_seconds",
            "cache",
            "coding",
            "user_agent",
            "referer",
            "end",
        ] {
            assert!(value.get(field).is_some(), "{field}");
        }
        assert_eq!(value.as_object().unwrap().len(), 24);
    }

    #[test]
    fn a_combined_line_is_apaches() {
        assert_eq!(
            line(&Line::example(), AccessFormat::Combined),
            "192.0.2.7 - - [22/Nov/2026:13:55:36 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234 \"-\" \"curl/8\"\n"
        );
        let broken = Line {
            client: "2001:db8::1".parse().unwrap(),
            status: None,
            bytes_out: 0,
            referer: Some(b"\"\n\xff\\"),
            ..Line::example()
        };
        assert_eq!(
            line(&broken, AccessFormat::Combined),
            "2001:db8::1 - - [22/Nov/2026:13:55:36 +0000] \"GET /a?b=c HTTP/1.1\" - - \"\\x22\\x0A\\xFF\\x5C\" \"curl/8\"\n"
        );
    }

    #[test]
    fn long_values_are_cut() {
        let long = vec![b'a'; 100_000];
        let cut = Line {
            target: &long,
            user_agent: Some(&long),
            ..Line::example()
        };
        let value: Value = serde_json::from_str(&line(&cut, AccessFormat::Json)).unwrap();
        assert_eq!(value["target"].as_str().unwrap().len(), TARGET_LIMIT);
        assert_eq!(value["user_agent"].as_str().unwrap().len(), LIMIT);
        assert!(line(&cut, AccessFormat::Combined).len() < 10_000);
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        // Arbitrary bytes hold few of the bytes that matter.
        let tricky = prop::sample::select(
            b"\"\\\n\r\t\0\x1b\x7f \xc2\x9b\x85\xe2\x80\xa8\xa9\xed\xa0\xf0\x9f\x98\x80{}".to_vec(),
        );
        prop::collection::vec(prop_oneof![any::<u8>(), tricky], 0..300)
    }

    #[test]
    fn the_path_of_a_socket_is_escaped() {
        let server = ServerAddr::Unix(std::path::Path::new("/run/\"a\"\n.sock").into());
        let socket = Line {
            server: Some(&server),
            ..Line::example()
        };
        let value: Value = serde_json::from_str(&line(&socket, AccessFormat::Json)).unwrap();
        assert_eq!(value["server"], "unix:/run/\"a\"\n.sock");
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_one_line_of_json(
            id in bytes(), host in bytes(), target in bytes(), agent in bytes(), referer in bytes(), name in any::<String>(),
        ) {
            let hostile = Line {
                request_id: &id,
                listen: &name,
                host: Some(&host),
                target: &target,
                user_agent: Some(&agent),
                referer: Some(&referer),
                ..Line::example()
            };
            let written = line(&hostile, AccessFormat::Json);
            let inside = written.strip_suffix('\n').unwrap();
            let splits = |character: char| character.is_control() || ['\u{2028}', '\u{2029}'].contains(&character);
            prop_assert!(!inside.contains(splits), "{}", inside);
            let value: Value = serde_json::from_str(inside).unwrap();
            prop_assert_eq!(value["target"].as_str().unwrap(), String::from_utf8_lossy(&target));
            prop_assert_eq!(value["end"].as_str(), Some("complete"));
        }

        #[test]
        fn whatever_a_client_sends_is_one_combined_line(target in bytes(), agent in bytes(), referer in bytes()) {
            let hostile =
                Line { target: &target, user_agent: Some(&agent), referer: Some(&referer), ..Line::example() };
            let written = line(&hostile, AccessFormat::Combined);
            let inside = written.strip_suffix('\n').unwrap();
            prop_assert!(inside.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(inside.matches('"').count(), 6);
        }
    }
}
