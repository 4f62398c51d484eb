#!/usr/bin/env python3
"""Real clients and real servers through the proxy: curl, Chromium, wrk, h2load, Python in front; Node, Express, nginx,
Python behind. Small answers, 64 MiB and 1 GiB both ways, hashes compared, the proxy's memory watched.

    WEIR=target/release/weir tests/e2e/clients_and_servers.py
"""

import hashlib
import html
import http.client
import json
import pathlib
import re
import sys
import threading
import time

from support import load, machine, processes, proxy
from support.checks import equal, eventually, expect, main
from support.machine import MIB
from support.nginx import Nginx

ORIGINS = pathlib.Path(__file__).resolve().parent / "origins"
SERVERS = ["node", "express", "nginx", "python"]
GROWTH_LIMIT = 16 * MIB


def body(checks):
    machine.need("curl", "nginx", "node", "openssl", "wrk", "h2load", "chromium")
    proxy.need()
    payload, digest = machine.payload()
    weir = proxy.start_proxy(config(start_origins(payload)))
    print("servers")
    for name in SERVERS:
        server(checks, weir, name, payload, digest)
    print("clients")
    curl_versions(checks, weir, payload, digest)
    python_client(checks, weir, payload, digest)
    chromium(checks, weir)
    load_generators(checks, weir)
    print("1 GiB, and the proxy's memory")
    large_bodies(checks, weir, payload)
    with checks.step("the proxy is still there"):
        weir.expect_alive()


def start_origins(payload):
    """Starts the four servers; their ports by name."""
    node = machine.need_node_modules()
    nginx = Nginx("nginx")
    (nginx.files / "download").hardlink_to(payload)
    (nginx.files / "small").write_text("hello from nginx\n")
    ports = {name: machine.free_port() for name in SERVERS} | {"nginx": nginx.port}
    processes.start("node", ["node", ORIGINS / "plain_http.js", ports["node"], payload])
    processes.start("express", ["node", ORIGINS / "express_app.js", ports["express"], payload], environment=node)
    processes.start("python", [sys.executable, ORIGINS / "python_server.py", ports["python"], payload])
    for name, port in ports.items():
        eventually(lambda port=port: proxy.accepts(port), 10, f"{name} listens")
    return ports


def config(ports):
    """A route for each server, found by its first path segment, which is stripped."""
    return {
        "listen": proxy.listeners("web", "secure"),
        "route": {
            name: {"path": f"/{name}", "strip_prefix": f"/{name}", "upstream": name, "max_body": "2048MiB"}
            for name in ports
        },
        "upstream": {name: {"servers": [f"127.0.0.1:{port}"]} for name, port in ports.items()},
    }


def server(checks, weir, name, payload, digest):
    """One server: small GETs on one connection, the payload down and up."""
    with checks.step(f"{name}: 200 small GETs on one connection") as figure:
        connection = http.client.HTTPConnection("127.0.0.1", weir.port(), timeout=10)
        start = time.monotonic()
        for _ in range(200):
            connection.request("GET", f"/{name}/small")
            answer = connection.getresponse()
            equal((answer.status, answer.read()), (200, f"hello from {name}\n".encode()), "answer")
            equal(answer.getheader("X-Origin"), name, "X-Origin")
        figure(f"{(time.monotonic() - start) * 1000 / 200:.2f} ms each")
        connection.close()
    with checks.step(f"{name}: 64 MiB down"):
        equal(download(weir, f"/{name}/download"), (64 * MIB, digest), "size and hash at the client")
    with checks.step(f"{name}: 64 MiB up"):
        # nginx takes a PUT as a file; its hash is that of what it then serves itself, not through the proxy.
        if name == "nginx":
            curl(weir.url("/nginx/upload/file"), "-T", payload)
            stored = weir.config["upstream"]["nginx"]["servers"][0]
            found = hashlib.sha256()
            for piece in pieces(http.client.HTTPConnection(stored, timeout=20), "/upload/file"):
                found.update(piece)
            equal(found.hexdigest(), digest, "hash at the server")
        else:
            equal(received(curl(weir.url(f"/{name}/upload"), "-X", "POST", "-T", payload)), (64 * MIB, digest),
                  "size and hash at the server")


