"""TrackSpec: all constants of a data set and its evaluation protocol; Skeleton: its joints.

A *track* is a data set, a view and a protocol. The numbers are the authors' (their published `mean` and `std` files,
boxes and test programs); `notes` say where the training program was never published. The constants of a new
data set are a row of `TRACKS`; CONTRIBUTING.md lists its other parts.

A skeleton has names and bones, in the order of the labels. It is defined by its *limbs*: named chains of joints from
the root outward. Bones are the consecutive pairs of each chain; pictures color a bone by its limb. Names and bones were
checked against plots of the published test labels.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from a2j_jax.errors import UserError, did_you_mean, printable
from a2j_jax.geometry import Camera

FINGERS = ("thumb", "index", "middle", "ring", "pinky")


@dataclass(frozen=True)
class Skeleton:
    """Names and connections of K joints.

    Attributes:
      name: of the joint convention.
      joints: K names, in label order. Paired joints are called `left_x` and `right_x`
        (the person's own left and right).
      limbs: (limb name, chain of joint indices from the root outward) pairs.
      groups: (group name, joint indices) pairs that are scored together, left and right pooled: the columns of ITOP's
        tables. Empty where the field has none.
      regions: the same for larger parts of the body; a joint may be in no region.
      torso: (one joint, two joints whose midpoint is the other end) of the torso diameter, the unit of PDJ, or None.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, tuple[int, ...]], ...]
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    torso: tuple[int, tuple[int, int]] | None = None

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) joint indices, limb by limb."""
        return tuple(bone for _, chain in self.limbs for bone in pairwise(chain))

    @property
    def bone_limbs(self) -> tuple[int, ...]:
        """For every bone, the index of its limb."""
        return tuple(i for i, (_, chain) in enumerate(self.limbs) for _ in chain[1:])

    @property
    def left_right(self) -> tuple[tuple[int, int], ...]:
        """(left, right) joint indices that mirror each other; empty for hands."""
        pairs = ((name, "right_" + name.removeprefix("left_")) for name in self.joints)
        return tuple(
            (self.joints.index(left), self.joints.index(right))
            for left, right in pairs
            if left.startswith("left_") and right in self.joints
        )

    def __len__(self) -> int:
        return len(self.joints)


NYU = Skeleton(
    # Joints 0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32 of the 36 of Tompson et al. (2014).
    name="nyu",
    joints=(
        "pinky_tip", "pinky_mid", "ring_tip", "ring_mid", "middle_tip", "middle_mid",
        "index_tip", "index_mid", "thumb_tip", "thumb_mid", "thumb_root",
        "wrist_pinky_side", "wrist_thumb_side", "palm",
    ),
    limbs=(
        ("thumb", (13, 10, 9, 8)),
        ("index", (13, 7, 6)),
        ("middle", (13, 5, 4)),
        ("ring", (13, 3, 2)),
        ("pinky", (13, 1, 0)),
        ("wrist", (11, 13, 12)),
    ),
)  # fmt: skip

ICVL = Skeleton(
    name="icvl",
    joints=("palm", *(f"{f}_{part}" for f in FINGERS for part in ("root", "mid", "tip"))),
    limbs=tuple((f, (0, 3 * i + 1, 3 * i + 2, 3 * i + 3)) for i, f in enumerate(FINGERS)),
)

HANDS2017 = Skeleton(
    # Wrist, the five MCPs, then PIP, DIP, TIP finger by finger (Yuan et al. 2017). On the thumb, "mcp", "pip" and "dip"
    # are the anatomical CMC, MCP and IP joints.
    name="hands2017",
    joints=(
        "wrist",
        *(f"{f}_mcp" for f in FINGERS),
        *(f"{f}_{part}" for f in FINGERS for part in ("pip", "dip", "tip")),
    ),
    limbs=tuple((f, (0, 1 + i, 6 + 3 * i, 7 + 3 * i, 8 + 3 * i)) for i, f in enumerate(FINGERS)),
)

ITOP = Skeleton(
    name="itop",
    joints=(
        "head", "neck", "right_shoulder", "left_shoulder", "right_elbow", "left_elbow",
        "right_hand", "left_hand", "torso", "right_hip", "left_hip", "right_knee", "left_knee",
        "right_foot", "left_foot",
    ),
    limbs=(
        ("trunk", (0, 1, 8)),
        ("right arm", (1, 2, 4, 6)),
        ("left arm", (1, 3, 5, 7)),
        ("right leg", (8, 9, 11, 13)),
        ("left leg", (8, 10, 12, 14)),
    ),
    groups=(
        ("head", (0,)), ("neck", (1,)), ("shoulders", (2, 3)), ("elbows", (4, 5)),
        ("hands", (6, 7)), ("torso", (8,)), ("hips", (9, 10)), ("knees", (11, 12)),
        ("feet", (13, 14)),
    ),
    # The torso is in neither half, as in the averages of Haque et al. (ECCV 2016).
    regions=(
        ("upper_body", tuple(range(8))),
        ("lower_body", tuple(range(9, 15))),
        ("full_body", tuple(range(15))),
    ),
    # Not part of ITOP's own protocol; PDJ (Table 8) uses neck to the midpoint of the hips, as on K2HPD.
    torso=(1, (9, 10)),
)  # fmt: skip

K2HPD = Skeleton(
    # The data set documents no names; these follow from the published labels (joint 1 is the neck and 9, 12 the hips of
    # PDJ's torso diameter). Left and right assume the Kinect's mirrored image: the person's left is on the left.
    name="k2hpd",
    joints=(
        "head", "neck", "spine_mid", "left_shoulder", "left_elbow", "left_hand",
        "right_shoulder", "right_elbow", "right_hand", "left_hip", "left_knee", "left_foot",
        "right_hip", "right_knee", "right_foot", "spine_shoulder", "spine_base",
        "left_wrist", "right_wrist",
    ),
    limbs=(
        ("trunk", (0, 1, 15, 2, 16)),
        ("right arm", (15, 6, 7, 18, 8)),
        ("left arm", (15, 3, 4, 17, 5)),
        ("right leg", (16, 12, 13, 14)),
        ("left leg", (16, 9, 10, 11)),
    ),
    torso=(1, (9, 12)),
)  # fmt: skip


LARGEST_CROP = 2048  # px
#: Splits that data sets usually have, and TFDS's name for all splits together.
USUAL_SPLITS = ("train", "validation", "test")
ALL_SPLITS = "all"
FrameFormat = Literal["depth16", "nyu_packed", "metres", "stretch8"]


@dataclass(frozen=True)
class AugmentSpec:
    """The official training augmentation of a track (see `a2j_jax.data.augment`).

    Attributes:
      max_rotation_deg: in-plane rotation is uniform in +- this, degrees.
      scale_range: uniform range of the in-plane scale.
      box_jitter_px: each box edge moves by a whole number of frame px in [-this, this).
      noise_probability: chance that a rectangle of the crop gets Gaussian noise.
      noise_sigma: standard deviation of the noise, normalized units.
      center_shift_mm: the crop's center moves by a Gaussian 3D vector of this standard deviation on each axis, mm,
        twice as much in 15 % of the examples; 0: not. For tracks that crop by a center; not part of the official
        augmentation.
    """

    max_rotation_deg: float
    scale_range: tuple[float, float]
    box_jitter_px: int
    noise_probability: float
    noise_sigma: float
    center_shift_mm: float = 0.0


@dataclass(frozen=True)
class TrainingSpec:
    """Length of a run, decay of its learning rate, and alpha.

    Attributes:
      epochs: passes over the training frames.
      decay_every_epochs: the learning rate is multiplied by `decay_factor` every so many epochs.
      decay_factor: see there.
      alpha: weight of the in-plane term against depth, Eq. (4).
    """

    epochs: int
    decay_every_epochs: int
    decay_factor: float
    alpha: float = 0.5


@dataclass(frozen=True)
class TrackSpec:
    """Frames, crops, labels and scores of one track.

    Attributes:
      name: the track's name on the command line.
      skeleton: joint names and bones.
      camera: of the full frame; None where joints are 2D only.
      frame_size: (W, H) of the full frame, px.
      crop_size: S, the side of the network's input, px.
      crop_by: "center": a window of `half_window_mm` around a 3D point; "box": a given box.
      half_window_mm: half side of that window, mm ("center" only).
      depth_window_mm: depths this far or farther from the center become the center's depth; None: never.
      depth_reference: theta of Eq. (3)'s depth target: the center's depth, or zero.
      image_unit_mm: unit of the depth that `mean` and `std` normalize (1 mm; ITOP 1 m).
      joint_depth_scale: mu, network units per mm of joint depth (1; ITOP 50 per meter).
      mean, std: of the crop, in image units, after the depth reference is subtracted.
      storage_unit_mm: unit of the stored uint16 canvas, mm per count.
      joint_dims: 3 (u, v, d) or 2 (u, v).
      frame_format: contents of a raw image file. "depth16": 16-bit mm; "nyu_packed": 8-bit RGB with
        depth = 256 G + B mm; "metres": floats in meters (HDF5); "stretch8": any depth image, min-max-stretched per
        frame to integers 0..255 before use.
      augmentation: of training.
      paper_training: Sec. 4.1.3 and Eq. (4) of the paper (the presets called "paper").
      official_training: the authors' program or log (the presets called "official"). Published for NYU (35 epochs)
        and as a log for ITOP's front view (27 epochs, alpha 1). ICVL and HANDS 2017 train as NYU, ITOP's top view and
        K2HPD as the front view (K2HPD, which has no depth, with alpha 0.5).
      loss_lambda: lambda of Eq. (7).
      protocol: how the track is scored.
      citation: the data set's paper.
      notes: caveats for comparing numbers.
      label_box_margin_px: margin of a box made from labels ("box" only) beyond the outermost joints, px. 15 is the
        authors' rule on K2HPD; docs/centers.md has the fits.
      depth_unit_mm: mm per count of raw integer frames (16-bit images, integer .npy); an Intel SR305 has 0.125.
    """

    name: str
    skeleton: Skeleton
    camera: Camera | None
    frame_size: tuple[int, int]
    crop_size: int
    crop_by: Literal["center", "box"]
    half_window_mm: float | None
    depth_window_mm: float | None
    depth_reference: Literal["center", "zero"]
    image_unit_mm: float
    joint_depth_scale: float
    mean: float
    std: float
    storage_unit_mm: float
    joint_dims: Literal[2, 3]
    frame_format: FrameFormat
    augmentation: AugmentSpec
    paper_training: TrainingSpec
    official_training: TrainingSpec
    loss_lambda: float
    protocol: Literal["mean_error_mm", "map_10cm", "pdj"]
    citation: str
    notes: str = ""
    label_box_margin_px: float = 15.0
    depth_unit_mm: float = 1.0

    @property
    def margin(self) -> int:
        """Lattice points of the stored canvas beyond the crop, on each side."""
        return self.crop_size // 8

    @property
    def canvas_size(self) -> int:
        """Side of the stored canvas, px."""
        return self.crop_size + 2 * self.margin

    def training(self, preset: Literal["official", "paper"]) -> TrainingSpec:
        """The training of the paper or of the authors' program."""
        return self.paper_training if preset == "paper" else self.official_training

    @property
    def num_joints(self) -> int:
        """K."""
        return len(self.skeleton)

    @property
    def error_unit(self) -> str:
        """Unit of errors: mm in space, or px of the frame on a 2D track."""
        return "mm" if self.joint_dims == 3 else "px"


