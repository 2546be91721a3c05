"""Pictures of depth crops and skeletons, figures with a caption, and their files.

Depth is drawn in grays (near is dark, nothing or far is white), so that color is left for the
skeleton: one color-blind-safe hue (Okabe and Ito) per finger or limb, with a white edge that keeps
it legible on any gray. Ground truth is thin and black beside it. Needs matplotlib, the `viz` extra;
figures use its object interface: no pyplot state, no display.
"""

import csv
import functools
import importlib
import io
import logging
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax.errors import UserError, escaped, printable
from a2j_jax.files import MARK, local_path, private_umask, write_file, write_json
from a2j_jax.tracks import Skeleton

#: Okabe & Ito (2008), without yellow (invisible on white) and black (ground truth).
LIMB_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DPI = 130
_CANVAS = "matplotlib.backends.backend_agg"
_NEAR_GRAY, _FAR_GRAY = 0.35, 0.92
_MARGIN, _LINE = 0.12, 0.155  # inches: around a caption, from one of its lines to the next
_SANS, _MONOSPACE = 16.8, 16.3  # letters per inch of 8 and of 7 points
_LEGEND_COLUMN = 1.3  # inches


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet."""

    depth: NDArray[Any]  # (H, W) in any unit, 0 or NaN = no reading
    joints_uv: ArrayLike | None = (
        None  # (K, 2) or (K, 3) joints in px of `depth`, drawn in limb colors
    )
    truth_uv: ArrayLike | None = None  # the same for labels, drawn thin and black
    title: str = ""  # a line above it
    valid: ArrayLike | None = None  # (K,) bool, which labels (or, without them, joints) exist
    far: float | None = (
        None  # depths at and beyond this are background; None: every reading is object
    )


class Figure(NamedTuple):
    """A figure of the paper: the picture, and everything that is drawn in it."""

    drawing: Any  # matplotlib's
    contents: dict[str, Any]  # JSON-ready
    table: list[dict[str, Any]]  # the rows of the CSV, all with the same keys


def have_matplotlib() -> bool:
    """Whether pictures can be drawn at all (the `viz` extra is installed)."""
    if sys.modules.get(_CANVAS):  # and leave the umask alone
        return True
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # silent where there is no home for its cache
    try:
        with private_umask():
            importlib.import_module(_CANVAS)
    except ImportError:
        return False
    finally:
        logger.setLevel(level)
    return True


def new_figure(width_inches: float, height_inches: float) -> Any:
    """A matplotlib Figure on the Agg canvas, independent of pyplot.

    Raises:
      UserError: matplotlib is not installed.
    """
    if not have_matplotlib():
        raise UserError("pictures need matplotlib: pip install 'a2j-jax[viz]'")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(width_inches, height_inches), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def new_page(
    width: float, height: float, text: str, command: str, marks: Sequence[Any] = ()
) -> Any:
    """A figure with a caption; matplotlib's constrained layout arranges what is drawn above it.

    Args:
      width, height: inches, `height` without caption and legend.
      text: what the figure shows.
      command: that drew it; the end of the caption.
      marks: artists with labels, for a legend along the upper edge.

    Raises:
      UserError: matplotlib is not installed.
    """
    figure, room, foot = new_figure(width, height), width - 2 * _MARGIN, _MARGIN / 2
    lines = textwrap.wrap(text, int(room * _SANS))
    shell = textwrap.wrap(
        f"$ {command}", int(room * _MONOSPACE), subsequent_indent="    ", break_on_hyphens=False
    )
    for part, style in (
        (shell, {"fontsize": 7, "family": "monospace", "color": "0.35", "linespacing": 1.58}),
        (lines, {"fontsize": 8, "linespacing": 1.41}),
    ):
        inches = {"transform": figure.dpi_scale_trans, "va": "bottom"}
        figure.text(_MARGIN, foot, "\n".join(part), parse_math=False, **inches, **style)
        foot += len(part) * _LINE + _MARGIN / 2
    if marks:
        columns = max(1, min(len(marks), int(width / _LEGEND_COLUMN)))
        style = {"frameon": False, "fontsize": 8, "handletextpad": 0.5, "columnspacing": 1.6}
        place = "outside upper center"
        legend = figure.legend(handles=list(marks), loc=place, ncols=columns, **style)
        height += legend.get_window_extent().height / figure.dpi
    total = height + foot
    figure.set_size_inches(width, total)
    figure.set_layout_engine("constrained", rect=(0, foot / total, 1, height / total))
    return figure


def write_figure(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write the picture as PNG and SVG, and what is drawn as JSON and CSV; returns the four paths.

    Raises:
      UserError: a file cannot be written.
    """
    stem = local_path(folder) / name
    text = io.StringIO()
    writer = csv.DictWriter(text, list(figure.table[0]) if figure.table else [])
    writer.writeheader()
    writer.writerows(figure.table)
    return [
        save_figure(figure.drawing, stem.with_suffix(".png")),
        save_figure(figure.drawing, stem.with_suffix(".svg")),
        write_json(stem.with_suffix(".json"), figure.contents),
        write_file(stem.with_suffix(".csv"), text.getvalue()),
    ]


