#!/usr/bin/env python3
"""Long streams and reloads: 200 WebSockets, 50 event streams and 20 uploads go on over 100 reloads that change everything
but their route, upstream and server. When one of these, or their listener, is removed, they end within `drain`, evenly
spread over it, none by a reset.

    WEIR=target/release/weir tests/e2e/streams_survive_reloads.py
"""

import collections
import http.client
import json
import pathlib
import random
import subprocess
import time

from support import machine, processes, proxy
from support.checks import equal, eventually, expect, main
from support.nginx import Nginx

HERE = pathlib.Path(__file__).resolve().parent
SOCKETS, EVENTS, UPLOADS, RELOADS = 200, 50, 20, 100
DRAIN = 5.0
# A tick of weir's clock and the rounding to it, twice; what a busy machine adds.
SLACK = 0.7


def body(checks):
    machine.need("node", "openssl")
    proxy.need()
    setting = Setting()
    print(f"{SOCKETS} WebSockets, {EVENTS} event streams, {UPLOADS} uploads, {RELOADS} reloads")
    streams = setting.open(checks, "held", {"web": 0.5, "secure": 0.5})
    survive(checks, setting, streams)
    print(f"what is removed has {DRAIN:.0f} s")
    ending(checks, setting, streams, "route", lambda config: config["route"].pop("held"))
    for what, listeners, remove in [
        ("server", {"web": 0.5, "secure": 0.5}, another_server(setting)),
        ("listener", {"side": 1.0}, lambda config: config["listen"].pop("side")),
    ]:
        setting.reset()
        streams = setting.open(checks, f"the {what}", listeners)
        ending(checks, setting, streams, what, remove)
    with checks.step("the proxy is still there"):
        setting.weir.expect_alive()


class Setting:
    """The proxy, two origins of streams, and a config that grows and changes around the route `held`."""

    def __init__(self):
        self.node = machine.need_node_modules()
        self.origins = [self.origin(), self.origin()]
        self.plain = Nginx("plain")
        self.tables = proxy.listeners("web", "secure", "side")
        self.certificates = [machine.certificate(), machine.certificate("other")]
        self.draw = random.Random(7)
        self.opened = 0
        self.weir = proxy.start_proxy(self.config())

    def origin(self):
        port = machine.free_port()
        processes.start("origin", ["node", HERE / "origins/sockets_and_events.js", port], environment=self.node)
        eventually(lambda: proxy.accepts(port), 10, "the origin listens")
        return port

    def config(self):
        return {
            "process": {"drain": f"{DRAIN:.0f}s"},
            "log": {"access": "off"},
            "listen": {name: dict(table) for name, table in self.tables.items()},
            "route": {
                "held": {"path": "/held", "strip_prefix": "/held", "upstream": "streams"},
                "marker": {"path": "/marker", "respond": {"status": 200, "body": "-1"}},
            },
            "upstream": {
                "streams": {"servers": [f"127.0.0.1:{self.origins[0]}"]},
                "plain": {"servers": [self.plain.address]},
            },
        }

    def take(self, config):
        """Has the config taken; when it was asked for."""
        self.weir.write(config)
        asked = time.time()
        answer = self.weir.admin("/api/reload", "POST")
        equal(answer[0], 200, f"status of the reload, {answer[1]}")
        return asked

    def reset(self):
        self.take(self.config())

    def open(self, checks, what, listeners):
        """Opens all streams, spread over the listeners, and waits until each has moved something."""
        with checks.step(f"{what}: all streams are open"):
            self.opened += 1
            return Streams(self, listeners, self.opened)


