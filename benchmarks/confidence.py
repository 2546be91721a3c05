"""How well `confidence` orders the joints of a test split by their error, and which error it stands for.

    python benchmarks/confidence.py --checkpoint runs/quickstart --data_dir data
    python benchmarks/confidence.py --checkpoint hand-small --data_dir data/shifted --fit_on data/varied \
        --out docs/images/confidence.png

Spearman's rank correlation: -1 where more confidence always means less error, 0 where it is uninformative.

--fit_on names a data set to whose validation split functions of the spread of the votes, from which confidence comes,
are fitted by least squares: they predict the error of every joint, which is then compared with the measured one.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import mannwhitneyu, spearmanr

from a2j_jax import pictures
from a2j_jax.evaluation import tables
from a2j_jax.evaluation.evaluate import SplitToScore, score_frames
from a2j_jax.evaluation.evaluate_run import predict_split
from a2j_jax.geometry import Float64
from a2j_jax.models.anchors import spread_px
from a2j_jax.runs.load import Restored, restore

BATCH_SIZE = 64
PARTS, GROUPS = 5, 10
WORST = 0.1  # share of the joints to be found by their confidence


def main() -> None:
    """Predicts one split, or two, and prints one table for each question."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="a run, or weights")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--fit_on", help="another data directory")
    parser.add_argument("--out", help="PNG or SVG: predicted and measured errors (with --fit_on)")
    arguments = parser.parse_args()

    restored = restore(arguments.checkpoint)
    errors, confidence = measure(restored, arguments.data_dir, arguments.split)
    print_table(errors, confidence, arguments.split)
    if arguments.fit_on:
        fitted = fit(*measure(restored, arguments.fit_on, "validation"))
        predicted = {name: x @ fitted[name] for name, x in terms(confidence).items()}
        print_predictions(errors, predicted)
        if arguments.out:
            unit = "mm" if restored.track.joint_dims == 3 else "px"
            draw(errors, predicted, unit, arguments.out)


def measure(restored: Restored, data_dir: str, split: str) -> tuple[Float64, Float64]:
    """Errors (N, K), NaN = unlabelled, and confidence (N, K)."""
    predictions, frames = predict_split(restored, SplitToScore(data_dir, split, BATCH_SIZE))
    assert predictions.confidence is not None
    scores = score_frames(predictions.joints_uvd, frames, restored.track)
    return scores.errors, np.asarray(predictions.confidence)


def print_table(errors: NDArray[np.float64], confidence: NDArray[np.float64], split: str) -> None:
    """Errors (N, K), NaN = unlabelled, by confidence (N, K)."""
    labeled = np.isfinite(errors)
    error, sure = errors[labeled], confidence[labeled]
    per_frame = spearmanr(confidence.mean(1), np.nanmean(errors, axis=1)).statistic
    rows = []
    for part in np.array_split(np.argsort(sure), PARTS):
        band, errs = f"{sure[part[0]]:.2f} to {sure[part[-1]]:.2f}", error[part]
        rows.append((band, f"{len(part):,}", f"{errs.mean():.1f}", f"{np.median(errs):.1f}"))
    title = f"{len(errors):,} frames of {split}, {len(error):,} joints"
    columns = ("confidence", "joints", "mean error", "median error")
    tables.print_table(tables.Table(title, columns, tuple(rows)), Console())
    print(
        f"Spearman's rank correlation of confidence and error: joints {spearmanr(sure, error).statistic:.2f}, "
        f"frame means {per_frame:.2f}"
    )


def terms(confidence: Float64) -> dict[str, Float64]:
    """What errors (N, K) are predicted from, linearly: (N, K, P) of a few spreads, in px of the crop, and ones."""
    count, joints = confidence.shape
    spread = np.asarray(spread_px(confidence), np.float64)[..., None]
    of_hand = np.broadcast_to(spread.mean(axis=1, keepdims=True), spread.shape)
    joint = np.broadcast_to(np.eye(joints), (count, joints, joints))
    return {
        "spread": np.concatenate([spread, np.ones_like(spread)], -1),
        "spread, joint": np.concatenate([spread, joint], -1),
        "spread, joint, mean spread": np.concatenate([spread, of_hand, joint], -1),
    }


