"""The built wheel, unpacked and used outside the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def a2j(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the wheel's command line; PYTHONPATH goes before an editable install of the checkout."""
    return subprocess.run(
        [sys.executable, "-c", "import sys, a2j_jax.cli as c; sys.exit(c.main())", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_wheel_trains_outside_the_checkout(wheel_site: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import a2j_jax, tfds_builders; print(a2j_jax.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel_site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(wheel_site))
    small = {
        "data.crop_size": 32,
        "data.train_frames": 16,
        "data.validation_frames": 8,
        "data.test_frames": 8,
        "model.width": 8,
        "model.head_features": 8,
        "model.head_depth": 1,
        "optim.batch_size": 8,
        "optim.steps": 2,
        "optim.freeze": "trunk/",  # whose gradient compiles long
    }
    overrides = [f"--config.{key}={value}" for key, value in small.items()]
    result = a2j(wheel_site, tmp_path, "train", "--config", "quickstart", *overrides)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "quickstart" / "checkpoints" / "2").is_dir()


def test_the_wheel_holds_no_tests_and_names_the_typing_marker(wheel_site: Path) -> None:
    assert (wheel_site / "a2j_jax" / "py.typed").is_file()
    assert (wheel_site / "a2j_jax" / "configs" / "quickstart.py").is_file()
    assert (wheel_site / "a2j_jax" / "docs" / "weights.md").is_file()
    assert (wheel_site / "a2j_jax" / "weights" / "hand-small.npz").is_file()
    assert not (wheel_site / "docs").exists()
    assert not (wheel_site / "tests").exists()
    assert not (wheel_site / "configs").exists()


@pytest.mark.slow
def test_the_wheel_finds_a_hand(wheel_site: Path, tmp_path: Path) -> None:
    """In the rendered frame that it holds."""
    result = a2j(wheel_site, tmp_path, "predict", "--model", "hand-small", "--example", "--json")
    assert result.returncode == 0, result.stderr
    (pose,) = json.loads(result.stdout)["frames"]
    assert np.shape(pose["joints_xyz_mm"]) == (21, 3)
    u, v, depth = np.mean(pose["joints_uvd"], axis=0)
    assert (u, v, depth) == pytest.approx((234.1, 333.9, 395.4), abs=20)
    assert pose["score"] > 0.5


@pytest.mark.slow
def test_messages_name_the_pages_that_it_holds(wheel_site: Path, tmp_path: Path) -> None:
    result = a2j(wheel_site, tmp_path, "--help")
    assert f"{wheel_site}/a2j_jax/docs/own_frames.md" in " ".join(result.stdout.split())
    result = a2j(wheel_site, tmp_path, "build", str(tmp_path))
    assert result.returncode == 2
    assert f"{wheel_site}/a2j_jax/docs/own_data.md" in result.stderr


def test_the_package_is_a_program(wheel_site: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "a2j_jax", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel_site)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "a2j_jax")
