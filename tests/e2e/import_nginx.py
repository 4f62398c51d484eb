#!/usr/bin/env python3
"""`weir import nginx`: each config of tests/import/, run by a real nginx and, imported, by weir, before the same origins. Twenty
requests to each: status, body, `Location`, fields, and what the origins saw must be the same.

    WEIR=target/release/weir tests/e2e/import_nginx.py

Told apart on purpose, as the import says: the pages that nginx writes itself (their bodies), relative redirects (nginx makes them
absolute), fields that weir adds for servers (`X-Forwarded-*`, `Via`…) and for clients (`Via`, `X-Request-Id`, `Cache-Status`).
"""

import base64
import collections
import contextlib
import gzip
import http.client
import http.server
import re
import shutil
import socket
import ssl
import threading
import urllib.parse

from support import machine, processes, proxy
from support.checks import equal, eventually, expect, main

CONFIGS = machine.ROOT / "tests/import"
# What weir tells servers by itself, where nginx tells it only if it is told to.
ADDED = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix", "x-real-ip", "forwarded", "via",
         "x-request-id"}
# Of one connection, not of the request.
OF_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}
COMPARED = ["content-type", "content-encoding", "cache-control", "etag", "x-frame-options", "strict-transport-security",
            "x-content-type-options", "x-powered-by", "x-origin", "set-cookie"]

Probe = collections.namedtuple("Probe", "method host target fields body secure", defaults=("GET", "", "/", {}, b"", False))
Answer = collections.namedtuple("Answer", "status fields body")


def get(host, target, secure=False, **fields):
    return Probe("GET", host, target, {name.replace("_", "-"): value for name, value in fields.items()}, b"", secure)


def post(host, target, body, **fields):
    return Probe("POST", host, target, {name.replace("_", "-"): value for name, value in fields.items()}, body)


def socket_io(target):
    key = base64.b64encode(bytes(16)).decode()
    return Probe("GET", APP, target, {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                      "Sec-WebSocket-Key": key})


APP, SITE = "app.example.com", "www.example.com"
PROBES = {
    "node": [
        get(APP, "/"), get(APP, "/page?a=1&b=2"), get(APP, "/a%20b/c%2Fd?x=%20"), get(APP, "/cookie", cookie="sid=7"),
        get(APP, "/status/404"), get(APP, "/status/301"), get(APP, "/large", accept_encoding="gzip"), get(APP, "/large"),
        get(APP, "/tiny", accept_encoding="gzip"), post(APP, "/form", b"a=1", content_type="application/x-www-form-urlencoded"),
        post(APP, "/upload", bytes(200_000)), Probe("DELETE", APP, "/items/7"), Probe("HEAD", APP, "/large"),
        socket_io("/socket.io/?EIO=4&transport=websocket"), get(APP, "/socket.io/?EIO=4&transport=polling"),
        get(APP, "/socket.io"), get(APP, "/healthz"), get(APP, "/admin/users"), get("other.example.com", "/by-another-name"),
        get(APP, "/", x_custom="kept", accept_language="de"),
    ],
    "split": [
        get(SITE, "/"), get(SITE, "/"), get(SITE, "/page?x=1"), get(SITE, "/page?x=2"), get(SITE, "/page?x=1"),
        get(SITE, "/fresh"), get(SITE, "/fresh"), get(SITE, "/private"), get(SITE, "/private"),
        get(SITE, "/large.css", accept_encoding="gzip"), get(SITE, "/assets/logo.svg"), get(SITE, "/assets"),
        get(SITE, "/api/items?page=2"), post(SITE, "/api/items", b"{}", content_type="application/json"),
        post(SITE, "/api/items", bytes(4096)), get(SITE, "/api/status/503"), get(SITE, "/legacy/a/b?c=d"),
        get(SITE, "/robots.txt"), get(SITE, "/docs?q=1"), get(SITE, "/docs/deep"),
    ],
    "tls": [
        get("example.com", "/"), get(SITE, "/a/b?c=d"), get("example.com", "/.well-known/acme-challenge/token"),
        get(SITE, "/.well-known/acme-challenge"), get("old.example.net", "/x?y=1"), get("old.example.net", "/"),
        get("example.com", "/", True), get("example.com", "/p%20q?r=s", True), get(SITE, "/", True), get(SITE, "/page?a=1", True),
        get(SITE, "/blog", True), get(SITE, "/blog/?x=1", True), get(SITE, "/blogs", True), get(SITE, "/team", True),
        get(SITE, "/shop/cart?id=1", True), get(SITE, "/status", True), get(SITE, "/status/404", True),
        Probe("POST", SITE, "/form", {"Content-Type": "text/plain"}, b"hello", True), get("unknown.example.com", "/", True),
        get(SITE, "/cookie", True),
    ],
}


