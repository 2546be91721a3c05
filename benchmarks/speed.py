"""Everything of docs/speed.md that is timed, by one command: in turns with the official network in PyTorch, where there
is one, and with nothing else running.

    python benchmarks/speed.py                        # all of it
    python benchmarks/speed.py training start         # some of it
    python benchmarks/speed.py gpu_inference gpu_training   # on a GPU; `make gpu-check` does this and more
    python benchmarks/speed.py --write_docs           # the tables of docs/speed.md, from the last results

Every result is a line of benchmarks/results/speed.jsonl, with the machine, its load and the versions of that day.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # PyTorch's idle threads are not to spin

import jax
import numpy as np

from a2j_jax.config_files import load_config
from a2j_jax.evaluation.tables import Table, markdown
from a2j_jax.log import log_to_terminal, logger
from a2j_jax.losses import objective
from a2j_jax.models.a2j import A2J
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.sharding import TrainState
from a2j_jax.tools import speed
from a2j_jax.tracks import TrackSpec, get_track, with_crop_size
from a2j_jax.training.loop import keep_freed_memory
from a2j_jax.training.step import adam_with_l2, make_train_step

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results" / "speed.jsonl"
PAGE = REPOSITORY / "docs" / "speed.md"
RUNTIMES = ("jax", "onnxruntime", "openvino")
# Name -> dtype of the network, precision of products and convolutions.
PRECISIONS = {
    "float32": (None, "float32"),
    "TF32": (None, "tensorfloat32"),
    "bfloat16": ("bfloat16", "tensorfloat32"),
}
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 1e-4
Record = dict[str, Any]


def network(backbone: str, crop_size: int) -> tuple[A2J, TrackSpec]:
    """A2J for NYU's joints; "quickstart": the network of that config."""
    if backbone == "quickstart":
        experiment = resolve(load_config("quickstart"))
        assert isinstance(experiment.model, A2J)
        return experiment.model, experiment.track
    track = with_crop_size(get_track("nyu"), crop_size)
    return A2J(track.num_joints, backbone=backbone), track


def inference(rounds: int) -> Iterator[Record]:
    """Crops in host memory to joints in host memory, for each runtime."""
    from a2j_jax.tools.torch_reference import official_forward_of

    settings = [("resnet50", 176, n) for n in (1, 8, 32)] + [("resnet50", 288, 1)]
    settings += [(name, 176, n) for name in ("resnet18", "resnet34") for n in (1, 8)]
    for backbone, size, count in settings:
        model, track = network(backbone, size)
        variables = speed.random_variables(model, track)
        images = np.random.default_rng(0).standard_normal((count, size, size, 1), np.float32)
        official = official_forward_of(model, variables, size)
        peer, what = partial(official, images), f"A2J {backbone}, {size} px, batch {count}"
        # Each with PyTorch alone: ONNX Runtime's threads stay awake, and would take 20 ms from what follows.
        for runtime, dtype in [
            ("jax", None),
            ("onnxruntime", None),
            ("openvino", None),
            ("openvino", "bfloat16"),
        ]:
            forward = speed.forward_of(model.clone(dtype=dtype), variables, track, count, runtime)  # type: ignore[arg-type]
            way = runtime if dtype is None else f"{runtime}, {dtype}"
            calls = {"PyTorch": peer, way: partial(forward, images)}
            yield from compared(what, speed.take_turns(calls, rounds))


def training(rounds: int) -> Iterator[Record]:
    """A training step on made-up crops: forward, losses, gradients, Adam; freed memory is kept, as `a2j train` does."""
    keep_freed_memory()
    for backbone, size, count in (
        ("resnet50", 176, 8),
        ("resnet50", 176, 16),
        ("quickstart", 80, 32),
    ):
        calls = {name: step_of(name, backbone, size, count) for name in ("PyTorch", "jax")}
        what = f"A2J {backbone}, {size} px, batch {count}"
        yield from compared(what, speed.take_turns(calls, rounds))


