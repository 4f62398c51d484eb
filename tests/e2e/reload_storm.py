#!/usr/bin/env python3
"""A storm of reloads under load: each 120 ms another file, by SIGHUP or by the API, half of them broken, while 2,000
requests a second come over HTTP/1.1 and HTTP/2, cleartext and TLS. No request fails, no connection of a listener that
stays is closed, every good file is taken and every broken one refused, and neither memory nor open files grow.

    WEIR=target/release/weir tests/e2e/reload_storm.py           # 100 reloads in 12 s
    WEIR=target/release/weir tests/e2e/reload_storm.py --full    # 500 in 60 s
"""

import json
import pathlib
import signal
import statistics
import subprocess
import sys
import time

from support import machine, processes, proxy
from support.checks import equal, eventually, expect, main
from support.machine import MIB
from support.nginx import Nginx

from reload_and_kill import Memory, fetch

LOADER = pathlib.Path(__file__).resolve().parent / "clients/steady_load.js"
FULL = "--full" in sys.argv[1:]
SECONDS, RELOADS = (60, 500) if FULL else (12, 100)
RATE = 2000
CONNECTIONS = {False: 32, True: 4}
TAKEN_WITHIN = 4.0
GROWTH_LIMIT = 5 * MIB


def body(checks):
    machine.need("nginx", "node", "openssl")
    proxy.need()
    storm = Storm()
    with checks.step("warm-up: every kind of file, under load") as figure:
        # As long as the shorter storm: what is allocated once is there before anything is judged.
        loaders = storm.start_load(12)
        for number in range(8 * (len(GOOD) + len(BROKEN))):
            storm.reload(number)
        figure(f"{storm.taken} taken, {storm.refused} refused")
        for loader in loaders:
            reports(loader, 20)
    before = storm.at_rest()
    print(f"{RATE} requests/s for {SECONDS} s, {RELOADS} reloads")
    counted = storm.counts()
    storm.taken = storm.refused = 0
    start = time.monotonic()
    memory = Memory(storm.weir)
    loaders = storm.start_load(SECONDS)
    took = storm_of_reloads(checks, storm, start)
    found = [report for loader in loaders for report in reports(loader, start + SECONDS + 20 - time.monotonic())]
    memory.stop()
    judge_requests(checks, found)
    with checks.step("every good file was taken, every broken one refused, and counted so") as figure:
        ok, refused = (now - was for now, was in zip(storm.counts(), counted))
        figure(f"{storm.taken} good, {storm.refused} broken, {ok:.0f} and {refused:.0f} by the metric")
        figure(f"answered or seen after {statistics.median(took) * 1000:.0f} ms (median), {max(took) * 1000:.0f} ms (most)")
        equal(storm.taken + storm.refused, RELOADS, "reloads")
        # The watch may be the first to read a file that a SIGHUP then takes once more.
        expect(ok >= storm.taken and refused >= storm.refused, "the metric counts fewer")
    judge_growth(checks, storm, before, memory)


def storm_of_reloads(checks, storm, start):
    pace, took = (SECONDS - 1) / RELOADS, []
    with checks.step(f"{RELOADS} reloads, half of them broken, each seen to be taken or refused") as figure:
        for number in range(RELOADS):
            time.sleep(max(0, start + number * pace - time.monotonic()))
            began = time.monotonic()
            storm.reload(number)
            took.append(time.monotonic() - began)
        late = time.monotonic() - start - SECONDS
        figure(f"{RELOADS / (time.monotonic() - start):.1f} reloads/s")
        expect(late <= 0, f"the reloads took {late:.1f} s longer than the load")
    return took


