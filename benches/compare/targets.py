"""The origin and the proxies, each configured for the same work (`work.py`)."""

import http.client
import os
import re
import resource

from harness import LOAD_CORE, PROXY_CORE, Failure, family, first_line, free_ports, wait_for_port
from work import CACHED, FORWARDED_FIELDS, HOSTS, PREFIX, UPSTREAMS, make_bodies

BROTLI_FOR_NGINX = "/usr/lib/nginx/modules/ngx_http_brotli_filter_module.so"


class Origin:
    """nginx serving a few files on four ports: the same for everyone, and always on the load's core."""

    def __init__(self, workshop):
        self.workshop = workshop
        *self.ports, self.status_port = free_ports(5)
        self.digests = make_bodies(workshop.directory)
        seen = "".join(f"{name}: $http_{name.replace('-', '_')}\\n" for name in FORWARDED_FIELDS)
        listen = "".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in self.ports)
        (workshop.directory / "origin.conf").write_text(nginx_frame(workshop.directory, "origin") + f"""
http {{
  include {workshop.directory}/origin-temporary.conf;
  access_log off; sendfile on; tcp_nopush on; default_type text/html;
  keepalive_requests 1000000000; keepalive_timeout 3600s;
  open_file_cache max=100 inactive=1h; open_file_cache_valid 1h;
  server {{
    {listen}
    root {workshop.directory}/www;
    location {CACHED}/ {{ add_header Cache-Control max-age=3600; }}
    location = {CACHED}/json {{ default_type application/json; add_header Cache-Control max-age=3600; }}
    location = {PREFIX}/seen {{ default_type text/plain; return 200 "protocol: $server_protocol\\n{seen}"; }}
  }}
  server {{ listen 127.0.0.1:{self.status_port}; location / {{ stub_status; }} }}
}}
""")
        self.child = workshop.start(nginx_command(workshop.directory, "origin"), LOAD_CORE, "origin")
        wait_for_port(self.status_port, self.child, workshop, "origin")

    def counters(self):
        """Connections accepted and requests served so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.status_port, timeout=10)
        connection.request("GET", "/")
        text = connection.getresponse().read().decode()
        connection.close()
        accepted, _, requests = re.search(r"(\d+) (\d+) (\d+)", text).groups()
        return int(accepted), int(requests)


def nginx_frame(directory, name, master="on"):
    temporary = "".join(
        f"{kind}_temp_path {directory}/{name}-{kind}; "
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    frame = (
        f"daemon off; master_process {master}; worker_processes 1; {user} pid {directory}/{name}.pid;\n"
        f"error_log {directory}/{name}.log error; worker_rlimit_nofile {file_limit()};\n"
        f"events {{ worker_connections {file_limit() - 100}; }}\n"
    )
    (directory / f"{name}-temporary.conf").write_text(temporary)
    return frame


def nginx_command(directory, name):
    return ["nginx", "-p", directory, "-e", directory / f"{name}.log", "-c", directory / f"{name}.conf"]


def file_limit():
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 20000)


class Target:
    """A proxy with one worker on its own core. `large` tunes it for bodies of 64 KiB and more, `caching` lets it store
    responses, and `encoding` apply brotli."""

    name = None

    def __init__(self, workshop, origin, large=False, measured=False, caching=False, encoding=False):
        self.workshop, self.origin, self.large, self.measured = workshop, origin, large, measured
        self.caching, self.encoding = caching, encoding
        self.directory = workshop.directory
        self.child = None

    @classmethod
    def suits(cls, case):
        """Whether it can do what the case asks."""
        return True

    def start(self, wrapper=()):
        self.plain, self.tls, self.admin = free_ports(3)
        command = self.configure()
        self.child = self.workshop.start([*wrapper, *command], PROXY_CORE, self.name)
        wait_for_port(self.plain, self.child, self.workshop, self.name)
        return self

    def stop(self):
        if self.child is not None:
            self.workshop.stop(self.child, patience=10)
            self.child = None

    def processes(self):
        if self.child.poll() is not None:
            raise Failure(f"{self.name} ended:\n{self.workshop.log(self.name)}")
        return family(self.child.pid)

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path


class Nginx(Target):
    name = "nginx"

    @staticmethod
    def version():
        return first_line(["nginx", "-v"]).rsplit("/", 1)[-1].split()[0]

    def configure(self):
        buffers = (
            "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;"
            if self.large else ""
        )
        # A location with a `proxy_set_header` of its own inherits none, so all of them stand in each location.
        work = self.write("nginx-work.conf", (CACHE_OF_LOCATION if self.caching else "") + """
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $remote_addr;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host $http_host;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header Forwarded "for=$remote_addr;host=$http_host;proto=$scheme";
proxy_set_header Via "1.1 nginx";
proxy_set_header X-Request-Id $request_id;
add_header Via "1.1 nginx" always;
add_header X-Request-Id $request_id always;
""")
        servers = " ".join(f"server 127.0.0.1:{port};" for port in self.origin.ports)
        upstreams = "\n".join(
            f"  upstream {name} {{ {servers} keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 300s; }}"
            for name in UPSTREAMS.values()
        )
        locations = "\n".join(
            f"    location {prefix} {{ proxy_pass http://{name}; include {work}; }}"
            for prefix, name in UPSTREAMS.items()
        )
        sites = "\n".join(
            f"  server {{\n    listen 127.0.0.1:{self.plain}; listen 127.0.0.1:{self.tls} ssl http2;\n"
            f"    server_name {host};\n{locations}\n  }}"
            for host in HOSTS
        )
        module = f"load_module {BROTLI_FOR_NGINX};\n" if self.encoding else ""
        frame = nginx_frame(self.directory, "nginx", "off" if self.measured else "on")
        self.write("nginx.conf", module + frame + f"""
