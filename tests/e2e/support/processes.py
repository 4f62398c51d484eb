"""Child processes that end with the script, whichever way it ends.

Every child leads a session of its own, so one look at /proc finds it with all its descendants. A small guard process
holds the other end of a pipe: when this script dies without having cleaned up (kill -9), the guard kills the sessions
and removes the work folder.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

from . import machine

PAGE = os.sysconf("SC_PAGE_SIZE")

GUARD = """
import os, shutil, sys
sys.path.insert(0, sys.argv[1])
from support.processes import kill_session
sessions = set()
for line in sys.stdin:
    (sessions.add if line[0] == "+" else sessions.discard)(int(line[1:]))
for session in sessions:
    kill_session(session)
if not os.environ.get("KEEP"):
    shutil.rmtree(sys.argv[2], ignore_errors=True)
"""

_children = []
_guard = None


class Child:
    """One running program and whatever it started."""

    def __init__(self, name, popen, log):
        self.name, self.popen, self.log = name, popen, log
        self.pid = popen.pid

    def pids(self):
        """The process and all its descendants (its session)."""
        return session_members(self.pid)

    def running(self):
        return self.popen.poll() is None

    def rss(self):
        """Resident bytes, over all processes."""
        return sum(_rss(pid) for pid in self.pids())

    def cpu_seconds(self):
        """CPU time used so far, over all processes and threads, from the scheduler's own count in nanoseconds."""
        return sum(_cpu(pid) for pid in self.pids())

    def log_tail(self, lines=15):
        if self.log is None or not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, seconds):
        """The exit code; raises `subprocess.TimeoutExpired`."""
        return self.popen.wait(seconds)

    def kill(self):
        """Ends all processes of the child at once (kill -9)."""
        kill_session(self.pid)
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe:
                pipe.close()
        if self in _children:
            _children.remove(self)
            _tell_guard("-", self.pid)


def start(name, arguments, environment=None, stdout=None, stdin=subprocess.DEVNULL, cpus=None, cwd=None):
    """Starts a program. Its output goes to a log in the work folder, except a `stdout` that the caller reads."""
    _start_guard()
    log = machine.work_dir() / f"{name}-{time.monotonic_ns()}.log"
    if cpus is not None:
        arguments = ["taskset", "-c", cpus, *arguments]
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=stdin, stdout=stdout or output, stderr=output,
            env={**os.environ, **(environment or {})}, cwd=cwd, start_new_session=True,
        )
    _tell_guard("+", popen.pid)
    child = Child(name, popen, log)
    _children.append(child)
    return child


def run(arguments, seconds, **options):
    """Runs a program to its end and returns its `CompletedProcess` with text output; it never outlives its time."""
    _start_guard()
    popen = subprocess.Popen(
        [str(argument) for argument in arguments], stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True, **options,
    )
    child = Child(str(arguments[0]), popen, None)
    _children.append(child)
    _tell_guard("+", popen.pid)
    try:
        output, errors = popen.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"`{arguments[0]}` did not end within {seconds} s") from None
    finally:
        child.kill()
    return subprocess.CompletedProcess(arguments, popen.returncode, output, errors)


def kill_all():
    for child in list(_children):
        with contextlib.suppress(OSError):
            child.kill()
    global _guard
    if _guard:
        _guard.stdin.close()
        _guard.wait()
        _guard = None


def session_members(session):
    """All processes of a session, from field 6 of /proc/PID/stat."""
    members = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                members.append(int(folder.name))
    return members


def kill_session(session):
    """Kills until nothing is left: a process may fork while the others die."""
    for _ in range(50):
        members = session_members(session)
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _rss(pid):
    with contextlib.suppress(OSError):
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def _cpu(pid):
    total = 0
    for file in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(file.read_text().split()[0])
    return total / 1e9


def _start_guard():
    global _guard
    if _guard is None:
        folder = str(pathlib.Path(__file__).resolve().parent.parent)
        _guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, folder, machine.work_dir()],
            stdin=subprocess.PIPE, text=True, start_new_session=True,
        )


def _tell_guard(sign, pid):
    if _guard:
        with contextlib.suppress(OSError):
            _guard.stdin.write(f"{sign}{pid}\n")
            _guard.stdin.flush()
