"""The proxy under test: its configuration as nested dicts (the very shape of weir's TOML), its start, its addresses.

PROXY_KIND=nginx puts nginx in weir's place, which tells whether a check asks for something that no proxy does.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import time

from . import machine, processes, stand_in
from .checks import eventually, expect

KIND = os.environ.get("PROXY_KIND", "weir")
WEIR = pathlib.Path(os.environ.get("WEIR", machine.ROOT / "target/release/weir")).absolute()


class Proxy:
    def __init__(self, config, cpus=None):
        self.config = config
        self.admin_port = machine.free_port()
        self.file = machine.work_dir() / f"proxy-{self.admin_port}" / ("nginx.conf" if KIND == "nginx" else "weir.toml")
        self.file.parent.mkdir()
        self.write(config)
        self.started_at = time.monotonic()
        self.child = processes.start("proxy", self._command(), cpus=cpus)

    def _command(self):
        return stand_in.command(self.file) if KIND == "nginx" else [WEIR, "run", "-c", self.file]

    def write(self, config, in_place=False):
        """Writes the configuration: as a new file moved over the old one, or over the old one's bytes."""
        self.config = config
        if in_place:
            with self.file.open("r+") as file:
                file.write(self.text(config))
                file.truncate()
        else:
            self.put(self.text(config))

    def put(self, text):
        """Moves a file with that text over the configuration."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def text(self, config):
        if KIND == "nginx":
            return stand_in.render(config, self.file.parent)
        return toml({"admin": {"address": f"127.0.0.1:{self.admin_port}"}, **config})

    def taken_by_itself(self):
        """weir watches its file; nginx must be told."""
        if KIND == "nginx":
            self.child.signal(stand_in.RELOAD)

    def ready(self, seconds=10):
        def serving():
            expect(self.child.running(), f"the proxy ended at its start:\n{self.child.log_tail()}")
            if KIND == "nginx":
                return all(accepts(self.port(name)) for name in self.config["listen"])
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.admin("/readyz")[0] == 200

        eventually(serving, seconds, "the proxy is ready", pause=0.02)
        return self

    def port(self, listener="web"):
        return int(self.config["listen"][listener]["address"].rpartition(":")[2])

    def url(self, path="/", listener="web"):
        scheme = "https" if "tls" in self.config["listen"][listener] else "http"
        return f"{scheme}://localhost:{self.port(listener)}{path}"

    def h2c_url(self, path="/"):
        """Where HTTP/2 with prior knowledge is spoken in cleartext: for weir the same port as HTTP/1.1."""
        return f"http://localhost:{stand_in.h2c_port(self.port())}{path}" if KIND == "nginx" else self.url(path)

    def admin(self, path, method="GET", body=None):
        """Status and body of a request to weir's admin address; `body` is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            fields = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), fields)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def status(self):
        return json.loads(self.admin("/api/status")[1])

    def counted(self, metric):
        """The values of one metric of weir, each with its labels as a dict."""
        lines = [line for line in self.admin("/metrics")[1].splitlines() if line.startswith(metric + "{")]
        return [(dict(re.findall(r'(\w+)="([^"]*)"', line)), float(line.rpartition(" ")[2])) for line in lines]

    def sum_of(self, metric, **labels):
        return sum(value for found, value in self.counted(metric) if labels.items() <= found.items())

    def rss(self):
        return self.child.rss()

    def expect_alive(self):
        expect(self.child.running(), f"the proxy ended with {self.child.popen.poll()}:\n{self.child.log_tail()}")

    def stop(self):
        self.child.kill()


def start_proxy(config, cpus=None):
    """Starts the proxy and waits until it serves."""
    need()
    return Proxy(config, cpus).ready()


def need():
    """Says early and clearly that there is nothing to test."""
    if KIND == "nginx":
        machine.need("nginx")
        return
    expect(os.access(WEIR, os.X_OK), f"no weir at {WEIR}: `cargo build --release`, or set WEIR to the program")


def listeners(*names):
    """Listener tables on free ports of loopback; `secure` speaks TLS."""
    tables = {name: {"address": f"127.0.0.1:{machine.free_port()}"} for name in names}
    if "secure" in tables:
        cert, key = machine.certificate()
        tables["secure"]["tls"] = {"certificates": [{"cert": str(cert), "key": str(key)}]}
    return tables


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def toml(tables):
    """The dicts as TOML: `[a.b]` for a dict that holds a dict of dicts or stands at a table's place, inline below."""
    lines = []
    for kind, table in tables.items():
        named = {kind: table} if kind in ("process", "admin", "log", "cache", "notify") else {
            f"{kind}.{name}": keys for name, keys in table.items()}
        for heading, keys in named.items():
            lines.append(f"[{heading}]")
            lines += [f"{key} = {_value(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def _value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
