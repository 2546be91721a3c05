"""Score a checkpoint on a built data set and leave a report: what `a2j eval --workdir` does."""

from pathlib import Path
from typing import Any

from a2j_jax import input_pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation.evaluate import (
    EvaluationResult,
    center_pose,
    evaluate_batches,
    mean_pose,
    score_constant_pose,
)
from a2j_jax.evaluation.report import print_scores, write_report
from a2j_jax.evaluation.score import Scores
from a2j_jax.progress import progress, say
from a2j_jax.tracks import TrackSpec
from a2j_jax.training import assembly
from a2j_jax.training.restore import Restored, restore


def evaluate_checkpoint(
    directory: str | Path,
    *,
    step: int | str | None = None,
    track_name: str | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    batch_size: int = 64,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluate a run or a converted checkpoint, print a table and write a report.

    Args:
      directory: the run or checkpoint.
      step: "best", "latest" or a number; None scores the best and, beside it, the latest.
      track_name: what the caller believes it was trained on; checked.
      data_dir: TFDS data directory; None: the one it was trained on.
      split: of the data set.
      batch_size: frames at a time.
      out: folder of the report; None: `eval` in `directory`.

    Returns:
      The scores as JSON-ready values, with "step", "final" (where another step was best) and "baselines".

    Raises:
      UserError: no checkpoint, no data, a track that does not match.
    """
    chosen = restore(directory, "best" if step is None else step)
    track = chosen.track
    if track_name is not None and track_name != track.name:
        raise UserError(f"{directory} was trained on track {track.name!r}, not {track_name!r}")
    data_dir = data_dir or chosen.config.data.dir

    result = _score(chosen, data_dir, split, batch_size)
    name = "A2J" if step is None else f"A2J, step {chosen.step}"
    others: dict[str, Scores] = {}
    if step is None:
        final = restore(directory, "latest")
        if final.step != chosen.step:
            name = f"A2J, best step {chosen.step}"
            final_scores = _score(final, data_dir, split, batch_size).scores
            others[f"final step {final.step}"] = final_scores
    others |= baselines(result, track, data_dir, chosen.config.data.train_split, batch_size)

    print_scores({name: result.scores, **others})
    fetch = input_pipeline.example_reader(data_dir, track, split)
    folder = Path(directory) / "eval" if out is None else Path(out)
    for path in write_report(result, track, folder, fetch, others, name):
        say(f"wrote {path}")
    compared = {label: scores.to_json() for label, scores in others.items()}
    return {**result.scores.to_json(), "step": chosen.step, "split": split, "compared": compared}


def baselines(
    result: EvaluationResult,
    track: TrackSpec,
    data_dir: str | Path,
    train_split: str,
    batch_size: int,
) -> dict[str, Scores]:
    """Two answers that need no network, scored on the same frames: the crop centre and the mean pose.

    The mean pose is that of the training split; without one, or labels in it, there are no baselines.
    """
    try:
        frames = input_pipeline.num_frames(data_dir, track, train_split)
        batches = input_pipeline.eval_batches(data_dir, track, train_split, batch_size)
    except UserError as error:
        say(f"no baselines: {error}")
        return {}
    with progress("mean pose", frames, "frames") as advance:
        pose = mean_pose(batches, track, advance)
    return {
        "mean pose": score_constant_pose(pose, result.frames, track),
        "crop centre": score_constant_pose(center_pose(track, pose), result.frames, track),
    }


def _score(
    restored: Restored, data_dir: str | Path, split: str, batch_size: int
) -> EvaluationResult:
    model, variables, track = restored.model, restored.variables, restored.track
    predict = assembly.predict_of(model, track)
    frames = input_pipeline.num_frames(data_dir, track, split)
    batches = input_pipeline.eval_batches(data_dir, track, split, batch_size)
    with progress(f"evaluating step {restored.step}", frames, "frames") as advance:
        return evaluate_batches(lambda b: predict(variables, b), batches, track, advance)
