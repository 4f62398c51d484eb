//! What nginx, HAProxy, Envoy, Traefik and Caddy call what the keys and values here are for.
//!
//! Whoever comes from there and writes their word is told ours. On the left their word, on the right our key, or a sentence
//! where one key does not say it. A word that is near enough to ours to be guessed is not here.

/// The word for any that is not near one of ours.
pub(super) const ANY: &str = "*";

/// Their words, and ours.
pub(super) type Words = &'static [(&'static str, &'static str)];

pub(super) const TOP: Words = &[
    ("listeners", ONE_LISTEN),
    ("listener", ONE_LISTEN),
    ("entryPoints", ONE_LISTEN),
    ("entrypoints", ONE_LISTEN),
    ("bind", ONE_LISTEN),
    (
        "frontend",
        "write `[listen.NAME]` for the address and `[route.NAME]` for what becomes of requests",
    ),
    (
        "frontends",
        "write `[listen.NAME]` for the address and `[route.NAME]` for what becomes of requests",
    ),
    (
        "server",
        "write `[listen.NAME]` for an address to listen on, `[route.NAME]` for a host, `[upstream.NAME]` for servers behind weir",
    ),
    (
        "servers",
        "servers behind weir are the `servers` of an `[upstream.NAME]`",
    ),
    ("site", "write `[route.NAME]` with `host`"),
    ("vhost", "write `[route.NAME]` with `host`"),
    ("virtual_hosts", "write `[route.NAME]` with `host`"),
    ("routes", ONE_ROUTE),
    ("router", ONE_ROUTE),
    ("routers", ONE_ROUTE),
    ("rule", ONE_ROUTE),
    ("rules", ONE_ROUTE),
    ("location", "write `[route.NAME]` with `path`"),
    ("locations", "write `[route.NAME]` with `path`"),
    ("handle", "write `[route.NAME]` with `path`"),
    (
        "reverse_proxy",
        "write `[route.NAME]` with `upstream`, and `[upstream.NAME]` with `servers`",
    ),
    (
        "proxy_pass",
        "write `[route.NAME]` with `upstream`, and `[upstream.NAME]` with `servers`",
    ),
    (
        "proxy",
        "write `[route.NAME]` with `upstream`, and `[upstream.NAME]` with `servers`",
    ),
    ("upstreams", ONE_UPSTREAM),
    ("backend", ONE_UPSTREAM),
    ("backends", ONE_UPSTREAM),
    ("cluster", ONE_UPSTREAM),
    ("clusters", ONE_UPSTREAM),
    ("service", ONE_UPSTREAM),
    ("services", ONE_UPSTREAM),
    ("pool", ONE_UPSTREAM),
    (
        "http",
        "there is no such level: write `[route.NAME]` for a router, `[upstream.NAME]` for a service",
    ),
    ("tcp", HTTP_ALONE),
    ("stream", HTTP_ALONE),
    ("events", "weir needs none of it; `[process]` has `workers`"),
    ("global", "write `[process]`, `[admin]` or `[log]`"),
    (
        "static_resources",
        "there is no such level: write `[listen.NAME]`, `[route.NAME]` and `[upstream.NAME]`",
    ),
    (
        "default",
        "write `[defaults.listen]`, `[defaults.route]` or `[defaults.upstream]`",
    ),
    ("api", "admin"),
    ("dashboard", "admin"),
    (
        "metrics",
        "the `address` of `[admin]` answers at `/metrics`",
    ),
    ("stats", "the `address` of `[admin]` answers at `/metrics`"),
    (
        "ping",
        "the `address` of `[admin]` answers at `/healthz` and `/readyz`",
    ),
    ("logging", "log"),
    ("accessLog", "write `access` in `[log]`"),
    ("access_log", "write `access` in `[log]`"),
    ("error_log", "log"),
    (
        "tls",
        "write `[listen.NAME.tls]` for clients, `[upstream.NAME.tls]` for servers",
    ),
    (
        "ssl",
        "write `[listen.NAME.tls]` for clients, `[upstream.NAME.tls]` for servers",
    ),
    (
        "certificates",
        "write `certificates` in `[listen.NAME.tls]`",
    ),
    ("middlewares", "what they do are keys of `[route.NAME]`"),
    ("includes", "include"),
    ("import", "include"),
    ("proxy_cache_path", "cache"),
    ("user", NO_USER),
    ("worker_processes", "write `workers` in `[process]`"),
    ("workers", "write `workers` in `[process]`"),
];

pub(super) const PROCESS: Words = &[
    ("maxconn", "write `max_connections` in `[listen.NAME]`"),
    (
        "worker_connections",
        "write `max_connections` in `[listen.NAME]`",
    ),
    ("max_connections", "write it in `[listen.NAME]`"),
    ("worker_processes", "workers"),
    ("threads", "workers"),
    ("nbthread", "workers"),
    ("nbproc", "workers"),
    ("concurrency", "workers"),
    ("worker_shutdown_timeout", "drain"),
    ("hard_stop_after", "drain"),
    ("grace_period", "drain"),
    ("graceTimeOut", "drain"),
    ("drain_timeout", "drain"),
    ("shutdown_timeout", "drain"),
    ("grace", "drain"),
    ("requestAcceptGraceTimeout", "shutdown_delay"),
    ("resolvers", "resolver"),
    ("dns", "resolver"),
    ("nameserver", "resolver"),
    ("group", NO_USER),
];

pub(super) const ADMIN: Words = &[
    ("listen", "address"),
    ("bind", "address"),
    ("port", "address"),
    ("enabled", "write `address = \"off\"` to have none"),
    ("insecure", "without a `token` it answers on loopback alone"),
    ("password", "token"),
    ("secret", "token"),
    ("auth", "token"),
    ("access_log_path", "write `access` in `[log]`"),
];

