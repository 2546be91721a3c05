"""jit, pmap, mesh and shard_map are one step: on 1, 2 and 8 simulated devices they train to the same numbers."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.models.layers import BatchNorm
from a2j_jax.runs import sharding
from tests import processes_on_loopback as loopback
from tests import steps_in_parallel

MODES = ("pmap", "mesh", "shard_map")
BARS = {"float64": 1e-8, "float32": 1e-5}
# dtype -> what is asked for beside steps by jit. Float64 is what tells a mistake from rounding: all devices.
ASKED = {
    "float64": [f"{mode}:{devices}" for mode in MODES for devices in (1, 2, 8)],
    "float32": [*(f"{mode}:8" for mode in MODES), "eval:1", "eval:2", "eval:3", "eval:8"],
}


def run(data: Path, out: Path, dtype: str, *asked: str) -> None:
    """Do what is asked for on eight simulated devices."""
    (ended,) = loopback.run(1, 8, data, out, dtype, *asked, program=steps_in_parallel.PROGRAM)
    assert ended.status == 0, ended.err


@pytest.fixture(scope="module")
def computed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each dtype, with what the worker computed."""
    folder = tmp_path_factory.mktemp("computed")
    for dtype, asked in ASKED.items():
        (folder / dtype).mkdir()
        run(tiny_data, folder / dtype, dtype, "jit:1", *asked)
    return folder


def farthest(one: Path, other: Path) -> dict[str, float]:
    """Largest difference in each part of two states."""
    apart: dict[str, float] = {}
    with np.load(one) as a, np.load(other) as b:
        assert sorted(a) == sorted(b)
        for name in a:
            part = name.split("/")[0]
            difference = np.abs(a[name].astype(np.float64) - b[name].astype(np.float64)).max()
            apart[part] = max(apart.get(part, 0.0), float(difference))
    return apart


@pytest.mark.slow
@pytest.mark.parametrize("dtype", list(BARS))
def test_the_numbers_do_not_depend_on_who_computes_them(dtype: str, computed: Path) -> None:
    """20 Adam steps in float64 within 1e-8, 5 SGD steps in float32 within 1e-5; all of the state."""
    folder = computed / dtype
    reached = {
        asked: farthest(folder / "jit-1.npz", folder / f"{asked.replace(':', '-')}.npz")
        for asked in ASKED[dtype]
        if not asked.startswith("eval")
    }
    for asked, apart in reached.items():
        print(dtype, asked, {part: f"{largest:.1e}" for part, largest in apart.items()})
        assert apart.keys() >= {"params", "batch_stats", "ema"}
    assert max(max(apart.values()) for apart in reached.values()) < BARS[dtype], reached


@pytest.mark.slow
@pytest.mark.parametrize("dtype", list(BARS))
def test_statistics_of_all_rows_of_a_device_or_of_a_few(dtype: str, tmp_path: Path) -> None:
    """By mesh, pmap and shard_map, as on a CPU and on a TPU, also where the mean is 1,000 deviations."""
    x = np.random.default_rng(0).normal(2, 3, (16, 5, 5, 3)).astype(np.float32)
    x[..., 2] += 3000
    np.save(tmp_path / "rows.npy", x)
    run(Path(), tmp_path, dtype, "norm:4")
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)

    def each(x: Any, weights: Any, params: Any) -> Any:
        known = {**variables, "params": params}
        y, updated = layer.apply(known, x, train=True, mutable=["batch_stats"])
        return (y * weights).sum(), (y, updated["batch_stats"])

    with np.load(tmp_path / "norm-4.npz") as found, jax.enable_x64(dtype == "float64"):
        for over, groups in {"global": 1, "local": 4, "2": 8}.items():
            rows = x.astype(dtype).reshape(groups, -1, *x.shape[1:])
            gradient = jax.grad(each, (0, 2), has_aux=True)
            made = jax.vmap(gradient, (0, 0, None))(rows, np.cos(rows), variables["params"])
            (of_x, of_params), (y, stats) = made
            wanted = {"y": y.reshape(x.shape), "x": of_x.reshape(x.shape)}
            wanted |= {name: v.sum(0) for name, v in of_params.items()}
            wanted |= {name: v.mean(0) for name, v in stats.items()}
            names = [name for name in found if name.startswith(f"{over}/")]
            assert len(names) == 6 * len(wanted)
            for name in names:
                value = wanted[name.rpartition("/")[2]]
                bar = {"float64": 1e-9, "float32": 1e-3}[dtype]
                np.testing.assert_allclose(found[name], value, bar, bar, err_msg=name)


@pytest.mark.slow
def test_every_frame_is_evaluated_once_on_any_number_of_devices(computed: Path) -> None:
    """20 frames, six at a time, on 1, 2, 3 and 8 devices: none of them divides the last batch."""
    with np.load(computed / "float32" / "eval-1.npz") as one:
        assert len(one["index"]) == 20
        for devices in (2, 3, 8):
            with np.load(computed / "float32" / f"eval-{devices}.npz") as other:
                np.testing.assert_array_equal(other["index"], one["index"])
                np.testing.assert_allclose(other["joints"], one["joints"], atol=1e-3)


def test_auto_is_jit_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sharding.layout("auto", jax.devices()[:1]).mode == "jit"
    assert sharding.layout("auto", jax.devices()[:1] * 2).mode == "mesh"
    assert sharding.layout("jit", jax.devices()[:1] * 2).devices == (jax.devices()[0],)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="2 processes share these devices: give --distributed"):
        sharding.layout("auto", jax.devices()[:1])
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(UserError, match="jit uses one device, but 2 processes were started"):
        sharding.layout("jit", jax.devices()[:1])


@pytest.mark.parametrize(
    ("batch", "parts", "devices", "near"),
    [(12, 1, 8, "8 or 16"), (7, 1, 8, "use 8"), (16, 3, 2, "12 or 18")],
)
def test_a_batch_that_does_not_spread_is_refused(
    batch: int, parts: int, devices: int, near: str
) -> None:
    with pytest.raises(UserError, match=f"batch_size={batch} does not spread.*{near}"):
        sharding.check_batch_size(batch, parts, devices)
    sharding.check_batch_size(devices * parts, parts, devices)


class Device(NamedTuple):
    id: int
    process_index: int


def test_rows_lie_together_by_process_whatever_the_order_of_devices() -> None:
    """The data pipeline gives process r the rows from r B / P on."""
    interleaved: Any = [Device(i, i % 2) for i in range(4)]
    found = sharding.layout("mesh", interleaved)
    assert [device.id for device in found.devices] == [0, 2, 1, 3]
    uneven: Any = [Device(i, i > 0) for i in range(3)]
    with pytest.raises(UserError, match="different numbers of devices"):
        sharding.layout("mesh", uneven)
