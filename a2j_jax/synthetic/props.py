"""Things around a hand that hide it or resemble it: a held object, another hand, sleeves, things in front, a person.

All are round cones in camera coordinates, mm. Shapes are static, so a scene has the same number of cones whatever it
shows: those that it does not show coincide with one inside the hand. The other hand and the objects share one bank.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic import hand
from a2j_jax.synthetic.render import RoundCones, along, join_cones, stack_cones
from a2j_jax.synthetic.sampling import draw, lerp, rotation_from_quaternion


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PropSpec:
    """Shares of scenes with each thing, and the errors of the crop's center that go with them. A pytree."""

    held: float = 0.25  # an object in the grasp: a ball, bottle, stick or something flat
    in_front: float = (
        0.15  # one or two objects between hand and camera: a finger, a cup's edge, an arm
    )
    other_hand: float = (
        0.15  # the same person's other hand, near or touching; then nothing held nor in front
    )
    sleeve: float = 0.35  # a sleeve, loose around the forearm
    no_arm: float = 0.08  # the forearm is not seen: black cloth, or a hand that was cut out
    body: float = 0.3  # a trunk and a head behind the hand
    body_gap_mm: tuple[float, float] = (
        150.0,
        500.0,
    )  # from the hand to the front of the trunk, uniform
    center_tail: float = 0.15  # share of frames in which the center's error is doubled
    center_bias_mm: float = (
        -4.0
    )  # mean of the center's error in depth: a detector sees the surface, nearer by that


class PosedHand(NamedTuple):
    """A hand in camera coordinates, mm."""

    joints: jax.Array  # (21, 3)
    palm: jax.Array  # (3,) unit vector out of the palm
    surface: RoundCones  # of `hand.hand_cones`


# Of `hand.hand_cones`: the fingers' first, the forearm's last.
_FINGERS, _ARM = slice(0, 15), slice(35, 37)
_CHAINS = np.array([[1 + f, 6 + 3 * f, 7 + 3 * f, 8 + 3 * f] for f in range(5)])
_OTHER_CONES = 16  # of the other hand, and so of the bank


def dress(key: jax.Array, arm: PosedHand, spec: PropSpec) -> RoundCones:
    """The hand's surface with its forearm bare, in a sleeve (one more cone) or unseen."""
    (sleeve, hidden, cuff, loose, stump), _ = draw(key, uniform=[()] * 5)
    ends, radii = arm.surface
    wrist, elbow = jnp.mean(ends[_ARM], axis=0)
    # The two cones lie side by side, 10 to 15 mm from the middle.
    width = radii[_ARM.start] + 0.5 * jnp.linalg.norm(ends[35] - ends[36], axis=-1)
    start = lerp((0.06, 0.6), cuff)
    cloth = along(wrist, elbow, start), elbow
    girth = along(width[0], width[1], start) * lerp((0.95, 1.25), loose), width[1] * 1.1
    inside = ends[_ARM.start, 0], radii[_ARM.start, 0]
    worn = (sleeve < spec.sleeve) & (hidden >= spec.no_arm)
    cloth = RoundCones(
        jnp.where(worn, jnp.stack(cloth), inside[0])[None],
        jnp.where(worn, jnp.stack(girth), inside[1])[None],
    )
    short = jnp.where(hidden < spec.no_arm, lerp((0.02, 0.2), stump), 1.0)
    elbows = along(ends[_ARM, 0], ends[_ARM, 1], short)
    return join_cones(RoundCones(ends.at[_ARM, 1].set(elbows), radii), cloth)


def bank(key: jax.Array, shown: PosedHand, spec: PropSpec) -> RoundCones:
    """The other hand, or what is held and what is in front: 16 cones."""
    k_kind, k_other, k_held, k_front = jax.random.split(key, 4)
    (kind, held, front), _ = draw(k_kind, uniform=[(), (), ()])
    objects = join_cones(_held(k_held, shown), _in_front(k_front, shown))
    there = jnp.stack([held < spec.held] * 2 + [front < spec.in_front] * 2)[:, None]
    ends, radii = (x[0] for x in shown.surface)
    objects = RoundCones(
        jnp.where(there[..., None], objects.ends_mm, ends),
        jnp.where(there, objects.radii_mm, radii),
    )
    rest = _OTHER_CONES - len(there)
    hidden = RoundCones(*(jnp.broadcast_to(x, (rest, *x.shape)) for x in (ends, radii)))
    few = join_cones(objects, hidden)
    other = _other_hand(k_other, shown)
    filled = _choose(kind < spec.other_hand, other, few)
    nothing = RoundCones(*(jnp.broadcast_to(x, (_OTHER_CONES, *x.shape)) for x in (ends, radii)))
    return _choose(_covered(shown.joints, filled) > _MOST_COVERED, nothing, filled)


