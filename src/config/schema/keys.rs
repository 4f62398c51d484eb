//! Every key that weir knows, with its default and an example. What they mean in full is in `config/weir.full.toml`.

use super::Kind::{
    Bool, Defaults, Duration, Either, Integer, List, Map, NotYet, Numbers, Off, Path, Share, Size,
    Table, Text, Words,
};
use super::{Key, Kind, key};

const OFF: Kind = Words(&["off"]);
const DURATION_OR_OFF: Kind = Either(&[Duration, OFF]);
const SIZE_OR_OFF: Kind = Either(&[Size, OFF]);
const TEXT_OR_LIST: Kind = Either(&[Text, List(&Text)]);
const PATH_OR_LIST: Kind = Either(&[Path, List(&Path)]);
const PATH_OR_OFF: Kind = Either(&[Path, OFF]);
const TEXTS: Kind = Map(&Text);
const PORT: Kind = Integer(1, 65_535);

/// The file.
pub(super) const ALL: &[Key] = &[
    key(
        "include",
        TEXT_OR_LIST,
        "More files, relative to this one; a \"*\" stands for any part of a name. Paths in them are relative to this file.",
    )
    .default("[]")
    .examples(&["[\"conf.d/*.toml\"]", "\"conf.d/*.toml\""]),
    key("process", Table(PROCESS), "The process as a whole."),
    key(
        "admin",
        Table(ADMIN),
        "Where dashboard, API, metrics and probes are.",
    ),
    key("log", Table(LOG), "The log and the access log."),
    key(
        "cache",
        Table(STORE),
        "What routes with `cache` keep, all in one store, in memory.",
    ),
    key("notify", Off("{}"), "Whom to tell when something happens."),
    key(
        "defaults",
        Table(DEFAULTS),
        "What the named tables of a kind have where they say nothing.",
    ),
    key(
        "listen",
        Map(&Table(LISTEN)),
        "Where clients come in: `[listen.NAME]`.",
    )
    .examples(&["{ web = { address = \":8080\" } }"]),
    key(
        "route",
        Map(&Table(ROUTE)),
        "Which request goes where: `[route.NAME]`.",
    )
    .examples(&["{ site = { upstream = \"app\" } }"]),
    key(
        "upstream",
        Map(&Table(UPSTREAM)),
        "The servers behind: `[upstream.NAME]`.",
    )
    .examples(&["{ app = { servers = [\"127.0.0.1:3000\"] } }"]),
];

const DEFAULTS: &[Key] = &[
    key(
        "listen",
        Defaults(LISTEN),
        "For listeners. A `tls` without certificates is for those that have `tls` themselves.",
    ),
    key(
        "route",
        Defaults(ROUTE),
        "For routes. What each matches and does is its own.",
    ),
    key(
        "upstream",
        Defaults(UPSTREAM),
        "For upstreams. Servers are their own.",
    ),
];

const PROCESS: &[Key] = &[
    key(
        "workers",
        Either(&[Words(&["auto"]), Integer(1, 1024)]),
        "Threads that carry traffic; \"auto\": as many as CPUs the process may use.",
    )
    .default("\"auto\"")
    .examples(&["4"]),
    key(
        "drain",
        Duration,
        "What running requests get when their listener, route or server goes, or the process stops.",
    )
    .default("\"25s\"")
    .examples(&["\"1m\""]),
    key(
        "shutdown_delay",
        DURATION_OR_OFF,
        "Keep serving with /readyz at 503 for so long before draining.",
    )
    .default("\"off\"")
    .examples(&["\"5s\""]),
    key(
        "resolver",
        Text,
        "The DNS server to ask instead of those of /etc/resolv.conf (\"system\").",
    )
    .default("\"system\"")
    .examples(&["\"127.0.0.1:5353\""]),
    key(
        "state",
        Text,
        "A folder for the last good configs, private keys included: a start with a bad file runs by the last one.",
    )
    .default("\"off\"")
    .examples(&["\"/var/lib/weir\""]),
    key(
        "user",
        OFF_YET,
        "The user to become once sockets are bound.",
    ),
];

