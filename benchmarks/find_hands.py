"""How well a network finds hands in rendered frames: error before and after it looks again, score, right or left.

    python benchmarks/find_hands.py [WEIGHTS] [--frames 200] [--fit]

Frames are `views.track_frames` of seeds that no data set uses; centers are the mean joint, the same off by N(0, 20 mm)
and N(0, 30 mm) per axis, and found in the frame. Left hands are the same frames mirrored. `--fit` prints the constants
of `inference.hands`, for other weights.
"""

import argparse
from typing import Any

import jax
import numpy as np

from a2j_jax.geometry import Camera, uvd_to_xyz, xyz_to_uvd
from a2j_jax.inference import hands
from a2j_jax.inference.locate import hand_centers
from a2j_jax.runs.load import restore
from a2j_jax.synthetic.views import track_frames

SEED = 500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="?", default="hand-small")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    found = restore(arguments.weights)
    track, camera = found.track, found.track.camera
    assert camera is not None
    model = hands.HandModel(found.model, found.variables, track)
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

    if arguments.fit:
        return fit(model, frames, truth, places["off by N(0, 20 mm)"])

    # --- Right hands known to be right: looks
    print("| center | 1 look | 2 | 3 | 4 | 5 |\n| --- | --- | --- | --- | --- | --- |")
    values = camera.as_array().astype(np.float32)
    for name, centers in places.items():
        cells = []
        for passes in range(1, 6):
            looks = hands.make_looks(found.model, track, passes)
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
    looked, good, _ = features_of(model, frames, truth, places["off by N(0, 20 mm)"])
    logits = looked @ hands._SCORE + hands._SCORE_BIAS
    print(
        f"\nscore of {len(good)} looks: AUC {auc(logits, good):.3f} for errors below 40 mm; ",
        end="",
    )
    kept = 1 / (1 + np.exp(-logits)) > hands._LOST
    print(
        f"{kept[good].mean():.1%} of those and {kept[~good].mean():.1%} of the rest above {hands._LOST}"
    )


def features_of(
    model: hands.HandModel, frames: list[np.ndarray], truth: list[np.ndarray], near: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, 4) of looks near hands and elsewhere, whether their error is below 40 mm, and of mirror looks."""
    camera, values = model.camera, model.camera.as_array().astype(np.float32)
    right, other, good = [], [], []
    for frame, joints, center in zip(frames, truth, near, strict=True):
        for start in [xyz_to_uvd(center, camera), *hand_centers(frame, camera)]:
            looks = model._looks(model._variables, frame, values, start.astype(np.float32))
            seen = jax.device_get(looks)
            of_looks = hands.features(seen, frame, camera, model.spec)
            apart = np.linalg.norm(seen.joints_xyz_mm[0] - joints, axis=-1).mean()
            right.append(of_looks[0])
            other.append(of_looks[1])
            good.append(apart < 40.0)
    return np.stack(right), np.array(good), np.stack(other)


def fit(model: hands.HandModel, *scenes: Any) -> None:
    """Prints the constants of `inference.hands`."""
    right, good, other = features_of(model, *scenes)
    fitted = logistic(right, good)
    print("_SCORE, _SCORE_BIAS =", fitted[:-1].round(2), fitted[-1].round(2))
    apart = (right - other)[good]
    both, side = np.concatenate([apart, -apart]), np.repeat([True, False], len(apart))
    fitted = logistic(both, side)[:-1]
    print("_SIDE =", fitted.round(2), f"accuracy {(apart @ fitted > 0).mean():.1%}")


def auc(value: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive has a larger value than a negative."""
    rank = value.argsort().argsort() + 1.0
    count = positive.sum()
    return float((rank[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def logistic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of logistic regression by Newton's method with a small penalty, the bias last."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ weights))
        slope = x.T @ (p - y) / len(y) + 1e-4 * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x / len(y) + 1e-4 * np.eye(x.shape[1])
        weights = weights - np.linalg.solve(curve, slope)
    return weights


if __name__ == "__main__":
    main()
