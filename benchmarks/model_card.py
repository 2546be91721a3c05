"""The numbers of a model card: a network's errors on rendered hands, by joint, view, occlusion, distance, sensor, side.

    python benchmarks/model_card.py [WEIGHTS] [--frames 2000]

Scenes are "varied" and "shifted" (docs/datasets/rendered.md), of a seed that no data set uses and with each sensor as
often as any other. They are cropped as in a data set, around a given center with a detector's error, and the network
looks once, as in `a2j eval`. The mean pose is that of the varied scenes.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2j_jax.config import Scenes
from a2j_jax.evaluation import evaluate
from a2j_jax.evaluation.tables import ABSENT, Table, markdown
from a2j_jax.geometry import Camera, Float64, frame_to_crop, uvd_to_xyz
from a2j_jax.inference.predictor import make_predict_fn, place_variables
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.runs.load import Restored, restore
from a2j_jax.synthetic.render import SensorMix
from a2j_jax.tracks import HANDS2017, TrackSpec
from tfds_builders.rendered import reader_for

SEED, BATCH_SIZE = 500_000, 50
SENSORS: dict[Scenes, tuple[str, ...]] = {
    "varied": ("structured light", "close range", "time of flight", "stereo"),
    "shifted": ("structured light", "time of flight", "stereo"),
}
HIDDEN_MM = 25.0  # a joint is hidden where the sensor reads a depth that is less by more than this
WRIST, THUMB, INDEX, MIDDLE, PINKY = 0, 1, 2, 3, 5  # the first joint of each finger
CHAINS = np.array([[1 + f, 6 + 3 * f, 7 + 3 * f, 8 + 3 * f] for f in range(5)])


class Measured(NamedTuple):
    """Errors in N scenes, and the scenes.

    Attributes:
      errors: (N, 21) mm.
      frames: labels and crops.
      hidden: (N, 21) whether the sensor sees something in front of the joint: a finger, the palm or another thing.
      sensor: (N,) place in `SENSORS`.
    """

    errors: Float64
    frames: evaluate.Frames
    hidden: NDArray[np.bool_]
    sensor: NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="?", default="hand-small", help="name, file or run")
    parser.add_argument("--frames", type=int, default=2_000, help="of each kind of scenes")
    arguments = parser.parse_args()
    network = restore(arguments.weights)
    camera = network.track.camera
    assert camera is not None
    found = {scenes: measure(network, scenes, arguments.frames) for scenes in SENSORS}
    pose = evaluate.mean_pose([vars(found["varied"].frames)], network.track)
    rows = {}
    for scenes, one in found.items():
        baseline = evaluate.score_constant_pose(pose, one.frames, network.track).errors
        rows[scenes] = {
            "all joints": ("", cell(one.errors)),
            "the same, at the mean pose": ("", cell(baseline)),
            **{
                name: (f"{mask.mean():.0%}", cell(one.errors[mask]))
                for name, mask in groups(one, scenes, camera).items()
            },
        }
    print(markdown(by_joint({scenes: one.errors for scenes, one in found.items()})))
    print(markdown(by_group(rows)))


def render(
    scenes: Scenes, track: TrackSpec, count: int
) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
    """Scenes in batches as `a2j eval` reads them, and the sensor of each, (N,): its place in `SENSORS`."""
    reader = reader_for(track, train=0, validation=0, test=count, seed=SEED, scenes=scenes)
    mix = reader.sensor
    assert isinstance(mix, SensorMix)
    limits = np.linspace(0, count, len(mix.sensors) + 1).astype(int).tolist()
    examples: list[dict[str, Any]] = []
    for one, first, end in zip(mix.sensors, limits, limits[1:], strict=False):
        alone = replace(reader, sensor=replace(mix, sensors=(one,)))
        examples += alone.read("test", range(first, end))
    parts = [examples[start : start + BATCH_SIZE] for start in range(0, count, BATCH_SIZE)]
    batches = [{name: np.stack([e[name] for e in part]) for name in part[0]} for part in parts]
    return batches, np.searchsorted(limits, np.arange(count), side="right") - 1


def measure(network: Restored, scenes: Scenes, count: int) -> Measured:
    """Renders scenes and predicts them as `a2j eval` does."""
    model, track = network.model, network.track
    batches, sensor = render(scenes, track, count)
    quick = prepare_for_inference(model, network.variables, track.crop_size, BATCH_SIZE)
    predict, variables = make_predict_fn(model, track), place_variables(quick)
    _, frames, scores = evaluate.evaluate_batches(
        lambda batch: predict(variables, batch), batches, track
    )
    canvas = np.concatenate([batch["canvas"] for batch in batches])
    return Measured(scores.errors, frames, is_hidden(canvas, frames, track), sensor)


def is_hidden(
    canvas: NDArray[np.uint16], frames: evaluate.Frames, track: TrackSpec
) -> NDArray[np.bool_]:
    """(N, 21) of `Measured`, from the readings (N, S + 2m, S + 2m) at the joints' pixels; False where there is none."""
    uv = frame_to_crop(frames.joints_uvd[..., :2], frames.box_px, track.crop_size) + track.margin
    last = canvas.shape[-1] - 1
    column, row = np.moveaxis(np.clip(uv.astype(int), 0, last), -1, 0)
    reading = canvas[np.arange(len(uv))[:, None], row, column] * track.storage_unit_mm
    seen = (reading > 0) & (uv >= 0).all(-1) & (uv <= last).all(-1)
    return seen & (frames.joints_uvd[..., 2] - reading > HIDDEN_MM)


