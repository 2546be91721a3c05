"""JSON Lines that outlive a kill: one object a line, appended, and read past a line that was cut.

What a run directory says in plain files: its config, which checkpoints are complete, and how they rank.

What it takes to repeat a run: every start writes down its command, versions, source and devices.

A run directory holds, beside `config.json` and the checkpoints:

- `starts.jsonl`: one line per start, never overwritten (`record_start` says what is in it);
- `requirements.txt`: every installed distribution, as `pip install --requirement` takes it;
  `requirements-<n>.txt` where start n found others than the start before it;
- `source-<commit>-<n>.diff`: what start n ran beyond that commit, where the source had been changed.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import platform
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax

import a2j_jax
from a2j_jax.config import Config, from_json, to_json
from a2j_jax.config_files import read_config_file, with_own_track
from a2j_jax.errors import UserError, printable
from a2j_jax.files import file_digest, local_path, parse_json, read_json, regular_file, write_file
from a2j_jax.track_files import TRACK_FILE, load_track, track_file


def append(path: str | Path, record: dict[str, Any]) -> None:
    """Append one object; on a line of its own, even where the last line was cut by a kill or a full disk.

    Raises:
      UserError: the file cannot be written, naming it and the reason (no space left, say).
    """
    try:
        with Path(path).open("a+b") as file:
            file.write(_end_of_line(file) + json.dumps(record).encode() + b"\n")
    except OSError as error:  # of an open file: it would not name it
        raise cannot_write(path, error) from error


def _end_of_line(file: Any) -> bytes:
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def cannot_write(path: str | Path, error: OSError) -> UserError:
    """What to tell of a file that could not be written."""
    return UserError(
        f"{path}: cannot be written ({error.strerror or error}); what was saved before is kept: make room, "
        "and run the same command again to continue"
    )


def read(path: str | Path) -> list[dict[str, Any]]:
    """All whole objects of a file, in order; none where there is no file. A line that was cut is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    objects = map(_parsed, path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [one for one in objects if isinstance(one, dict)]


def _parsed(line: str) -> Any:
    try:
        # A loss that is not finite is logged as such.
        return parse_json(line, "", nonfinite=True)
    except UserError:
        return None


CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"  # of each checkpoint
# Orbax expands wildcards in the name of a folder, finds nothing to merge, and leaves a checkpoint that cannot be read;
# TensorStore reads a backslash as a slash.
UNWRITABLE = "*?[\\"
METRIC = "error"  # lower is better
METRIC_EMA = "error_ema"  # and ranks instead, where an average of the weights is kept


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """A context in which no other run trains in the same directory.

    The claim is a lock on the folder itself, which the system gives back when the process ends, even if killed; a file
    system without locks has none.

    Raises:
      UserError: another process has it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{directory}: another process is training there; wait until it has ended, or name another folder"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def write_config(directory: str | Path, config: Config, depth_unit_mm: float | None = None) -> None:
    """Write `config.json`, which says what the checkpoints beside it are of.

    A custom track goes beside it: a run directory that is moved elsewhere stays complete.

    Args:
      directory: of the run.
      config: of the run.
      depth_unit_mm: that the data set was built with, recorded in the custom track; None: as the track says.

    Raises:
      UserError: a file that cannot be written.
    """
    write_file(Path(directory) / CONFIG_FILE, to_json(config) + "\n")
    own = track_file(config.track)
    kept = Path(directory) / TRACK_FILE
    if own is not None and os.path.realpath(own) != os.path.realpath(kept):
        track = own.read_bytes()
        if depth_unit_mm not in (None, load_track(own).depth_unit_mm):
            values = {**read_json(own), "depth_unit_mm": depth_unit_mm}
            track = json.dumps(values, indent=2).encode() + b"\n"
        write_file(kept, track)


def read_config(directory: str | Path) -> Config:
    """Read `config.json` of a run or a converted checkpoint.

    Raises:
      UserError: the folder or the file is missing, or not ours.
    """
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
    path = local_path(source)
    if path.exists() or "@" not in path.name:
        return path, "best"
    name, _, step = path.name.rpartition("@")
    return path.with_name(name) if name else path, step


def kept_checkpoints(directory: str | Path) -> list[Path]:
    """Folders of the checkpoints of a run, by step; of complete ones, unless something has damaged them since."""
    found = [path for path in (Path(directory) / CHECKPOINTS).glob("*") if path.is_dir()]
    steps = (path for path in found if re.fullmatch("0|[1-9][0-9]*", path.name))
    return sorted(steps, key=lambda path: int(path.name))


class DamagedError(UserError):
    """A checkpoint that is not as it was written."""


class Manifest(NamedTuple):
    """What was written into the folder of a checkpoint."""

    files: dict[str, tuple[int, str]]  # name relative to the folder -> bytes, SHA-256
    config: Any  # contents of `config.json` at that time; None: there was none
    track: Any  # contents of `track.json`, likewise
    metrics: dict[str, float] | None = None  # None: not evaluated (yet)

    @classmethod
    def of(cls, folder: Path) -> "Manifest":
        """The manifest of a folder as it is now.

        Args:
          folder: of a checkpoint that is complete, in the `checkpoints` folder of a run.
        """
        names = _files_below(folder)
        with ThreadPoolExecutor() as pool:
            digests = pool.map(lambda name: file_digest(folder / name), names)
            files = {
                n: ((folder / n).stat().st_size, d) for n, d in zip(names, digests, strict=True)
            }
        config, track = (_contents(folder.parent.parent / n) for n in (CONFIG_FILE, TRACK_FILE))
        return cls(files, config, track)

    def write(self, folder: Path) -> None:
        """Write `manifest.json`; the old one is replaced at once or not at all."""
        contents = self._asdict()
        write_file(folder / MANIFEST, json.dumps(contents | {"digest": _digest_of(contents)}))

    def check(self, folder: Path, items: Iterable[str] = ()) -> None:
        """Compare the files of a checkpoint with what was written.

        Args:
          folder: of the checkpoint.
          items: the parts that are to be read ("variables"); files that belong to no part are compared too.

        Raises:
          DamagedError: files that are missing, truncated, changed or not ours, naming the first.
          UserError: a file that may not be read.
        """
        chosen = set(items)
        there, before = (
            {n for n in names if "/" not in n or n.partition("/")[0] in chosen}
            for names in (_files_below(folder), self.files)
        )
        with ThreadPoolExecutor() as pool:
            faults = dict.fromkeys(before - there, "is missing")
            added = {n for n in there - before if not n.rpartition("/")[2].startswith(".")}
            faults |= dict.fromkeys(added, "was not written with it")  # `.DS_Store` does no harm
            both = sorted(before & there)
            faults |= {
                n: f
                for n, f in zip(both, pool.map(partial(self._fault, folder), both), strict=True)
                if f
            }
        if faults:
            name, fault = min(faults.items())
            more = f", and {len(faults) - 1} more files" if len(faults) > 1 else ""
            raise DamagedError(f"{printable(name)} {fault}{more}")

    def _fault(self, folder: Path, name: str) -> str:
        size, digest = self.files[name]
        path = folder / name
        try:
            if (found := path.stat().st_size) != size:
                return f"has {found:,} bytes where {size:,} were written"
            return "" if file_digest(path) == digest else "has changed since it was written"
        except PermissionError as error:
            raise UserError(f"{path}: no permission to read") from error
        except OSError as error:
            return f"cannot be read ({error.strerror})"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint; None: it was written by a version that had none.

    Raises:
      DamagedError: a manifest that is not as it was written.
      UserError: one that may not be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    regular_file(path, "the manifest of a checkpoint")
    try:
        contents = read_json(path)
        digest = contents.pop("digest")
        if digest == _digest_of(contents):
            return Manifest(**contents)
    except (UserError, AttributeError, KeyError, TypeError):
        pass
    raise DamagedError(f"{MANIFEST} has changed since it was written")


def recorded_config(folder: Path) -> Config | None:
    """The config that a checkpoint was written with; None: it does not say.

    Raises:
      DamagedError: its manifest is not as it was written.
      UserError: a config that this version does not know.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.config is None:
        return None
    return with_own_track(from_json(json.dumps(manifest.config)), folder.parent.parent)


def _digest_of(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _files_below(folder: Path) -> list[str]:
    """Names of a checkpoint's files relative to it, without the manifest."""
    walked = os.walk(folder, followlinks=True)
    found = (
        Path(at, name).relative_to(folder).as_posix() for at, _, names in walked for name in names
    )
    return sorted(name for name in found if name != MANIFEST)


def _contents(path: Path) -> Any:
    try:
        return read_json(path) if path.exists() else None
    except UserError:
        return None


def ranking_metrics(directory: str | Path) -> dict[int, dict[str, float]]:
    """Metrics of every kept checkpoint that was evaluated, by step.

    Raises:
      DamagedError: a checkpoint whose metrics cannot be read.
    """
    found = {int(path.name): metrics_of(path) for path in kept_checkpoints(directory)}
    return {step: metrics for step, metrics in found.items() if metrics is not None}


def metrics_of(folder: Path) -> dict[str, float] | None:
    """Metrics of a checkpoint; None: it was not evaluated.

    Raises:
      DamagedError: they cannot be read.
    """
    path = folder / MANIFEST
    fix = f"delete the folder of that checkpoint, {folder}"
    try:
        manifest = read_manifest(folder)
    except DamagedError as error:
        raise DamagedError(f"{path} is damaged; {fix}") from error
    if manifest is not None:
        return manifest.metrics
    path = folder / "metrics" / "metrics"  # where versions without a manifest had them
    if not path.is_file():
        return None
    with contextlib.suppress(UserError):
        metrics = read_json(path, "metrics of a checkpoint", nonfinite=True)
        if (
            isinstance(metrics, dict)
            and all(type(value) in (int, float) for value in metrics.values())
            and math.isfinite(metrics.get(METRIC, math.nan))
        ):
            return metrics
    raise DamagedError(f"{path} is damaged: expected a JSON object with a number {METRIC!r}; {fix}")


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
    """What checkpoints are ranked by, lower first: the error of the weights that `a2j eval` and `predict` take."""
    return metrics.get(METRIC_EMA, metrics[METRIC])


STARTS_FILE = "starts.jsonl"
REQUIREMENTS_FILE = "requirements.txt"
_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "array-record",
    "tensorflow-datasets",
    "numpy",
)
_GIT_SECONDS = 20
_LARGEST_DIFF = 4 * 2**20  # bytes; more than that is data, not source


def record_start(
    workdir: str | Path,
    *,
    command: str | None,
    step: int,
    parallel: str | None = None,
    batch_per_device: int | None = None,
    frames: int | None = None,
) -> int:
    """Write down a start of a run; of several processes the first one calls this.

    Args:
      workdir: the run directory, which exists.
      command: the command line, quoted for a shell; None: called from Python.
      step: that the run goes on from; 0 for a new one.
      parallel: how devices share a step, "jit", "pmap" or "mesh".
      batch_per_device: images.
      frames: of the training split.

    Returns:
      The number of this start, from 1; lines of `metrics.jsonl` carry it.

    Raises:
      UserError: a file that cannot be written.
    """
    workdir = Path(workdir)
    number = len(read_starts(workdir)) + 1
    source = _source(Path(a2j_jax.__file__).resolve().parent)
    changes = source.pop("changes", None) if source else None
    record = {
        "start": number,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "step": step,
        "versions": _versions(),
        "requirements": _write_requirements(workdir, number),
        "source": source,
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "devices": dict(Counter(device.device_kind for device in jax.devices())),
        "processes": jax.process_count(),
        "parallel": parallel,
        "batch_per_device": batch_per_device,
        "frames": frames,
    }
    if source and changes:
        source["diff"] = f"source-{source['commit'][:7]}-{number}.diff"
        _write(workdir / source["diff"], changes)
    append(workdir / STARTS_FILE, record)
    return number


def read_starts(workdir: str | Path) -> list[dict[str, Any]]:
    """The recorded starts of a run, in order; none for a run of before they were recorded."""
    return read(Path(workdir) / STARTS_FILE)


def run_of(config: str | Path) -> Path | None:
    """The run directory whose own `config.json` this is; None: it is no such file, or nothing has run there."""
    path = Path(config)
    return (
        path.parent if path.name == CONFIG_FILE and (path.parent / STARTS_FILE).exists() else None
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "a2j_jax": a2j_jax.__version__}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def _write_requirements(workdir: Path, number: int) -> str:
    """Name of the file that lists what is installed: that of an earlier start, unless something changed."""
    # By name and version alone: where something was installed from may be private, or gone.
    installed = {(d.metadata["Name"] or "").lower(): d for d in metadata.distributions()}
    lines = sorted(f"{name}=={d.version}" for name, d in installed.items() if name)
    text = "\n".join(lines) + "\n"
    for path in (workdir / REQUIREMENTS_FILE, *sorted(workdir.glob("requirements-*.txt"))):
        if path.is_file() and path.read_text() == text:
            return path.name
    first = not (workdir / REQUIREMENTS_FILE).exists()
    path = workdir / (REQUIREMENTS_FILE if first else f"requirements-{number}.txt")
    _write(path, text)
    return path.name


def _source(package: Path) -> dict[str, Any] | None:
    """Commit, branch and changes of the checkout that a package is run from; None where it is installed."""
    # A package in a virtual environment lies in somebody's checkout, too, but is no part of it.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    top = _git(package, "rev-parse", "--show-toplevel")
    commit = _git(package, "rev-parse", "HEAD")
    if not top or not commit:
        return None
    root = Path(top.strip())
    diff = _git(root, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv") or ""
    untracked = (_git(root, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    source = {
        "commit": commit.strip(),
        "branch": (_git(root, "branch", "--show-current") or "").strip() or None,
        "dirty": bool(diff or untracked),
    }
    if source["dirty"]:
        named = "".join(f"# untracked: {name}\n" for name in untracked)
        # The names first: nothing that git reads as part of the last change.
        source["changes"] = _capped(named + diff)
    return source


def _capped(text: str) -> str:
    whole = text.encode()
    if len(whole) <= _LARGEST_DIFF:
        return text
    kept = whole[:_LARGEST_DIFF].decode(errors="ignore")
    return f"{kept}\n# cut here: {_LARGEST_DIFF:,} of {len(whole):,} bytes\n"


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers about a folder; None where it refuses, hangs or is not installed."""
    # Not of a repository that is being worked on elsewhere (in a hook, say), and nothing is written.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
