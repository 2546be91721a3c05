"""What a run directory holds in plain files.

`config.json`, which describes the checkpoints (with a copy of a custom track.json beside it), and for each
checkpoint a `manifest.json`: digests of its files, the config it was written with, and the metrics that rank it. JSON
Lines outlive a kill: one object per line, appended, and read past a line that was cut.
"""

import contextlib
import fcntl
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax.config import Config, from_dict, to_json
from a2j_jax.config_files import read_config_file, with_own_track
from a2j_jax.errors import UserError, printable
from a2j_jax.files import (
    check_folder_name,
    file_digest,
    is_address,
    json_digest,
    local_path,
    parse_json,
    read_json,
    regular_file,
    write_file,
)
from a2j_jax.log import logger
from a2j_jax.parts import source_of
from a2j_jax.stores import local_copy
from a2j_jax.track_files import TRACK_FILE, load_track, track_file

CONFIG_FILE = "config.json"
STARTS_FILE = "starts.jsonl"
CHECKPOINTS = "checkpoints"
PARTS_FILE, PARTS = "parts.json", "parts"  # where the code of own parts was from, and its text
MANIFEST = "manifest.json"  # of each checkpoint
# Orbax expands wildcards in the name of a folder, finds nothing to merge, and leaves a checkpoint that cannot be read;
# TensorStore reads a backslash as a slash.
UNWRITABLE = "*?[\\"
METRIC = "error"  # lower is better
METRIC_EMA = "error_ema"  # ranks instead, where an average of the weights is kept


def append(path: str | Path, record: dict[str, Any]) -> None:
    """Append one object on a new line, even where a kill or a full disk cut the last line; raises as `writing` does."""
    with writing(path), Path(path).open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Reports an `OSError` as a file of a run that cannot be written; that of an open file would not name it."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); what was saved before is kept: make room, "
            "and run the same command again to continue"
        ) from error


def read(path: str | Path) -> list[dict[str, Any]]:
    """All complete objects of a file, in order; none where there is no file. A line that was cut is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    objects = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(UserError):
            objects.append(parse_json(line, "", nonfinite=True))  # as a broken loss is logged
    return [one for one in objects if isinstance(one, dict)]


def read_starts(workdir: str | Path) -> list[dict[str, Any]]:
    """The recorded starts of a run, in order; none for a run from before they were recorded."""
    return read(Path(workdir) / STARTS_FILE)


def run_of(config: str | Path) -> Path | None:
    """The run directory whose own `config.json` this is; None: it is no such file, or nothing has run there."""
    path = Path(config)
    is_run = path.name == CONFIG_FILE and (path.parent / STARTS_FILE).exists()
    return path.parent if is_run else None


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """A context in which no other run trains in the same directory; a `UserError` where another process does.

    The claim is a lock on the folder itself, which the system gives back when the process ends, even if killed; a file
    system without locks has none.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(
            f"{directory}: another process is training there; wait until it has ended, or name another folder"
        ) from None
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def write_config(directory: str | Path, config: Config, depth_unit_mm: float | None = None) -> None:
    """Write `config.json`, which describes the checkpoints beside it, and beside it what it refers to.

    The source of its own parts, and a custom track (with the depth unit that the data set was built with): a run
    directory that is moved elsewhere stays complete.
    """
    write_file(Path(directory) / CONFIG_FILE, to_json(config) + "\n")
    if (source := source_of(config.parts)) is not None:
        for name, text in source.files.items():  # under a name that nothing imports
            write_file(Path(directory) / PARTS / f"{name}.txt", text)
        write_file(Path(directory) / PARTS_FILE, json.dumps(source.record, indent=2) + "\n")
    own = track_file(config.track)
    kept = Path(directory) / TRACK_FILE
    if own is not None and os.path.realpath(own) != os.path.realpath(kept):
        track = own.read_bytes()
        if depth_unit_mm not in (None, load_track(own).depth_unit_mm):
            values = {**read_json(own), "depth_unit_mm": depth_unit_mm}
            track = json.dumps(values, indent=2).encode() + b"\n"
        write_file(kept, track)


def recorded_parts(directory: Path) -> dict[str, Any] | None:
    """Contents of `parts.json`; None: the run has no parts of its own, or the file cannot be read."""
    contents = _contents(directory / PARTS_FILE)
    return contents if isinstance(contents, dict) else None


def package_of(record: Mapping[str, Any]) -> str:
    """The installed package that own parts are from, and its version, by the contents of `parts.json`."""
    package = record.get("package")
    return f"package {package} {record.get('version')}" if package else "no installed package"


def log_other_source(recorded: Any, path: str | None, step: str) -> None:
    """Warn if the source of the parts at `path` has changed since a checkpoint recorded it (`Manifest.parts`)."""
    source = source_of(path)
    if source is None or not (changed := source.changed_since(recorded)):
        return
    before, now = package_of(recorded), package_of(source.record)
    moved = "" if before == now else f" ({before}, now {now})"
    logger.warning(
        f"{path}: {', '.join(changed)} has changed since step {step} was saved{moved}: the results may be other ones"
    )


