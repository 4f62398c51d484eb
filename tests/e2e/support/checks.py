"""Counting what held: one line for each step, a last line with the sum, an exit code, and an end in any case."""

import contextlib
import signal
import sys
import time
import traceback

from . import machine, processes


class OutOfTime(BaseException):
    """The script used up its time; no step can swallow it."""


class Stopped(BaseException):
    """Somebody sent the script a signal."""


class Checks:
    def __init__(self):
        self.passed, self.failed = 0, 0

    @contextlib.contextmanager
    def step(self, name):
        """Counts one step. An exception fails it and the script goes on; figures are printed beside its name."""
        figures, start = [], time.monotonic()
        try:
            yield figures.append
        except AssertionError as problem:
            self.fail(name, str(problem), figures)
        except Exception as problem:
            where = traceback.extract_tb(problem.__traceback__)[-1]
            self.fail(name, f"{type(problem).__name__}: {problem} ({where.filename}:{where.lineno})", figures)
        else:
            self.passed += 1
            took = time.monotonic() - start
            figures = [*figures, f"{took:.1f} s"] if took >= 1 else figures
            print(f"  ok    {name}{': ' if figures else ''}{', '.join(map(str, figures))}", flush=True)

    def fail(self, name, why, figures=()):
        self.failed += 1
        seen = f" [{', '.join(map(str, figures))}]" if figures else ""
        print(f"  FAIL  {name}: {why}{seen}", flush=True)


def expect(holds, message):
    if not holds:
        raise AssertionError(message)


def equal(found, wanted, what):
    expect(found == wanted, f"{what}: expected {wanted!r}, found {found!r}")


def eventually(condition, seconds, what, pause=0.01):
    """Polls until the condition gives something true, which is returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        expect(time.monotonic() < end, f"{what}: not within {seconds} s (last seen: {value!r})")
        time.sleep(pause)


def main(body, limit):
    """Runs the script's body with a `Checks`, within `limit` seconds, and exits: 0 if everything held, else 1."""
    checks = Checks()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _raise(Stopped))
    signal.signal(signal.SIGALRM, _raise(OutOfTime))
    signal.alarm(limit)
    try:
        machine.raise_open_files()
        body(checks)
    except OutOfTime as end:
        where = traceback.extract_tb(end.__traceback__)
        ours = [frame for frame in where if "/e2e/" in frame.filename and frame.name != "handler"][-2:]
        place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(ours))
        checks.fail("time", f"not done after {limit} s, at {place}")
    except Stopped:
        checks.fail("signal", "stopped from outside")
    except AssertionError as problem:
        checks.fail("set-up", str(problem))
    except Exception:
        traceback.print_exc()
        checks.fail("script", "broke off, see above")
    finally:
        signal.alarm(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        processes.kill_all()
    print(f"{checks.passed} passed, {checks.failed} failed", flush=True)
    sys.exit(1 if checks.failed or not checks.passed else 0)


def _raise(kind):
    def handler(_number, _frame):
        raise kind

    return handler