const OFF_YET: Kind = Off("\"off\"");

const ADMIN: &[Key] = &[
    key("address", Text, "Where dashboard, API, metrics and probes are: host:port, \"unix:/PATH\", or \"off\".")
        .default("\"127.0.0.1:9900\"")
        .examples(&["\"unix:/run/weir.sock\"", "\"off\""]),
    key("probes", Text, "A second address with /healthz, /readyz and /metrics only; or \"off\".")
        .default("\"off\"")
        .examples(&["\":9901\""]),
    key("token", Text, "What callers must know; \"off\", or \"file:PATH\". Needed where others can reach `address`.")
        .default("\"off\"")
        .examples(&["\"a-long-secret\""]),
];

const LOG: &[Key] = &[
    key(
        "level",
        Words(&["error", "warn", "info", "debug"]),
        "What is worth a line.",
    )
    .default("\"info\"")
    .examples(&["\"debug\""]),
    key(
        "format",
        Words(&["auto", "text", "json"]),
        "auto: text on a terminal, JSON elsewhere.",
    )
    .default("\"auto\"")
    .examples(&["\"json\""]),
    key(
        "access",
        Text,
        "The access log: \"stdout\", the path of a file, or \"off\".",
    )
    .default("\"stdout\"")
    .examples(&["\"off\"", "\"/var/log/weir.log\""]),
    key(
        "access_filter",
        Words(&["errors", "all"]),
        "errors: status 5xx and broken exchanges.",
    )
    .default("\"errors\"")
    .examples(&["\"all\""]),
    key(
        "access_format",
        Words(&["json", "combined"]),
        "How lines of the access log look.",
    )
    .default("\"json\"")
    .examples(&["\"combined\""]),
];

const STORE: &[Key] = &[
    key(
        "max_size",
        Either(&[Words(&["auto"]), Size]),
        "What all of it may take, 1MiB to 16384GiB; \"auto\": a quarter of the memory that the process may use, 256MiB at most.",
    )
    .default("\"auto\"")
    .examples(&["\"1GiB\""]),
    key("max_object_size", Size, "Larger responses are passed on and not kept; at most `max_size`.")
        .default("\"8MiB\"")
        .examples(&["\"64MiB\""]),
];

const LISTEN: &[Key] = &[
    key(
        "address",
        TEXT_OR_LIST,
        "Where to listen; \":8080\" is IPv6 and IPv4 at once.",
    )
    .examples(&["\":8080\"", "[\"127.0.0.1:8080\", \"[::1]:8080\"]"])
    .own(),
    key(
        "proxy_protocol",
        OFF_YET,
        "Peers that must send PROXY v1 or v2.",
    ),
    key(
        "trusted_proxies",
        List(&Text),
        "Networks whose Forwarded and X-Forwarded-* are believed.",
    )
    .default("[]")
    .examples(&["[\"10.0.0.0/8\"]"]),
    key(
        "http2",
        Bool,
        "HTTP/2 over TLS as agreed with the client; without TLS for clients that know beforehand.",
    )
    .default("true")
    .examples(&["false"]),
    key(
        "redirect_to_https",
        Either(&[OFF, Table(TO_HTTPS)]),
        "Send clients to HTTPS; leaves /.well-known/acme-challenge/ alone.",
    )
    .default("\"off\"")
    .examples(&["{ port = 443 }"]),
    key(
        "header_timeout",
        Duration,
        "For a whole request head, and for the TLS handshake.",
    )
    .default("\"10s\"")
    .examples(&["\"5s\""]),
    key(
        "stall_timeout",
        Duration,
        "No progress while weir waits for request bytes or has response bytes to write.",
    )
    .default("\"30s\"")
    .examples(&["\"1m\""]),
    key(
        "keepalive",
        Duration,
        "How long a connection may be idle between requests.",
    )
    .default("\"75s\"")
    .examples(&["\"620s\""]),
    key(
        "max_connection_age",
        DURATION_OR_OFF,
        "After it a connection is ended in good order, so that clients spread anew.",
    )
    .default("\"off\"")
    .examples(&["\"1h\""]),
    key("max_header_size", Size, "Of a request head, 1KiB to 1MiB.")
        .default("\"32KiB\"")
        .examples(&["\"64KiB\""]),
    key("max_headers", Integer(1, 1000), "Fields of a request.")
        .default("100")
        .examples(&["200"]),
    key(
        "max_target_size",
        Size,
        "Of a request target; 64B to `max_header_size`.",
    )
    .default("\"8KiB\"")
    .examples(&["\"16KiB\""]),
    key(
        "max_connections",
        Either(&[Words(&["auto"]), Integer(1, 10_000_000)]),
        "Client connections at once; \"auto\": from the limit of file descriptors.",
    )
    .default("\"auto\"")
    .examples(&["10000"]),
    key(
        "max_concurrent_streams",
        Integer(1, 10_000),
        "Requests at once on one HTTP/2 connection.",
    )
    .default("100")
    .examples(&["250"]),
    key("tls", Table(LISTEN_TLS), "TLS for clients."),
];