_MOST_COVERED = 0.6  # of the joints; what hides more is left out, as nobody could tell the pose


def _choose(first: jax.Array, one: RoundCones, other: RoundCones) -> RoundCones:
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)


def _covered(joints: jax.Array, cones: RoundCones) -> jax.Array:
    """The share () of joints (K, 3) of which a camera at the origin sees cones instead: six balls stand for a cone."""
    steps = jnp.linspace(0.0, 1.0, 6)
    (a, b), (ra, rb) = jnp.moveaxis(cones.ends_mm, 1, 0), cones.radii_mm.T
    balls = along(a[:, None], b[:, None], steps[:, None]).reshape(-1, 3)
    radii = along(ra[:, None], rb[:, None], steps).reshape(-1)
    far = jnp.linalg.norm(joints, axis=-1)
    reached = balls @ (joints / far[:, None]).T  # (balls, K): how far along the rays to the joints
    aside = jnp.sum(balls**2, axis=-1)[:, None] - reached**2
    hides = (aside < radii[:, None] ** 2) & (reached < far)
    return jnp.mean(jnp.any(hides, axis=0))


def _held(key: jax.Array, shown: PosedHand) -> RoundCones:
    """An object between palm and fingertips, as thick as they leave room for; two cones, the same but for flat ones.

    Its axis lies across the palm, tilted; its radius is that of the largest cone that does not reach into the fingers
    by more than 3 mm. Where there is hardly room, as in a fist, it is a stick.
    """
    (length, along_axis, flat, thick), (tilt, place) = draw(
        key, uniform=[(), (), (), ()], bell=[(3,), ()]
    )
    joints = shown.joints
    knuckles, tips = joints[2:6], joints[np.array([11, 14, 17, 20])]
    palm = along(joints[0], jnp.mean(knuckles, axis=0), 0.75) + 14.0 * shown.palm
    across = knuckles[0] - knuckles[3]
    across = across / jnp.linalg.norm(across)
    axis = across + 0.35 * tilt
    axis = axis / jnp.linalg.norm(axis)
    # Curled fingers leave their room between tips and palm; stretched ones hold something on the palm.
    middle = along(palm, jnp.mean(tips, axis=0), 0.45) + 6.0 * place * axis
    reach = lerp((8.0, 110.0), length)
    start, stop = middle - reach * along_axis * axis, middle + reach * (1.0 - along_axis) * axis

    chains = joints[_CHAINS]
    points = jnp.concatenate([chains[:, 1:], (chains[:, 1:] + chains[:, :-1]) / 2], axis=1)
    flesh = shown.surface.radii_mm[_FINGERS].reshape(5, 3, 2)
    flesh = jnp.concatenate([flesh[..., 1], jnp.mean(flesh, axis=-1)], axis=1).reshape(-1)
    points = points.reshape(-1, 3)
    s = jnp.clip(((points - start) @ axis) / reach, 0.0, 1.0)[:, None]
    gap = jnp.linalg.norm(points - (start + s * (stop - start)), axis=-1) - flesh
    radius = jnp.clip(jnp.min(gap) + 3.0, 4.0, lerp((15.0, 45.0), thick))
    # Something flat: the second cone lies beside the first, toward the fingertips.
    beside = jnp.cross(axis, shown.palm) * jnp.where(flat < 0.3, 1.3 * radius, 0.0)
    return stack_cones(
        (start, stop, radius, radius * lerp((0.6, 1.0), flat)),
        (start + beside, stop + beside, radius, radius * lerp((0.6, 1.0), flat)),
    )


def _in_front(key: jax.Array, shown: PosedHand) -> RoundCones:
    """Two neighboring objects 15 to 110 mm in front of a joint, as thick as a finger (in half the scenes) or an arm."""
    (which, near, thin, girth, long, pair), (aside, heading) = draw(
        key, uniform=[()] * 6, bell=[(2,), (3,)]
    )
    joint = shown.joints[(which * 21).astype(jnp.int32)]
    radius = jnp.where(thin < 0.5, lerp((7.0, 11.0), girth), lerp((14.0, 36.0), girth))
    axis = heading * jnp.array([1.0, 1.0, 0.5])
    axis = axis / jnp.linalg.norm(axis)
    # Thick ones are farther aside: they hide a part of the hand, not all of it.
    shift = aside * (12.0 + radius)
    middle = joint + jnp.append(shift, -(radius + 8.0 + lerp((15.0, 110.0), near)))
    # It comes into view from one side, and ends in front of the hand.
    stop = middle + lerp((60.0, 260.0), long) * axis
    beside = jnp.cross(axis, jnp.array([0.0, 0.0, 1.0])) * 2.0 * radius * (pair < 0.4)
    return stack_cones(
        (middle, stop, radius, radius * 1.1),
        (middle + beside + 0.4 * radius * axis, stop + beside, radius * 0.95, radius * 1.1),
    )


