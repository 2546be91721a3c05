"""How well a network finds hands in rendered frames: error before and after it looks again, score, right or left.

    python benchmarks/find_hands.py [WEIGHTS] [--frames 200] [--fit]
    python benchmarks/find_hands.py [WEIGHTS] --frames 2000 --only empty

Frames are `views.track_frames` of seeds that no data set uses; centers are the mean joint, the same off by N(0, 20 mm)
and N(0, 30 mm) per axis, and found in the frame. Left hands are the same frames mirrored. `--fit` learns what tells
hands from other things, and how far joints are off (`hands.Calibration`), from as many varied frames with hands and
without; it writes that into the file of weights, and prints a constant of `inference.hands`. `--only empty` counts in
how many varied frames without a hand (people, arms that end at the wrist, objects, walls) one is found, nothing else.
"""

import argparse
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from a2j_jax.geometry import Camera, uvd_to_xyz, xyz_to_uvd
from a2j_jax.inference import hands
from a2j_jax.inference.locate import hand_centers
from a2j_jax.log import log_to_terminal, logger, progress
from a2j_jax.models.anchors import spread_px
from a2j_jax.runs.load import restore, save_packed
from a2j_jax.synthetic.render import SensorMix
from a2j_jax.synthetic.views import ONE_HAND, track_frames
from a2j_jax.weights.packed import find_packed

