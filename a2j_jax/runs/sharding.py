"""The state of a training run, and how devices share its step: `jit` on one, `mesh`, `shard_map` or `pmap` on many.

One body, the same numbers. `mesh` is `jax.jit` over a one-axis `Mesh` with named shardings: XLA splits the global
program, and batch statistics, losses and gradients are the global batch's because the program says nothing else. Under
`shard_map` and `pmap` the body runs once per device and says where it needs the others (`axis_name`); `shard_map` takes
and returns the arrays of `mesh`, `pmap` those with an axis of devices. The batch is spread over all devices of all
processes; parameters, optimizer state and statistics are the same everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from a2j_jax.data.crops import Batch
from a2j_jax.errors import UserError

if TYPE_CHECKING:  # inference reads checkpoints without it
    import optax

Tree = TypeVar("Tree")
Mode = Literal["jit", "pmap", "mesh", "shard_map"]
AXIS = "data"


class TrainState(struct.PyTreeNode):
    """Everything a step reads and rewrites; saved whole."""

    step: jax.Array  # () int32, steps taken
    params: Any
    batch_stats: Any  # running means and variances
    opt_state: Any
    ema: Any  # moving average of {"params", "batch_stats"}; None: not kept
    skipped: jax.Array  # () int32, updates left out because they were not finite
    skipped_in_a_row: jax.Array  # () int32, of those the ones up to the last step

    @classmethod
    def create(
        cls,
        variables: dict[str, Any],
        optimizer: "optax.GradientTransformation",
        *,
        average: bool = False,
    ) -> "TrainState":
        """Start from initialized or converted variables {"params"}, with {"batch_stats"} where the network has any."""
        # An array for each count: a step that is given its state to rewrite may not be given an array twice.
        counts = ("step", "skipped", "skipped_in_a_row")
        return cls(
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(variables["params"]),
            ema=jax.tree.map(jnp.copy, dict(variables)) if average else None,
            **{name: jnp.zeros((), jnp.int32) for name in counts},
        )

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes: {"params", "batch_stats"}, the latter where the network has any."""
        stats = {"batch_stats": self.batch_stats} if self.batch_stats else {}
        return {"params": self.params, **stats}


Metrics = dict[str, jax.Array]
#: (state, batch, key of the run) -> (next state, scalar metrics)
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


@dataclass(frozen=True)
class Layout:
    """The devices of a run and the way they share a step."""

    mode: Mode  # "jit" runs on the first device alone
    devices: tuple[
        jax.Device, ...
    ]  # of all processes, in the order in which they hold the rows of a batch

    @property
    def axis_name(self) -> str | None:
        """The mapped axis of the step and the model, if there is one."""
        return AXIS if self.mode in ("pmap", "shard_map") else None

    @property
    def everywhere(self) -> jax.sharding.Sharding:
        """The sharding of a value that is the same on all devices; that of saved and restored states."""
        return self._sharding()

    @property
    def spread(self) -> jax.sharding.Sharding:
        """The sharding of a batch by its rows; not under "pmap"."""
        return self._sharding(AXIS)

    def _sharding(self, *axes: str) -> jax.sharding.Sharding:
        if self.mode == "jit":
            return SingleDeviceSharding(self.devices[0])
        # Explicit axes, the default, would ask the model to say how every reshape is sharded.
        mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        return NamedSharding(mesh, PartitionSpec(*axes))

    @property
    def local(self) -> list[jax.Device]:
        """The devices of this process."""
        process = jax.process_index()
        return [device for device in self.devices if device.process_index == process]

    def place(self, state: TrainState) -> TrainState:
        """Copies a state that this process has entirely to the devices, in the form that the step takes."""
        state = put(state, self.everywhere)
        if self.mode != "pmap":
            return state
        count = np.zeros(len(self.local))
        # Over the axis of the step: with another, the step would be compiled again for its own result.
        copy = jax.pmap(lambda _, tree: tree, AXIS, in_axes=(0, None), devices=self.devices)
        first = jax.tree.map(lambda x: x.addressable_data(0), state)
        copies: TrainState = copy(count, first)
        return copies

    def gather(self, state: TrainState) -> TrainState:
        """A placed state as it is saved: one value, on all devices."""
        if self.mode != "pmap":
            return state
        # Of each device's copy, without the mapped axis of one that goes before every shape.
        first = jax.tree.map(lambda x: x.addressable_data(0).reshape(x.shape[1:]), state)
        return put(first, self.everywhere)

    def distribute(self, batch: Mapping[str, Any]) -> Batch:
        """Rows of a batch that this process holds -> arrays of the global batch, spread over the devices."""
        if self.mode == "jit":
            return jax.device_put(dict(batch), self.spread)
        if self.mode != "pmap":
            return {
                name: jax.make_array_from_process_local_data(
                    self.spread, rows.astype(jax.dtypes.canonicalize_dtype(rows.dtype), copy=False)
                )
                for name, rows in batch.items()
            }
        count = len(self.local)
        return {name: rows.reshape(count, -1, *rows.shape[1:]) for name, rows in batch.items()}

    def wrap(self, step: TrainStep, flags: Mapping[str, bool] | None = None) -> Any:
        """The jitted or mapped step: (placed state, distributed batch, key) -> (placed state, metrics).

        The state that is given is rewritten. But for "pmap" this is a jitted function, which can be lowered for devices
        that are not there, and compiled with flags of XLA (`lowering.preset_flags`).
        """
        if self.mode == "pmap":
            return jax.pmap(
                step,
                AXIS,
                in_axes=(0, 0, None),
                out_axes=(0, None),
                devices=self.devices,
                donate_argnums=0,
            )
        if isinstance(self.everywhere, NamedSharding) and self.mode == "shard_map":
            everywhere, spread = PartitionSpec(), PartitionSpec(AXIS)
            step = jax.shard_map(
                step,
                mesh=self.everywhere.mesh,
                in_specs=(everywhere, spread, everywhere),
                out_specs=everywhere,
                # As under pmap: gradients are summed where the step says so, not where weights meet the batch.
                check_vma=False,
            )
        elif isinstance(self.everywhere, NamedSharding):
            step = _on_mesh(step, self.everywhere.mesh)
        return jax.jit(
            step,
            in_shardings=(self.everywhere, self.spread, self.everywhere),
            out_shardings=(self.everywhere, self.everywhere),
            donate_argnums=0,
            compiler_options=dict(flags) if flags else None,
        )

    def __str__(self) -> str:
        kind, processes = self.devices[0].device_kind, jax.process_count()
        hosts = f" in {processes} processes" if processes > 1 else ""
        return f"{self.mode} on {len(self.devices)} x {kind}{hosts}"


