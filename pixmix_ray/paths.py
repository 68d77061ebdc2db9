"""Paths as people write them."""

import os
import re
from pathlib import Path

from pixmix_ray.errors import one_line

_MISSPELT = re.compile(r"(?P<kind>s3|gs|gcs|abfss?|az|hdfs|file|https?)(:(?!//)|//)")
_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_VARIABLE = re.compile(r"\$\w+|\$\{\w+\}|%[A-Za-z]\w*%")


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
        raise ValueError(f"{text!r} is a path of Windows: give one of this machine, such as /data/results")
    filled = os.path.expandvars(text)
    if found := _VARIABLE.search(filled):
        raise ValueError(f"{text!r} names the variable {found[0]}, which is not set: set it, or write the path out")
    try:
        return filled if "://" in filled else str(Path(filled).expanduser())
    except RuntimeError as error:  # no such user, or no home
        raise ValueError(f"{text!r} cannot be filled in: {one_line(error)} Write the path out") from None