pub(super) const LOG: Words = &[
    ("access_log", "access"),
    ("accessLog", "access"),
    ("filePath", "access"),
    ("file", "access"),
    ("path", "access"),
    ("output", "access"),
    ("error_log", "level"),
    ("log_format", "access_format"),
    ("encoder", "format"),
];

pub(super) const LISTEN: Words = &[
    ("redirect_https", TO_HTTPS),
    ("force_https", TO_HTTPS),
    (
        "http",
        "there is no such level: `tls` and `redirect_to_https` are keys of the listener",
    ),
    ("websocket", UPGRADES),
    ("websockets", UPGRADES),
    ("mode", HTTP_ALONE),
    ("listen", "address"),
    ("bind", "address"),
    ("port", "address"),
    ("addresses", "address"),
    (
        "host",
        "hosts are matched by routes: `host` of `[route.NAME]`; here write `address`",
    ),
    (
        "server_name",
        "hosts are matched by routes: `host` of `[route.NAME]`",
    ),
    (
        "server_names",
        "hosts are matched by routes: `host` of `[route.NAME]`",
    ),
    (
        "domains",
        "hosts are matched by routes: `host` of `[route.NAME]`",
    ),
    ("ssl", "tls"),
    ("certificates", "write it in `[listen.NAME.tls]`"),
    ("ssl_certificate", SSL_CERTIFICATE),
    ("ssl_certificate_key", SSL_CERTIFICATE),
    ("crt", SSL_CERTIFICATE),
    ("cert", SSL_CERTIFICATE),
    ("certFile", SSL_CERTIFICATE),
    ("key", SSL_CERTIFICATE),
    (
        "ssl_protocols",
        "write `min_version` in `[listen.NAME.tls]`",
    ),
    ("min_version", "write it in `[listen.NAME.tls]`"),
    ("alpn", "http2"),
    ("h2", "http2"),
    ("protocols", "http2"),
    ("http_version", "http2"),
    ("set_real_ip_from", "trusted_proxies"),
    ("trustedIPs", "trusted_proxies"),
    ("forwardedHeaders", "trusted_proxies"),
    ("use_remote_address", "trusted_proxies"),
    ("xff_num_trusted_hops", "trusted_proxies"),
    ("accept_proxy", NO_PROXY_PROTOCOL),
    ("proxyProtocol", NO_PROXY_PROTOCOL),
    ("auto_https", TO_HTTPS),
    ("https_redirect", TO_HTTPS),
    ("redirections", TO_HTTPS),
    ("client_header_timeout", "header_timeout"),
    ("read_header_timeout", "header_timeout"),
    ("readTimeout", "header_timeout"),
    ("timeout_http_request", "header_timeout"),
    ("request_headers_timeout", "header_timeout"),
    ("client_body_timeout", "stall_timeout"),
    ("send_timeout", "stall_timeout"),
    ("timeout_client", "stall_timeout"),
    ("write_timeout", "stall_timeout"),
    ("writeTimeout", "stall_timeout"),
    ("stream_idle_timeout", "stall_timeout"),
    ("keepalive_timeout", "keepalive"),
    ("timeout_http_keep_alive", "keepalive"),
    ("idle_timeout", "keepalive"),
    ("idleTimeout", "keepalive"),
    ("keepalive_time", "max_connection_age"),
    ("keepAliveMaxTime", "max_connection_age"),
    ("max_connection_duration", "max_connection_age"),
    ("large_client_header_buffers", "max_header_size"),
    ("client_header_buffer_size", "max_header_size"),
    ("max_header_bytes", "max_header_size"),
    ("max_request_headers_kb", "max_header_size"),
    ("max_headers_count", "max_headers"),
    ("maxconn", "max_connections"),
    ("max_conn", "max_connections"),
    ("worker_connections", "max_connections"),
    ("http2_max_concurrent_streams", "max_concurrent_streams"),
    ("maxConcurrentStreams", "max_concurrent_streams"),
    ("location", "write `[route.NAME]` with `path`"),
    ("default_backend", "write `[route.NAME]` with `upstream`"),
    (
        "routes",
        "routes name their listeners: `listen` of `[route.NAME]`",
    ),
    ("upstream", "write `[route.NAME]` with `upstream`"),
];

pub(super) const LISTEN_TLS: Words = &[
    (
        "options",
        "there is no such level: write `min_version` here",
    ),
    ("ssl_certificate", "certificates"),
    ("certificate", "certificates"),
    ("certs", "certificates"),
    (
        "cert",
        "write `certificates = [{ cert = \"site.pem\", key = \"site.key\" }]`",
    ),
    (
        "key",
        "write `certificates = [{ cert = \"site.pem\", key = \"site.key\" }]`",
    ),
    (
        "crt",
        "write `certificates = [{ cert = \"site.pem\", key = \"site.key\" }]`",
    ),
    ("ssl_protocols", "min_version"),
    ("protocols", "min_version"),
    ("minVersion", "min_version"),
    ("ssl_min_ver", "min_version"),
    ("tls_minimum_protocol_version", "min_version"),
    ("ciphers", CIPHERS),
    ("ssl_ciphers", CIPHERS),
    ("cipherSuites", CIPHERS),
    ("cipher_suites", CIPHERS),
    ("sniStrict", "write `unknown_sni = \"reject\"`"),
    ("strict_sni", "write `unknown_sni = \"reject\"`"),
    ("strict_sni_host", "write `unknown_sni = \"reject\"`"),
    ("ssl_reject_handshake", "write `unknown_sni = \"reject\"`"),
    ("stsSeconds", "hsts"),
    ("ssl_client_certificate", NO_CLIENT_CERTIFICATES),
    ("ca_file", NO_CLIENT_CERTIFICATES),
    ("clientAuth", NO_CLIENT_CERTIFICATES),
    ("ssl_verify_client", NO_CLIENT_CERTIFICATES),
    ("verify", NO_CLIENT_CERTIFICATES),
    (
        "certResolver",
        "weir gets no certificates by itself yet: write `certificates`",
    ),
    (
        "acme",
        "weir gets no certificates by itself yet: write `certificates`",
    ),
];

