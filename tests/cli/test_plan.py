"""`a2j plan`, for the CPU in processes of its own and, with libtpu installed, for a TPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import write_config_file
from tests.conftest import REPOSITORY


@pytest.fixture
def config_file(tmp_path):
    return write_config_file(tmp_path / "my_config.py", "batch_size=16, steps=None, epochs=3")


def plan(config_file: Path, options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: JAX's devices are chosen once."""
    program = "import sys, a2j_jax.cli as c; sys.exit(c.main())"
    command = [
        sys.executable,
        "-c",
        program,
        "plan",
        "--config",
        str(config_file),
        *options.split(),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--topology v5e:5x5", "no topology 'v5e:5x5'; there are: v5e: 1x1"),
        ("--topology cpu --sweep steps=3", "'steps=3': expected batch=64,128,... or batch"),
        ("--topology cpu --sweep batch=0", "'batch=0': expected batch=64,128,... or batch"),
        ("--topology cpu --config.optim.bach=3", "unknown config key 'optim.bach'"),
        ("--topology cpu --batch 15 --config.optim.accumulate=2", "use 14 or 16"),
        ("", "required: --topology"),
    ],
)
def test_mistakes(mistake, config_file, arguments, said):
    mistake(f"plan --config {config_file} {arguments}".strip(), said)


@pytest.mark.slow
def test_two_batches_on_four_devices(config_file):
    # Importing parts makes JAX look for devices, once and for all.
    parts = "--config.parts=tests.own_parts:quick_regression"
    done = plan(config_file, f"--topology cpu:4 --sweep batch=16,32 --json {parts}")
    contents = json.loads(done.stdout)
    small, large = contents["plans"]
    assert contents["topology"] == "cpu:4"
    assert contents["largest_batch"] == 32
    assert (small["devices"], small["batch_size"], small["steps"]) == (4, 16, 3 * 4)
    assert small["bound"] is None
    assert large["usage"]["temporaries"] > small["usage"]["temporaries"]
    assert large["usage"]["arguments"] > small["usage"]["arguments"]
    assert "all-reduce" in {one["kind"] for one in small["usage"]["collectives"]}
    assert "batch 16: fits" in done.stderr


@pytest.mark.slow
def test_the_table(config_file):
    printed = plan(config_file, "--topology cpu --dtype bfloat16").stdout
    for text in ("tiny · cpu · bfloat16", "peak memory", "No bound on time"):
        assert text in printed


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'a2j-jax[tpu]'"
)
@pytest.mark.parametrize("topology", ["v5e:2x2 --preset_flags", "v5p:2x2x1", "v6e:2x2", "v4:2x2x1"])
def test_a_slice_of_tpus_that_is_not_here(config_file, topology):
    done = plan(config_file, f"--topology {topology} --json")
    (one,) = json.loads(done.stdout)["plans"]
    assert (one["devices"], one["fits"]) == (4, True)
    assert one["memory"] - one["needed"] > 15 * 2**30
    # Examples stay where they are: losses and gradients are summed, and the statistics of layers gathered, which are
    # less than eight crops.
    found = one["usage"]["collectives"]
    assert {each["kind"] for each in found} == {"all-reduce", "all-gather"}
    assert max(each["bytes"] for each in found if each["kind"] == "all-gather") < 2**15
    assert one["bound"]["seconds"] > 0
    assert one["hours"] > 0
    # libtpu looks for a TPU and complains that there is none, unless it is told.
    assert done.stderr.count("\n") == 2, done.stderr