def gpu_inference(rounds: int, batches: Sequence[int] = (1, 8, 64, 256)) -> Iterator[Record]:
    """As `inference`, on a GPU, in its precisions; PyTorch as published: float32, convolutions by TF32."""
    from a2j_jax.tools.torch_reference import device_beside_jax, official_forward_of

    model, track = network("resnet50", 176)
    variables = speed.random_variables(model, track)
    device = device_beside_jax()
    assert device is not None
    official = official_forward_of(model, variables, track.crop_size, device)
    for count in batches:
        shape = (count, track.crop_size, track.crop_size, 1)
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
        calls: dict[str, Callable[[], Any]] = {"PyTorch": partial(official, images)}
        for name, (dtype, precision) in PRECISIONS.items():
            with jax.default_matmul_precision(precision):
                forward = speed.forward_of(model.clone(dtype=dtype), variables, track, count)
            calls[name] = partial(_by_precision, precision, partial(forward, images))
        what = f"A2J resnet50, 176 px, batch {count}"
        yield from compared(what, speed.take_turns(calls, 5 * rounds))


def gpu_training(rounds: int, batches: Sequence[int] = (8, 64)) -> Iterator[Record]:
    """As `training`, on a GPU, in its precisions."""
    for count in batches:
        calls = {"PyTorch": step_of("PyTorch", "resnet50", 176, count)}
        for name, (dtype, precision) in PRECISIONS.items():
            with jax.default_matmul_precision(precision):
                calls[name] = step_of("jax", "resnet50", 176, count, dtype)
        what = f"A2J resnet50, 176 px, batch {count}"
        yield from compared(what, speed.take_turns(calls, 5 * rounds))


def _by_precision(precision: str, call: Callable[[], Any]) -> Any:
    with jax.default_matmul_precision(precision):
        return call()


def step_of(
    library: str, backbone: str, size: int, count: int, dtype: str | None = None
) -> Callable[[], Any]:
    """A training step in a library, which goes on from its own last state."""
    model, track = network(backbone, size)
    model = model.clone(dtype=dtype)
    variables = speed.random_variables(model, track)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, size, size, 1), np.float32)
    joints = rng.uniform(0, size, (count, model.num_joints, 3)).astype(np.float32)
    weight = track.loss_lambda
    if library == "PyTorch":
        from a2j_jax.tools.torch_reference import device_beside_jax, official_step_of

        official = official_step_of(
            model,
            variables,
            size,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            regression_weight=weight,
            device=device_beside_jax() or "cpu",
        )
        return partial(official, images, joints)
    optimizer = adam_with_l2(LEARNING_RATE, WEIGHT_DECAY)
    losses = partial(objective, crop_size=size, regression_weight=weight)
    step = make_train_step(model, optimizer, lambda batch, _: (batch["images"], batch), losses)
    batch = {"images": images, "joints": joints, "valid": np.ones(joints.shape[:2], bool)}
    state = [TrainState.create(variables, optimizer)]
    compiled = jax.jit(step, donate_argnums=0).lower(state[0], batch, jax.random.key(0)).compile()
    state[0] = jax.device_put(state[0])

    def run() -> None:
        state[0], metrics = compiled(state[0], batch, jax.random.key(0))
        jax.block_until_ready((state[0], metrics))

    return run


def memory(rounds: int) -> Iterator[Record]:
    """The largest memory of a process that trains: a few steps, without PyTorch or JAX beside it."""
    del rounds
    found = {}
    for library in ("PyTorch", "jax"):
        command = [sys.executable, __file__, "--peak", library]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[library] = float(done.stdout.split()[-1])
    yield {
        "what": "A2J resnet50, 176 px, batch 8",
        "way": "jax",
        "unit": "GiB",
        "ours": {"median": found["jax"]},
        "peer": {"median": found["PyTorch"]},
        "ratio": {"median": found["jax"] / found["PyTorch"]},
    }


