#!/usr/bin/env python3
"""Streams through the proxy: 100 WebSockets at once, server-sent events, clients that vanish; cleartext and TLS.

    WEIR=target/release/weir tests/e2e/websocket_and_events.py
"""

import base64
import http.client
import json
import os
import pathlib
import socket
import ssl
import statistics
import struct
import time

from support import machine, processes, proxy
from support.checks import equal, eventually, expect, main
from support.machine import MIB

HERE = pathlib.Path(__file__).resolve().parent
SOCKETS, BYTES = 100, 10_000_000
NOTICED_WITHIN = 1.0
FIRST_EVENT_WITHIN = 0.050
STREAMS, EVENTS, EVERY = 5, 15, 0.100


def body(checks):
    machine.need("curl", "node", "openssl")
    proxy.need()
    node = machine.need_node_modules()
    origin = machine.free_port()
    processes.start("origin", ["node", HERE / "origins/sockets_and_events.js", origin], environment=node)
    eventually(lambda: proxy.accepts(origin), 10, "the origin listens")
    weir = proxy.start_proxy({
        "listen": proxy.listeners("web", "secure"),
        "route": {"site": {"upstream": "app"}},
        "upstream": {"app": {"servers": [f"127.0.0.1:{origin}"]}},
    })
    for listener, name in [("web", "cleartext"), ("secure", "TLS")]:
        print(name)
        echoes(checks, weir, listener, node)
        vanishing_sockets(checks, weir, listener, node, origin)
        event_streams(checks, weir, listener)
        vanishing_listeners(checks, weir, listener, origin)
    with checks.step("the proxy is still there"):
        weir.expect_alive()


def echoes(checks, weir, listener, node):
    with checks.step(f"WebSocket: {SOCKETS} at once, {BYTES / 1e6:.0f} MB each way each") as figure:
        before = weir.rss()
        url = weir.url("/socket", listener).replace("http", "ws", 1)
        start = time.monotonic()
        client = processes.run(["node", HERE / "clients/echo_over_websocket.js", url, SOCKETS, BYTES], 90,
                               env={**os.environ, **node})
        equal(client.returncode, 0, f"exit code of the client ({client.stderr[-300:]})")
        equal(json.loads(client.stdout), {"intact": SOCKETS, "closedCleanly": SOCKETS}, "sockets")
        speed = 2 * SOCKETS * BYTES / MIB / (time.monotonic() - start)
        figure(f"{speed:.0f} MiB/s, RSS {before / MIB:.1f} then {weir.rss() / MIB:.1f} MiB")


def vanishing_sockets(checks, weir, listener, node, origin):
    with checks.step("WebSocket: the origin notices a client that is killed") as figure:
        stream = f"killed-{listener}"
        url = weir.url(f"/socket?id={stream}", listener).replace("http", "ws", 1)
        client = processes.start("client", ["node", HERE / "clients/echo_over_websocket.js", url, 0, 0],
                                 environment=node, stdout=-1)
        equal(client.popen.stdout.readline(), b"open\n", "the client's first line")
        figure(noticed(origin, stream, client.kill))
    with checks.step("WebSocket: the origin notices a reset connection") as figure:
        stream = f"reset-{listener}"
        connection = handshake(weir, listener, f"/socket?id={stream}")
        figure(noticed(origin, stream, lambda: reset(connection)))


def event_streams(checks, weir, listener):
    """Python speaks HTTP/1.1; curl over TLS speaks HTTP/2, as browsers do."""
    with checks.step(f"events: {STREAMS} streams of {EVENTS}, one by one") as figure:
        figure(judge([events_by_python(weir, listener, number) for number in range(STREAMS)]))
    url, version = (weir.url, "--http2") if listener == "secure" else (weir.h2c_url, "--http2-prior-knowledge")
    target = f"/events?id=http2-{listener}&count={EVENTS}&every={EVERY * 1000:.0f}"
    with checks.step("events over HTTP/2, one by one") as figure:
        address = url(target, listener) if listener == "secure" else url(target)
        figure(judge([events_by_curl(address, version) for _ in range(2)]))


