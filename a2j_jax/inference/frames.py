"""Depth frames from files: whatever the camera or the data set stored → float32 millimetres.

| `frame_format` of the track | file | depth |
| --- | --- | --- |
| any | `.npy`, 2-D, decimal numbers | the values, in mm |
| any | `.npy`, 2-D, whole numbers | value × `depth_unit_mm` (1.0 unless given) |
| any | one-channel 16- or 32-bit PNG/TIFF | value × `depth_unit_mm` (1.0 unless given) |
| `nyu_packed` | 8-bit RGB PNG | G·256 + B mm (red holds the synthetic rendering's label) |
| `stretch8` | 8-bit grey | the values; such tracks only use their order (min–max stretch) |

0 means "no reading" in every format.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from a2j_jax.errors import UserError

DepthFrame = NDArray[np.float32]
_IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".pgm", ".bmp", ".jpg", ".jpeg")
_WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_GREY_MODES = ("L", "LA", "RGB", "RGBA")  # 8-bit, the first channel counts


def read_frame(
    path: str | Path, frame_format: str = "depth16", depth_unit_mm: float = 1.0
) -> DepthFrame:
    """Read one depth frame.

    Args:
        path: image or `.npy` file.
        frame_format: the track's `frame_format`, see the table of this module.
        depth_unit_mm: what one step of whole numbers means, in mm; an Intel SR305 has 0.125.

    Returns:
        (H, W) float32 depth in mm (grey levels 0…255 from an 8-bit image), 0 = no reading.

    Raises:
        UserError: missing, unreadable or truncated file; 8-bit or colour where depth is expected;
            an array that is not 2-D or not numeric; a unit for decimal numbers; a frame without any
            reading.
    """
    path = Path(path)
    check_file(path)
    if not (np.isfinite(depth_unit_mm) and depth_unit_mm > 0):
        raise UserError(f"depth unit {depth_unit_mm} mm: expected a positive number")
    if path.suffix.lower() == ".npy":
        depth = _read_npy(path, depth_unit_mm)
    elif path.suffix.lower() in _IMAGE_SUFFIXES:
        depth = _read_image(path, frame_format, depth_unit_mm)
    else:
        raise UserError(
            f"{path}: unknown kind of frame '{path.suffix}'; expected a 16-bit PNG or .npy in mm"
        )
    if not (depth > 0).any():
        raise UserError(f"{path}: the frame has no reading at all (every depth is 0)")
    return depth


def check_file(path: str | Path) -> None:
    """Whether there is a file at all: cheap, to be asked of all frames before the first is read.

    Raises:
        UserError: there is none, or a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the frames in it, e.g. {path}/*.png")
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a depth frame (16-bit PNG or .npy)")


def frame_from_array(depth_mm: Any, where: str = "depth frame") -> DepthFrame:
    """Check an array given as a depth frame: (H, W) numeric, in mm → float32, NaN and below 0 → 0.

    Raises:
        UserError: not 2-D, not numeric, empty.
    """
    array = np.asarray(depth_mm)
    if array.dtype.kind not in "uif":
        raise UserError(f"{where}: expected numbers in mm, found dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise UserError(
            f"{where}: expected one depth image (height, width) in mm, found shape {array.shape}"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf: no reading
        depth = array.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def unpack_nyu(rgb: NDArray[np.uint8]) -> DepthFrame:
    """NYU's colour-packed depth (H, W, 3) uint8 → (H, W) float32 mm: G·256 + B."""
    wide = rgb.astype(np.int32)
    return (wide[..., 1] * 256 + wide[..., 2]).astype(np.float32)


def _read_npy(path: Path, depth_unit_mm: float) -> DepthFrame:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path}: not readable as a numeric .npy array ({error}); save the depth with "
            "np.save(path, depth_mm)"
        ) from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: is an archive (.npz) under another name; expected one .npy array")
    depth = frame_from_array(array, str(path))
    if not (depth > 0).any() and (array < 0).any():
        raise UserError(
            f"{path}: no depth is above 0 (the lowest is {np.nanmin(array):g}): expected mm from the "
            "camera, counted positive"
        )
    if depth_unit_mm == 1.0:
        return depth
    if array.dtype.kind == "f":
        raise UserError(
            f"{path}: holds decimal numbers, which are taken for mm: leave out the depth unit of "
            f"{depth_unit_mm:g} mm, or save whole numbers"
        )
    return depth * np.float32(depth_unit_mm)


def _read_image(path: Path, frame_format: str, depth_unit_mm: float) -> DepthFrame:
    try:
        with Image.open(path) as image:
            image.load()
            mode, values = image.mode, np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not readable as an image, or truncated ({error})") from error
    if frame_format == "nyu_packed" and mode == "RGB":
        return unpack_nyu(values)
    if mode in _WIDE_MODES:
        return frame_from_array(values.astype(np.float32) * np.float32(depth_unit_mm), str(path))
    if frame_format == "stretch8" and mode in _GREY_MODES:
        # Some of K2HPD's frames are shipped as RGB: the first channel, as the builder reads them.
        return (values if values.ndim == 2 else values[..., 0]).astype(np.float32)
    expected = {
        "nyu_packed": "NYU's RGB-packed depth (G·256 + B) or a 16-bit one-channel image in mm",
        "stretch8": "a one-channel image, 8-bit stretched or 16-bit",
    }.get(frame_format, "a one-channel 16-bit image in mm")
    hint = " (RGB-packed NYU frames need --track nyu)" if mode == "RGB" else ""
    channels = 1 if values.ndim == 2 else values.shape[2]
    raise UserError(
        f"{path}: is a {values.dtype} image of {channels} channel(s) (mode {mode}); "
        f"expected {expected}{hint}"
    )
