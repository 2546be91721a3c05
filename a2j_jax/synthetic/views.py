"""Random scenes, a hand in front of a camera or a person in a room, and their depth images.

A *view* composes a random scene: `HandView` hands at arm's length, `BodyView` people in a room. `synthetic_example`
renders the crop canvas alone, as a data set builder stores it, `synthetic_frame` the full frame of the same scene; a
canvas cut out of the frame has the same pixels (up to float32 rounding in another order of the same sums: one pixel in
ten thousand), but for outlines and shadows of sensors with `effects`, which depend on the neighbors in the image.

The *room frame* of people: origin at the camera, x to the camera's right, y down along gravity, z level and ahead;
right-handed, mm. These are the axes of a camera that looks level and straight ahead, on a shelf or under the ceiling.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.data.targets import box_from_center, xyz_to_uvd
from a2j_jax.geometry import Camera
from a2j_jax.synthetic import hand
from a2j_jax.synthetic.body import SEAT, body_cones, sample_body
from a2j_jax.synthetic.hand import HandSpec
from a2j_jax.synthetic.props import PosedHand, PropSpec, bank, body, center_error, dress
from a2j_jax.synthetic.render import (
    KINECT,
    XTION,
    Hits,
    RoundCones,
    SensorMix,
    SensorSpec,
    inside_frame,
    join_cones,
    measure,
    pixel_rays,
    render,
)
from a2j_jax.synthetic.sampling import draw, lerp, rotation, rotation_from_quaternion
from a2j_jax.tracks import TRACKS, TrackSpec


class Scene(NamedTuple):
    """A composed scene, camera coordinates, mm."""

    joints_xyz: jax.Array  # (K, 3)
    center_xyz: jax.Array  # (3,) center of the crop, or of the joints where a box is cropped
    window_px: jax.Array  # (4,) x0 y0 x1 y1 of the crop in the frame, not clipped to it
    cones: RoundCones  # every surface but the planes
    # (P, 4) walls and floor (a, b, c, e) with a x + b y + c z = e > 0; e = inf for none.
    planes: jax.Array
    noise_key: jax.Array  # key of the sensor's noise


class View(Protocol):
    """Composes scenes. A pytree, so that other numbers in it do not recompile anything."""

    def compose(self, key: jax.Array, camera: Camera, frame_size: tuple[int, int]) -> Scene:
        """A random scene as the camera sees it, a pure function of the key."""
        ...


def project(xyz: jax.Array, camera: Camera) -> jax.Array:
    """`geometry.xyz_to_uvd` in JAX: xyz (..., 3) mm -> uvd (..., 3) px, px, mm, float32."""
    return xyz_to_uvd(xyz, jnp.asarray(camera.as_array(), jnp.float32))


def _present(objects: RoundCones, there: jax.Array, hidden: RoundCones) -> RoundCones:
    """N objects, of which those with there (N, 1) False coincide with one that nobody sees: shapes are static."""
    return RoundCones(
        jnp.where(there[..., None], objects.ends_mm, hidden.ends_mm),
        jnp.where(there, objects.radii_mm, hidden.radii_mm),
    )


def _camera_axes(camera: Camera) -> jax.Array:
    """(3,) signs that take axes with y down to the camera's.

    If its y axis points up (fy < 0), its coordinates are a mirror image; the world must not be mirrored with them.
    """
    return jnp.array([1.0, 1.0 if camera.fy > 0 else -1.0, 1.0])


# --- Hands

_HANDS = HandSpec()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SceneSpec:
    """The hand's position and surroundings. A pytree: other numbers do not recompile anything."""

    distance_mm: tuple[float, float] = (400.0, 1000.0)  # of the hand's mean joint, uniform
    # The fraction of the crop's half window that must lie inside the frame on every side; 0: only the center.
    inside: float = 0.6
    # The crop center is the mean of the joints plus Gaussian noise of this σ on each axis: the error of a
    # center detector. (NYU's published centers scatter by 9–12 mm around the mean of their joints; much of that
    # is the pose, not error.)
    center_sigma_mm: float = 5.0
    # The hand's orientation is uniform over all rotations in which the forearm points toward the camera by at
    # most this angle to the image plane: beyond it the arm hides its own hand. 90 allows all.
    arm_toward_camera_deg: float = 40.0
    mirror_probability: float = 0.0  # share of left hands
    wall_probability: float = 0.5  # share of scenes with a wall behind the hand
    wall_gap_mm: tuple[float, float] = (120.0, 1200.0)  # behind the mean joint, uniform
    wall_tilt: float = 0.25  # σ of the wall's slopes dz/dx and dz/dy
    clutter: int = field(default=2, metadata={"static": True})  # most objects behind the hand
    clutter_probability: float = 0.3  # probability of each object
    hand: HandSpec = _HANDS  # their distribution
    # Things around and in the hand, and a detector's outliers; None: there are none.
    props: PropSpec | None = None