pub(super) const CERTIFICATE: Words = &[
    ("certFile", "cert"),
    ("certificate", "cert"),
    ("crt", "cert"),
    ("file", "cert"),
    ("certificate_chain", "cert"),
    ("ssl_certificate", "cert"),
    ("keyFile", "key"),
    ("private_key", "key"),
    ("certificate_key", "key"),
    ("ssl_certificate_key", "key"),
];

pub(super) const ROUTE: Words = &[
    (
        "acl",
        "conditions are keys of the route: `host`, `path`, `methods`, `headers`, `query`",
    ),
    (
        "conditions",
        "conditions are keys of the route: `host`, `path`, `methods`, `headers`, `query`",
    ),
    (
        "status",
        "write it in `respond` or `redirect`, as in `respond = { status = 404 }`",
    ),
    (
        "body",
        "write it in `respond`, as in `respond = { body = \"gone\" }`",
    ),
    (
        "content_type",
        "write it in `respond`, as in `respond = { content_type = \"text/html\" }`",
    ),
    (
        "error_page",
        "there are no error pages to choose: answers of servers are passed on as they are",
    ),
    (
        "errorfile",
        "there are no error pages to choose: answers of servers are passed on as they are",
    ),
    (
        "errors",
        "there are no error pages to choose: answers of servers are passed on as they are",
    ),
    (
        "log",
        "the access log is one for all routes: `access` in `[log]`",
    ),
    (
        "access_log",
        "the access log is one for all routes: `access` in `[log]`",
    ),
    (
        "cors",
        "write the fields that are wanted in `response_headers.set`",
    ),
    ("auth_basic", NO_PASSWORDS),
    ("basic_auth", NO_PASSWORDS),
    ("basicauth", NO_PASSWORDS),
    ("basicAuth", NO_PASSWORDS),
    ("forward_auth", NO_PASSWORDS),
    ("forwardAuth", NO_PASSWORDS),
    ("auth_request", NO_PASSWORDS),
    ("stripPath", "strip_prefix"),
    ("strip_path", "strip_prefix"),
    ("entryPoints", "listen"),
    ("entrypoints", "listen"),
    ("listeners", "listen"),
    ("server_name", "host"),
    ("hosts", "host"),
    ("domain", "host"),
    ("domains", "host"),
    ("hostname", "host"),
    ("vhost", "host"),
    (
        "rule",
        "write `host`, `path`, `methods`, `headers` and `query`",
    ),
    (
        "match",
        "write `host`, `path`, `methods`, `headers` and `query`",
    ),
    ("location", "path"),
    ("paths", "path"),
    ("prefix", "path"),
    ("path_prefix", "path"),
    ("pathPrefix", "path"),
    ("path_beg", "path"),
    (
        "path_regexp",
        "there are no regular expressions: write `path` or `path_exact`",
    ),
    (
        "regex",
        "there are no regular expressions: write `path` or `path_exact`",
    ),
    ("uri", "path_exact"),
    ("exact", "path_exact"),
    ("method", "methods"),
    ("header", "headers"),
    ("query_parameters", "query"),
    ("proxy_pass", OF_UPSTREAM),
    ("reverse_proxy", OF_UPSTREAM),
    ("backend", "upstream"),
    ("use_backend", "upstream"),
    ("default_backend", "upstream"),
    ("service", "upstream"),
    ("cluster", "upstream"),
    ("to", OF_UPSTREAM),
    ("servers", OF_UPSTREAM),
    ("server", OF_UPSTREAM),
    (
        "weighted_clusters",
        "write `upstream = { stable = 95, canary = 5 }`",
    ),
    (
        "split_clients",
        "write `upstream = { stable = 95, canary = 5 }`",
    ),
    (
        "return",
        "write `redirect = { to = … }` or `respond = { status = … }`",
    ),
    (
        "rewrite",
        "write `strip_prefix`, `add_prefix` or `redirect`",
    ),
    ("redir", "redirect"),
    ("direct_response", "respond"),
    ("static_response", "respond"),
    ("handle_path", "strip_prefix"),
    ("stripPrefix", "strip_prefix"),
    ("uri_strip_prefix", "strip_prefix"),
    ("prefix_rewrite", "add_prefix"),
    ("addPrefix", "add_prefix"),
    ("proxy_set_header", "write `request_headers.set`"),
    ("header_up", "write `request_headers.set`"),
    ("set_header", "write `request_headers.set`"),
    ("customRequestHeaders", "write `request_headers.set`"),
    ("request_headers_to_add", "write `request_headers.add`"),
    (
        "request_headers_to_remove",
        "write `request_headers.remove`",
    ),
    ("add_header", "write `response_headers.add`"),
    ("header_down", "write `response_headers.set`"),
    ("customResponseHeaders", "write `response_headers.set`"),
    ("response_headers_to_add", "write `response_headers.add`"),
    (
        "response_headers_to_remove",
        "write `response_headers.remove`",
    ),
    ("proxy_hide_header", "write `response_headers.remove`"),
    (
        "proxy_read_timeout",
        "timeouts towards servers are keys of the upstream: `response_timeout`, `stall_timeout`",
    ),
    (
        "proxy_connect_timeout",
        "timeouts towards servers are keys of the upstream: `connect_timeout`",
    ),
    ("client_max_body_size", "max_body"),
    ("max_request_bytes", "max_body"),
    ("request_body", "max_body"),
    ("maxRequestBodyBytes", "max_body"),
    ("proxy_request_buffering", "buffer_request"),
    ("buffering", "buffer_request"),
    (
        "proxy_buffering",
        "responses are always passed on as they come",
    ),
    (
        "flush_interval",
        "responses are always passed on as they come",
    ),
    ("gzip", "compress"),
    ("brotli", "compress"),
    ("encode", "compress"),
    ("compression", "compress"),
    ("compressor", "compress"),
    ("proxy_cache", "cache"),
    ("ipAllowList", NO_ACCESS),
    ("ipWhiteList", NO_ACCESS),
    ("limit_req", NO_RATE_LIMIT),
    ("rateLimit", NO_RATE_LIMIT),
    ("local_ratelimit", NO_RATE_LIMIT),
    (
        "middlewares",
        "what they do are keys of the route, as `compress`, `strip_prefix`, `request_headers`",
    ),
    ("health_check", IN_UPSTREAM),
    ("balance", IN_UPSTREAM),
    ("sticky", IN_UPSTREAM),
    ("retry", IN_UPSTREAM),
    ("host_header", IN_UPSTREAM),
    (
        "tls",
        "write `[listen.NAME.tls]` for clients, `[upstream.NAME.tls]` for servers",
    ),
    (
        "root",
        "weir serves no files: have a server for them and name it by `upstream`",
    ),
    (
        "file_server",
        "weir serves no files: have a server for them and name it by `upstream`",
    ),
    (
        "try_files",
        "weir serves no files: have a server for them and name it by `upstream`",
    ),
    ("websocket", UPGRADES),
    ("websockets", UPGRADES),
    ("upgrade_configs", UPGRADES),
];