def curl_versions(checks, weir, payload, digest):
    secure = ["--cacert", machine.certificate()[0]]
    protocols = {
        "HTTP/1.1": (weir.url, [], "1.1"),
        "HTTP/1.0": (weir.url, ["--http1.0"], "1.1"),
        "HTTP/2 cleartext, prior knowledge": (weir.h2c_url, ["--http2-prior-knowledge"], "2"),
        "HTTP/2 over TLS": (lambda path: weir.url(path, "secure"), ["--http2", *secure], "2"),
        "HTTP/1.1 over TLS": (lambda path: weir.url(path, "secure"), ["--http1.1", *secure], "1.1"),
    }
    for name, (url, options, version) in protocols.items():
        with checks.step(f"curl, {name}: GET, HEAD, 64 MiB down and up"):
            answer = curl(url("/node/small"), *options, "-w", "|%{http_version}|%{http_code}")
            text, found, status = answer.split("|")
            equal((text, status), ("hello from node\n", "200"), "answer")
            expect(found == version or (name == "HTTP/1.0" and found in ("1", "1.0")), f"HTTP/{found} instead of {version}")
            head = curl(url("/nginx/small"), *options, "--head")
            expect(re.match(r"HTTP/\S+ 200", head), f"HEAD: {head}")
            equal(re.search(r"(?i)content-length: (\d+)", head)[1], "17", "Content-Length of HEAD")
            file = machine.work_dir() / "curl-download"
            curl(url("/express/download"), *options, "-o", file)
            equal(hashlib.sha256(file.read_bytes()).hexdigest(), digest, "hash at the client")
            # Without `Expect`, which HTTP/1.0 does not know, and which has its own step.
            up = curl(url("/node/upload"), *options, "-X", "POST", "-H", "Expect:", "-T", payload)
            equal(received(up), (64 * MIB, digest), "size and hash at the server")
    with checks.step("curl: upload that waits for 100 Continue"):
        trace = curl_trace(weir.url("/node/upload"), "-X", "POST", "-H", "Expect: 100-continue", "-T", payload,
                           "--expect100-timeout", "20")
        expect("< HTTP/1.1 100 Continue" in trace.stderr, f"no 100 Continue:\n{trace.stderr[-800:]}")
        equal(received(trace.stdout), (64 * MIB, digest), "size and hash at the server")
    for name, url, options in [("HTTP/1.1 chunked", weir.url("/node/upload"), ["-H", "Transfer-Encoding: chunked"]),
                               ("HTTP/2 of unknown length", weir.url("/python/upload", "secure"), secure)]:
        with checks.step(f"curl: {name} upload"), payload.open("rb") as file:
            answer = curl(url, "-X", "POST", *options, "-T", "-", stdin=file)
            equal(received(answer), (64 * MIB, digest), "size and hash at the server")


def python_client(checks, weir, payload, digest):
    with checks.step("Python http.client: keep-alive over four servers, chunked upload, on one socket"):
        connection = http.client.HTTPConnection("127.0.0.1", weir.port(), timeout=20)
        connection.connect()
        socket = connection.sock
        for _ in range(50):
            for name in SERVERS:
                connection.request("GET", f"/{name}/small")
                equal(connection.getresponse().read(), f"hello from {name}\n".encode(), "answer")
        for name in ["node", "express", "python"]:
            with payload.open("rb") as file:
                blocks = iter(lambda: file.read(100_000), b"")
                connection.request("POST", f"/{name}/upload", body=blocks, encode_chunked=True,
                                   headers={"Transfer-Encoding": "chunked"})
                equal(received(connection.getresponse().read()), (64 * MIB, digest), f"upload to {name}")
        expect(connection.sock is socket, "the connection was closed in between")
        connection.close()


def chromium(checks, weir):
    with checks.step("Chromium: a page of Express over TLS, 50 fetches, HTTP/2") as figure:
        profile = machine.work_dir() / "chromium"
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking " \
                "--disable-component-update --disable-sync --disable-breakpad --ignore-certificate-errors " \
                "--disable-dev-shm-usage --virtual-time-budget=10000 --dump-dom"
        page = processes.run(
            ["chromium", *flags.split(), f"--user-data-dir={profile}", weir.url("/express/page", "secure")], 60)
        result = re.search(r'<pre id="result">(.*?)</pre>', page.stdout)
        expect(result, f"no page: {page.stdout[-500:]}{page.stderr[-500:]}")
        seen = json.loads(html.unescape(result[1])) if result[1] != "not done" else {}
        equal(seen.get("protocol"), "h2", f"protocol in {result[1]}")
        equal(set(seen["fetched"]), {"h2"}, "protocols of the fetches")
        equal((seen["sum"], seen["echo"]), (sum(range(50)), "schön"), "what the script fetched")
        figure(f"nextHopProtocol {seen['protocol']}, {len(seen['fetched'])} fetches")


