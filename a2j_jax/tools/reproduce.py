"""`a2j reproduce`: run the rows of one of the paper's tables, and write the table with the paper's numbers.

A budget is the paper's network and schedule, or a small network that a laptop can train. Finished runs are not
repeated.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console

from a2j_jax.config import Config, variant
from a2j_jax.config_files import load_config
from a2j_jax.data import pipeline
from a2j_jax.errors import UserError, printable
from a2j_jax.evaluation.evaluate import EvaluationResult, SplitToScore
from a2j_jax.evaluation.evaluate_run import score_split
from a2j_jax.evaluation.report import render_page
from a2j_jax.evaluation.scores import joint_errors, score_pdj
from a2j_jax.evaluation.tables import (
    ABSENT,
    Column,
    PaperTable,
    Row,
    Table,
    as_printed,
    markdown,
    print_table,
    published_table,
)
from a2j_jax.files import local_path, read_json, write_file, write_json, write_markdown
from a2j_jax.log import logger
from a2j_jax.models.a2j import PoseNetwork, flops_per_frame, variable_shapes
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import restore
from a2j_jax.runs.run_dir import read_starts, run_and_step
from a2j_jax.tools.speed import forward_of, frames_per_second, parameters
from a2j_jax.track_files import find_track
from a2j_jax.tracks import TrackSpec
from a2j_jax.training.loop import StopRequests, stopped
from a2j_jax.training.run import run_experiment
from a2j_jax.weights.convert import initial_variables
from a2j_jax.weights.packed import find_packed

BUDGETS = ("full", "hour", "smoke")
# The smoke budget's values, by group of the config.
_SMOKE: dict[str, dict[str, Any]] = {
    "model": {"width": 8, "head_features": 8, "head_depth": 1},
    "data": {"crop_size": 32, "train_frames": 32, "validation_frames": 8, "test_frames": 12},
    "optim": {"batch_size": 8, "steps": 4, "warmup_steps": 1},
    "run": {"eval_every": 2, "log_every": 1},
}


def base_config(data: str, budget: str) -> Config:
    """The config that the rows of a table differ from, on the data set `data`: a track, and the config of that name.

    Budgets are "full", the paper's network and schedule; "hour", a small network on small crops, a table in about an
    hour of two CPU cores; "smoke", a few steps of a tiny network, to see that everything runs.

    Raises:
      UserError: no such budget.
    """
    if budget not in BUDGETS:
        raise UserError(f"no budget {budget!r}; there are: {', '.join(BUDGETS)}")
    full = load_config(data)
    if budget == "full":
        return full
    by_box = find_track(full.track).crop_by == "box"
    small = load_config("quickstart_body" if by_box else "quickstart")
    splits = {"train_split": full.data.train_split, "eval_split": full.data.eval_split}
    groups = _SMOKE if budget == "smoke" else {}
    groups = {**groups, "data": {**groups.get("data", {}), **splits}}
    base = dataclasses.replace(small, name=data, track=full.track)
    return variant(base, budget, **groups)


Result = Mapping[str, Any]
# Columns of a terminal for a row of the table: its name wraps, its numbers need not.
_HEAD_WIDTH = 12


def measures(track: TrackSpec, table: PaperTable) -> list[Column]:
    """What is measured on a track: its protocol's number first; of Tables 2 to 6 all that they have."""
    unit = track.error_unit
    error = Column(f"mean_error_{unit}", f"mean error ({unit})", [f"mean_error_{unit}"])
    of_track = published_table(track.name)
    if of_track is not None and f"table{of_track.paper_table}" == table.name:
        found = [column for column in of_track.columns if column.ours]
        return found if error.key in [one.key for one in found] else [*found, error]
    found = [error]
    if track.protocol == "map_10cm":
        found.insert(0, Column("map_10cm", "mAP@10 cm (%)", ["map_10cm"], 100.0))
    if track.protocol == "pdj" or (table.pdj and track.skeleton.torso is not None):
        ratios = [
            Column(f"pdj_{ratio}", f"PDJ {ratio} (%)", ["pdj", ratio], 100.0)
            for ratio in ("0.05", "0.10", "0.15", "0.20")
        ]
        found = [Column("pdj_mean", "mean PDJ (%)", ["pdj_mean"], 100.0), *ratios, *found]
    return found