pub(super) const COMPRESS: Words = &[
    ("algorithms", "codings"),
    ("algo", "codings"),
    ("encodings", "codings"),
    ("prefer", "codings"),
    ("gzip_types", "types"),
    ("includedContentTypes", "types"),
    ("content_type", "types"),
    ("mime_types", "types"),
    ("type", "types"),
    ("gzip_min_length", "min_size"),
    ("min_length", "min_size"),
    ("minimum_length", "min_size"),
    ("minResponseBodyBytes", "min_size"),
    ("min_content_length", "min_size"),
    ("gzip_comp_level", "level"),
    ("compression_level", "level"),
    ("quality", "level"),
    ("levels", "level"),
];

/// Also what the fields of responses call the keys of `[route.NAME.cache]`.
pub(super) const CACHE: Words = &[
    ("ttl", "default_ttl"),
    ("max_age", "default_ttl"),
    ("proxy_cache_valid", "default_ttl"),
    ("grace", "stale_if_error"),
    ("keep", "stale_if_error"),
    ("stale", "stale_if_error"),
    ("use_stale", "stale_if_error"),
    ("proxy_cache_use_stale", "stale_if_error"),
    ("background_update", "stale_while_revalidate"),
    ("proxy_cache_background_update", "stale_while_revalidate"),
    ("lock", "collapse"),
    ("proxy_cache_lock", "collapse"),
    ("coalesce", "collapse"),
    ("ignore_query", "key_query"),
    ("query", "key_query"),
    ("key", "key_query"),
    ("proxy_cache_key", "key_query"),
    ("max_size", "write it in `[cache]`, the store of all routes"),
    ("process_vary", "vary_ignore"),
];

pub(super) const CACHE_STORE: Words = &[
    ("size", "max_size"),
    ("memory", "max_size"),
    ("total_max_size", "max_size"),
    ("max_file_size", "max_object_size"),
    ("max_object", "max_object_size"),
    ("max_age", "write `default_ttl` in `[route.NAME.cache]`"),
    ("path", "the store is in memory: write `max_size`"),
    (
        "enabled",
        "caching is turned on by `cache = true` of a route",
    ),
];