def body(checks):
    machine.need("nginx", "openssl")
    proxy.need()
    for name, probes in PROBES.items():
        equal(len(probes), 20, f"probes of {name}")
        print(name)
        with contextlib.ExitStack() as stack:
            side_by_side(checks, name, probes, stack)


def side_by_side(checks, name, probes, stack):
    text = (CONFIGS / name / "nginx.conf").read_text()
    origins = {port: stack.enter_context(Origin()) for port in sorted(set(re.findall(r"127\.0\.0\.1:(\d{4})\b", text)))}
    nginx = Nginx(name, text, origins)
    weir = Weir(name, text, origins)
    for number, probe in enumerate(probes, 1):
        scheme = "https" if probe.secure else "http"
        with checks.step(f"{number}. {probe.method} {scheme}://{probe.host}{probe.target}") as figure:
            by_nginx = seen_by(nginx, origins, probe)
            by_weir = seen_by(weir, origins, probe)
            compare(probe, by_nginx, by_weir)
            figure(f"{by_weir[0].status}, {len(by_weir[1])} at the origins")
    with checks.step("both are still there"):
        nginx.child.running() and weir.child.running() or expect(False, weir.child.log_tail())
    nginx.child.kill()
    weir.child.kill()


def seen_by(server, origins, probe):
    """The answer to a probe, and what origins saw of it."""
    for origin in origins.values():
        origin.seen.clear()
    answer = server.ask(probe)
    seen = [request for origin in origins.values() for request in origin.seen]
    return answer, [(*request, server.as_usual(fields)) for *request, fields in seen]


def compare(probe, by_nginx, by_weir):
    (expected, asked), (found, asked_by_weir) = by_nginx, by_weir
    equal(found.status, expected.status, "status")
    equal(absolute(probe, found), absolute(probe, expected), "Location")
    equal(len(asked_by_weir), len(asked), "requests at the origins")
    # The pages of nginx are its own.
    if asked or expected.status < 300:
        equal(decoded(found), decoded(expected), "body")
        for field in COMPARED:
            equal(weak(found.fields.get(field)), weak(expected.fields.get(field)), field)
    for one, other in zip(asked, asked_by_weir):
        equal(other[:3], one[:3], "method, target and body at the origin")
        fields, wanted = dict(other[3]), dict(one[3])
        for name in ADDED - wanted.keys():
            fields.pop(name, None)
        equal(fields, wanted, "fields at the origin")


def absolute(probe, answer):
    location = answer.fields.get("location")
    base = f"{'https' if probe.secure else 'http'}://{probe.host}{probe.target}"
    # nginx puts the port that it listens on into its own; a real one would be the scheme's.
    return location and re.sub(rf"^(https?://{re.escape(probe.host)}):\d+", r"\1", urllib.parse.urljoin(base, location))


def weak(value):
    """Both make an ETag weak when they encode."""
    return value and value.removeprefix("W/")


def decoded(answer):
    return gzip.decompress(answer.body) if answer.fields.get("content-encoding") == "gzip" and answer.body else answer.body