http {{
  {self.cache() if self.caching else ""}
  {BROTLI if self.encoding else ""}
  include {self.directory}/nginx-temporary.conf;
  access_log off; sendfile on; tcp_nopush {"off" if self.caching else "on"}; server_tokens off;
  keepalive_requests 1000000000; keepalive_timeout 300s; client_header_timeout 10s; client_body_timeout 30s;
  send_timeout 30s; client_max_body_size 100m;
  proxy_connect_timeout 3s; proxy_read_timeout 60s; proxy_send_timeout 60s; {buffers}
  ssl_certificate {self.directory}/site.pem; ssl_certificate_key {self.directory}/site.key;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519; ssl_session_cache shared:tls:10m;
  server {{ listen 127.0.0.1:{self.plain} default_server backlog=4096;
            listen 127.0.0.1:{self.tls} default_server ssl http2 backlog=4096; return 404; }}
  server {{ listen 127.0.0.1:{self.admin}; location / {{ stub_status; }} }}
{upstreams}
{sites}
}}
""")
        return nginx_command(self.directory, "nginx")

    def cache(self):
        """In files of a file system in memory, whose descriptors stay open: they go out by sendfile. With `tcp_nopush`
        each of them waits for an acknowledgement, which costs half as much again and five sixths of the throughput."""
        files = self.workshop.directory_in_memory()
        return (f"proxy_cache_path {files} levels=1:2 keys_zone=hits:10m max_size=256m inactive=1h use_temp_path=off; "
                "open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;")


# Each of the other caches tells the verdict, too.
CACHE_OF_LOCATION = """
proxy_cache hits;
add_header X-Cache $upstream_cache_status always;
"""
# At the level that the module has by default.
BROTLI = "brotli on; brotli_comp_level 6; brotli_types application/json;"


class Haproxy(Target):
    name = "haproxy"

    @classmethod
    def suits(cls, case):
        return not case.caching

    @staticmethod
    def version():
        return first_line(["haproxy", "-v"]).split()[2]

    def configure(self):
        # Longest prefix of host and path, looked up in a tree: the way HAProxy documents for many routes.
        routes = self.write("haproxy-routes.map", "".join(
            f"{host}{prefix} {name}\n" for host in HOSTS for prefix, name in UPSTREAMS.items()
        ))
        backends = "\n".join(
            f"backend {name}\n  balance roundrobin\n" + "".join(
                f"  server s{number} 127.0.0.1:{port}\n" for number, port in enumerate(self.origin.ports)
            )
            for name in UPSTREAMS.values()
        )
        buffers = "tune.bufsize 32768" if self.large else ""  # of 16 to 128 KiB the best for both sizes of body
        config = self.write("haproxy.cfg", f"""