pub(super) const UPSTREAM: Words = &[
    ("sticky_session", "sticky"),
    ("sticky_sessions", "sticky"),
    ("session_sticky", "sticky"),
    ("inter", "write `interval` in `health_check`"),
    (
        "option",
        "there are no options: write the key itself, as `health_check`",
    ),
    ("mode", HTTP_ALONE),
    ("http_check", "health_check"),
    ("http_health_check", "health_check"),
    ("queue_timeout", "write `timeout` in `queue`"),
    ("queue_size", "write `size` in `queue`"),
    ("websocket", UPGRADES),
    ("websockets", UPGRADES),
    ("server", "servers"),
    ("backend", "servers"),
    ("backends", "servers"),
    ("nodes", "servers"),
    ("hosts", "servers"),
    ("endpoints", "servers"),
    ("targets", "servers"),
    ("upstreams", "servers"),
    ("addresses", "servers"),
    ("address", "servers"),
    ("to", "servers"),
    ("load_assignment", "servers"),
    ("loadBalancer", "write `servers` and `balance`"),
    (
        "dynamic",
        "names are looked up by themselves: write `servers = [\"app.internal:3000\"]`",
    ),
    ("lb_policy", "balance"),
    ("load_balancing", "balance"),
    ("load_balancer", "balance"),
    ("lb", "balance"),
    ("algorithm", "balance"),
    ("strategy", "balance"),
    ("policy", "balance"),
    ("method", "balance"),
    ("least_conn", "write `balance = \"least_connections\"`"),
    ("random", "write `balance = \"random\"`"),
    ("ip_hash", "write `balance = \"hash\"`"),
    ("hash", "write `balance = \"hash\"` with `hash_key`"),
    ("hash_policy", "hash_key"),
    ("hash_on", "hash_key"),
    ("healthcheck", "health_check"),
    ("healthCheck", "health_check"),
    ("health_checks", "health_check"),
    ("health_uri", "health_check"),
    ("option_httpchk", "health_check"),
    ("httpchk", "health_check"),
    ("check", "health_check"),
    ("health_interval", "write `interval` in `health_check`"),
    ("health_timeout", "write `timeout` in `health_check`"),
    ("interval", "write it in `health_check`"),
    ("unhealthy_threshold", "write `fall` in `health_check`"),
    ("healthy_threshold", "write `rise` in `health_check`"),
    ("fall", "write it in `health_check`"),
    ("rise", "write it in `health_check`"),
    ("outlier_detection", "ejection"),
    ("passive_health", "ejection"),
    ("max_fails", "write `failures` in `ejection`"),
    ("fail_timeout", "write `base` in `ejection`"),
    ("fail_duration", "write `base` in `ejection`"),
    ("observe", "ejection"),
    (
        "circuit_breaker",
        "write `ejection`, `max_in_flight` and `queue`",
    ),
    (
        "circuit_breakers",
        "write `ejection`, `max_in_flight` and `queue`",
    ),
    (
        "circuitBreaker",
        "write `ejection`, `max_in_flight` and `queue`",
    ),
    ("proxy_next_upstream", "write `on` in `retry`"),
    (
        "proxy_next_upstream_tries",
        "write `max_retries` in `retry`",
    ),
    ("retries", "retry"),
    ("retry_policy", "retry"),
    ("retry_on", "write `on` in `retry`"),
    ("redispatch", "retry"),
    ("lb_try_duration", "retry"),
    ("lb_retries", "retry"),
    ("proxy_connect_timeout", "connect_timeout"),
    ("dial_timeout", "connect_timeout"),
    ("dialTimeout", "connect_timeout"),
    ("timeout_connect", "connect_timeout"),
    ("proxy_read_timeout", "response_timeout"),
    ("timeout_server", "response_timeout"),
    ("read_timeout", "response_timeout"),
    ("response_header_timeout", "response_timeout"),
    ("responseHeaderTimeout", "response_timeout"),
    ("timeout", "response_timeout"),
    ("proxy_send_timeout", "stall_timeout"),
    ("idle_timeout", "stall_timeout"),
    ("timeout_tunnel", "stream_timeout"),
    ("stream_idle_timeout", "stream_timeout"),
    ("max_conns", "max_in_flight"),
    ("maxconn", "max_in_flight"),
    ("max_connections", "max_in_flight"),
    ("max_requests", "max_in_flight"),
    ("unhealthy_request_count", "max_in_flight"),
    ("timeout_queue", "write `timeout` in `queue`"),
    ("max_pending_requests", "write `size` in `queue`"),
    ("maxqueue", "write `size` in `queue`"),
    ("slowstart", "slow_start"),
    ("slow_start_config", "slow_start"),
    ("healthy_panic_threshold", "panic_below"),
    ("panic_threshold", "panic_below"),
    ("cookie", "sticky"),
    ("stickiness", "sticky"),
    ("session_affinity", "sticky"),
    ("stick_table", "sticky"),
    ("passHostHeader", "host_header"),
    ("pass_host", "host_header"),
    ("host_rewrite_literal", "host_header"),
    (
        "proxy_set_header",
        "write `host_header` for `Host`, `request_headers` of the route for others",
    ),
    ("keepalive_timeout", "write `idle` in `keepalive`"),
    ("keepalive_requests", "write `max_age` in `keepalive`"),
    ("max_idle", "write it in `keepalive`"),
    ("http2", "protocol"),
    ("http_version", "protocol"),
    ("proxy_http_version", "protocol"),
    ("transport", "write `protocol` and `tls`"),
    ("ssl", "tls"),
    ("proxy_ssl", "tls"),
    ("transport_socket", "tls"),
    ("serversTransport", "tls"),
    (
        "weights",
        "write `{ address = \"10.0.0.7:80\", weight = 2 }` in `servers`",
    ),
    (
        "weight",
        "write `{ address = \"10.0.0.7:80\", weight = 2 }` in `servers`",
    ),
    (
        "backup",
        "write `{ address = \"10.0.0.7:80\", backup = true }` in `servers`",
    ),
    (
        "path",
        "paths are matched by routes: `path` of `[route.NAME]`",
    ),
    ("cache", "it is a key of routes: `cache` of `[route.NAME]`"),
    (
        "compress",
        "it is a key of routes: `compress` of `[route.NAME]`",
    ),
];

pub(super) const SERVER: Words = &[
    ("url", "address"),
    ("host", "address"),
    ("server", "address"),
    ("addr", "address"),
    ("target", "address"),
    ("socket_address", "address"),
    ("dial", "address"),
    ("port", "write it in `address`, as in `10.0.0.7:8080`"),
    ("max_conns", "max_in_flight"),
    ("maxconn", "max_in_flight"),
    ("down", "leave the server out, or use `weir drain`"),
    ("disabled", "leave the server out, or use `weir drain`"),
    (
        "max_fails",
        "write `failures` in `ejection` of the upstream",
    ),
    ("fail_timeout", "write `base` in `ejection` of the upstream"),
    ("slow_start", "it is a key of the upstream"),
    ("check", "write `health_check` of the upstream"),
    ("priority", "backup"),
    ("load_balancing_weight", "weight"),
];

pub(super) const HEALTH_CHECK: Words = &[
    ("unhealthy_threshold", "fall"),
    ("unhealthyThreshold", "fall"),
    ("fails", "fall"),
    ("health_fails", "fall"),
    ("max_fails", "fall"),
    ("failures", "fall"),
    ("healthy_threshold", "rise"),
    ("healthyThreshold", "rise"),
    ("passes", "rise"),
    ("health_passes", "rise"),
    ("successes", "rise"),
    ("uri", "path"),
    ("url", "path"),
    ("endpoint", "path"),
    ("health_uri", "path"),
    ("http_health_check", "path"),
    ("inter", "interval"),
    ("health_interval", "interval"),
    ("period", "interval"),
    ("every", "interval"),
    ("fastinter", "fast_interval"),
    ("unhealthy_interval", "fast_interval"),
    ("unhealthyInterval", "fast_interval"),
    ("no_traffic_interval", "interval"),
    ("health_timeout", "timeout"),
    ("timeout_check", "timeout"),
    ("expected_statuses", "status"),
    ("expect_status", "status"),
    ("health_status", "status"),
    ("expect", "write `status` or `body`"),
    ("expect_body", "body"),
    ("health_body", "body"),
    ("hostname", "host"),
    ("service_name", "write it as `path`"),
    ("grpc_service", "write it as `path`"),
    ("mode", "type"),
    (
        "scheme",
        "servers are probed over TLS where the upstream has `tls`",
    ),
    ("protocol", "type"),
    ("enabled", "write `health_check = \"off\"` to have none"),
    (
        "jitter",
        "each interval is up to 10 % longer or shorter by itself",
    ),
];