# Hands as they come before a camera of unknown make, found by a detector that errs: what a network that is to work
# everywhere trains on. With `render.SensorMix()`.
VARIED = SceneSpec(
    distance_mm=(250.0, 1200.0),
    inside=0.5,
    center_sigma_mm=12.0,
    mirror_probability=0.5,
    wall_probability=0.5,
    wall_gap_mm=(80.0, 1200.0),
    wall_tilt=0.35,
    clutter_probability=0.35,
    hand=hand.VARIED,
    props=PropSpec(),
)
# Scenes with other settings than `VARIED`, to validate transfer on; not to train on. With `SHIFTED_SENSORS`.
SHIFTED = SceneSpec(
    distance_mm=(300.0, 900.0),
    inside=0.8,
    center_sigma_mm=15.0,
    arm_toward_camera_deg=50.0,
    mirror_probability=0.5,
    wall_probability=0.8,
    wall_gap_mm=(60.0, 500.0),
    wall_tilt=0.6,
    clutter=3,
    clutter_probability=0.5,
    hand=HandSpec(
        people=True,
        child_probability=0.3,
        child_scale=(0.65, 0.9),
        adult_scale=(0.8, 1.2),
        gestures=True,
        natural=0.15,
        pinch=0.2,
        fist=0.1,
        counting=0.15,
    ),
    props=PropSpec(
        held=0.4,
        in_front=0.2,
        other_hand=0.2,
        sleeve=0.6,
        no_arm=0.15,
        body=0.5,
        body_gap_mm=(80.0, 350.0),
        center_tail=0.25,
        center_bias_mm=-8.0,
    ),
)
# The other hand never shown; for views without a hand, too: arms that end at the wrist, people, objects, walls.
ONE_HAND = dataclasses.replace(VARIED, props=PropSpec(other_hand=0.0, body=0.6))
_PROPS = 1  # folded into a scene's key, whose other draws stay the same


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HandView:
    """A `View` of hands, cropped around a 3D point."""

    half_window_mm: float = field(metadata={"static": True})  # of the window at the center's depth
    scene: SceneSpec = SceneSpec()  # the hand's position and surroundings
    # Leave the hand out, and everything else where it is; the truth is where it would be.
    without_hand: bool = field(default=False, metadata={"static": True})

    def compose(self, key: jax.Array, camera: Camera, frame_size: tuple[int, int]) -> Scene:
        """A random hand with forearm, at a random place in the view, with a background."""
        spec = self.scene
        k_hand, k_place, k_behind, k_normal, k_noise = jax.random.split(key, 5)
        (side, place), _ = draw(k_place, uniform=[(), (3,)])
        normal = jax.random.normal(k_normal, (_TURNS + 1, 4))
        shape, pose = hand.sample_hand(k_hand, spec.hand)
        posed = hand.forward_kinematics(shape, pose)
        surface = hand.hand_cones(shape, posed)

        # Rotations are drawn in a frame with y down.
        mirror = jnp.stack([jnp.where(side < spec.mirror_probability, -1.0, 1.0), 1.0, 1.0])
        to_camera = _camera_axes(camera)
        turn = _orientation(normal[1:], -posed.forearm[:, 1] * mirror, spec)
        turn = to_camera[:, None] * turn * mirror
        joints, ends = posed.joints_mm @ turn.T, surface.ends_mm @ turn.T
        middle = jnp.mean(joints, axis=0)

        center = _place(place, camera, frame_size, self.half_window_mm, spec)
        joints, ends = joints - middle + center, ends - middle + center
        radii = surface.radii_mm
        if self.without_hand:
            ends, radii = _forearm_alone(RoundCones(ends, radii))
        hidden = RoundCones(ends[0], radii[0])
        wall, clutter = _background(k_behind, center, hidden, spec)
        found = center + spec.center_sigma_mm * to_camera * normal[0, :3]
        solid = RoundCones(ends, radii)
        if spec.props is not None:
            k_error, k_dress, k_bank, k_body = jax.random.split(jax.random.fold_in(key, _PROPS), 4)
            found += center_error(k_error, spec.center_sigma_mm, spec.props)
            shown = PosedHand(joints, turn[:, 2], solid)
            up = to_camera * jnp.array([0.0, -1.0, 0.0])
            person = body(k_body, center, up, hidden, spec.props)
            others = bank(k_bank, shown, spec.props)
            solid = join_cones(dress(k_dress, shown, spec.props), others, person)
        as_array = jnp.asarray(camera.as_array(), jnp.float32)
        return Scene(
            joints_xyz=joints,
            center_xyz=found,
            window_px=box_from_center(project(found, camera), as_array, self.half_window_mm),
            cones=join_cones(solid, clutter),
            planes=wall[None],
            noise_key=k_noise,
        )


