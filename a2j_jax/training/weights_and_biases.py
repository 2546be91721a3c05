"""Weights & Biases, for those who ask for it: `run.wandb = "project"`; offline unless WANDB_MODE says otherwise."""

import importlib.util
import os
import secrets
from pathlib import Path
from typing import Any

from a2j_jax.errors import UserError

ID_FILE = "wandb_id.txt"


def require_wandb() -> None:
    """Look for the package before any work is done.

    Raises:
      UserError: it is not installed.
    """
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            "--config.run.wandb: logging to Weights & Biases needs its package: "
            "pip install 'a2j-jax[wandb]'"
        )


class WandbLog:
    """One run of a project; started again in the same run directory, it goes on as the same run.

    Offline, each start leaves a folder in `<workdir>/wandb/`; `wandb sync` uploads them as one run.
    """

    def __init__(self, workdir: str | Path, project: str, config: dict[str, Any]):
        """Begins, or goes on with, the run of a run directory.

        Args:
          workdir: the run directory.
          project: of Weights & Biases.
          config: nested values that the run is shown with.

        Raises:
          UserError: the package is missing or refuses (WANDB_MODE=online without an account, say).
        """
        require_wandb()
        import wandb

        try:
            self._run = wandb.init(
                project=project,
                dir=str(workdir),
                id=_run_id(Path(workdir) / ID_FILE),
                resume="allow",
                mode=os.environ.get("WANDB_MODE", "offline"),
                config=config,
                # It would wrap stdout and stderr, and tell at length.
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:  # its own, and those of whatever it connects with
            said = " ".join(str(error).split())
            raise UserError(f"Weights & Biases refused: {said}") from error
        # Not its own step: that may only grow, and a run that was killed goes back to its last checkpoint.
        self._run.define_metric("*", step_metric="step")

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        """Record scalars of one step; `kind` is "train" or "eval"."""
        self._run.log({f"{kind}/{name}": value for name, value in scalars.items()} | {"step": step})

    def close(self) -> None:
        """Write, or send, what is left."""
        self._run.finish()


def _run_id(path: Path) -> str:
    if not path.is_file():
        path.write_text(secrets.token_hex(4) + "\n")
    return path.read_text().strip()