pub(super) const EJECTION: Words = &[
    ("max_fails", "failures"),
    ("consecutive_5xx", "failures"),
    ("consecutive_errors", "failures"),
    ("consecutive_gateway_failure", "failures"),
    ("error_limit", "failures"),
    ("unhealthy_status", "failures"),
    ("fail_timeout", "base"),
    ("fail_duration", "base"),
    ("base_ejection_time", "base"),
    ("base_time", "base"),
    ("max_ejection_time", "max"),
    ("max_time", "max"),
    ("max_ejection_percent", "max_share"),
    (
        "interval",
        "there is none: failures in a row count, from one to the next",
    ),
    ("enabled", "write `ejection = \"off\"` to have none"),
];

pub(super) const RETRY: Words = &[
    ("attempts", "write `max_retries`, which is one less"),
    ("tries", "write `max_retries`, which is one less"),
    ("max_tries", "write `max_retries`, which is one less"),
    ("num_retries", "max_retries"),
    ("retries", "max_retries"),
    ("count", "max_retries"),
    ("max", "max_retries"),
    ("retry_on", "on"),
    ("conditions", "on"),
    ("when", "on"),
    ("retry_budget", "budget"),
    ("budget_percent", "budget"),
    (
        "initialInterval",
        "there is no wait before a retry: it goes to another server",
    ),
    (
        "backoff",
        "there is no wait before a retry: it goes to another server",
    ),
    (
        "per_try_timeout",
        "write `response_timeout` of the upstream",
    ),
    ("enabled", "write `retry = \"off\"` to have none"),
];

pub(super) const STICKY: Words = &[
    ("name", "cookie"),
    ("cookie_name", "cookie"),
    ("max_age", "ttl"),
    ("maxAge", "ttl"),
    ("expires", "ttl"),
    ("sameSite", "same_site"),
    ("samesite", "same_site"),
    ("httpOnly", "it always is"),
    ("httponly", "it always is"),
    ("http_only", "it always is"),
    ("enabled", "write `sticky = false` to have none"),
];

pub(super) const QUEUE: Words = &[
    ("max", "size"),
    ("maxqueue", "size"),
    ("length", "size"),
    ("max_size", "size"),
    ("max_pending_requests", "size"),
    ("wait", "timeout"),
    ("max_wait", "timeout"),
];

pub(super) const KEEPALIVE: Words = &[
    ("max_idle_connections", "max_idle"),
    ("max_idle_per_host", "max_idle"),
    ("maxIdleConnsPerHost", "max_idle"),
    ("max_idle_conns_per_host", "max_idle"),
    ("pool_max_conn", "max_idle"),
    ("connections", "max_idle"),
    ("size", "max_idle"),
    ("timeout", "idle"),
    ("idle_timeout", "idle"),
    ("idleConnTimeout", "idle"),
    ("keepalive_idle_timeout", "idle"),
    ("pool_purge_delay", "idle"),
    ("requests", "max_age"),
    ("max_lifetime", "max_age"),
    ("max_connection_duration", "max_age"),
];

pub(super) const UPSTREAM_TLS: Words = &[
    ("ca_file", "ca"),
    ("root_ca", "ca"),
    ("rootCAs", "ca"),
    ("ca_cert", "ca"),
    ("trusted_ca", "ca"),
    ("trust_pool", "ca"),
    ("proxy_ssl_trusted_certificate", "ca"),
    ("sni", "server_name"),
    ("serverName", "server_name"),
    ("tls_server_name", "server_name"),
    ("proxy_ssl_name", "server_name"),
    ("verifyhost", "server_name"),
    ("cert", "client_cert"),
    ("crt", "client_cert"),
    ("certificate", "client_cert"),
    ("key", "client_key"),
    ("verify", NO_TRUST),
    ("insecure", NO_TRUST),
    ("insecureSkipVerify", NO_TRUST),
    ("insecure_skip_verify", NO_TRUST),
    ("tls_insecure_skip_verify", NO_TRUST),
    ("proxy_ssl_verify", NO_TRUST),
    ("enabled", "write `tls = false` for none"),
];

pub(super) const REDIRECT: Words = &[
    ("location", "to"),
    ("url", "to"),
    ("target", "to"),
    ("destination", "to"),
    ("code", "status"),
    ("response_code", "status"),
    ("permanent", "write `status = 308`; for a passing one 307"),
    ("scheme", "write `redirect_to_https` of the listener"),
];

pub(super) const RESPOND: Words = &[
    ("code", "status"),
    ("status_code", "status"),
    ("text", "body"),
    ("content", "body"),
    ("lf_string", "body"),
    ("type", "content_type"),
    ("default_type", "content_type"),
    ("headers", "write `response_headers` of the route"),
];

pub(super) const EDITS: Words = &[
    ("append", "add"),
    ("delete", "remove"),
    ("del", "remove"),
    ("hide", "remove"),
    ("replace", "set"),
    (
        ANY,
        "fields stand in `set`, `add` or `remove`, as in `{ set = { X-Name = \"value\" } }`",
    ),
];

