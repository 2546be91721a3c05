"""The Beam path writes what the plain one does, on Beam's local runner."""

import importlib.util

import pytest

from a2j_jax.errors import UserError
from tests.tfds_builders.numbered_frames import build_numbered
from tfds_builders.build import How
from tfds_builders.writer import pipeline_of

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="needs the extra a2j-jax[beam]"
)


@needs_beam
@pytest.mark.filterwarnings("ignore")  # Beam's own
@pytest.mark.parametrize(
    "workers",
    [
        "",
        pytest.param(
            "--direct_num_workers=2 --direct_running_mode=multi_processing", marks=pytest.mark.slow
        ),
    ],
)
def test_beam_writes_the_same_files(tmp_path, workers):
    frames = {"train": 600, "test": 3, "broken": (0, 7, 599)}
    plain = build_numbered(tmp_path / "plain", How(num_shards=3), **frames)
    beam = build_numbered(tmp_path / "beam", How(1, 3, f"--runner=FnApiRunner {workers}"), **frames)
    files = sorted(path.name for path in plain.iterdir())
    assert files == sorted(path.name for path in beam.iterdir())
    for name in files:
        assert (plain / name).read_bytes() == (beam / name).read_bytes(), name


@needs_beam
@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_what_a_worker_refuses_is_one_line_and_nothing_is_kept(tmp_path):
    with pytest.raises(UserError, match=r"train/5.*36"):
        build_numbered(
            tmp_path, How(beam_options="--runner=FnApiRunner"), mishaps={5: "mislabeled"}
        )
    assert not list(tmp_path.rglob("*.part*"))


@needs_beam
@pytest.mark.filterwarnings("ignore")  # Beam's own
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--runner=NoRunner", "NoRunner"),
        ("--runner=DataflowRunner --project=my-project", "region"),
        ("--direct_num_worker=2", "direct_num_worker"),
        ("--direct_num_workers=two", "direct_num_workers"),
        ("--direct_running_mode=fast", "direct_running_mode"),
    ],
)
def test_wrong_options_and_missing_packages_are_one_line(options, named):
    with pytest.raises(UserError, match=named) as raised:
        pipeline_of(options)
    assert "\n" not in str(raised.value)


@needs_beam
@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_a_runner_without_its_packages_is_one_line(tmp_path):
    if importlib.util.find_spec("apitools") is not None:
        pytest.skip("the packages of Dataflow are installed")
    options = "--project=my-project --region=us-central1 --temp_location=gs://bucket-a/t"
    with pytest.raises(UserError, match=r"apache_beam\[gcp\]"):
        build_numbered(tmp_path, How(beam_options=f"--runner=DataflowRunner {options}"))


@needs_beam
def test_options_of_a_job_server_are_left_to_it():
    runner = pipeline_of("--runner=FlinkRunner --flink_master=host:8081 --parallelism=8").runner
    assert type(runner).__name__ == "FlinkRunner"


def test_without_beam_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"needs Apache Beam: pip install 'a2j-jax\[beam\]'"):
        build_numbered(tmp_path, How(beam_options=""))
