"""A network as one file: what is written is read back, and nothing else is."""

import dataclasses
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from a2j_jax.errors import UserError
from a2j_jax.inference.hands import Calibration
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import Restored, restore, save_packed, variables_from
from a2j_jax.weights.packed import find_packed, packaged, read_packed, write_packed
from tests import tiny

ABOUT = "about.npy"


def network(**changes: object) -> Restored:
    config = dataclasses.replace(tiny.config(), **changes)  # type: ignore[arg-type]
    return Restored(resolve(config), tiny.variables(), 7, averaged=True)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "hand.npz"
    save_packed(network(), path)
    return path


def test_a_file_stands_in_for_its_run(packed: Path) -> None:
    found, there = restore(packed), network()
    assert (found.step, found.averaged, found.track) == (7, True, there.track)
    assert found.model == there.model
    plain, read = (flatten_dict(x, sep="/") for x in (there.variables, found.variables))
    assert plain.keys() == read.keys()
    for name, value in plain.items():
        assert read[name].dtype == np.float32
        np.testing.assert_allclose(
            read[name], value, rtol=2**-10 if value.ndim > 1 else 0, atol=1e-7
        )


def test_a_run_starts_from_it(packed: Path) -> None:
    found = variables_from(packed, tiny.variables(seed=1))
    assert tiny.same(found, restore(packed).variables)


def test_its_calibration_travels_with_it(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "hand.npz"
    known = Calibration([0.5, -1.25, 3.0], 0.125, [1.0, 2.0], 0.75, 0.5, 0.25)._asdict()
    assert restore(packed).calibration is None
    save_packed(restore(packed)._replace(calibration=known), path)
    again = restore(path)
    assert again.calibration == known
    assert tiny.same(again.variables, restore(packed).variables)
    about, variables = read_packed(path)
    save_packed(restore(packed)._replace(calibration={**known, "joints_mm": None}), path)
    assert restore(path).calibration == {**known, "joints_mm": None}
    for wrong in (
        "high",
        {**known, "bias": "high"},
        {**known, "kernel": 1.0},
        {**known, "spread_mm": None},
        {**known, "spread_mm": [[1], 2]},
        {**known, "joints_mm": [1.0, None]},
    ):
        write_packed(path, {**about, "calibration": wrong}, variables)
        with pytest.raises(UserError, match=r"hand\.npz: calibration"):
            restore(path)


def test_statistics_of_the_data_set_travel_with_it(tmp_path: Path) -> None:
    data = dataclasses.replace(tiny.config().data, normalization="computed", mean=1.5, std=30.0)
    save_packed(network(data=data), tmp_path / "hand.npz")
    track = restore(tmp_path / "hand.npz").track
    assert (track.mean, track.std) == (1.5, 30.0)


def repacked(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """The archive with other members, their checksums right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)


def another_config(members: dict[str, bytes]) -> None:
    members[ABOUT] = members[ABOUT].replace(b'"step": 7', b'"step": 8')


def another_kernel(members: dict[str, bytes]) -> None:
    name = next(name for name in members if name.endswith("kernel.npy"))
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])


def no_tensor(members: dict[str, bytes]) -> None:
    del members[next(name for name in members if name.endswith("kernel.npy"))]


def pickled(members: dict[str, bytes]) -> None:
    array = members[ABOUT].replace(b"'|u1'", b"'|O' ")
    members[ABOUT] = array


@pytest.mark.parametrize("change", [another_config, another_kernel, no_tensor, pickled])
def test_an_edited_file_is_refused(packed: Path, tmp_path: Path, change: Callable) -> None:
    copy = tmp_path / "hand.npz"
    copy.write_bytes(packed.read_bytes())
    repacked(copy, change)
    with pytest.raises(UserError, match=r"hand\.npz") as error:
        restore(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("at", [0.02, 0.5, 0.97])
def test_a_damaged_or_truncated_file_is_refused(packed: Path, tmp_path: Path, at: float) -> None:
    contents = bytearray(packed.read_bytes())
    place = int(at * len(contents))
    for name, damaged in (
        ("cut", contents[:place]),
        ("flipped", contents[:place] + bytes([contents[place] ^ 4]) + contents[place + 1 :]),
    ):
        copy = tmp_path / f"{name}.npz"
        copy.write_bytes(damaged)
        with pytest.raises(UserError, match=name):
            restore(copy)


def test_other_archives_are_not_taken_for_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "official.npz", conv1=np.zeros(3))
    assert find_packed(tmp_path / "official.npz") is None
    with pytest.raises(UserError, match="no description"):
        read_packed(tmp_path / "official.npz")
    (tmp_path / "note.npz").write_text("a note")
    assert find_packed(tmp_path / "note.npz") is None


def test_another_step_a_later_format_and_own_code_are_refused(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="step 7"):
        restore(packed, step=8)
    with pytest.raises(UserError, match=r"tests\.own_parts:quick"):
        save_packed(Restored(resolve(tiny.quick()), {}, 1, False), tmp_path / "own.npz")
    about, variables = read_packed(packed)
    for name, changed in (
        ("format 1", {"format": 2}),
        ("os:system", {"config": {**about["config"], "parts": "os:system"}}),
        ("half_window_mm", {"track": {**about["track"], "half_window_mm": 1.0}}),
    ):
        write_packed(tmp_path / "made.npz", {**about, **changed}, variables)
        with pytest.raises(UserError, match=name):
            restore(tmp_path / "made.npz")


def test_weights_beyond_float16_are_not_written(tmp_path: Path) -> None:
    large = jax.tree.map(lambda x: x * 1e6 if x.ndim > 1 else x, tiny.variables())
    with pytest.raises(UserError, match="float16"):
        save_packed(network()._replace(variables=large), tmp_path / "hand.npz")
    assert not (tmp_path / "hand.npz").exists()


def test_the_weights_that_ship() -> None:
    (path,) = [packaged()["hand-small"]]
    assert path.stat().st_size <= 12e6
    found = restore("hand-small")
    assert found.track.num_joints == 21
    assert sum(x.size for x in jax.tree.leaves(found.variables["params"])) <= 5e6
    assert json.dumps(read_packed(path)[0])
