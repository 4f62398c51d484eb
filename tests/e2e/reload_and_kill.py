#!/usr/bin/env python3
"""Changes under load: 5,000 requests a second over HTTP/1.1 and HTTP/2, cleartext and TLS, while the configuration is
reloaded again and again and one origin is killed and comes back. Not one request may fail; memory must stay flat.

    WEIR=target/release/weir SECONDS_OF_LOAD=60 tests/e2e/reload_and_kill.py

50 reloads in 60 s; fewer in a shorter time (at least 15), or as many as RELOADS says (0 leaves the kill alone).
"""

import contextlib
import http.client
import json
import os
import pathlib
import statistics
import threading
import time

from support import machine, processes, proxy, steady
from support.checks import equal, eventually, expect, main
from support.machine import MIB
from support.nginx import Nginx

LOADER = pathlib.Path(__file__).resolve().parent / "clients/steady_load.js"
SECONDS = int(os.environ.get("SECONDS_OF_LOAD", "60"))
RELOADS = int(os.environ.get("RELOADS", max(15, min(50, SECONDS * 50 // 60))))
RATE = int(os.environ.get("RATE", "5000"))
TAKEN_WITHIN = 4.0
GROWTH_LIMIT = 6 * MIB


def body(checks):
    machine.need("nginx", "node", "openssl")
    proxy.need()
    origins = [Nginx(name) for name in ("one", "two", "three")]
    tables = proxy.listeners("web", "secure")
    spare = proxy.listeners("spare")
    weir = proxy.start_proxy(config(origins, tables, 0, spare))
    warm_up(weir)
    memory = Memory(weir)
    start = time.monotonic()
    loaders = [start_load(weir, http2) for http2 in (False, True)]
    print(f"{RATE} requests/s for {SECONDS} s, {RELOADS} reloads, one origin killed")
    events = threading.Thread(target=kill_and_restart, args=(checks, origins, start), daemon=True)
    events.start()
    reload_again_and_again(checks, weir, origins, tables, spare, start)
    reports = [report for loader in loaders for report in steady.finish(loader, start + SECONDS)]
    events.join(SECONDS)
    memory.stop()
    judge(checks, weir, reports, memory)
    with checks.step("all three origins serve at the end"):
        eventually(lambda: {fetch(weir.port())[1]["X-Origin"] for _ in range(6)} == {"one", "two", "three"}, 15,
                   "the origin that came back serves")


def config(origins, tables, number, spare):
    """The configuration after `number` reloads: a field, a route and a listener come and go, the rest stays."""
    routes = {"site": {"upstream": "app", "response_headers": {"set": {"X-Reload": str(number)}}}}
    if number % 2:
        routes["extra"] = {"path": "/extra", "respond": {"status": 200, "body": f"extra {number}"}}
    return {
        "listen": {**tables, **(spare if number % 3 == 1 else {})},
        "route": routes,
        "upstream": {
            "app": {"servers": [origin.address for origin in origins], "health_check": "/"}},
    }


def reload_again_and_again(checks, weir, origins, tables, spare, start):
    """Each reload is seen from outside before the next one: the field, the route, the listener."""
    took, pace = [], SECONDS * 0.9 / max(RELOADS, 1)
    with checks.step(f"{RELOADS} reloads, each seen to be taken") as figure:
        for number in range(1, RELOADS + 1):
            time.sleep(max(0, start + SECONDS * 0.03 + (number - 1) * pace - time.monotonic()))
            written = time.monotonic()
            weir.write(config(origins, tables, number, spare), in_place=number % 4 in (2, 3))
            weir.taken_by_itself()
            eventually(lambda: taken(weir, spare, number), TAKEN_WITHIN, f"reload {number} is taken", pause=0.02)
            took.append(time.monotonic() - written)
        took = took or [0]
        figure(f"taken after {statistics.median(took) * 1000:.0f} ms (median), {max(took) * 1000:.0f} ms (most)")
        late = time.monotonic() - start - SECONDS
        expect(late <= 0, f"the reloads took {late:.1f} s longer than the load")
    if proxy.KIND == "weir":
        with checks.step("the status page tells of the last reload"):
            equal(weir.status()["config"]["last_reload"]["result"], "ok", "result")


def taken(weir, spare, number):
    status, fields, _ = fetch(weir.port())
    if (status, fields["X-Reload"]) != (200, str(number)):
        return False
    _, _, extra = fetch(weir.port(), "/extra")
    if (extra == f"extra {number}") != bool(number % 2):
        return False
    port = int(spare["spare"]["address"].rpartition(":")[2])
    return proxy.accepts(port) == (number % 3 == 1)


def kill_and_restart(checks, origins, start):
    victim = origins[1]
    time.sleep(max(0, start + SECONDS * 0.4 - time.monotonic()))
    with checks.step(f"kill -9 of origin {victim.name}, master and worker"):
        victim.kill()
        expect(not proxy.accepts(victim.port), "its port still accepts")
    time.sleep(max(0, start + SECONDS * 0.7 - time.monotonic()))
    with checks.step(f"origin {victim.name} comes back"):
        victim.start()


def warm_up(weir):
    """So that what is allocated once is there before memory is judged."""
    report = processes.run(["node", LOADER, 2, json.dumps(entries(weir, False) + entries(weir, True))], 20)
    equal(report.returncode, 0, "exit code of the warm-up")


def start_load(weir, http2):
    return processes.start("load", ["node", LOADER, SECONDS, json.dumps(entries(weir, http2))], stdout=-1)


def entries(weir, http2):
    """A quarter of the rate each: cleartext and TLS."""
    urls = {"cleartext": weir.h2c_url() if http2 else weir.url(), "TLS": weir.url(listener="secure")}
    return [
        {"name": f"{'HTTP/2' if http2 else 'HTTP/1.1'} {name}", "url": url.replace("localhost", "127.0.0.1"),
         "http2": http2, "connections": 4 if http2 else 32, "rate": RATE / 4}
        for name, url in urls.items()
    ]


def judge(checks, weir, reports, memory):
    steady.judge(checks, reports, RATE, SECONDS)
    with checks.step("memory stays flat") as figure:
        third = len(memory.samples) // 3
        first, last = (statistics.median(part) for part in (memory.samples[:third], memory.samples[-third:]))
        figure(f"first third {first / MIB:.1f} MiB, last third {last / MIB:.1f} MiB")
        figure("each second: " + " ".join(f"{sample / MIB:.1f}" for sample in memory.samples))
        expect(last <= first + GROWTH_LIMIT, f"grew by {(last - first) / MIB:.1f} MiB")
    with checks.step("the proxy is still there"):
        weir.expect_alive()


class Memory:
    """Resident memory, each second."""

    def __init__(self, weir):
        self.weir, self.samples, self.done = weir, [], threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.done.wait(1):
            self.samples.append(self.weir.rss())

    def stop(self):
        self.done.set()
        self.thread.join()


def fetch(port, target="/"):
    """Status, fields and body, on a fresh connection; status 0 when there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", target, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    return 0, {}, ""


if __name__ == "__main__":
    main(body, limit=SECONDS + 75)