def judge(streams):
    """How late the events were; each stream is a list of (number, lateness, arrival)."""
    for stream in streams:
        equal([number for number, _, _ in stream], list(range(1, EVENTS + 1)), "the events' numbers")
    first = statistics.median(stream[0][1] for stream in streams)
    late = [lateness for stream in streams for _, lateness, _ in stream]
    gaps = [after[2] - before[2] for stream in streams for before, after in zip(stream, stream[1:])]
    expect(first <= FIRST_EVENT_WITHIN, f"first event after {first * 1000:.0f} ms")
    expect(statistics.median(late) <= FIRST_EVENT_WITHIN, f"events late by {statistics.median(late) * 1000:.0f} ms")
    # Events that were held back arrive together.
    together = sum(gap < EVERY / 4 for gap in gaps)
    expect(together <= len(gaps) // 10, f"{together} of {len(gaps)} events came together with the one before")
    return (f"first after {first * 1000:.1f} ms, all: median {statistics.median(late) * 1000:.1f} ms, "
            f"most {max(late) * 1000:.1f} ms")


def events_by_python(weir, listener, number):
    connection = connect(weir, listener)
    connection.request("GET", f"/events?id=python-{listener}-{number}&count={EVENTS}&every={EVERY * 1000:.0f}")
    answer = connection.getresponse()
    equal((answer.status, answer.getheader("Content-Type")), (200, "text/event-stream"), "answer")
    events = arrivals(answer)
    connection.close()
    return events


def events_by_curl(url, version):
    child = processes.start("curl", ["curl", "-sS", "-N", "-k", "-m", "20", version, url], stdout=-1)
    events = arrivals(child.popen.stdout)
    child.kill()
    return events


def arrivals(lines):
    events = []
    while line := lines.readline():
        now = time.time()
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            events.append((event["number"], now - event["at"] / 1000, now))
    return events


def vanishing_listeners(checks, weir, listener, origin):
    """The streams are silent when the client goes: no failing write can tell the proxy."""
    with checks.step("events: the origin notices that the client left") as figure:
        stream = f"left-{listener}"
        connection = connect(weir, listener)
        connection.request("GET", f"/events?id={stream}&every=3600000")
        answer = connection.getresponse()

        def leave():
            # Both hold the socket open.
            answer.close()
            connection.close()

        figure(noticed(origin, stream, leave))
    with checks.step("events over HTTP/2: the origin notices that the client was killed") as figure:
        stream = f"killed-http2-{listener}"
        target = f"/events?id={stream}&every=3600000"
        url, version = ((weir.url(target, listener), "--http2") if listener == "secure"
                        else (weir.h2c_url(target), "--http2-prior-knowledge"))
        child = processes.start("curl", ["curl", "-sS", "-N", "-k", version, url], stdout=-1)
        figure(noticed(origin, stream, child.kill))


def noticed(origin, stream, leave):
    """Leaves, and gives the time until the origin saw its stream close, by the origin's own clock."""
    eventually(lambda: stream in streams(origin)["open"], 5, "the origin knows the stream")
    left = time.time()
    leave()
    closed = eventually(lambda: streams(origin)["closed"].get(stream), NOTICED_WITHIN + 4, "the origin notices")
    took = closed / 1000 - left
    expect(took <= NOTICED_WITHIN, f"noticed after {took:.2f} s")
    return f"after {max(took, 0) * 1000:.0f} ms"


def streams(origin):
    connection = http.client.HTTPConnection("127.0.0.1", origin, timeout=5)
    connection.request("GET", "/closed")
    try:
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def handshake(weir, listener, target):
    """A WebSocket on a bare socket, up to the 101."""
    connection = connect(weir, listener)
    connection.connect()
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sock.sendall(
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.sock.recv(4096)
        expect(piece, f"closed during the handshake, after {head!r}")
        head += piece
    expect(head.startswith(b"HTTP/1.1 101 "), f"answer to the handshake: {head!r}")
    return connection


def reset(connection):
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sock.close()


def connect(weir, listener):
    if listener == "web":
        return http.client.HTTPConnection("127.0.0.1", weir.port(), timeout=10)
    trust = ssl.create_default_context(cafile=machine.certificate()[0])
    return http.client.HTTPSConnection("localhost", weir.port(listener), timeout=10, context=trust)


if __name__ == "__main__":
    main(body, limit=150)
