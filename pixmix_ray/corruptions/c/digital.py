"""Digital: pixelation, JPEG, and the colours brightness, contrast and saturation.

Pixelation. Source: hendrycks/robustness@8190fe3, pixelate, through Pillow. Small pictures are shrunk by NumPy, all at
once, and large ones by Pillow, one by one, which is faster there; the bytes are the same, those of Pillow's BOX filter.

Colour: brightness, contrast and saturation.

Source: hendrycks/robustness@8190fe3, brightness and saturate (through scikit-image's rgb2hsv and hsv2rgb) and contrast.
All take their steps in the original's order, in float64, and give the same bytes (seen beside scikit-image 0.26).

JPEG compression: what the codec loses, computed for whole batches of small pictures without making files.

Source: hendrycks/robustness@8190fe3, jpeg_compression, which writes and reads a JPEG file through Pillow, whose codec
is libjpeg-turbo: 4:2:0 chroma, the tables of annex K of ITU-T T.81 scaled by the quality, the "islow" integer
transform of Loeffler, Ligtenberg and Moschytz (ICASSP 1989), and triangular upsampling of the chroma. Coding the
coefficients loses nothing, so it is left out. Every step is in integers, and the bytes that come out are those of
libjpeg-turbo. Large pictures go through Pillow: the codec's own work is faster, and only its overhead of 0.1 ms a
picture is not.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8

LARGE = 64 * 64  # pixels from which on Pillow is faster


def pixelate(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures shrunk to the share `constants[0]` of each side (BOX filter) and enlarged again.

    The width is shrunk first, then the height, whatever the shape. So does Pillow, but for recent versions on pictures
    more than about twice as tall as wide, which begin with the height; some values then differ by one.
    """
    height, width = images.shape[1:3]
    small_height, small_width = (max(1, int(side * constants[0])) for side in (height, width))
    if height * width >= LARGE:
        small = np.stack([_shrunk(Image.fromarray(image), small_height, small_width) for image in images])
    else:
        small = _box(_box(images, small_width, axis=2), small_height, axis=1)  # each pass ends in bytes
    columns, rows = _nearest(small_width, width), _nearest(small_height, height)
    return small.take(columns, axis=2).take(rows, axis=1)


def _shrunk(image: Image.Image, height: int, width: int) -> Images:
    """One picture shrunk by Pillow, (height, width, 3): the width first and then the height, asked for one by one."""
    narrow = image.resize((width, image.height), Image.Resampling.BOX)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BOX))


def _box(images: Images, size: int, axis: int) -> Images:
    """Pictures shrunk along `axis` to `size`: the mean of the pixels whose centres each target covers, rounded.

    Pillow multiplies by a reciprocal in fixed point with 22 binary digits, then rounds halves up; so do we.
    """
    first, counts = _covered(images.shape[axis], size)
    along_axis = [-1 if dimension == axis else 1 for dimension in range(images.ndim)]
    sums = images.take(first, axis=axis).astype(np.int32)
    for tap in range(1, counts.max()):
        covered = tap < counts
        sums += images.take(np.where(covered, first + tap, first), axis=axis) * covered.reshape(along_axis)
    reciprocals = np.floor(2**22 / counts + 0.5).astype(np.int32).reshape(along_axis)
    shrunk: Images = ((sums * reciprocals + 2**21) >> 22).astype(np.uint8)
    return shrunk


