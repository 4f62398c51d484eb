#!/usr/bin/env python3
"""Servers that die and come back, under a constant rate of requests of which each one is written down.

    WEIR=target/release/weir tests/e2e/failover.py [--full] [killed] [restarts] [outage]

killed: kill -9 of one of three servers under 2,000 GETs a second, and its return. restarts: all three are restarted in
turn, by SIGTERM and by kill -9, under 500 requests a second of which a fifth are POSTs; 3 rounds, 20 with --full.
outage: all three are gone for 10 s under 500 GETs a second.

weir runs with its defaults and a health check. UPSTREAM='{"retry": {"budget": "1%"}}' adds to the upstream's table, to see
the script fail; LOG='{"access_filter": "all"}' to that of the log (KEEP=1 keeps it). PAUSE=0.5 restarts so fast
that failovers are refused (with --full; see there).
"""

import collections
import json
import os
import random
import statistics
import sys
import time

from support import proxy
from support.checks import equal, expect, main
from support.recorded import Load, Origin, failed, had_begun, is_good

FULL = "--full" in sys.argv
PARTS = [part for part in sys.argv[1:] if part != "--full"]
ADDED = json.loads(os.environ.get("UPSTREAM", "{}"))
# Seconds from the return of one server to the restart of the next. A server that fails again within 10 s of its return
# rests for 20 s and more, and failovers are 20 % of the requests at most. This keeps away from the first, and so from both.
PAUSE = float(os.environ.get("PAUSE", "3.5"))
LOG = json.loads(os.environ.get("LOG", "{}"))

# The defaults of a health check, as config/weir.full.toml tells them.
INTERVAL, FAST, TIMEOUT, FALL, RISE = 5, 1, 2, 3, 2
SPREAD = 1.1
DOWN_WITHIN = SPREAD * (INTERVAL + (FALL - 1) * FAST) + TIMEOUT
UP_WITHIN = SPREAD * (INTERVAL + (RISE - 1) * FAST) + TIMEOUT
SLOW_START = 10
REST = 10
BUDGET_SHARE, BUDGET_RESERVE, UNUSED = 0.2, 10, 100
PATIENCE = 5


def body(checks):
    proxy.need()
    expect(proxy.KIND == "weir", "nginx has neither health checks nor a status to ask")
    parts = {"killed": killed, "restarts": restarts, "outage": outage}
    for name in PARTS or parts:
        print(f"-- {name}", flush=True)
        parts[name](checks)


def start():
    origins = [Origin(name) for name in ("one", "two", "three")]
    weir = proxy.start_proxy({
        "log": LOG,
        "listen": proxy.listeners("web"),
        "route": {"site": {"upstream": "app"}},
        "upstream": {"app": {
            "servers": [origin.address for origin in origins], "health_check": {"path": "/healthz"}, **ADDED}},
    })
    return weir, origins


def finish(weir, origins):
    weir.expect_alive()
    weir.stop()
    for origin in origins:
        origin.child.kill()


# ---- One server is killed and comes back ---------------------------------------------------------------------------