def peak(library: str) -> float:
    """GiB that this process held at most, over four training steps."""
    step = step_of(library, "resnet50", 176, 8)
    if library == "jax":
        keep_freed_memory()  # as `a2j train` does once the step is compiled
    for _ in range(4):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def start(rounds: int) -> Iterator[Record]:
    """A process of `a2j predict`, from its start to its end, when its programs have been compiled before."""
    for backbone in ("quickstart", "resnet50"):
        model, track = network(backbone, 176)
        config = load_config("quickstart") if backbone == "quickstart" else config_of("nyu")
        with tempfile.TemporaryDirectory() as folder:
            save_variables(f"{folder}/run", speed.random_variables(model, track), config)
            (frame,) = speed.write_frames(Path(folder), track, 1)
            assert frame.center_uvd is not None
            place = ["--center", ",".join(str(x) for x in frame.center_uvd)]
            a2j = [sys.executable, "-m", "a2j_jax"]
            quiet = partial(subprocess.run, capture_output=True, check=True)
            quiet([*a2j, "export", f"{folder}/run", f"{folder}/hand.onnx"])
            calls = {}
            for way, name, options in (
                ("a run", "run", []),
                ("hand.onnx", "hand.onnx", []),
                ("hand.onnx, openvino", "hand.onnx", ["--runtime", "openvino"]),
            ):
                command = [*a2j, "predict", f"{folder}/{name}", str(frame.path), *place, "--json"]
                calls[way] = partial(quiet, [*command, *options])
            times = speed.take_turns(calls, rounds)
        for way, ms in times.items():
            yield alone(f"a2j predict, A2J {backbone}: {way}", ms / 1e3, "s")


def config_of(track: str) -> Any:
    """A config for that track, to save a checkpoint with."""
    from a2j_jax.config import Config

    return Config(name="speed", track=track)


def reading(rounds: int) -> Iterator[Record]:
    """A frame on disk to a normalized crop."""
    for name in ("nyu", "hands2017", "itop_front"):
        track = get_track(name)
        with tempfile.TemporaryDirectory() as folder:
            files = speed.write_frames(Path(folder), track, speed.FRAMES_ON_DISK)
            call = partial(each, speed.read_and_warp_of(track), files)
            times = speed.take_turns({"": call}, 5 * rounds)[""]
        width, height = track.frame_size
        what = f"reading and warping a {track.frame_format} PNG, {width}x{height}"
        yield alone(what, times / len(files), "ms")


def each(function: Callable[[Any], Any], items: list[Any]) -> None:
    """Calls it with one after the other."""
    for item in items:
        function(item)