def save_figure(figure: Any, path: str | Path) -> Path:
    """Write a figure as PNG or, where the path ends in `.svg`, as SVG, making its folder.

    Raises:
      UserError: the file cannot be written.
    """
    path = local_path(path)
    svg = path.suffix.lower() == ".svg"
    return write_file(path, figure_svg(figure, path.stem) if svg else figure_png(figure))


def figure_svg(figure: Any, salt: str) -> str:
    """A figure as an SVG document.

    Args:
      figure: of `new_figure`.
      salt: unlike that of any other figure of a page: element ids are derived from it.
    """
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    text = _rendered(figure, "svg", salt, nothing).decode()
    return text.replace("<svg", f"<!-- {MARK} -->\n<svg", 1)


def figure_png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    return _rendered(figure, "png", "", {"Software": MARK})


def _rendered(figure: Any, kind: str, salt: str, metadata: dict[str, Any]) -> bytes:
    """A figure with its texts drawn literally: no formulas, no control characters (illegal in XML)."""
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        properties = text.get_fontproperties()
        lines = [drawable(line, properties=properties) for line in text.get_text().split("\n")]
        text.set_text("\n".join(lines))
        families = [*text.get_fontfamily(), *_families("".join(lines), properties).values()]
        text.set_fontfamily(list(dict.fromkeys(families)))
    contents = io.BytesIO()
    # Ticks make their texts while they are drawn, by the style. Letters as outlines look the same everywhere; a fixed
    # salt and no date: same figure, same bytes.
    style: dict[Any, Any] = {"svg.hashsalt": printable(salt), "svg.fonttype": "path"}
    with rc_context({**style, "text.parse_math": False}):
        figure.savefig(contents, format=kind, metadata=metadata)
    figure.set_layout_engine("none")  # found: another format keeps its places
    return contents.getvalue()


def legend(owner: Any, handles: Sequence[Any], names: Iterable[str], **style: Any) -> Any:
    """A legend on axes or a figure with any names, one per artist.

    Matplotlib leaves out names that begin with `_`, and reads formulas between dollars.
    """
    made = owner.legend(handles, [str(number) for number in range(len(handles))], **style)
    for text, name in zip(made.get_texts(), names, strict=True):
        text.set(text=printable(name), parse_math=False)
    return made


def drawable(text: str, longest: int | None = None, properties: Any = None) -> str:
    r"""A line whose characters can all be drawn: `printable`, and those that no installed font has escaped (`\u624b`).

    `longest` counts escapes; `properties` are matplotlib's, of the font.
    """
    text = printable(text)
    known = _families(text, properties)
    return printable("".join(c if c in known else escaped(c) for c in text), longest)


def _families(text: str, properties: Any = None) -> dict[str, str]:
    """Character -> an installed family that has it: the font's own, else of as few others as one by one are found."""
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    properties = properties or FontProperties()
    own: list[str] = properties.get_family()
    if text.isascii():  # which every font has
        return dict.fromkeys(text, own[0])
    # Matplotlib's own are the default font, fonts of formulas, and one that has a box for every character.
    others = {
        (entry.name, entry.fname)
        for entry in fontManager.ttflist
        if not entry.fname.startswith(matplotlib.get_data_path())
    }
    found: dict[str, str] = {}
    for name, path in [*((family, None) for family in own), *sorted(others)]:
        new = set(text) - found.keys()
        new &= new if path is None else _characters(path)
        if new:  # does it in this weight and style?
            other = properties.copy()
            other.set_family(name)
            found |= dict.fromkeys(new & _characters(findfont(other)), name)
        if len(found) == len(set(text)):
            break
    return found


