"""A random hand somewhere in front of a camera, with what is behind it."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from a2j_jax.geometry import Camera
from a2j_jax.synthetic.hand import bell, draw, forward_kinematics, random_rotation
from a2j_jax.synthetic.hand_surface import hand_cones, sample_hand
from a2j_jax.synthetic.render import Hits, RoundCones, pixel_rays, render


@dataclass(frozen=True)
class SceneSpec:
    """Where the hand is and what is around it.

    Attributes:
        distance_mm: range of the depth of the hand's mean joint, uniform.
        inside: how much of the crop's half window must lie inside the frame on every side, as a
            fraction: 0 asks only that the centre is inside, 1 that the whole window is.
        center_sigma_mm: the crop centre is the mean of the joints plus Gaussian noise of this σ on
            each axis: the error of a centre detector. (NYU's published centres scatter by 9–12 mm
            around the mean of their joints; much of that is the pose, not error.)
        arm_toward_camera_deg: the hand's orientation is uniform over all rotations, except that the
            elbow is not nearer to the camera than the wrist by more than this angle above the image
            plane: there the arm hides its own hand. 90 forbids nothing.
        mirror_probability: share of left hands.
        wall_probability: share of scenes with a wall behind the hand.
        wall_gap_mm: distance of the wall behind the mean joint, uniform.
        wall_tilt: σ of the wall's slopes dz/dx and dz/dy.
        clutter: number of possible objects behind the hand.
        clutter_probability: chance of each to be there.
    """

    distance_mm: tuple[float, float] = (400.0, 1000.0)
    inside: float = 0.6
    center_sigma_mm: float = 5.0
    arm_toward_camera_deg: float = 40.0
    mirror_probability: float = 0.0
    wall_probability: float = 0.5
    wall_gap_mm: tuple[float, float] = (120.0, 1200.0)
    wall_tilt: float = 0.25
    clutter: int = 2
    clutter_probability: float = 0.3


class Scene(NamedTuple):
    """A composed scene, camera coordinates, mm.

    Attributes:
        joints_xyz: (21, 3), HANDS 2017 order.
        center_xyz: (3,) crop centre.
        cones: every surface but the wall.
        wall: (4,) plane (a, b, c, e) with a x + b y + c z = e; e = inf for no wall.
        noise_key: key of the sensor's noise.
    """

    joints_xyz: jax.Array
    center_xyz: jax.Array
    cones: RoundCones
    wall: jax.Array
    noise_key: jax.Array


def sample_scene(
    key: jax.Array,
    *,
    camera: Camera,
    frame_size: tuple[int, int],
    half_window_mm: float,
    spec: SceneSpec,
) -> Scene:
    """A random hand with forearm, at a random place in the view, and what is behind it."""
    k_hand, k_turn, k_mirror, k_place, k_center, k_wall, k_clutter, k_noise = jax.random.split(
        key, 8
    )
    shape, pose = sample_hand(k_hand)
    posed = forward_kinematics(shape, pose)
    surface = hand_cones(shape, posed)

    # Rotations are drawn in a frame with y down, the world as it is; where a camera's y axis points
    # up (fy < 0) its coordinates are that world's mirror image, and a right hand must stay a right
    # hand.
    side = jnp.where(jax.random.bernoulli(k_mirror, spec.mirror_probability), -1.0, 1.0)
    mirror = jnp.stack([side, 1.0, 1.0])
    to_camera = jnp.array([1.0, 1.0 if camera.fy > 0 else -1.0, 1.0])
    rotation = _sample_orientation(k_turn, -posed.forearm[:, 1] * mirror, spec)
    turn = to_camera[:, None] * rotation * mirror
    joints, ends = posed.joints_mm @ turn.T, surface.ends_mm @ turn.T
    middle = jnp.mean(joints, axis=0)

    center = _sample_place(k_place, camera, frame_size, half_window_mm, spec)
    joints, ends = joints - middle + center, ends - middle + center
    cones = RoundCones(ends, surface.radii_mm)
    hidden = RoundCones(ends[0], surface.radii_mm[0])
    clutter = _sample_clutter(k_clutter, center, hidden, spec)
    return Scene(
        joints_xyz=joints,
        center_xyz=center + spec.center_sigma_mm * jax.random.normal(k_center, (3,)),
        cones=RoundCones(*(jnp.concatenate(pair) for pair in zip(cones, clutter, strict=True))),
        wall=_sample_wall(k_wall, center, spec),
        noise_key=k_noise,
    )


def _sample_orientation(key: jax.Array, elbow: jax.Array, spec: SceneSpec) -> jax.Array:
    """A rotation (3, 3): the first of several uniform ones that keeps the arm out of the way.

    elbow: (3,) unit direction from wrist to elbow in the hand frame.
    """
    rotations = jax.vmap(random_rotation)(jax.random.split(key, 8))
    rises = -(rotations @ elbow)[:, 2]  # sine of the elbow's angle toward the camera
    # With the default limit all eight fail once in a million; then the first will do.
    return rotations[jnp.argmax(rises <= jnp.sin(jnp.deg2rad(spec.arm_toward_camera_deg)))]


def _sample_place(
    key: jax.Array,
    camera: Camera,
    frame_size: tuple[int, int],
    half_window_mm: float,
    spec: SceneSpec,
) -> jax.Array:
    """A point (3,): its depth uniform, then its pixel uniform where `SceneSpec.inside` allows."""
    far, pixel = draw(jax.random.uniform, key, (), (2,))
    depth = spec.distance_mm[0] + (spec.distance_mm[1] - spec.distance_mm[0]) * far
    focal = jnp.array([camera.fx, camera.fy])
    last = jnp.array(frame_size, jnp.float32) - 1.0
    keep = jnp.minimum(spec.inside * half_window_mm * jnp.abs(focal) / depth, 0.5 * last)
    xy = (keep + (last - 2.0 * keep) * pixel - jnp.array([camera.u0, camera.v0])) * depth / focal
    return jnp.append(xy, depth)


def _sample_wall(key: jax.Array, center: jax.Array, spec: SceneSpec) -> jax.Array:
    """A tilted plane (4,) behind the hand, or one at infinity."""
    k_uniform, k_tilt = jax.random.split(key)
    there, gap = draw(jax.random.uniform, k_uniform, (), ())
    tilt = spec.wall_tilt * bell(k_tilt, (2,))
    nearest, farthest = spec.wall_gap_mm
    offset = center[2] + nearest + (farthest - nearest) * gap - tilt @ center[:2]
    offset = jnp.where(there < spec.wall_probability, offset, jnp.inf)
    return jnp.concatenate([-tilt, jnp.stack([1.0, offset])])


def _sample_clutter(
    key: jax.Array, center: jax.Array, hidden: RoundCones, spec: SceneSpec
) -> RoundCones:
    """Round cones of 30–130 mm radius that stay 110 mm behind the middle of the hand."""
    k_uniform, k_place = jax.random.split(key)
    n = spec.clutter
    chance, girth, gap = draw(jax.random.uniform, k_uniform, (n, 1), (n, 1), (n, 1))
    lateral, reach = draw(jax.random.normal, k_place, (n, 2), (n, 3))
    radii = (30.0 + 100.0 * girth) * jnp.ones(2)
    behind = 110.0 + radii[:, :1] + 300.0 * gap
    start = center + jnp.concatenate([150.0 * lateral, behind], axis=-1)
    stop = start + 150.0 * jnp.concatenate([reach[:, :2], jnp.abs(reach[:, 2:])], axis=-1)
    there = chance < spec.clutter_probability
    # Shapes are static, so an absent object must be somewhere: it takes the place of a finger bone.
    ends = jnp.where(there[..., None], jnp.stack([start, stop], axis=1), hidden.ends_mm)
    return RoundCones(ends, jnp.where(there, radii, hidden.radii_mm))


def look(scene: Scene, columns: jax.Array, rows: jax.Array, camera: Camera) -> Hits:
    """Casts rays through columns (C,) by rows (R,) of the frame at a scene: `Hits`, each (R, C)."""
    hits = render(columns, rows, camera, scene.cones)
    x, y = pixel_rays(columns, rows, camera)
    normal, offset = scene.wall[:3], scene.wall[3]
    facing = normal[0] * x + normal[1] * y + normal[2]  # n·d
    wall_mm = jnp.where(facing > 1e-3, offset / facing, jnp.inf)
    cosine = facing * jax.lax.rsqrt((x * x + y * y + 1.0) * (normal @ normal))
    nearer = wall_mm < hits.depth_mm
    return Hits(jnp.where(nearer, wall_mm, hits.depth_mm), jnp.where(nearer, cosine, hits.cosine))