class Origin:
    """Answers by the path, and remembers what it saw. `seen` holds method, target, body and fields of requests."""

    def __init__(self):
        self.seen, self.port = [], machine.free_port()

    def __enter__(self):
        handler = type("Handler", (Handler,), {"origin": self})
        self.server = Server(("127.0.0.1", self.port), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A proxy that is killed leaves its connections."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def any_method(self):
        content = self.content()
        fields = {name.lower(): value for name, value in self.headers.items() if name.lower() not in OF_CONNECTION}
        self.origin.seen.append((self.command, self.path, content, fields))
        if self.headers.get("Upgrade"):
            return self.switch()
        path = self.path.split("?")[0]
        status = int(path.rsplit("/", 1)[1]) if "/status/" in path else 200
        text = f"{self.command} {self.path} {len(content)}\n".encode()
        if path.startswith("/large"):
            text *= 300
        self.send_response(status)
        for name, value in self.fields(path, status):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = any_method

    def fields(self, path, status):
        yield "Content-Type", "text/css" if path.endswith(".css") else "text/plain"
        yield "X-Origin", "python"
        yield "X-Powered-By", "Express"
        if status == 301:
            yield "Location", "/elsewhere"
        if path == "/fresh":
            yield "Cache-Control", "max-age=60"
        if path == "/private":
            yield "Cache-Control", "private"
        if path == "/cookie":
            yield "Set-Cookie", "sid=8; Path=/"

    def content(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            content = b""
            while length := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def switch(self):
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.wfile.write(self.rfile.read(4))
        self.close_connection = True

    def log_message(self, *_):
        pass


class Side:
    """A proxy on free ports in place of 80 and 443."""

    def __init__(self, name, text, origins):
        self.folder = machine.work_dir() / f"{type(self).__name__.lower()}-{name}"
        (self.folder / "tls").mkdir(parents=True)
        (self.folder / "cache").mkdir()
        for path in [self.folder, self.folder / "cache"]:
            path.chmod(0o777)
        for path, suffix in zip(machine.certificate(), ["pem", "key"]):
            shutil.copy(path, self.folder / "tls" / f"example.{suffix}")
        self.ports = {"80": machine.free_port(), "443": machine.free_port()}
        self.listens = [port for port in self.ports if re.search(rf"listen {port}\b", text)]
        conf = self.folder / "nginx.conf"
        conf.write_text(self.arranged(text, origins))
        self.start(conf)

    def arranged(self, text, origins):
        """What differs from machine to machine: ports, folders, and the files of the package."""
        text = re.sub(r"^.*\[::\].*\n|^pid .*\n", "", text, flags=re.M)
        text = re.sub(r"listen (80|443)\b", lambda found: f"listen 127.0.0.1:{self.ports[found[1]]}", text)
        text = re.sub(r"127\.0\.0\.1:(\d{4})\b", lambda found: f"127.0.0.1:{origins[found[1]].port}", text)
        text = text.replace("/var/cache/nginx/site", str(self.folder / "cache"))
        return text.replace("include mime.types", "include /etc/nginx/mime.types")

    def as_usual(self, fields):
        """Fields that tell the port, as if it were the scheme's."""
        usual = {str(port): name for name, port in self.ports.items()}
        return {name: usual.get(value, value) for name, value in fields.items()}

    def ask(self, probe):
        port = self.ports["443" if probe.secure else "80"]
        if probe.fields.get("Upgrade"):
            return self.upgrade(probe, port)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        if probe.secure:
            connection = Secure(probe.host, port)
        connection.putrequest(probe.method, probe.target, skip_host=True, skip_accept_encoding=True)
        fields = {"Host": probe.host, **probe.fields}
        if probe.body:
            fields["Content-Length"] = str(len(probe.body))
        for name, value in fields.items():
            connection.putheader(name, value)
        # Whoever refuses a body may close before it has come.
        with contextlib.suppress(ConnectionError):
            connection.endheaders(probe.body or None)
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        content = answer.read()
        connection.close()
        return Answer(answer.status, fields, content)

    def upgrade(self, probe, port):
        """Four bytes there and back over what was a request."""
        lines = [f"GET {probe.target} HTTP/1.1", f"Host: {probe.host}", *(f"{name}: {value}" for name, value in probe.fields.items())]
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(1)
                expect(piece, f"closed after {head!r}")
                head += piece
            connection.sendall(b"ping")
            echo = b""
            while piece := connection.recv(4 - len(echo)):
                echo += piece
                if len(echo) == 4:
                    break
        return Answer(int(head.split()[1]), {}, echo)


class Secure(http.client.HTTPSConnection):
    """A connection to a port of loopback that names another host in its handshake."""

    def __init__(self, name, port):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        super().__init__("127.0.0.1", port, timeout=10, context=context)
        self.name = name

    def connect(self):
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.name)


class Nginx(Side):
    def start(self, conf):
        command = ["nginx", "-e", "stderr", "-c", conf, "-p", self.folder, "-g", f"daemon off; pid {self.folder}/nginx.pid;"]
        self.child = processes.start("nginx", command)
        for port in self.listens:
            eventually(lambda port=port: self.listening(port), 10, "nginx listens")

    def listening(self, port):
        expect(self.child.running(), f"nginx ended:\n{self.child.log_tail()}")
        return proxy.accepts(self.ports[port])


class Weir(Side):
    def start(self, conf):
        imported = processes.run([proxy.WEIR, "import", "nginx", conf], 20)
        equal(imported.returncode, 0, f"exit code of the import ({imported.stderr})")
        file = self.folder / "weir.toml"
        admin = machine.free_port()
        file.write_text(f'{imported.stdout}\n[admin]\naddress = "127.0.0.1:{admin}"\n')
        checked = processes.run([proxy.WEIR, "check", "-c", file], 20)
        equal(checked.returncode, 0, f"exit code of the check ({checked.stderr})")
        self.child = processes.start("weir", [proxy.WEIR, "run", "-c", file])
        eventually(lambda: self.serving(admin), 20, "weir is ready", pause=0.02)

    def serving(self, admin):
        expect(self.child.running(), f"weir ended:\n{self.child.log_tail()}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=5)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False


if __name__ == "__main__":
    main(body, limit=120)
