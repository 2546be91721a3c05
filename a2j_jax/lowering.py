"""Which platform a program is traced for, where that decides how it is written.

XLA's compilers are not equally good at everything: see `models.layers` and `data.augment`, which ask here.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_platform: ContextVar[str | None] = ContextVar("platform", default=None)


def platform() -> str:
    """The platform to trace for: "cpu", "gpu" or "tpu"; JAX's default backend unless `lowering_for` says otherwise."""
    return _platform.get() or jax.default_backend()


@contextlib.contextmanager
def lowering_for(platform: str) -> Iterator[None]:
    """Trace for another platform than JAX's default backend, as ahead-of-time compilation does.

    The choice is made while tracing, and JAX keeps what it has traced: trace a new `jax.jit` in here.

    Args:
      platform: as JAX names it.
    """
    before = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(before)
