#!/usr/bin/env python3
"""Memory under large responses: 1 GiB through compression, and through a cache that refuses it for its size. What the
proxy's resident memory grows by must not depend on how long a response is.

    WEIR=target/release/weir tests/e2e/memory_of_large_responses.py
"""

import hashlib
import pathlib
import random
import socket
import subprocess
import threading
import time

from support import machine, processes, proxy
from support.checks import equal, expect, main
from support.machine import MIB

SIZE = 1024 * MIB
LIMIT = 16 * MIB
BLOCK = MIB // 4
# A client that lets the proxy run ahead of it, as far as that will.
LATE = 1


def body(checks):
    machine.need("curl")
    proxy.need()
    origin = Origin()
    for coding in ("br", "zstd", "gzip"):
        with checks.step(f"1 GiB of text as {coding}") as figure:
            weir = start(origin, {"compress": True})
            growth = measure(weir, origin, "/chunked", figure, coding)
            expect(growth < LIMIT, f"grew by {growth / MIB:.1f} MiB, more than {LIMIT // MIB} MiB")
    for path, framing in (("/length", "with Content-Length"), ("/chunked", "chunked")):
        with checks.step(f"1 GiB {framing}, too large to be stored") as figure:
            weir = start(origin, {"cache": True}, cache={"max_object_size": "8MiB"})
            before = origin.requests
            growth = measure(weir, origin, path, figure)
            growth = max(growth, measure(weir, origin, path, figure, late=LATE))
            equal(origin.requests - before, 2, "requests at the origin")
            expect(growth < LIMIT, f"grew by {growth / MIB:.1f} MiB, more than {LIMIT // MIB} MiB")


def start(origin, keys, **tables):
    weir = proxy.start_proxy({
        "listen": proxy.listeners("web"),
        "route": {"site": {"upstream": "app", **keys}},
        "upstream": {"app": {"servers": [origin.address]}},
        **tables,
    })
    fetch(weir, "/small")
    return weir


def measure(weir, origin, path, figure, coding="identity", late=0):
    """Fetches it whole; what the memory grew by at most."""
    before = weir.rss()
    forget_peak(weir)
    began = time.monotonic()
    head, received, digest = fetch(weir, path, coding, late)
    seconds = time.monotonic() - began
    growth = peak(weir) - before
    told = "read late" if late else f"{SIZE / MIB / seconds:.0f} MiB/s"
    figure(f"{before / MIB:.1f} MiB grew by {growth / MIB:.1f} MiB ({told})")
    weir.expect_alive()
    equal("content-encoding: " + coding in head.lower(), coding != "identity", f"{coding} in the response head")
    equal(received, SIZE, "bytes")
    equal(digest, origin.digest, "the digest of the body")
    return growth


def fetch(weir, path, coding="identity", late=0):
    """The response's head, and length and SHA-256 of its body, decoded."""
    head = machine.work_dir() / f"head-{time.monotonic_ns()}"
    command = ["curl", "-sS", "--max-time", "100", "--compressed", "-D", head, "-H", f"Accept-Encoding: {coding}"]
    child = processes.start("curl", [*command, weir.url(path)], stdout=subprocess.PIPE)
    time.sleep(late)
    received, digest = 0, hashlib.sha256()
    while piece := child.popen.stdout.read(BLOCK):
        received += len(piece)
        digest.update(piece)
    code = child.wait(10)
    expect(code == 0, f"curl ended with {code}: {child.log_tail()}")
    child.kill()
    return head.read_text(errors="replace"), received, digest.hexdigest()


def forget_peak(weir):
    pathlib.Path(f"/proc/{weir.child.pid}/clear_refs").write_text("5")


def peak(weir):
    """The most resident memory since it was last forgotten."""
    status = pathlib.Path(f"/proc/{weir.child.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


class Origin:
    """Sends a block of words again and again; `/length` tells the length before, `/chunked` does not, `/small` is small."""

    def __init__(self):
        draw = random.Random(1)
        words = [draw.randbytes(3).hex() for _ in range(2000)]
        self.block = " ".join(draw.choices(words, k=BLOCK // 6)).encode()[:BLOCK]
        whole = hashlib.sha256()
        for _ in range(SIZE // BLOCK):
            whole.update(self.block)
        self.digest, self.requests = whole.hexdigest(), 0
        listener = socket.create_server(("127.0.0.1", machine.free_port()))
        self.address = "%s:%d" % listener.getsockname()
        threading.Thread(target=self.accept, args=[listener], daemon=True).start()

    def accept(self, listener):
        while True:
            threading.Thread(target=self.answer, args=[listener.accept()[0]], daemon=True).start()

    def answer(self, client):
        with client:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = client.recv(65536)
                if not piece:
                    return
                head += piece
            self.requests += 1
            path = head.split()[1].decode()
            fields = "Content-Type: text/plain\r\nCache-Control: max-age=60\r\nConnection: close\r\n"
            if path == "/small":
                client.sendall(f"HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok".encode())
                return
            chunked = path == "/chunked"
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {SIZE}"
            client.sendall(f"HTTP/1.1 200 OK\r\n{fields}{framing}\r\n\r\n".encode())
            piece = b"%x\r\n%s\r\n" % (BLOCK, self.block) if chunked else self.block
            for _ in range(SIZE // BLOCK):
                client.sendall(piece)
            if chunked:
                client.sendall(b"0\r\n\r\n")


if __name__ == "__main__":
    main(body, limit=300)