@functools.cache
def _characters(font: str) -> frozenset[str]:
    """The characters of a font file; none of one that cannot be read or scaled (emoji as pictures)."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(font)
        return frozenset(map(chr, face.get_charmap())) if face.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def depth_to_gray(depth: ArrayLike, far: float | None = None) -> NDArray[np.float32]:
    """(H, W) depth in any unit -> gray levels for display, float32 in [0, 1].

    The range of the readings is stretched, near dark to far light; no reading (0, NaN) and
    everything at or beyond `far` becomes white, so that the object stands free.
    """
    values = np.nan_to_num(np.asarray(depth, np.float32), nan=0.0, posinf=0.0)
    shown = values > 0
    if far is not None:
        shown &= values < far
    if not shown.any():
        return np.ones(values.shape, np.float32)
    # Percentiles: one stray pixel must not squeeze everything else into a single gray.
    low, high = np.percentile(values[shown], (1.0, 99.0))
    level = np.clip((values - low) / max(float(high - low), 1e-6), 0.0, 1.0)
    return np.where(shown, _NEAR_GRAY + (_FAR_GRAY - _NEAR_GRAY) * level, 1.0).astype(np.float32)


def contact_sheet(
    tiles: Sequence[Tile], skeleton: Skeleton, path: str | Path, **options: Any
) -> Path:
    """Write the picture of `draw_sheet`, which takes the options, as PNG or SVG, making its folder.

    Raises:
      UserError: no tiles, no matplotlib, or the file cannot be written.
    """
    if not tiles:
        raise UserError(f"{path}: no examples to draw")
    return save_figure(draw_sheet(tiles, skeleton, **options), path)


def draw_sheet(
    tiles: Sequence[Tile],
    skeleton: Skeleton,
    columns: int = 6,
    title: str = "",
    tile_inches: float = 2.0,
) -> Any:
    """A figure of tiles (at least one) in a grid, row by row, at most `columns` side by side.

    Lines grow with `tile_inches`, the side of a tile.

    Raises:
      UserError: no matplotlib.
    """
    columns = min(columns, len(tiles))
    rows, margin, inner = -(-len(tiles) // columns), 0.015 * tile_inches, 0.97 * tile_inches
    above = 0.22 * any(tile.title for tile in tiles)
    head = 0.32 if title else 0.0
    width, height = columns * tile_inches, head + rows * (tile_inches + above)
    figure = new_figure(width, height)
    places = {
        "left": margin / width,
        "right": 1 - margin / width,
        "bottom": margin / height,
        "top": 1 - (head + above + margin) / height,
        "wspace": 2 * margin / inner,
        "hspace": (2 * margin + above) / inner,
    }
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=places)
    if title:
        top = 1 - 0.5 * head / height
        figure.text(0.5, top, printable(title), ha="center", va="center", fontsize=10)
    for axes in grid.flat[len(tiles) :]:
        axes.remove()
    for axes, tile in zip(grid.flat, tiles, strict=False):
        draw_tile(axes, tile, skeleton, tile_inches / 2)
    return figure


def draw_tile(axes: Any, tile: Tile, skeleton: Skeleton, scale: float = 1.0) -> None:
    """Draw one tile on matplotlib axes: depth in gray, labels thin and black, joints in color.

    `scale` is that of line widths and marks; 1 suits a tile of two inches.
    """
    draw_depth(axes, tile.depth, tile.far)
    valid = tile.valid
    if tile.truth_uv is not None:
        _draw_skeleton(axes, tile.truth_uv, skeleton, valid, scale, truth=True)
        valid = None
    _draw_skeleton(axes, tile.joints_uv, skeleton, valid, scale)
    if tile.title:
        axes.set_title(printable(tile.title), fontsize=8, pad=3)


def draw_depth(axes: Any, depth: NDArray[Any], far: float | None = None) -> None:
    """Draw depth as `depth_to_gray`, pixel by pixel, on axes whose unit becomes the pixel, v downwards.

    Whatever is drawn after it keeps to the picture's frame.
    """
    height, width = np.shape(depth)
    axes.imshow(depth_to_gray(depth, far), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    # Joints may fall outside the crop.
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    axes.set_autoscale_on(False)
    for spine in axes.spines.values():
        spine.set(edgecolor="0.8", linewidth=0.6)


def _draw_skeleton(
    axes: Any,
    joints_uv: ArrayLike | None,
    skeleton: Skeleton,
    valid: ArrayLike | None = None,
    scale: float = 1.0,
    truth: bool = False,
) -> None:
    """Draw bones and joints in limb colors, or (`truth`) thin and black; not those that are not `valid`, nor None."""
    from matplotlib.collections import LineCollection

    if joints_uv is None:
        return
    uv = np.asarray(joints_uv, np.float64)[..., :2]
    if uv.shape != (len(skeleton), 2):
        raise ValueError(
            f"joints of shape {np.shape(joints_uv)} do not fit the {len(skeleton)} joints of "
            f"skeleton '{skeleton.name}'"
        )
    shown = np.isfinite(uv).all(-1) & np.asarray(True if valid is None else valid, bool)
    bones = [k for k, (a, b) in enumerate(skeleton.bones) if shown[a] and shown[b]]
    segments = [uv[list(skeleton.bones[k])] for k in bones]

    def draw_bones(width: float, colors: Any, alpha: float = 1.0) -> None:
        """All bones at once: one artist is drawn much faster than one for each."""
        style: dict[str, Any] = {"capstyle": "round", "zorder": 2, "linewidths": width * scale}
        axes.add_collection(LineCollection(segments, colors=colors, alpha=alpha, **style))

    if truth:
        draw_bones(0.8, "black")
        axes.scatter(*uv[shown].T, s=3 * scale**2, c="black", linewidths=0, zorder=2.5)
        return
    draw_bones(2.6, "white", 0.9)  # an edge under the color
    draw_bones(1.4, [LIMB_COLORS[skeleton.bone_limbs[k] % len(LIMB_COLORS)] for k in bones])
    marks = {"edgecolors": "white", "linewidths": 0.5 * scale, "zorder": 3}
    colors = []
    for joint in np.flatnonzero(shown).tolist():
        limbs = [i for i, (_, chain) in enumerate(skeleton.limbs) if joint in chain]
        # Roots shared by limbs are gray.
        colors.append(LIMB_COLORS[limbs[0] % len(LIMB_COLORS)] if len(limbs) == 1 else "#555555")
    axes.scatter(*uv[shown].T, s=9 * scale**2, c=colors, **marks)