global
  nbthread 1
  maxconn {(file_limit() - 200) // 2}
  {buffers}
defaults
  mode http
  timeout http-request 10s
  timeout client 30s
  timeout http-keep-alive 300s
  timeout connect 3s
  timeout queue 5s
  timeout server 60s
  http-reuse always
  retries 1
  option redispatch
frontend web
  bind 127.0.0.1:{self.plain} backlog 4096
  bind 127.0.0.1:{self.tls} backlog 4096 ssl crt {self.directory}/both.pem alpn h2,http/1.1 curves X25519
  http-request set-var(txn.id) uuid()
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Real-IP %[src]
  http-request set-header Forwarded "for=%[src];host=%[req.hdr(host)];proto=%[ssl_fc,iif(https,http)]"
  http-request set-header Via "1.1 haproxy"
  http-request set-header X-Request-Id %[var(txn.id)]
  http-response set-header Via "1.1 haproxy"
  http-response set-header X-Request-Id %[var(txn.id)]
  use_backend %[base,lower,map_beg({routes})]
frontend stats
  bind 127.0.0.1:{self.admin}
  stats enable
  stats uri /
{backends}
""")
        return ["haproxy", "-db", "-f", config]


class Varnish(Target):
    """For the cache alone. A hit takes no part in routing, and Varnish has no brotli."""

    name = "varnish"
    # One pool, whose threads are all there from the start: one that ended would take its CPU time with it.
    parameters = {
        "thread_pools": 1, "thread_pool_min": 500, "thread_pool_max": 500, "timeout_idle": 300, "default_ttl": 0,
        "http_gzip_support": "off",
    }

    @staticmethod
    def version():
        return re.search(r"varnish-([\d.]+)", first_line(["varnishd", "-V"]))[1]

    @classmethod
    def suits(cls, case):
        return case.caching and not case.coding

    def configure(self):
        backends = "\n".join(
            f'backend s{number} {{ .host = "127.0.0.1"; .port = "{port}"; }}'
            for number, port in enumerate(self.origin.ports)
        )
        members = " ".join(f"servers.add_backend(s{number});" for number in range(len(self.origin.ports)))
        # As it comes, Varnish passes on whatever has a cookie; no other target does.
        config = self.write("varnish.vcl", f"""
vcl 4.1;
import directors;
{backends}
sub vcl_init {{ new servers = directors.round_robin(); {members} }}
sub vcl_recv {{
  set req.backend_hint = servers.backend();
  if (req.method == "GET" || req.method == "HEAD") {{ return (hash); }}
}}
sub forwarded {{
  set req.http.X-Forwarded-Proto = "http";
  set req.http.X-Forwarded-Host = req.http.Host;
  set req.http.X-Real-IP = client.ip;
  set req.http.Forwarded = "for=" + client.ip + ";host=" + req.http.Host + ";proto=http";
  set req.http.Via = "1.1 varnish";
  set req.http.X-Request-Id = req.xid;
}}
sub vcl_miss {{ call forwarded; }}
sub vcl_pass {{ call forwarded; }}
sub vcl_deliver {{
  set resp.http.Via = "1.1 varnish";
  set resp.http.X-Request-Id = req.xid;
  set resp.http.X-Cache = obj.hits;
}}
""")
        settings = [part for name, value in self.parameters.items() for part in ("-p", f"{name}={value}")]
        return ["varnishd", "-F", "-j", "none", "-a", f"127.0.0.1:{self.plain}", "-f", config, "-s", "malloc,256m",
                "-n", self.directory / f"varnish-{self.plain}", *settings]


class VarnishAsShipped(Varnish):
    """With the parameters that it has by itself: two pools whose threads come with the load."""

    name = "varnish-as-shipped"
    parameters = {}


class Weir(Target):
    name = "weir"
    binary = None
    # Of every upstream, beside the usual.
    keys = ""

    @classmethod
    def version(cls):
        return first_line([cls.binary, "--version"]).split()[-1]

    def configure(self):
        servers = ", ".join(f'"127.0.0.1:{port}"' for port in self.origin.ports)
        upstreams = "\n".join(
            f'[upstream.{name}]\nservers = [{servers}]\nconnect_timeout = "3s"\nresponse_timeout = "60s"\n'
            f'stall_timeout = "60s"\n{self.keys}\n'
            for name in UPSTREAMS.values()
        )
        more = ("cache = true\n" if self.caching else "") + ("compress = true\n" if self.encoding else "")
        routes = "\n".join(
            f'[route.{name}-{number:02}]\nhost = "{host}"\npath = "{prefix}"\nupstream = "{name}"\n{more}'
            for number, host in enumerate(HOSTS) for prefix, name in UPSTREAMS.items()
        )
        # Under callgrind there is no TLS load, and no TLS set-up either.
        tls = "" if self.measured else f"""
[listen.secure]
address = "127.0.0.1:{self.tls}"
keepalive = "300s"
[listen.secure.tls]
certificates = [{{ cert = "{self.directory}/site.pem", key = "{self.directory}/site.key" }}]
"""
        config = self.write(f"{self.name}.toml", f"""
[process]
workers = 1
[admin]
address = "127.0.0.1:{self.admin}"
[log]
level = "warn"
access = "off"
[listen.plain]
address = "127.0.0.1:{self.plain}"
keepalive = "300s"
{tls}
{upstreams}
{routes}
""")
        return [self.binary, "run", "-c", config]


def weir_with(name, keys):
    return type(name, (Weir,), {"name": name, "keys": keys})


TARGETS = {"nginx": Nginx, "haproxy": Haproxy, "varnish": Varnish, "weir": Weir}
# Not measured unless named.
VARIANTS = {kind.name: kind for kind in (
    VarnishAsShipped,
    *(weir_with(f"weir-{policy}", f'balance = "{policy}"')
      for policy in ("least_connections", "random", "peak_ewma", "hash")),
    weir_with("weir-adaptive", 'concurrency = "adaptive"'),
)}
KNOWN = TARGETS | VARIANTS
