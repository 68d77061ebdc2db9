"""Blur: Gaussian and defocus, motion, glass and zoom; and the smoothing that other corruptions use too.

Defocus blur is a disk with a softened rim. Source: hendrycks/robustness@8190fe3, gaussian_blur, and defocus_blur and
disk, which call OpenCV's GaussianBlur and filter2D; neither is needed here. Weights are float32 and pixels float64 as
there: the tiny error of a float32 weight decides which way sums fall that lie on a whole grey level, and an exact 1/5
or 1/9 would change 5 to 10 % of the values by one. Beside OpenCV 4.12 and 5.0 the result is the same in every value,
but for "imagenet" severity 4: three in a million differ by one.

Gaussian smoothing of whole batches, as the blurs and the random layers of other corruptions use it.

Source: hendrycks/robustness@8190fe3 smooths with scikit-image's `gaussian`, which is `scipy.ndimage.gaussian_filter`.
So do we, with taps that are the same on every machine, and results agree to the last bit (but for the last bit of a
tap): flat areas lie on whole grey levels, and the last bit decides which way they are truncated.

Motion blur: a Gaussian tail in one direction, as ImageMagick draws it.

Source: hendrycks/robustness@8190fe3, motion_blur, which calls ImageMagick's MagickMotionBlurImage on an 8-bit picture.
No ImageMagick is needed here; for a given angle the same bytes come out. Its traps: the kernel is one-sided, offsets
are whole pixels, and the result is rounded to 16 bit but truncated to 8.

Glass blur: smoothing, pixels that show a near one instead of themselves, and smoothing again.

Source: hendrycks/robustness@8190fe3, glass_blur. It is written there as a swap of neighbouring pixels, but both sides
of that swap are views of one array, so the neighbour stays as it is: a copy one way, which is what CIFAR-10-C holds.
Pixels are visited from the bottom right; one that takes a pixel visited before takes what stands there by then. Here
every pixel looks up where its colour comes from in the end, for all pictures at once. For given offsets the same bytes
come out.

Zoom blur: the mean of a picture and of its enlargements by more and more, as if zoomed while the shutter is open.

Source: hendrycks/robustness@8190fe3, zoom_blur and clipped_zoom, over `scipy.ndimage.zoom` of order 1. The same bytes
come out, with the same traps: the enlarged picture may be a pixel too large and is then cut at its right and bottom
only, so it is not centred, and a factor just over 1 may change nothing. (SciPy leaves a black last line where its
coordinate passes the edge by a rounding error; this does not happen at 32x32 and 224x224, and is not copied for other
sizes.)

All enlargements and their mean are one linear map, so here it is one sparse matrix for all pictures. Its result is
exact; the original adds in float32, whose errors decide values that lie on a whole grey level (as on flat areas).
Those few are computed once more in its order.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft, ndimage, sparse

from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8

Floats = NDArray[np.float64]

Edge = Literal["edge", "symmetric"]
"""What lies beyond the edge: the outermost pixel again ("edge"), or the picture mirrored ("symmetric")."""

BEYOND: Final = {"edge": "nearest", "symmetric": "reflect"}
"""SciPy's names of the same."""


def smoothed(values: Floats, sigma: float, *, truncate: float = 4.0, mode: Edge = "edge") -> Floats:
    """Values (N, H, W, ...) smoothed along the rows and the columns by a Gaussian of `sigma` pixels, float64.

    Args:
        values: (N, H, W, ...) float64; not changed.
        sigma: of the Gaussian, in pixels; 0 changes nothing.
        truncate: where the Gaussian ends, in multiples of `sigma`.
        mode: what lies beyond the edge.
    """
    if sigma == 0:
        return values.copy()
    taps = gaussian_taps(sigma, truncate)
    return smoothed_along(smoothed_along(values, taps, 1, mode), taps, 2, mode)


def gaussian_taps(sigma: float, truncate: float = 4.0) -> Floats:
    """One half of a Gaussian whose taps sum to 1, from the centre outwards: (R + 1,), R = int(truncate sigma + 1/2)."""
    reach = int(truncate * sigma + 0.5)
    scale = -0.5 / (sigma * sigma)
    # math.exp: that of NumPy differs in the last bit between its versions and processors
    taps = np.array([math.exp(scale * offset**2) for offset in range(-reach, reach + 1)])
    taps /= taps.sum()
    return taps[reach:]


def smoothed_along(values: Floats, taps: Floats, axis: int, mode: Edge = "edge") -> Floats:
    """Values correlated along one axis with the symmetric kernel of which `taps` is one half, float64."""
    kernel = np.concatenate([taps[:0:-1], taps])
    correlated: Floats = ndimage.correlate1d(values, kernel, axis, mode=BEYOND[mode])
    return correlated


