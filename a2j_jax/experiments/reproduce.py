"""Run the rows of one of the paper's tables, one after the other; what is done already is not done again."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax import input_pipeline
from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.evaluation import metrics
from a2j_jax.evaluation.checkpoint import SplitToScore, predict_split
from a2j_jax.evaluation.evaluate import score_frames
from a2j_jax.evaluation.protocols import score_pdj
from a2j_jax.evaluation.provenance import with_origin
from a2j_jax.evaluation.report import write_json
from a2j_jax.experiments.paper_tables import PaperTable, Row, row_config
from a2j_jax.files import local_path, read_json
from a2j_jax.models.network import PoseNetwork
from a2j_jax.progress import say
from a2j_jax.speed.stages import flops_per_frame, frames_per_second, parameters
from a2j_jax.text import printable
from a2j_jax.training import assembly
from a2j_jax.training.experiment import run_experiment
from a2j_jax.training.record import read_starts
from a2j_jax.training.restore import Restored, restore
from a2j_jax.training.run_directory import run_and_step
from a2j_jax.training.stopping import StopRequests, stopped
from a2j_jax.weights.load import check_weights

RESULT_FILE = "result.json"
_SPEED_ROUNDS = 20
# Of the values in it.
_KINDS: dict[str, tuple[type, ...]] = {
    "row": (str,),
    "seed": (int,),
    "scored": (dict,),
    "final": (dict,),
    "best": (dict,),
    "parameters": (int,),
    "flops": (int, float),
    "speed": (dict,),
    "commits": (list,),
    "devices": (dict, type(None)),
}
Prepare = Callable[[Config], None]


class Job(NamedTuple):
    """One training run of a table."""

    row: Row
    seed: int
    config: Config
    workdir: Path


def jobs(table: PaperTable, base: Config, seeds: int, out: Path) -> Iterator[Job]:
    """The runs of a table: every row with the first seed, then with the next.

    Args:
      table: whose rows.
      base: what they differ from.
      seeds: runs of each row; the base's seed and those after it.
      out: folder of all of them.

    Raises:
      UserError: the base has what a row is to differ in: two rows would be one experiment.
    """
    configs = {row: row_config(row, base) for row in table.rows}
    for one, other in itertools.combinations(table.rows, 2):
        if dataclasses.replace(configs[one], name="") == dataclasses.replace(
            configs[other], name=""
        ):
            raise UserError(
                f"{table.name}: rows {one.label!r} and {other.label!r} are one and the same with these values; "
                "leave out the --config.KEY=VALUE that they differ in"
            )
    for number in range(seeds):
        for row, config in configs.items():
            seed = base.run.seed + number
            config = dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))
            yield Job(row, seed, config, out / row.name / f"seed_{seed}")


def unusable_weights(config: Config) -> str | None:
    """Why a run cannot start from the weights it is to start from; None where it can, or needs none."""
    source = config.model.init_from
    if source is None or run_and_step(source)[0].is_dir():
        return None
    track = assembly.track_of(config)
    model = assembly.model_of(config, track)
    if not local_path(source).exists():
        return f"{source} is not there" + (
            " (docs/weights.md)"
            if model.width == PoseNetwork.width
            else f"; ImageNet's are of width {PoseNetwork.width} and this network is of {model.width}: --budget full"
        )
    expected = assembly.expected_variables(model, track)
    try:
        check_weights(source, expected, backbone=model.backbone, head_depth=config.model.head_depth)
    except UserError:
        return f"{source} does not fit a {model.backbone} of width {model.width}"
    return None


def run(job: Job, *, pdj: bool, split: str | None, command: str) -> dict[str, Any]:
    """Train a run to its end and score it, or read what was found when that was done.

    Args:
      job: what to run.
      pdj: whether to measure PDJ, whatever the track's protocol.
      split: to score; None: see `split_to_score`.
      command: for the run's record.

    Returns:
      What `result.json` holds: row, seed, "scored" (on what), "final" and "best" (step and scores), parameters,
      flops, speed, "commits" that trained it.

    Raises:
      UserError: a split without labels; or, as Stopped, what `run_experiment` raises.
    """
    # Before days of training, not after them.
    data = SplitToScore(job.config.data.dir, split_to_score(job.config, split))
    state = run_experiment(job.config, job.workdir, command=command)
    path = job.workdir / RESULT_FILE
    known = _read(path)
    scored = {"data_dir": str(local_path(data.dir).absolute()), "split": data.split, "pdj": pdj}
    if known and known["final"]["step"] == int(state.step) and known.get("scored") == scored:
        return known
    final, best = (restore(job.workdir, step) for step in ("latest", "best"))
    scores = {
        step: _scores(one, data, pdj)
        for step, one in {final.step: final, best.step: best}.items()  # often one and the same
    }
    starts = read_starts(job.workdir)
    result = {
        "row": job.row.name,
        "seed": job.seed,
        "scored": scored,
        "final": {"step": final.step, **scores[final.step]},
        "best": {"step": best.step, **scores[best.step]},
        "parameters": parameters(final.variables),
        "flops": flops_per_frame(final.model, final.track),
        "speed": frames_per_second(
            final.model, final.variables, final.track, batch_size=1, rounds=_SPEED_ROUNDS
        )._asdict(),
        "commits": list(dict.fromkeys(filter(None, (_commit(start) for start in starts)))),
        "devices": starts[-1]["devices"] if starts else None,
    }
    write_json(path, result)
    return result


def split_to_score(config: Config, asked: str | None) -> str:
    """The split that rows are scored on: "test", or where that has no labels the one that ranks checkpoints.

    Args:
      config: of a row.
      asked: what the user wants instead; None: nothing else.

    Raises:
      UserError: there is no such split, or the one asked for has no labels.
    """
    track = assembly.track_of(config)
    if input_pipeline.has_labels(config.data.dir, track, asked or "test"):
        return asked or "test"
    ranks = config.data.eval_split
    if asked is not None:
        raise UserError(
            f"split {asked!r} of track {track.name!r} has no labels to score rows by; name one that has "
            f"(--split {ranks!r})"
        )
    say(
        f"split 'test' of track {track.name!r} has no labels: rows are scored on {ranks!r}; a2j eval --workdir "
        "writes what a run predicts on 'test'"
    )
    return ranks


def run_all(
    todo: Sequence[Job], *, pdj: bool, split: str | None, prepare: Prepare, command: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All runs that can be run: their results, and row -> why it was not run (with every seed).

    Args:
      todo: the runs.
      pdj, split, command: as in `run`.
      prepare: sees to it that a config's data set is there.

    Raises:
      UserError: none can; or as `run_experiment`.
      Stopped: told to stop; what was under way is saved.
    """
    unusable = {
        job.workdir: f"not run: {why}"
        for job in todo
        if not job.workdir.exists() and (why := unusable_weights(job.config)) is not None
    }
    left_out = [job for job in todo if job.workdir in unusable]
    todo = [job for job in todo if job.workdir not in unusable]
    if not todo:
        raise UserError(f"nothing could be run; {'; '.join(dict.fromkeys(unusable.values()))}")
    for job in left_out:
        say(f"{job.row.name}, seed {job.seed}: {unusable[job.workdir]}")
    there = {job.row.name for job in todo}
    skipped = {job.row.name: unusable[job.workdir] for job in left_out if job.row.name not in there}
    # All data sets first: a signal ends a build at once, there is nothing to save.
    for config in {(job.config.track, job.config.data): job.config for job in todo}.values():
        prepare(config)
    results = []
    with StopRequests() as stop:
        for number, job in enumerate(todo, start=1):
            say(f"run {number} of {len(todo)}: {job.row.label}, seed {job.seed}, in {job.workdir}")
            results.append(run(job, pdj=pdj, split=split, command=command))
            # A signal in the last step of a run, or while it was scored, did not end it.
            if stop.received is not None and number < len(todo):
                raise stopped(stop.received, number, len(todo), what="run")
    return results, skipped