_FOREARM = slice(35, 37)  # of `hand.hand_cones`


def _forearm_alone(surface: RoundCones) -> RoundCones:
    """The cones of a hand, those beyond the forearm drawn into its wrist."""
    ends, radii = surface
    hand = np.setdiff1d(np.arange(len(radii)), np.r_[_FOREARM])
    wrist, girth = ends[_FOREARM.start, 0], 0.9 * radii[_FOREARM.start, 0]
    return RoundCones(ends.at[hand].set(wrist), radii.at[hand].set(girth))


_TURNS = 8  # rotations to choose from


def _orientation(quaternions: jax.Array, elbow: jax.Array, spec: SceneSpec) -> jax.Array:
    """A rotation (3, 3): the first of several uniform ones in which the arm does not hide the hand.

    quaternions: (_TURNS, 4) Gaussian; elbow: (3,) unit direction wrist -> elbow in the hand frame.
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
    depth = lerp(spec.distance_mm, far)
    focal = jnp.array([camera.fx, camera.fy])
    last = jnp.array(frame_size, jnp.float32) - 1.0
    keep = jnp.minimum(spec.inside * half_window_mm * jnp.abs(focal) / depth, 0.5 * last)
    xy = (keep + (last - 2.0 * keep) * pixel - jnp.array([camera.u0, camera.v0])) * depth / focal
    return jnp.append(xy, depth)


def _background(
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
    clutter = RoundCones(jnp.stack([start, stop], axis=1), radii)
    present = _present(clutter, chance < spec.clutter_probability, hidden)
    return jnp.concatenate([-slope, jnp.stack([1.0, offset])]), present


# --- People


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RoomSpec:
    """Camera, person and surroundings. A pytree; the defaults are `FRONT`. Ranges are of uniform distributions."""

    distance_mm: tuple[float, float] = (2300.0, 3700.0)  # ahead of the camera along the floor
    aside_mm: tuple[float, float] = (-500.0, 500.0)  # to its right
    camera_height_mm: tuple[float, float] = (1100.0, 1500.0)  # above the floor
    pitch_deg: tuple[float, float] = (6.0, 11.0)  # downward
    roll_deg: float = 1.5  # σ of its roll
    # σ of the angle between a person's facing direction and the camera (or the point below it).
    facing_sigma_deg: float = 25.0
    turned_probability: float = 0.15  # share of people who face in any direction instead
    # back_wall_probability, side_wall_probability: share of rooms with a wall behind and beside the person.
    back_wall_probability: float = 0.95
    side_wall_probability: float = 0.3
    wall_gap_mm: tuple[float, float] = (300.0, 1400.0)  # of walls from the person
    clutter: int = field(default=3, metadata={"static": True})  # most pieces of furniture
    clutter_probability: float = 0.35  # probability of each piece
    clutter_gap_mm: tuple[float, float] = (0.0, 1500.0)  # behind the person; negative: in front
    # σ of each edge of the crop box around the labels' box: the error of a detector. In the boxes published for
    # ITOP's test frames it is about 4 px from the front and 7 px from above.
    box_jitter_px: float = 4.0


FRONT = RoomSpec()
TOP = RoomSpec(
    distance_mm=(-250.0, 250.0),
    aside_mm=(-350.0, 350.0),
    camera_height_mm=(2700.0, 3050.0),
    pitch_deg=(85.0, 95.0),
    clutter_gap_mm=(-900.0, 900.0),
    box_jitter_px=7.0,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BodyView:
    """A `View` of people, cropped around their joints."""

    box_margin_px: float  # margin of the box beyond the outermost joints, px
    scene: RoomSpec = FRONT  # camera, person and surroundings

    def compose(self, key: jax.Array, camera: Camera, frame_size: tuple[int, int]) -> Scene:
        """A random person on the floor of a random room."""
        del frame_size  # people may stand outside the frame
        k_body, k_place, k_walls, k_clutter, k_camera, k_noise = jax.random.split(key, 6)
        spot, joints, person, seat = _person(k_body, k_place, self.scene)
        walls = _walls(k_walls, spot, self.scene)
        solid = join_cones(person, seat, _clutter(k_clutter, spot, seat, self.scene))

        (pitch,), (roll, jitter) = draw(k_camera, uniform=[()], bell=[(), (4,)])
        pitch, roll = jnp.deg2rad(lerp(self.scene.pitch_deg, pitch)), self.scene.roll_deg * roll
        turn = rotation("z", jnp.deg2rad(roll)) @ rotation("x", pitch)
        turn = _camera_axes(camera)[:, None] * turn
        joints = joints @ turn.T
        uv = project(joints, camera)[:, :2]
        margin = self.box_margin_px + self.scene.box_jitter_px * jitter
        scene = Scene(
            joints_xyz=joints,
            center_xyz=jnp.mean(joints, axis=0),
            window_px=jnp.concatenate([uv.min(axis=0) - margin[:2], uv.max(axis=0) + margin[2:]]),
            cones=RoundCones(solid.ends_mm @ turn.T, solid.radii_mm),
            planes=jnp.concatenate([walls[:, :3] @ turn.T, walls[:, 3:]], axis=1),
            noise_key=k_noise,
        )
        return jax.lax.optimization_barrier(scene)  # see sample_body


def _person(
    k_body: jax.Array, k_place: jax.Array, spec: RoomSpec
) -> tuple[jax.Array, jax.Array, RoundCones, RoundCones]:
    """A random person in the room frame.

    Returns:
      Their position (3,) on the floor; joints (15, 3); surface; and a seat, one round cone from the floor to under
      the hips. Shapes are static: the seat of a person who does not sit is a point inside the hips.
    """
    shape, pose, posed = sample_body(k_body)
    surface = jax.lax.optimization_barrier(body_cones(shape, posed))  # see sample_body
    (aside, height, ahead, turned, around), (yaw,) = draw(k_place, uniform=[()] * 5, bell=[()])
    ranges = (spec.aside_mm, aside), (spec.camera_height_mm, height), (spec.distance_mm, ahead)
    spot = jnp.stack([lerp(limits, fraction) for limits, fraction in ranges])
    anywhere, forward = 360.0 * (around - 0.5), spec.facing_sigma_deg * yaw
    yaw = jnp.deg2rad(jnp.where(turned < spec.turned_probability, anywhere, forward))
    # The frame of a person who faces the camera is turned halfway around the room's x axis: their left is on the
    # camera's right.
    turn = jnp.array([1.0, -1.0, -1.0])[:, None] * rotation("y", yaw)
    lowest = jnp.min(surface.ends_mm[..., 1] - surface.radii_mm)
    soles = jnp.array([0.0, 1.0, 0.0]) * lowest
    joints = (posed.joints_mm - soles) @ turn.T + spot
    ends = (surface.ends_mm - soles) @ turn.T + spot

    sits, hips = pose.carried_by == SEAT, (joints[9] + joints[10]) / 2.0
    foot = jnp.where(sits, hips.at[1].set(spot[1]), hips)
    top = jnp.where(sits, hips.at[1].add(0.15 * shape.stature_mm), hips)
    radius = jnp.where(sits, 0.1 * shape.stature_mm, 1.0) * jnp.ones(2)
    seat = RoundCones(jnp.stack([foot, top])[None], radius[None])
    return spot, joints, RoundCones(ends, surface.radii_mm), seat


def _walls(key: jax.Array, spot: jax.Array, spec: RoomSpec) -> jax.Array:
    """(3, 4) planes of the floor, a wall behind the person and one beside; room frame."""
    (there, gap, side), (skew,) = draw(key, uniform=[(2,), (2,), ()], bell=[(2,)])
    right = jnp.where(side < 0.5, -1.0, 1.0)
    angle, zero = jnp.deg2rad(12.0) * skew, jnp.zeros(2)
    square, slant = jnp.cos(angle), jnp.sin(angle)
    back = jnp.stack([slant[0], zero[0], square[0]])
    beside = jnp.stack([right * square[1], zero[1], slant[1]])
    normals = jnp.stack([jnp.array([0.0, 1.0, 0.0]), back, beside])
    offsets = normals @ spot + jnp.append(0.0, lerp(spec.wall_gap_mm, gap))
    shares = jnp.stack([1.0, spec.back_wall_probability, spec.side_wall_probability])
    # A wall in front of the camera would hide the scene.
    shown = (jnp.append(0.0, there) < shares) & (offsets > 100.0)
    return jnp.concatenate([normals, jnp.where(shown, offsets, jnp.inf)[:, None]], axis=1)


def _clutter(key: jax.Array, spot: jax.Array, hidden: RoundCones, spec: RoomSpec) -> RoundCones:
    """`RoomSpec.clutter` pieces of furniture, present or not; room frame.

    A piece is a round cone that stands on the floor (a lamp, a bin, a shelf) or lies on it (a bench, a cushion), 0.75
    to 1.6 m to the side of the person. Absent ones coincide with `hidden`.
    """
    n = spec.clutter
    (chance, girth, far, off, kind, long, side), _ = draw(key, uniform=[(n,)] * 7)
    radius, zero = 80.0 + 200.0 * girth, jnp.zeros(n)
    right = jnp.where(side < 0.5, -1.0, 1.0)
    aside = right * (750.0 + 850.0 * off)
    base = spot + jnp.stack([aside, -radius, lerp(spec.clutter_gap_mm, far)], axis=-1)
    lying = jnp.stack([right * (300.0 + 900.0 * long), zero, 800.0 * (kind - 0.2)], axis=-1)
    upright = jnp.stack([zero, -(200.0 + 1300.0 * long), zero], axis=-1)
    end = base + jnp.where((kind < 0.4)[:, None], lying, upright)
    radii = radius[:, None] * jnp.array([1.0, 0.9])
    furniture = RoundCones(jnp.stack([base, end], axis=1), radii)
    return _present(furniture, (chance < spec.clutter_probability)[:, None], hidden)


# --- Depth images of scenes


def look(scene: Scene, columns: jax.Array, rows: jax.Array, camera: Camera) -> Hits:
    """Casts rays through columns (C,) × rows (R,) of the frame: `Hits`, each (R, C)."""
    hits = render(columns, rows, camera, scene.cones)
    x, y = pixel_rays(columns, rows, camera)
    for plane in scene.planes:
        normal, offset = plane[:3], plane[3]
        facing = normal[0] * x + normal[1] * y + normal[2]  # n·d
        plane_mm = jnp.where(facing > 1e-3, offset / facing, jnp.inf)
        cosine = facing * jax.lax.rsqrt((x * x + y * y + 1.0) * (normal @ normal))
        nearer = plane_mm < hits.depth_mm
        hits = Hits(
            jnp.where(nearer, plane_mm, hits.depth_mm), jnp.where(nearer, cosine, hits.cosine)
        )
    return hits


def crop_lattice(box_px: jax.Array, crop_size: int, margin: int) -> tuple[jax.Array, jax.Array]:
    """Source columns and rows, each (crop_size + 2 margin,) int32, of `geometry.crop_canvas`, without its rounding."""
    k = jnp.arange(-margin, crop_size + margin)
    x0, y0, x1, y1 = box_px.astype(jnp.int32)
    return x0 + k * (x1 - x0) // crop_size, y0 + k * (y1 - y0) // crop_size


def synthetic_example(
    key: jax.Array, *, crop_size: int, margin: int, **settings: Any
) -> dict[str, jax.Array]:
    """One example, a pure function of the key; jit and vmap it over keys, or use `generate`.

    The canvas has the crop of side S, px, and m lattice points (`margin`) beyond it on every side; `settings` are the
    other arguments of `depth_image`.

    Returns:
      canvas: (S + 2m, S + 2m) uint16 in units, 0 = no reading, as `geometry.crop_canvas` would cut it; joints_uvd:
      (K, 3) float32 px, px, mm in the full frame; joints_xyz: (K, 3) float32 mm in the camera frame; center_uvd: (3,)
      float32; box_px and window_px: (4,) float32, crop box clipped to the frame and unclipped.
    """
    canvas, truth = depth_image(key, lambda box: crop_lattice(box, crop_size, margin), **settings)
    return {"canvas": canvas, **truth}


def synthetic_frame(key: jax.Array, **settings: Any) -> dict[str, jax.Array]:
    """The full frame of the same scene: `frame` (H, W) uint16 in units in place of `canvas`."""
    width, height = settings["frame_size"]
    frame, truth = depth_image(key, lambda _: (jnp.arange(width), jnp.arange(height)), **settings)
    return {"frame": frame, **truth}


def full_frames(seed: int, count: int, **settings: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yields full frames in order, as numpy arrays: frame i is `synthetic_frame(key(seed + i), **settings)`."""
    draw_frame = jax.jit(partial(synthetic_frame, **settings))
    for number in range(seed, seed + count):
        yield jax.device_get(draw_frame(jax.random.key(number)))


