"""The one rule from (seed, purpose, index) to random numbers.

There are no global seeds. A stream is named by a seed and a purpose (strings and integers); the numbers of picture
`index` are a function of these alone, so they do not depend on batch size, number of workers, device or order.
Underneath is Philox (Salmon et al., SC 2011), a counter-based generator: any position of a stream is reached directly.
"""

import hashlib
import json
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Purpose = str | int


def stream_key(seed: int, *purpose: Purpose) -> int:
    """A 128-bit key for the stream that `seed` and `purpose` name."""
    text = json.dumps([seed, *purpose], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def rng(seed: int, *purpose: Purpose) -> np.random.Generator:
    """A NumPy generator for one stream, for draws that are not made per picture."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *purpose)))


def torch_generator(seed: int, *purpose: Purpose, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device`; the same stream on the same kind of device, another one on another kind."""
    return torch.Generator(device=device).manual_seed(stream_key(seed, *purpose) % 2**63)


def seed_globally(seed: int, *purpose: Purpose, device: torch.device | str = "cpu") -> None:
    """Seed torch's global generators of the CPU and of `device`, for code that can draw from no other.

    Not by torch.manual_seed: that keeps, for each kind of device that was not used yet, a stack trace for later.
    """
    key = stream_key(seed, *purpose) % 2**63
    torch.default_generator.manual_seed(key)
    if torch.device(device).type == "cuda":
        torch.cuda.manual_seed(key)


def uniforms(seed: int, *purpose: Purpose, indices: ArrayLike, count: int) -> NDArray[np.float64]:
    """Uniform numbers in the open interval (0, 1), `count` for each picture index.

    Args:
        seed: the seed.
        purpose: what the numbers are for.
        indices: (N,) picture indices, 0 or more, in any order; picture i gets the same numbers whoever asks.
        count: how many numbers a picture gets; part of the stream's layout, so keep it fixed for one purpose.

    Returns:
        (N, count) float64.
    """
    wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
    key = stream_key(seed, *purpose, count)
    blocks = -(-count // 4)  # Philox 4x64 makes four numbers a counter step
    numbers = np.empty((len(wanted), blocks * 4))
    # each run of consecutive pictures is one call
    starts = np.flatnonzero(np.diff(wanted, prepend=-2) != 1).tolist()
    for start, stop in pairwise([*starts, len(wanted)]):
        generator = np.random.Generator(np.random.Philox(key=key, counter=int(wanted[start]) * blocks))
        generator.random(out=numbers[start:stop])
    # numpy draws from [0, 1): keep 0 out, for logarithms and quantiles
    return np.maximum(numbers, 2.0**-54, out=numbers)[:, :count]
