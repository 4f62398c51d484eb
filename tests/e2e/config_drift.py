#!/usr/bin/env python3
"""What is written, what the admin address says, and what weir does are the same: 100 random configs, one after the other,
taken by the watch, by SIGHUP or by the API, while a trickle of requests goes on. ROUNDS and SEED may be set.

    WEIR=target/release/weir tests/e2e/config_drift.py
"""

import collections
import http.client
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import time

from support import machine, processes, proxy
from support.checks import equal, eventually, expect, main
from support.nginx import Nginx

LOADER = pathlib.Path(__file__).resolve().parent / "clients/steady_load.js"
ROUNDS = int(os.environ.get("ROUNDS", "100"))
SEED = int(os.environ.get("SEED", "1"))
RATE = 50
WAYS = ["the watch", "SIGHUP", "the API"]


def body(checks):
    machine.need("nginx", "node")
    proxy.need()
    drift = Drift()
    seconds = ROUNDS // 6 + 3
    url = drift.weir.url("/always/").replace("localhost", "127.0.0.1")
    entry = {"name": "trickle", "url": url, "http2": False, "connections": 2, "rate": RATE}
    loader = processes.start("load", ["node", LOADER, seconds, json.dumps([entry])], stdout=subprocess.PIPE)
    with checks.step(f"{ROUNDS} configs from seed {SEED}: file, status, metrics and behaviour agree") as figure:
        began = time.monotonic()
        for number in range(ROUNDS):
            drift.round(number)
        figure(f"{drift.compared} comparisons in {time.monotonic() - began:.0f} s")
        figure(", ".join(f"{count} by {way}" for way, count in sorted(drift.ways.items())))
    with checks.step("the requests between them") as figure:
        equal(loader.wait(seconds + 15), 0, "exit code of the load")
        report = json.loads(loader.popen.stdout.read())
        figure(f"{report['started']} requests, {report['failed']} failed, {report['opened']} connections")
        equal(report["failures"], {}, "failures")
        expect(report["opened"] <= 2, "a connection was closed")
    with checks.step("the proxy is still there"):
        drift.weir.expect_alive()