def depth_image(
    key: jax.Array,
    lattice: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    *,
    view: View,
    camera: Camera,
    frame_size: tuple[int, int],
    unit_mm: float = 1.0,
    sensor: SensorSpec | SensorMix | None = KINECT,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The depth image of a random scene on a lattice, and the truth about it.

    Args:
      key, view: which scene, and what composes it.
      lattice: the clipped crop box -> columns (C,) and rows (R,) of the image.
      camera, frame_size: fy may be negative; (W, H) of the source frame, px.
      unit_mm: of the image, mm per count.
      sensor: of a mixture the scene draws one; None for the perfect depth.

    Returns:
      (R, C) uint16 in units, 0 = no reading or outside the frame; and the other fields of `synthetic_example`.
    """
    scene = view.compose(key, camera, frame_size)
    last = jnp.array(frame_size, jnp.float32) - 1.0
    truth = {
        "joints_uvd": project(scene.joints_xyz, camera),
        "joints_xyz": scene.joints_xyz,
        "center_uvd": project(scene.center_xyz, camera),
        "window_px": scene.window_px,
        "box_px": jnp.clip(scene.window_px, 0.0, jnp.concatenate([last, last])),
    }
    columns, rows = lattice(truth["box_px"])
    depth = _readings(scene, columns, rows, camera, frame_size, sensor)
    return jnp.clip(jnp.round(depth / unit_mm), 0.0, 65535.0).astype(jnp.uint16), truth


_SENSOR = 3  # folded into the key of the noise, whose draws stay the same


def _readings(
    scene: Scene,
    columns: jax.Array,
    rows: jax.Array,
    camera: Camera,
    frame_size: tuple[int, int],
    sensor: SensorSpec | SensorMix | None,
) -> jax.Array:
    """Depth (R, C) float32 mm at columns (C,) and rows (R,) of the frame as the sensor reads it, 0 = no reading."""
    inside = inside_frame(columns, rows, frame_size)
    if sensor is None:
        hits = look(scene, columns, rows, camera)
        return jnp.where(jnp.isfinite(hits.depth_mm) & inside, hits.depth_mm, 0.0)
    if isinstance(sensor, SensorMix):
        sensor = sensor.draw(jax.random.fold_in(scene.noise_key, _SENSOR))
    if not sensor.effects:
        hits = look(scene, columns, rows, camera)
        return measure(scene.noise_key, hits, columns, rows, frame_size, sensor)
    block = jnp.round(sensor.pixel_px).astype(jnp.int32)
    columns, rows = columns // block, rows // block
    middle = (block - 1) / 2
    hits = look(scene, columns * block + middle, rows * block + middle, camera)
    depth = measure(scene.noise_key, hits, columns, rows, frame_size, sensor)
    return jnp.where(inside, depth, 0.0)


@partial(jax.jit, static_argnames=("camera", "frame_size", "crop_size", "margin", "unit_mm"))
def _batch(root: jax.Array, indices: jax.Array, **settings: Any) -> dict[str, jax.Array]:
    def example(index: jax.Array) -> dict[str, jax.Array]:
        return synthetic_example(jax.random.fold_in(root, index), **settings)

    return jax.vmap(example)(indices)


def generate(
    seed: int, indices: range, *, batch_size: int = 8, **settings: Any
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the examples of the given indices in order, as numpy arrays.

    Example i is `synthetic_example(fold_in(key(seed), i), **settings)`: it depends on (seed, i) alone. All batches have
    one size, the last one being padded, so an example is the same to the bit whichever indices are generated together,
    and in whichever process. Another `batch_size` is another program, which may round differently; 8 canvases fit a
    CPU's cache.
    """
    root = jax.random.key(seed)
    pending: Iterable[dict[str, np.ndarray]] = ()
    for start in range(0, len(indices), batch_size):
        wanted = np.asarray(indices[start : start + batch_size], np.uint32)
        batch = _batch(root, np.resize(wanted, batch_size), **settings)
        # The device computes this batch while the caller consumes the previous one.
        yield from pending
        pending = _rows(batch, len(wanted))
    yield from pending


def _rows(batch: dict[str, jax.Array], count: int) -> Iterator[dict[str, np.ndarray]]:
    arrays = {name: np.asarray(values) for name, values in batch.items()}
    for i in range(count):
        yield {name: values[i] for name, values in arrays.items()}


# A camera's frame has readings everywhere, and the time to read a file depends on its size.
_BEFORE_A_WALL = SceneSpec(wall_probability=1.0)


def track_frames(
    track: TrackSpec,
    count: int,
    seed: int = 0,
    scene: SceneSpec = _BEFORE_A_WALL,
    sensor: SensorSpec | SensorMix = KINECT,
    without_hand: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields frames of hands or bodies as a track's camera would see them; frame i is of seed + i alone.

    As `full_frames`: `frame` (H, W) uint16 mm, `center_uvd` (3,) px px mm, `window_px` (4,) px, and the rest.
    The other arguments are for hands, by default before a wall and seen by a Kinect.
    """
    settings = settings_of(track, scene, sensor, without_hand)
    return full_frames(seed, count, **settings)


def track_crops(track: TrackSpec, count: int, seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
    """Yields examples of `generate`, whose `canvas` is the crop of a track, (S, S) uint16 mm: quicker than frames."""
    settings = settings_of(track)
    return generate(seed, range(count), crop_size=track.crop_size, margin=0, **settings)


def settings_of(
    track: TrackSpec,
    scene: SceneSpec = _BEFORE_A_WALL,
    sensor: SensorSpec | SensorMix = KINECT,
    without_hand: bool = False,
) -> dict[str, Any]:
    """What `depth_image` takes for a track, beside key and lattice; arguments as for `track_frames`."""
    size = track.frame_size
    settings: dict[str, Any]
    if track.crop_by == "center":
        assert track.half_window_mm is not None
        settings = {"view": HandView(track.half_window_mm, scene, without_hand), "sensor": sensor}
    else:
        settings = {"view": BodyView(track.label_box_margin_px), "sensor": XTION}
    return {**settings, "camera": track.camera or _body_camera(size), "frame_size": size}


def _body_camera(frame_size: tuple[int, int]) -> Camera:
    """ITOP's camera at another resolution, for tracks without a camera, whose joints are in pixels only."""
    known = TRACKS["itop_front"]
    assert known.camera is not None
    scale = np.divide(frame_size, known.frame_size)
    return Camera.from_array(known.camera.as_array() * [*scale, *scale])