def _other_hand(key: jax.Array, shown: PosedHand) -> RoundCones:
    """Another hand beside, before or behind the shown one, in 16 cones: two per finger, palm, thumb's ball and arm."""
    k_hand, k_place = jax.random.split(key)
    shape, pose = hand.sample_hand(k_hand, hand.HandSpec(candidates=1))
    posed = hand.forward_kinematics(shape, pose)
    (away, depth, side), (direction, turn) = draw(k_place, uniform=[(), (), ()], bell=[(2,), (4,)])
    joints, flesh = posed.joints_mm, shape.scale * shape.thickness
    chain, r = joints[_CHAINS], shape.radius_mm
    wrist, elbow = joints[0], -hand.FOREARM_MM * posed.forearm[:, 1] * shape.scale
    carpal = shape.scale * hand.CARPAL_MM[[0, 1, 3]]
    mcp = joints[np.array([2, 3, 5])]
    surface = stack_cones(
        (chain[:, 0], chain[:, 1], r[:, 0], r[:, 1]),
        (chain[:, 1], chain[:, 3], r[:, 1], r[:, 3]),
        (carpal, mcp, 15.0 * flesh * jnp.ones(3), 12.5 * flesh * jnp.ones(3)),
        (mcp[0], mcp[2], 11.5 * flesh, 10.5 * flesh),
        (shape.scale * jnp.array([14.0, 20.0, 5.0]), chain[0, 1], 17.0 * flesh, 12.0 * flesh),
        (wrist, elbow, 25.0 * flesh, 42.0 * flesh),
    )
    mirror = jnp.stack([jnp.where(side < 0.5, -1.0, 1.0), 1.0, 1.0])
    turned = rotation_from_quaternion(turn) * mirror
    direction = direction / jnp.linalg.norm(direction + 1e-6)
    offset = jnp.append(lerp((55.0, 150.0), away) * direction, lerp((-90.0, 110.0), depth))
    place = jnp.mean(shown.joints, axis=0) + offset - turned @ jnp.mean(joints, axis=0)
    return RoundCones(surface.ends_mm @ turned.T + place, surface.radii_mm)


def body(
    key: jax.Array, center: jax.Array, up: jax.Array, inside: RoundCones, spec: PropSpec
) -> RoundCones:
    """A trunk and a head behind the hand: two cones, or the one called `inside` twice. up (3,) is a direction."""
    (there, gap, girth, height, lean), (aside,) = draw(key, uniform=[()] * 5, bell=[()])
    trunk = lerp((110.0, 160.0), girth)
    front = center + jnp.array([160.0, 0.0, 0.0]) * aside
    chest = front + jnp.array([0.0, 0.0, 1.0]) * (trunk + lerp(spec.body_gap_mm, gap))
    # The hand is between the hips and the face.
    neck = chest + up * lerp((-150.0, 400.0), height)
    head = neck + up * (trunk + 60.0) + jnp.array([0.0, 0.0, 0.4]) * (lean - 0.5) * trunk
    cones = stack_cones(
        (neck, neck - 450.0 * up, trunk, trunk * 0.95),
        (head, head + 60.0 * up, jnp.float32(75.0), jnp.float32(85.0)),
    )
    hidden = RoundCones(*(jnp.broadcast_to(x, (2, *x.shape)) for x in inside))
    return _choose(there < spec.body, cones, hidden)


def center_error(key: jax.Array, sigma_mm: float, spec: PropSpec) -> jax.Array:
    """Tail and bias in depth, (3,) mm, of a center's error, otherwise Gaussian with σ = sigma_mm on each axis."""
    k_tail, k_error = jax.random.split(key)
    tail = jax.random.uniform(k_tail) < spec.center_tail
    # Independent errors add up to twice σ.
    more = jnp.where(tail, 3.0**0.5 * sigma_mm, 0.0) * jax.random.normal(k_error, (3,))
    return more + jnp.array([0.0, 0.0, 1.0]) * spec.center_bias_mm