def _covered(length: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first of `length` pixels that each of `size` targets covers, and how many it covers, each (size,).

    In Pillow's order of operations: a centre on the border of two targets falls to either by rounding.
    """
    scale = length / size
    centres = ((np.arange(size) + 0.5) * scale)[:, None]
    pixels = np.arange(length)
    offsets = (pixels - centres + 0.5) * (1 / scale)
    within = (pixels >= (centres - scale / 2 + 0.5).astype(int)) & (pixels < (centres + scale / 2 + 0.5).astype(int))
    covered = within & (offsets > -0.5) & (offsets <= 0.5)
    return covered.argmax(axis=1), covered.sum(axis=1)


def _nearest(size: int, length: int) -> NDArray[np.intp]:
    """Which of `size` pixels each of `length` pixels shows when enlarged, (length,): what BOX does then."""
    return ((np.arange(length) + 0.5) * (size / length)).astype(np.intp)


Floats = NDArray[np.float64]


def brightness(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with `constants[0]` added to the value V of HSV; hue and saturation stay."""
    hue, saturation, value = hsv(images / 255.0)
    return floor8(rgb(hue, saturation, np.clip(value + constants[0], 0, 1)))


def contrast(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures drawn towards the mean of each channel: (x - mean) c + mean, with c = `constants[0]`."""
    pixels = images / 255.0
    means = pixels.mean(axis=(1, 2), keepdims=True)
    pixels -= means
    pixels *= constants[0]
    pixels += means
    return floor8(pixels)


def saturate(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures whose saturation S of HSV becomes f S + o, with `constants` f and o; hue and value stay."""
    factor, offset = constants
    hue, saturation, value = hsv(images / 255.0)
    return floor8(rgb(hue, np.clip(saturation * factor + offset, 0, 1), value))


def hsv(pixels: Floats) -> tuple[Floats, Floats, Floats]:
    """Hue in [0, 6), saturation and value in [0, 1] (hexcone: S = (max - min) / max), each (N, H, W)."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    divisor = np.where(chroma == 0, 1.0, chroma)  # grey has no hue; 0 stands for it
    hue = np.where(
        blue == value,
        4 + (red - green) / divisor,
        np.where(green == value, 2 + (blue - red) / divisor, (green - blue) / divisor),
    )
    hue = np.where(chroma == 0, 0.0, hue / 6 % 1)
    return hue * 6, chroma / np.where(value == 0, 1.0, value), value


def rgb(hue: Floats, saturation: Floats, value: Floats) -> Floats:
    """The inverse of `hsv`, (N, H, W, 3) in [0, 1]."""
    sector = np.floor(hue)
    rest = hue - sector
    low = value * (1 - saturation)
    falling = value * (1 - rest * saturation)
    rising = value * (1 - (1 - rest) * saturation)
    sextant = sector.astype(np.intp) % 6
    red = np.choose(sextant, (value, falling, low, low, rising, value))
    green = np.choose(sextant, (rising, value, value, falling, low, low))
    blue = np.choose(sextant, (low, low, rising, value, value, falling))
    return np.stack((red, green, blue), axis=-1)


Integers = NDArray[np.int32]

LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Table K.1: the steps of the brightness at quality 50."""

CHROMA = np.full((8, 8), 99)
"""Table K.2: the steps of the two colour differences at quality 50."""
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def jpeg_compression(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures as they come back from a JPEG file of quality `constants[0]`, 4:2:0 chroma."""
    quality = int(constants[0])
    return through_codec(images, quality) if images.shape[1] * images.shape[2] >= LARGE else compressed(images, quality)


def through_codec(images: Images, quality: int) -> Images:
    """Pictures (N, H, W, 3) uint8 as they come back from JPEG files that Pillow writes at a quality from 1 to 100."""
    decoded = np.empty_like(images)
    for image, into in zip(images, decoded, strict=True):
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        pixels = Image.open(file, formats=("JPEG",)).tobytes()  # one copy less than by np.asarray
        into[:] = np.frombuffer(pixels, np.uint8).reshape(into.shape)
    return decoded


def compressed(images: Images, quality: int) -> Images:
    """The same as `through_codec`, computed for all pictures at once."""
    count, height, width, _ = images.shape
    sides = height + -height % 16, width + -width % 16
    beside = images.take(np.minimum(np.arange(sides[1]), width - 1), axis=2)
    luma, chroma = _ycc(beside.transpose(3, 0, 1, 2))
    small = _halved(chroma.reshape(2 * count, height, -1))
    luma = luma.take(np.minimum(np.arange(sides[0]), height - 1), axis=1)
    small = small.take(np.minimum(np.arange(sides[0] // 2), small.shape[1] - 1), axis=1)  # after halving: sic
    luma = _through_blocks(luma, steps(LUMA, quality))[:, :height, :width]
    small = _through_blocks(small, steps(CHROMA, quality))[:, : (height + 1) // 2, : (width + 1) // 2]
    return _rgb(luma, _doubled(small)[:, :height, :width].reshape(2, count, height, width))


def steps(table: NDArray[np.int64], quality: int) -> Integers:
    """The steps (8, 8) to whose multiples coefficients are rounded at a quality of 1 to 100, scaled as by libjpeg."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((table * percent + 50) // 100, 1, 255).astype(np.int32)


def _ycc(channels: Images) -> tuple[Integers, Integers]:
    """Brightness (N, H, W) and colour differences (2, N, H, W), from 0 to 255, of channels (3, N, H, W)."""
    red, green, blue = channels.astype(np.int32)
    middle = (128 << 16) + (1 << 15) - 1
    luma = (19595 * red + 38470 * green + 7471 * blue + (1 << 15)) >> 16
    blueness = (-11059 * red - 21709 * green + 32768 * blue + middle) >> 16
    redness = (32768 * red - 27439 * green - 5329 * blue + middle) >> 16
    return luma, np.stack((blueness, redness))


def _rgb(luma: Integers, chroma: Integers) -> Images:
    """Pictures (N, H, W, 3) uint8 of brightness (N, H, W) and colour differences (2, N, H, W)."""
    blueness, redness = chroma - 128
    channels = (
        luma + ((91881 * redness + (1 << 15)) >> 16),
        luma + ((-22554 * blueness - 46802 * redness + (1 << 15)) >> 16),
        luma + ((116130 * blueness + (1 << 15)) >> 16),
    )
    images = np.empty((*luma.shape, 3), np.uint8)
    for index, channel in enumerate(channels):
        images[..., index] = np.clip(channel, 0, 255)
    return images


def _halved(planes: Integers) -> Integers:
    """Planes (N, H, W), W even, at half their sides: the mean of 2x2 pixels, halves rounded down and up in turn."""
    beside = planes[:, :, ::2] + planes[:, :, 1::2]
    below = beside[:, np.minimum(np.arange(1, planes.shape[1] + 1, 2), planes.shape[1] - 1)]
    return (beside[:, ::2] + below + 1 + np.arange(beside.shape[2], dtype=np.int32) % 2) >> 2


def _doubled(planes: Integers) -> Integers:
    """Planes (N, H, W) at twice their sides: 3/4 of the nearest line and 1/4 of the next, along both sides."""
    count, height, width = planes.shape
    if width <= 2:  # too narrow for libjpeg to smooth
        return planes.repeat(2, axis=1).repeat(2, axis=2)
    rows = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    doubled = np.empty((count, 2 * height, 2 * width), np.int32)
    for start, near in ((0, rows[:, :-2]), (1, rows[:, 2:])):
        sums = 3 * rows[:, 1:-1] + near
        middle = 3 * sums[:, :, 1:-1]
        doubled[:, start::2, ::2] = (middle + sums[:, :, :-2] + 8) >> 4
        doubled[:, start::2, 1::2] = (middle + sums[:, :, 2:] + 7) >> 4
    return doubled


def _through_blocks(planes: Integers, table: Integers) -> Integers:
    """Planes (N, H, W), H and W multiples of 8, with the coefficients of each 8x8 block rounded to steps of `table`."""
    count, height, width = planes.shape
    tiles = planes.reshape(count, height // 8, 8, width // 8, 8).transpose(2, 4, 0, 1, 3)
    blocks = tiles.reshape(8, 8, -1) - 128  # (row, column, block): all blocks in one stroke
    blocks = _forward(_forward(blocks.swapaxes(0, 1), -2, 11).swapaxes(0, 1), 2, 15)
    coarse = 8 * table[:, :, None].astype(np.float32)  # the transform is 8 times too large
    levels = np.floor((np.abs(blocks) + coarse / 2) / coarse)  # exact: whole numbers below 2^24
    blocks = np.copysign(levels, blocks).astype(np.int32) * table[:, :, None]
    blocks = _inverse(_inverse(blocks, 11).swapaxes(0, 1), 18).swapaxes(0, 1)
    tiles = np.clip(blocks + 128, 0, 255).reshape(tiles.shape)
    return tiles.transpose(2, 3, 0, 4, 1).reshape(planes.shape)


def _odd_part(first: Integers, second: Integers, third: Integers, fourth: Integers) -> tuple[Integers, ...]:
    """The rotations of the odd coefficients, common to both directions; constants are times 2^13."""
    outer, inner = -7373 * (first + fourth), -20995 * (second + third)
    both = 9633 * (first + second + third + fourth)
    even, odd = both - 16069 * (first + third), both - 3196 * (second + fourth)
    return (
        2446 * first + outer + even,
        16819 * second + inner + odd,
        25172 * third + inner + even,
        12299 * fourth + outer + odd,
    )


def _forward(values: Integers, plain_shift: int, shift: int) -> Integers:
    """The cosine transform along the first axis (8, ...); `plain_shift` is that of the two outputs without products."""
    lines = values[:4], values[:3:-1]
    sums, differences = lines[0] + lines[1], lines[0] - lines[1]
    ends, middles = sums[0] + sums[3], sums[1] + sums[2]
    outer, inner = sums[0] - sums[3], sums[1] - sums[2]
    turned = 4433 * (outer + inner)
    seventh, fifth, third, first = _odd_part(*differences[::-1])
    plain = np.stack((ends + middles, ends - middles))
    plain = plain << -plain_shift if plain_shift < 0 else (plain + (1 << (plain_shift - 1))) >> plain_shift
    second, sixth = turned + 6270 * outer, turned - 15137 * inner
    rotated = (np.stack((first, second, third, fifth, sixth, seventh)) + (1 << (shift - 1))) >> shift
    return np.concatenate((plain[:1], rotated[:3], plain[1:], rotated[3:]))


def _inverse(values: Integers, shift: int) -> Integers:
    """The inverse cosine transform along the first axis (8, ...)."""
    turned = 4433 * (values[2] + values[6])
    inner, outer = turned - 15137 * values[6], turned + 6270 * values[2]
    ends, middles = (values[0] + values[4]) << 13, (values[0] - values[4]) << 13
    even = np.stack((ends + outer, middles + inner, middles - inner, ends - outer))
    odd = np.stack(_odd_part(values[7], values[5], values[3], values[1])[::-1])
    return (np.concatenate((even + odd, (even - odd)[::-1])) + (1 << (shift - 1))) >> shift
