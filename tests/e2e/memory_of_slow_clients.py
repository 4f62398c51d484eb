#!/usr/bin/env python3
"""Memory under back-pressure: 500 clients that ask for a body and read nothing, 500 uploads to an origin that reads
nothing. What the proxy's resident memory grows by, for each connection, must stay within its buffers.

    WEIR=target/release/weir tests/e2e/memory_of_slow_clients.py
"""

import contextlib
import selectors
import socket
import ssl
import threading
import time

from support import load, machine, proxy
from support.checks import expect, main
from support.machine import MIB
from support.nginx import Nginx

CLIENTS = 500
# 64 KiB is the buffer of one body; 32 KiB are for the rest of two connections.
LIMIT = (64 + 32) * 1024
# A proxy that waits does nothing.
CPU_LIMIT = 0.10
SETTLED_WITHIN = 15


def body(checks):
    machine.need("nginx", "openssl", "wrk")
    proxy.need()
    origin = Nginx("origin")
    for size in (1, 100):
        with (origin.files / f"{size}MiB").open("wb") as file:
            file.truncate(size * MIB)
    for size in (1, 100):
        with checks.step(f"{CLIENTS} clients that do not read {size} MiB") as figure:
            case(origin.address, lambda weir: [ask(weir, size) for _ in range(CLIENTS)], figure)
    with checks.step(f"{CLIENTS} clients that do not read 100 MiB, over TLS (told, not judged)") as figure:
        case(origin.address, lambda weir: [ask_over_tls(weir, 100) for _ in range(CLIENTS)], figure, limit=None)
    with checks.step(f"{CLIENTS} uploads of 100 MiB to an origin that does not read") as figure:
        address = deaf_origin()
        case(address, uploads, figure, warm=origin.address)


def case(address, occupy, figure, limit=LIMIT, warm=None):
    """Fresh proxy, warmed up; then the clients come, and memory is read once it has settled."""
    weir = proxy.start_proxy({
        "listen": proxy.listeners("web", "secure"),
        "route": {
            "site": {"upstream": "app", "max_body": "200MiB"},
            "warm": {"path": "/warm", "upstream": "warm"},
        },
        "upstream": {"app": {"servers": [address]}, "warm": {"servers": [warm or address]}},
    })
    load.wrk(weir.url("/warm"), 1, 16)
    before = weir.rss()
    sockets = occupy(weir)
    most, cpu = settle(weir)
    each = (most - before) / CLIENTS
    figure(f"{before / MIB:.1f} MiB grew by {(most - before) / MIB:.1f} MiB, {each / 1024:.1f} KiB for each")
    figure(f"{cpu * 100:.1f} % of a core while waiting")
    for client in sockets:
        client.close()
    time.sleep(1)
    figure(f"{weir.rss() / MIB:.1f} MiB once they had left")
    weir.expect_alive()
    weir.stop()
    expect(limit is None or each <= limit, f"{each / 1024:.1f} KiB for each client, more than {LIMIT // 1024} KiB")
    expect(cpu <= CPU_LIMIT, f"the proxy uses {cpu * 100:.0f} % of a core though nothing moves")


def settle(weir):
    """Most memory seen until it had not grown for 3 s, and the share of a core used in the last of these."""
    most, since, start = weir.rss(), time.monotonic(), time.monotonic()
    while time.monotonic() - since < 3 and time.monotonic() - start < SETTLED_WITHIN:
        time.sleep(0.1)
        if weir.rss() > most + MIB // 4:
            since = time.monotonic()
        most = max(most, weir.rss())
    before = weir.child.cpu_seconds()
    time.sleep(1)
    return most, weir.child.cpu_seconds() - before


def ask(weir, size):
    """Asks, checks that an answer is there, and never reads on."""
    client = small_socket(weir.port())
    client.sendall(f"GET /{size}MiB HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = client.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)
    expect(head == b"HTTP/1.1 200", f"answer {head!r}")
    return client


def ask_over_tls(weir, size):
    trust = ssl.create_default_context(cafile=machine.certificate()[0])
    trust.set_alpn_protocols(["http/1.1"])
    client = trust.wrap_socket(small_socket(weir.port("secure")), server_hostname="localhost")
    client.sendall(f"GET /{size}MiB HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = client.recv(12)
    expect(head == b"HTTP/1.1 200", f"answer {head!r}")
    return client


def uploads(weir):
    """Sends for as long as anything is taken."""
    clients = [small_socket(weir.port()) for _ in range(CLIENTS)]
    ready = selectors.DefaultSelector()
    block = bytes(64 * 1024)
    for client in clients:
        client.sendall(f"POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: {100 * MIB}\r\n\r\n".encode())
        client.setblocking(False)
        ready.register(client, selectors.EVENT_WRITE)
    quiet = end = time.monotonic()
    end += SETTLED_WITHIN
    while time.monotonic() - quiet < 1 and time.monotonic() < end:
        for key, _ in ready.select(0.2):
            with contextlib.suppress(BlockingIOError):
                while key.fileobj.send(block) == len(block):
                    pass
            quiet = time.monotonic()
    for client in clients:
        with contextlib.suppress(BlockingIOError):
            early = client.recv(200)
            expect(False, f"an upload was answered or closed: {early!r}")
    return clients


def deaf_origin():
    """Accepts, and reads nothing, ever."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", machine.free_port()))
    listener.listen(CLIENTS)
    kept = []

    def accept():
        while True:
            kept.append(listener.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    return "%s:%d" % listener.getsockname()


def small_socket(port):
    """A connection whose receive buffer holds almost nothing, so that the proxy cannot leave the body to the kernel."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", port))
    return client


if __name__ == "__main__":
    main(body, limit=120)
