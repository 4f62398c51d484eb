//! What weir says of directives that it does not translate: those that need no counterpart, and those that have none.

/// What becomes of a directive wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is lost without it, for this reason.
    Needless(&'static str),
    /// Why it is not translated, and what to do instead.
    Left(&'static str),
}

/// The verdict on a directive by its name; `None` for one that is translated somewhere, or that nobody knows.
pub(super) fn verdict(name: &str) -> Option<Verdict> {
    let in_group = |(names, verdict): &(&str, Verdict)| is_among(name, names).then_some(*verdict);
    GROUPS.iter().find_map(in_group).or_else(|| by_form(name))
}

/// Whether it is translated where it can be.
pub(super) fn is_translated(name: &str) -> bool {
    is_among(name, TRANSLATED)
}

/// Whether it keeps clients out, or lets them in.
pub(super) fn is_of_access(name: &str) -> bool {
    is_among(
        name,
        "allow deny satisfy limit_except internal ssl_verify_client",
    ) || ["auth_", "secure_link"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

fn is_among(name: &str, names: &str) -> bool {
    names.split(' ').any(|other| other == name)
}

fn by_form(name: &str) -> Option<Verdict> {
    let starts = |prefixes: &str| prefixes.split(' ').any(|prefix| name.starts_with(prefix));
    let family = FAMILIES.iter().find(|(prefixes, _)| starts(prefixes));
    let why = match name.contains("_by_lua") {
        true => Some(SCRIPTS),
        false => family.map(|(_, why)| *why),
    };
    why.map(Verdict::Left)
}

const FILES: &str = "weir serves no files; let the application or a file server do it, and name that as an upstream";
const OWN_PAGES: &str = "weir passes the server's error pages on as they are, and its own are short and fixed; \
                         let the application make its pages";
const CONNECTIONS: &str = "weir sizes this by itself, from the limits that it finds";
const STREAMED: &str = "weir passes bodies on piece by piece, in buffers of its own";
const CIPHERS: &str =
    "weir offers modern cipher suites and curves only, and there is nothing to choose";
const SCRIPTS: &str =
    "weir runs no scripts; do it in the application or in a server of its own before it";
const KERNEL: &str = "weir decides by itself how it sends and receives";

/// By how their names begin.
const FAMILIES: &[(&str, &str)] = &[
    ("lua_ js_ perl", SCRIPTS),
    (
        "fastcgi_ uwsgi_ scgi_ memcached_",
        "weir speaks HTTP/1.1 to servers; put the application behind a server that speaks it, and name that as an upstream",
    ),
    ("grpc_", "weir does not speak HTTP/2 to servers yet"),
    (
        "auth_ secure_link",
        "weir does not check who may come in; let the application do it",
    ),
    (
        "limit_req limit_conn",
        "weir has no rate limits yet; `max_in_flight` and `queue` of an upstream protect its servers",
    ),
    (
        "ssl_stapling",
        "weir does not staple OCSP answers; clients do without",
    ),
    (
        "sub_filter addition_ add_before_ add_after_ ssi xslt_ image_filter substitutions_",
        "weir does not change bodies; do it in the application",
    ),
    (
        "otel_ opentelemetry opentracing jaeger zipkin",
        "weir passes `traceparent` on and makes no traces itself",
    ),
    (
        "dav_ create_full_put_path mp4 flv autoindex random_index open_file_cache",
        FILES,
    ),
    (
        "quic_ http3",
        "weir does not speak HTTP/3 yet; clients fall back to HTTP/2 by themselves",
    ),
    (
        "geoip",
        "weir knows no countries; let the application look the address up, it is in `X-Real-IP`",
    ),
    (
        "modsecurity",
        "weir is no web application firewall; put one behind it, as an upstream",
    ),
];

/// By their whole names.
const GROUPS: &[(&str, Verdict)] = &[
    (
        "worker_connections worker_rlimit_nofile multi_accept accept_mutex accept_mutex_delay worker_aio_requests \
         use",
        Verdict::Needless(CONNECTIONS),
    ),
    (
        "worker_cpu_affinity worker_priority timer_resolution thread_pool pcre_jit debug_points \
         worker_rlimit_core working_directory lock_file",
        Verdict::Needless("it tunes nginx's own processes"),
    ),
    (
        "pid daemon master_process",
        Verdict::Needless(
            "weir stays in the foreground and writes no pid file; systemd or the container keeps track of it",
        ),
    ),
    (
        "sendfile sendfile_max_chunk tcp_nopush tcp_nodelay aio directio directio_alignment output_buffers \
         postpone_output send_lowat read_ahead reset_timedout_connection lingering_close lingering_time \
         lingering_timeout",
        Verdict::Needless(KERNEL),
    ),
    (
        "types_hash_max_size types_hash_bucket_size server_names_hash_bucket_size server_names_hash_max_size \
         variables_hash_max_size variables_hash_bucket_size map_hash_max_size map_hash_bucket_size \
         proxy_headers_hash_max_size proxy_headers_hash_bucket_size",
        Verdict::Needless("weir's tables grow with what they hold"),
    ),
    (
        "client_body_buffer_size client_body_temp_path client_body_in_file_only client_body_in_single_buffer \
         proxy_buffers proxy_buffer_size proxy_busy_buffers_size proxy_max_temp_file_size \
         proxy_temp_file_write_size proxy_temp_path client_header_buffer_size request_pool_size \
         connection_pool_size ssl_buffer_size gzip_buffers subrequest_output_buffer_size",
        Verdict::Needless(STREAMED),
    ),
    (
        "server_tokens",
        Verdict::Needless("weir never tells its version"),
    ),
    (
        "ssl_ciphers ssl_prefer_server_ciphers ssl_ecdh_curve ssl_dhparam ssl_conf_command",
        Verdict::Needless(CIPHERS),
    ),
    (
        "ssl_session_cache ssl_session_timeout ssl_session_tickets ssl_session_ticket_key",
        Verdict::Needless("weir resumes sessions by tickets whose keys change by themselves"),
    ),
    (
        "proxy_http_version",
        Verdict::Needless("weir speaks HTTP/1.1 to servers"),
    ),
    (
        "proxy_ssl_server_name proxy_ssl_verify_depth proxy_ssl_session_reuse proxy_ssl_ciphers \
         proxy_ssl_protocols",
        Verdict::Needless(
            "weir always sends the name of the server, verifies it, and speaks TLS 1.2 or 1.3",
        ),
    ),
    (
        "zone",
        Verdict::Needless("weir's workers share what they know of servers anyway"),
    ),
    (
        "gzip_vary",
        Verdict::Needless("weir sends `Vary: Accept-Encoding` wherever it may encode"),
    ),
    (
        "gzip_proxied gzip_disable gzip_http_version gzip_window gzip_hash gzip_no_buffer brotli_buffers \
         brotli_window",
        Verdict::Needless("weir goes by `Accept-Encoding`, for all clients alike"),
    ),
    (
        "proxy_cache_revalidate",
        Verdict::Needless("weir always asks servers whether what it has stored is still good"),
    ),
    (
        "proxy_cache_convert_head proxy_cache_max_range_offset",
        Verdict::Needless("weir answers HEAD and ranges from what it has stored for GET"),
    ),
    (
        "proxy_cache_lock_age proxy_cache_lock_timeout",
        Verdict::Needless(
            "whoever waits for another's fetch does so for as long as it goes on, and asks for himself when it fails",
        ),
    ),
    (
        "real_ip_recursive",
        Verdict::Needless("weir takes the last address that is not of a trusted proxy"),
    ),
    (
        "proxy_pass_header",
        Verdict::Needless("weir passes all fields of servers on"),
    ),
    (
        "proxy_socket_keepalive",
        Verdict::Needless("weir notices dead connections by its own timeouts"),
    ),
    (
        "log_subrequest log_not_found rewrite_log access_log_flush open_log_file_cache \
         uninitialized_variable_warn",
        Verdict::Needless("weir's logs do not have this case"),
    ),
    (
        "resolver_timeout ipv6",
        Verdict::Needless(
            "weir asks DNS in the background and keeps what it knows while there is no answer",
        ),
    ),
    (
        "variables msie_padding msie_refresh etag if_modified_since chunked_transfer_encoding keepalive_disable",
        Verdict::Needless("weir follows RFC 9110 and RFC 9112 here"),
    ),
    (
        "root alias index try_files disable_symlinks gzip_static brotli_static zstd_static gunzip max_ranges",
        Verdict::Left(FILES),
    ),
    (
        "types default_type",
        Verdict::Needless("servers tell the types of what they send"),
    ),
    (
        "charset charset_types charset_map source_charset override_charset",
        Verdict::Left(
            "weir passes the `Content-Type` of servers on as it is; let the application say its `charset`",
        ),
    ),
    (
        "error_page proxy_intercept_errors recursive_error_pages",
        Verdict::Left(OWN_PAGES),
    ),
    (
        "allow deny",
        Verdict::Left("weir has no rules by address yet; let a firewall or the application do it"),
    ),
    (
        "satisfy limit_except",
        Verdict::Left("weir has no rules of access yet; let the application do it"),
    ),
    (
        "limit_rate limit_rate_after proxy_limit_rate",
        Verdict::Left("weir slows nobody down"),
    ),
    (
        "user",
        Verdict::Left(
            "weir keeps the user that starts it; say `User=` in its systemd unit or its container",
        ),
    ),
    (
        "load_module",
        Verdict::Left("weir has no modules; what needs this one is told where it stands"),
    ),
    ("env", Verdict::Left("weir passes no environment on")),
    (
        "error_log",
        Verdict::Left(
            "weir tells what happens to it on stderr, from `log.level` on; let systemd or the container keep it",
        ),
    ),
    (
        "log_format",
        Verdict::Left(
            "weir's access log is JSON or `combined`, by `log.access_format`; the JSON has timings, server and cache",
        ),
    ),
    (
        "proxy_redirect",
        Verdict::Left(
            "weir passes `Location` of servers on as it is; give servers the right `Host` and `X-Forwarded-*`, from which they make it",
        ),
    ),
    (
        "proxy_cookie_domain proxy_cookie_path proxy_cookie_flags",
        Verdict::Left(
            "weir passes cookies on as they are; let the application set the right domain, path and flags",
        ),
    ),
    (
        "proxy_bind proxy_method proxy_set_body proxy_pass_request_headers proxy_pass_request_body \
         proxy_ignore_client_abort proxy_force_ranges proxy_store proxy_store_access proxy_send_lowat",
        Verdict::Left("weir has nothing like it"),
    ),
    (
        "proxy_next_upstream_timeout",
        Verdict::Left(
            "weir bounds retries by number and by budget, not by time; `timeout` of a route bounds the whole exchange",
        ),
    ),
    (
        "keepalive_requests keepalive_time",
        Verdict::Left(
            "weir does not count the requests of a connection; `max_connection_age` of the listener ends old ones in good order",
        ),
    ),
    (
        "proxy_cache_min_uses",
        Verdict::Left("weir keeps what is asked for more often, and needs no threshold for that"),
    ),
    (
        "proxy_cache_methods",
        Verdict::Left("weir stores the answers to GET and HEAD only"),
    ),
    (
        "proxy_cache_purge proxy_cache_background_purge",
        Verdict::Left("purge with `weir purge` or `POST /api/cache/purge` at the admin address"),
    ),
    (
        "mirror mirror_request_body",
        Verdict::Left("weir sends each request to one server only"),
    ),
    (
        "split_clients",
        Verdict::Left(
            "weir shares requests out by weight: `upstream = { stable = 95, canary = 5 }` in a route",
        ),
    ),
    (
        "map geo set set_by_lua valid_referers userid userid_name ancient_browser modern_browser unset break",
        Verdict::Left(
            "weir's config has no variables; routes go by host, path, method, header and query, so write one route for each case",
        ),
    ),
    ("add_trailer", Verdict::Left("weir adds no trailers")),
    (
        "ssl_trusted_certificate ssl_password_file ssl_early_data ssl_crl ssl_client_certificate ssl_verify_client ssl_verify_depth \
         ssl_ocsp ssl_engine ssl",
        Verdict::Left(
            "weir has no counterpart: its keys are not encrypted, it takes no early data and asks clients for no certificates yet",
        ),
    ),
    (
        "stream mail rtmp",
        Verdict::Left("weir speaks HTTP only; keep nginx for this block"),
    ),
    (
        "sticky sticky_cookie_insert",
        Verdict::Left("say `sticky = true` in the upstream: weir sets a cookie of its own"),
    ),
    (
        "check check_http_send check_http_expect_alive health_check match",
        Verdict::Left(
            "say `health_check = \"/path\"` in the upstream: weir probes servers by itself",
        ),
    ),
    (
        "queue",
        Verdict::Left(
            "say `queue = { size = …, timeout = … }` in the upstream, beside `max_in_flight`",
        ),
    ),
    (
        "least_time",
        Verdict::Left("say `balance = \"peak_ewma\"` in the upstream, which goes by latency"),
    ),
    (
        "ntlm",
        Verdict::Left("weir shares server connections among clients, which NTLM cannot bear"),
    ),
    (
        "stub_status status api",
        Verdict::Left(
            "weir tells this at its admin address: `/metrics`, `/api/status`, `weir status`",
        ),
    ),
    ("empty_gif", Verdict::Left("let the application answer it")),
    (
        "merge_slashes",
        Verdict::Needless("weir never merges slashes"),
    ),
    (
        "absolute_redirect port_in_redirect server_name_in_redirect",
        Verdict::Needless("weir's redirects say what they say, relative ones stay relative"),
    ),
    (
        "underscores_in_headers ignore_invalid_headers",
        Verdict::Left(
            "weir passes fields with underscores on, and refuses requests whose fields are malformed",
        ),
    ),
    (
        "ssl_reject_handshake",
        Verdict::Left(
            "weir refuses unknown names with `unknown_sni = \"reject\"` in the `tls` table of the listener",
        ),
    ),
    (
        "resolver",
        Verdict::Left("weir asks the DNS servers of the system, or one: `process.resolver`"),
    ),
    (
        "internal",
        Verdict::Left(
            "weir has no requests of its own to serve; let the application check who asks",
        ),
    ),
];

/// What some module translates where it can; the rest is told by the sweep.
const TRANSLATED: &str = "http server location upstream events include listen server_name http2 return rewrite if proxy_pass \
     proxy_set_header proxy_hide_header add_header expires worker_processes worker_shutdown_timeout access_log \
     client_max_body_size client_header_timeout client_body_timeout send_timeout keepalive_timeout \
     large_client_header_buffers set_real_ip_from real_ip_header ssl_certificate ssl_certificate_key \
     ssl_protocols least_conn ip_hash hash random keepalive proxy_connect_timeout \
     proxy_read_timeout proxy_send_timeout proxy_next_upstream proxy_next_upstream_tries proxy_ssl_verify \
     proxy_ssl_name proxy_ssl_trusted_certificate proxy_ssl_certificate proxy_ssl_certificate_key gzip gzip_types \
     gzip_min_length gzip_comp_level brotli brotli_types brotli_min_length brotli_comp_level zstd zstd_types \
     zstd_min_length zstd_comp_level proxy_cache proxy_cache_path proxy_cache_valid proxy_cache_key \
     proxy_cache_use_stale proxy_cache_bypass proxy_no_cache proxy_cache_lock proxy_cache_background_update \
     proxy_ignore_headers proxy_buffering proxy_request_buffering";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_directive_has_two_verdicts() {
        let mut seen = std::collections::HashSet::new();
        let groups = GROUPS.iter().map(|(names, _)| *names);
        for name in groups
            .chain([TRANSLATED])
            .flat_map(|names| names.split(' '))
        {
            assert!(seen.insert(name), "{name}");
        }
        assert!(TRANSLATED.split(' ').all(|name| by_form(name).is_none()));
    }

    #[test]
    fn families_are_known_by_their_prefix() {
        for name in [
            "fastcgi_read_timeout",
            "content_by_lua_block",
            "limit_req_zone",
            "auth_jwt",
            "grpc_pass",
        ] {
            assert!(matches!(verdict(name), Some(Verdict::Left(_))), "{name}");
        }
        assert_eq!(verdict("proxy_pass"), None);
        assert_eq!(verdict("no_such_thing"), None);
    }
}