LARGEST = 7  # taps a side of a kernel that is summed up pixel by pixel; spectra are faster beyond


def defocus_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures out of focus: `constants` are the radius of the disk and the sigma that softens its rim, in pixels."""
    return floor8(_correlate(images, disk(*constants)))


def gaussian_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures smoothed by a Gaussian of sigma `constants[0]`, in pixels."""
    return floor8(smoothed(images / 255.0, constants[0]))


@lru_cache
def disk(radius: float, sigma: float) -> NDArray[np.float32]:
    """The kernel of a defocused lens, (K, K) float32 with K odd and without empty rims.

    On the 32x32 constants it is small: a 3x3 Gaussian, a plus sign (with faint arms), a 3x3 box. Its sum is 1 but for
    the 224x224 severities 4 and 5, where the disk touches the edge of its grid and the mirror there adds 1 % of light.

    Args:
        radius: of the disk, in pixels.
        sigma: of the Gaussian that softens the disk, in pixels.
    """
    reach, width = (8, 3) if radius <= 8 else (int(radius), 5)
    grid = np.arange(-reach, reach + 1)
    inside = (grid**2 + grid[:, None] ** 2 <= radius**2).astype(np.float32)
    taps = _gaussian_taps(width, sigma)
    kernel: NDArray[np.float32] = _along_rows(_along_rows(inside / inside.sum(), taps).T, taps).T
    kernel[kernel < 1e-15] = 0  # too little to be felt, and many: a small kernel stays small
    used = np.flatnonzero(kernel.any(axis=0))
    kernel = kernel[used[0] : used[-1] + 1, used[0] : used[-1] + 1]
    kernel.setflags(write=False)  # it is shared by all callers
    return kernel


def _gaussian_taps(width: int, sigma: float) -> NDArray[np.float32]:
    """A Gaussian of `width` taps, (width,): computed in float64, then float32, as OpenCV does."""
    taps = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * sigma**2))
    normalised: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return normalised


def _along_rows(kernel: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """`kernel` (K, K) correlated with `taps` along its rows in float32, mirrored at the edge (without repeating it).

    In OpenCV's order: mirrored neighbours are added first, then multiplied and added to the sum with one rounding.
    """
    reach, size = len(taps) // 2, len(kernel)
    padded = np.pad(kernel, ((0, 0), (reach, reach)), mode="reflect")
    total: NDArray[np.float32] = kernel * taps[reach]
    for offset in range(1, reach + 1):
        left, right = reach - offset, reach + offset
        pairs = padded[:, left : left + size] + padded[:, right : right + size]
        total = (pairs * np.float64(taps[right]) + total).astype(np.float32)
    return total


def _correlate(images: Images, kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pictures in [0, 1] correlated with `kernel`, (N, H, W, 3); mirrored at the edge (without repeating it).

    Under a small kernel the pixels of equal weights are first added as whole numbers: exact, and faster.
    """
    reach = len(kernel) // 2
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    if len(kernel) > LARGEST:
        return np.stack([_through_spectrum(image, kernel)[:height, :width] for image in padded])
    whole = padded.astype(np.int32)
    blurred = np.zeros(images.shape)
    for weight in np.unique(kernel[kernel > 0]):
        total = np.zeros(images.shape, np.int32)
        for row, column in np.argwhere(kernel == weight):
            total += whole[:, row : row + height, column : column + width]
        blurred += float(weight) * total
    blurred /= 255
    return blurred


def _through_spectrum(image: NDArray[np.uint8], kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    """A picture (H, W, 3) in [0, 1] correlated with `kernel`, each place with what lies below and to its right of it.

    What is less than the kernel away from the lower and right edges is of no use. Errors are of 1e-16: they change no
    byte, since the weights do not add up to a whole grey level by so little.
    """
    sides = [fft.next_fast_len(side, real=True) for side in image.shape[:2]]
    spectrum = fft.rfft2(image.transpose(2, 0, 1) / 255.0, sides)
    spectrum *= fft.rfft2(kernel.astype(np.float64), sides).conj()
    correlated: NDArray[np.float64] = fft.irfft2(spectrum, sides).transpose(1, 2, 0)
    return correlated


def motion_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures shaken along a line: `constants` are radius and sigma in pixels; the angle is within 45 degrees of 0."""
    radius, sigma = constants
    return blurred_along(images, radius, sigma, -45 + 90 * draws(1)[:, 0])


def blurred_along(images: Images, radius: float, sigma: float, angles: NDArray[np.float64]) -> Images:
    """Pictures (N, H, W, C) uint8, each shaken at its own angle; the edge pixels go on beyond the edge.

    Args:
        images: (N, H, W, C) uint8 with any number of channels; not changed.
        radius: the kernel has 2 ceil(radius) + 1 taps.
        sigma: of the half Gaussian that weighs them, in pixels.
        angles: (N,) in degrees; at 0 each pixel gathers from those to its right, at 90 from those below.
    """
    taps = range(2 * math.ceil(radius) + 1)
    weights = np.array([math.exp(-(tap**2) / (2 * sigma**2)) for tap in taps])
    weights /= weights.sum()
    rows, columns = offsets(len(weights), angles)
    count, height, width, channels = images.shape
    reach = int(np.abs(columns).max(initial=0))
    padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (0, 0)), mode="edge").reshape(count, height, -1)
    windows = sliding_window_view(padded, width * channels, axis=2)[:, :, ::channels]  # (N, H, places, W C)
    pictures = np.arange(count)[:, None]
    total = np.zeros((count, height, width * channels))
    for tap, weight in enumerate(weights):
        lines = np.clip(np.arange(height) + rows[:, tap, None], 0, height - 1)
        total += windows[pictures, lines, reach + columns[:, tap, None]] * weight
    total *= 257  # ImageMagick's 16 bits: rounded there, then truncated to 8
    total += 0.5
    return (np.floor(total, out=total) / 257).astype(np.uint8).reshape(images.shape)


