#!/usr/bin/env python3
"""`weir demo` as a newcomer meets it: what it prints is tried, one server is made to fail, the admin address is read.

    WEIR=target/release/weir tests/e2e/demo.py

The failing URL is the one on the first line that speaks of failing (see `FAIL`).
"""

import collections
import contextlib
import http.client
import json
import re
import signal
import time
import urllib.parse

from support import machine, processes, proxy
from support.checks import equal, eventually, expect, main

URL = re.compile(r"https?://[^\s'\"<>`)]+")
FAIL = re.compile(r"fail|break|sick|kill|unhealthy", re.IGNORECASE)
STARTED_WITHIN = 5
SKIPPED_WITHIN = 20
ENDED_WITHIN = 5


def body(checks):
    if proxy.KIND != "weir":
        print("only weir has a demo")
        checks.passed += 1
        return
    proxy.need()
    folder = machine.work_dir() / "empty"
    folder.mkdir()
    start = time.monotonic()
    demo = Demo(folder)
    with checks.step("the first URL printed is the proxy's") as figure:
        demo.first = eventually(demo.serving, STARTED_WITHIN, "the first URL printed answers")
        figure(f"{demo.first}, after {(time.monotonic() - start) * 1000:.0f} ms")
    with checks.step("requests are spread over three servers") as figure:
        seen = spread(demo.first, 60)
        figure(dict(seen))
        equal(len(seen), 3, f"servers, by X-Origin {dict(seen)}")
        expect(min(seen.values()) >= 10, f"uneven: {dict(seen)}")
    admin_address(checks, demo)
    failing(checks, demo)
    with checks.step("a second demo finds free ports beside the first"):
        second = Demo(folder)
        url = eventually(second.serving, STARTED_WITHIN, "the first URL of the second demo answers")
        expect(url != demo.first, "both print the same URL")
        end(second)
    with checks.step(f"SIGTERM ends it with exit code 0 within {ENDED_WITHIN} s"):
        end(demo)
    with checks.step("it wrote nothing"):
        equal([file.name for file in folder.iterdir()], [], "files in its folder")


class Demo:
    def __init__(self, folder):
        self.child = processes.start("demo", [proxy.WEIR, "demo"], cwd=folder)

    def printed(self):
        return self.child.log.read_text(errors="replace")

    def urls(self):
        return [url.rstrip(".,;") for url in URL.findall(self.printed())]

    def serving(self):
        """The first URL printed, once it answers."""
        expect(self.child.running(), f"`weir demo` ended at its start:\n{self.child.log_tail()}")
        for url in self.urls()[:1]:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return url if ask(url)[0] == 200 else None
        return None

    def failing(self):
        """Method and URL that make a server fail."""
        for line in self.printed().splitlines():
            for url in URL.findall(line):
                if FAIL.search(line) and url.rstrip(".,;") != self.first:
                    return "POST" if re.search(r"\bPOST\b", line) else "GET", url.rstrip(".,;")
        raise AssertionError(f"no URL that makes a server fail:\n{self.child.log_tail(40)}")

    def admin(self):
        """The admin address is the printed one that knows `/healthz` and `/metrics`."""
        origins = {urllib.parse.urljoin(url, "/") for url in self.urls()}
        for origin in sorted(origins - {urllib.parse.urljoin(self.first, "/")}):
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(origin + "healthz")[0] == 200 and b"weir_build_info" in ask(origin + "metrics")[2]:
                    return origin
        raise AssertionError(f"no admin address among {sorted(origins)}")


def admin_address(checks, demo):
    with checks.step("the admin address: /healthz, /readyz, /metrics, /api/status") as figure:
        admin = demo.admin()
        figure(admin)
        equal(ask(admin + "healthz")[0], 200, "/healthz")
        eventually(lambda: ask(admin + "readyz")[0] == 200, 11, "/readyz")
        metrics = ask(admin + "metrics")[2].decode()
        for name in ("weir_requests_total", "weir_server_up", "weir_request_duration_seconds_bucket"):
            expect(name in metrics, f"no {name} in /metrics")
        equal(sorted(states(admin).values()), ["up"] * 3, f"servers in /api/status {states(admin)}")


def failing(checks, demo):
    with checks.step("a server that fails is skipped") as figure:
        method, url = demo.failing()
        figure(f"{method} {url}")
        status, _, text = ask(url, method)
        expect(status < 500 or text, f"the failing URL answers {status}")
        start = time.monotonic()
        eventually(lambda: skipped(demo.first), SKIPPED_WITHIN, "only two servers answer, and all is well", pause=0.2)
        figure(f"after {time.monotonic() - start:.1f} s")
        found = eventually(lambda: down(states(demo.admin())), SKIPPED_WITHIN, "/api/status shows it")
        figure(f"/api/status: {found}")


def skipped(url):
    """Thirty answers in a row, all good, from two servers."""
    seen = collections.Counter()
    for _ in range(30):
        status, fields, _ = ask(url)
        if status != 200:
            return False
        seen[fields["X-Origin"]] += 1
    return len(seen) == 2


def down(servers):
    """The state of the one server that is not up."""
    return next(iter([state for state in servers.values() if state != "up"]), None)


def states(admin):
    status = json.loads(ask(admin + "api/status")[2])
    return {server["address"]: server["state"] for upstream in status["upstreams"] for server in upstream["servers"]}


def spread(url, requests):
    seen = collections.Counter()
    for _ in range(requests):
        status, fields, _ = ask(url)
        equal(status, 200, "status")
        expect(fields["X-Origin"], "an answer without X-Origin")
        seen[fields["X-Origin"]] += 1
    return seen


def end(demo):
    demo.child.signal(signal.SIGTERM)
    equal(demo.child.wait(ENDED_WITHIN), 0, f"exit code ({demo.child.log_tail(5)})")
    equal(demo.child.pids(), [], "processes left")


def ask(url, method="GET"):
    """Status, fields and body; a new connection each time."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        target = parts.path or "/"
        connection.request(method, f"{target}?{parts.query}" if parts.query else target)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


if __name__ == "__main__":
    main(body, limit=90)
