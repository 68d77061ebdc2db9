"""JPEGs of which only the upper rows are decoded: the same pixels as of the whole picture, in less time.

A JPEG's data go row by row of blocks, so a decoder is done as soon as it has the rows that the header tells of. The
header is made to tell of those down to the bottom of a crop. Format: ITU-T T.81, B.1 and B.2.
"""

from dataclasses import dataclass

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive, with Huffman's code
_SCAN = 0xDA
_BELOW = 16  # rows: the colour of a row is interpolated from those beside it
_LARGEST_ASPECT = 8
_MOST_PIXELS = 2**24  # so that no rows that are left are too long for `picture_files.check_aspect`


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The size of a JPEG in pixels, and where in its bytes the height stands."""

    height: int
    width: int
    at: int


def frame(content: bytes) -> Frame | None:
    """The frame of a JPEG that may be decoded in part.

    None for all else, which is then decoded whole, to the errors that this has: other formats, files without an end,
    which were cut off, and pictures so large or long that they may be refused.
    """
    if not (content.startswith(_START) and content.endswith(_END)):
        return None
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF and content[at + 1] != _SCAN:
        if content[at + 1] in _FRAMES:
            height, width = (int.from_bytes(content[start : start + 2], "big") for start in (at + 5, at + 7))
            short, long = sorted((height, width))
            is_usual = 0 < long <= _LARGEST_ASPECT * short and height * width <= _MOST_PIXELS
            return Frame(height=height, width=width, at=at + 5) if is_usual else None
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def down_to(content: bytes, found: Frame, bottom: int) -> bytes:
    """The JPEG with fewer rows in its header: at least `bottom`, and these with the same pixels."""
    rows = min(found.height, bottom + _BELOW)
    return content[: found.at] + rows.to_bytes(2, "big") + content[found.at + 2 :]