def groups(one: Measured, scenes: Scenes, camera: Camera) -> dict[str, NDArray[np.bool_]]:
    """Name -> which joints (N, 21) belong to it, a group of frames or of joints."""
    angle, is_left, length, straight = hand_facts(uvd_to_xyz(one.frames.joints_uvd, camera), camera)
    distance, share = one.frames.center_uvd[:, 2], one.hidden.mean(axis=1)
    of_frames = {
        **bands("view: ", angle, (60, 120), ("palm", "side", "back")),
        **bands("hand: ", is_left, (1,), ("right", "left")),
        **bands("size: ", length, (150, 180), ("< 150 mm", "150–180 mm", "> 180 mm")),
        **bands("fingers: ", straight, (0.55, 0.9), ("bent", "half bent", "stretched")),
        **bands("distance: ", distance, (400, 700), ("< 400 mm", "400–700 mm", "> 700 mm")),
        **bands("sensor: ", one.sensor, range(1, len(SENSORS[scenes])), SENSORS[scenes]),
        **bands("joints hidden: ", share, (0.2, 0.4), ("< 20 %", "20–40 %", "> 40 %")),
    }
    wide = {name: np.repeat(mask[:, None], 21, axis=1) for name, mask in of_frames.items()}
    return {**wide, "joint: not hidden": ~one.hidden, "joint: hidden": one.hidden}


def bands(
    prefix: str, values: NDArray[Any], limits: Sequence[float], names: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Name -> which values (N,) lie between two neighboring limits, the lower one included."""
    band = np.searchsorted(limits, values, side="right")
    return {prefix + name: band == number for number, name in enumerate(names)}


def hand_facts(xyz: Float64, camera: Camera) -> tuple[Float64, NDArray[np.bool_], Float64, Float64]:
    """What the joints (N, 21, 3), mm, tell about a hand.

    Returns:
      (N,) each: the angle between the direction out of the palm and that to the camera, degrees; whether it is a left
      hand; the length from the wrist to the tip of the middle finger, mm; how straight four fingers are, 1 at most.
    """
    along, across = xyz[:, MIDDLE] - xyz[:, WRIST], xyz[:, INDEX] - xyz[:, PINKY]
    normal = np.cross(across, along)  # out of the palm of a right hand, whose thumb begins there
    side = np.sign(((xyz[:, THUMB] - xyz[:, WRIST]) * normal).sum(-1))
    middle = xyz.mean(axis=1)
    far = np.linalg.norm(normal, axis=-1) * np.linalg.norm(middle, axis=-1)
    angle = np.degrees(np.arccos(-side * (normal * middle).sum(-1) / far))
    chains = xyz[:, CHAINS]
    bones = np.linalg.norm(np.diff(chains, axis=2), axis=-1).sum(-1)
    straight = np.linalg.norm(chains[:, :, -1] - chains[:, :, 0], axis=-1) / bones
    length = np.linalg.norm(along, axis=-1) + bones[:, 2]
    # Where y points up, coordinates are a mirror image.
    return angle, side * camera.fx * camera.fy < 0, length, straight[:, 1:].mean(axis=1)


def by_joint(errors: dict[Scenes, Float64]) -> Table:
    """Errors (N, 21) by finger and joint."""
    wrist = [(cell(e[:, WRIST]), *[""] * 3) for e in errors.values()]
    rows = [("wrist", *sum(wrist, ()))]
    for chain in CHAINS:
        finger = HANDS2017.joints[chain[0]].partition("_")[0]
        rows.append((finger, *(cell(e[:, joint]) for e in errors.values() for joint in chain)))
    columns = (f"{scenes}: {kind}" for scenes in errors for kind in ("MCP", "PIP", "DIP", "TIP"))
    return Table("Error by joint, mean (median), mm", ("", *columns), tuple(rows))


def by_group(rows: dict[Scenes, dict[str, tuple[str, str]]]) -> Table:
    """Scenes -> name of a group -> its share of the joints, and its error."""
    columns = (text for scenes in rows for text in (f"{scenes}: share", "mean (median), mm"))
    cells = [
        (name, *sum((each.get(name, (ABSENT, ABSENT)) for each in rows.values()), ()))
        for name in rows["varied"]
    ]
    return Table("Error by what is seen", ("", *columns), tuple(cells))


def cell(errors: Float64) -> str:
    """Mean (median)."""
    return f"{errors.mean():.1f} ({np.median(errors):.1f})" if errors.size else ABSENT


if __name__ == "__main__":
    main()
