"""Where hands are put; what follows from it in the image is tested in test_scene.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.geometry import Camera, xyz_to_uvd
from a2j_jax.synthetic.views import HandView, SceneSpec

CAMERA = Camera(588.03, -587.07, 320.0, 240.0)
FOREARM = slice(35, 37)  # its two cones, see `hand.hand_cones`


@jax.jit
@partial(jax.vmap, in_axes=(0, None))
def scenes(keys, spec):
    return HandView(110.0, spec).compose(keys, CAMERA, (640, 480))


def sample(**changes):
    keys = jax.random.split(jax.random.key(0), 256)
    return jax.tree.map(
        lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x),
        scenes(keys, SceneSpec(**changes)),
    )


def rises(drawn):
    """Sine of the angle by which elbows are nearer to the camera than wrists."""
    wrist, elbow = (drawn.cones.ends_mm[:, FOREARM, end].mean(axis=1) for end in (0, 1))
    toward = (wrist - elbow) / np.linalg.norm(wrist - elbow, axis=-1, keepdims=True)
    return toward[:, 2]


def test_orientation_is_uniform_but_for_arms_in_the_way():
    free, limited = rises(sample(arm_toward_camera_deg=90.0)), rises(sample())
    # Archimedes: a uniform direction has a uniform height.
    quartiles = np.percentile(free, [0, 25, 50, 75, 100])
    np.testing.assert_allclose(quartiles, [-1, -0.5, 0, 0.5, 1], atol=0.12)
    assert limited.max() <= np.sin(np.deg2rad(40.0)) + 1e-4
    assert limited.min() < -0.9


def test_distance_and_margin_to_the_frame():
    drawn = sample(distance_mm=(500.0, 600.0), inside=1.0, center_sigma_mm=0.0)
    np.testing.assert_allclose(drawn.joints_xyz.mean(axis=1), drawn.center_xyz, atol=2e-2)
    assert 500 <= drawn.center_xyz[:, 2].min() < 510
    assert 590 < drawn.center_xyz[:, 2].max() <= 600
    uvd = xyz_to_uvd(drawn.center_xyz, CAMERA)
    reach = 110.0 * 588 / uvd[:, 2]
    assert (uvd[:, 0] - reach).min() > -1
    assert (uvd[:, 1] + reach).max() < 481


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_walls_and_clutter_come_in_the_share_asked_for(share):
    drawn = sample(wall_probability=share, clutter_probability=share)
    assert np.isfinite(drawn.planes[:, 0, 3]).mean() == pytest.approx(share, abs=0.1)
    there = drawn.cones.radii_mm[:, -2:, 0] > 29.0
    assert there.mean() == pytest.approx(share, abs=0.1)
    fronts = (drawn.cones.ends_mm[:, -2:, :, 2] - drawn.cones.radii_mm[:, -2:]).min(-1)
    gap = fronts - drawn.joints_xyz[:, :, 2].mean(axis=1)[:, None]
    assert (gap[there] > 109.0).all()