const TO_HTTPS: &[Key] = &[key(
    "port",
    PORT,
    "The port of the other listener, as clients see it.",
)
.default("443")
.examples(&["8443"])];

const LISTEN_TLS: &[Key] = &[
    key(
        "certificates",
        List(&Table(CERTIFICATE)),
        "Chosen by the name that the client asks for (SNI); the first is the default.",
    )
    .examples(&["[{ cert = \"site.pem\", key = \"site.key\" }]"])
    .required(),
    key(
        "unknown_sni",
        Words(&["default", "reject"]),
        "What clients get that ask for a name which no certificate is for.",
    )
    .default("\"default\"")
    .examples(&["\"reject\""]),
    key(
        "min_version",
        Words(&["1.2", "1.3"]),
        "The oldest version of TLS.",
    )
    .default("\"1.2\"")
    .examples(&["\"1.3\""]),
    key(
        "hsts",
        DURATION_OR_OFF,
        "Tell browsers to come with TLS only, for so long.",
    )
    .default("\"off\"")
    .examples(&["\"365d\""]),
    key("client_ca", OFF_YET, "Who vouches for clients."),
    key("client_auth", NotYet, "Whether clients need a certificate."),
];

const CERTIFICATE: &[Key] = &[
    key("cert", Text, "The file of the chain, PEM.")
        .examples(&["\"site.pem\""])
        .required(),
    key("key", Text, "The file of its key, PEM.")
        .examples(&["\"site.key\""])
        .required(),
];