def building(rounds: int) -> Iterator[Record]:
    """Raw frames to stored crops, with one process."""
    del rounds
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "build_throughput.py")]
    command += ["--frames", "1000", "--tracks", "nyu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    frames_per_second = float(done.stdout.splitlines()[2].split()[2])  # made-up frames come first
    yield alone("a2j build nyu, packed PNG", np.array([frames_per_second]), "frames/s/core")


def compared(what: str, times: dict[str, speed.Milliseconds]) -> Iterator[Record]:
    """A record for each way, beside PyTorch's of the same rounds."""
    peer = times.pop("PyTorch")
    for way, ours in times.items():
        yield {
            "what": what,
            "way": way,
            "unit": "ms",
            "ours": speed.spread(ours),
            "peer": speed.spread(peer),
            "ratio": speed.spread(peer / ours),
        }


def alone(what: str, values: Any, unit: str) -> Record:
    """A record of something that has no peer."""
    return {"what": what, "way": "", "unit": unit, "ours": speed.spread(values)}


# Name -> function of the number of rounds, heading of the last column.
MEASURED: dict[str, tuple[Callable[[int], Iterator[Record]], str]] = {
    "inference": (inference, "times as fast"),
    "training": (training, "times as fast"),
    "memory": (memory, "times as much"),
    "start": (start, ""),
    "reading": (reading, ""),
    "building": (building, ""),
    "gpu_inference": (gpu_inference, "times as fast"),
    "gpu_training": (gpu_training, "times as fast"),
}
ON_A_PROCESSOR = [kind for kind in MEASURED if not kind.startswith("gpu_")]


def table(kind: str, records: list[Record]) -> str:
    """The last result of everything of a kind, as Markdown."""
    latest = {(one["what"], one["way"]): one for one in records if one["kind"] == kind}
    if not latest:
        return f"NOT RUN: `python benchmarks/speed.py {kind}` measures it."
    columns = ("", "runtime", "a2j_jax", "PyTorch", MEASURED[kind][1])
    rows, facts = [], set()
    for (what, way), one in latest.items():
        units = {"ours": one["unit"], "peer": one["unit"], "ratio": ""}
        cells = [_shown(one[name], unit) if name in one else "" for name, unit in units.items()]
        rows.append((what, way, *cells))
        told = ", ".join(one[name] for name in ("device", "load", "versions"))
        facts.add(f"{one['date']}: {told}, PyTorch {one['torch']}")
    kept = [k for k in range(len(columns)) if any(row[k] for row in rows)]
    shown = tuple(tuple(row[k] for k in kept) for row in rows)
    return markdown(Table(kind, tuple(columns[k] for k in kept), shown, notes=tuple(sorted(facts))))


def _shown(found: dict[str, float], unit: str) -> str:
    def digits(value: float) -> str:
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

    text = digits(found["median"])
    if len(found) > 1 and found["lower"] != found["upper"]:
        text += f" ({digits(found['lower'])}–{digits(found['upper'])})"
    return f"{text} {unit}".strip()


def write_docs(page: str, records: list[Record]) -> str:
    """The page with its tables anew: each stands between <!-- measured: KIND --> and <!-- end -->."""

    def replaced(match: re.Match[str]) -> str:
        return f"{match[1]}\n{table(match[2], records).strip()}\n{match[3]}"

    return re.sub(
        r"(<!-- measured: (\w+) -->)\n.*?\n(<!-- end -->)", replaced, page, flags=re.DOTALL
    )


def read_results() -> list[Record]:
    """All that were recorded, the earliest first."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def main() -> None:
    """Measures, prints and records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "kinds", nargs="*", default=ON_A_PROCESSOR, metavar="KIND", help=", ".join(MEASURED)
    )
    parser.add_argument("--rounds", type=int, default=10, help="of all calls (default: 10)")
    parser.add_argument("--write_docs", action="store_true")
    parser.add_argument("--peak", choices=("PyTorch", "jax"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        return print(peak(options.peak))
    if options.write_docs:
        PAGE.write_text(write_docs(PAGE.read_text(), read_results()))
        return None
    asked = [kind for kind in options.kinds if kind.startswith("gpu_")]
    if asked and jax.default_backend() == "cpu":
        parser.error(f"{', '.join(asked)}: JAX sees no GPU here: pip install 'a2j-jax[cuda]'")
    if unknown := set(options.kinds) - set(MEASURED):
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(MEASURED)}")
    log_to_terminal()
    import torch

    facts = {"date": date.today().isoformat(), **speed.machine(), "torch": torch.__version__}
    for line in facts.items():
        logger.info(": ".join(line))
    RESULTS.parent.mkdir(exist_ok=True)
    for kind in options.kinds:
        started = time.perf_counter()
        for found in MEASURED[kind][0](options.rounds):
            with open(RESULTS, "a") as results:
                results.write(json.dumps({"kind": kind, **facts, **found}) + "\n")
            print(
                found["what"],
                found["way"],
                *(_shown(found[n], "") for n in ("ours", "peer", "ratio") if n in found),
                sep="  ",
                flush=True,
            )
        logger.info(f"{kind}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
