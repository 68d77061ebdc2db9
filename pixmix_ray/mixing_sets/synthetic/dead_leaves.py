"""Dead leaves: opaque shapes of random size, place and colour that fall on each other until the ground is covered.

A. B. Lee, D. Mumford and J. Huang, Occlusion Models for Natural Images, IJCV 2001; as a source of training pictures
M. Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021. Its squares are a row of Table 4 of PixMix
(Hendrycks et al., CVPR 2022). Sizes, density and shapes are those of the generator of Baradad et al.

Where we differ. The leaves of some pictures are drawn at once, a block after the other: every leaf is a run of pixels
in each of its rows, a pixel is covered from the first run on that holds it, a picture is done when its last pixel is
covered, and each pixel shows the last run up to then. Polygons hold the pixels whose centres they hold, in each row
from the first to the last; OpenCV adds a contour of one pixel. "Black" means not covered, though a leaf may be black.
There is no JPEG compression.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.mixing_sets.base import MIXING_SETS
from pixmix_ray.mixing_sets.generated import GeneratedSet, Images
from pixmix_ray.seeding import uniforms

Shape = Literal["squares", "circles", "oriented", "mixed"]
SQUARE, CIRCLE, ORIENTED, RECTANGLE, TRIANGLE, QUADRILATERAL = range(6)
KINDS: dict[Shape, tuple[int, ...]] = {
    "squares": (SQUARE,),
    "circles": (CIRCLE,),
    "oriented": (ORIENTED,),
    "mixed": (SQUARE, CIRCLE, ORIENTED, RECTANGLE, TRIANGLE, QUADRILATERAL),
}
MAX_LEAVES = 5000
BLOCK = 250  # leaves of a picture that are drawn at once
RADII = np.linspace(0.03, 1, 200)  # in picture sides
DRAWS = 11  # uniform numbers a leaf: kind, radius, centre, colour, four angles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@MIXING_SETS.add("dead_leaves", short={f"dead_leaves_{shape}": {"shape": shape} for shape in KINDS})  # as in Table 4
class DeadLeaves(GeneratedSet):
    """Dead leaves of one shape or several; on one core 10,000 take three minutes, of 256 pixels six.

    Attributes:
        shape: "squares" are Table 4's; "oriented" are squares turned by random angles; "mixed" are circles, both kinds
            of squares, rectangles, triangles and quadrilaterals.
        resolution: the side at which they are drawn, in pixels: 128 in the paper's source for small pictures, 256 for
            ImageNet's size.
    """

    summary: ClassVar[str] = "generated dead leaves: random squares, or other shapes, that cover each other"
    source: ClassVar[str] = "made here, after Baradad et al., NeurIPS 2021; PixMix (Hendrycks et al., 2022), Table 4"
    generator: ClassVar[str] = "dead_leaves"
    chunk: ClassVar[int] = 8  # more are slower, they leave the processor's cache
    shape: Shape = "squares"
    resolution: Literal[128, 256] = 128

    def label(self, name: str) -> str:
        """The name and the shape, such as dead_leaves_squares."""
        return f"{name}_{self.shape}"

    def draw(self, indices: Ints, side: int) -> Images:
        """The pictures of these indices in their own size, (N, resolution, resolution, 3) uint8."""
        size = self.resolution
        canvas = _Canvas(np.full((len(indices), size * size), -1, np.int32), size)
        missing = np.arange(len(indices))
        for block in range(MAX_LEAVES // BLOCK):
            if not len(missing):
                break
            draws = uniforms(self.seed, "dead_leaves", block, indices=indices[missing], count=BLOCK * DRAWS)
            leaves = _leaves(draws.reshape(-1, DRAWS).T, KINDS[self.shape], size)
            missing = canvas.paint(missing, _runs(leaves, size), leaves.colour)
        return canvas.images()


@dataclass(frozen=True, kw_only=True)
class _Leaves:
    """Leaves of some pictures, (L,) each, BLOCK after BLOCK.

    Attributes:
        centre: (2, L), the column and the row.
        radius: in pixels, at least 1.
        is_round: whether it is a circle.
        corners: (2, 4, L), columns and rows of the corners in order; of a triangle the last two are one.
        colour: (L,) int32, red, green and blue in one number.
    """

    centre: Ints
    radius: Ints
    is_round: NDArray[np.bool_]
    corners: Ints
    colour: NDArray[np.int32]


def _leaves(u: Floats, kinds: tuple[int, ...], side: int) -> _Leaves:
    """The leaves that numbers u (DRAWS, L) in (0, 1) stand for."""
    kind = np.array(kinds)[(u[0] * len(kinds)).astype(np.int64)]
    radius = np.maximum((_radii(u[1]) * side).astype(np.int64), 1)
    centre = (u[2:4] * side).astype(np.int64)
    offsets = radius * _unit_corners(kind, u[7:11])
    # Of axis-aligned shapes the corners are cut to whole pixels about the centre, of the others in the picture.
    upright = np.isin(kind, (SQUARE, RECTANGLE))
    corners = np.where(upright, centre[:, None] + np.trunc(offsets), np.trunc(centre[:, None] + offsets))
    red, green, blue = (255 * u[4:7]).astype(np.int32)
    return _Leaves(
        centre=centre,
        radius=radius,
        is_round=kind == CIRCLE,
        corners=corners.astype(np.int64),
        colour=red << 16 | green << 8 | blue,
    )


def _radii(u: Floats) -> Floats:
    """Radii in picture sides, (L,), of a density proportional to r**-3 - 1: the ones nearest in its cumulative sum."""
    cumulative = np.cumsum(RADII**-3 - 1)
    cumulative /= cumulative[-1]
    radii: Floats = RADII[np.searchsorted((cumulative[1:] + cumulative[:-1]) / 2, u)]
    return radii


def _unit_corners(kind: Ints, u: Floats) -> Floats:
    """Corners of leaves of radius 1, (2, 4, L): cosines and sines of their angles, from u (4, L)."""
    angles = 2 * np.pi * np.sort(u, axis=0)
    angles[3] = np.where(kind == TRIANGLE, angles[2], angles[3])  # three points of the four
    quarters = np.pi * (np.arange(4)[:, None] / 2 + 0.25)
    angles = np.where(kind == SQUARE, quarters, angles)
    angles = np.where(kind == ORIENTED, 2 * np.pi * u[0] + quarters, angles)
    a = np.pi / 2 * u[0]
    angles = np.where(kind == RECTANGLE, np.stack([a, np.pi - a, np.pi + a, -a]), angles)
    return np.stack([np.cos(angles), np.sin(angles)])


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """Runs of pixels in rows, (R,) int64 each, in the order in which they fall; all within the picture.

    Attributes:
        leaf: the index of the leaf.
        row: the row in the picture.
        start: the first column.
        length: at least 1.
    """

    leaf: Ints
    row: Ints
    start: Ints
    length: Ints


def _runs(leaves: _Leaves, side: int) -> _Runs:
    """The pixels of the leaves, those outside the picture left out."""
    rows = leaves.corners[1]
    top = np.where(leaves.is_round, leaves.centre[1] - leaves.radius, rows.min(axis=0)).clip(0)
    bottom = np.where(leaves.is_round, leaves.centre[1] + leaves.radius, rows.max(axis=0)).clip(None, side - 1)
    leaf, step = _expanded((bottom - top + 1).clip(0))
    row = top[leaf] + step
    left, right = _edges(leaves.corners[:, :, leaf], row)
    if leaves.is_round.any():
        half = np.sqrt(np.maximum(leaves.radius[leaf] ** 2 - (row - leaves.centre[1, leaf]) ** 2, 0))
        middle, is_round = leaves.centre[0, leaf], leaves.is_round[leaf]
        left, right = np.where(is_round, middle - half, left), np.where(is_round, middle + half, right)
    # Corners are whole pixels: what is a rounding error beside one is the corner.
    start = np.ceil(left - 1e-9).clip(0, side).astype(np.int64)
    length = np.floor(right + 1e-9).clip(-1, side - 1).astype(np.int64) - start + 1
    kept = length > 0
    return _Runs(leaf=leaf[kept], row=row[kept], start=start[kept], length=length[kept])


def _edges(corners: Ints, row: Ints) -> tuple[Floats, Floats]:
    """Where the line through each row enters and leaves a convex polygon, (R,) each; corners (2, 4, R)."""
    (x, y), (next_x, next_y) = corners, np.roll(corners, -1, axis=1)
    crosses = (np.minimum(y, next_y) <= row) & (row <= np.maximum(y, next_y))
    share = (row - y) / np.where(next_y == y, 1, next_y - y)
    crossing = x + share * (next_x - x)
    # An edge along the row is crossed at both of its ends, here at one; the edge before it has the other.
    left = np.where(crosses, crossing, np.inf).min(axis=0)
    right = np.where(crosses, crossing, -np.inf).max(axis=0)
    return left, right


def _expanded(lengths: Ints) -> tuple[Ints, Ints]:
    """For runs of these lengths, one after the other: the run of each element and its place in the run."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