class Streams:
    """All of one client process."""

    def __init__(self, setting, listeners, batch):
        names = [name for name, share in listeners.items() for _ in range(round(share * 100))]
        random.Random(batch).shuffle(names)

        def urls(kind, target, count):
            made = [setting.weir.url(f"/held/{target}id={batch}-{kind}-{number}", names[number % len(names)])
                    for number in range(count)]
            return [url.replace("localhost", "127.0.0.1") for url in made]

        everlasting = "events?count=1000000&every=200&"
        wanted = {
            "sockets": [url.replace("http", "ws", 1) for url in urls("socket", "socket?", SOCKETS)],
            "events": urls("events", everlasting, EVENTS // 2),
            "events2": urls("events2", everlasting, EVENTS - EVENTS // 2),
            "uploads": urls("upload", "upload?", UPLOADS),
        }
        self.child = processes.start(
            "streams", ["node", HERE / "clients/long_streams.js", json.dumps(wanted)], environment=setting.node,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.origin = setting.origins[0]
        self.upload_ids = [f"{batch}-upload-{number}" for number in range(UPLOADS)]
        eventually(lambda: all(stream["open"] and stream["moved"] for stream in self.look()), 20, "each has moved", 0.1)

    def look(self):
        self.child.popen.stdin.write(b"\n")
        self.child.popen.stdin.flush()
        line = self.child.popen.stdout.readline()
        expect(line, f"the client ended:\n{self.child.log_tail()}")
        return json.loads(line)

    def moved(self):
        """What each has moved, an upload as its server counts. Fails if one has ended."""
        seen = self.look()
        ended = collections.Counter((stream["kind"], stream["how"]) for stream in seen if stream["ended"])
        expect(not ended, f"ended: {dict(ended)}")
        uploaded = at_origin(self.origin)["uploaded"]
        kinds = [stream["moved"] for stream in seen if stream["kind"] != "upload"]
        return kinds + [uploaded[name] for name in self.upload_ids]

    def expect_movement(self, before, seconds=5):
        def moved():
            now = self.moved()
            return now if all(is_more > was for is_more, was in zip(now, before)) else None

        return eventually(moved, seconds, "each moves on", pause=0.1)


def survive(checks, setting, streams):
    """Each reload changes several things at once; every tenth time each stream must have moved since."""
    kinds = collections.Counter()
    with checks.step(f"{RELOADS} reloads that leave their route, upstream and server alone") as figure:
        before = streams.moved()
        began = time.monotonic()
        for number in range(RELOADS):
            config = setting.config()
            config["route"]["marker"]["respond"]["body"] = str(number)
            for change in setting.draw.sample(CHANGES, 4):
                config = change(setting, config, number) or config
                kinds[change.__name__] += 1
            setting.take(config)
            equal(fetch(setting.weir.port(), "/marker"), (200, str(number)), "the marker")
            if number % 10 == 9:
                before = streams.expect_movement(before)
        figure(f"in {time.monotonic() - began:.0f} s; {len(CHANGES)} kinds of change, each {min(kinds.values())} times or more")
        expect(len(kinds) == len(CHANGES), "some kind of change was not made")
    with checks.step("each stream goes on afterwards"):
        setting.reset()
        streams.expect_movement(streams.moved())


# Changes that no stream of the route `held` may notice.

def other_servers_elsewhere(setting, config, number):
    config["upstream"]["plain"]["servers"] = [setting.plain.address, f"127.0.0.{2 + number % 200}:9"]


def another_server_beside(setting, config, number):
    config["upstream"]["streams"]["servers"].append(f"127.0.0.1:{setting.origins[1]}")


def other_routes(setting, config, number):
    for more in range(number % 4):
        config["route"][f"more-{number}-{more}"] = {"path": f"/more-{more}", "upstream": "plain"}


def keys_of_the_listeners(setting, config, number):
    for name in ("web", "secure"):
        config["listen"][name].update(keepalive=f"{60 + number % 9}s", stall_timeout=f"{20 + number % 9}s",
                                      max_headers=90 + number % 20, max_concurrent_streams=100 + number % 9)


def keys_of_the_upstream(setting, config, number):
    config["upstream"]["streams"].update(
        balance=("round_robin", "random", "least_connections")[number % 3], connect_timeout=f"{2 + number % 3}s",
        retry="off" if number % 2 else {"max_retries": 2}, health_check="/", max_in_flight=1000 + number)


def keys_of_the_route(setting, config, number):
    config["route"]["held"].update(response_headers={"set": {"X-Number": str(number)}}, max_body=f"{50 + number % 9}MiB",
                                   timeout=f"{30 + number % 9}s", priority=number % 3)


def a_cache(setting, config, number):
    config["cache"] = {"max_size": f"{16 + number % 5}MiB"}
    config["route"]["cached"] = {"path": "/cached", "upstream": "plain", "cache": True, "compress": True}


def the_log(setting, config, number):
    config["log"] = {"access": "off", "level": ("info", "warn", "error")[number % 3]}


def certificates(setting, config, number):
    order = setting.certificates[:: 1 if number % 2 else -1]
    config["listen"]["secure"]["tls"] = {
        "certificates": [{"cert": str(cert), "key": str(key)} for cert, key in order], "min_version": "1.3"}


def another_listener(setting, config, number):
    config["listen"].update(proxy.listeners(f"extra-{number % 3}"))


def the_order_of_the_tables(setting, config, number):
    for kind in ("listen", "route", "upstream"):
        names = list(config[kind])
        setting.draw.shuffle(names)
        config[kind] = {name: config[kind][name] for name in names}
    kinds = list(config)
    setting.draw.shuffle(kinds)
    return {kind: config[kind] for kind in kinds}


CHANGES = [other_servers_elsewhere, another_server_beside, other_routes, keys_of_the_listeners, keys_of_the_upstream,
           keys_of_the_route, a_cache, the_log, certificates, another_listener, the_order_of_the_tables]


def another_server(setting):
    def change(config):
        config["upstream"]["streams"]["servers"] = [f"127.0.0.1:{setting.origins[1]}"]

    return change


def ending(checks, setting, streams, what, remove):
    ended = []
    with checks.step(f"{what} removed: all end within {DRAIN:.0f} s") as figure:
        streams.expect_movement(streams.moved())
        config = setting.config()
        remove(config)
        asked = setting.take(config)
        ended = until_ended(streams)
        times = sorted(stream["ended"] / 1000 - asked for stream in ended)
        figure(f"the last after {times[-1]:.2f} s")
        expect(times[-1] <= DRAIN + SLACK, f"the last one ended after {times[-1]:.2f} s")
    if not ended:
        return
    with checks.step(f"{what} removed: none by a reset") as figure:
        hows = collections.Counter((stream["kind"], stream["how"]) for stream in ended)
        figure("; ".join(f"{kind}: {count} × {how}" for (kind, how), count in sorted(hows.items())))
        wrong = {f"{kind}: {how}": count for (kind, how), count in hows.items() if not is_clean(kind, how)}
        equal(wrong, {}, "ends")
    with checks.step(f"{what} removed: evenly spread over the time") as figure:
        endless = sorted(stream["ended"] / 1000 - asked for stream in ended if stream["kind"] != "upload")
        quarters = shares(endless, 0, DRAIN)
        gaps = [after - before for before, after in zip([0, *endless], endless)]
        figure(f"streams in each quarter {' '.join(f'{share:.0%}' for share in quarters)}, largest gap {max(gaps):.2f} s")
        uploads = sorted(stream["ended"] / 1000 - asked for stream in ended if stream["kind"] == "upload")
        figure(f"uploads between {uploads[0]:.2f} and {uploads[-1]:.2f} s, "
               f"largest gap {max(b - a for a, b in zip(uploads, uploads[1:])):.2f} s")
        expect(all(0.17 <= share <= 0.33 for share in quarters), "not a quarter in each quarter")
        expect(max(gaps) <= DRAIN / 10, "a gap of more than a tenth of the time")
        expect(uploads[0] >= DRAIN * 0.7, "an upload had not three quarters of the time to finish")
    with checks.step(f"{what} removed: the servers know it"):
        eventually(lambda: not at_origin(streams.origin)["open"], 5, "no stream is open at the server")
    streams.child.kill()


def until_ended(streams):
    end = time.monotonic() + DRAIN + 5
    while True:
        seen = streams.look()
        left = collections.Counter(stream["kind"] for stream in seen if not stream["ended"])
        if not left:
            return seen
        if time.monotonic() > end:
            streams.child.kill()
            raise AssertionError(f"not ended after {DRAIN + 5:.0f} s: {dict(left)}")
        time.sleep(0.2)


def is_clean(kind, how):
    """How a stream may end that weir ends: a WebSocket with the word that weir goes away, an event stream as a whole
    response, an upload by an answer that says to come again."""
    if kind == "socket":
        return how == "closed 1001"
    return how == ("503 retry-after close" if kind == "upload" else "end")


def shares(times, start, length):
    """How large a part falls into each quarter."""
    counts = [0] * 4
    for moment in times:
        counts[min(3, max(0, int((moment - start) / length * 4)))] += 1
    return [count / len(times) for count in counts]


def at_origin(port):
    status, text = fetch(port, "/")
    equal(status, 200, "status of the origin")
    return json.loads(text)


def fetch(port, target):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", target, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    main(body, limit=150)