_HAND_AUGMENTATION = AugmentSpec(180.0, (0.5, 1.5), 5, 0.5, 1.0)
_BODY_AUGMENTATION = AugmentSpec(45.0, (0.8, 1.2), 15, 0.5, 0.2)

_NYU = TrackSpec(
    name="nyu",
    skeleton=NYU,
    camera=Camera(588.03, -587.07, 320.0, 240.0),
    frame_size=(640, 480),
    crop_size=176,
    crop_by="center",
    half_window_mm=110.0,
    depth_window_mm=150.0,
    depth_reference="center",
    image_unit_mm=1.0,
    joint_depth_scale=1.0,
    mean=-0.66877532,
    std=28.32958208,
    storage_unit_mm=1.0,
    joint_dims=3,
    frame_format="nyu_packed",
    augmentation=_HAND_AUGMENTATION,
    paper_training=TrainingSpec(34, 10, 0.1),
    official_training=TrainingSpec(35, 10, 0.2),
    loss_lambda=3.0,
    protocol="mean_error_mm",
    citation="Tompson et al., Real-Time Continuous Pose Recovery of Human Hands, TOG 2014",
    notes="View 1 only; 14 of the 36 joints.",
)

_ICVL = dataclasses.replace(
    _NYU,
    name="icvl",
    skeleton=ICVL,
    camera=Camera(240.99, 240.96, 160.0, 120.0),
    frame_size=(320, 240),
    half_window_mm=95.0,
    mean=4.82706137,
    std=16.29524411,
    frame_format="depth16",
    paper_training=TrainingSpec(17, 7, 0.1),
    citation="Tang et al., Latent Regression Forest, CVPR 2014",
    notes="Training program not published: the official preset and augmentation are those of NYU.",
)

