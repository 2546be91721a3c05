"""Hands followed from frame to frame: `HandModel.track` and `follow`, for frames that come one by one."""

import dataclasses
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from a2j_jax.geometry import Camera, Float64, xyz_to_uvd
from a2j_jax.inference.frame_predictor import DepthFrame
from a2j_jax.inference.hands import (
    LOST,
    SAME_HAND_MM,
    HandModel,
    HandPose,
    Sight,
    check_most,
    is_one_of,
    sigmoid,
)
from a2j_jax.inference.locate import hand_centers

_REMEMBERED = 0.7  # share of the logits of earlier frames, much alike, that the next one keeps
_SEARCH_EVERY = 5  # frames, where fewer hands are followed than asked for
_UNSEEN, _HIDDEN = 5, 30  # frames that a hand is remembered, in the open and behind another one
_REACH_MM = 200.0  # of a hand from where it is expected
_OTHER_SIDE_MM = 60.0  # that a hand counts as farther away if it is certainly the other one
_NEVER = 1e6
_WIDTH_MM = 130.0  # of what a hand hides, to each side of its mean joint
_STEADY = 0.5  # share of a hand's velocity that the next frame keeps: a hand that is half hidden seems to jump
_AT_REST = np.zeros(3)


class OneHand:
    """Follows one hand: around its place in the frame before, or in the entire frame if that scores as no hand."""

    def __init__(self, hand: HandModel) -> None:
        """`hand` finds it."""
        self._hand = hand
        self._before: HandPose | None = None
        self._evidence = 0.0  # logit for right of the frames since it was found

    def __call__(
        self,
        depth_mm: ArrayLike,
        camera: Camera | Sequence[float] | None = None,
        name: str = "depth frame",
    ) -> HandPose:
        """The pose in the next frame; without any reading, one of NaN joints with a score of 0 and a warning.

        Args:
          depth_mm: (H, W) mm, 0 = no reading.
          camera: of this frame; by default the model's.
          name: of the frame, for warnings.

        Raises:
          UserError: as a call of `HandModel`, for another reason than a frame without readings. The frame is left out.
        """
        hand, before = self._hand, self._before
        depth, camera = hand._checked(depth_mm, camera)
        if not depth.any():
            self._before = None
            return hand._nothing(name)
        evidence = 0.0 if before is None else self._evidence
        pose, logit = None, 0.0
        if before is not None:
            pose, logit = hand._again(depth, camera, before, evidence, name)
        if pose is None or pose.score < LOST:
            starts = hand_centers(depth, camera)
            found, found_logit = hand._best(depth, camera, starts, 0.0, name)
            if pose is None or found.score > pose.score:
                pose, logit, evidence = found, found_logit, 0.0
        self._evidence = _REMEMBERED * (evidence + logit)
        self._before = pose if pose.score >= LOST else None
        hand._look_for_others(depth, camera, pose, name)
        return pose


class _Followed(NamedTuple):
    """A hand that has been seen.

    Attributes:
      number: of the hand.
      middle_mm: (3,) its mean joint when it was last seen.
      velocity_mm: (3,) per frame.
      evidence: logit for right of the frames in which it was seen.
      unseen: frames since.
    """

    number: int
    middle_mm: Float64
    velocity_mm: Float64 = _AT_REST
    evidence: float = 0.0
    unseen: int = 0

    @property
    def expected_mm(self) -> Float64:
        """(3,) its mean joint in this frame, at constant velocity."""
        return self.middle_mm + (self.unseen + 1) * self.velocity_mm

    def later(self, middle_mm: Float64, logit: float) -> "_Followed":
        """The hand, seen in this frame."""
        moved = (middle_mm - self.middle_mm) / (self.unseen + 1)
        velocity = _STEADY * self.velocity_mm + (1.0 - _STEADY) * moved
        evidence = _REMEMBERED * (self.evidence + logit)
        return _Followed(self.number, middle_mm, velocity, evidence)


class _Candidate(NamedTuple):
    """What may be a hand of this frame.

    Attributes:
      sight: of it.
      logit: for right, of this frame alone; 0 where all hands are known to be of one side.
      seconds: that it took.
    """

    sight: Sight
    logit: float
    seconds: float