class Storm:
    """The proxy, its origins, and a file for each number."""

    def __init__(self):
        self.origins = [Nginx(name) for name in ("one", "two", "three")]
        self.tables = proxy.listeners("web", "secure")
        self.spare = proxy.listeners("spare")
        self.other = machine.certificate("other")
        self.taken = self.refused = 0
        self.marker = -1
        self.weir = proxy.start_proxy(self.config(self.marker))

    def config(self, number):
        """What every good file has in common: two listeners, a route to the origins, a route that answers the number."""
        return {
            "log": {"access": "off"},
            "listen": dict(self.tables),
            "route": {
                "site": {"upstream": "app"},
                "marker": {"path": "/marker", "respond": {"status": 200, "body": f"marker {number}"}},
            },
            "upstream": {"app": {"servers": [origin.address for origin in self.origins], "health_check": "/"}},
        }

    def reload(self, number):
        """Writes the file of that number, has it taken, and looks at what became of it."""
        half = number // 2
        by_signal = half % 2 == 0
        if number % 2 == 0:
            config = self.config(number)
            GOOD[half % len(GOOD)](self, config, half)
            self.weir.write(config)
        else:
            kind = BROKEN[half % len(BROKEN)]
            self.weir.put(kind(self, self.weir.text(self.config(number))))
        refused = self.counts()[1]
        answer = None
        if by_signal:
            self.weir.child.signal(signal.SIGHUP)
        else:
            answer = self.weir.admin("/api/reload", "POST")
        if number % 2 == 0:
            self.marker = number
            expect(by_signal or answer[0] == 200, f"file {number} ({GOOD[half % len(GOOD)].__name__}): {answer}")
            eventually(self.runs, TAKEN_WITHIN, f"file {number} ({GOOD[half % len(GOOD)].__name__}) is taken")
            self.taken += 1
        else:
            what = f"file {number} ({BROKEN[half % len(BROKEN)].__name__})"
            expect(by_signal or answer[0] == 422, f"{what}: {answer}")
            eventually(lambda: self.counts()[1] > refused, TAKEN_WITHIN, f"{what} is refused")
            expect(self.runs(), f"after {what}, the config before does not run")
            self.refused += 1

    def runs(self):
        status, _, text = fetch(self.weir.port(), "/marker")
        return (status, text) == (200, f"marker {self.marker}")

    def counts(self):
        """Reloads taken and refused."""
        of = {labels["result"]: value for labels, value in self.weir.counted("weir_config_reloads_total")}
        return of["ok"], of["refused"]

    def start_load(self, seconds):
        """One process for each protocol; a quarter of the rate each for cleartext and TLS."""
        return [
            processes.start("load", ["node", LOADER, seconds, json.dumps(self.entries(http2))], stdout=subprocess.PIPE)
            for http2 in (False, True)
        ]

    def entries(self, http2):
        return [
            {"name": f"{'HTTP/2' if http2 else 'HTTP/1.1'} {name}",
             "url": self.weir.url(listener=listener).replace("localhost", "127.0.0.1"),
             "http2": http2, "connections": CONNECTIONS[http2], "rate": RATE / 4}
            for name, listener in (("cleartext", "web"), ("TLS", "secure"))
        ]

    def at_rest(self):
        """Memory and open files by the plain file, once the connections to the origins are gone."""
        self.weir.write(self.config("rest"))
        self.marker = "rest"
        expect(self.weir.admin("/api/reload", "POST")[0] == 200, "the plain file is taken")
        expect(self.runs(), "the plain file runs")
        files = self.settled(self.open_files)
        return self.weir.rss(), files, self.threads()

    def settled(self, value, seconds=30):
        """The value once it has not changed for 7 seconds: idle connections to the origins are closed after 4."""
        end, last, since = time.monotonic() + seconds, value(), time.monotonic()
        while time.monotonic() < end and time.monotonic() - since < 7:
            time.sleep(0.1)
            now = value()
            if now != last:
                last, since = now, time.monotonic()
        return last

    def open_files(self):
        return len(list(pathlib.Path(f"/proc/{self.weir.child.pid}/fd").iterdir()))

    def threads(self):
        return len(list(pathlib.Path(f"/proc/{self.weir.child.pid}/task").iterdir()))


# Files that are taken. Each changes the config that it gets.

def fewer_servers(storm, config, number):
    del config["upstream"]["app"]["servers"][number % 3]


def a_new_upstream(storm, config, number):
    config["upstream"]["more"] = {"servers": [storm.origins[number % 3].address], "balance": "random"}
    config["route"]["more"] = {"path": f"/more-{number}", "upstream": "more"}


def a_new_route(storm, config, number):
    config["route"]["extra"] = {"path": "/extra", "respond": {"status": 200, "body": f"extra {number}"}}


def a_new_listener(storm, config, number):
    config["listen"].update(storm.spare)


def other_ways_to_balance(storm, config, number):
    ways = ["least_connections", "peak_ewma", "random", "hash", "round_robin"]
    config["upstream"]["app"]["balance"] = ways[number % len(ways)]


def other_options_of_the_upstream(storm, config, number):
    config["upstream"]["app"].update({
        "retry": {"max_retries": number % 3 + 1}, "keepalive": {"max_idle": 8 + number % 5, "idle": f"{2 + number % 3}s"},
        "max_in_flight": 500 + number % 7, "connect_timeout": "2s", "slow_start": "off", "ejection": "off",
    })


def other_tls(storm, config, number):
    cert, key = storm.other
    secure = dict(config["listen"]["secure"])
    pair = {"cert": str(cert), "key": str(key)}
    certificates = [*secure["tls"]["certificates"], pair][:: 1 if number % 2 else -1]
    secure["tls"] = {"certificates": certificates, "min_version": "1.3" if number % 2 else "1.2", "hsts": "1d"}
    config["listen"]["secure"] = secure


