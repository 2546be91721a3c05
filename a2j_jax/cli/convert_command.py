"""Turn weights in the official A2J naming into a checkpoint, or ImageNet's into a file without PyTorch."""

import argparse

from a2j_jax.cli.arguments import add_overwrite, path_name

EXAMPLES = """\
examples:
  a2j convert NYU.pth nyu_a2j --track nyu
  a2j convert weights.safetensors itop_a2j --track itop_front
  a2j convert resnet50-0676ba61.pth weights/resnet50.safetensors --imagenet

Reads .safetensors, .npz, and .pth with the extra a2j-jax[torch] (weights only: nothing in a file is executed).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(arguments: argparse.Namespace) -> None:
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
