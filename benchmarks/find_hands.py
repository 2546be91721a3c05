"""How well a network finds hands in rendered frames: error before and after it looks again, score, right or left.

    python benchmarks/find_hands.py [WEIGHTS] [--frames 200] [--fit]

Frames are `views.track_frames` of seeds that no data set uses; centers are the mean joint, the same off by N(0, 20 mm)
and N(0, 30 mm) per axis, and found in the frame. Left hands are the same frames mirrored. `--fit` learns what
tells hands from other things (`hands.HandScore`), in as many varied frames with hands and without, and writes it into
the file of weights; and prints a constant of `inference.hands`.
"""

import argparse
from typing import Any, NamedTuple

import numpy as np

from a2j_jax.geometry import Camera, uvd_to_xyz, xyz_to_uvd
from a2j_jax.inference import hands
from a2j_jax.inference.locate import hand_centers
from a2j_jax.runs.load import restore, save_packed
from a2j_jax.synthetic.sensors import SensorMix
from a2j_jax.synthetic.views import ONE_HAND, track_frames
from a2j_jax.weights.packed import find_packed

SEED = 500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="?", default="hand-small")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    model = hands.load(arguments.weights)
    track, camera = model.spec, model.camera
    assert camera is not None
    if arguments.fit:
        return fit(model, arguments.weights, arguments.frames)
    rng = np.random.default_rng(0)
    frames, truth = [], []
    for one in track_frames(track, arguments.frames, SEED):
        frames.append(one["frame"].astype(np.float32))
        truth.append(uvd_to_xyz(one["joints_uvd"], camera))
    middle = np.stack(truth).mean(axis=1)
    places = {
        "mean joint": middle,
        "off by N(0, 20 mm)": middle + rng.normal(0.0, 20.0, middle.shape),
        "off by N(0, 30 mm)": middle + rng.normal(0.0, 30.0, middle.shape),
        "found, the likeliest place": np.stack(
            [uvd_to_xyz(hand_centers(frame, camera)[0], camera) for frame in frames]
        ),
    }

    def error(joints: Any, index: int) -> float:
        return float(np.linalg.norm(joints - truth[index], axis=-1).mean())

    # --- Right hands known to be right: looks
    print("| center | 1 look | 2 | 3 | 4 | 5 |\n| --- | --- | --- | --- | --- | --- |")
    values = camera.as_array().astype(np.float32)
    for name, centers in places.items():
        cells = []
        for passes in range(1, 6):
            looks = hands.make_looks(model._model, track, passes)
            errors = []
            for index, frame in enumerate(frames):
                start = xyz_to_uvd(centers[index], camera).astype(np.float32)
                seen = looks(model._variables, frame, values, start)
                errors.append(error(np.asarray(seen.joints_xyz_mm[0]), index))
            cells.append(f"{np.mean(errors):.1f} ({np.median(errors):.1f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    # --- As used
    mirrored = Camera(camera.fx, camera.fy, track.frame_size[0] - 1 - camera.u0, camera.v0)
    rows: dict[str, list[tuple[float, bool, float]]] = {}
    for index, frame in enumerate(frames):
        for side, given in (("right", "right"), ("right", None), ("left", None)):
            model.handedness = given
            flipped = side == "left"
            shown, its = (frame[:, ::-1], mirrored) if flipped else (frame, camera)
            pose = model(shown, its)
            joints = np.asarray(pose.joints_xyz_mm) * ([-1, 1, 1] if flipped else 1)
            name = f"{side} hands, {'given' if given else 'decided'}"
            row = error(joints, index), pose.handedness == side, pose.score
            rows.setdefault(name, []).append(row)
    print("\n| found by a call | mean (median), mm | above 60 mm | right or left | score, median |")
    print("| --- | --- | --- | --- | --- |")
    for name, each in rows.items():
        errors, sides, scored = (np.array(column, float) for column in zip(*each, strict=True))
        print(
            f"| {name} | {errors.mean():.1f} ({np.median(errors):.1f}) | {(errors > 60).mean():.1%} | "
            f"{sides.mean():.1%} | {np.median(scored):.2f} |"
        )
    count = arguments.frames
    check = [sights_of(model, count, SEED + 2 * 10**5, without_hand=kind) for kind in (False, True)]
    measure(model._score, check, "\nscore, varied frames")


class Sights(NamedTuple):
    """What a network sees from N places.

    Attributes:
      shown: (N, 2, 4) `hands.features` of both looks.
      pooled: (N, 2, C) `hands.Looks.pooled`.
      is_hand: (N,) bool, the last crop's center is within 60 mm of a hand's mean joint.
      frame: (N,) int, of which frame.
      error_mm: (N,) of the joints of the first look, inf without a hand.
    """

    shown: np.ndarray
    pooled: np.ndarray
    is_hand: np.ndarray
    frame: np.ndarray
    error_mm: np.ndarray


def sights_of(model: hands.HandModel, count: int, seed: int, *, without_hand: bool) -> Sights:
    """Looks at the places that `hand_centers` proposes in varied frames, and near the hand if there is one."""
    rng, camera, rows = np.random.default_rng(seed), model.camera, []
    assert camera is not None
    frames = track_frames(model.spec, count, seed, ONE_HAND, SensorMix(), without_hand)
    for number, one in enumerate(frames):
        depth, truth = one["frame"].astype(np.float32), one["joints_xyz"]
        if not depth.any():
            continue
        places = list(hand_centers(depth, camera))
        if not without_hand:
            near = truth.mean(axis=0) + rng.normal(0.0, 20.0, 3)
            places.append(xyz_to_uvd(near, camera))
        for place in places:
            looks, shown, _ = model._sight(depth, camera, place)
            away = np.linalg.norm(uvd_to_xyz(looks.center_uvd[0], camera) - truth.mean(axis=0))
            error = np.linalg.norm(looks.joints_xyz_mm[0] - truth, axis=-1).mean()
            is_hand = away < 60.0 and not without_hand
            rows.append((shown, looks.pooled, is_hand, number, error if is_hand else np.inf))
    return Sights(*(np.array(column) for column in zip(*rows, strict=True)))


def fit(model: hands.HandModel, weights: str, count: int) -> None:
    """Fits the score, measures it on other frames, and writes it into the file of weights; prints `_SIDE`."""
    kinds = (False, True)
    learn = [sights_of(model, count, SEED + 10**5, without_hand=kind) for kind in kinds]
    check = [sights_of(model, count, SEED + 2 * 10**5, without_hand=kind) for kind in kinds]

    def columns(sights: list[Sights]) -> np.ndarray:
        both = [np.concatenate([one.shown, one.pooled], axis=-1) for one in sights]
        return np.concatenate(both)

    x, y = columns(learn), np.concatenate([one.is_hand for one in learn])
    flat = x.reshape(-1, x.shape[-1])
    middle, spread = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    fitted = logistic((flat - middle) / spread, np.repeat(y, 2), 1e-3)
    kernel = fitted[:-1] / spread
    score = hands.HandScore(kernel.tolist(), float(fitted[-1] - kernel @ middle))
    for name, own in (
        ("by the votes and the depth alone", None),
        ("with the trunk's features", score),
    ):
        measure(own or hands.HandScore(hands._SCORE, hands._SCORE_BIAS), check, name)
    apart = (x[y, 0] - x[y, 1])[:, :4]
    both, side = np.concatenate([apart, -apart]), np.repeat([True, False], len(apart))
    print("_SIDE =", logistic(both, side)[:-1].round(2))
    if (path := find_packed(weights)) is not None:
        save_packed(restore(path)._replace(hand_score=(list(score.kernel), score.bias)), path)
        print(f"written into {path}")


def measure(score: hands.HandScore, check: list[Sights], name: str) -> None:
    """Prints how well a score tells hands from other things."""
    best = []
    for sights in check:
        logits = score.logits(
            sights.shown.reshape(-1, 4), sights.pooled.reshape(len(sights.shown) * 2, -1)
        )
        logits = logits.reshape(-1, 2).max(axis=1)
        frames = np.unique(sights.frame)
        best.append(np.array([logits[sights.frame == one].max() for one in frames]))
    positive = np.repeat([True, False], [len(one) for one in best])
    kept = [(1 / (1 + np.exp(-one)) >= hands._LOST).mean() for one in best]
    print(
        f"{name}: AUC {auc(np.concatenate(best), positive):.4f}; a hand is found in {kept[0]:.1%} of {len(best[0])} "
        f"frames with one, and in {kept[1]:.1%} of {len(best[1])} without"
    )


def auc(value: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive has a larger value than a negative."""
    rank = value.argsort().argsort() + 1.0
    count = positive.sum()
    return float((rank[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def logistic(x: np.ndarray, y: np.ndarray, penalty: float = 1e-4) -> np.ndarray:
    """Weights of logistic regression by Newton's method with a penalty on their squares, the bias last."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ weights))
        slope = x.T @ (p - y) / len(y) + penalty * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x / len(y) + penalty * np.eye(x.shape[1])
        weights = weights - np.linalg.solve(curve, slope)
    return weights


if __name__ == "__main__":
    main()
