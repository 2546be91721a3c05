"""What people do in front of a depth camera: a random pose of body, arms and legs, as in ITOP.

Poses are drawn around *modes*: a table of what legs do and one of what an arm does. A person is
somewhere on the way from standing, arms hanging, to the mode, as in a film; then every angle
deviates a little on its own, within its limits.
"""

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic import body
from a2j_jax.synthetic.body import FEET, KNEES, SEAT, BodyPose
from a2j_jax.synthetic.draws import draw

# Weight; plane of elevation, elevation, rotation inward, elbow flexion of one arm, degrees.
ARMS = {
    "hanging": (0.34, 40, 7, 5, 15),
    "raised sideways": (0.10, 5, 85, 0, 15),
    "overhead": (0.10, 40, 148, 0, 25),
    "pointing forward": (0.13, 85, 80, 0, 12),
    "held forward": (0.11, 60, 18, 10, 85),
    "across the chest": (0.09, 80, 38, 50, 95),
    "on the hip": (0.05, -5, 42, 55, 95),
    "at the head": (0.06, 65, 75, 10, 125),
    "hands up": (0.06, 0, 80, -80, 90),
}
# Weight; then for the leading leg and for the other: angle of the thigh before the vertical,
# abduction, rotation outward, knee flexion; then how far the trunk leans forward (degrees); from
# which share of all that on, the rest being unstable; what carries the body.
LEGS = {
    "standing": (0.50, (2, 2, 8, 5), (2, 2, 8, 5), 0, 0, FEET),
    "legs apart": (0.05, (0, 17, 14, 5), (0, 17, 14, 5), 0, 0, FEET),
    "walking": (0.12, (24, 2, 5, 12), (-14, 2, 5, 22), 3, 0, FEET),
    "knee raised": (0.07, (85, 8, 5, 95), (0, 2, 8, 4), 0, 0.2, FEET),
    "leg lifted forward": (0.04, (50, 4, 5, 14), (-3, 3, 8, 6), -4, 0.2, FEET),
    "leg lifted sideways": (0.04, (4, 38, 5, 6), (0, 0, 8, 4), 0, 0.2, FEET),
    "heel to the back": (0.03, (-6, 2, 5, 95), (2, 3, 8, 6), 4, 0.2, FEET),
    "squatting": (0.07, (78, 14, 12, 125), (78, 14, 12, 125), 36, 0.2, FEET),
    "lunging": (0.04, (62, 3, 3, 74), (-22, 2, 3, 40), 8, 0.3, FEET),
    "sitting": (0.03, (82, 9, 8, 84), (84, 9, 8, 86), -2, 1, SEAT),
    "kneeling on one": (0.015, (84, 8, 6, 86), (0, 4, 3, 98), 4, 1, KNEES),
    "kneeling": (0.015, (6, 7, 4, 108), (6, 7, 4, 108), 4, 1, KNEES),
}
BENDING = 0.15  # share of people who bend down on top of that
TOGETHER = 0.5  # share of people whose arms do the same

_ARM_SIGMA_DEG = np.array([14.0, 11.0, 12.0, 12.0], np.float32)
_LEG_SIGMA_DEG = np.array([4.0, 3.0, 7.0, 5.0], np.float32)


def _chosen(weights: np.ndarray, uniform: jax.Array) -> jax.Array:
    """Index (...) of the row that uniform numbers (...) fall on, rows being as wide as weights."""
    bounds = np.cumsum(weights / weights.sum())[:-1]
    return jnp.sum(uniform[..., None] >= jnp.asarray(bounds), axis=-1)


def _within(degrees: jax.Array, *limits: tuple[float, float]) -> jax.Array:
    """Angles (..., n) clipped to n pairs of limits, degrees, in radians."""
    low, high = jnp.asarray(limits).T
    return jnp.deg2rad(jnp.clip(degrees, low, high))