_HANDS2017 = dataclasses.replace(
    _NYU,
    name="hands2017",
    skeleton=HANDS2017,
    camera=Camera(475.065948, 475.065857, 315.944855, 245.287079),
    half_window_mm=100.0,
    mean=-6.39239157,
    std=25.00686072,
    frame_format="depth16",
    paper_training=TrainingSpec(17, 7, 0.1),
    citation="Yuan et al., The 2017 Hands in the Million Challenge, 2017",
    notes="Training program not published: the official preset and augmentation are those of NYU.",
)

_ITOP_FRONT = TrackSpec(
    name="itop_front",
    skeleton=ITOP,
    camera=Camera(1 / 0.0035, -1 / 0.0035, 160.0, 120.0),
    frame_size=(320, 240),
    crop_size=288,
    crop_by="box",
    half_window_mm=None,
    depth_window_mm=None,
    depth_reference="zero",
    image_unit_mm=1000.0,
    joint_depth_scale=0.05,
    mean=3.44405131,
    std=0.54039816,
    storage_unit_mm=0.125,
    joint_dims=3,
    frame_format="metres",
    augmentation=_BODY_AUGMENTATION,
    paper_training=TrainingSpec(26, 10, 0.1),
    official_training=TrainingSpec(27, 10, 0.2, alpha=1.0),
    loss_lambda=3.0,
    protocol="map_10cm",
    citation="Haque et al., Towards Viewpoint Invariant 3D Human Pose Estimation, ECCV 2016",
    notes="Raw depth is in meters; ours is in mm from the reader on. Lambda is 3 in the authors' log.",
)