def result_table(
    table: PaperTable, track: TrackSpec, results: Sequence[Result], skipped: Mapping[str, str]
) -> Table:
    """The table, a line per row; of several seeds the mean and the standard deviation.

    The paper's numbers stand before ours wherever it has one of any row. `skipped` says why a row was not run.
    """
    paper = {row.name: row.published(track.name) for row in table.rows}
    runs = {row.name: [r for r in results if r["row"] == row.name] for row in table.rows}
    labels = []
    for row in table.rows:
        caveats = {run["final"].get("caveat", "") for run in runs[row.name]} - {""}
        mark = ", ".join(sorted(caveats | ({"not run"} if row.name in skipped else set())))
        labels.append(f"{row.label} ({mark})" if mark else row.label)
    columns = {"": labels}

    def beside(key: str, label: str) -> None:
        values = [paper[row.name].get(key) for row in table.rows]
        if any(value is not None for value in values):
            columns[f"paper: {label}"] = as_printed(values)

    for one in measures(track, table):
        beside(one.key, one.label)
        for which in ("final", "best"):
            columns[f"{one.label}, {which}"] = [
                _spread([one.measured(run[which]) for run in some], 2) for some in runs.values()
            ]
    beside("fps", "frames/s")
    speeds = [[run["speed"]["frames_per_second"] for run in some] for some in runs.values()]
    columns["frames/s"] = [_spread(some, 1) for some in speeds]
    firsts = [some[0] if some else None for some in runs.values()]
    columns["parameters (M)"] = [f"{r['parameters'] / 1e6:.1f}" if r else ABSENT for r in firsts]
    columns["GFLOP"] = [f"{r['flops'] / 1e9:.3g}" if r else ABSENT for r in firsts]
    columns["commit"] = [
        ", ".join(dict.fromkeys(commit for run in some for commit in run["commits"])) or ABSENT
        for some in runs.values()
    ]
    title = f"Table {table.name.removeprefix('table')}, {table.title}: {track.name}"
    notes = [*_notes(results, track, table), *(f"{name}: {why}." for name, why in skipped.items())]
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(title, tuple(columns), rows, notes=tuple(notes))