const ROUTE: &[Key] = &[
    key("listen", List(&Text), "Names of listeners; empty: all.")
        .default("[]")
        .examples(&["[\"web\"]"]),
    key(
        "host",
        TEXT_OR_LIST,
        "\"shop.example.com\", \"*.example.com\" (any depth below); empty: any.",
    )
    .default("[]")
    .examples(&[
        "\"shop.example.com\"",
        "[\"example.com\", \"*.example.com\"]",
    ])
    .own(),
    key(
        "path",
        PATH_OR_LIST,
        "Prefixes by whole segments: \"/api\" is for /api and /api/x, not for /apix.",
    )
    .default("[\"/\"]")
    .examples(&["\"/api\"", "[\"/api\", \"/v2\"]"])
    .own(),
    key(
        "path_exact",
        PATH_OR_LIST,
        "Whole paths; with it and without `path`, no other path matches.",
    )
    .default("[]")
    .examples(&["\"/favicon.ico\""])
    .own(),
    key("methods", List(&Text), "Empty: any.")
        .default("[]")
        .examples(&["[\"GET\", \"HEAD\"]"])
        .own(),
    key(
        "headers",
        TEXTS,
        "Fields that must be equal; \"*\": must be there.",
    )
    .default("{}")
    .examples(&["{ x-canary = \"1\" }"])
    .own(),
    key(
        "query",
        TEXTS,
        "The same for query parameters, compared as written.",
    )
    .default("{}")
    .examples(&["{ beta = \"1\" }"])
    .own(),
    key(
        "priority",
        Integer(-1_000_000, 1_000_000),
        "Of two routes that are equal otherwise, the higher wins.",
    )
    .default("0")
    .examples(&["10"])
    .own(),
    key(
        "upstream",
        Either(&[Text, Map(&WEIGHT)]),
        "The name of an upstream, or several by weight.",
    )
    .examples(&["\"app\"", "{ app = 95 }"])
    .own(),
    key(
        "redirect",
        Table(REDIRECT),
        "An answer in place of an upstream: go there.",
    )
    .examples(&["{ to = \"https://www.example.com{path}\", status = 308 }"])
    .own(),
    key(
        "respond",
        Table(RESPOND),
        "An answer in place of an upstream.",
    )
    .examples(&["{ status = 410, body = \"gone\" }"])
    .own(),
    key(
        "strip_prefix",
        PATH_OR_OFF,
        "Servers do not see it; X-Forwarded-Prefix tells them.",
    )
    .default("\"off\"")
    .examples(&["\"/api\""])
    .own(),
    key(
        "add_prefix",
        PATH_OR_OFF,
        "Before the path that servers see.",
    )
    .default("\"off\"")
    .examples(&["\"/v2\""])
    .own(),
    key(
        "request_headers",
        Table(EDITS),
        "Changes to what servers get: removed first, then set, then added.",
    )
    .examples(&["{ set = { x-env = \"live\" }, remove = [\"x-debug\"] }"]),
    key(
        "response_headers",
        Table(EDITS),
        "Changes to what clients get: removed first, then set, then added.",
    )
    .examples(&["{ remove = [\"server\"] }"]),
    key(
        "timeout",
        DURATION_OR_OFF,
        "For the whole exchange, streams excepted.",
    )
    .default("\"off\"")
    .examples(&["\"2m\""]),
    key("max_body", SIZE_OR_OFF, "Of a request.")
        .default("\"100MiB\"")
        .examples(&["\"1MiB\"", "\"off\""]),
    key(
        "buffer_request",
        SIZE_OR_OFF,
        "Read that much of a body before a server is chosen, 16MiB at most.",
    )
    .default("\"off\"")
    .examples(&["\"64KiB\""]),
    key("allow", Off("[]"), "Networks that may ask."),
    key("deny", Off("[]"), "Networks that may not."),
    key("rate_limit", OFF_YET, "How often each client may ask."),
    key(
        "cache",
        Either(&[Bool, OFF, Table(CACHE)]),
        "Answer again from memory what may be answered again (RFC 9111).",
    )
    .default("false")
    .examples(&["true", "{ default_ttl = \"10s\" }"]),
    key(
        "compress",
        Either(&[Bool, OFF, Table(COMPRESS)]),
        "Encode responses that clients can decode.",
    )
    .default("false")
    .examples(&["true", "{ codings = [\"gzip\"] }"]),
];

const WEIGHT: Kind = Integer(1, 1_000_000);

const REDIRECT: &[Key] = &[
    key("to", Text, "Where to. `{path}` is the path of the request; its query is appended unless there is one here.")
        .examples(&["\"https://www.example.com{path}\""])
        .required(),
    key("status", Numbers(&[301, 302, 303, 307, 308]), "Whether it is for good, and whether the method stays.")
        .default("308")
        .examples(&["302"]),
];

const RESPOND: &[Key] = &[
    key("status", Integer(200, 599), "Of the answer.")
        .default("200")
        .examples(&["404"]),
    key("body", Text, "The content.")
        .default("\"\"")
        .examples(&["\"gone\""]),
    key("content_type", Text, "Of the content.")
        .default("\"text/plain; charset=utf-8\"")
        .examples(&["\"text/html\""]),
];