def _on_mesh(step: TrainStep, mesh: Any) -> TrainStep:
    """The step, traced where layers can look up the mesh that a batch is spread over."""

    def traced(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return step(state, batch, key)

    return traced


def layout(mode: Mode | Literal["auto"], devices: Sequence[jax.Device] | None = None) -> Layout:
    """The layout of a run on some devices, all by default; "auto" is "jit" on one device and "mesh" on several.

    Raises:
      UserError: "jit" in a job of several processes, processes that were not told of each other, or that have
        different numbers of devices.
    """
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        # A TPU knows its hosts by itself; each of them would take itself for the first.
        raise UserError(
            f"{jax.process_count()} processes share these devices: give --distributed to all of them"
        )
    # Each process holds rows that lie together, in the order of processes; JAX's own order may alternate between hosts.
    found = tuple(jax.devices() if devices is None else devices)
    found = tuple(sorted(found, key=lambda device: device.process_index))
    shares = {sum(one.process_index == other.process_index for other in found) for one in found}
    if len(shares) > 1:
        raise UserError(
            f"processes have different numbers of devices ({', '.join(map(str, sorted(shares)))}): expected the same "
            "for all, as each reads the same share of a batch"
        )
    if mode == "auto":
        mode = "jit" if len(found) == 1 else "mesh"
    if mode == "jit":
        if jax.process_count() > 1:
            raise UserError(
                f"--config.parallel=jit uses one device, but {jax.process_count()} processes were started; "
                "use mesh, shard_map or pmap"
            )
        found = found[:1]
    return Layout(mode, found)


def local_layout(devices: Sequence[jax.Device] | None = None) -> Layout:
    """The layout of evaluation: some devices of this process, all by default."""
    found = tuple(jax.local_devices() if devices is None else devices)
    return Layout("jit" if len(found) == 1 else "mesh", found)


def check_batch_size(batch_size: int, accumulate: int, devices: int) -> None:
    """Check that a batch spreads evenly over the devices; a `UserError` names the nearest sizes that do."""
    unit = devices * accumulate
    if batch_size % unit:
        below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
        near = f"{below} or {above}" if below else f"{above}"
        parts = f" and {accumulate} parts (--config.optim.accumulate)" if accumulate > 1 else ""
        raise UserError(
            f"--config.optim.batch_size={batch_size} does not spread evenly over {devices} devices{parts}; "
            f"use {near}"
        )


def put(tree: Tree, sharding: jax.sharding.Sharding) -> Tree:
    """Place a tree that every process has entirely. Nothing is sent between processes."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def one(x: Any) -> jax.Array:
        copies = [jax.device_put(x, device) for device in sharding.addressable_devices]
        return jax.make_array_from_single_device_arrays(copies[0].shape, sharding, copies)

    return jax.tree.map(one, whole_here(tree))


def whole_here(tree: Tree) -> Tree:
    """One copy of values that are the same on all devices, those of other processes included."""

    def one(x: Any) -> Any:
        elsewhere = isinstance(x, jax.Array) and not x.is_fully_addressable
        return x.addressable_data(0) if elsewhere else x

    return jax.tree.map(one, tree)