def read_config(directory: str | Path) -> Config:
    """Read `config.json` of a run or a converted checkpoint; a `UserError` where it is missing or not ours."""
    path = Path(directory) / CONFIG_FILE
    if not Path(directory).is_dir():
        raise UserError(f"checkpoint folder not found: {directory}")
    if not path.is_file():
        # `a2j reproduce` keeps its runs as ROW/seed_N.
        inside = next(Path(directory).glob(f"*/*/{CONFIG_FILE}"), None)
        hint = f"; {inside.parent} in it is one" if inside else ""
        raise UserError(
            f"{path} not found: {directory} is not a run or a converted checkpoint of a2j_jax{hint}"
        )
    try:
        return read_config_file(path)
    except UserError as error:
        raise UserError(
            f"{error}; if it is damaged, delete it and train with the run's own config again, which writes it "
            "again, or convert the weights again"
        ) from error


def run_and_step(source: str | Path) -> tuple[Path, str]:
    """`RUN` or `RUN@STEP` -> the folder, and "best" (the default), "latest" or the number of a step."""
    if is_address(source):
        address, _, step = os.fspath(source).partition("@")
        return local_copy(address, "run"), step or "best"
    path = local_path(source)
    if path.exists() or "@" not in path.name:
        return path, "best"
    name, _, step = path.name.rpartition("@")
    return path.with_name(name) if name else path, step


def kept_checkpoints(directory: str | Path) -> list[Path]:
    """Folders of the complete checkpoints of a run, by step; something may have damaged them since."""
    found = (Path(directory) / CHECKPOINTS).glob("*")
    steps = [path for path in found if re.fullmatch("0|[1-9][0-9]*", path.name) and path.is_dir()]
    return sorted(steps, key=lambda path: int(path.name))


class DamagedError(UserError):
    """A checkpoint that is not as it was written."""


class Manifest(NamedTuple):
    """What was written into the folder of a checkpoint."""

    files: dict[str, tuple[int, str]]  # name relative to the folder -> bytes, SHA-256
    config: Any  # contents of `config.json` at that time; None: there was none
    track: Any  # contents of `track.json`, likewise
    metrics: dict[str, float] | None = None  # None: not evaluated (yet)
    parts: Any = None  # contents of `parts.json`, likewise

    @classmethod
    def of(cls, folder: Path) -> "Manifest":
        """The manifest of a complete checkpoint, in the `checkpoints` folder of a run, as it is now."""

        def size_and_digest(name: str) -> tuple[int, str]:
            return (folder / name).stat().st_size, file_digest(folder / name)

        names = sorted(_files_below(folder))
        with ThreadPoolExecutor() as pool:
            files = dict(zip(names, pool.map(size_and_digest, names), strict=True))
        run = folder.parent.parent
        config, track, parts = (_contents(run / n) for n in (CONFIG_FILE, TRACK_FILE, PARTS_FILE))
        return cls(files, config, track, parts=parts)

    def write(self, folder: Path) -> None:
        """Write `manifest.json`; the old one is replaced at once or not at all."""
        contents = self._asdict()
        write_file(folder / MANIFEST, json.dumps(contents | {"digest": json_digest(contents)}))

    def check(self, folder: Path, items: Collection[str] = ()) -> None:
        """Compare the files of a checkpoint with what was written: those of `items` ("variables"), and of no item.

        Raises:
          DamagedError: files that are missing, truncated, changed or not ours, naming the first.
          UserError: a file that may not be read.
        """

        def to_compare(names: Iterable[str]) -> set[str]:
            return {n for n in names if "/" not in n or n.partition("/")[0] in items}

        written = to_compare(self.files)
        added = to_compare(_files_below(folder)) - written
        names = sorted(written | {n for n in added if Path(n).name[0] != "."})  # as .DS_Store
        with ThreadPoolExecutor() as pool:
            found = zip(names, pool.map(partial(self._fault, folder), names), strict=True)
        faults = [f"{printable(name)} {fault}" for name, fault in found if fault]
        if faults:
            more = f", and {len(faults) - 1} more files" if len(faults) > 1 else ""
            raise DamagedError(f"{faults[0]}{more}")

    def _fault(self, folder: Path, name: str) -> str:
        if name not in self.files:
            return "was not written with it"
        size, digest = self.files[name]
        path = folder / name
        try:
            if (found := path.stat().st_size) != size:
                return f"has {found:,} bytes where {size:,} were written"
            return "" if file_digest(path) == digest else "has changed since it was written"
        except FileNotFoundError:
            return "is missing"
        except PermissionError as error:
            raise UserError(f"{path}: no permission to read") from error
        except OSError as error:
            return f"cannot be read ({error.strerror})"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint, or a `DamagedError`; None: it was written by a version that had none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    regular_file(path, "the manifest of a checkpoint")
    with contextlib.suppress(UserError, AttributeError, KeyError, TypeError):
        contents = read_json(path)
        if contents.pop("digest") == json_digest(contents):
            return Manifest(**contents)
    raise DamagedError(f"{MANIFEST} has changed since it was written")


