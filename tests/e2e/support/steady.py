"""The end of `clients/steady_load.js`: its reports, and what must hold of them."""

import json
import time

from .checks import equal, expect


def finish(loader, end):
    """The reports of a load that ends at `end`, of the monotonic clock."""
    code = loader.wait(max(1, end + 20 - time.monotonic()))
    expect(code == 0, f"the load ended with {code}:\n{loader.log_tail()}")
    return [json.loads(line) for line in loader.popen.stdout.read().splitlines()]


def judge(checks, reports, rate, seconds, connections_end=False):
    """Not one request failed, and none was left out. Where connections are to end, HTTP/2 clients may have to send some again."""
    for report in reports:
        with checks.step(f"{report['name']}: no failed request") as figure:
            figure(f"{report['started']} requests, {report['succeeded']} succeeded, {report['failed']} failed")
            spread = report["milliseconds"]
            figure(f"{report['opened']} connections")
            if connections_end and report["again"]:
                figure(f"{report['again']} sent again over another connection")
            else:
                equal(report["again"], 0, "requests that were sent again")
            figure(f"p50 {spread['p50']:.1f} ms, p99 {spread['p99']:.1f} ms, most {spread['most']:.0f} ms")
            equal(report["failures"], {}, "failures, with the first times in ms")
            equal(report["succeeded"], report["started"], "answers")
    with checks.step("the rate was reached") as figure:
        reached = sum(report["started"] for report in reports) / seconds
        figure(f"{reached:.0f} requests/s")
        expect(reached >= rate * 0.99, f"{reached:.0f} requests/s instead of {rate}")