class Drift:
    def __init__(self):
        self.draw = random.Random(SEED)
        self.origins = {origin.address: origin.name for origin in map(Nginx, ("one", "two", "three", "four"))}
        self.ports = [machine.free_port() for _ in range(4)]
        self.web = machine.free_port()
        self.compared, self.ways, self.hashes = 0, collections.Counter(), {}
        self.weir = proxy.start_proxy(self.config(-1))

    def config(self, number):
        """Random listeners, routes and upstreams beside those of the trickle."""
        draw = self.draw
        upstreams = {"always": {"servers": sorted(self.origins)}}
        for name in draw.sample("abcdef", draw.randint(1, 6)):
            servers = draw.sample(sorted(self.origins), draw.randint(1, 4))
            upstreams[name] = {"servers": [self.server(address) for address in servers], **self.options()}
        listeners = {"web": {"address": f"127.0.0.1:{self.web}"}}
        for name, port in zip("wxyz", draw.sample(self.ports, draw.randint(0, 4))):
            listeners[name] = {"address": f"127.0.0.1:{port}", "http2": draw.choice([True, False])}
        routes = {
            "always": {"path": "/always", "upstream": "always"},
            "marker": {"path": "/marker", "respond": {"status": 200, "body": f"marker {number}"}},
        }
        for name in draw.sample(range(12), draw.randint(0, 12)):
            routes[f"route-{name}"] = self.route(name, number, listeners, upstreams)
        kinds = {"listen": listeners, "route": routes, "upstream": upstreams}
        config = {"log": {"access": "off", "level": draw.choice(["info", "warn"])},
                  "cache": {"max_size": f"{draw.choice([8, 16])}MiB"}}
        for kind in draw.sample(sorted(kinds), 3):
            names = draw.sample(sorted(kinds[kind]), len(kinds[kind]))
            config[kind] = {name: kinds[kind][name] for name in names}
        return config

    def server(self, address):
        if self.draw.random() < 0.7:
            return address
        return {"address": address, "weight": self.draw.randint(1, 9)}

    def options(self):
        draw = self.draw
        options = {
            "balance": draw.choice(["round_robin", "least_connections", "peak_ewma", "random", "hash"]),
            "health_check": "/", "retry": draw.choice(["off", {"max_retries": 2}]), "max_in_flight": draw.randint(10, 99),
            "keepalive": {"max_idle": draw.randint(1, 99)}, "sticky": draw.choice([True, False]),
            "ejection": draw.choice(["off", {"failures": 9}]), "queue": {"size": draw.randint(1, 99), "timeout": "1s"},
        }
        return {key: options[key] for key in draw.sample(sorted(options), draw.randint(0, len(options)))}

    def route(self, name, number, listeners, upstreams):
        """By host or by path, to an upstream or answered by itself; every answer tells of which round it is."""
        draw = self.draw
        route = {"response_headers": {"set": {"X-Round": str(number)}}}
        route["path" if name % 2 else "host"] = f"/r{name}" if name % 2 else [f"r{name}.test"]
        if name % 3 == 0:
            route["methods"] = ["GET", "HEAD"]
        if draw.random() < 0.5:
            route["listen"] = draw.sample(sorted(listeners), draw.randint(1, len(listeners)))
        action = draw.randrange(4)
        if action == 0:
            route["respond"] = {"status": draw.choice([200, 410, 418]), "body": f"{name} {number}"}
        elif action == 1:
            route["redirect"] = {"to": f"https://elsewhere.test/{number}", "status": draw.choice([301, 308])}
        else:
            chosen = draw.sample(sorted(upstreams), min(len(upstreams), draw.randint(1, 2)))
            route["upstream"] = chosen[0] if len(chosen) == 1 else {name: draw.randint(1, 9) for name in chosen}
            route.update({key: True for key in ("compress", "cache") if draw.random() < 0.3})
        return route

    def round(self, number):
        config = self.config(number)
        way = self.draw.choice(WAYS)
        self.ways[way] += 1
        self.weir.write(config)
        if way == "SIGHUP":
            self.weir.child.signal(signal.SIGHUP)
        elif way == "the API":
            status, answer = self.weir.admin("/api/reload", "POST")
            equal(status, 200, f"round {number}: {answer}")
        marker = lambda: ask(self.web, "GET", "any.test", "/marker")[2] == f"marker {number}"
        eventually(marker, 5, f"round {number} is taken by {way}")
        try:
            self.compare_status(config)
            self.compare_metrics(config)
            self.compare_behaviour(config, number)
        except AssertionError as problem:
            raise AssertionError(f"round {number}, by {way}: {problem}") from None

    def same(self, found, wanted, what):
        self.compared += 1
        equal(found, wanted, what)

    def compare_status(self, config):
        status = self.weir.status()
        listeners = {listener["name"]: listener["address"] for listener in status["listeners"]}
        self.same(listeners, {name: table["address"] for name, table in config["listen"].items()}, "listeners")
        upstreams = {upstream["name"]: sorted(server["address"] for server in upstream["servers"])
                     for upstream in status["upstreams"]}
        self.same(upstreams, {name: servers_of(table) for name, table in config["upstream"].items()}, "upstreams")
        self.same(status["config"]["last_reload"]["result"], "ok", "the last reload")
        self.same(status["config"]["file"], str(self.weir.file), "the file")
        told, text = status["config"]["hash"], self.weir.file.read_text()
        self.same(self.hashes.setdefault(told, text), text, "the text of that hash")
        self.same([labels["hash"] for labels, _ in self.weir.counted("weir_config_info")], [told], "the hash of the metric")

    def compare_metrics(self, config):
        page = self.weir.admin("/metrics")[1]
        series = lambda name: [dict(re.findall(r'(\w+)="([^"]*)"', line))
                               for line in page.splitlines() if line.startswith(name + "{")]
        servers = {(labels["upstream"], labels["server"]) for labels in series("weir_server_up")}
        wanted = {(name, address) for name, table in config["upstream"].items() for address in servers_of(table)}
        self.same(servers, wanted, "servers of weir_server_up")
        self.same({labels["listen"] for labels in series("weir_connections")}, set(config["listen"]), "listeners of weir_connections")
        routes = {(labels["listen"], labels["route"]) for labels in series("weir_requests_total")} - {
            (listen, "-") for listen in config["listen"]}
        wanted = {(listen, name) for name, route in config["route"].items()
                  for listen in route.get("listen", config["listen"])}
        self.same(routes, wanted, "routes of weir_requests_total")

    def compare_behaviour(self, config, number):
        ports = {name: int(table["address"].rpartition(":")[2]) for name, table in config["listen"].items()}
        for port in set(self.ports) - set(ports.values()):
            self.same(proxy.accepts(port), False, f"port {port}, which nothing listens on, accepts")
        for name in range(12):
            route = config["route"].get(f"route-{name}")
            host, path = ("any.test", f"/r{name}/x") if name % 2 else (f"r{name}.test", "/x")
            for listen, port in ports.items():
                stands = route is not None and listen in route.get("listen", ports)
                answer = ask(port, "GET", host, path)
                what = f"route-{name} on {listen}"
                if not stands:
                    self.same(answer[0], 404, f"status of {what}, which does not stand there")
                    continue
                self.same(answer[1]["X-Round"], str(number), f"round of {what}")
                self.compare_answer(config, route, name, number, answer, what)
                if "methods" in route:
                    self.same(ask(port, "POST", host, path)[0], 404, f"status of a POST to {what}")

    def compare_answer(self, config, route, name, number, answer, what):
        status, fields, text = answer
        if "respond" in route:
            self.same((status, text), (route["respond"]["status"], f"{name} {number}"), what)
        elif "redirect" in route:
            self.same((status, fields["Location"]), (route["redirect"]["status"], f"https://elsewhere.test/{number}"), what)
        else:
            self.same((status, text), (200, "hello\n"), what)
            chosen = [route["upstream"]] if isinstance(route["upstream"], str) else route["upstream"]
            may = {self.origins[address] for upstream in chosen for address in servers_of(config["upstream"][upstream])}
            self.compared += 1
            expect(fields["X-Origin"] in may, f"{what} was answered by {fields['X-Origin']}, not by one of {may}")


def servers_of(upstream):
    return sorted(server if isinstance(server, str) else server["address"] for server in upstream["servers"])


def ask(port, method, host, path):
    """Status, fields and body, on a fresh connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers={"Host": host, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    main(body, limit=ROUNDS * 2 + 60)
