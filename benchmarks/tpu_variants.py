"""What variants of the training step would cost on a TPU that is not there: docs/scaling.md has their numbers.

    python benchmarks/tpu_variants.py --config nyu --config.model.backbone=resnet18 --one_pass_bytes 8388608
    python benchmarks/tpu_variants.py --config nyu --share_moments         # ZeRO-1: Adam's moments in equal shares
    python benchmarks/tpu_variants.py --config quickstart --flag xla_enable_async_all_reduce=true

256 images for v5e:2x2 in bfloat16; 3 to 20 minutes of a core. Needs libtpu: pip install 'a2j-jax[tpu]'.
"""

import argparse
import re
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from a2j_jax.cli.arguments import add_config_arguments, config_with_overrides
from a2j_jax.models import layers
from a2j_jax.runs import sharding
from a2j_jax.tools import planning

# A separate reduction kernel takes longer than this; arithmetic on one number per channel takes less.
_KERNEL_CYCLES = 10_000
_BATCH_NORM = re.compile(r"/(\w+_)?bn\d*/")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    bound = "maps of this size and more take one pass over their statistics"
    parser.add_argument("--one_pass_bytes", type=int, default=layers.ONE_PASS_BYTES, help=bound)
    parser.add_argument("--share_moments", action="store_true", help="Adam's moments in shares")
    flag = "option of XLA's compiler; repeat it for several"
    parser.add_argument("--flag", action="append", default=[], metavar="NAME=VALUE", help=flag)
    given, options = parser.parse_known_args()
    overrides = [tuple(option.removeprefix("--config.").partition("=")[::2]) for option in options]
    fixed = [("optim.batch_size", "256"), ("model.dtype", "bfloat16")]
    config = config_with_overrides(given.config, [*overrides, *fixed], None)

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    target = planning.find_target("v5e:2x2")
    layers.ONE_PASS_BYTES = given.one_pass_bytes
    flags = dict(flag.split("=", 1) for flag in given.flag)
    planning.preset_flags = lambda: flags  # type: ignore[assignment]
    if given.share_moments:
        sharding.Layout.wrap = _sharing_moments  # type: ignore[method-assign]
    texts: list[str] = []
    read = planning.read_program

    def keep(text: str, turns: int) -> Any:
        texts.append(text)
        return read(text, turns)

    planning.read_program = keep
    usage = planning.compile_step(config, target, flags=bool(flags))
    assert isinstance(usage, planning.Usage), usage
    assert target.chip is not None
    assert target.chip.clock is not None
    print(f"{usage.cycles / 1e6:.2f} M cycles, {usage.cycles / target.chip.clock * 1e3:.1f} ms")
    print(f"{usage.memory_traffic / 1e9:.2f} GB of HBM traffic, peak {usage.peak / 2**20:,.0f} MiB")
    for sent in usage.collectives:
        print(f"{sent.kind}: {sent.count}, {sent.bytes / 1e6:.1f} MB")
    print(f"{_reductions(texts[0])} kernels that only add up a batch norm's input")


def _reductions(text: str) -> int:
    """Kernels of the entry computation that reduce in a batch norm's forward pass, and are no convolution."""
    count = 0
    for line in text[text.index("\nENTRY") :].splitlines():
        name = re.search(r'op_name="([^"]*)"', line)
        cycles = re.search(r'"estimated_cycles":"(\d+)"', line)
        if name and cycles and int(cycles[1]) > _KERNEL_CYCLES:
            forward = _BATCH_NORM.search(name[1]) and "transpose" not in name[1]
            count += bool(forward and "reduce" in name[1] and " convolution(" not in line)
    return count


class _Shared:
    """A step whose optimizer state is spread over the devices of a mesh, to be traced as `jax.jit`'s are."""

    def __init__(self, layout: sharding.Layout, step: sharding.TrainStep):
        self._layout, self._step = layout, step

    def trace(self, state: Any, batch: Any, key: Any) -> Any:
        """Traces the step with the last axis that the devices divide of each moment spread over them."""
        everywhere, spread = self._layout.everywhere, self._layout.spread
        assert isinstance(everywhere, NamedSharding)
        mesh, count = everywhere.mesh, len(self._layout.devices)

        def share(x: Any) -> NamedSharding:
            for axis in reversed(range(x.ndim)):
                if x.shape[axis] % count == 0 and x.size >= 4096:
                    return NamedSharding(mesh, PartitionSpec(*[None] * axis, sharding.AXIS))
            return everywhere

        placed = jax.tree.map(lambda _: everywhere, state).replace(
            opt_state=jax.tree.map(share, state.opt_state)
        )
        return jax.jit(
            sharding._on_mesh(self._step, mesh),
            in_shardings=(placed, spread, everywhere),
            out_shardings=(placed, everywhere),
            donate_argnums=0,
        ).trace(state, batch, key)


def _sharing_moments(layout: sharding.Layout, step: sharding.TrainStep, _: Any = None) -> _Shared:
    return _Shared(layout, step)


if __name__ == "__main__":
    main()
