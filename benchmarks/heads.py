"""Variants of A2J's heads for hands, compared by training each for the same number of steps.

    a2j train --config hand_small --config.name=plain --config.optim.steps=1000 --config.run.eval_every=1000 \\
      --config.optim.ema_decay=0.995
    a2j train ... --config.name=own_depth --config.parts=benchmarks.heads:parts
    a2j train ... --config.name=masked --config.parts=benchmarks.heads:parts --config.options.mask=true
    a2j train ... --config.name=one_side --config.parts=benchmarks.heads:parts --config.options.one_side=true
    a2j eval --workdir runs/own_depth --data_dir data/shifted --split validation

docs/models.md has what they showed.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from a2j_jax import Parts, TrackSpec
from a2j_jax.config import Config
from a2j_jax.data.targets import joints_to_camera, prepare
from a2j_jax.geometry import Camera
from a2j_jax.inference.hands import fingers_in_front
from a2j_jax.models.a2j import A2J, a2j_settings
from a2j_jax.models.anchors import ANCHOR_POSITIONS, ANCHORS_PER_CELL, STRIDE, Heads

_PER_SIDE = len(ANCHOR_POSITIONS)
_BACKGROUND = -8.0  # added to the logits of anchors on background


class OwnDepth(A2J):
    """A2J whose anchors vote for a depth relative to the reading at their own pixel.

    Attributes, beside those of `A2J`:
      mean, std: of the track's normalization; background lies at the center's depth there.
      mask: whether anchors on background hardly vote.
    """

    mean: float = 0.0
    std: float = 1.0
    mask: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Heads:
        heads: Heads = A2J.__call__(self, images, train)
        assert heads.depth is not None
        first, step = ANCHOR_POSITIONS[0], STRIDE // _PER_SIDE
        seen = images[:, first::step, first::step, 0] * self.std + self.mean
        batch, rows, columns = seen.shape
        cells = batch, rows // _PER_SIDE, _PER_SIDE, columns // _PER_SIDE, _PER_SIDE
        # In the order of `anchors.anchor_grid`: cell by cell.
        own = seen.reshape(cells).swapaxes(2, 3).reshape(batch, -1, 1)
        assert own.shape[1] == rows * columns // _PER_SIDE**2 * ANCHORS_PER_CELL
        proposal = heads.proposal
        if self.mask and proposal is not None:
            proposal = proposal + jnp.where(jnp.abs(own) > 1e-3, 0.0, _BACKGROUND)
        return Heads(proposal, heads.offset, heads.depth + own)


def parts(
    config: Config,
    track: TrackSpec,
    *,
    own_depth: bool = True,
    mask: bool = False,
    one_side: bool = False,
) -> Parts:
    """Depth of the own pixel, with a mask of the background; right hands alone, left ones mirrored in training."""
    settings: dict[str, Any] = a2j_settings(config.model, track)
    network: A2J = A2J(**settings)
    if own_depth:
        network = OwnDepth(**settings, mean=track.mean, std=track.std, mask=mask)
    kept = {"track": track, "enabled": config.augment.enabled, "border": config.augment.border}
    return Parts(network=network, prepare=partial(right_hands, **kept) if one_side else None)


def right_hands(
    batch: Any, keys: jax.Array, *, track: TrackSpec, **settings: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`targets.prepare`, and left hands mirrored: what is learned if it is known which hand it is."""
    images, targets = prepare(batch, keys, track=track, **settings)
    xyz = joints_to_camera(targets["joints"], targets, track)
    camera = targets["camera"]
    # The sign of the frames' own cameras comes after.
    inward = fingers_in_front(xyz, Camera(1.0, 1.0, 0.0, 0.0), jnp)
    left = inward * jnp.sign(camera[:, 0] * camera[:, 1]) < 0
    images = jnp.where(left[:, None, None, None], images[:, :, ::-1], images)
    u = targets["joints"][..., 0]
    mirrored = jnp.where(left[:, None], track.crop_size - 1.0 - u, u)
    return images, {**targets, "joints": targets["joints"].at[..., 0].set(mirrored)}
