"""`a2j bench`: networks timed against each other, in the paper's two parts (Sec. 4.4).

The first part reads a depth frame from disk and warps it to a normalized crop; the second is the network and its
decoding. Calls take turns, so that other load on the machine affects all of them alike.
"""

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2j_jax import __version__, geometry
from a2j_jax.data import augment, crops, pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation.tables import Table, cell, published_table, row_values
from a2j_jax.geometry import Float64
from a2j_jax.inference.exported import Runtime, onnx_of, running
from a2j_jax.inference.frames import read_frame
from a2j_jax.log import logger, progress
from a2j_jax.lowering import lowering_for, made_once
from a2j_jax.models.a2j import A2J, PoseNetwork, flops_per_frame, variable_shapes
from a2j_jax.models.anchors import Estimate, jit_with_decoding
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.models.resnet import ARCHITECTURES
from a2j_jax.synthetic.views import track_frames
from a2j_jax.tracks import TrackSpec

Key = TypeVar("Key", bound=Hashable)
Images = NDArray[np.float32]
Milliseconds = NDArray[np.float64]  # one number per round
Forward = Callable[[Images], Any]
OfficialOf = Callable[[Any, Any, int], Forward]
WARM_UP_ROUNDS = 1  # the first call of anything is slower, and medians forgive the second
FRAMES_ON_DISK = 4  # files are read in turn: reading times differ between them
# Networks that the paper timed, by their labels: table and row.
_PAPER_ROWS = {
    "global regression resnet50": ("table8", "global_regression"),
    "FCN with heat maps resnet50": ("table8", "heat_maps"),
    **{f"A2J {backbone}": ("table10", backbone) for backbone in ARCHITECTURES},
}


def input_speed(
    data_dir: str, track: TrackSpec, batch_size: int, workers: Sequence[int], seconds: float = 4.0
) -> list[dict[str, float]]:
    """How fast batches of training are read, with nothing else to do: a row for each number of worker processes.

    Args:
      data_dir: of a built data set with the split "train".
      track: of it.
      batch_size: B.
      workers: numbers of them; 0: a thread of this process reads.
      seconds: to measure each for, once its buffers have been filled.

    Returns:
      "workers", "images_per_second", and the "cpu_us" of this process for an image: with 0 workers all it takes.
    """
    rows = []
    for count in workers:
        batches = pipeline.train_batches(
            data_dir, track, "train", batch_size, seed=0, workers=count
        )
        with closing(batches):
            for _ in range(4 * max(count, 1)):
                next(batches)
            started, cpu, images = time.perf_counter(), time.process_time(), 0
            while (elapsed := time.perf_counter() - started) < seconds:
                next(batches)
                images += batch_size
            cpu = time.process_time() - cpu
        row = {
            "workers": count,
            "images_per_second": images / elapsed,
            "cpu_us": 1e6 * cpu / images,
        }
        logger.info(f"{count} workers: {row['images_per_second']:,.0f} images/s")
        rows.append(row)
    return rows


def input_table(rows: Sequence[Mapping[str, float]], title: str) -> Table:
    """What `input_speed` found."""
    cells = [
        (f"{row['workers']:.0f}", f"{row['images_per_second']:,.0f}", f"{row['cpu_us']:.0f}")
        for row in rows
    ]
    alone = [1e6 / row["cpu_us"] for row in rows if row["workers"] == 0]
    notes = [f"{rate:,.0f} images per second of one core, without workers." for rate in alone]
    notes.append(f"This host has {os.cpu_count()} cores.")
    columns = ("workers", "images/s of the host", "own us of CPU per image")
    return Table(title, columns, tuple(cells), notes=tuple(notes))


def spread(values: Milliseconds) -> dict[str, float]:
    """Median and quartiles of some numbers."""
    found = np.percentile(values, (50, 25, 75)).tolist()
    return dict(zip(("median", "lower", "upper"), found, strict=True))