def fit(errors: Float64, confidence: Float64) -> dict[str, NDArray[np.floating]]:
    """Name of `terms` -> their coefficients (P,) for errors (N, K); prints them, constants last."""
    labeled, fitted = np.isfinite(errors), {}
    for name, x in terms(confidence).items():
        fitted[name] = np.linalg.lstsq(x[labeled], errors[labeled])[0]
        print(f"error from {name}: {' '.join(f'{value:.2f}' for value in fitted[name])}")
    return fitted


def print_predictions(errors: Float64, predicted: dict[str, Float64]) -> None:
    """Errors (N, K) against what was predicted for them."""
    labeled, rows = np.isfinite(errors), []
    error = errors[labeled]
    worst = error > np.quantile(error, 1 - WORST)
    for name, values in predicted.items():
        value = values[labeled]
        above = mannwhitneyu(value[worst], value[~worst]).statistic
        means = in_groups(value, error)
        rows.append(
            (
                name,
                f"{above / (worst.sum() * (~worst).sum()):.3f}",
                f"{spearmanr(value, error).statistic:.2f}",
                f"{np.abs(means[0] - means[1]).mean():.1f}",
                *(f"{ends[0]:.1f} to {ends[-1]:.1f}" for ends in means),
            )
        )
    heads = (f"AUC, worst {WORST:.0%}", "rank correlation", "off by", "predicted", "measured")
    title = f"Predicted errors; {GROUPS} equal groups of joints, from the first to the last"
    tables.print_table(tables.Table(title, ("from", *heads), tuple(rows)), Console())


def in_groups(predicted: Float64, errors: Float64) -> tuple[Float64, Float64]:
    """Mean predicted and measured error, (10,) each, of equal groups of M joints in the order of the predictions."""
    parts = np.array_split(np.argsort(predicted), GROUPS)
    return np.array([predicted[p].mean() for p in parts]), np.array(
        [errors[p].mean() for p in parts]
    )


def draw(errors: Float64, predicted: dict[str, Float64], unit: str, out: str) -> None:
    """Measured errors against predicted ones, and the error of the joints that are kept."""
    figure = pictures.new_figure(7.0, 3.4)
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2)
    labeled = np.isfinite(errors)
    error = errors[labeled]
    kept = 100.0 * np.arange(1, error.size + 1) / error.size
    for color, (name, values) in zip(pictures.LIMB_COLORS, predicted.items(), strict=False):
        value = values[labeled]
        left.plot(*in_groups(value, error), "o-", color=color, markersize=4, label=name)
        means = np.cumsum(error[np.argsort(value)]) / np.arange(1, error.size + 1)
        right.plot(kept, means, color=color)
    means = np.cumsum(np.sort(error)) / np.arange(1, error.size + 1)
    (best,) = right.plot(kept, means, "k:")
    end = max(left.get_xlim()[1], left.get_ylim()[1])
    left.plot([0, end], [0, end], "--", color="0.6", zorder=0)
    left.set(
        xlabel=f"predicted error, {unit}",
        ylabel=f"measured error, {unit}",
        xlim=(0, end),
        ylim=(0, end),
    )
    left.legend(fontsize=8, frameon=False, title="predicted from")
    right.set(
        xlabel="share of the joints kept, %",
        ylabel=f"their mean error, {unit}",
        xlim=(1, 100),
        ylim=(0, None),
    )
    right.legend([best], ["in the order of the true error"], fontsize=8, frameon=False)
    print(pictures.save_figure(figure, out))


if __name__ == "__main__":
    main()
