"""Load of which every request is written down, and the origins that go with it: they are killed and come back."""

import collections
import json
import pathlib
import signal
import time

from . import machine, processes
from .checks import eventually, expect

E2E = pathlib.Path(__file__).resolve().parent.parent

Request = collections.namedtuple(
    "Request", "due over method id status whole origin proxy_status problem")


def is_good(request):
    return request.status == 200 and request.whole and not request.problem


def had_begun(request):
    """It broke off, and the client had seen its status: nobody can take that back."""
    return request.status != 0 and not request.whole


def failed(request):
    return not is_good(request) and not had_begun(request)


class Origin:
    """One Node process on a port that it keeps over its restarts, with one log of executed POSTs for each life."""

    def __init__(self, name):
        machine.need("node")
        self.name, self.port, self.lives = name, machine.free_port(), []
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        """When it began to accept connections, by its own clock."""
        log = machine.work_dir() / f"executed-{self.name}-{self.port}-{len(self.lives)}"
        self.child = processes.start(
            f"origin-{self.name}", ["node", E2E / "origins/counted.js", self.port, self.name, log])
        self.lives.append(Life(self.name, self.address, log))
        return float(eventually(self.child.log.read_text, 10, f"origin {self.name} listens"))

    def kill(self):
        """kill -9: when it was sent, and when the process was gone."""
        life = self.lives[-1]
        life.killed = time.time()
        self.child.signal(signal.SIGKILL)
        self.child.popen.wait()
        life.gone = time.time()
        self.child.kill()
        return life.killed

    def end(self):
        """SIGTERM, until it has ended by itself."""
        self.child.signal(signal.SIGTERM)
        code = self.child.wait(10)
        self.child.kill()
        expect(code == 0, f"origin {self.name} ended with {code}:\n{self.child.log_tail()}")


class Life:
    """An origin from one start to the end that follows."""

    def __init__(self, name, address, log):
        self.name, self.address, self.log, self.killed, self.gone = name, address, log, None, None

    def executed(self):
        """The ids of the POSTs that it began to execute. A line that the kill cut off has its id too."""
        return [line.split()[0] for line in self.log.read_text().splitlines() if line] if self.log.exists() else []


class Load:
    """A constant rate of requests, from now until `stop`."""

    def __init__(self, url, rate, posts=0.0, connections=64):
        self.rate = rate
        self.file = machine.work_dir() / f"requests-{time.monotonic_ns()}"
        entry = {"url": url.replace("localhost", "127.0.0.1"), "rate": rate, "posts": posts, "connections": connections}
        self.child = processes.start("load", ["node", E2E / "clients/recorded_load.js", json.dumps(entry), self.file])
        self.began = time.time()

    def expect_running(self):
        expect(self.child.running(), f"the load ended:\n{self.child.log_tail()}")

    def stop(self):
        """All requests, in the order in which they were due."""
        self.expect_running()
        self.child.signal(signal.SIGTERM)
        code = self.child.wait(30)
        expect(code == 0, f"the load ended with {code}:\n{self.child.log_tail()}")
        lines = [line.split("\t") for line in self.file.read_text().splitlines()]
        requests = [
            Request(float(due), float(over), method, name, int(status), whole == "1", origin, told, problem)
            for due, over, method, name, status, whole, origin, told, problem in lines
        ]
        return sorted(requests)