def offsets(taps: int, angles: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many rows and columns away each tap looks, for angles (N,) in degrees: two arrays (N, taps), int."""
    radians = np.radians(angles)
    across, along = taps * np.sin(radians), taps * np.cos(radians)
    length = np.hypot(across, along)
    steps = np.arange(taps)
    rows = np.ceil(steps * across[:, None] / length[:, None] - 0.5).astype(np.intp)
    columns = np.ceil(steps * along[:, None] / length[:, None] - 0.5).astype(np.intp)
    return rows, columns


def glass_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures seen through rough glass: `constants` are sigma, the largest offset (in pixels) and the repetitions."""
    sigma, (delta, times) = constants[0], (int(constant) for constant in constants[1:])
    height, width = (max(0, side - 2 * delta) for side in images.shape[1:3])
    softened = (smoothed(images / 255.0, sigma) * 255).astype(np.uint8)
    if height and width:  # smaller pictures have no pixel that moves
        numbers = draws(times * height * width * 2).reshape(len(images), times, height, width, 2)
        softened = displaced(softened, np.floor(numbers * (2 * delta)).astype(np.intp) - delta)
    return floor8(smoothed(softened / 255.0, sigma))


def displaced(images: Images, offsets: NDArray[np.intp]) -> Images:
    """Pictures whose inner pixels show others, (N, H, W, 3) uint8.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        offsets: (N, T, H - 2 D, W - 2 D, 2) from -D to D - 1, for T repetitions: pixel (D + 1 + r, D + 1 + c) shows the
            one that lies `offsets[..., r, c, 0]` columns and `offsets[..., r, c, 1]` rows further.
    """
    pixels = np.arange(images[..., 0].size).reshape(images.shape[:3])
    height, width = images.shape[1:3]
    delta = (height - offsets.shape[2]) // 2
    moving = np.zeros(pixels.shape, np.bool_)
    inner = (slice(None), slice(delta + 1, height - delta + 1), slice(delta + 1, width - delta + 1))
    moving[inner] = True
    sources = pixels.ravel()
    for columns, rows in offsets.transpose(1, 4, 0, 2, 3):
        source = pixels.copy()
        source[inner] += rows * width + columns
        sources = sources[_origins(source.ravel(), moving.ravel())]
    return images.reshape(-1, 3).take(sources, axis=0).reshape(images.shape)


def _origins(source: NDArray[np.intp], moving: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where the colour of each pixel lay before one repetition, (P,) int: chains of pixels visited before are followed.

    Each round doubles the length of the chains that are done, so a few rounds do for any picture.
    """
    # its source is a pixel visited before: one to the right or below
    waiting = moving[source] & (source > np.arange(len(source)))
    while len(pixels := np.flatnonzero(waiting)):
        via = source[pixels]
        source[pixels], waiting[pixels] = source[via], waiting[via]
    return source


Indices = NDArray[np.intp]

FRACTIONS = (np.arange(256) / 255.0).astype(np.float32)


def zoom_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures zoomed while exposed: the factors are 1, 1 + step, ... and end before `constants` (stop, step)."""
    count, height, width, _ = images.shape
    factors = np.arange(1, *constants)
    values = np.ascontiguousarray(images.transpose(1, 2, 0, 3)).reshape(height * width, count * 3)  # a row a pixel
    means = _mean_of_zooms(height, width, tuple(factors.tolist())) @ values.astype(np.float64)
    blurred = means.astype(np.uint8)
    np.abs(np.subtract(means, np.rint(means), out=means), out=means)
    margin = 255 * (len(factors) + 8) * 2.0**-24  # more than float32 can err
    undecided = np.nonzero(means < margin)
    blurred[undecided] = _in_float32(values, undecided, _zoom_lines(height, factors), _zoom_lines(width, factors))
    return np.ascontiguousarray(blurred.reshape(height, width, count, 3).transpose(2, 0, 1, 3))


def zoomed(layers: Floats, factor: float) -> Floats:
    """Layers (N, H, W) float64, their middle enlarged by `factor` (1 or more) to the same size."""
    row, column = (zoom_line(side, factor) for side in layers.shape[1:])
    total = np.zeros(layers.shape)
    for rows, row_weights in row.taps:
        for columns, column_weights in column.taps:
            total += layers[:, rows[:, None], columns] * row_weights[:, None] * column_weights
    return total


@dataclass(frozen=True, kw_only=True)
class ZoomLine:
    """Where each of L pixels along one side comes from: two neighbours and their weights.

    Attributes:
        taps: two pairs of (L,) positions and (L,) weights.
    """

    taps: tuple[tuple[Indices, Floats], tuple[Indices, Floats]]


@lru_cache(maxsize=256)
def zoom_line(length: int, factor: float) -> ZoomLine:
    """The enlargement of one side: its middle, at least length / factor pixels, stretched end to end."""
    kept = math.ceil(length / factor)
    stretched = round(kept * factor)
    first = (stretched - length) // 2
    ratio = (kept - 1) / (stretched - 1) if stretched > 1 else 1.0
    places = np.minimum(np.arange(first, first + length) * ratio, kept - 1)
    low = np.floor(places).astype(np.intp)
    near = 1.0 - (places - low)
    top = (length - kept) // 2
    line = ZoomLine(taps=((top + low, near), (top + np.minimum(low + 1, kept - 1), 1.0 - near)))
    for positions, weights in line.taps:  # they are shared by all callers
        positions.setflags(write=False)
        weights.setflags(write=False)
    return line


def _zoom_lines(length: int, factors: Floats) -> list[ZoomLine]:
    return [zoom_line(length, factor) for factor in factors.tolist()]


@lru_cache(maxsize=2)  # large at 224x224: 20 to 40 MB
def _mean_of_zooms(height: int, width: int, factors: tuple[float, ...]) -> sparse.csr_array:
    """The mean of the picture and its enlargements as a matrix, (H W, H W) float64."""
    total = sparse.eye_array(height * width, format="csr")
    for factor in factors:
        total = total + sparse.kron(_matrix(height, factor), _matrix(width, factor), format="csr")
    return total / (len(factors) + 1)


def _matrix(length: int, factor: float) -> sparse.coo_array:
    """The enlargement of one side as a matrix, (L, L) float64."""
    (low, near), (high, far) = zoom_line(length, factor).taps
    lines = np.arange(length)
    entries = (np.concatenate((near, far)), (np.concatenate((lines, lines)), np.concatenate((low, high))))
    return sparse.coo_array(entries, shape=(length, length))


def _in_float32(
    values: Images, chosen: tuple[Indices, ...], row_lines: list[ZoomLine], column_lines: list[ZoomLine]
) -> Images:
    """The chosen values (pixel, column of `values`) of the blurred pictures, computed in the original's order."""
    pixels, places = chosen
    width = len(column_lines[0].taps[0][0])
    rows, columns = np.divmod(pixels, width)
    total = np.zeros(len(pixels), np.float32)
    for row_line, column_line in zip(row_lines, column_lines, strict=True):
        zoomed_values = np.zeros(len(pixels))
        for lines, line_weights in row_line.taps:
            for spots, spot_weights in column_line.taps:
                tapped = FRACTIONS[values[lines[rows] * width + spots[columns], places]].astype(np.float64)
                zoomed_values += tapped * line_weights[rows] * spot_weights[columns]
        total += zoomed_values.astype(np.float32)
    total = (FRACTIONS[values[chosen]] + total) / np.float32(len(row_lines) + 1)
    levels: Images = (np.clip(total, 0, 1) * np.float32(255)).astype(np.uint8)
    return levels