def _spread(values: Sequence[float | None], decimals: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ABSENT
    text = f"{fmean(known):.{decimals}f}"
    return text if len(known) == 1 else f"{text} ± {stdev(known):.{decimals}f}"


def _notes(results: Sequence[Result], track: TrackSpec, table: PaperTable) -> list[str]:
    frames, split = results[0]["final"]["frames"], results[0]["scored"]["split"]
    seeds = len({run["seed"] for run in results})
    spread = f"mean ± standard deviation of {seeds} seeds; " if seeds > 1 else ""
    devices = " and ".join(
        sorted({f"{n} x {kind}" for run in results for kind, n in (run["devices"] or {}).items()})
    )
    notes = [
        f"Ours on {frames:,} frames of split {split!r}; {spread}final: after the last step; "
        "best: the step with the lowest error on the split that was scored while training.",
        f"Frames/s: the network and its decoding, one frame at a time, on {devices}. GFLOP: of one frame, as XLA "
        "counts them. Commits: all that a run was trained by; + marks a source with uncommitted changes.",
    ]
    of_track = published_table(track.name)
    if of_track is None:
        return [*notes, "The paper has no numbers on this data set."]
    tables = [of_track.paper_table]
    if any(track.name in row.values for row in table.rows):
        tables.insert(0, table.name.removeprefix("table"))
    notes.append(
        f"The paper's numbers are those of its Table {' and '.join(tables)}, on the test split; its frames/s are of "
        "one GTX 1080 Ti, reading and cropping a frame included; ours are without."
    )
    return [*notes, *filter(None, [table.notes.get(track.name)])]


def print_results(contents: Table, console: Console | None = None) -> None:
    """Print it, a column per row of the table: there are more numbers than rows; notes are in the files."""
    turned = dataclasses.replace(contents, notes=()).turned()
    print_table(turned, console, head_width=_HEAD_WIDTH, box=SIMPLE_HEAD, padding=0, pad_edge=False)


def write_table(
    contents: Table, results: Sequence[Result], out: Path, name: str, command: str
) -> list[Path]:
    """Write a table as `<name>.md`, `<name>.html` and `<name>.json`, the last with the results of all runs."""
    text = f"{markdown(contents)}\n`{command}`\n"
    page = render_page(f"a2j reproduce {name}", tables=[contents], command=command)
    found = {
        "command": command,
        "columns": contents.columns,
        "rows": contents.rows,
        "notes": contents.notes,
        "results": list(results),
    }
    return [
        write_markdown(out / f"{name}.md", text),
        write_file(out / f"{name}.html", page),
        write_json(out / f"{name}.json", found),
    ]


RESULT_FILE = "result.json"
_SPEED_ROUNDS = 20
_KEYS = {"row", "seed", "final", "best", "parameters", "flops", "speed", "commits", "devices"}


class Job(NamedTuple):
    """One training run of a table."""

    row: Row
    seed: int
    config: Config
    workdir: Path


def jobs(table: PaperTable, base: Config, seeds: int, out: Path) -> Iterator[Job]:
    """The runs of a table: every row with the base's seed, then with the next; each in a folder below `out`.

    Raises:
      UserError: the base has what a row is to differ in: two rows would be one experiment.
    """
    configs = {row: row.config_on(base) for row in table.rows}
    known: dict[Config, Row] = {}
    for row, config in configs.items():
        other = known.setdefault(dataclasses.replace(config, name=base.name), row)
        if other is not row:
            raise UserError(
                f"{table.name}: rows {other.label!r} and {row.label!r} are one and the same with these values; "
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
    if source is None or run_and_step(source)[0].is_dir() or find_packed(source) is not None:
        return None
    experiment = resolve(config)
    model = experiment.model
    if not local_path(source).exists():
        return f"{source} is not there" + (
            " (docs/weights.md)"
            if model.width == PoseNetwork.width
            else f"; ImageNet's are of width {PoseNetwork.width} and this network is of {model.width}: --budget full"
        )
    expected = variable_shapes(model, experiment.track.crop_size)
    try:
        initial_variables(source, expected, quiet=True)
    except UserError:
        return f"{source} does not fit a {model.backbone} of width {model.width}"
    return None


def run(job: Job, *, pdj: bool, split: str | None, command: str) -> Result:
    """Train a run to its end and score it, or read what was found when that was done.

    With `pdj`, PDJ is measured whatever the track's protocol is. `split` is scored (None: see `split_to_score`);
    `command` is for the run's record.

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
    final = best = restore(job.workdir, "best")
    if best.step != int(state.step):
        final = restore(job.workdir, "latest", quiet=True)
    scores = {
        step: _scores(score_split(one, data), one.track, pdj)
        for step, one in {final.step: final, best.step: best}.items()  # often one and the same
    }
    starts = read_starts(job.workdir)
    forward = forward_of(final.model, final.variables, final.track, batch_size=1)
    result = {
        "row": job.row.name,
        "seed": job.seed,
        "scored": scored,
        "final": {"step": final.step, **scores[final.step]},
        "best": {"step": best.step, **scores[best.step]},
        "parameters": parameters(final.variables),
        "flops": flops_per_frame(final.model, final.track),
        "speed": frames_per_second(forward, final.track.crop_size, _SPEED_ROUNDS),
        "commits": list(dict.fromkeys(filter(None, map(_commit, starts)))),
        "devices": starts[-1]["devices"] if starts else None,
    }
    write_json(path, result)
    return result


def split_to_score(config: Config, asked: str | None) -> str:
    """The split that rows are scored on: "test", or where that has no labels the one that ranks checkpoints.

    `asked` is what the user wants instead; None: nothing else.

    Raises:
      UserError: there is no such split, or the one asked for has no labels.
    """
    track = resolve(config).track
    if pipeline.has_labels(config.data.dir, track, asked or "test"):
        return asked or "test"
    ranks = config.data.eval_split
    if asked is not None:
        raise UserError(
            f"split {asked!r} of track {track.name!r} has no labels to score rows by; name one that has "
            f"(--split {ranks!r})"
        )
    logger.info(
        f"split 'test' of track {track.name!r} has no labels: rows are scored on {ranks!r}; a2j eval --workdir "
        "writes what a run predicts on 'test'"
    )
    return ranks


def run_all(
    todo: Sequence[Job], run_one: Callable[[Job], Result], prepare: Callable[[Config], None]
) -> tuple[list[Result], dict[str, str]]:
    """All runs that can be run: their results, and row -> why it was not run (with every seed).

    `run_one` trains and scores one, see `run`; `prepare` builds a config's data set where it is missing.

    Raises:
      UserError: none can; or as `run_one`.
      Stopped: a signal asked for it; the current run is saved.
    """
    unusable = {
        job: f"not run: {why}"
        for job in todo
        if not job.workdir.exists() and (why := unusable_weights(job.config)) is not None
    }
    todo = [job for job in todo if job not in unusable]
    if not todo:
        raise UserError(f"nothing could be run; {'; '.join(dict.fromkeys(unusable.values()))}")
    for job, why in unusable.items():
        logger.info(f"{job.row.name}, seed {job.seed}: {why}")
    there = {job.row.name for job in todo}
    skipped = {job.row.name: why for job, why in unusable.items() if job.row.name not in there}
    # All data sets first: a signal ends a build at once, there is nothing to save.
    for config in {(job.config.track, job.config.data): job.config for job in todo}.values():
        prepare(config)
    results = []
    with StopRequests() as stop:
        for number, job in enumerate(todo, start=1):
            logger.info(
                f"run {number} of {len(todo)}: {job.row.label}, seed {job.seed}, in {job.workdir}"
            )
            results.append(run_one(job))
            # A signal in the last step of a run, or while it was scored, did not end it.
            if stop.received is not None and number < len(todo):
                raise stopped(stop.received, number, len(todo), what="run")
    return results, skipped


def _scores(result: EvaluationResult, track: TrackSpec, pdj: bool) -> dict[str, Any]:
    predictions, frames, found = result
    scores = found.to_json()
    if pdj and "pdj" not in scores and track.skeleton.torso is not None:
        uv, truth = predictions.joints_uvd[..., :2], frames.joints_uvd[..., :2]
        in_plane = score_pdj(joint_errors(uv, truth, frames.valid), truth, track)
        scores |= in_plane.json if in_plane else {}
    return scores


def _commit(start: dict[str, Any]) -> str | None:
    """The commit that a start ran, with a `+` if its source had uncommitted changes."""
    source = start["source"] or {}
    commit = source.get("commit")
    return commit and commit[:7] + ("+" if source.get("dirty") else "")


def _read(path: Path) -> dict[str, Any] | None:
    """The scores of a run; None where it is not scored yet, or its file is damaged."""
    if not path.exists():
        return None
    try:
        contents = read_json(path, "the scores of a run")
        if not (isinstance(contents, dict) and contents.keys() >= _KEYS):
            raise UserError(f"{printable(str(path))}: not the scores of a run")
    except UserError as error:
        logger.info(f"{error}; scoring the run again")
        return None
    known: dict[str, Any] = {key: value for key, value in contents.items() if key != "written_by"}
    return known
