"""What each ingredient of the varied scenes is worth: `hand_small` trained without it, scored on shifted scenes.

    python benchmarks/ablation.py [--init runs/quickstart] [--frames 20000] [--steps 2000] [VARIANT ...]

Each variant renders its frames, keeps them in memory (29 kB each), and trains for the same number of steps by the
schedule of `configs/hand_small.py`, from random weights or from those of --init, for fewer steps. Results are kept in
a file (--out): variants that are there are not trained again. All are scored on the same 1,000 shifted and 1,000
varied hands, of a seed that no data set uses. docs/models.md has them.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from a2j_jax.config import Scenes
from a2j_jax.config_files import load_config
from a2j_jax.data.crops import step_arrays
from a2j_jax.evaluation.evaluate import evaluate_batches
from a2j_jax.inference.predictor import make_predict_fn, place_variables
from a2j_jax.log import progress
from a2j_jax.models.a2j import init_variables
from a2j_jax.runs.experiment import Experiment, resolve
from a2j_jax.runs.load import restore
from a2j_jax.runs.sharding import TrainState
from a2j_jax.synthetic.props import PropSpec
from a2j_jax.synthetic.render import KINECT, SensorMix, SensorSpec
from a2j_jax.synthetic.views import VARIED, SceneSpec
from a2j_jax.training.step import experiment_step, learning_rate_schedule, optimizer_of
from tfds_builders.rendered import SyntheticReader, reader_for

SEED, SCORED = 600_000, 1_000
BATCH_SIZE = 50  # of the evaluation


class Variant(NamedTuple):
    """What is trained on: scenes, what sees them, and σ of the shift of the center in training, mm."""

    scene: SceneSpec = VARIED
    sensor: SensorSpec | SensorMix = SensorMix()
    center_shift_mm: float = 6.0


_PROPS = PropSpec()
_NOTHING = replace(_PROPS, held=0.0, in_front=0.0, other_hand=0.0, sleeve=0.0, no_arm=0.0, body=0.0)
_GOOD_CENTERS = replace(_PROPS, center_tail=0.0, center_bias_mm=0.0)
_INDEPENDENT = dict.fromkeys(
    ("natural", "pinch", "fist", "pointing", "counting", "flat", "claw"), 0.0
)
VARIANTS = {
    "varied": Variant(),
    "centers 5 mm off": Variant(
        replace(VARIED, center_sigma_mm=5.0, props=_GOOD_CENTERS), center_shift_mm=0.0
    ),
    "no shift of the center on the device": Variant(center_shift_mm=0.0),
    "right hands": Variant(replace(VARIED, mirror_probability=0.0)),
    "nothing held, worn, in front or behind": Variant(replace(VARIED, props=_NOTHING)),
    "joints drawn independently": Variant(
        replace(VARIED, hand=replace(VARIED.hand, **_INDEPENDENT))
    ),
    "one size of people": Variant(
        replace(VARIED, hand=replace(VARIED.hand, child_probability=0.0, adult_scale=(0.95, 1.05)))
    ),
    "a Kinect": Variant(sensor=KINECT),
    "plain": Variant(SceneSpec(), KINECT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--init", help="weights to begin with: a run, or a file of weights")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablation.json"))
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("frames", "steps", "init")}
    found: dict[str, Any] = {**settings, "mean_error_mm": {}}
    if arguments.out.exists():
        found = json.loads(arguments.out.read_text())
        if any(found.get(name) != value for name, value in settings.items()):
            parser.error(f"{arguments.out} was measured with other --frames, --steps or --init")
    for name in arguments.variants or VARIANTS:
        if name not in found["mean_error_mm"]:
            found["mean_error_mm"][name] = measure(name, **settings)
            arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    print("| trained on | shifted | varied |\n| --- | --- | --- |")
    for name, errors in found["mean_error_mm"].items():
        print(f"| {name} | {errors['shifted']:.1f} | {errors['varied']:.1f} |")


def measure(name: str, frames: int, steps: int, init: str | None) -> dict[str, float]:
    """Trains on a variant; mean errors, mm, in both kinds of scenes. 0 steps: of the weights to begin with."""
    variant = VARIANTS[name]
    config = load_config("hand_small")
    shift = replace(config.augment, center_shift_mm=variant.center_shift_mm)
    experiment = resolve(replace(config, augment=shift))
    reader = reader_for(experiment.track, train=frames, validation=0, test=0, scenes="varied")
    view = replace(reader.view, scene=variant.scene)  # type: ignore[arg-type]
    size = experiment.track.crop_size
    if init is None:
        variables = init_variables(experiment.model, jax.random.key(0), size, size)
    else:
        variables = restore(init).variables
    if steps:
        examples = render(replace(reader, view=view, sensor=variant.sensor), "train", name)
        variables = train(experiment, variables, examples, steps, name)
    return {kind: score(experiment, variables, kind) for kind in ("shifted", "varied")}


def render(reader: SyntheticReader, split: str, name: str) -> dict[str, np.ndarray]:
    """The examples of a split, stacked."""
    count = reader.frames()[split]
    examples = []
    with progress(f"rendering {name}", count, "frames") as advance:
        for example in reader.read(split, range(count)):
            examples.append(example)
            advance(1)
    return {key: np.stack([one[key] for one in examples]) for key in examples[0]}


def train(
    experiment: Experiment,
    variables: dict[str, Any],
    examples: dict[str, np.ndarray],
    steps: int,
    title: str,
) -> dict[str, Any]:
    """Variables after so many steps."""
    optim = experiment.config.optim
    rate = learning_rate_schedule(
        optim.schedule, optim.learning_rate, steps, warmup_steps=optim.warmup_steps
    )
    optimizer = optimizer_of(experiment, rate)
    key = jax.random.key(0)
    state = TrainState.create(variables, optimizer)
    step = jax.jit(experiment_step(replace_ema(experiment), optimizer), donate_argnums=0)
    arrays = step_arrays(examples)
    rows = in_epochs(len(examples["valid"]), optim.batch_size)
    with progress(f"training on {title}", steps * optim.batch_size, "images") as advance:
        for _ in range(steps):
            chosen = next(rows)
            state, metrics = step(state, {name: x[chosen] for name, x in arrays.items()}, key)
            advance(optim.batch_size, f"loss {float(metrics['loss']):.1f}")
    return state.variables


def replace_ema(experiment: Experiment) -> Experiment:
    """Without a moving average of the weights, which few steps do not need."""
    config = experiment.config
    return replace(experiment, config=replace(config, optim=replace(config.optim, ema_decay=None)))


def in_epochs(count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Rows of batches: every row once, in random order, then all of them again."""
    rng, left = np.random.default_rng(0), np.empty(0, np.int64)
    while True:
        while len(left) < batch_size:
            left = np.concatenate([left, rng.permutation(count)])
        yield left[:batch_size]
        left = left[batch_size:]


@cache
def scored_examples(scenes: Scenes) -> dict[str, np.ndarray]:
    """The same for all variants."""
    track = resolve(load_config("hand_small")).track
    reader = reader_for(track, train=0, validation=0, test=SCORED, seed=SEED, scenes=scenes)
    return render(reader, "test", scenes)


def score(experiment: Experiment, variables: dict[str, Any], scenes: Scenes) -> float:
    """Mean error, mm, on hands of a kind that no variant was trained on."""
    model, track = experiment.model, experiment.track
    examples = scored_examples(scenes)
    predict, placed = make_predict_fn(model, track), place_variables(variables)
    batches = [
        {name: x[start : start + BATCH_SIZE] for name, x in examples.items()}
        for start in range(0, SCORED, BATCH_SIZE)
    ]
    return float(evaluate_batches(partial(predict, placed), batches, track).scores.errors.mean())


if __name__ == "__main__":
    main()
