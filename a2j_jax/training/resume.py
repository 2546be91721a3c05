"""Whether a run directory may be continued with a config."""

import contextlib
import os
from pathlib import Path

from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.files import check_folder_name, same_file
from a2j_jax.runs.experiment import (
    MAY_CHANGE,
    Difference,
    Experiment,
    conflicts,
    differences,
    resolve,
)
from a2j_jax.runs.run_dir import (
    CONFIG_FILE,
    STARTS_FILE,
    UNWRITABLE,
    DamagedError,
    is_converted,
    kept_checkpoints,
    read_config,
    recorded_config,
)
from a2j_jax.track_files import TRACK_FILE, track_file
from a2j_jax.training.logs import METRICS_FILE


def check_run_directory(workdir: Path, experiment: Experiment) -> list[Difference]:
    """Refuse to continue a run as another experiment.

    Everything that decides what is optimized, and by what its checkpoints are ranked, stays as it was. A run
    may be made longer, evaluated or logged more or less often, and its data may have moved. A folder without
    any checkpoint yet may become any run.

    Args:
      workdir: the run directory, or where it will be.
      experiment: to continue with; mean and std that are to be computed and are not known yet are not compared.

    Returns:
      The differences that are allowed.

    Raises:
      UserError: `workdir` is no folder, has a name that checkpoints cannot be written below, holds a converted
        checkpoint, or a run with other values, naming them all.
    """
    check_folder_name(workdir.absolute(), UNWRITABLE)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir} is a file; name a folder for the run")
    kept = kept_checkpoints(workdir)
    if kept and all(is_converted(folder) for folder in kept):
        raise UserError(
            f"{workdir} holds a converted checkpoint, which has no training to continue; name another "
            "--workdir"
        )
    recorded = _newest_record(kept)
    before = read_config(workdir) if (workdir / CONFIG_FILE).exists() else recorded
    if before is None and not kept:
        _check_not_foreign(workdir, experiment.config.track)
    if before is None or not kept:
        return []
    found = differences(resolve(before), experiment)
    other = {d.key: d for d in found if d.key not in MAY_CHANGE}
    other |= {d.key: d for d in conflicts(recorded, experiment) if d.key not in other}
    if other:
        raise UserError(
            f"{workdir} holds a run of another experiment ({'; '.join(map(str, other.values()))}); "
            "name another --workdir (of a table: --out), or give the values it was started with; a new run starts from "
            f"its weights with --config.model.init_from={workdir}@latest"
        )
    return found


def _check_not_foreign(workdir: Path, track: str) -> None:
    """Refuse a folder without `config.json` in which a run would change the files of somebody else."""
    own = track_file(track)
    written = [METRICS_FILE, STARTS_FILE] + ([] if own is None else [TRACK_FILE])
    for path in (workdir / name for name in written):
        if os.path.lexists(path) and not (own is not None and same_file(path, own)):
            raise UserError(
                f"{path}: exists, and a run would change it, but there is no {CONFIG_FILE} of a run beside it; name "
                "another --workdir"
            )


def _newest_record(kept: list[Path]) -> Config | None:
    """The config that the newest of these checkpoints was written with; None: none of them records it."""
    for folder in reversed(kept):
        with contextlib.suppress(DamagedError):
            found = recorded_config(folder)
            if found is not None:
                return found
    return None