def killed(checks):
    weir, origins = start()
    victim = origins[1]
    load = Load(weir.url(), 2000)
    time.sleep(4)
    before = attempts(weir, victim.address)
    at = victim.kill()
    out = settled = None
    with checks.step("a killed server is marked down in time") as figure:
        state, out = wait_for(weir, victim, at, ("ejected", "down"), DOWN_WITHIN)
        # What was on its way there when the state was seen.
        time.sleep(0.2)
        settled = attempts(weir, victim.address)
        figure(f"{state} after {out - at:.2f} s")
        _, down = wait_for(weir, victim, at, ("down",), DOWN_WITHIN)
        figure(f"down after {down - at:.2f} s, bound {DOWN_WITHIN:.1f} s")
    with checks.step("it gets nothing while it is out, except trials") as figure:
        expect(settled, "it was never out")
        time.sleep(25 if FULL else 3)
        grown = attempts(weir, victim.address) - settled
        trials = int((time.time() - out) // REST)
        figure(f"{counts(settled - before)} from the kill until it was seen to be out")
        figure(f"{counts(grown)} in the {time.time() - out:.1f} s after; {trials} trials would be due")
        expect(sum(grown.values()) <= trials, f"it got {sum(grown.values())} requests though it was out")
    accepting = victim.start()
    with checks.step("a server that returns is up in time") as figure:
        _, up = wait_for(weir, victim, accepting, ("up",), UP_WITHIN)
        figure(f"up after {up - accepting:.2f} s, bound {UP_WITHIN:.1f} s")
    with checks.step(f"its share grows over {SLOW_START} s") as figure:
        shares = list(share_each_second(weir, victim, SLOW_START + 3))
        figure("each second: " + " ".join(f"{share:.1f}" for share in shares) + " %")
        end = statistics.mean(shares[-2:])
        expect(shares[0] < 15, f"it begins with {shares[0]:.1f} %")
        expect(shares[SLOW_START // 2 - 1] < 28, f"half-way it has {shares[SLOW_START // 2 - 1]:.1f} %")
        expect(28 <= end <= 38, f"it ends at {end:.1f} %")
    requests = load.stop()
    with checks.step("kill -9 under 2,000 GETs a second: no failed request") as figure:
        judge(requests, load, figure, weir)
    finish(weir, origins)


def attempts(weir, address=None):
    """Attempts so far by outcome, on one server or on all."""
    found = collections.Counter()
    for labels, value in weir.counted("weir_upstream_requests_total"):
        if address in (None, labels["server"]):
            found[labels["outcome"]] += int(value)
    return found


def wait_for(weir, origin, since, wanted, bound):
    """The first of the states that are wanted and when it was seen, which must be in time."""
    # Beyond the bound, so that a miss has its figure.
    while time.time() - since < 3 * bound:
        state = state_of(weir, origin)
        if state in wanted:
            took = time.time() - since
            expect(took <= bound, f"{state} after {took:.2f} s, later than {bound:.1f} s")
            return state, since + took
        time.sleep(0.02)
    raise AssertionError(f"not {wanted[0]} within {3 * bound:.1f} s, last seen: {state}")


def state_of(weir, origin):
    servers = weir.status()["upstreams"][0]["servers"]
    return next(server["state"] for server in servers if server["address"] == origin.address)


def share_each_second(weir, origin, seconds):
    """The server's part of all good answers, in percent."""
    due, before = time.monotonic(), good_by_server(weir)
    for _ in range(seconds):
        due += 1
        time.sleep(max(0, due - time.monotonic()))
        now = good_by_server(weir)
        grown = now - before
        yield 100 * grown[origin.address] / max(1, sum(grown.values()))
        before = now


def good_by_server(weir):
    return collections.Counter({
        labels["server"]: int(value)
        for labels, value in weir.counted("weir_upstream_requests_total") if labels["outcome"] == "ok"})


# ---- All servers are restarted in turn ------------------------------------------------------------------------------

def restarts(checks):
    weir, origins = start()
    rounds = 20 if FULL else 3
    load = Load(weir.url(), 500, posts=0.2)
    time.sleep(3)
    kills = ends = 0
    with checks.step(f"{rounds} rounds of restarts of all three servers") as figure:
        for number in range(rounds * len(origins)):
            origin = origins[number % len(origins)]
            if number % 2:
                origin.kill()
                kills += 1
            else:
                origin.end()
                ends += 1
            time.sleep(random.uniform(0, 1))
            origin.start()
            time.sleep(random.uniform(0.9, 1.1) * PAUSE)
            load.expect_running()
        figure(f"{ends} by SIGTERM, {kills} by kill -9")
    requests = load.stop()
    gets = [request for request in requests if request.method == "GET"]
    posts = [request for request in requests if request.method == "POST"]
    with checks.step("rolling restarts: no failed GET") as figure:
        judge(gets, load, figure, weir, share=0.8)
    lives = [life for origin in origins for life in origin.lives]
    with checks.step("rolling restarts: POSTs fail only on the server that was killed under them") as figure:
        judge_posts(posts, lives, figure, weir)
    with checks.step("rolling restarts: no POST is executed twice") as figure:
        executed = collections.Counter(name for life in lives for name in life.executed())
        twice = {name: count for name, count in executed.items() if count > 1}
        figure(f"{len(posts)} POSTs, {len(executed)} executed, {len(twice)} of them twice")
        equal(twice, {}, "executed more than once")
        missing = [request.id for request in posts if is_good(request) and request.id not in executed]
        equal(missing[:5], [], "answered, and in no log")
    finish(weir, origins)


def judge_posts(posts, lives, figure, weir):
    """A failed POST must have been under way on a server when that was killed: by the log of that server, which has what
    it began to execute; or, where it died before it read it, by the log of weir, which tells whom it was sent to."""
    where = {name: life for life in lives for name in life.executed()}
    bad = [request for request in posts if not is_good(request)]
    lines = weir.child.log.read_text(errors="replace").splitlines() if bad else []
    log = {request.id: next((line for line in lines if f"id={request.id}" in line), "no line") for request in bad}
    executing, unread, others = [], [], []
    for request in bad:
        if request.id in where:
            known = executing if was_under_way(request, where[request.id]) else others
        else:
            known = unread if any(was_unread(request, life, log[request.id]) for life in lives) else others
        known.append(request)
    figure(f"{len(posts)} POSTs, {len(bad)} failed")
    figure(f"{len(executing)} that a killed server was executing, {len(unread)} that it died before reading")
    figure(f"answers {dict(collections.Counter(kind(request) for request in bad))}")
    expect(not others, f"{len(others)} failed otherwise: " + "; ".join(
        f"{describe(request)}, {'executed by ' + where[request.id].name if request.id in where else 'in no log'}"
        f", {nearest_kill(request, lives)}, weir says {log[request.id]}"
        for request in others[:3]))


def was_under_way(request, life):
    return life.killed is not None and request.due <= life.gone and request.over >= life.killed


def was_unread(request, life, line):
    """It was sent to a server that was killed before it read it: nobody can tell that from one that was executed. Once
    the process is gone its connections are closed, and what comes then must not be sent on them."""
    return was_under_way(request, life) and f'"server":"{life.address}"' in line and "connection_terminated" in (
        request.proxy_status)


def nearest_kill(request, lives):
    life = min((life for life in lives if life.killed), key=lambda life: abs(life.killed - request.over), default=None)
    if life is None:
        return "no kill"
    return (f"due {1000 * (request.due - life.killed):+.1f} ms and over {1000 * (request.over - life.killed):+.1f} ms "
            f"from the kill of {life.name} ({life.address}), which took {1000 * (life.gone - life.killed):.1f} ms")


# ---- All servers are gone ------------------------------------------------------------------------------------------

def outage(checks):
    weir, origins = start()
    load = Load(weir.url(), 500, connections=256)
    # The retry budget looks back for 10 s: a full window allows the most.
    time.sleep(11 if FULL else 6)
    before = attempts(weir)
    began = time.time()
    for origin in origins:
        origin.kill()
    gone = time.time()
    first_second = None
    while time.time() < gone + 10:
        if first_second is None and time.time() >= gone + 1:
            first_second = attempts(weir) - before
        time.sleep(0.02)
    seen = {origin.name: state_of(weir, origin) for origin in origins}
    after, until = attempts(weir), time.time()
    accepting = origins[0].start()
    time.sleep(3)
    for origin in origins[1:]:
        last = origin.start()
    with checks.step("after an outage all are back") as figure:
        waits = [wait_for(weir, origin, last, ("up",), UP_WITHIN)[1] - last for origin in origins]
        figure(f"up {max(waits):.2f} s after the last one accepted connections, bound {UP_WITHIN:.1f} s")
    time.sleep(1)
    requests = load.stop()
    with checks.step("an outage of 10 s does not multiply the load on servers") as figure:
        sent = after - before
        seconds = until - began
        offered = len([request for request in requests if began <= request.due < until])
        bound = (1 + BUDGET_SHARE) * offered + BUDGET_RESERVE * seconds + UNUSED
        figure(f"{offered} requests in {seconds:.1f} s, {sum(sent.values())} attempts, bound {bound:.0f}: {counts(sent)}")
        figure(f"{sum(first_second.values())} attempts in the first second, states at the end {seen}")
        expect(sum(sent.values()) <= bound, f"{sum(sent.values())} attempts, more than {bound:.0f}")
        expect(sum(sent.values()) >= 0.9 * offered, "fewer attempts than requests: nothing was tried")
    with checks.step("meanwhile clients are answered at once and told why") as figure:
        during = [request for request in requests if gone <= request.due < until and request.over < until]
        figure(f"answers {dict(collections.Counter(kind(request) for request in during))}")
        slowest = max(request.over - request.due for request in requests if began - 1 <= request.due < until)
        figure(f"slowest {slowest * 1000:.0f} ms")
        others = [request for request in during if request.status not in (502, 503, 504) or not request.proxy_status]
        expect(not others, f"{len(others)} other answers, such as {describe(others[0]) if others else ''}")
        expect(slowest <= PATIENCE, f"an answer took {slowest:.1f} s")
    with checks.step("requests succeed as soon as the first server is back") as figure:
        recovered = first_good_window(requests, accepting)
        figure(f"99 % of 200 ms succeed from {1000 * (recovered - accepting):.0f} ms after it accepted connections")
        expect(recovered - accepting <= 2, f"{recovered - accepting:.2f} s")
        late = [request for request in requests if request.due >= recovered + 0.2 and failed(request)]
        figure(f"{len(late)} failed after that")
        expect(not late, f"{len(late)} failed later, such as {describe(late[0]) if late else ''}, "
                         f"{late[0].due - accepting if late else 0:.2f} s after the first return")
    finish(weir, origins)


def first_good_window(requests, since):
    """The beginning of the first 200 ms from then on in which 99 % of the requests succeed."""
    for step in range(0, 1500):
        begin = since + step * 0.01
        window = [request for request in requests if begin <= request.due < begin + 0.2]
        if len(window) >= 50 and sum(map(is_good, window)) >= 0.99 * len(window):
            return begin
    raise AssertionError("not within 15 s")


# ---- What was seen --------------------------------------------------------------------------------------------------

def judge(requests, load, figure, weir, share=1.0):
    """No request failed, and as many were made as should have been."""
    bad = [request for request in requests if failed(request)]
    begun = [request for request in requests if had_begun(request)]
    took = sorted(request.over - request.due for request in requests)
    seconds = requests[-1].due - requests[0].due
    figure(f"{len(requests)} requests in {seconds:.0f} s, {len(bad)} failed, {len(begun)} broke off after they had begun")
    figure(f"p50 {took[len(took) // 2] * 1000:.1f} ms, p99 {took[len(took) * 99 // 100] * 1000:.1f} ms, "
           f"most {took[-1] * 1000:.0f} ms")
    figure(f"retries {retries(weir)}")
    expect(not bad, f"failed: {dict(collections.Counter(kind(request) for request in bad))}, "
                    f"the first: {describe(bad[0]) if bad else ''}")
    expect(len(requests) >= 0.98 * share * load.rate * seconds, f"only {len(requests) / seconds:.0f} requests/s")


def retries(weir):
    found = {labels["reason"]: int(value) for labels, value in weir.counted("weir_upstream_retries_total") if value}
    refused = weir.sum_of("weir_upstream_retries_refused_total")
    return {**found, **({"refused by the budget": int(refused)} if refused else {})}


def kind(request):
    """What a request came to, in few words."""
    told = request.proxy_status.partition("error=")[2] or request.proxy_status
    return " ".join(filter(None, [str(request.status), told, request.problem, "" if request.whole else "broken"]))


def describe(request):
    return f"{request.method} {request.id} {kind(request)} after {1000 * (request.over - request.due):.0f} ms"


def counts(counter):
    return ", ".join(f"{value} {name}" for name, value in counter.items() if value) or "none"


if __name__ == "__main__":
    main(body, limit=600 if FULL else 200)
