"""How well `confidence` orders the joints of a test split by their error.

    python benchmarks/confidence.py --checkpoint runs/quickstart --data_dir data

Spearman's rank correlation: -1 where more confidence always means less error, 0 where it is uninformative.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import spearmanr

from a2j_jax.evaluation import tables
from a2j_jax.evaluation.evaluate import SplitToScore, score_frames
from a2j_jax.evaluation.evaluate_run import predict_split
from a2j_jax.runs.load import restore

BATCH_SIZE = 64
PARTS = 5


def main() -> None:
    """Predicts a split and prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()

    restored = restore(arguments.checkpoint)
    data = SplitToScore(arguments.data_dir, arguments.split, BATCH_SIZE)
    predictions, frames = predict_split(restored, data)
    assert predictions.confidence is not None
    errors = score_frames(predictions.joints_uvd, frames, restored.track).errors
    print_table(errors, predictions.confidence, arguments.split)


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


if __name__ == "__main__":
    main()
