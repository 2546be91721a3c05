"""The step that is planned is the one that is trained: same batch, same state, same program."""

from pathlib import Path

import jax
import pytest

from a2j_jax.data import pipeline
from a2j_jax.data.batch import on_device
from a2j_jax.errors import UserError
from a2j_jax.tools.planning import DoesNotFit, abstract_batch, compile_step, refusal
from a2j_jax.tools.tpu import find_target
from a2j_jax.training import assembly
from tests import tiny


def test_shapes_are_those_of_the_input_pipeline(tiny_data: Path) -> None:
    track = assembly.track_of(tiny.config())
    batches = pipeline.train_batches(tiny_data, track, "train", 8, seed=0)
    batch = next(batches)
    placed = jax.device_put(on_device(batch))
    planned = abstract_batch(track, 8)
    assert {name: (x.shape, x.dtype) for name, x in planned.items()} == {
        name: (x.shape, x.dtype) for name, x in placed.items()
    }


def test_the_compiler_says_how_much_it_wanted() -> None:
    said = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required "
        "for HLO temporaries (17.50G) exceeds available HBM (15.75G). HLO module: jit_step.\nSee https://..."
    )
    found = refusal(said)
    assert found.needed == 17.5 * 2**30
    assert found.said.startswith("E1000: CompileTimeHbmOom")
    assert "\n" not in found.said
    assert refusal("RESOURCE_EXHAUSTED: Used 20.00G of 15.75G hbm.").needed == 20 * 2**30
    assert refusal("RESOURCE_EXHAUSTED: too much") == DoesNotFit("too much")


def test_a_batch_must_spread_evenly() -> None:
    with pytest.raises(UserError, match="does not spread evenly"):
        compile_step(tiny.config(batch_size=9, accumulate=2), find_target("cpu"))


@pytest.mark.slow
def test_the_state_is_among_the_arguments_and_rewritten_in_place() -> None:
    usage = compile_step(tiny.config(), find_target("cpu"))
    assert not isinstance(usage, DoesNotFit)
    numbers = sum(x.size for x in jax.tree.leaves(tiny.variables()["params"]))
    weights_and_moments = 3 * 4 * numbers
    assert weights_and_moments < usage.aliased < 1.1 * weights_and_moments
    assert usage.aliased < usage.arguments < 1.1 * usage.aliased
    assert usage.temporaries > 0
    assert usage.collectives == ()
    # Three times the forward pass, which is more than two operations per weight and cell.
    assert usage.flops > 3 * 8 * 2 * numbers
