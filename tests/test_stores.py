"""Run directories and data sets in object stores, which run on this machine."""

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from a2j_jax import stores
from a2j_jax.cli.main import main
from a2j_jax.config import Config, to_json
from a2j_jax.errors import UserError
from a2j_jax.runs.run_dir import read_starts
from a2j_jax.training.run import run_experiment
from tests import faults, object_stores, tiny
from tests import processes_on_loopback as loopback

STORES = pytest.mark.parametrize("scheme", ["gs", "s3"])
STEPS = 120
ANOTHER_MACHINE = {"token": "other", "host": "elsewhere", "pid": 1}


@pytest.fixture(scope="module", autouse=True)
def _servers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, object_stores.running() as environment:
        for name, value in environment.items():
            patch.setenv(name, value)
        stores._file_system.cache_clear()
        yield
    stores._file_system.cache_clear()


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move_to(tmp_path / "machine", monkeypatch)


def move_to(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To another machine: what is there was fetched there."""
    monkeypatch.setenv(stores.CACHE, str(machine))


def address(scheme: str, tmp_path: Path) -> str:
    return f"{scheme}://bucket/{tmp_path.name}/run"


def store(where: str, files: dict[str, str]) -> None:
    system = stores._system(where)
    for name, text in files.items():
        system.pipe_file(stores._key(where, name), text.encode())


def stored(where: str) -> dict[str, str]:
    system = stores._system(where)
    names = stores._listing(where)
    return {name: system.cat_file(stores._key(where, name)).decode() for name in names}


def files(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_bytes().decode() for name in stores._files(folder)}


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())


RUN = {
    "config.json": "c",
    "metrics.jsonl": "1\n",
    "checkpoints/3/variables/d": "x" * 1000,
    "checkpoints/3/manifest.json": "m",
    "checkpoints/3/variables/r": "which some servers cut\r",
    "empty.txt": "",
}


@STORES
def test_there_and_back(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = address(scheme, tmp_path)
    here = stores.local_copy(where)
    assert stores.address_of(here) == where
    write(here, RUN)
    write(here, {"checkpoints/4.orbax-checkpoint-tmp/d": "unfinished", ".hidden": "?"})
    stores.push(here)
    assert stored(where) == RUN

    move_to(tmp_path / "other", monkeypatch)
    there = stores.local_copy(f"{where}/")
    assert there != here
    assert files(there) == RUN
    write(there, {"eval/scores.json": "{}"})
    stores.push(there / "eval")

    move_to(tmp_path / "machine", monkeypatch)
    (here / "metrics.jsonl").write_text("1\n2\n")
    shutil.rmtree(here / "checkpoints")
    stores.push(here)  # the report of the other machine stays
    now = {"config.json": "c", "metrics.jsonl": "1\n2\n", "empty.txt": ""}
    assert stored(where) == now | {"eval/scores.json": "{}"}
    assert files(stores.local_copy(where)) == now | {"eval/scores.json": "{}"}


def test_a_checkpoint_without_its_marker_is_left_out_and_cleaned_up(tmp_path: Path) -> None:
    where = address("gs", tmp_path)
    cut = {name: text for name, text in RUN.items() if not name.endswith("manifest.json")}
    store(where, cut | {"checkpoints/2/manifest.json": "m", "checkpoints/2/d": "x"})
    here = stores.local_copy(where)
    assert [path.name for path in (here / "checkpoints").iterdir()] == ["2"]
    stores.push(here)
    assert not [name for name in stored(where) if name.startswith("checkpoints/3")]


def test_who_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror is ahead as long as nobody else has changed an object; then the store decides."""
    where = address("gs", tmp_path)
    here = stores.local_copy(where)
    write(here, RUN)
    stores.push(here)
    write(here, {"checkpoints/6/manifest.json": "m", "metrics.jsonl": "1\n2\n"})
    store(where, {"eval/scores.json": "{}"})
    ahead = files(here) | {"eval/scores.json": "{}"}
    assert files(stores.local_copy(where)) == ahead
    store(where, {"metrics.jsonl": "of another machine\n"})
    decided = RUN | {"metrics.jsonl": "of another machine\n", "eval/scores.json": "{}"}
    assert files(stores.local_copy(where)) == decided


@contextlib.contextmanager
def again_and_again(step: Callable[[int], None], pause: float) -> Iterator[None]:
    """A context in which another thread calls step(1), step(2), ..."""
    ended = threading.Event()

    def work() -> None:
        for number in itertools.count(1):
            step(number)
            if ended.wait(pause):
                return

    working = threading.Thread(target=work)
    working.start()
    try:
        yield
    finally:
        ended.set()
        working.join()


def test_what_is_appended_to_while_it_is_stored(tmp_path: Path) -> None:
    """Markers never tell of more than the logs beside them."""
    where = address("gs", tmp_path)
    here = stores.local_copy(where)

    def train(step: int) -> None:
        with (here / "metrics.jsonl").open("a") as file:
            file.write(f"{step}\n")
        write(here, {"checkpoints/1/manifest.json": str(step)})

    with again_and_again(train, 0.002):
        for _ in range(8):
            stores.push(here)
            found = stored(where)
            if "checkpoints/1/manifest.json" in found:
                marked = found["checkpoints/1/manifest.json"] or "0"
                assert int(marked) <= len(found["metrics.jsonl"].splitlines())


@pytest.mark.slow
def test_what_is_deleted_while_it_is_stored(tmp_path: Path) -> None:
    """A checkpoint that is stored is whole, whatever the run deletes meanwhile."""
    where = address("gs", tmp_path)
    here = stores.local_copy(where)

    def train(step: int) -> None:
        new = here / f"checkpoints/{step}.orbax-checkpoint-tmp"
        write(new, {f"d/{part}": str(step) for part in range(20)} | {"manifest.json": "m"})
        new.rename(here / f"checkpoints/{step}")
        shutil.rmtree(here / f"checkpoints/{step - 1}", ignore_errors=True)

    with again_and_again(train, 0.1):
        for _ in range(8):
            stores.push(here)
            found = stored(where)
            for name in found:
                if name.endswith("manifest.json"):
                    folder = name.removesuffix("manifest.json")
                    assert sum(other.startswith(f"{folder}d/") for other in found) == 20


@STORES
def test_what_is_deleted_between_two_looks(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that is deleted after it was listed: its marker goes first from the store as well."""
    where = address(scheme, tmp_path)
    here = stores.local_copy(where)
    for step in (1, 2):
        write(here, {f"checkpoints/{step}/d": "d", f"checkpoints/{step}/manifest.json": "m"})
    stores.push(here)
    file_system = stores._system(where)
    find = file_system.find

    def delete_and_find(*args: Any, **kwargs: Any) -> Any:
        shutil.rmtree(here / "checkpoints/1", ignore_errors=True)
        return find(*args, **kwargs)

    monkeypatch.setattr(file_system, "find", delete_and_find)
    stores.push(here)
    assert "checkpoints/1/manifest.json" not in stored(where)
    assert stored(where).keys() >= {"checkpoints/2/d", "checkpoints/2/manifest.json"}
    stores.push(here)
    assert stored(where).keys() == {"checkpoints/2/d", "checkpoints/2/manifest.json"}


@STORES
def test_one_trains_at_a_time(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = address(scheme, tmp_path)
    with stores.in_step(where) as folder:
        write(folder, {"config.json": "c"})
        with pytest.raises(UserError, match=f"another process .*process {os.getpid()}"):
            stores.in_step(where).__enter__()
    assert stored(where) == {"config.json": "c"}
    assert not stores._system(where).exists(stores._key(where, stores.LEASE))
    # Left by a killed process of this machine, which no longer has that number.
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    left = {"token": "gone", "host": stores._host(), "pid": int(gone.stdout)}
    store(where, {stores.LEASE: json.dumps(left)})
    began = time.monotonic()
    with stores.in_step(where):
        assert time.monotonic() - began < 10


def test_a_lease_that_is_renewed_elsewhere(tmp_path: Path) -> None:
    where = address("gs", tmp_path)

    def renew(count: int) -> None:
        store(where, {stores.LEASE: json.dumps(ANOTHER_MACHINE | {"time": count})})

    with again_and_again(renew, 0.5):
        time.sleep(1)
        with pytest.raises(UserError, match="process 1 on elsewhere"):
            stores.in_step(where).__enter__()


@pytest.mark.slow
def test_a_lease_that_was_left_elsewhere(tmp_path: Path) -> None:
    where = address("gs", tmp_path)
    store(where, {stores.LEASE: json.dumps(ANOTHER_MACHINE)})
    began = time.monotonic()
    with stores.in_step(where):
        assert 25 < time.monotonic() - began < 50


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("gs://", "s3:/", "gs://bucket/../x"):
        with pytest.raises(UserError, match=r"--workdir .*expected \w\w://BUCKET/FOLDER"):
            stores.local_copy(wrong, "--workdir")
    with pytest.raises(UserError, match="gs://nobody/x: no such bucket"):
        stores.in_step("gs://nobody/x").__enter__()
    here = stores.local_copy("s3://nobody/x")
    with pytest.raises(UserError, match="s3://nobody/x: no such bucket"):
        stores.check_writable(here)
    write(here, RUN)
    with pytest.raises(UserError, match="s3://nobody/x: no such bucket"):
        stores.push(here)
    find = importlib.util.find_spec
    without = lambda name, *more: None if name == "s3fs" else find(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(UserError, match=r"s3fs: pip install 'a2j-jax\[s3\]'"):
        stores.local_copy("s3://bucket/x")


def a2j(*arguments: object, **environment: str) -> tuple[int, str, float]:
    """Runs a command in a new process; returns its status, stderr and seconds."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "a2j_jax", *map(str, arguments)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, time.monotonic() - began


@pytest.mark.slow
def test_a_store_out_of_reach(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("localhost", 0))
        nowhere = f"http://localhost:{closed.getsockname()[1]}"
        for scheme in ("gs", "s3"):
            status, said, seconds = a2j(
                "train",
                "--config=quickstart",
                f"--workdir={address(scheme, tmp_path)}",
                STORAGE_EMULATOR_HOST=nowhere,
                AWS_ENDPOINT_URL=nowhere,
            )
            assert status == 2
            assert said.startswith(f"a2j: error: {scheme}://bucket/")
            assert said.count("\n") == 1
            assert seconds < 60


def lasting(data_dir: object) -> Config:
    return faults.config(data_dir, STEPS, evaluate=60, save=40)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def on_disk(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("on_disk") / "run"
    run_experiment(lasting(tiny_data), workdir)
    return workdir


@pytest.mark.slow
@STORES
def test_killed_and_resumed_on_another_machine(
    scheme: str,
    tiny_data: Path,
    on_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Data set and run in a store: bit for bit as on disk, and evaluated to the same."""
    data = f"{scheme}://bucket/{tmp_path.name}/data"
    copy = stores.local_copy(data)
    write_all(tiny_data, copy)
    stores.push(copy)
    where = address(scheme, tmp_path)
    here = stores.local_copy(where)
    config = lasting(data)
    with faults.Start(config, where, mirror=here) as start:
        saved = lambda: any("/manifest.json" in name for name in stores._listing(where))  # noqa: E731
        start.wait_until(saved, pause=0.1)
        start.end(by=signal.SIGKILL)

    move_to(tmp_path / "other", monkeypatch)
    run_experiment(config, where)
    there = stores.local_copy(where)
    assert there != here
    assert 0 < read_starts(there)[-1]["step"] < STEPS
    assert faults.differences(lasting(tiny_data), there, on_disk) == []
    capsys.readouterr()
    found = []
    for workdir in (where, on_disk):
        assert main(["eval", "--workdir", str(workdir), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert "eval/report.html" in stores._listing(where)


def write_all(folder: Path, copy: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(folder)).write_bytes(path.read_bytes())


@pytest.mark.slow
def test_two_processes(tiny_data: Path, tmp_path: Path) -> None:
    """Each process has its own mirror. Process 0 saves, and both resume from its checkpoint."""
    where, starts = address("gs", tmp_path), []
    for steps in (2, 4):
        settings = tmp_path / f"{steps}.json"
        parts = "tests.own_parts:quick_regression"  # every process compiles for itself
        config = dataclasses.replace(tiny.config(tiny_data, steps=steps), parts=parts)
        settings.write_text(to_json(config))
        ended = loopback.run(2, 1, "train", "--config", settings, "--workdir", where)
        assert [one.status for one in ended] == [0, 0]
        there = stores.local_copy(where)
        starts.append(read_starts(there)[-1]["step"])
        assert (there / f"checkpoints/{steps}/manifest.json").exists()
    assert starts == [0, 2]
    assert not stores._mirror(where, 1).exists()
