"""Load generators from Debian, and the counts in their reports."""

import re

from . import machine, processes
from .checks import expect


def wrk(url, seconds, connections=32, script=None, cpus=None, headers=()):
    """Runs wrk; returns how many requests it made. Fails on any error or status other than 2xx and 3xx."""
    machine.need("wrk")
    arguments = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    arguments += [part for header in headers for part in ("-H", header)]
    arguments += ["-s", script] if script else []
    arguments = ["taskset", "-c", cpus, *arguments] if cpus else arguments
    report = processes.run([*arguments, url], seconds + 20)
    count = re.search(r"(\d+) requests in", report.stdout)
    expect(report.returncode == 0 and count, f"wrk failed: {report.stdout}{report.stderr}")
    bad = re.search(r"Socket errors:.*|Non-2xx.*", report.stdout)
    expect(not bad, f"wrk reports: {bad and bad.group()}")
    expect(int(count.group(1)) > 0, "wrk made no request")
    return int(count.group(1))


class H2load:
    """The counts of one h2load report."""

    def __init__(self, text):
        self.text = text
        requests = re.search(
            r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, "
            r"(\d+) timeout", text)
        statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
        expect(requests and statuses, f"h2load gave no report: {text[-500:]}")
        counts = map(int, requests.groups())
        _, self.started, self.done, self.succeeded, self.failed, self.errored, self.timeout = counts
        self.ok, *self.not_ok = map(int, statuses.groups())
        self.protocol = (re.search(r"Application protocol: (\S+)", text) or [None, "?"])[1]
        slowest = re.search(r"time for request:\s+\S+\s+(\S+)", text)
        self.slowest = slowest.group(1) if slowest else "?"

    def expect_clean(self):
        bad = self.failed + self.errored + self.timeout + sum(self.not_ok)
        expect(
            bad == 0 and self.succeeded == self.done == self.ok > 0,
            f"h2load: {self.started} started, {self.done} done, {self.succeeded} succeeded, {self.failed} failed, "
            f"{self.errored} errored, {self.timeout} timed out, statuses 2xx/3xx/4xx/5xx {self.ok}/{self.not_ok}",
        )


def h2load(url, requests, clients=16, streams=10, options=()):
    """Runs h2load to its end and gives its counts."""
    machine.need("h2load")
    arguments = ["h2load", f"-n{requests}", f"-c{clients}", f"-m{streams}", *options, url]
    return H2load(processes.run(arguments, 60).stdout)
