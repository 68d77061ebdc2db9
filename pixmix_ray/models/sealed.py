"""Files of tensors that carry a hash of their own content, so that a bit that flipped is seen when they are read.

The hash is SHA-256 of the whole file with zeros in the hash's own place, written into that place afterwards.
"""

import hashlib
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

from pixmix_ray.errors import DamagedError
from pixmix_ray.models.weights import parse_weights, read_header

SEAL = "sha256"
_BLANK = "0" * 64


def seal_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """A safetensors file of `tensors`, whose metadata are `header` and the hash."""
    content = save(dict(tensors), {**header, SEAL: _BLANK})
    return _replace(content, _BLANK, hashlib.sha256(content).hexdigest())


def open_tensors(content: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header in a file of `seal_tensors`.

    Raises:
        DamagedError: it is not what was written.
    """
    try:
        header = read_header(content, where)
        seal = header.pop(SEAL, None)
        # without a seal too: a bit that flipped in its name must not pass for a file that never had one
        if seal is None or hashlib.sha256(_replace(content, seal, _BLANK)).hexdigest() != seal:
            raise DamagedError(f"{where} was damaged: its content is not that of its hash")
        return parse_weights(content, where), header
    except DamagedError:
        raise
    except (AttributeError, RecursionError, TypeError, ValueError) as error:  # ValueError: CheckpointError is one
        raise DamagedError(f"{where} was damaged: {' '.join(str(error).split())[:200]}") from None


def _replace(content: bytes, old: str, new: str) -> bytes:
    """`content` with the first value of the seal's key replaced; the header is JSON without spaces."""
    return content.replace(f'"{SEAL}":"{old}"'.encode(), f'"{SEAL}":"{new}"'.encode(), 1)
