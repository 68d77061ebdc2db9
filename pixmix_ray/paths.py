"""Paths as people write them, and files that are whole or not there at all."""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MISSPELT = re.compile(r"(?P<kind>s3|gs|gcs|abfss?|az|hdfs|file|https?)(:(?!//)|//)")
_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_VARIABLE = re.compile(r"\$\w+|\$\{\w+\}|%[A-Za-z]\w*%")
PART = ".part"  # behind the name of a file that is being written


@contextmanager
def written_whole(place: str | Path, *, is_new: bool = False) -> Iterator[str]:
    """A path to write to; when the block ends, that file is safe on the disk and has the name `place`, else it is gone.

    Args:
        place: in a folder that is there once the block ends.
        is_new: whether a file of that name is an error, and not replaced.

    Raises:
        FileExistsError: there is one.
    """
    beside, is_left = f"{place}.{uuid.uuid4().hex}{PART}", True  # nobody else's
    try:
        yield beside
        descriptor = os.open(beside, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a rename may reach the disk before the content does
        finally:
            os.close(descriptor)
        if is_new:
            os.link(beside, place)
        else:
            os.rename(beside, place)
            is_left = False
    finally:
        if is_left:
            with suppress(OSError):
                os.unlink(beside)


def written_path(text: str) -> str:
    """The path or URI that a text means, with ~ and variables such as $HOME filled in.

    >>> written_path("s3://bucket/results")
    's3://bucket/results'

    Raises:
        ValueError: a variable is not set, there is no such user, or it is a misspelt URI or a path of Windows: each
            would silently be a local folder of that name.
    """
    if found := _MISSPELT.match(text):
        raise ValueError(f"{text!r} looks like a URI: write {found['kind']}://{text[found.end() :].lstrip('/')}")
    if os.name != "nt" and _OF_WINDOWS.match(text):
        raise ValueError(f"{text!r} is a Windows path: give one of this machine, such as /data/results")
    filled = os.path.expandvars(text)
    if found := _VARIABLE.search(filled):
        raise ValueError(f"{text!r} names the variable {found[0]}, which is not set: set it, or write the path out")
    try:
        return filled if "://" in filled else str(Path(filled).expanduser())
    except RuntimeError as error:  # no such user, or no home
        raise ValueError(f"{text!r} cannot be expanded: {error} Write the path out") from None
