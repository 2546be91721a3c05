"""The path from a checkpoint to a first prediction."""

import subprocess
import sys
from pathlib import Path

import pytest

from a2j_jax.runs.checkpoints import save_variables
from tests import tiny

PROGRAM = """
import sys
import numpy as np
from a2j_jax import Predictor
predictor = Predictor.from_checkpoint(sys.argv[1])
print(predictor(np.full((240, 320), 700, np.uint16), center_uvd=(160, 120, 700)).joints_uvd.shape)
print(sorted({"tensorflow_datasets", "grain", "array_record", "optax", "a2j_jax.training"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_first_prediction_imports_nothing_of_training_or_data_sets(tmp_path: Path) -> None:
    save_variables(tmp_path / "checkpoint", tiny.variables(), tiny.config())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "checkpoint")],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["(21, 3)", "[]"]