const EDITS: &[Key] = &[
    key("set", TEXTS, "In place of what there may be.")
        .default("{}")
        .examples(&["{ x-env = \"live\" }"]),
    key("add", TEXTS, "Beside what there may be.")
        .default("{}")
        .examples(&["{ x-tag = \"a\" }"]),
    key("remove", List(&Text), "Names of fields.")
        .default("[]")
        .examples(&["[\"x-debug\"]"]),
];

const CACHE: &[Key] = &[
    key("enabled", Bool, "false: as if the table were not there.")
        .default("true")
        .examples(&["false"]),
    key("heuristic", Bool, "What has a Last-Modified and does not say how long it is fresh is so for a tenth of its age.")
        .default("false")
        .examples(&["true"]),
    key(
        "default_ttl",
        DURATION_OR_OFF,
        "How long what does not say so is fresh; never for requests with Cookie or Authorization.",
    )
    .default("\"off\"")
    .examples(&["\"10s\""]),
    key("store_set_cookie", Bool, "Responses with Set-Cookie too; the cookie then goes to everyone.")
        .default("false")
        .examples(&["true"]),
    key(
        "key_query",
        Either(&[Words(&["all", "none"]), List(&Text)]),
        "What of the query tells targets apart: \"all\", \"none\", or the parameters that count.",
    )
    .default("\"all\"")
    .examples(&["\"none\"", "[\"page\", \"q\"]"]),
    key("key_query_sort", Bool, "The order of parameters with different names does not count.")
        .default("false")
        .examples(&["true"]),
    key("vary_ignore", List(&Text), "Request fields that do not count where a Vary names them.")
        .default("[]")
        .examples(&["[\"user-agent\"]"]),
    key("max_variants", Integer(1, 1024), "Representations kept for one target.")
        .default("32")
        .examples(&["8"]),
    key("collapse", Bool, "Of many requests at once for what is not stored, one goes to a server.")
        .default("true")
        .examples(&["false"]),
    key(
        "stale_while_revalidate",
        DURATION_OR_OFF,
        "Where the response does not say: how long what is stale is used while it is renewed.",
    )
    .default("\"off\"")
    .examples(&["\"30s\""]),
    key("stale_if_error", DURATION_OR_OFF, "The same when servers fail or are down.")
        .default("\"1m\"")
        .examples(&["\"1h\"", "\"off\""]),
    key("cache_status", Bool, "Tell clients what became of it, in the field Cache-Status.")
        .default("true")
        .examples(&["false"]),
];

const CODING: Kind = Words(&["br", "zstd", "gzip"]);

const COMPRESS: &[Key] = &[
    key("enabled", Bool, "false: as if the table were not there.")
        .default("true")
        .examples(&["false"]),
    key("codings", List(&CODING), "The order decides among those that the client weighs equally.")
        .default("[\"br\", \"zstd\", \"gzip\"]")
        .examples(&["[\"zstd\", \"gzip\"]"]),
    key("min_size", Size, "Smaller responses stay as they are; 64KiB at most.")
        .default("\"1KiB\"")
        .examples(&["\"0B\""]),
    key("level", Table(LEVELS), "How hard each coding tries while a client waits.")
        .examples(&["{ gzip = 6 }"]),
    key("stored_level", Table(STORED_LEVELS), "The same for what the cache keeps, made in the background.")
        .examples(&["{ br = 11 }"]),
    key("types", List(&Text), "Media types; text/event-stream only if named in full.")
        .default(
            "[\"text/*\", \"application/json\", \"application/javascript\", \"application/xml\", \
             \"application/wasm\", \"image/svg+xml\", \"application/*+json\", \"application/*+xml\", \
             \"font/ttf\", \"font/otf\"]",
        )
        .examples(&["[\"text/*\", \"application/json\"]"]),
];