def _scores(restored: Restored, data: SplitToScore, pdj: bool) -> dict[str, Any]:
    predictions, frames = predict_split(restored, data)
    found = score_frames(predictions.joints_uvd, frames, restored.track)
    scores = with_origin(found, data.dir, restored.track, data.split).to_json()
    if pdj and "pdj" not in scores and restored.track.skeleton.torso is not None:
        uv, truth = predictions.joints_uvd[..., :2], frames.joints_uvd[..., :2]
        in_plane = score_pdj(metrics.joint_errors(uv, truth, frames.valid), truth, restored.track)
        scores |= in_plane.to_json() if in_plane else {}
    return scores


def _commit(start: dict[str, Any]) -> str | None:
    """Of the source that a start ran; with a `+` where it had changes of its own."""
    source = start["source"] or {}
    commit = source.get("commit")
    return commit and commit[:7] + ("+" if source.get("dirty") else "")


def _read(path: Path) -> dict[str, Any] | None:
    """What was found when a run was scored; None where that is still to be done, or its file is damaged."""
    if not path.exists():
        return None
    try:
        contents = read_json(path, "the scores of a run")
        if not _is_result(contents):
            raise UserError(f"{printable(str(path))}: not the scores of a run")
    except UserError as error:
        say(f"{error}; scoring the run again")
        return None
    known: dict[str, Any] = {key: value for key, value in contents.items() if key != "written_by"}
    return known


def _is_result(contents: Any) -> bool:
    """Whether a JSON value has the form of a `result.json`."""
    if not isinstance(contents, dict):
        return False
    if any(type(contents.get(key)) not in kinds for key, kinds in _KINDS.items()):
        return False
    scores = [contents[which] for which in ("final", "best")]
    return all(type(one.get(key)) is int for one in scores for key in ("step", "frames"))
