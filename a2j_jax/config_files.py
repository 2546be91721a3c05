"""Config files: Python with `get_config() -> Config`, and the `config.json` of runs."""

import contextlib
import dataclasses
import importlib
import inspect
import os
import runpy
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from a2j_jax.config import Config, faults_of, from_dict, listed
from a2j_jax.errors import UserError, did_you_mean, in_one_line, printable
from a2j_jax.files import local_path, read_json, regular_file
from a2j_jax.track_files import TRACK_FILE
from a2j_jax.tracks import TRACKS


def config_folders() -> list[Path]:
    """Where config files are looked for by name: the working directory's, the wheel's, the checkout's."""
    package = Path(__file__).resolve().parent
    return [Path("configs"), package / "configs", package.parent / "configs"]


def load_config(name_or_path: str, base: Config | None = None) -> Config:
    """Load a config by name ("quickstart", "table7/no_proposals") or by path ("my/experiment.py", "config.json").

    `base` is what a row of one of the paper's tables differs from, instead of its own base: such a file has
    `get_config(base=None)`.

    Raises:
      UserError: no such config (naming the nearest one), a file that fails or has no `get_config`, or values
        of the wrong type or size.
    """
    path = local_path(name_or_path, "config")
    if path.suffix == ".json":
        if base is not None:
            raise UserError(f"{path}: is no row of a table, and differs from no base")
        return read_config_file(path)
    if path.suffix != ".py":
        path = _find_config(name_or_path)
    _check_exists(path)
    regular_file(path, "a config: Python with get_config(), or a run's config.json")
    folder = str(path.absolute().parent)
    sys.path.insert(0, folder)  # a config may import its neighbors, as a script may
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
        if get_config is None:
            raise UserError("defines no get_config() -> Config")
        if base is not None and not inspect.signature(get_config).parameters:
            raise UserError("is no row of a table: its get_config() takes no base to differ from")
        config = get_config() if base is None else get_config(base)
        if type(config) is not Config:
            raise UserError(f"get_config() must return a Config, not {type(config).__name__}")
        if config.parts is not None:  # they may be a neighbor; what is not there `resolve` reports
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(config.parts.partition(":")[0])
        return config
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except KeyboardInterrupt:
        raise
    # A config is the user's program: whatever it raises is theirs to fix, `sys.exit()` included.
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        fault = faults_of(error) if isinstance(error, ValidationError) else in_one_line(error)
        raise UserError(f"{where}: {fault}") from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _check_exists(path: Path) -> None:
    if not os.path.lexists(path):
        raise UserError(f"config file not found: {printable(str(path))}")


def _find_config(name: str) -> Path:
    found = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in reversed(config_folders())
        for path in folder.glob("**/[!_]*.py")
    }
    if name in found:
        return found[name]
    meant = did_you_mean(name, found, cutoff=0.4)
    raise UserError(f"no config {name!r}{meant} (there are: {listed(found)})")


def read_config_file(path: Path) -> Config:
    """Read a file that holds what `config.to_json` wrote.

    A track of the user's own is taken from beside it: runs keep a copy there, wherever they are carried.

    Raises:
      UserError: no such file, or not a config of this version.
    """
    _check_exists(path)
    values = read_json(path, "a config")
    try:
        config = from_dict(values)
    except UserError as error:
        raise UserError(f"{printable(str(path))}: {error}") from error
    return with_own_track(config, path.parent)


def with_own_track(config: Config, folder: Path) -> Config:
    """The config with a custom track taken from the copy in `folder`, where there is one."""
    own = folder / TRACK_FILE
    if config.track in TRACKS or not own.is_file():
        return config
    return dataclasses.replace(config, track=str(own))