_ITOP_TOP = dataclasses.replace(
    _ITOP_FRONT, name="itop_top", mean=2.14307806, std=0.60997053, label_box_margin_px=40.0
)

_K2HPD = dataclasses.replace(
    _ITOP_FRONT,
    name="k2hpd",
    skeleton=K2HPD,
    camera=None,
    frame_size=(256, 212),
    image_unit_mm=1.0,
    joint_depth_scale=1.0,
    mean=88.00896855,
    std=67.12190293,
    storage_unit_mm=1.0,
    official_training=dataclasses.replace(_ITOP_FRONT.official_training, alpha=0.5),
    joint_dims=2,
    frame_format="stretch8",
    loss_lambda=3.0,
    protocol="pdj",
    citation="Wang et al., Human Pose Estimation from Depth Images via Inference Embedded "
    "Multi-task Learning, ACM MM 2016",
    notes="2D only; a pixel value is a stretched depth, not a distance. Training program not "
    "published: the official preset and augmentation are those of ITOP, lambda and alpha those of NYU.",
)

_SYNTHETIC_HAND = dataclasses.replace(
    _NYU,
    name="synthetic_hand",
    skeleton=HANDS2017,
    camera=Camera(588.03, 587.07, 320.0, 240.0),
    # Measured by `a2j build` over 3,000 frames.
    mean=-2.62,
    std=27.02,
    frame_format="depth16",
    citation="rendered by a2j_jax.synthetic",
    notes="NYU's camera and window with y pointing down; the 21 joints of HANDS 2017.",
)

_SYNTHETIC_BODY = dataclasses.replace(
    _ITOP_FRONT,
    name="synthetic_body",
    # Measured likewise.
    mean=3.41,
    std=0.86,
    citation="rendered by a2j_jax.synthetic",
    notes="ITOP's camera and joints, from the front.",
)

_SYNTHETIC_BODY_TOP = dataclasses.replace(
    _SYNTHETIC_BODY,
    name="synthetic_body_top",
    # Measured likewise.
    mean=2.53,
    std=0.64,
    notes="ITOP's camera and joints, from above.",
    label_box_margin_px=_ITOP_TOP.label_box_margin_px,
)

_ALL = (
    *(_NYU, _ICVL, _HANDS2017, _ITOP_FRONT, _ITOP_TOP, _K2HPD),
    *(_SYNTHETIC_HAND, _SYNTHETIC_BODY, _SYNTHETIC_BODY_TOP),
)
TRACKS: dict[str, TrackSpec] = {track.name: track for track in _ALL}

#: Track -> split -> frames that the authors publish. ICVL: lines of the label files, of the training set's with the
#: rotated copies. ITOP: valid frames, of 39,795 and 10,501.
PUBLISHED_FRAMES: dict[str, dict[str, int]] = {
    "nyu": {"train": 72_757, "test": 8_252},
    "icvl": {"train": 331_006, "test": 1_596},
    "hands2017": {"train": 957_032, "test": 295_510},
    "itop_front": {"train": 17_991, "test": 4_863},
    "itop_top": {"train": 17_991, "test": 4_863},
    "k2hpd": {"train": 55_943, "test": 39_732},
}


