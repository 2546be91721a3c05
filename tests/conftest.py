"""Fixtures shared by all tests: where the reference data is, and what happens without it."""

import os
import shutil
import signal
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


# Compile each XLA program once per session: tests and the processes they start share a cache on disk. JAX reads
# these when it is imported, which the conftest files below this one do. A cache named outside is left alone.
_XLA_CACHE = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _XLA_CACHE = tempfile.mkdtemp(prefix="a2j-xla-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _XLA_CACHE
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"


# What XLA's CPU compiler would do beyond what is right takes longer than the small programs of tests run. jaxlib 0.10
# can be told to leave out MLIR as well, which makes it 5 s -> 2 s for a training step; later ones refuse the flag.
_WITHOUT_MLIR = (
    "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""
)
QUICK_XLA = (
    f"--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true {_WITHOUT_MLIR}"
)
# For programs that run for longer, or whose sums are to be vectorised.
QUICKER_XLA = f"--xla_backend_optimization_level=1 {_WITHOUT_MLIR}"
os.environ.setdefault("XLA_FLAGS", QUICK_XLA)

# A job in the background of a script (`make test &`) ignores Ctrl-C, and so would every program that is started here.
if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow ones first: at the end, no worker is to wait for another that has just begun one.

    A file is one worker's (`--dist loadfile`), so that what its tests share is made once.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    if _XLA_CACHE is not None:
        shutil.rmtree(_XLA_CACHE, ignore_errors=True)


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
    """The authors' published labels, centres, boxes and predictions."""
    return reference / "official"


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data directory with the rendered hands of `tests.tiny`."""
    from tests import tiny
    from tfds_builders.build import build

    folder = tmp_path_factory.mktemp("data")
    build("synthetic_hand", folder, crop_size=tiny.SIZE, **tiny.FRAMES)
    return folder
