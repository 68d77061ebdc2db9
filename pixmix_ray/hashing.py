"""Short hashes, for the names of what depends on much."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def short_hash(content: str | bytes, digits: int = 12) -> str:
    """The first hexadecimal digits of the SHA-256 of some text (as UTF-8) or bytes.

    >>> short_hash("a")
    'ca978112ca1b'
    """
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:digits]


def hash_of_values(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of JSON values, whatever the order of keys."""
    return short_hash(json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False))
