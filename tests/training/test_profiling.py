"""A window of steps under the profiler: exactly these, in files that can be opened."""

import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from a2j_jax.errors import UserError
from a2j_jax.training.loop import ProfileWindow


def steps_traced(folder: Path) -> list[int]:
    (file,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    assert list(file.parent.glob("*.xplane.pb"))  # TensorBoard's
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return [int(event["args"]["step_num"]) for event in events if event.get("name") == "train"]


def loop(window: ProfileWindow, steps: range) -> None:
    step_of = jax.jit(lambda x: x @ x)
    x = jnp.eye(64)
    for step in steps:
        window.before(step)
        x = step_of(x)
        window.after(step, x)
    window.close()


def test_exactly_these_steps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loop(ProfileWindow(ProfileWindow.parse("3:5"), tmp_path), range(1, 8))
    assert steps_traced(tmp_path) == [3, 4]
    assert f"profiled steps 3 to 4: tensorboard --logdir {tmp_path}" in capfd.readouterr().err


def test_a_window_that_the_end_cuts_is_written(tmp_path: Path) -> None:
    loop(ProfileWindow(range(2, 100), tmp_path), range(1, 4))
    assert steps_traced(tmp_path) == [2, 3]


def test_a_run_beyond_the_window_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loop(ProfileWindow(range(2, 4), tmp_path), range(5, 7))
    said = capfd.readouterr().err
    assert said == "--profile_steps: this run resumes at step 5, beyond steps 2 to 3\n"
    assert not list(tmp_path.iterdir())


def test_a_run_that_ends_before_the_window_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loop(ProfileWindow(range(5, 7), tmp_path), range(1, 4))
    said = capfd.readouterr().err
    assert said == "--profile_steps: nothing was traced, training ended without steps 5 to 6\n"


def test_nothing_is_traced_unasked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loop(ProfileWindow(range(0), tmp_path), range(1, 4))
    assert capfd.readouterr().err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["100", "5:5", "6:5", "0:3", "a:b", "1:2:3", ":3", "-1:3"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected FIRST:END, for instance 100:110"):
        ProfileWindow.parse(text)
