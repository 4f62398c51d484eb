"""Tools, child processes, ports and counters: what `run` and `instructions` stand on.

Everything listens on loopback, on free ports below the ephemeral range, with its files in one temporary directory.
"""

import atexit
import ctypes
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PROXY_CORE, LOAD_CORE = 0, 1


class Failure(Exception):
    """Something that makes the figures worthless; its text is all that the user sees."""


def install(packages):
    """Installs the Debian packages whose program or file is missing, and stops the services that they bring along."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = sorted({package for what, package in packages.items() if not (os.path.isfile(what) or shutil.which(what))})
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"missing: {' '.join(missing)}; install them, or run this as root on Debian")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "update", "-q"], check=True, env=environment, stdout=sys.stderr)
    subprocess.run(
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
        check=True, env=environment, stdout=sys.stderr,
    )
    for service in {"nginx", "haproxy", "varnish"} & set(missing):
        subprocess.run(["service", service, "stop"], check=False, stdout=sys.stderr)


def weir_binary():
    """`WEIR`, or what cargo builds. `None` if `WEIR` names nothing, so that the others can be measured alone."""
    given = os.environ.get("WEIR")
    if given is not None:
        if os.access(given, os.X_OK):
            return str(Path(given).resolve())
        say(f"WEIR={given} is not a program: weir is left out")
        return None
    subprocess.run(["cargo", "build", "--release", "--bin", "weir"], cwd=REPOSITORY, check=True, stdout=sys.stderr)
    return str(target_directory() / "release" / "weir")


def target_directory():
    answer = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    if answer.returncode == 0:
        return Path(json.loads(answer.stdout)["target_directory"])
    return REPOSITORY / "target"


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def first_line(command):
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    lines = answer.stdout.decode(errors="replace").strip().splitlines()
    return lines[0].strip() if lines else "unknown"


class Workshop:
    """The temporary directories and every child process; all are gone on every way out."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="weir-compare-"))
        self.directories = [self.directory]
        self.children = []
        atexit.register(self.close)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda caught, frame: sys.exit(128 + caught))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def close(self):
        for child in list(self.children):
            self.stop(child)
        for directory in self.directories:
            shutil.rmtree(directory, ignore_errors=True)

    def directory_in_memory(self):
        self.directories.append(Path(tempfile.mkdtemp(prefix="weir-compare-", dir="/dev/shm")))
        return self.directories[-1]

    def start(self, command, core, name, **more):
        """Starts a process pinned to one core; its output goes to `NAME.log` unless told otherwise."""
        log = (self.directory / f"{name}.log").open("ab")
        more.setdefault("stdout", log)
        more.setdefault("stderr", log)
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            start_new_session=True, preexec_fn=die_with_parent, **more,
        )
        log.close()
        self.children.append(child)
        return child

    def stop(self, child, patience=5):
        if child in self.children:
            self.children.remove(child)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if child.poll() is None:
                signal_group(child.pid, number)
                try:
                    child.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
        signal_group(child.pid, signal.SIGKILL)  # what the leader left behind

    def output(self, command, core, timeout, **more):
        """Runs a program to its end and returns what it printed; a failure says what it said."""
        child = self.start(command, core, "tool", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
        try:
            printed, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"`{command[0]}` did not end within {timeout} s") from None
        finally:
            self.stop(child)
        text = printed.decode(errors="replace")
        if child.returncode != 0:
            raise Failure(f"`{' '.join(map(str, command[:6]))} …` failed with {child.returncode}:\n{text[-2000:]}")
        return text

    def log(self, name):
        try:
            return (self.directory / f"{name}.log").read_text(errors="replace")[-3000:]
        except OSError:
            return ""


def die_with_parent():
    """Also when this driver is killed outright: SIGTERM lets nginx's master end its workers."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def signal_group(group, number):
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def free_ports(count):
    """Free ports outside the ephemeral range, where no connection in TIME_WAIT can sit on them."""
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = []
    while len(found) < count:
        port = random.randrange(10000, max(lowest_ephemeral, 12000))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def wait_for_port(port, child, workshop, name):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise Failure(f"{name} ended at once:\n{workshop.log(name)}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Failure(f"{name} does not listen after 30 s:\n{workshop.log(name)}")


def family(process):
    """A process and all that descend from it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1]
            except (OSError, IndexError):
                continue
            children.setdefault(int(parent), []).append(int(entry))
    found, waiting = [], [process]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu_nanoseconds(processes):
    """CPU time so far, user and kernel, of all threads: field 1 of `schedstat`, exact to the nanosecond."""
    total = 0
    for process in processes:
        for thread in os.listdir(f"/proc/{process}/task"):
            total += int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0])
    return total


def resident_bytes(processes):
    """Proportional set size, so that pages shared by a master and its workers count once."""
    total = 0
    for process in processes:
        for name, pattern in (("smaps_rollup", r"^Pss:\s+(\d+)"), ("status", r"^VmRSS:\s+(\d+)")):
            try:
                text = Path(f"/proc/{process}/{name}").read_text()
            except OSError:
                continue
            total += int(re.search(pattern, text, re.MULTILINE)[1]) * 1024
            break
    return total
