"""Repeats every test that starts processes or measures time, on a busy machine; counts failures per test.

    python benchmarks/repeat_tests.py --times 50
    python benchmarks/repeat_tests.py --times 10 --busy 4 -k survives tests/test_many_processes.py
    python benchmarks/repeat_tests.py --minutes 60 tests/test_many_processes.py tests

`tests/conftest.py` finds such tests and marks them `processes`. One process runs the files in the order in
which they are named.
"""

import argparse
import contextlib
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parent.parent
_PYTEST = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "processes"]
_BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


def run(options: list[str]) -> Iterator[tuple[str, float, bool]]:
    """Run such tests once; yields the name of each, its seconds, and whether it failed."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [*_PYTEST, f"--junitxml={report}", *options]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise SystemExit(done.stdout + done.stderr)
        cases = list(ElementTree.parse(report).iter("testcase"))
    if done.returncode:
        print(done.stdout, flush=True)
    for case in cases:
        found = {child.tag for child in case}
        if "skipped" not in found:
            name = f"{case.get('classname')}::{case.get('name')}"
            yield name, float(case.get("time", 0)), bool(found & {"failure", "error"})


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """A context with so many busy loops beside it."""
    loops = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> int:
    """Repeat, and report; status 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--minutes", type=float, help="begin no other repetition after this time")
    parser.add_argument("--busy", type=int, default=2, help="busy loops beside the tests (2)")
    parser.add_argument("-k", metavar="EXPRESSION", help="which of the tests, as in pytest")
    parser.add_argument("tests", nargs="*", default=["tests"], help="files and folders (tests)")
    arguments = parser.parse_args()
    options = [*(["-k", arguments.k] if arguments.k else []), *arguments.tests]
    print(f"{arguments.times} times, beside {arguments.busy} busy loops", flush=True)
    seconds: dict[str, list[float]] = defaultdict(list)
    failures: dict[str, int] = defaultdict(int)
    begin = time.monotonic()
    with busy(arguments.busy), contextlib.suppress(KeyboardInterrupt):
        for repetition in range(1, arguments.times + 1):
            started = time.monotonic()
            if arguments.minutes and started - begin > 60 * arguments.minutes:
                break
            found = list(run(options))
            for name, took, failed in found:
                seconds[name].append(took)
                failures[name] += failed
            failed_now = sum(failed for _, _, failed in found)
            took = time.monotonic() - started
            print(f"{repetition}: {failed_now} of {len(found)} failed, {took:.0f} s", flush=True)
    print("runs failures median_s test")
    for name in sorted(seconds, key=lambda name: (-failures[name], -median(seconds[name]))):
        runs = len(seconds[name])
        print(f"{runs:4} {failures[name]:8} {median(seconds[name]):8.1f} {name}")
    print(f"{sum(failures.values())} failures in {sum(map(len, seconds.values()))} runs")
    return int(any(failures.values()))


if __name__ == "__main__":
    raise SystemExit(main())