@dataclass
class _Canvas:
    """Pictures while the leaves fall.

    Attributes:
        colours: (N, S * S) int32, red, green and blue in one number, -1 where no leaf has fallen.
        side: S, in pixels.
    """

    colours: NDArray[np.int32]
    side: int

    def images(self) -> Images:
        """The pictures, (N, S, S, 3) uint8; what is not covered is black."""
        colours = np.maximum(self.colours, 0).reshape(-1, self.side, self.side, 1)
        images: Images = (colours >> np.array([16, 8, 0])).astype(np.uint8)
        return images

    def paint(self, members: Ints, runs: _Runs, leaf_colours: NDArray[np.int32]) -> Ints:
        """Let BLOCK leaves fall on each of the pictures `members`, as far as needed; those that still have gaps."""
        area = self.side**2
        run, step = _expanded(runs.length)
        start = (runs.leaf // BLOCK * self.side + runs.row) * self.side + runs.start
        pixel, leaf = start[run] + step, runs.leaf[run]  # pixels of `members`, not of all pictures
        colours = self.colours[members].reshape(-1)
        first_leaf = np.where(colours < 0, BLOCK, -1)  # that covers the pixel; -1: one of an earlier block
        is_new = colours[pixel] < 0
        # Of several values for one place numpy keeps the last: the first leaf in reversed order, the top one in order.
        first_leaf[pixel[is_new][::-1]] = (leaf[is_new] % BLOCK)[::-1]
        needed = first_leaf.reshape(-1, area).max(axis=1)
        is_needed = leaf % BLOCK <= needed[leaf // BLOCK]
        colours[pixel[is_needed]] = leaf_colours[leaf[is_needed]]
        self.colours[members] = colours.reshape(-1, area)
        unfinished: Ints = members[needed == BLOCK]
        return unfinished
