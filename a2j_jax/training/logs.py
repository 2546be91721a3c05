"""A run's record: one JSON line and one set of TensorBoard scalars per logged step."""

import json
import sys
import time
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """Appends to `metrics.jsonl` and to TensorBoard event files in a run directory."""

    def __init__(self, workdir: str | Path):
        self._lines = (Path(workdir) / METRICS_FILE).open("a", buffering=1)
        self._events = _event_writer(Path(workdir) / "tensorboard")

    def write(self, kind: str, step: int, scalars: dict[str, float]) -> None:
        """Record scalars of one step; `kind` is "train" or "eval"."""
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **scalars}
        self._lines.write(json.dumps(record) + "\n")
        for name, value in scalars.items():
            self._events.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._lines.close()
        self._events.close()


def _event_writer(folder: Path) -> Any:
    """A tensorboardX writer. It imports PyTorch where that is installed: seconds and memory for nothing."""
    if "torch" in sys.modules:
        from tensorboardX import SummaryWriter
    else:
        sys.modules["torch"] = None  # type: ignore[assignment]  # "not installed", for this import
        try:
            from tensorboardX import SummaryWriter
        finally:
            del sys.modules["torch"]
    return SummaryWriter(str(folder))
