"""JPEGs decoded down to a row: the pixels of the whole picture, in all layouts that Pillow writes."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixmix_ray.datasets import jpeg
from pixmix_ray.datasets.picture_files import decoded

HEIGHT, WIDTH = 75, 61


def _encoded(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT), **settings: Any) -> bytes:
    rough = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (14, 12, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).convert(mode).save(stream, "JPEG", **settings)
    return stream.getvalue()


@pytest.mark.parametrize(
    "settings",
    [
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:2:0"},
        {"subsampling": "4:2:0", "progressive": True},
        {"subsampling": "4:2:0", "restart_marker_rows": 1, "optimize": True},
        {"subsampling": "4:2:0", "restart_marker_blocks": 3, "progressive": True},
        {"mode": "L"},
        {"mode": "CMYK"},
        {"exif": b"Exif\0\0" + b"\xff\xc0\0\x11\x08" * 40, "comment": b"\xff\xc0"},  # what looks like a frame
    ],
)
def test_the_rows_of_a_part_are_those_of_the_whole(settings: dict[str, Any]) -> None:
    content = _encoded(**settings)
    whole, frame = np.asarray(decoded(content, "whole")), jpeg.frame(content)
    assert frame is not None and (frame.height, frame.width) == (HEIGHT, WIDTH)
    for bottom in range(1, HEIGHT + 1):
        part = np.asarray(decoded(jpeg.down_to(content, frame, bottom), "part"))
        assert len(part) == min(HEIGHT, bottom + 16)
        assert np.array_equal(part[:bottom], whole[:bottom]), bottom


@pytest.mark.parametrize(
    "content",
    {
        "empty": b"",
        "another format": b"\x89PNG\r\n\x1a\n" + bytes(40),
        "cut off": _encoded()[:-200],
        "nothing but ends": b"\xff\xd8\xff\xd9",
        "no frame": b"\xff\xd8\xff\xe0\0\x04ab\xff\xda\0\x0c" + bytes(20) + b"\xff\xd9",
        "a segment beyond the end": b"\xff\xd8\xff\xe0\xff\xff" + bytes(20) + b"\xff\xd9",
        "no height": b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\x20\x03" + bytes(20) + b"\xff\xd9",
        "too long": _encoded(size=(900, 100)),
        "too large": b"\xff\xd8\xff\xc0\0\x11\x08\x20\0\x20\0\x03" + bytes(20) + b"\xff\xd9",
    }.items(),
    ids=lambda case: case[0],
)
def test_what_is_decoded_whole(content: tuple[str, bytes]) -> None:
    assert jpeg.frame(content[1]) is None