def recorded_config(folder: Path) -> Config | None:
    """The config that a checkpoint was written with; None: it was not recorded. Raises as `read_manifest` does."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.config is None:
        return None
    return with_own_track(from_dict(manifest.config), folder.parent.parent)


def _files_below(folder: Path) -> set[str]:
    """Names of a checkpoint's files relative to it, without the manifest."""
    walked = os.walk(folder, followlinks=True)
    found = {Path(at, n).relative_to(folder).as_posix() for at, _, names in walked for n in names}
    return found - {MANIFEST}


def _contents(path: Path) -> Any:
    try:
        return read_json(path) if path.exists() else None
    except UserError:
        return None


def ranking_metrics(directory: str | Path) -> dict[int, dict[str, float]]:
    """Metrics of every kept checkpoint that was evaluated, by step; raises as `metrics_of` does."""
    found = {int(path.name): metrics_of(path) for path in kept_checkpoints(directory)}
    return {step: metrics for step, metrics in found.items() if metrics is not None}


def metrics_of(folder: Path) -> dict[str, float] | None:
    """Metrics of a checkpoint; None: it was not evaluated. A `DamagedError` where they cannot be read."""
    path = folder / MANIFEST
    with contextlib.suppress(DamagedError):
        if (manifest := read_manifest(folder)) is not None:
            return manifest.metrics
        path = folder / "metrics" / "metrics"  # where versions without a manifest had them
        if not path.is_file():
            return None
        with contextlib.suppress(UserError, AttributeError, KeyError):
            metrics = read_json(path, "metrics of a checkpoint", nonfinite=True)
            numbers = all(type(value) in (int, float) for value in metrics.values())
            if numbers and math.isfinite(metrics[METRIC]):
                return metrics
    raise DamagedError(f"{path} is damaged; delete the folder of that checkpoint, {folder}")


def has_average(folder: Path) -> bool:
    """Whether a checkpoint was written with a moving average of the weights, too."""
    manifest = read_manifest(folder)
    if manifest is None:
        return (folder / "ema").exists()
    return any(name.startswith("ema/") for name in manifest.files)


def is_converted(folder: Path) -> bool:
    """Whether a checkpoint has weights alone, as `a2j convert` writes it, and no training to continue."""
    return (folder / "variables").is_dir() and not (folder / "optimizer").exists()


def best_of(metrics: Mapping[int, dict[str, float]], count: int = 1) -> list[int]:
    """The steps of the lowest error, best first; of equal ones the earliest."""
    return sorted(metrics, key=lambda step: (rank(metrics[step]), step))[:count]


def rank(metrics: Mapping[str, float]) -> float:
    """The error that ranks a checkpoint, lower first: that of the weights that `a2j eval` and `predict` use."""
    return metrics.get(METRIC_EMA, metrics[METRIC])


def choose_step(directory: str | Path, step: int | str) -> Path:
    """The folder of one checkpoint of a run or a converted checkpoint: of a step number, "best" or "latest".

    Raises:
      UserError: no checkpoint there, or none of that step; for "best", metrics that cannot be read.
    """
    folder = Path(directory).absolute() / CHECKPOINTS
    check_folder_name(folder, "\\")
    if not folder.is_dir():
        raise UserError(
            f"no checkpoint in {directory}: expected {CONFIG_FILE} and {CHECKPOINTS}/ as `a2j train` and "
            "`a2j convert` write them"
        )
    kept = {int(path.name): path for path in kept_checkpoints(folder.parent)}
    if not kept:
        raise UserError(f"no complete checkpoint in {folder}")
    if step == "latest":
        return kept[max(kept)]
    if step == "best":
        return kept[next(iter(best_of(ranking_metrics(directory))), max(kept))]
    if not str(step).isdecimal() or int(step) not in kept:
        raise UserError(
            f"no checkpoint of step {step} in {folder}; kept: {', '.join(map(str, kept))} (or best, latest)"
        )
    return kept[int(step)]


@contextlib.contextmanager
def explained_damage(folder: Path) -> Iterator[None]:
    """Add to the `DamagedError` of a block that reads a checkpoint how to continue without it."""
    try:
        yield
    except DamagedError as error:
        others = [p.name for p in kept_checkpoints(folder.parent.parent) if p != folder]
        fix = (
            f"delete that folder to use what else is kept (step {', '.join(others)})"
            if others
            else "it is the only one here: train into a new --workdir, or convert the weights again"
        )
        raise DamagedError(
            f"{folder}: this checkpoint is damaged or incomplete ({error}); {fix}"
        ) from error