def sample_pose(key: jax.Array) -> BodyPose:
    """A random pose within the anatomical limits; `body.standing` still has to put it on its feet."""
    k_arms, k_legs, k_trunk = jax.random.split(key, 3)
    arms = _arms(k_arms)
    thighs, lean, carried_by = _legs(k_legs)
    pelvis, spine, neck = _trunk(k_trunk, lean, carried_by)
    # Legs are drawn against the vertical; the hip bends as far as the pelvis tilts on top of it.
    hips = thighs[:, :3] + jnp.stack([pelvis[0], 0.0, 0.0])
    return BodyPose(
        pelvis=jnp.deg2rad(pelvis),
        spine=_within(spine, *body.SPINE_LIMIT_DEG),
        neck=_within(neck, *body.NECK_LIMIT_DEG),
        shoulder=_within(
            arms[:, :3],
            body.PLANE_LIMIT_DEG,
            body.ELEVATION_LIMIT_DEG,
            body.SHOULDER_ROTATION_LIMIT_DEG,
        ),
        elbow=_within(arms[:, 3:], body.ELBOW_LIMIT_DEG)[:, 0],
        hip=_within(
            hips,
            body.HIP_FLEXION_LIMIT_DEG,
            body.HIP_ABDUCTION_LIMIT_DEG,
            body.HIP_ROTATION_LIMIT_DEG,
        ),
        knee=_within(thighs[:, 3:], body.KNEE_LIMIT_DEG)[:, 0],
        ankle=jnp.zeros(2),
        carried_by=carried_by,
    )


def _arms(key: jax.Array) -> jax.Array:
    """(2, 4) degrees: the columns of `ARMS`, of the right arm and of the left."""
    (mode, share, together), (own,) = draw(key, uniform=[(2,), (2,), ()], bell=[(2, 4)])
    table = np.array(list(ARMS.values()), np.float32)
    same = together < TOGETHER
    mode, share = jnp.where(same, mode[0], mode), jnp.where(same, share[0], share)
    goal = jnp.asarray(table[:, 1:])[_chosen(table[:, 0], mode)]
    rest = jnp.asarray(table[0, 1:])
    # Three of four arms are where they are going.
    reached = jnp.minimum(0.2 + 1.1 * share, 1.0)[:, None]
    return rest + reached * (goal - rest) + _ARM_SIGMA_DEG * own


def _legs(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(2, 4) degrees, as in `LEGS`, of the right leg and of the left; trunk's lean; what carries."""
    (mode, share, side), (own,) = draw(key, uniform=[(), (), ()], bell=[(2, 4)])
    rows = list(LEGS.values())
    chosen = _chosen(np.array([row[0] for row in rows]), mode)
    goal = jnp.array([row[1:3] for row in rows], jnp.float32)[chosen]
    lean, least, carried_by = jnp.array([row[3:] for row in rows], jnp.float32)[chosen]
    rest = jnp.array(rows[0][1:3], jnp.float32)
    reached = least + (1.0 - least) * share
    legs = rest + reached * (goal - rest)
    legs = jnp.where(side < 0.5, legs, legs[::-1])
    return legs + _LEG_SIGMA_DEG * own, reached * lean, carried_by


def _trunk(
    key: jax.Array, lean: jax.Array, carried_by: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Degrees of pelvis (2,), spine (3,) and neck (3,); bending is shared by pelvis and spine."""
    (often, far), (hips, back, head) = draw(key, uniform=[(), ()], bell=[(2,), (3,), (3,)])
    bend = jnp.where(often < BENDING, 10.0 + 60.0 * far, 0.0) * jnp.where(
        carried_by == FEET, 1.0, 0.5
    )
    forward = lean + bend
    pelvis = jnp.array([4.0, 3.0]) * hips + jnp.stack([0.55 * forward, 0.0])
    spine = jnp.array([6.0, 6.0, 10.0]) * back + jnp.stack([4.0 + 0.45 * forward, 0.0, 0.0])
    # Eyes stay on the scene: the neck takes back half of what the back has bent.
    neck = jnp.array([9.0, 7.0, 18.0]) * head + jnp.stack([4.0 - 0.4 * forward, 0.0, 0.0])
    return pelvis, spine, neck
