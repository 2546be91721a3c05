"""What it takes to repeat a run: every start writes down its command, versions, source and devices.

A run directory holds, beside `config.json` and the checkpoints:

- `starts.jsonl`: one line per start, never overwritten (`record_start` says what is in it);
- `requirements.txt`: every installed distribution, as `pip install --requirement` takes it;
  `requirements-<n>.txt` where start n found others than the start before it;
- `source-<commit>-<n>.diff`: what start n ran beyond that commit, where the source had been changed.
"""

import os
import platform
import socket
import subprocess
from collections import Counter
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import a2j_jax
from a2j_jax.training import json_lines
from a2j_jax.training.run_directory import CONFIG_FILE

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
    json_lines.append(workdir / STARTS_FILE, record)
    return number


def read_starts(workdir: str | Path) -> list[dict[str, Any]]:
    """The recorded starts of a run, in order; none for a run of before they were recorded."""
    return json_lines.read(Path(workdir) / STARTS_FILE)


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
        raise json_lines.cannot_write(path, error) from error
