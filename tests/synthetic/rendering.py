"""Scenes of the rendered tracks, by short names, as their readers make them: composed, or rendered as examples."""

import dataclasses
from functools import partial

import jax
import numpy as np

from a2j_jax.synthetic import scene
from a2j_jax.tracks import get_track
from tfds_builders.rendered import EMBEDDED, reader_for

TRACKS = dict(zip(("hand", "front", "top"), map(get_track, EMBEDDED), strict=True))
READERS = {name: reader_for(t, train=1, validation=0, test=0) for name, t in TRACKS.items()}
CROP = {"crop_size": 64, "margin": 8}


def settings(name, **changes):
    """Arguments of `scene.generate`; camera, sensor and values of the view's scene can be changed."""
    track, view = TRACKS[name], READERS[name].view
    named = {"camera": track.camera, "sensor": READERS[name].sensor}
    named |= {key: changes.pop(key) for key in named if key in changes}
    spec = dataclasses.replace(view.scene, **changes)
    named |= {"view": dataclasses.replace(view, scene=spec)}
    return {**named, "frame_size": track.frame_size, "unit_mm": track.storage_unit_mm}


def examples_of(name, indices, seed=0, **changes):
    """Examples with these numbers, of 64 px; `changes` as of `settings`."""
    return list(scene.generate(seed, indices, **CROP, **settings(name, **changes)))


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
