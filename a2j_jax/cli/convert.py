"""Turn weights in the official A2J naming into a checkpoint that eval and predict read."""

import argparse

EXAMPLES = """\
examples:
  a2j convert NYU.pth nyu_a2j --track nyu
  a2j convert weights.safetensors itop_a2j --track itop_front

Reads .safetensors, .npz, and .pth with the extra a2j-jax[torch] (weights only: nothing in a file is executed).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j convert` takes."""
    parser.add_argument("source", help="weights file: .pth, .safetensors or .npz")
    parser.add_argument("out", help="folder to make")
    parser.add_argument("--track", required=True, help="the track they were trained on")
    parser.add_argument(
        "--backbone", default="resnet50", choices=("resnet18", "resnet34", "resnet50")
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert."""
    from a2j_jax.config import Config, ModelConfig
    from a2j_jax.progress import say
    from a2j_jax.training import assembly
    from a2j_jax.training.checkpoints import save_variables
    from a2j_jax.weights.convert import variables_from_official
    from a2j_jax.weights.files import read_state_dict

    config = Config(
        name=f"converted_{arguments.track}",
        track=arguments.track,
        model=ModelConfig(backbone=arguments.backbone),
    )
    track = assembly.track_of(config)
    model = assembly.model_of(config, track)
    variables = variables_from_official(
        read_state_dict(arguments.source),
        assembly.expected_variables(model, track),
        backbone=model.backbone,
        joint_dims=track.joint_dims,
        source=arguments.source,
    )
    save_variables(arguments.out, variables, config)
    say(f"{arguments.out}: {track.name} checkpoint with {model.backbone}")
    return 0
