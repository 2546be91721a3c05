"""Weights a run or a converted checkpoint starts from: a file in the official or ImageNet naming."""

from typing import Any

from a2j_jax.config import Config
from a2j_jax.tracks import TrackSpec
from a2j_jax.weights.convert import load_imagenet_trunk, variables_from_official
from a2j_jax.weights.files import read_state_dict
from a2j_jax.weights.table import HEADS


def initial_variables(
    config: Config, track: TrackSpec, variables: dict[str, Any]
) -> dict[str, Any]:
    """Fill `variables` from `config.model.init_from`: a whole A2J network, or an ImageNet trunk.

    Which of the two a file is shows in its names. Raises `UserError` when it cannot be read or does not fit.
    """
    source = config.model.init_from
    assert source is not None
    state_dict = read_state_dict(source)
    backbone = config.model.backbone
    if any(key.startswith(tuple(HEADS.values())) for key in state_dict):
        return variables_from_official(
            state_dict,
            variables,
            backbone=backbone,
            joint_dims=track.joint_dims,
            head_depth=config.model.head_depth,
            source=source,
        )
    return load_imagenet_trunk(state_dict, variables, backbone=backbone, source=source)