def load_generators(checks, weir):
    for name in ["nginx", "node"]:
        with checks.step(f"wrk, 3 s, 64 connections, {name}") as figure:
            figure(f"{load.wrk(weir.url(f'/{name}/small'), 3, 64) / 3:.0f} requests/s")
    for name, url, options in [
        ("HTTP/1.1", weir.url("/nginx/small"), ["--h1"]),
        ("HTTP/2 cleartext", weir.h2c_url("/nginx/small"), []),
        ("HTTP/2 over TLS", weir.url("/nginx/small", "secure"), []),
    ]:
        with checks.step(f"h2load, {name}, 30,000 requests") as figure:
            report = load.h2load(url, 30_000, options=options)
            report.expect_clean()
            equal(report.ok, 30_000, "answers")
            figure(report.protocol)


def large_bodies(checks, weir, payload):
    """Each way over HTTP/1.1 and over TLS with HTTP/2. Warm by now: what grows here grows with the body."""
    digest = hashlib.sha256()
    block = payload.read_bytes()
    for _ in range(16):
        digest.update(block)
    wanted = (1024 * MIB, digest.hexdigest())
    with checks.step("HTTP/1.1: 1 GiB down") as figure, Memory(weir, figure):
        equal(download(weir, "/node/download?times=16"), wanted, "size and hash at the client")
    with checks.step("HTTP/1.1: 1 GiB up") as figure, Memory(weir, figure):
        equal(upload(weir.url("/node/upload"), block), wanted, "size and hash at the server")
    with checks.step("HTTP/2 over TLS: 1 GiB down") as figure, Memory(weir, figure):
        url = weir.url("/node/download?times=16", "secure")
        command = f"curl -sS --fail -k --http2 -m 60 '{url}' | openssl dgst -sha256 -r"
        equal(processes.run(["bash", "-o", "pipefail", "-c", command], 70).stdout.split()[0], wanted[1], "hash")
    with checks.step("HTTP/2 over TLS: 1 GiB up") as figure, Memory(weir, figure):
        equal(upload(weir.url("/node/upload", "secure"), block), wanted, "size and hash at the server")


class Memory:
    """Samples the proxy's resident memory and fails where it grew past the limit."""

    def __init__(self, weir, figure):
        self.weir, self.figure, self.done = weir, figure, threading.Event()

    def __enter__(self):
        self.before = self.most = self.weir.rss()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.done.wait(0.05):
            self.most = max(self.most, self.weir.rss())

    def __exit__(self, kind, *_):
        self.done.set()
        self.thread.join()
        growth = self.most - self.before
        self.figure(f"RSS {self.before / MIB:.1f} MiB, grew by {growth / MIB:.1f} MiB")
        if kind is None:
            expect(growth <= GROWTH_LIMIT, f"memory grew by {growth / MIB:.1f} MiB")


def download(weir, target):
    """Size and hash of a body, read with Python."""
    connection = http.client.HTTPConnection("127.0.0.1", weir.port(), timeout=20)
    size, digest = 0, hashlib.sha256()
    for piece in pieces(connection, target):
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


def pieces(connection, target):
    connection.request("GET", target)
    answer = connection.getresponse()
    equal(answer.status, 200, f"status of {target}")
    while piece := answer.read(1 << 20):
        yield piece
    connection.close()


def upload(url, block):
    """Sends the block 16 times with curl, which reads it from a pipe."""
    command = ["curl", "-sS", "--fail", "-k", "-m", "90", "-X", "POST", "-T", "-", url]
    child = processes.start("curl", command, stdin=-1, stdout=-1)
    for _ in range(16):
        child.popen.stdin.write(block)
    child.popen.stdin.close()
    answer = child.popen.stdout.read()
    equal(child.wait(10), 0, f"exit code of curl ({child.log_tail()})")
    child.kill()
    return received(answer)


def received(answer):
    """Size and hash as the server counted them."""
    told = json.loads(answer)
    return told["bytes"], told["sha256"]


def curl(url, *options, stdin=None):
    return curl_trace(url, *options, stdin=stdin).stdout


def curl_trace(url, *options, stdin=None):
    verbose = ["-v"] if "--expect100-timeout" in options else []
    command = ["curl", "-sS", "--fail", "-m", "60", *verbose, *options, url]
    done = processes.run(command, 70, **({"stdin": stdin} if stdin else {}))
    expect(done.returncode == 0, f"curl {url}: exit code {done.returncode}: {done.stderr[-300:]}")
    return done


if __name__ == "__main__":
    main(body, limit=150)