def get_track(name: str) -> TrackSpec:
    """The track called `name`.

    Raises:
      UserError: there is none; the message names the nearest one.
    """
    if name in TRACKS:
        return TRACKS[name]
    raise UserError(
        f"unknown track {name!r}{near_track(name, TRACKS)} (tracks: {', '.join(TRACKS)})"
    )


def near_track(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown track: "; did you mean 'x'?", or nothing."""
    # The authors of A2J call ITOP's front view "side".
    return did_you_mean(name.replace("side", "front"), known, cutoff=0.4)


def with_crop_size(track: TrackSpec, crop_size: int) -> TrackSpec:
    """The same track at another network input size; the margin follows.

    Raises:
      UserError: the size is not a multiple of 16, the stride of the feature map, up to 2048.
    """
    if not 16 <= crop_size <= LARGEST_CROP or crop_size % 16:
        raise UserError(
            f"crop size {crop_size}: expected a positive multiple of 16, at most {LARGEST_CROP}"
        )
    return dataclasses.replace(track, crop_size=crop_size)


@dataclass(frozen=True)
class TrackRecord:
    """The parts of a track that affect scores, as data sets and files of predictions record them.

    None means not recorded, and equals any value.

    Attributes:
      track: its name.
      joints: names, in the order of the labels.
      camera: fx, fy, u0, v0 of the frames, px.
      others: as in `TrackSpec`.
    """

    track: str | None = None
    joints: tuple[str, ...] | None = None
    camera: tuple[float, ...] | None = None
    frame_size: tuple[int, ...] | None = None
    crop_size: int | None = None
    crop_by: str | None = None
    half_window_mm: float | None = None
    depth_window_mm: float | None = None
    depth_reference: str | None = None
    storage_unit_mm: float | None = None
    depth_unit_mm: float | None = None

    @classmethod
    def of(cls, track: TrackSpec) -> "TrackRecord":
        """The record of a track."""
        names = {field.name for field in dataclasses.fields(cls)} - {"track", "joints", "camera"}
        return cls(
            track=track.name,
            joints=track.skeleton.joints,
            camera=None if track.camera is None else dataclasses.astuple(track.camera),
            **{name: getattr(track, name) for name in names},
        )

    @classmethod
    def from_json(cls, values: Any) -> "TrackRecord":
        """The record in a JSON object; unknown keys (of other programs or later versions) are ignored.

        Raises:
          UserError: not an object.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"record of a track {str(values)[:60]!r}: expected a JSON object")
        names = [field.name for field in dataclasses.fields(cls) if field.name in values]
        return cls(**{name: _as_tuple(values[name]) for name in names})

    @classmethod
    def of_dataset(cls, metadata: Mapping[str, Any], name: str) -> "TrackRecord":
        """The record in the metadata of a data set called `name`; less is known of those built before records."""
        if "track" in metadata:
            return cls.from_json(metadata["track"])
        spec = metadata.get("spec")
        told = spec.get("distribution") if isinstance(spec, Mapping) else None
        # Custom data sets have always recorded their track there.
        if not isinstance(told, Mapping) or not isinstance(told.get("joints"), str):
            return cls(track=name)
        camera = told.get("camera")
        listed = list(camera.values()) if isinstance(camera, Mapping) else None
        joints = told["joints"].split(", ")
        return cls.from_json({**told, "track": name, "joints": joints, "camera": listed})

    def to_json(self) -> dict[str, Any]:
        """A JSON object, without the fields that are not recorded."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    def differences(self, other: "TrackRecord", but: Iterable[str] = ()) -> list[str]:
        """Differences as phrases: "half_window_mm 300 there, 110 here".

        Args:
          other: the record called "here"; this one is "there".
          but: fields that may differ, beside the unit of raw frames, which are stored in mm.
        """
        but = {*but, "depth_unit_mm"}
        phrases = []
        for field in dataclasses.fields(self):
            there, here = getattr(self, field.name), getattr(other, field.name)
            if field.name in but or None in (there, here) or there == here:
                continue
            name = field.name
            if name == "joints" and isinstance(there, tuple) and len(there) == len(here):
                first = [a == b for a, b in zip(there, here, strict=True)].index(False)
                name, there, here = f"joint {first + 1}", there[first], here[first]
            phrases.append(f"{name} {_shown(there)} there, {_shown(here)} here")
        return phrases


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return printable(f"{value:g}" if isinstance(value, float) else str(value), 60)
