#!/usr/bin/env python3
"""Nobody gets what is not theirs: pages that change all the time, of which some break off, some fail and some are encoded
whatever the client takes, asked for by all kinds of clients at once, while the cache is purged and the config reloaded.
SECONDS_OF_LOAD and SEED may be set.

    WEIR=target/release/weir tests/e2e/cache_of_changing_pages.py
"""

import json
import os
import pathlib
import random
import subprocess
import time

from support import machine, processes, proxy
from support.checks import equal, eventually, expect, main

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = int(os.environ.get("SECONDS_OF_LOAD", "20"))
SEED = int(os.environ.get("SEED", "1"))
PURGES = [{"all": True}, {"all": True, "soft": True}, {"prefix": "http://localhost/tagged/"}]


def body(checks):
    machine.need("node")
    proxy.need()
    port = machine.free_port()
    origin = processes.start("origin", ["node", HERE / "origins/versions.js", port])
    eventually(lambda: proxy.accepts(port), 10, "the origin listens")
    weir = proxy.start_proxy(config(port, proxy.listeners("web", "secure"), 0))
    arguments = [SECONDS, f"http://localhost:{weir.port()}", f"https://localhost:{weir.port('secure')}", SEED]
    clients = processes.start(
        "clients", ["node", HERE / "clients/of_versions.js", *arguments], stdout=subprocess.PIPE)
    with checks.step("the cache is purged and the config reloaded meanwhile") as figure:
        purges, reloads = disturb(weir, port)
        figure(f"{purges} purges, {reloads} reloads")
    with checks.step(f"{SECONDS} s from seed {SEED}: every answer is whole, fresh, and for the one who asked") as figure:
        equal(clients.wait(30), 0, "exit code of the clients")
        report = json.loads(clients.popen.stdout.read())
        counts = report["counts"]
        figure(f"{counts.get('right', 0)} right, {counts.get('broken', 0)} broken off by the origin")
        figure(f"{counts.get('hit', 0)} hits")
        expect(not report["wrong"], f"{counts.get('wrong', 0)} wrong, such as {json.dumps(report['wrong'][:3])}")
        expect(counts.get("right", 0) > 50 * SECONDS, f"there were few: {counts}")
        expect(counts.get("hit", 0) > 10 * SECONDS, f"few of them hits: {counts}")
    with checks.step("the proxy and the origin are still there"):
        weir.expect_alive()
        expect(origin.running(), origin.log_tail())


def disturb(weir, port):
    draw, end, purges, reloads = random.Random(SEED), time.monotonic() + SECONDS - 1, 0, 0
    while time.monotonic() < end:
        time.sleep(draw.random())
        if draw.random() < 0.4:
            reloads += 1
            weir.write(config(port, weir.config["listen"], reloads))
            equal(weir.admin("/api/reload", "POST")[0], 200, "status of the reload")
        else:
            purges += 1
            equal(weir.admin("/api/cache/purge", "POST", draw.choice(PURGES))[0], 200, "status of the purge")
    return purges, reloads


def config(port, listeners, number):
    return {
        "process": {"workers": 3},
        # Small, so that there is little room, and some pages are too large.
        "cache": {"max_size": "16MiB", "max_object_size": "1MiB"},
        "listen": listeners,
        "route": {"site": {
            "upstream": "origin", "cache": True, "compress": {"min_size": f"{64 + number % 3}B"},
            "response_headers": {"set": {"X-Config": str(number)}},
        }},
        "upstream": {"origin": {"servers": [f"127.0.0.1:{port}"], "ejection": "off", "retry": "off"}},
    }


if __name__ == "__main__":
    main(body, limit=SECONDS + 60)