SEED = 500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="?", default="hand-small")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--only", choices=("empty",), help="frames without a hand alone")
    arguments = parser.parse_args()
    log_to_terminal()
    logger.addFilter(lambda record: record.levelno != logging.WARNING)  # of poses; progress stays
    model = hands.load(arguments.weights)
    track, camera = model.spec, model.camera
    assert camera is not None
    if arguments.fit:
        return fit(model, arguments.weights, arguments.frames)
    if arguments.only == "empty":
        return false_hands(model, arguments.frames)
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
    for name, centers in places.items():
        cells = []
        for passes in range(1, 6):
            errors = []
            for index, frame in enumerate(frames):
                start = xyz_to_uvd(centers[index], camera).astype(np.float32)
                seen = model._look(frame, camera, start, passes, 0)
                errors.append(error(np.asarray(seen.joints_xyz_mm[0]), index))
            cells.append(f"{np.mean(errors):.1f} ({np.median(errors):.1f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    # --- As used
    mirrored = Camera(camera.fx, camera.fy, track.frame_size[0] - 1 - camera.u0, camera.v0)
    rows: dict[str, list[tuple[float, bool, float]]] = {}
    for index, frame in enumerate(frames):
        for side, given, model.turns in (
            ("right", "right", 1),
            ("right", "right", 4),
            ("right", None, 4),
            ("left", None, 4),
        ):
            model.handedness = given
            flipped = side == "left"
            shown, its = (frame[:, ::-1], mirrored) if flipped else (frame, camera)
            pose = model(shown, its)
            joints = np.asarray(pose.joints_xyz_mm) * ([-1, 1, 1] if flipped else 1)
            name = f"{side} hands, {'given' if given else 'decided'}"
            name += "" if model.turns == 4 else f", turns={model.turns}"
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
    measure(model._calibration, check, "\nscore, varied frames")


class Sights(NamedTuple):
    """What a network sees from N places.

    Attributes:
      shown: (N, 2, 4) `hands.features` of both looks.
      pooled: (N, 2, C) `hands.Looks.pooled`.
      is_hand: (N,) bool, the last crop's center is within 60 mm of a hand's mean joint.
      side: (N,) 1 in the frame of a right hand, -1 of a left one.
      fingers: (N,) mm, the sum of `hands.fingers_in_front` over the looks; 0 where they see different hands.
      frame: (N,) int, of which frame.
      spread: (N, 21) px of the crop, of the votes of the pose.
      error_mm: (N, 21) of its joints.
    """

    shown: np.ndarray
    pooled: np.ndarray
    is_hand: np.ndarray
    side: np.ndarray
    fingers: np.ndarray
    frame: np.ndarray
    spread: np.ndarray
    error_mm: np.ndarray


def sights_of(model: hands.HandModel, count: int, seed: int, *, without_hand: bool) -> Sights:
    """Looks at the places that `hand_centers` proposes in varied frames, and near the hand if there is one."""
    rng, camera, rows = np.random.default_rng(seed), model.camera, []
    assert camera is not None
    frames = track_frames(model.spec, count, seed, ONE_HAND, SensorMix(), without_hand)
    what = "frames without a hand" if without_hand else "frames with a hand"
    for number, one in enumerate(counted(frames, count, what)):
        depth, truth = one["frame"].astype(np.float32), one["joints_xyz"]
        if not depth.any():
            continue
        places = list(hand_centers(depth, camera))
        if not without_hand:
            near = truth.mean(axis=0) + rng.normal(0.0, 20.0, 3)
            places.append(xyz_to_uvd(near, camera))
        for place in places:
            sight = model._sight(depth, camera, place)
            pose, _ = model._pose(depth, camera, sight, 0.0, "frame", 0.0)
            away = np.linalg.norm(pose.joints_xyz_mm.mean(axis=0) - truth.mean(axis=0))
            is_hand = away < 60.0 and not without_hand
            error = np.linalg.norm(pose.joints_xyz_mm - truth, axis=-1)
            side = np.sign(hands.fingers_in_front(truth, camera))
            bent = hands.fingers_in_front(sight.looks.joints_xyz_mm, camera)
            _, both = hands.which_hand(sight.looks.joints_xyz_mm, sight.shown, camera)
            fingers = bent.sum() if len(both) == 2 else 0.0
            about = side, fingers, number, spread_px(pose.confidence), error
            rows.append((sight.shown, sight.looks.pooled, is_hand, *about))
    return Sights(*(np.array(column) for column in zip(*rows, strict=True)))


def counted(frames: Iterator[Any], count: int, what: str) -> Iterator[Any]:
    """The frames, with progress and remaining time."""
    with progress(what, count, "frames") as advance:
        for frame in frames:
            yield frame
            advance(1)


def false_hands(model: hands.HandModel, count: int) -> None:
    """Prints in how many varied frames without a hand some place reaches a score."""
    model.turns = 1  # the score does not depend on them
    sights = sights_of(model, count, SEED + 2 * 10**5, without_hand=True)
    best = hands.sigmoid(best_of_frames(model._calibration, sights))
    print("| score | frames without a hand that reach it |\n| --- | --- |")
    for score in (hands.LOST, 0.5, 0.7, 0.9):
        reached = int((best >= score).sum())
        print(f"| {score} | {reached} of {len(best)} ({reached / len(best):.2%}) |")


def fit(model: hands.HandModel, weights: str, count: int) -> None:
    """Fits a calibration, measures it on other frames, and writes it into the file of weights; prints `_SIDE`."""
    kinds = (False, True)
    learn = [sights_of(model, count, SEED + 10**5, without_hand=kind) for kind in kinds]
    check = [sights_of(model, count, SEED + 2 * 10**5, without_hand=kind) for kind in kinds]

    def columns(sights: list[Sights]) -> np.ndarray:
        both = [np.concatenate([one.shown, one.pooled], axis=-1) for one in sights]
        return np.concatenate(both)

    x, y = columns(learn), np.concatenate([one.is_hand for one in learn])
    flat = x.reshape(-1, x.shape[-1])
    middle, spread = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    kernel = logistic((flat - middle) / spread, np.repeat(y, 2), 1e-3)[:-1] / spread
    found = learn[0].is_hand
    errors = expected_errors(learn[0].spread[found], learn[0].error_mm[found])
    by_fingers = by_both_sides((learn[0].fingers * learn[0].side)[found, None])
    known = hands.Calibration(kernel.tolist(), 0.0, *errors, float(by_fingers[0]))
    # Moved so that one in 100 of other frames without a hand is taken for one.
    others = sights_of(model, count, SEED + 3 * 10**5, without_hand=True)
    allowed = np.percentile(best_of_frames(known, others), 99)
    known = known._replace(bias=float(np.log(hands.LOST / (1 - hands.LOST)) - allowed))
    measure(hands._UNCALIBRATED, check, "by the votes and the depth alone")
    measure(known, check, "with the trunk's features")
    hand = learn[0]
    apart = (hand.shown[found, 0] - hand.shown[found, 1]) * hand.side[found, None]
    print("_SIDE =", by_both_sides(apart).round(2))
    if (path := find_packed(weights)) is not None:
        save_packed(restore(path)._replace(calibration=known._asdict()), path)
        print(f"written into {path}")


def best_of_frames(known: hands.Calibration, sights: Sights) -> np.ndarray:
    """The highest logit of being a hand in each frame."""
    flat = sights.pooled.reshape(2 * len(sights.pooled), sights.pooled.shape[-1])
    logits = known.logits(sights.shown.reshape(-1, 4), flat).reshape(-1, 2).max(axis=1)
    return np.array([logits[sights.frame == one].max() for one in np.unique(sights.frame)])


def measure(known: hands.Calibration, check: list[Sights], name: str) -> None:
    """Prints how well scores tell hands from other things, and errors that are expected from those measured."""
    best = [best_of_frames(known, sights) for sights in check]
    positive = np.repeat([True, False], [len(one) for one in best])
    kept = [(hands.sigmoid(one) >= hands.LOST).mean() for one in best]
    print(
        f"{name}: AUC {auc(np.concatenate(best), positive):.4f}; a hand is found in {kept[0]:.1%} of {len(best[0])} "
        f"frames with one, and in {kept[1]:.1%} of {len(best[1])} without"
    )
    seen = check[0].is_hand
    expected = [known.errors_mm(spread) for spread in check[0].spread[seen]]
    if known.joints_mm is not None:
        error, expected = check[0].error_mm[seen].ravel(), np.concatenate(expected)
        worst = error >= np.percentile(error, 90)
        print(
            f"expected errors of joints: {expected.mean():.1f} mm on average, measured {error.mean():.1f}; AUC of the "
            f"worst tenth {auc(expected, worst):.3f}"
        )
    side = (check[0].fingers * check[0].side)[seen & (check[0].fingers != 0)]
    if len(side):
        sure = 1 / (1 + np.exp(-known.side_by_fingers * np.abs(side)))
        print(
            f"right or left: looks agree in {len(side) / seen.sum():.1%} of {seen.sum()} sights of a hand; "
            f"{(side > 0).mean():.1%} of those are right, {sure.mean():.1%} expected"
        )


def expected_errors(spread: np.ndarray, error_mm: np.ndarray) -> tuple[list[float], float, float]:
    """The last three fields of a `hands.Calibration`, by least squares: spread (N, 21) px, errors (N, 21) mm."""
    joint = np.tile(np.eye(21), (len(spread), 1))
    mean = np.repeat(spread.mean(axis=1), 21)
    x = np.column_stack([joint, spread.ravel(), mean])
    *joints, own, all_joints = np.linalg.lstsq(x, error_mm.ravel(), rcond=None)[0].tolist()
    return joints, own, all_joints


def by_both_sides(right: np.ndarray) -> np.ndarray:
    """Weights of logistic regression on features (N, F) that are the opposite for left hands."""
    both, side = np.concatenate([right, -right]), np.repeat([True, False], len(right))
    return logistic(both, side)[:-1]


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
