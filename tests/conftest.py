"""Fixtures shared by all tests: where the reference data is, and what happens without it."""

import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock

from a2j_jax.cli.main import cpu_kind, shrink

REPOSITORY = Path(__file__).resolve().parent.parent


# Compile each XLA program once: tests, the processes they start and later sessions share a cache on disk. JAX reads
# these when it is imported, which the conftest files below this one do. A cache named outside is left alone.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _XLA_CACHE = REPOSITORY / ".pytest_cache" / "xla" / cpu_kind()
    _XLA_CACHE.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_XLA_CACHE)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shrink(_XLA_CACHE, 10**9)


# What XLA's CPU compiler would do beyond what is right takes longer than the small programs of tests run. jaxlib 0.10
# can be told to leave out MLIR as well, which makes it 5 s -> 2 s for a training step; later ones refuse the flag, and
# at level 0 round the coordinates of a crop otherwise in one program than in another (1e-5 px). One LLVM module in
# place of 32, a quarter less.
_BY_VERSION = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    if version("jaxlib").startswith("0.10.")
    else "--xla_backend_optimization_level=1"
)
QUICK_XLA = (
    "--xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1 "
    + _BY_VERSION
)
os.environ.setdefault("XLA_FLAGS", QUICK_XLA)
# Lines of the source in a program: nobody reads them.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

# A job in the background of a script (`make test &`) ignores Ctrl-C, and so would every program that is started here.
if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow ones first: at the end, no worker is to wait for another that has just begun one.

    A file is one worker's (`--dist loadfile`), so that what its tests share is made once. Tests that start processes or
    measure time are marked `processes`: `benchmarks/repeat_tests.py` repeats those.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if _depends_on_the_machine(item.path):
            item.add_marker(pytest.mark.processes)


def pytest_collection_finish() -> None:
    """What is imported by now stays: searching it for garbage again and again would take 5 % of the time of tests."""
    gc.collect()
    gc.freeze()


_PROCESSES_AND_TIME = re.compile(
    r"^(import|from) (asyncio|multiprocessing|signal|subprocess|threading|time)\b|num_processes",
    re.M,
)


@cache
def _depends_on_the_machine(file: Path) -> bool:
    """Whether a file of tests, or a helper that it imports, starts processes, sends signals or measures time."""
    text = file.read_text(encoding="utf-8")
    imported = re.findall(r"^from (tests\S*) import (.+)", text, re.M)
    names = [f"{package}.{name}" for package, listed in imported for name in listed.split(", ")]
    names += [package for package, _ in imported]
    helpers = [REPOSITORY / f"{name.replace('.', '/')}.py" for name in names]
    return bool(_PROCESSES_AND_TIME.search(text)) or any(
        _depends_on_the_machine(helper)
        for helper in helpers
        if helper.is_file() and helper != Path(__file__)
    )


def _reference_dir() -> Path:
    named = os.environ.get("A2J_REFERENCE")
    return Path(named) if named else REPOSITORY.parent / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference data; skips where it is absent, except where CI says it must be there."""
    folder = _reference_dir()
    if not folder.is_dir():
        message = f"reference data not found at {folder}; set A2J_REFERENCE to its folder"
        if os.environ.get("A2J_REQUIRE_REFERENCE"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def parity(reference: Path) -> Path:
    """Outputs of the official PyTorch program on recipe weights and inputs."""
    return reference / "parity"


@pytest.fixture(scope="session")
def official(reference: Path) -> Path:
    """The authors' published labels, centers, boxes and predictions."""
    return reference / "official"


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data directory with the rendered hands of `tests.tiny`; one for all workers."""
    from tests import tiny
    from tfds_builders.build import build

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "data.lock"):  # the second worker finds it built already
        build("synthetic_hand", folder / "data", crop_size=tiny.SIZE, **tiny.FRAMES)
    return folder / "data"


@pytest.fixture(scope="session")
def wheel_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="session", autouse=True)
def _terminal_log() -> None:
    """Library code logs to stderr in tests as it does in commands."""
    from a2j_jax.log import log_to_terminal

    log_to_terminal()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The messages that are logged in a test."""
    from a2j_jax.log import logger

    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