const LEVELS: &[Key] = &[
    key("br", Integer(0, 6), "Of brotli.")
        .default("4")
        .examples(&["5"]),
    key("zstd", Integer(1, 8), "Of zstd.")
        .default("3")
        .examples(&["5"]),
    key("gzip", Integer(1, 9), "Of gzip.")
        .default("5")
        .examples(&["6"]),
];

const STORED_LEVELS: &[Key] = &[
    key("br", Integer(0, 11), "Of brotli.")
        .default("9")
        .examples(&["11"]),
    key("zstd", Integer(1, 19), "Of zstd.")
        .default("12")
        .examples(&["19"]),
    key("gzip", Integer(1, 9), "Of gzip.")
        .default("9")
        .examples(&["6"]),
];

const UPSTREAM: &[Key] = &[
    key(
        "servers",
        List(&Either(&[Text, Table(SERVER)])),
        "Addresses, \"unix:/PATH\", names whose addresses are all servers, or \"srv+_http._tcp.NAME\".",
    )
    .examples(&[
        "[\"127.0.0.1:3000\", \"127.0.0.1:3001\"]",
        "[{ address = \"app.internal:3000\", weight = 2 }]",
    ])
        .own(),
    key(
        "balance",
        Words(&["round_robin", "least_connections", "peak_ewma", "random", "hash"]),
        "How the server of a request is chosen.",
    )
    .default("\"round_robin\"")
    .examples(&["\"least_connections\""]),
    key(
        "hash_key",
        Text,
        "What `hash` goes by, and only with it: \"client_ip\", \"path\", \"header:NAME\" or \"cookie:NAME\".",
    )
    .default("\"client_ip\"")
    .examples(&["\"header:x-tenant\""]),
    key("protocol", Words(&["http1"]), "What is spoken to servers.")
        .default("\"http1\"")
        .examples(&["\"http1\""]),
    key("host_header", Text, "The Host that servers see: \"preserve\", \"server\" (its address), or a name.")
        .default("\"preserve\"")
        .examples(&["\"server\"", "\"app.example.com\""]),
    key("connect_timeout", Duration, "For a connection, with TLS.")
        .default("\"3s\"")
        .examples(&["\"1s\""]),
    key("response_timeout", Duration, "From the request sent to the response head.")
        .default("\"1m\"")
        .examples(&["\"10s\""]),
    key("stall_timeout", Duration, "Between two pieces of a response.")
        .default("\"1m\"")
        .examples(&["\"10s\""]),
    key("stream_timeout", Duration, "The same for upgraded connections, event streams and gRPC.")
        .default("\"1h\"")
        .examples(&["\"1d\""]),
    key("max_in_flight", LIMIT, "Requests at once on a server, over all workers; more wait in the queue.")
        .default("\"off\"")
        .examples(&["100"]),
    key("queue", Either(&[OFF, Table(QUEUE)]), "Who waits for a server; \"off\": the excess is refused at once.")
        .examples(&["{ size = 100, timeout = \"1s\" }", "\"off\""]),
    key(
        "concurrency",
        Words(&["off", "adaptive"]),
        "adaptive: learn how many requests each server can work on from how long it takes to answer.",
    )
    .default("\"off\"")
    .examples(&["\"adaptive\""]),
    key("panic_below", Either(&[Share, OFF]), "When a smaller share of the servers accepts traffic, use all of them.")
        .default("\"off\"")
        .examples(&["\"30%\""]),
    key("tls", Either(&[Bool, OFF, Table(UPSTREAM_TLS)]), "TLS to the servers, verified.")
        .default("\"off\"")
        .examples(&["true", "{ ca = \"ca.pem\" }"]),
    key("sticky", Either(&[Bool, OFF, Table(STICKY)]), "A cookie brings each client back to its server.")
        .default("\"off\"")
        .examples(&["true", "{ ttl = \"1d\" }"]),
    key("slow_start", DURATION_OR_OFF, "After a recovery, and for servers added later, the share grows from little to full.")
        .default("\"10s\"")
        .examples(&["\"30s\"", "\"off\""]),
    key(
        "on_all_down",
        Words(&["try_anyway", "503"]),
        "When every server is out: any of them that is not drained, or a 503.",
    )
    .default("\"try_anyway\"")
    .examples(&["\"503\""]),
    key("keepalive", Table(KEEPALIVE), "Idle connections to servers.")
        .examples(&["{ max_idle = 64 }"]),
    key("health_check", Either(&[OFF, Path, Table(HEALTH_CHECK)]), "How servers are probed; a path alone is the table with that path.")
        .default("\"off\"")
        .examples(&["\"/healthz\"", "{ path = \"/healthz\", interval = \"2s\" }"]),
    key("ejection", Either(&[OFF, Table(EJECTION)]), "What the traffic itself tells of a server.")
        .examples(&["{ failures = 10 }", "\"off\""]),
    key("retry", Either(&[OFF, Table(RETRY)]), "Further attempts when one failed.")
        .examples(&["{ max_retries = 2 }", "\"off\""]),
];

