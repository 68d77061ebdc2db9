"""Weights on disk: our own as safetensors, other people's as torch files that are never unpickled unrestricted."""

import hashlib
import json
import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from pixmix_ray.errors import CheckpointError, DamagedError, one_line

Weights = dict[str, Tensor]
DAMAGED = (  # what torch's reader raises on files that were cut off or changed, seen in tests
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)
SEAL = "sha256"  # the key of the hash in a file of ours: of the whole file, with zeros in the place of the hash
_BLANK = "0" * 64


def read_weights(path: Path) -> Weights:
    """The tensors of a checkpoint file by parameter name, on the CPU.

    A torch file may hold the state_dict itself or under "state_dict", "model" or "net"; the "module." that
    DataParallel puts before every name is taken off.

    Raises:
        CheckpointError: no such file, truncated, or holding more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint file {path}: give a .safetensors, .pt, .pth or .th file")
    if path.suffix == ".safetensors":
        return parse_weights(path.read_bytes(), str(path))
    try:
        with warnings.catch_warnings(action="ignore"):  # torch asks the reader of a foreign pickle to file an issue
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of plain tensors, and nothing else is loaded: {_first_sentence(error)}. "
            "Save network.state_dict() alone"
        ) from None
    except DAMAGED as error:
        raise CheckpointError(f"{path} cannot be read as a torch file, is it whole? {_first_sentence(error)}") from None
    for key in ("state_dict", "model", "net"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path} holds no state_dict: expected names with tensors, or the same under 'state_dict'"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _first_sentence(error: Exception) -> str:
    """The start of torch's own words, which run over many lines."""
    return one_line(error).partition(". ")[0] or type(error).__name__


def parse_weights(content: bytes, where: str) -> Weights:
    """The tensors in the bytes of a safetensors file by name, names in order; `where` names it in errors."""
    try:
        return dict(sorted(load_safetensors(content).items()))  # the reader gives another order each time
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{where} is not a whole safetensors file: {error}") from None


def read_header(content: bytes, where: str) -> dict[str, str]:
    """The metadata in the bytes of a safetensors file, without its tensors; `where` names it in errors."""
    try:
        header: dict[str, str] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{where} is not a whole safetensors file with metadata") from None
    return header


def fit_weights(network: nn.Module, weights: Weights, where: str) -> None:
    """Copy `weights` into `network`.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape differs; the message names the first.
    """
    # files older than torch 0.4.1 lack these step counters, which change no output
    own = {k: v for k, v in network.state_dict().items() if k in weights or not k.endswith("num_batches_tracked")}
    for name, tensor in own.items():
        if name not in weights:
            raise CheckpointError(
                f"{where} does not fit the model: it lacks {name!r} {tuple(tensor.shape)}; check model"
            )
        if weights[name].layout != tensor.layout:
            raise CheckpointError(f"{where} does not fit the model: {name!r} is {weights[name].layout}; save it dense")
        if weights[name].shape != tensor.shape:
            found, wanted = tuple(weights[name].shape), tuple(tensor.shape)
            raise CheckpointError(
                f"{where} does not fit the model: {name!r} is {found}, the model has {wanted}; check model"
            )
    if extra := sorted(set(weights) - set(own)):
        raise CheckpointError(f"{where} does not fit the model: the model has no {extra[0]!r}; check model")
    network.load_state_dict(weights, strict=False)  # the names were compared above


def seal_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """A safetensors file of `tensors`, whose metadata are `header` and the hash."""
    content = save_safetensors(dict(tensors), {**header, SEAL: _BLANK})
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
        raise DamagedError(f"{where} was damaged: {one_line(error)}") from None


def _replace(content: bytes, old: str, new: str) -> bytes:
    """`content` with the first value of the seal's key replaced; the header is JSON without spaces."""
    return content.replace(f'"{SEAL}":"{old}"'.encode(), f'"{SEAL}":"{new}"'.encode(), 1)