def take_turns(
    calls: Mapping[Key, Callable[[], Any]],
    rounds: int,
    *,
    advance: Callable[[int], Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, Milliseconds]:
    """Time calls against each other: every round runs each once, every other round in the opposite order.

    A call leaves its traces (caches, threads that still wait for work) for the next one: turning the order around
    gives no call the same predecessor each time. A call must not return before its work is done: JAX returns at once
    and computes later. `advance` is called with 1 after every call, those of the warm-up too.

    Returns:
      Name -> milliseconds of each of the `rounds` after the `WARM_UP_ROUNDS`.
    """
    found: dict[Key, list[float]] = {key: [] for key in calls}
    for number in range(-WARM_UP_ROUNDS, rounds):
        order = list(calls)
        for key in reversed(order) if number % 2 else order:
            started = clock()
            calls[key]()
            found[key].append(1e3 * (clock() - started))
            if advance is not None:
                advance(1)
    return {key: np.array(values[WARM_UP_ROUNDS:]) for key, values in found.items()}


class FrameFile(NamedTuple):
    """A depth frame on disk and where to look in it; one of the two is None."""

    path: Path  # PNG, of 16-bit mm or packed as NYU's
    center_uvd: Float64 | None  # (3,) px, px, mm, on a track that crops by center
    box_px: Float64 | None  # (4,) on one that crops by box


def write_frames(folder: Path, track: TrackSpec, count: int) -> list[FrameFile]:
    """Render hands or bodies as the track's camera would see them, before a wall, and write them into a folder.

    The files are packed as NYU's where the track's are, and PNG of 16-bit mm for all others; the same ones every time.
    """
    by_center = track.crop_by == "center"
    files = []
    for number, truth in enumerate(track_frames(track, count)):
        depth, path = truth["frame"], folder / f"{number:04d}.png"
        if track.frame_format == "nyu_packed":
            depth = np.stack([depth * 0, depth >> 8, depth & 255], axis=-1).astype(np.uint8)
        Image.fromarray(depth).save(path)
        center, box = (truth[name].astype(np.float64) for name in ("center_uvd", "window_px"))
        files.append(FrameFile(path, center if by_center else None, None if by_center else box))
    return files


def read_and_warp_of(track: TrackSpec) -> Callable[[FrameFile], Images]:
    """The first part: a file on disk -> normalized crop (S, S, 1) float32 in host memory.

    Read, cut and resized by the functions that `a2j predict` uses; normalized on the host's processor, as the official
    program does it, whichever device the network runs on.

    Raises:
      UserError: JAX_PLATFORMS excludes the host's processor.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise UserError(
            "JAX_PLATFORMS leaves out the CPU, on which crops are normalized: add it, e.g. cuda,cpu"
        ) from error
    stretched = track.frame_format == "stretch8"
    if not stretched:  # frames are read in mm, whatever unit the data set is stored in
        track = dataclasses.replace(track, storage_unit_mm=1.0)
    normalize = jax.jit(partial(augment.normalize, track=track))

    def read_and_warp(frame: FrameFile) -> Images:
        depth: Any = read_frame(frame.path, track.frame_format)
        if stretched:
            depth = crops.to_storage_units(depth, track)
        crop = crops.cut(depth, track, frame.center_uvd, frame.box_px)
        image = geometry.center_crop(crop.canvas, track.crop_size)
        theta = 0.0 if frame.center_uvd is None else frame.center_uvd[2]
        with jax.default_device(host):
            return np.asarray(normalize(image, np.float32(theta)))[..., None]

    return read_and_warp


def forward_of(
    model: PoseNetwork, variables: Any, track: TrackSpec, batch_size: int, runtime: Runtime = "jax"
) -> Callable[[Images], Estimate]:
    """The second part, compiled: crops (B, S, S, 1) in host memory -> `Estimate` in host memory.

    One device works, JAX's default; transfers are part of it, and it is done when the call returns.

    Args:
      model, variables: the network.
      track: whose crops they are.
      batch_size: B.
      runtime: another than JAX runs the network's translation to ONNX, on the processor; where `model.dtype` is
        bfloat16, OpenVINO computes in it.
    """
    size = track.crop_size
    if runtime == "jax":
        forward = _by_jax(model, variables, size, batch_size)
    else:
        forward = _translated(model, variables, size, runtime)
    forward(np.zeros((batch_size, size, size, 1), np.float32))  # compiles
    return forward


def _by_jax(
    model: PoseNetwork, variables: Any, size: int, batch_size: int
) -> Callable[[Images], Estimate]:
    on_device = jax.device_put(prepare_for_inference(model, variables, size, batch_size))
    network, decode = _network_and_decoding(model, size)

    def forward(images: Images) -> Estimate:
        return jax.device_get(decode(network(on_device, images)))

    return forward


def _translated(
    model: PoseNetwork, variables: Any, size: int, runtime: Runtime
) -> Callable[[Images], Estimate]:
    """Network and decoding by another runtime than JAX, for any number of crops."""
    precision = "float32" if model.dtype is None else str(jnp.dtype(model.dtype))
    plain = model.clone(dtype=None)  # ONNX has the network in float32
    with lowering_for("gpu"):  # without what is for XLA's CPU compiler alone
        quick = prepare_for_inference(plain, variables, size)

    def network(images: jax.Array) -> dict[str, jax.Array]:
        return plain.decode(plain.apply(quick, images, train=False), size)._asdict()

    rows = jax.export.symbolic_shape("batch")[0]
    inputs = {"images": jax.ShapeDtypeStruct((rows, size, size, 1), jnp.float32)}
    contents = onnx_of(network, inputs, model.label).SerializeToString()
    run = running(contents, runtime, precision)

    def forward(images: Images) -> Estimate:
        found = run({"images": images})
        return Estimate(found["joints"], found["confidence"])  # type: ignore[arg-type]  # numpy's

    return forward


@made_once
def _network_and_decoding(
    model: PoseNetwork, crop_size: int
) -> tuple[Callable[..., Any], Callable[[Any], Estimate]]:
    return jit_with_decoding(
        partial(model.apply, train=False), partial(model.decode, crop_size=crop_size)
    )


def frames_per_second(forward: Forward, crop_size: int, rounds: int) -> dict[str, float]:
    """Time the second part alone, one frame at a time, on crops of noise: their contents do not matter.

    Returns:
      Frames per second at the median; median and quartiles in milliseconds.
    """
    shape = 1, crop_size, crop_size, 1
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    found = spread(take_turns({"": partial(forward, images)}, rounds)[""])
    median = found.pop("median")
    return {"frames_per_second": 1e3 / median, "milliseconds": median, **found}


def parameters(variables: Any) -> int:
    """Trainable numbers of a network; batch statistics are none."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(variables["params"]))


def random_variables(model: PoseNetwork, track: TrackSpec) -> Any:
    """Variables of an untrained network, the same ones every time.

    Drawn by numpy: compiling the initialization of a network takes longer than timing it.
    """
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> NDArray[np.float32]:
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        scale = np.sqrt(max(np.prod(leaf.shape[:-1]), 1), dtype=np.float32)
        return rng.standard_normal(leaf.shape, np.float32) / scale

    return jax.tree_util.tree_map_with_path(draw, variable_shapes(model, track.crop_size))


@dataclass(frozen=True)
class Network:
    """A network to time, with a name to print."""

    name: str
    model: PoseNetwork
    variables: Any
    runtime: Runtime = "jax"

    @property
    def is_official(self) -> bool:
        """Whether it is the network of the official program, of any width and depth."""
        model = self.model
        # A subclass may have any trunk.
        return type(model) is A2J and model.proposals and not model.one_branch


def measure(
    networks: Sequence[Network],
    track: TrackSpec,
    batch_sizes: Sequence[int],
    rounds: int,
    files: Sequence[FrameFile],
    official_of: OfficialOf | None = None,
) -> dict[str, Any]:
    """Time both parts for some networks for crops of a track, on at least one file; logs its progress.

    `official_of` is as `torch_reference.official_forward_of`; None: no comparison.

    Returns:
      Times in ms per frame, with their quartiles: "read_and_warp_ms", from disk to a normalized crop in host memory,
      and "networks", each at every batch size, see `times_of`.
    """
    read_and_warp = read_and_warp_of(track)
    crops_read = np.stack([read_and_warp(file) for file in files])
    # Part and network; frames of a call.
    calls: dict[tuple[str, int], Callable[[], Any]] = {
        ("read", len(files)): lambda: [read_and_warp(file) for file in files]
    }
    for number, network in enumerate(networks):
        sizes = ", ".join(map(str, batch_sizes))
        logger.info(f"compiling {network.name}, batch {sizes} ({number + 1} of {len(networks)})")
        model, variables = network.model, jax.device_put(network.variables)
        official, first = None, _first_of(networks, number)
        if official_of is not None and network.is_official and first == number:
            official = official_of(model, variables, track.crop_size)
        for size in batch_sizes:
            images = np.resize(crops_read, (size, *crops_read.shape[1:]))
            calls[f"ours {number}", size] = partial(
                forward_of(model, variables, track, size, network.runtime), images
            )
            if official is not None:
                calls[f"official {number}", size] = partial(official, images)
    with progress("timing", (WARM_UP_ROUNDS + rounds) * len(calls), "calls") as advance:
        times = take_turns(calls, rounds, advance=advance)
    per_frame = {(part, frames): ms / frames for (part, frames), ms in times.items()}
    reading = spread(per_frame["read", len(files)])
    rows = []
    for number, network in enumerate(networks):
        about = network.name, parameters(network.variables), flops_per_frame(network.model, track)
        for size in batch_sizes:
            ours = per_frame[f"ours {number}", size]
            official_ms = per_frame.get((f"official {_first_of(networks, number)}", size))
            rows.append(times_of(*about, size, reading["median"], ours, official_ms))
    return {"read_and_warp_ms": reading, "networks": rows}


def _first_of(networks: Sequence[Network], number: int) -> int:
    """The first of the networks that only differ from this one in their runtime."""
    variables = networks[number].variables
    return next(i for i, one in enumerate(networks) if one.variables is variables)


def times_of(
    network: str,
    parameters: int,
    flops: float,
    batch_size: int,
    reading_ms: float,
    forward: Milliseconds,
    official: Milliseconds | None,
) -> dict[str, Any]:
    """The times of a network at a batch size, JSON-ready.

    Args:
      network, parameters: its name, and its trainable numbers.
      flops: floating-point operations per frame.
      batch_size: frames that go through the network at once.
      reading_ms: the first part of a frame.
      forward: ms per frame of the network and its decoding.
      official: of the official network in PyTorch, with the same weights, on the same crops; None: not timed.
    """
    times = spread(forward)
    total = reading_ms + times["median"]
    compared = None
    if official is not None:
        compared = {
            "forward_ms": spread(official),
            "rounds_ms": official.tolist(),
            # Round by round: a machine that drifts slows both.
            "times_as_fast": spread(official / forward),
        }
    return {
        "network": network,
        "parameters": parameters,
        "flops_per_frame": flops,
        "batch_size": batch_size,
        "forward_ms": times,
        "rounds_ms": forward.tolist(),
        "total_ms": total,
        "frames_per_second": 1e3 / total,
        "official": compared,
    }


def machine() -> dict[str, str]:
    """The conditions of the measurement: device, other load, threads, versions."""
    kind, count = jax.devices()[0].device_kind, jax.device_count()
    used = f"{kind}, 1 of {count} used" if count > 1 else kind
    versions = [f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy")]
    # Those that this process may run on; macOS does not say.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "device": f"{used} ({platform.machine()})",
        "load": f"{load} before the first call",
        "threads": f"{cores} (as many as processor cores)",
        "versions": ", ".join(
            [f"a2j_jax {__version__}", f"Python {platform.python_version()}", *versions]
        ),
    }


def speed_table(found: Mapping[str, Any], title: str, track: TrackSpec) -> Table:
    """Every network that `measure` found at every batch size, a row each: both parts, their sum, frames per second.

    Where the paper timed a network on the track, its frames/s are the last column.
    """
    reading = found["read_and_warp_ms"]
    paper = [_paper_fps(row, track) for row in found["networks"]]
    columns = ["network", "M weights", "GFLOP", "batch", "read, warp", "forward", "sum", "frames/s"]
    rows = [
        (
            row["network"],
            _three_digits(row["parameters"] / 1e6),
            _three_digits(row["flops_per_frame"] / 1e9),
            str(row["batch_size"]),
            _three_digits(reading["median"]),
            _with_quartiles(row["forward_ms"]),
            _three_digits(row["total_ms"]),
            f"{row['frames_per_second']:.1f}",
            *([cell(fps, "g")] if any(paper) else []),
        )
        for row, fps in zip(found["networks"], paper, strict=True)
    ]
    columns += ["paper"] if any(paper) else []
    notes = (
        "Milliseconds per frame: medians (and quartiles). Read, warp: from a PNG on disk (in the system's cache) to a "
        f"normalized crop, one frame after the other; {_with_quartiles(reading)}. Forward: from "
        "crops in host memory to joints in host memory, post-processing included. GFLOP: of one frame's forward, by "
        "XLA's count.",
        *paper_speed(track),
    )
    return Table(title, tuple(columns), tuple(rows), notes=notes)


def _paper_fps(row: Mapping[str, Any], track: TrackSpec) -> float | None:
    """The paper's frames per second of a network on a track, one frame at a time; None where it has none."""
    where = _PAPER_ROWS.get(row["network"])
    if where is None or row["batch_size"] != 1:
        return None
    return row_values(*where, track.name).get("fps")


def comparison_table(found: Mapping[str, Any]) -> Table:
    """Ours beside the official network in PyTorch, where that was timed."""
    rows = []
    for row in found["networks"]:
        if row["official"] is not None:
            times = [_with_quartiles(one["forward_ms"]) for one in (row, row["official"])]
            speedup = "{median:.2f} ({lower:.2f}–{upper:.2f})".format(
                **row["official"]["times_as_fast"]
            )
            rows.append((row["network"], str(row["batch_size"]), *times, speedup))
    columns = ("network", "batch", "a2j_jax", "PyTorch", "times as fast")
    note = (
        "The official network and its post-processing in PyTorch, in float32 as it is published, with the same weights "
        "on the same crops. Times as fast: PyTorch's time divided by ours, round by round."
    )
    title = "Forward, beside the official network in PyTorch"
    return Table(title, columns, tuple(rows), notes=(note,))


def paper_speed(track: TrackSpec) -> tuple[str, ...]:
    """A2J's speed on a track in the paper (Sec. 4.4); empty where it has none."""
    table = published_table(track.name)
    if table is None:
        return ()
    found = table.speed
    return (
        f"The paper: {found.fps:g} frames/s on {found.device}, {found.read_and_warp_ms:g} ms of it to read and warp "
        f"and {found.forward_and_post_ms:g} ms for forward and post-processing (Sec. 4.4); column: Tables 8 and 10.",
    )


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _with_quartiles(found: Mapping[str, float]) -> str:
    return "{median} ({lower}–{upper})".format(
        **{name: _three_digits(ms) for name, ms in found.items()}
    )