const LIMIT: Kind = Either(&[OFF, Integer(1, 1_000_000)]);

const SERVER: &[Key] = &[
    key("address", Text, "As it would stand alone.")
        .examples(&["\"10.0.0.7:8080\""])
        .required(),
    key("weight", WEIGHT, "Its part of the traffic.")
        .default("1")
        .examples(&["5"]),
    key(
        "backup",
        Bool,
        "Gets traffic only when no other server accepts any.",
    )
    .default("false")
    .examples(&["false"]),
    key("max_in_flight", LIMIT, "In place of that of the upstream.").examples(&["10", "\"off\""]),
];

const QUEUE: &[Key] = &[
    key("size", Integer(0, 1_000_000), "How many may wait.")
        .default("1000")
        .examples(&["100"]),
    key("timeout", Duration, "For how long.")
        .default("\"5s\"")
        .examples(&["\"1s\""]),
];

const UPSTREAM_TLS: &[Key] = &[
    key(
        "ca",
        Text,
        "Who vouches for servers: \"system\", or a file with the certificates of authorities.",
    )
    .default("\"system\"")
    .examples(&["\"ca.pem\""]),
    key(
        "server_name",
        Text,
        "The name to verify and to send, in place of the server's own; or \"off\".",
    )
    .default("\"off\"")
    .examples(&["\"app.example.com\""]),
    key(
        "client_cert",
        Text,
        "Shown to servers that ask; or \"off\".",
    )
    .default("\"off\"")
    .examples(&["\"client.pem\""]),
    key("client_key", Text, "The key of `client_cert`.")
        .default("\"off\"")
        .examples(&["\"client.key\""]),
];

const STICKY: &[Key] = &[
    key(
        "cookie",
        Text,
        "Its name; by default \"weir-\" and the name of the upstream.",
    )
    .examples(&["\"server\""])
    .own(),
    key(
        "ttl",
        Either(&[Words(&["session"]), Duration]),
        "How long it is good.",
    )
    .default("\"session\"")
    .examples(&["\"1d\""]),
    key("path", Path, "For which paths.")
        .default("\"/\"")
        .examples(&["\"/app\""]),
    key("domain", Text, "For all hosts below it; or \"off\".")
        .default("\"off\"")
        .examples(&["\"example.com\""]),
    key(
        "secure",
        Either(&[Words(&["auto"]), Bool]),
        "auto: for clients that came by TLS, be it to a trusted proxy.",
    )
    .default("\"auto\"")
    .examples(&["true"]),
    key(
        "same_site",
        Words(&["lax", "strict", "none"]),
        "Whether pages of other sites send it.",
    )
    .default("\"lax\"")
    .examples(&["\"strict\""]),
];