/// Words for values, and ours; with what else is to be written, if anything.
pub(super) const VALUES: &[(&str, &str, &str)] = &[
    // balance
    ("roundrobin", "round_robin", ""),
    ("round-robin", "round_robin", ""),
    ("rr", "round_robin", ""),
    ("wrr", "round_robin", ""),
    ("weighted_round_robin", "round_robin", ""),
    ("static-rr", "round_robin", ""),
    ("leastconn", "least_connections", ""),
    ("least_conn", "least_connections", ""),
    ("least-connections", "least_connections", ""),
    ("leastconnections", "least_connections", ""),
    ("least_request", "least_connections", ""),
    ("least_requests", "least_connections", ""),
    ("first", "least_connections", ""),
    ("p2c", "random", ""),
    ("power_of_two_choices", "random", ""),
    ("random_choose", "random", ""),
    ("ewma", "peak_ewma", ""),
    ("least_time", "peak_ewma", ""),
    ("latency", "peak_ewma", ""),
    ("ip_hash", "hash", ""),
    ("client_ip_hash", "hash", ""),
    ("source", "hash", ""),
    ("iphash", "hash", ""),
    ("consistent_hash", "hash", ""),
    ("ring_hash", "hash", ""),
    ("maglev", "hash", ""),
    ("consistent", "hash", ""),
    ("hrw", "hash", ""),
    ("uri", "hash", " and `hash_key = \"path\"`"),
    ("uri_hash", "hash", " and `hash_key = \"path\"`"),
    ("url_hash", "hash", " and `hash_key = \"path\"`"),
    ("hdr", "hash", " and `hash_key = \"header:NAME\"`"),
    ("header", "hash", " and `hash_key = \"header:NAME\"`"),
    (
        "cookie",
        "hash",
        " and `hash_key = \"cookie:NAME\"`, or `sticky = true`",
    ),
    // levels and forms of the log
    ("warning", "warn", ""),
    ("emerg", "error", ""),
    ("alert", "error", ""),
    ("crit", "error", ""),
    ("critical", "error", ""),
    ("fatal", "error", ""),
    ("panic", "error", ""),
    ("notice", "info", ""),
    ("trace", "debug", ""),
    ("console", "text", ""),
    ("common", "combined", ""),
    ("clf", "combined", ""),
    ("always", "all", ""),
    ("on", "all", ""),
    // protocols
    ("http/1.1", "http1", ""),
    ("HTTP/1.1", "http1", ""),
    ("1.1", "http1", ""),
    ("h1", "http1", ""),
    ("http", "http1", ""),
    ("TLSv1.2", "1.2", ""),
    ("TLSv1_2", "1.2", ""),
    ("tls1.2", "1.2", ""),
    ("VersionTLS12", "1.2", ""),
    ("TLSv1.3", "1.3", ""),
    ("TLSv1_3", "1.3", ""),
    ("tls1.3", "1.3", ""),
    ("VersionTLS13", "1.3", ""),
    ("strict", "reject", ""),
    // codings
    ("brotli", "br", ""),
    ("gz", "gzip", ""),
    ("x-gzip", "gzip", ""),
    ("zst", "zstd", ""),
    ("zstandard", "zstd", ""),
    // retries
    ("error", "reset", " and `\"connect\"`"),
    ("conn-failure", "connect", ""),
    ("connect-failure", "connect", ""),
    ("refused-stream", "reset", ""),
    ("empty-response", "reset", ""),
    ("response-timeout", "timeout", ""),
    ("http_502", "502", ""),
    ("http_503", "503", ""),
    ("http_504", "504", ""),
    ("5xx", "502", ", `\"503\"` and `\"504\"`"),
    ("gateway-error", "502", ", `\"503\"` and `\"504\"`"),
    // kinds of probes
    ("https", "http", " here and `tls = true` in the upstream"),
    ("httpchk", "http", ""),
    // where all servers are down
    ("fail", "503", ""),
    ("refuse", "503", ""),
    ("panic", "try_anyway", ""),
];

/// What to write in place of their word for a value, if it is one, and ours is among `choices`.
pub(super) fn value<'c>(word: &str, choices: impl Iterator<Item = &'c str>) -> Option<String> {
    let choices: Vec<_> = choices.collect();
    let (_, here, besides) = VALUES
        .iter()
        .find(|(theirs, here, _)| theirs.eq_ignore_ascii_case(word) && choices.contains(here))?;
    Some(format!("write `\"{here}\"`{besides}"))
}

/// A path with what others write around it, as `GET /healthz HTTP/1.1`, `path_beg /api` or ``PathPrefix(`/api`)``: what
/// stands before it, and the path.
pub(super) fn path_within(text: &str) -> Option<(&str, &str)> {
    const AROUND: [char; 6] = [' ', '(', ')', '`', '"', '\''];
    let at = text.char_indices().zip(text.chars().skip(1));
    let at = at.filter(|((_, before), slash)| *slash == '/' && AROUND.contains(before));
    let ((at, before), _) = at.last()?;
    let (word, path) = text.split_at(at + before.len_utf8());
    let path = path.split(AROUND).next()?;
    Some((word.trim_end_matches(AROUND), path))
}

/// Which paths that is about, by the word before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paths {
    /// The path and all below it.
    Below,
    Exact,
}

pub(super) fn paths(word: &str) -> Option<Paths> {
    let (_, paths) = PATHS.iter().find(|(theirs, _)| *theirs == word)?;
    Some(*paths)
}

const PATHS: &[(&str, Paths)] = &[
    ("=", Paths::Exact),
    ("^~", Paths::Below),
    ("location", Paths::Below),
    ("location =", Paths::Exact),
    ("location ^~", Paths::Below),
    ("path", Paths::Exact),
    ("path_beg", Paths::Below),
    ("path_dir", Paths::Below),
    ("path -m beg", Paths::Below),
    ("path -m str", Paths::Exact),
    ("Path", Paths::Exact),
    ("PathPrefix", Paths::Below),
    ("prefix", Paths::Below),
    ("exact", Paths::Exact),
    ("handle", Paths::Below),
    ("handle_path", Paths::Below),
];