def other_limits_of_a_listener(storm, config, number):
    config["listen"]["web"] = {**config["listen"]["web"], "keepalive": f"{60 + number % 20}s",
                               "max_headers": 90 + number % 20, "trusted_proxies": ["10.0.0.0/8"]}


def a_cache(storm, config, number):
    config["cache"] = {"max_size": f"{16 + number % 3}MiB"}
    config["route"]["site"]["cache"] = {"default_ttl": "1s"}


def compression(storm, config, number):
    config["route"]["site"]["compress"] = True
    config["log"]["level"] = ("info", "warn")[number % 2]


def another_order(storm, config, number):
    for kind in ("listen", "route", "upstream"):
        config[kind] = dict(reversed(config[kind].items()))


GOOD = [fewer_servers, a_new_upstream, a_new_route, a_new_listener, other_ways_to_balance,
        other_options_of_the_upstream, other_tls, other_limits_of_a_listener, a_cache, compression, another_order]


# Files that are refused. Each changes the text of a good one.

def a_table_that_is_not_closed(storm, text):
    return text.replace("[route.site]", "[route.site", 1)


def a_key_that_does_not_exist(storm, text):
    return text + "proxy_pass = \"http://127.0.0.1:1\"\n"


def an_upstream_that_does_not_exist(storm, text):
    return text.replace('upstream = "app"', 'upstream = "apq"', 1)


def a_number_without_a_unit(storm, text):
    return text.replace("[upstream.app]", "[upstream.app]\nconnect_timeout = 3", 1)


def two_routes_that_collide(storm, text):
    return text + "[route.again]\nupstream = \"app\"\n"


def a_certificate_that_is_not_there(storm, text):
    return text.replace("site.pem", "no-such.pem")


def a_key_of_another_certificate(storm, text):
    return text.replace(str(machine.certificate()[1]), str(storm.other[1]))


def a_port_that_is_taken(storm, text):
    return text + f"[listen.taken]\naddress = \"{storm.origins[0].address}\"\n"


def nothing(storm, text):
    return ""


def the_half(storm, text):
    return text[: len(text) // 2 - len(text) // 2 % 2] + "\n[upstream"


BROKEN = [a_table_that_is_not_closed, a_key_that_does_not_exist, an_upstream_that_does_not_exist, a_number_without_a_unit,
          two_routes_that_collide, a_certificate_that_is_not_there, a_key_of_another_certificate, a_port_that_is_taken,
          nothing, the_half]


def reports(loader, seconds):
    code = loader.wait(max(1, seconds))
    expect(code == 0, f"the load ended with {code}:\n{loader.log_tail()}")
    return [json.loads(line) for line in loader.popen.stdout.read().splitlines()]


def judge_requests(checks, found):
    for report in found:
        with checks.step(f"{report['name']}: no failed request, no connection closed") as figure:
            spread = report["milliseconds"]
            figure(f"{report['started']} requests, {report['failed']} failed, {report['opened']} connections")
            figure(f"p50 {spread['p50']:.1f} ms, p99 {spread['p99']:.1f} ms, most {spread['most']:.0f} ms")
            equal(report["failures"], {}, "failures, with the first times in ms")
            equal(report["succeeded"], report["started"], "answers")
            most = CONNECTIONS["HTTP/2" in report["name"]]
            expect(report["opened"] <= most, f"{report['opened']} connections where {most} are enough: some were closed")
    with checks.step("the rate was reached") as figure:
        rate = sum(report["started"] for report in found) / SECONDS
        figure(f"{rate:.0f} requests/s")
        expect(rate >= RATE * 0.99, f"{rate:.0f} requests/s instead of {RATE}")


def judge_growth(checks, storm, before, memory):
    after = storm.at_rest()
    with checks.step("memory does not grow with the reloads") as figure:
        third = len(memory.samples) // 3
        first, last = (statistics.median(part) for part in (memory.samples[:third], memory.samples[-third:]))
        figure(f"RSS under load in the first third {first / MIB:.1f} MiB, the last {last / MIB:.1f}")
        figure(f"at rest {before[0] / MIB:.1f} before, {after[0] / MIB:.1f} after")
        for what, growth in (("under load", last - first), ("at rest", after[0] - before[0])):
            expect(growth <= GROWTH_LIMIT, f"grew by {growth / MIB:.1f} MiB {what}")
    with checks.step("open files are what they were") as figure:
        figure(f"{before[1]} before, {after[1]} after")
        expect(after[1] <= before[1], f"{after[1] - before[1]} more")
    with checks.step("threads are no more than before") as figure:
        figure(f"{before[2]} before, {after[2]} after")
        expect(after[2] <= before[2], f"{after[2] - before[2]} more")
    with checks.step("the proxy is still there"):
        storm.weir.expect_alive()


if __name__ == "__main__":
    main(body, limit=SECONDS + 120)
