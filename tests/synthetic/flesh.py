"""Poses of which all angles are zero, random scenes of hands and people, and how deep points lie in flesh."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic.views import FRONT, TOP, BodyView
from a2j_jax.tracks import get_track

TRACKS = {"front": get_track("synthetic_body"), "top": get_track("synthetic_body_top")}
ROOMS = {"front": FRONT, "top": TOP}


def at_rest(drawn):
    """The first of the shapes in `drawn`, (shapes, poses, ...), and the pose in which all angles are zero."""
    shape = jax.tree.map(lambda x: jnp.asarray(x[0]), drawn[0])
    return shape, jax.tree.map(lambda x: jnp.zeros_like(jnp.asarray(x[0])), drawn[1])


@partial(jax.jit, static_argnums=(2, 3))
@partial(jax.vmap, in_axes=(0, None, None, None))
def composed(keys, view, camera, size):
    return view.compose(keys, camera, size)


def compose(view, count, camera, size, **changes):
    """Scenes of a view, of whose spec some values are changed."""
    view = dataclasses.replace(view, scene=dataclasses.replace(view.scene, **changes))
    drawn = composed(jax.random.split(jax.random.key(0), count), view, camera, size)
    return jax.tree.map(np.asarray, drawn._replace(noise_key=0))


def people(preset, **changes):
    """1,000 scenes with people before the camera of a room, "front" or "top"."""
    track = TRACKS[preset]
    view = BodyView(track.label_box_margin_px, ROOMS[preset])
    return compose(view, 1000, track.camera, track.frame_size, **changes)


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