/// The help for a key: a key of ours in short, anything else as it is.
pub(super) fn help(words: Words, key: &str) -> Option<String> {
    let (_, here) = words.iter().find(|(theirs, _)| *theirs == key)?;
    Some(match here.contains(' ') {
        true => (*here).to_owned(),
        false => format!("write `{here}`"),
    })
}

const HTTP_ALONE: &str = "weir carries HTTP alone";
const UPGRADES: &str = "upgrades pass without being asked for";
const TO_HTTPS: &str = "write `redirect_to_https = {}`";
const OF_UPSTREAM: &str =
    "write `upstream` with the name of an `[upstream.NAME]`, whose `servers` are addresses";
const NO_PASSWORDS: &str = "weir authenticates nobody: let the servers do so";
const NO_RATE_LIMIT: &str = "limits of the rate of requests are not supported yet";
const NO_ACCESS: &str = "limits by the address of the client are not supported yet";
const NO_PROXY_PROTOCOL: &str = "the PROXY protocol is not supported yet";
const NO_CLIENT_CERTIFICATES: &str = "certificates of clients are not supported yet";
const NO_USER: &str =
    "weir does not change its user yet: let what starts it do so, as `User` of systemd does";
const ONE_LISTEN: &str = "write `[listen.NAME]` for each";
const ONE_ROUTE: &str = "write `[route.NAME]` for each";
const ONE_UPSTREAM: &str = "write `[upstream.NAME]` for each";
const IN_UPSTREAM: &str = "it is a key of `[upstream.NAME]`";
const SSL_CERTIFICATE: &str =
    "write `tls = { certificates = [{ cert = \"site.pem\", key = \"site.key\" }] }`";
const CIPHERS: &str =
    "the ciphers are those that are good today; `min_version` is all there is to choose";
const NO_TRUST: &str = "certificates of servers are always verified: name their authority by `ca`";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Problem, parse};
    use super::*;

    const REST: &str = "[listen.web]\naddress = \":1\"\n[route.site]\nupstream = \"app\"\n[upstream.app]\nservers = [\"10.0.0.1:1\"]\n";

    /// What is told of a key in that place; `=` is put in place of `KEY`.
    fn told(place: &str, key: &str) -> Vec<Problem> {
        let text = format!(
            "{}\n{REST}",
            place.replace("KEY", &format!("\"{key}\" = 1"))
        );
        match parse(&text, Path::new("weir.toml")) {
            Ok(_) => Vec::new(),
            Err(report) => report.problems,
        }
    }

    #[test]
    fn every_word_of_theirs_is_answered_with_one_that_is_known() {
        let route = |keys: &str| format!("[route.x]\nupstream = \"app\"\npath = \"/x\"\n{keys}");
        let upstream = |keys: &str| format!("[upstream.x]\nservers = [\"10.0.0.1:1\"]\n{keys}");
        let listen = |keys: &str| format!("[listen.x]\naddress = \":2\"\n{keys}");
        let places: &[(String, Words)] = &[
            ("KEY".into(), TOP),
            ("[process]\nKEY".into(), PROCESS),
            ("[admin]\nKEY".into(), ADMIN),
            ("[log]\nKEY".into(), LOG),
            ("[cache]\nKEY".into(), CACHE_STORE),
            (listen("KEY"), LISTEN),
            (listen("tls = { KEY }"), LISTEN_TLS),
            (listen("tls = { certificates = [{ KEY }] }"), CERTIFICATE),
            (route("KEY"), ROUTE),
            (route("compress = { KEY }"), COMPRESS),
            (route("cache = { KEY }"), CACHE),
            (route("redirect = { KEY }"), REDIRECT),
            (route("respond = { KEY }"), RESPOND),
            (route("request_headers = { KEY }"), EDITS),
            (upstream("KEY"), UPSTREAM),
            ("[upstream.x]\nservers = [{ KEY }]".into(), SERVER),
            (upstream("health_check = { KEY }"), HEALTH_CHECK),
            (upstream("ejection = { KEY }"), EJECTION),
            (upstream("retry = { KEY }"), RETRY),
            (upstream("sticky = { KEY }"), STICKY),
            (upstream("queue = { KEY }"), QUEUE),
            (upstream("keepalive = { KEY }"), KEEPALIVE),
            (upstream("tls = { KEY }"), UPSTREAM_TLS),
        ];
        for (place, words) in places {
            for (theirs, ours) in *words {
                let problems = told(place, theirs);
                let mut unknown = problems
                    .iter()
                    .filter(|problem| problem.id == "unknown-key");
                let problem = unknown
                    .next()
                    .unwrap_or_else(|| panic!("{place}: {theirs}"));
                assert_eq!(problem.help, help(words, theirs), "{place}: {theirs}");
                let again = match ours.contains(' ') {
                    true => Vec::new(),
                    false => told(place, ours),
                };
                assert!(
                    again.iter().all(|problem| problem.id != "unknown-key"),
                    "{place}: {ours}"
                );
            }
        }
    }

    #[test]
    fn no_word_is_there_twice() {
        for words in [TOP, LISTEN, ROUTE, UPSTREAM, HEALTH_CHECK] {
            let mut seen = std::collections::HashSet::new();
            for (theirs, _) in words {
                assert!(seen.insert(theirs), "{theirs}");
            }
        }
    }

    #[test]
    fn values_have_words_of_theirs_too() {
        let policies = [
            "round_robin",
            "least_connections",
            "peak_ewma",
            "random",
            "hash",
        ];
        let help = |word| value(word, policies.iter().copied());
        assert_eq!(
            help("leastconn").as_deref(),
            Some("write `\"least_connections\"`")
        );
        assert_eq!(
            help("LEAST_REQUEST").as_deref(),
            Some("write `\"least_connections\"`")
        );
        assert_eq!(
            help("uri").as_deref(),
            Some("write `\"hash\"` and `hash_key = \"path\"`")
        );
        assert_eq!(help("brotli"), None, "a word for something else");
    }
}
