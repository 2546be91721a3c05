"""A random hand in front of a camera, with a background."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from a2j_jax.geometry import Camera
from a2j_jax.synthetic.hand import forward_kinematics, hand_cones, sample_hand
from a2j_jax.synthetic.render import RoundCones, join_cones
from a2j_jax.synthetic.sampling import draw, rotation_from_quaternion
from a2j_jax.synthetic.scene import Scene, project


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SceneSpec:
    """The hand's position and surroundings. A pytree: other numbers do not recompile anything.

    Attributes:
        distance_mm: range of the depth of the hand's mean joint, uniform.
        inside: the fraction of the crop's half window that must lie inside the frame on every side; 0: only the center.
        center_sigma_mm: the crop center is the mean of the joints plus Gaussian noise of this σ on each axis: the error
            of a center detector. (NYU's published centers scatter by 9–12 mm around the mean of their joints; much of
            that is the pose, not error.)
        arm_toward_camera_deg: the hand's orientation is uniform over all rotations in which the forearm points toward
            the camera by at most this angle to the image plane: beyond it the arm hides its own hand. 90 allows all.
        mirror_probability: share of left hands.
        wall_probability: share of scenes with a wall behind the hand.
        wall_gap_mm: distance of the wall behind the mean joint, uniform.
        wall_tilt: σ of the wall's slopes dz/dx and dz/dy.
        clutter: maximum number of objects behind the hand; static.
        clutter_probability: probability of each object.
    """

    distance_mm: tuple[float, float] = (400.0, 1000.0)
    inside: float = 0.6
    center_sigma_mm: float = 5.0
    arm_toward_camera_deg: float = 40.0
    mirror_probability: float = 0.0
    wall_probability: float = 0.5
    wall_gap_mm: tuple[float, float] = (120.0, 1200.0)
    wall_tilt: float = 0.25
    clutter: int = field(default=2, metadata={"static": True})
    clutter_probability: float = 0.3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HandView:
    """A `scene.View` of hands, cropped around a 3D point.

    Attributes:
        half_window_mm: half the side of the crop window at the center's depth; static.
        scene: the hand's position and surroundings.
    """

    half_window_mm: float = field(metadata={"static": True})
    scene: SceneSpec = SceneSpec()

    def compose(self, key: jax.Array, camera: Camera, frame_size: tuple[int, int]) -> Scene:
        """A random hand with forearm, at a random place in the view, with a background."""
        spec = self.scene
        k_hand, k_place, k_behind, k_normal, k_noise = jax.random.split(key, 5)
        (side, place), _ = draw(k_place, uniform=[(), (3,)])
        normal = jax.random.normal(k_normal, (_TURNS + 1, 4))
        shape, pose = sample_hand(k_hand)
        posed = forward_kinematics(shape, pose)
        surface = hand_cones(shape, posed)

        # Rotations are drawn in a frame with y down. If the camera's y axis points up (fy < 0), its coordinates are a
        # mirror image; the hand must not be mirrored with them.
        mirror = jnp.stack([jnp.where(side < spec.mirror_probability, -1.0, 1.0), 1.0, 1.0])
        to_camera = jnp.array([1.0, 1.0 if camera.fy > 0 else -1.0, 1.0])
        rotation = _orientation(normal[1:], -posed.forearm[:, 1] * mirror, spec)
        turn = to_camera[:, None] * rotation * mirror
        joints, ends = posed.joints_mm @ turn.T, surface.ends_mm @ turn.T
        middle = jnp.mean(joints, axis=0)

        center = _place(place, camera, frame_size, self.half_window_mm, spec)
        joints, ends = joints - middle + center, ends - middle + center
        hidden = RoundCones(ends[0], surface.radii_mm[0])
        wall, clutter = _sample_background(k_behind, center, hidden, spec)
        found = center + spec.center_sigma_mm * to_camera * normal[0, :3]
        return Scene(
            joints_xyz=joints,
            center_xyz=found,
            window_px=_window(found, self.half_window_mm, camera),
            cones=join_cones(RoundCones(ends, surface.radii_mm), clutter),
            planes=wall[None],
            noise_key=k_noise,
        )


def _window(center_xyz: jax.Array, half_window_mm: float, camera: Camera) -> jax.Array:
    """`geometry.box_from_center` on the device: (4,) x0 y0 x1 y1 px, float32."""
    center_uvd = project(center_xyz, camera)
    reach = half_window_mm * jnp.abs(jnp.array([camera.fx, camera.fy])) / center_uvd[2]
    return jnp.concatenate([center_uvd[:2] - reach, center_uvd[:2] + reach])


_TURNS = 8  # rotations to choose from


def _orientation(quaternions: jax.Array, elbow: jax.Array, spec: SceneSpec) -> jax.Array:
    """A rotation (3, 3): the first of several uniform ones in which the arm does not hide the hand.

    quaternions: (_TURNS, 4) Gaussian; elbow: (3,) unit direction wrist → elbow in the hand frame.
    """
    rotations = jax.vmap(rotation_from_quaternion)(quaternions)
    rises = -(rotations @ elbow)[:, 2]  # sine of the elbow's angle toward the camera
    # With the default limit all of them fail once in a million; then the first is used.
    return rotations[jnp.argmax(rises <= jnp.sin(jnp.deg2rad(spec.arm_toward_camera_deg)))]


def _place(
    uniform: jax.Array,
    camera: Camera,
    frame_size: tuple[int, int],
    half_window_mm: float,
    spec: SceneSpec,
) -> jax.Array:
    """A point (3,): its depth uniform, then its pixel uniform where `SceneSpec.inside` allows.

    uniform: (3,) random numbers for u, v and depth.
    """
    pixel, far = uniform[:2], uniform[2]
    depth = spec.distance_mm[0] + (spec.distance_mm[1] - spec.distance_mm[0]) * far
    focal = jnp.array([camera.fx, camera.fy])
    last = jnp.array(frame_size, jnp.float32) - 1.0
    keep = jnp.minimum(spec.inside * half_window_mm * jnp.abs(focal) / depth, 0.5 * last)
    xy = (keep + (last - 2.0 * keep) * pixel - jnp.array([camera.u0, camera.v0])) * depth / focal
    return jnp.append(xy, depth)


def _sample_background(
    key: jax.Array, center: jax.Array, hidden: RoundCones, spec: SceneSpec
) -> tuple[jax.Array, RoundCones]:
    """A tilted wall (4,) and `SceneSpec.clutter` objects behind the hand, present or not.

    The objects are round cones of 30–130 mm radius, at least 110 mm behind the middle of the hand.
    """
    n = spec.clutter
    (wall, gap, chance, girth, back), (tilt, lateral, reach) = draw(
        key, uniform=[(), (), (n, 1), (n, 1), (n, 1)], bell=[(2,), (n, 2), (n, 3)]
    )
    slope, (nearest, farthest) = spec.wall_tilt * tilt, spec.wall_gap_mm
    offset = center[2] + nearest + (farthest - nearest) * gap - slope @ center[:2]
    offset = jnp.where(wall < spec.wall_probability, offset, jnp.inf)

    radii = (30.0 + 100.0 * girth) * jnp.ones(2)
    behind = 110.0 + radii[:, :1] + 300.0 * back
    start = center + jnp.concatenate([170.0 * lateral, behind], axis=-1)
    stop = start + 170.0 * jnp.concatenate([reach[:, :2], jnp.abs(reach[:, 2:])], axis=-1)
    there = chance < spec.clutter_probability
    # Shapes are static: an absent object coincides with a finger bone.
    ends = jnp.where(there[..., None], jnp.stack([start, stop], axis=1), hidden.ends_mm)
    clutter = RoundCones(ends, jnp.where(there, radii, hidden.radii_mm))
    return jnp.concatenate([-slope, jnp.stack([1.0, offset])]), clutter