const KEEPALIVE: &[Key] = &[
    key(
        "max_idle",
        Integer(0, 100_000),
        "For each server, shared out over the workers; 0: no reuse.",
    )
    .default("256")
    .examples(&["64"]),
    key(
        "idle",
        Duration,
        "Unless the server says how long it keeps them.",
    )
    .default("\"4s\"")
    .examples(&["\"1m\""]),
    key("max_age", Duration, "Of a connection.")
        .default("\"10m\"")
        .examples(&["\"1h\""]),
];

const HEALTH_CHECK: &[Key] = &[
    key(
        "type",
        Words(&["http", "tcp", "grpc"]),
        "tcp only connects; grpc asks the health service of gRPC.",
    )
    .default("\"http\"")
    .examples(&["\"tcp\""]),
    key(
        "path",
        Path,
        "What is asked for; with grpc, \"/\" or \"/my.Service\".",
    )
    .default("\"/\"")
    .examples(&["\"/healthz\""]),
    key("method", Text, "Of probes.")
        .default("\"GET\"")
        .examples(&["\"HEAD\""]),
    key(
        "host",
        Text,
        "The Host of probes, and with `tls` the name; \"off\": the server's address.",
    )
    .default("\"off\"")
    .examples(&["\"app.example.com\""]),
    key("headers", TEXTS, "Fields of probes.")
        .default("{}")
        .examples(&["{ x-probe = \"1\" }"]),
    key(
        "status",
        Either(&[Text, Integer(100, 599)]),
        "What is healthy.",
    )
    .default("\"200-399\"")
    .examples(&["\"200, 204\"", "200"]),
    key("body", Text, "The answer must contain it; or \"off\".")
        .default("\"off\"")
        .examples(&["\"ok\""]),
    key(
        "port",
        Either(&[OFF, PORT]),
        "Another port than that of the traffic.",
    )
    .default("\"off\"")
    .examples(&["8081"]),
    key("interval", Duration, "Between two probes.")
        .default("\"5s\"")
        .examples(&["\"2s\""]),
    key(
        "fast_interval",
        Duration,
        "The same while the state is changing.",
    )
    .default("\"1s\"")
    .examples(&["\"500ms\""]),
    key("timeout", Duration, "For an answer.")
        .default("\"2s\"")
        .examples(&["\"1s\""]),
    key(
        "rise",
        Integer(1, 1000),
        "Successes in a row until a server is up.",
    )
    .default("2")
    .examples(&["1"]),
    key(
        "fall",
        Integer(1, 1000),
        "Failures in a row until it is down.",
    )
    .default("3")
    .examples(&["5"]),
];

const EJECTION: &[Key] = &[
    key(
        "failures",
        Integer(1, 10_000),
        "In a row, over at least a second.",
    )
    .default("5")
    .examples(&["10"]),
    key(
        "base",
        Duration,
        "The rest of an ejected server; doubles each time that it fails again soon.",
    )
    .default("\"10s\"")
    .examples(&["\"30s\""]),
    key("max", Duration, "The longest rest.")
        .default("\"5m\"")
        .examples(&["\"10m\""]),
    key(
        "max_share",
        Share,
        "Of the servers; never more, but always one.",
    )
    .default("\"50%\"")
    .examples(&["\"25%\""]),
];

const RETRY: &[Key] = &[
    key("max_retries", Integer(0, 10), "Beyond failed connects.")
        .default("1")
        .examples(&["2"]),
    key(
        "budget",
        Share,
        "Of the requests of the last 10 s, plus 10 a second.",
    )
    .default("\"20%\"")
    .examples(&["\"10%\""]),
    key(
        "on",
        List(&Words(&[
            "connect", "reset", "timeout", "502", "503", "504",
        ])),
        "What an attempt must have come to.",
    )
    .default("[\"connect\", \"reset\", \"502\", \"503\"]")
    .examples(&["[\"connect\", \"timeout\"]"]),
    key(
        "methods",
        List(&Text),
        "Of requests that may be sent twice.",
    )
    .default("[\"GET\", \"HEAD\", \"OPTIONS\"]")
    .examples(&["[\"GET\", \"HEAD\"]"]),
];
