"""Repeats every test that starts processes or measures time, on a busy machine, and counts failures per test.

    python benchmarks/repeat_tests.py --times 50
    python benchmarks/repeat_tests.py --times 10 --busy 4 -- tests/test_processes.py

Such tests are found by what their modules use: `subprocess`, the jobs of `tests.processes_on_loopback`, `time`.
"""

import argparse
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parent.parent
_USES = re.compile(r"^(import (subprocess|time)\b|.*processes_on_loopback)", re.MULTILINE)
_BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


def timed_tests() -> list[str]:
    """Test modules that start processes or measure time, from the repository's root."""
    found = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    return [str(path.relative_to(REPOSITORY)) for path in found if _USES.search(path.read_text())]


def failures(tests: list[str]) -> tuple[list[str], int]:
    """Run tests once; returns the names of those that failed, and how many ran."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "1", f"--junitxml={report}", *tests]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if not report.exists():
            raise SystemExit(done.stdout + done.stderr)
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if {"failure", "error"} & {child.tag for child in case}]
    if failed:
        print(done.stdout, flush=True)
    return [f"{case.get('classname')}::{case.get('name')}" for case in failed], len(cases)


def main() -> int:
    """Repeat, and report; status 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--busy", type=int, default=2, help="busy loops beside the tests")
    parser.add_argument(
        "tests", nargs="*", help="default: all that start processes or measure time"
    )
    arguments = parser.parse_args()
    tests = arguments.tests or timed_tests()
    print(
        f"{arguments.times} times, beside {arguments.busy} busy loops: {' '.join(tests)}",
        flush=True,
    )
    loops = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(arguments.busy)]
    failed: Counter[str] = Counter()
    try:
        for time_ in range(1, arguments.times + 1):
            begin = time.monotonic()
            names, count = failures(tests)
            failed.update(names)
            took = time.monotonic() - begin
            print(f"{time_}: {len(names)} of {count} failed, {took:.0f} s", flush=True)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    for name, number in failed.most_common():
        print(f"{number:3} of {arguments.times}  {name}")
    print("no failures" if not failed else f"{failed.total()} failures")
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
