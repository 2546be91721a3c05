"""Poses of which all angles are zero, and how deep points lie in round cones."""

import jax
import jax.numpy as jnp
import numpy as np


def at_rest(drawn):
    """The first of the shapes in `drawn`, (shapes, poses, ...), and the pose in which all angles are zero."""
    shape = jax.tree.map(lambda x: jnp.asarray(x[0]), drawn[0])
    return shape, jax.tree.map(lambda x: jnp.zeros_like(jnp.asarray(x[0])), drawn[1])


def depth_inside(points, cones):
    """How deep points (N, P, 3) lie below the nearest surface of (N, C) round cones: (N, P) mm, negative outside."""
    a, b = np.moveaxis(np.asarray(cones.ends_mm, np.float64), 2, 0)
    axis = b - a
    share = np.einsum("npcx,ncx->npc", points[:, :, None] - a[:, None], axis)
    share = np.clip(share / np.square(axis).sum(-1)[:, None], 0, 1)[..., None]
    nearest = a[:, None] + share * axis[:, None]
    radii = np.asarray(cones.radii_mm)[:, None]
    swept = radii[..., 0] + share[..., 0] * (radii[..., 1] - radii[..., 0])
    return (swept - np.linalg.norm(points[:, :, None] - nearest, axis=-1)).max(-1)
