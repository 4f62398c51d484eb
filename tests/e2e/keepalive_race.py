#!/usr/bin/env python3
"""Servers that close idle connections after 5 s, as Node does by default, and clients that come again after 4.5 to 5.5 s:
no request, GET or POST, may be lost to a connection that its server is about to close. Once with servers that tell how
long they keep connections (`Keep-Alive: timeout=5`) and once with servers that do not.

    WEIR=target/release/weir tests/e2e/keepalive_race.py [--full]

2,000 requests of each kind, 20,000 with --full. UPSTREAM='{"keepalive": {"idle": "60s"}}' adds to the upstreams' tables,
to see the script fail.
"""

import json
import os
import pathlib
import signal
import statistics
import sys

from support import machine, processes, proxy
from support.checks import equal, expect, main

E2E = pathlib.Path(__file__).resolve().parent
FULL = "--full" in sys.argv
ADDED = json.loads(os.environ.get("UPSTREAM", "{}"))
ROUNDS = 50 if FULL else 5
USERS = 100
# So many upstreams of each kind, each with bursts and gaps of its own: more draws of the gap in the same time.
GROUPS = 4
KEPT = 5.0
# No gap is shorter, so whatever is idle for longer than a burst lasts must not be used again.
SHORTEST_GAP = 4.5


def body(checks):
    machine.need("node")
    proxy.need()
    kinds = {f"{kind}-{number}": kind for kind in ("told", "untold") for number in range(GROUPS)}
    ports = {name: machine.free_port() for name in kinds}
    servers = [{"port": ports[name], "tells": kind == "told"} for name, kind in kinds.items()]
    origin = processes.start("origin", ["node", E2E / "origins/five_seconds.js", json.dumps(servers)], stdout=-1)
    weir = proxy.start_proxy({
        "listen": proxy.listeners("web"),
        "route": {name: {"path": f"/{name}", "upstream": name} for name in kinds},
        "upstream": {name: {"servers": [f"127.0.0.1:{port}"], **ADDED} for name, port in ports.items()},
    })
    groups = [
        {"name": name, "users": USERS, "url": weir.url(f"/{name}").replace("localhost", "127.0.0.1")} for name in kinds]
    report = processes.run(
        ["node", E2E / "clients/bursts.js", json.dumps({"rounds": ROUNDS, "groups": groups})], 60 + 7 * ROUNDS)
    equal(report.returncode, 0, f"exit code of the clients: {report.stderr}")
    reports = [json.loads(line) for line in report.stdout.splitlines()]
    origin.signal(signal.SIGTERM)
    seen = json.loads(origin.popen.stdout.read())
    for kind, told in (("told", "servers that tell their 5 s"), ("untold", "servers that do not tell")):
        mine = [report for report in reports if kinds[report["name"]] == kind]
        with checks.step(f"{told}: no failed request") as figure:
            no_failure(mine, figure)
        with checks.step(f"{told}: no connection is used that they are about to close") as figure:
            nothing_stale(weir, [seen[str(ports[name])] for name in kinds if kinds[name] == kind], kind, figure)
    with checks.step("the proxy is still there"):
        weir.expect_alive()


def no_failure(reports, figure):
    gets, posts = (sum(report[method] for report in reports) for method in ("GET", "POST"))
    gaps = [gap for report in reports for gap in report["gaps"]]
    figure(f"{gets} GETs and {posts} POSTs in {len(gaps) + GROUPS} bursts")
    close = sum(abs(gap - KEPT) < 0.05 for gap in gaps)
    figure(f"gaps {min(gaps):.2f} to {max(gaps):.2f} s, median {statistics.median(gaps):.2f} s, {close} at the boundary")
    failures = {}
    for report in reports:
        for kind, count in report["failures"].items():
            failures[kind] = failures.get(kind, 0) + count
    figure(f"{sum(failures.values())} failed")
    equal(failures, {}, "failures")
    equal(gets + posts, ROUNDS * USERS * GROUPS, "requests")


def nothing_stale(weir, servers, kind, figure):
    total = {name: sum(server[name] for server in servers) for name in servers[0]}
    longest = max(server["longest"] for server in servers)
    figure(f"{total['requests']} requests reached them over {total['connections']} connections, "
           f"{total['reused']} on one that had been idle, for {longest:.2f} s at most")
    stale = 0
    if proxy.KIND == "weir":
        stale = sum(
            int(value) for labels, value in weir.counted("weir_upstream_retries_total")
            if labels["reason"] == "stale" and labels["upstream"].startswith(f"{kind}-"))
        figure(f"{stale} stale replays")
    expect(longest < SHORTEST_GAP, f"a connection was used after {longest:.2f} s, of {KEPT:.0f} s that it is kept")
    equal(stale, 0, "stale replays")
    expect(total["reused"] > 0, "no connection was used twice: nothing was tested")


if __name__ == "__main__":
    main(body, limit=90 + 7 * ROUNDS)