class SeveralHands:
    """Follows several hands, each by its number.

    The network looks where each hand is expected at constant velocity. What it sees there belongs to the hand that is
    expected nearest, where a hand of the other side counts as farther away. A hand that is not seen keeps its number
    for 5 frames, and for 30 while it is expected behind another one. New hands are looked for in every fifth frame, and
    in every frame as long as there are none.
    """

    def __init__(self, hand: HandModel, most: int = 2) -> None:
        """`hand` finds them, up to `most` in a frame; `UserError` if that is below 1."""
        check_most(most)
        self._hand, self._most = hand, most
        self._followed: list[_Followed] = []
        self._numbers = self._count = 0

    def __call__(
        self,
        depth_mm: ArrayLike,
        camera: Camera | Sequence[float] | None = None,
        name: str = "depth frame",
    ) -> list[HandPose]:
        """The poses in the next frame that score as hands; arguments and errors as of `OneHand`."""
        depth, camera = self._hand._checked(depth_mm, camera)
        candidates = self._candidates(depth, camera) if depth.any() else []
        owned = _assign(self._followed, candidates)
        hands = [
            (one, candidates[index])
            for one, index in zip(self._followed, owned, strict=True)
            if index is not None
        ]
        for index, candidate in enumerate(candidates):
            if index not in owned and len(hands) < self._most:
                hands.append((_Followed(self._numbers, candidate.sight.middle_mm), candidate))
                self._numbers += 1
        poses, seen = [], []
        for before, candidate in sorted(hands[: self._most], key=lambda pair: pair[0].number):
            sight, started = candidate.sight, perf_counter() - candidate.seconds
            pose, _ = self._hand._pose(depth, camera, sight, before.evidence, name, started)
            if pose.score >= LOST:  # it has that of the look that shows its side
                poses.append(dataclasses.replace(pose, number=before.number))
                seen.append(before.later(sight.middle_mm, candidate.logit))
        self._count += 1
        self._followed = [*seen, *self._kept(seen)]
        return poses

    def _candidates(self, depth: DepthFrame, camera: Camera) -> list[_Candidate]:
        """What scores as a hand where one is expected and, from time to time, in the entire frame."""
        hand = self._hand
        hand._compile(depth, camera)
        found: list[_Candidate] = []

        def add(sights: Sequence[Sight], started: float) -> None:
            seconds = (perf_counter() - started) / max(len(sights), 1)
            for sight in sights:
                away = [np.linalg.norm(sight.middle_mm - one.sight.middle_mm) for one in found]
                if min(away, default=np.inf) >= SAME_HAND_MM:
                    logit, _ = hand._side(sight, camera, 0.0)
                    found.append(_Candidate(sight, 0.0 if hand.handedness else logit, seconds))

        started = perf_counter()
        expected = [np.maximum(one.expected_mm, (-np.inf, -np.inf, 1.0)) for one in self._followed]
        near = [hand._sight(depth, camera, xyz_to_uvd(xyz, camera)) for xyz in expected]
        near = sorted((one for one in near if one.score >= LOST), key=lambda one: -one.score)
        add(near, started)
        if len(found) < self._most and (not found or self._count % _SEARCH_EVERY == 0):
            started = perf_counter()
            add(hand._search(depth, camera, self._most), started)
        return found

    def _kept(self, seen: Sequence[_Followed]) -> list[_Followed]:
        """The hands that are not seen in this frame and may be seen again."""
        kept, numbers = [], {one.number for one in seen}
        for one in self._followed:
            longest = _UNSEEN
            if any(_hides(other.middle_mm, one.expected_mm) for other in seen):
                longest = _HIDDEN
            if one.number not in numbers and one.unseen < longest:
                kept.append(one._replace(unseen=one.unseen + 1))
        return kept


def _assign(followed: Sequence[_Followed], candidates: Sequence[_Candidate]) -> list[int | None]:
    """For each hand the index of its candidate, so that the sum of all distances is least; None: it is not seen."""
    from scipy.optimize import linear_sum_assignment

    if not (followed and candidates):
        return [None] * len(followed)
    cost = np.zeros((len(followed), len(candidates)))
    for row, one in enumerate(followed):
        for column, (sight, logit, _) in enumerate(candidates):
            away = np.linalg.norm(one.expected_mm - sight.middle_mm)
            right, its = sigmoid(one.evidence), sigmoid(logit)
            cost[row, column] = away + _OTHER_SIDE_MM * (right * (1 - its) + its * (1 - right))
    cost[cost > _REACH_MM] = _NEVER
    found: list[int | None] = [None] * len(followed)
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[row, column] < _NEVER:
            found[row] = int(column)
    return found


def _hides(front_mm: Float64, behind_mm: Float64) -> bool:
    """Whether a hand (3,) mm may hide another one from the camera."""
    away = behind_mm[:2] - front_mm[:2] * behind_mm[2] / front_mm[2]
    return bool(np.linalg.norm(away) < _WIDTH_MM and behind_mm[2] > front_mm[2] - SAME_HAND_MM)


def goes_on(before: HandPose | None, pose: HandPose) -> bool:
    """Whether two poses in a row are of one hand: both score as hands, of the same side, less than 80 mm apart."""
    if before is None or min(before.score, pose.score) < LOST:
        return False
    return before.handedness == pose.handedness and is_one_of(pose, [before])
