"""Which platform a program is traced for, where that decides how it is written.

XLA's compilers are not equally good at everything: see `models.layers` and `data.augment`, which ask here.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache, wraps
from importlib.metadata import version
from typing import Any, ParamSpec, TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata

P = ParamSpec("P")
Made = TypeVar("Made")

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


def options_for_inference() -> dict[str, str] | None:
    """Options of XLA's compiler for a network that is not trained; None: the usual ones.

    On a processor jaxlib 0.10 to 0.12 hand convolutions to YNNPACK. Without it ResNet-50 takes 66 ms instead of 73 for
    one crop of 176 px on two cores, and decoding in the same program does not slow it down (YNNPACK then takes a head's
    chain of convolutions as one kernel). Training steps are quicker with it.
    """
    if platform() == "cpu" and version("jaxlib").startswith(("0.10.", "0.11.", "0.12.")):
        return {"xla_cpu_experimental_ynn_fusion_type": ""}
    return None


# Options of XLA for a training step, by platform, that are not its defaults. Names come and go with versions of XLA:
# docs/scaling.md says which JAX these were tried with, and what else is on by default there.
PRESET_FLAGS = {
    "gpu": {"xla_gpu_enable_latency_hiding_scheduler": True, "xla_gpu_triton_gemm_any": True},
    "tpu": {
        "xla_tpu_enable_latency_hiding_scheduler": True,
        "xla_tpu_enable_data_parallel_all_reduce_opt": True,
        "xla_tpu_data_parallel_opt_different_sized_ops": True,
    },
}


def preset_flags() -> dict[str, bool]:
    """Options of XLA's compiler that hide a training step's exchanges behind its arithmetic; none for a CPU.

    They are options of one program, not of `XLA_FLAGS` or `LIBTPU_INIT_ARGS`, which a process cannot change once JAX
    has found its devices, and which end it where a name is unknown.
    """
    return dict(PRESET_FLAGS.get(platform(), {}))


def island(function: Callable[P, Made]) -> Callable[P, Made]:
    """A function of arrays whose results XLA's CPU compiler computes once and stores.

    It fuses chains of element-wise operations into everything that reads their results, and computes them again in each
    place, with transposed reads where a matrix product wants another order. Other platforms' programs are left alone.
    """

    @wraps(function)
    def inlined_within(*args: P.args, **kwargs: P.kwargs) -> Made:
        with set_xla_metadata(inlineable=None):
            return function(*args, **kwargs)

    jitted = jax.jit(inlined_within)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Made:
        if platform() != "cpu":
            return function(*args, **kwargs)
        with set_xla_metadata(inlineable="false"):
            return jitted(*args, **kwargs)

    return call


def made_once(function: Callable[P, Made]) -> Callable[P, Made]:
    """Memoizes a function that traces or jits: another seed or checkpoint of a network is not compiled again.

    The key is the arguments, the platform to trace for and the default float. Results are shared: do not change them.
    Arguments without a hash (a custom network with an array among its attributes) are not memoized.
    """

    def make(traced_for: Any, *args: Any, **kwargs: Any) -> Made:
        return function(*args, **kwargs)

    kept: Callable[..., Made] = lru_cache(maxsize=16)(make)

    @wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> Made:
        try:
            hash((args, tuple(kwargs.values())))
        except TypeError:
            return function(*args, **kwargs)
        default_float = jax.dtypes.canonicalize_dtype(float)
        return kept((platform(), default_float), *args, **kwargs)

    return made
