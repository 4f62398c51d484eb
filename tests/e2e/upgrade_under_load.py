#!/usr/bin/env python3
"""The program is replaced while it works: 2,000 requests a second over kept HTTP/1.1 connections, over a fresh connection
for each request and over HTTP/2, cleartext and TLS, while the file of the program is replaced and `weir upgrade` called 20
times. Not one request may fail, not one connection be refused; each old process must end by itself, with exit code 0.

    WEIR=target/release/weir SECONDS_OF_LOAD=60 tests/e2e/upgrade_under_load.py

20 upgrades in 60 s; fewer in a shorter time (at least 8), or as many as UPGRADES says.
"""

import json
import os
import pathlib
import re
import shutil
import statistics
import time

from support import machine, processes, proxy, steady
from support.checks import equal, eventually, expect, main
from support.nginx import Nginx

LOADER = pathlib.Path(__file__).resolve().parent / "clients/steady_load.js"
SECONDS = int(os.environ.get("SECONDS_OF_LOAD", "60"))
UPGRADES = int(os.environ.get("UPGRADES", max(8, min(20, SECONDS * 20 // 60))))
RATE = int(os.environ.get("RATE", "2000"))


def body(checks):
    machine.need("nginx", "node", "openssl")
    proxy.need()
    original = proxy.WEIR
    proxy.WEIR = machine.work_dir() / "weir"
    shutil.copy(original, proxy.WEIR)
    origins = [Nginx(name) for name in ("one", "two")]
    weir = proxy.start_proxy({
        "process": {"drain": "10s"},
        "listen": proxy.listeners("web", "secure"),
        "route": {"site": {"upstream": "app"}},
        "upstream": {"app": {"servers": [origin.address for origin in origins], "health_check": "/"}},
    })
    first = weir.child.pid
    before = Descriptors(first)
    start = time.monotonic()
    loaders = [start_load(weir, http2) for http2 in (False, True)]
    print(f"{RATE} requests/s for {SECONDS} s, {UPGRADES} upgrades")
    serving = upgrade_again_and_again(checks, weir, original, start)
    reports = [report for loader in loaders for report in steady.finish(loader, start + SECONDS)]
    steady.judge(checks, reports, RATE, SECONDS, connections_end=True)
    with checks.step("all old processes are gone, the first one with exit code 0") as figure:
        equal(weir.child.wait(15), 0, "exit code of the first process")
        left = eventually(lambda: [pid for pid in weir.child.pids() if pid != serving] == [], 15, "only one is left")
        figure(f"{len(weir.child.pids())} process serves")
        expect(left, "others are left")
    with checks.step("the last process has no descriptor that the first one had not") as figure:
        # Connections to servers are kept for 4 s when nobody needs them.
        after = eventually(lambda: Descriptors(serving).no_more_than(before), 20, "no more descriptors", pause=0.2)
        figure(f"{before} at the beginning, {after} at the end")
    with checks.step("it serves, and stops when it is told to"):
        equal(weir.admin("/readyz")[0], 200, "status of /readyz")
        os.kill(serving, 15)
        eventually(lambda: not weir.child.pids(), 15, "the last process ends")
        expect(not proxy.accepts(weir.port()), "the port still accepts")


def upgrade_again_and_again(checks, weir, original, start):
    """Each time by a file that was moved over the one that runs. Returns the process that serves in the end."""
    took, pace, serving = [], SECONDS * 0.9 / max(UPGRADES, 1), weir.child.pid
    with checks.step(f"{UPGRADES} upgrades") as figure:
        for number in range(UPGRADES):
            time.sleep(max(0, start + SECONDS * 0.03 + number * pace - time.monotonic()))
            fresh = proxy.WEIR.with_suffix(".new")
            shutil.copy(original, fresh)
            fresh.replace(proxy.WEIR)
            began = time.monotonic()
            done = processes.run(
                [proxy.WEIR, "upgrade", "--admin", f"http://127.0.0.1:{weir.admin_port}"], 60)
            took.append(time.monotonic() - began)
            told = re.fullmatch(r"process (\d+) has taken over\n", done.stderr)
            expect(done.returncode == 0 and told, f"upgrade {number + 1}: {done.stderr}\n{weir.child.log_tail()}")
            expect(int(told.group(1)) != serving, "the same process serves")
            serving = int(told.group(1))
        figure(f"{statistics.median(took) * 1000:.0f} ms each (median), {max(took) * 1000:.0f} ms (most)")
        late = time.monotonic() - start - SECONDS
        expect(late <= 0, f"the upgrades took {late:.1f} s longer than the load")
    return serving


def start_load(weir, http2):
    return processes.start("load", ["node", LOADER, SECONDS, json.dumps(entries(weir, http2))], stdout=-1)


def entries(weir, http2):
    urls = {"cleartext": weir.h2c_url() if http2 else weir.url(), "TLS": weir.url(listener="secure")}
    kept = [
        {"name": f"{'HTTP/2' if http2 else 'HTTP/1.1'} {name}", "url": local(url), "http2": http2,
         "connections": 4 if http2 else 16, "rate": RATE * 9 / 40}
        for name, url in urls.items()
    ]
    fresh = {"name": "a fresh connection for each request", "url": local(urls["cleartext"]), "fresh": True,
             "http2": False, "connections": 64, "rate": RATE / 10}
    return kept if http2 else [*kept, fresh]


def local(url):
    return url.replace("localhost", "127.0.0.1")


class Descriptors:
    """How many descriptors a process has open, by kind."""

    def __init__(self, pid):
        self.kinds = {}
        for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            try:
                kind = re.sub(r"\W.*", "", os.readlink(entry).lstrip("/")) or "?"
            except OSError:
                continue
            self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def no_more_than(self, other):
        """Itself, if so."""
        more = any(count > other.kinds.get(kind, 0) for kind, count in self.kinds.items())
        return None if more else self

    def __str__(self):
        return " ".join(f"{kind}:{count}" for kind, count in sorted(self.kinds.items()))


if __name__ == "__main__":
    main(body, limit=SECONDS + 110)
