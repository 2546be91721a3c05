"""Scenes of the rendered tracks, by short names, as their readers make them; poses at rest; depth below a surface."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic import views
from a2j_jax.tracks import get_track
from tfds_builders.rendered import EMBEDDED, reader_for

TRACKS = dict(zip(("hand", "front", "top"), map(get_track, EMBEDDED), strict=True))
READERS = {name: reader_for(t, train=1, validation=0, test=0) for name, t in TRACKS.items()}
CROP = {"crop_size": 64, "margin": 8}
BARE_HAND = dict.fromkeys(("wall_probability", "clutter_probability"), 0.0)
BARE_ROOM = dict.fromkeys(
    ("back_wall_probability", "side_wall_probability", "clutter_probability"), 0.0
)


def settings(name, **changes):
    """Arguments of `views.generate`; camera, sensor and values of the view's scene can be changed."""
    track, view = TRACKS[name], READERS[name].view
    named = {"camera": track.camera, "sensor": READERS[name].sensor}
    named |= {key: changes.pop(key) for key in named if key in changes}
    spec = dataclasses.replace(view.scene, **changes)
    named |= {"view": dataclasses.replace(view, scene=spec)}
    return {**named, "frame_size": track.frame_size, "unit_mm": track.storage_unit_mm}


def examples_of(name, indices, seed=0, **changes):
    """Examples with these numbers, of 64 px; `changes` as of `settings`."""
    return list(views.generate(seed, indices, **CROP, **settings(name, **changes)))


@partial(jax.jit, static_argnums=(2, 3))
@partial(jax.vmap, in_axes=(0, None, None, None))
def _compose(keys, view, camera, size):
    return view.compose(keys, camera, size)


def compose(name, count, **changes):
    """Scenes that are not rendered; `changes` as of `settings`."""
    found, keys = settings(name, **changes), jax.random.split(jax.random.key(0), count)
    drawn = _compose(keys, found["view"], found["camera"], found["frame_size"])
    return jax.tree.map(np.asarray, drawn._replace(noise_key=0))


def people(preset, **changes):
    """1,000 scenes with people, "front" or "top"."""
    return compose(preset, 1000, **changes)


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
