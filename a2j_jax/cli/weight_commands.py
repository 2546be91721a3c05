"""`a2j convert` and `a2j export`: weights from elsewhere, and networks as one file."""

import argparse
from pathlib import Path

from a2j_jax.cli.arguments import (
    Command,
    add_camera,
    add_overwrite,
    camera_of,
    frame_size,
    path_name,
    place_name,
    step_name,
)
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.log import logger

# --- a2j convert

_CONVERT_EXAMPLES = """\
examples:
  a2j convert NYU.pth nyu_a2j --track nyu
  a2j convert weights.safetensors itop_a2j --track itop_front
  a2j convert resnet50-0676ba61.pth weights/resnet50.safetensors --imagenet

Reads .safetensors, .npz, and .pth with the extra a2j-jax[torch] (weights only: nothing in a file is executed).
"""


def _add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j convert`."""
    add = parser.add_argument
    add("source", type=path_name, help="weights file: .pth (.pt, .tar), .safetensors or .npz")
    add("out", type=path_name, help="folder to make; with --imagenet a .safetensors or .npz file")
    kind = parser.add_mutually_exclusive_group(required=True)
    track = "A2J's weights: the track they were trained on"
    kind.add_argument("--track", type=path_name, help=track)
    trunk = "a ResNet of torchvision or timm, to start from: checked, and written without its classifier"
    kind.add_argument("--imagenet", action="store_true", help=trunk)
    add("--backbone", default="resnet50", choices=("resnet18", "resnet34", "resnet50"))
    add_overwrite(parser)


def _run_convert(arguments: argparse.Namespace) -> None:
    """Convert."""
    from a2j_jax.config import Config, ModelConfig
    from a2j_jax.files import check_output
    from a2j_jax.log import logger
    from a2j_jax.models.a2j import variable_shapes
    from a2j_jax.runs.checkpoints import save_variables
    from a2j_jax.runs.experiment import resolve
    from a2j_jax.weights.convert import (
        imagenet_trunk,
        read_state_dict,
        variables_from_official,
        write_state_dict,
    )

    if arguments.imagenet:
        check_output(
            arguments.out, arguments.overwrite, "the file to write,", inputs=[arguments.source]
        )
    track_name = "nyu" if arguments.imagenet else arguments.track
    config = Config(
        name=f"converted_{track_name}",
        track=track_name,
        model=ModelConfig(backbone=arguments.backbone),
    )
    experiment = resolve(config)
    track, model = experiment.track, experiment.model
    expected = variable_shapes(model, track.crop_size)
    state_dict = read_state_dict(arguments.source)
    if arguments.imagenet:
        trunk = imagenet_trunk(state_dict, expected, arguments.source)
        write_state_dict(arguments.out, trunk, arguments.overwrite)
        logger.info(
            f"{arguments.out}: {model.backbone} of ImageNet, {len(trunk)} tensors, no classifier"
        )
        return
    variables = variables_from_official(state_dict, expected, source=arguments.source)
    save_variables(arguments.out, variables, config)
    logger.info(f"{arguments.out}: {track.name} checkpoint with {model.backbone}")


CONVERT = Command(
    "Turn weights in the official A2J naming into a checkpoint, or ImageNet's into a file without PyTorch.",
    _CONVERT_EXAMPLES,
    _add_convert_arguments,
    _run_convert,
)


# --- a2j export

_EXPORT_EXAMPLES = """\
examples:
  a2j export runs/quickstart hand.stablehlo
  a2j export runs/quickstart hand.stablehlo --camera 475,475,320,240 --frame_size 640,480
  a2j export runs/quickstart hand.onnx
  a2j export runs/quickstart hand.onnx --int8
  a2j export nyu_a2j nyu.stablehlo --platform cpu,cuda,tpu
  a2j export runs/quickstart hand.npz       # the weights alone: in place of a run

The function takes a depth crop in mm and its center, and returns joints in mm, for any number of crops; weights and
camera are inside. It is loaded back and compared with the checkpoint before it is written. hand.json beside it says
what it takes and what it is. docs/export.md has the ten lines that load it, and those that cut a crop.
A .npz holds the weights in half precision, config and track: `a2j predict`, `a2j_jax.load` and
--config.model.init_from take it where they take a run.
"""


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j export`."""
    add = parser.add_argument
    add("checkpoint", type=place_name, metavar="RUN", help="a run, or what `a2j convert` made")
    add("out", type=path_name, help="file to write, e.g. hand.stablehlo")
    add("--format", help="stablehlo, onnx or weights (by the file's name; else stablehlo)")
    add("--platform", help="to run StableHLO on: cpu (default), cuda, rocm, tpu, or several")
    add("--int8", action="store_true", help="ONNX: convolutions in 8 bits; says what it costs")
    add("--step", type=step_name, default="best", help="best, latest or a step number (best)")
    add("--weights", default="best", choices=("best", "raw", "ema"), help="average or not (best)")
    add_camera(parser)
    add("--frame_size", type=frame_size, help="WIDTH,HEIGHT of its frames, px (the track's)")
    add_overwrite(parser)


def _one_of(text: str, known: tuple[str, ...], option: str) -> str:
    if text in known:
        return text
    near = did_you_mean(text, known, 0.4)
    raise UserError(f"{option} {text!r}: expected one of {', '.join(known)}{near}")


def _run_export(arguments: argparse.Namespace) -> None:
    """Export."""
    import dataclasses

    from a2j_jax.files import check_output
    from a2j_jax.inference import export
    from a2j_jax.inference.exported import description_of
    from a2j_jax.inference.predictor import Predictor
    from a2j_jax.runs.load import restore

    out = Path(arguments.out)
    by_name = {".onnx": "onnx", ".npz": "weights"}.get(out.suffix, "stablehlo")
    kind = _one_of(arguments.format or by_name, export.FORMATS, "--format")
    if kind == "weights":
        return _weights(arguments, out)
    if arguments.platform and kind == "onnx":
        raise UserError("--platform is of StableHLO: ONNX runs wherever its runtime does")
    if arguments.int8 and kind != "onnx":
        raise UserError("--int8 is of ONNX: name a file such as hand.onnx")
    named = (arguments.platform or "cpu").split(",")
    platforms = [_one_of(name, export.PLATFORMS, "--platform") for name in named]
    description = check_output(description_of(out), arguments.overwrite, "its description")
    check_output(out, arguments.overwrite, "the file to write,", beside=description)
    camera = camera_of(arguments)
    found = restore(arguments.checkpoint, arguments.step, arguments.weights)
    track = found.track
    if arguments.frame_size is not None:
        track = dataclasses.replace(track, frame_size=arguments.frame_size)
    predictor = Predictor(found.model, found.variables, track, camera, found.step)
    target = "ONNX" if kind == "onnx" else f"StableHLO for {','.join(platforms)}"
    logger.info(f"exporting step {found.step} of {arguments.checkpoint} as {target}")
    if kind == "onnx":
        about = export.export_onnx(predictor, out, arguments.int8)
    else:
        about = export.export_stablehlo(predictor, out, platforms)
    takes = ", ".join(f"{name} {tuple(shape)}" for name, shape in about["inputs"].items())
    logger.info(
        f"{out}: {out.stat().st_size / 2**20:.1f} MiB, takes {takes} float32; loaded back, it differs from the "
        f"checkpoint by {about['difference']:.1g} {track.error_unit} at most; {description.name} describes it"
    )
    if arguments.int8:
        cost = about["int8"]["cost"]
        logger.info(
            f"int8: joints move by {cost['mean']:.2g} {cost['unit']} on average, {cost['largest']:.2g} at most "
            f"({cost['frames']} rendered frames, compared with float32)"
        )


def _weights(arguments: argparse.Namespace, out: Path) -> None:
    """Write a file of weights."""
    from a2j_jax.files import check_output
    from a2j_jax.inference import export
    from a2j_jax.runs.load import restore

    others = ("platform", "int8", "camera", "fx", "fy", "cx", "cy", "frame_size")
    if given := [f"--{name}" for name in others if getattr(arguments, name)]:
        raise UserError(f"{given[0]} is not of weights; name a file such as hand.onnx")
    if out.suffix != ".npz":
        raise UserError(f"{out}: a file of weights is named *.npz")
    check_output(out, arguments.overwrite, "the file to write,")
    found = restore(arguments.checkpoint, arguments.step, arguments.weights)
    logger.info(
        f"exporting step {found.step} of {arguments.checkpoint} as weights in half precision"
    )
    cost = export.export_weights(found, out)
    logger.info(
        f"{out}: {out.stat().st_size / 2**20:.1f} MiB; rounding moves joints by {cost['mean']:.2g} {cost['unit']} on "
        f"average, {cost['largest']:.2g} at most ({cost['frames']} rendered frames)"
    )


EXPORT = Command(
    "Write a trained network as one file: a function that runs without this package, or weights for it.",
    _EXPORT_EXAMPLES,
    _add_export_arguments,
    _run_export,
)
