"""Weights on disk: our own as safetensors, other people's as torch files that are never unpickled unrestricted."""

import hashlib
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from pixmix_ray.errors import CheckpointError, DamagedError, one_line
from pixmix_ray.identity import short_hash

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


STATE_DICTS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Where training scripts keep a network's weights, the likeliest first; any other mapping to tensors is next."""

WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
COUNTER = "n_averaged"  # beside the names of torch's AveragedModel, which averages over epochs (EMA, SWA)
ATTRIBUTES = ("model.", "net.", "network.", "backbone.", "encoder.")  # of Lightning modules and the like
COUNTED = "num_batches_tracked"  # ends the names of step counters, which change no output; old files lack them
NAMED = 4  # tensors that a message names
ZIP = b"PK\3\4"  # also torch's own files
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
TAR_MARK = slice(257, 262)


class WeightsWarning(UserWarning):
    """What a file of somebody else's weights was taken for."""


def read_weights(path: Path) -> Weights:
    """The tensors of a checkpoint file by parameter name, on the CPU.

    A torch file may hold the state_dict itself or under another name. Where it holds several, such as those of an
    average (EMA) beside the last ones, the first of `STATE_DICTS` is taken. What DataParallel and torch.compile put
    before every name is taken off. A warning says what was done.

    Raises:
        CheckpointError: no such file, truncated, no weights at all, or holding more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint file {path}: give a .safetensors, .pt, .pth or .th file")
    if _is_safetensors(path):
        return _unwrapped(parse_weights(path.read_bytes(), str(path)), path)
    try:
        # torch asks the reader of a foreign pickle to file an issue, and goes by the name of a file that is not opened
        with (
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(_numbers()),
            path.open("rb") as stream,
        ):
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of plain tensors, and nothing else is loaded: {_reason(error)}. "
            "Save network.state_dict() alone"
        ) from None
    except DAMAGED as error:
        raise CheckpointError(f"{path} cannot be read as a torch file, is it whole? {_first_sentence(error)}") from None
    return _unwrapped({str(name): tensor for name, tensor in _state_dict(content, path).items()}, path)


def _numbers() -> list[Any]:
    """What NumPy's numbers are pickled as, such as an accuracy beside the weights: plain values, and no code."""
    functions = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
    named = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in functions.items()
    ]
    kinds = [type(np.dtype(letter)) for letter in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"]
    return [np.dtype, np.ndarray, *kinds, *named]


def _unwrapped(weights: Weights, path: Path) -> Weights:
    """The weights without what wrappers put before every name."""
    bare, prefix = without_prefixes({name: one for name, one in weights.items() if name != COUNTER}, WRAPPERS)
    bare = bare if prefix else weights
    if prefix:
        warnings.warn(f"{path} was read without the prefix {prefix!r} of every name", WeightsWarning, stacklevel=3)
    return bare


def without_prefixes(weights: Weights, prefixes: tuple[str, ...]) -> tuple[Weights, str]:
    """Weights without those of the prefixes that all their names have, one after the other; and what was taken off.

    >>> names = {"module._orig_mod.fc.weight": torch.zeros(1), "module._orig_mod.fc.bias": torch.zeros(1)}
    >>> found, prefix = without_prefixes(names, ("module.", "_orig_mod."))
    >>> list(found), prefix
    (['fc.weight', 'fc.bias'], 'module._orig_mod.')
    """
    taken = ""
    while weights and (prefix := next((one for one in prefixes if all(name.startswith(one) for name in weights)), "")):
        weights, taken = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}, taken + prefix
    return weights, taken


def _is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as safetensors, whatever it is called.

    Raises:
        CheckpointError: it is what is often saved in place of weights.
    """
    with path.open("rb") as stream:
        start = stream.read(TAR_MARK.stop)
    text = start.lstrip().lower()
    if not text:
        raise CheckpointError(f"{path} is empty: fetch it again")
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer and not the file itself: run git lfs pull")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path} is a web page and not a file of weights, such as a download page: fetch the file itself"
        )
    kind = next((kind for mark, kind in PACKED.items() if start.startswith(mark)), "")
    if kind or start[TAR_MARK] == b"ustar":
        raise CheckpointError(f"{path} is a {kind or 'tar'} archive: unpack it, and give the file of weights in it")
    if start.startswith(ZIP):
        _check_zip(path)
        return False
    return start[8:9] == b"{" or path.suffix == ".safetensors"  # a header in JSON after eight bytes of its length


def _check_zip(path: Path) -> None:
    """Raise CheckpointError for zip files that are programs, or hold no weights; a damaged one torch's reader names."""
    try:
        with zipfile.ZipFile(path) as archive:
            inner = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    if "constants.pkl" in inner:
        raise CheckpointError(f"{path} is a program of TorchScript and not weights alone: give it as model torchscript")
    if "data.pkl" not in inner:
        raise CheckpointError(f"{path} is a zip archive: unpack it, and give the file of weights in it")


def _state_dict(content: object, path: Path) -> dict[object, Tensor]:
    """The mapping of names to tensors in what a torch file holds."""
    while isinstance(content, dict) and not _is_state_dict(content):
        likely = [key for key in STATE_DICTS if isinstance(content.get(key), dict)]
        held = [str(key) for key, value in content.items() if _is_state_dict(value)]
        others = [key for key in (*likely, *held) if key in content]
        if not others:
            break
        if len(set(others)) > 1:
            rest = ", ".join(sorted(set(others) - {others[0]}))
            warnings.warn(
                f"{path} holds several networks: {others[0]} was taken, not {rest}; save the wanted one alone",
                WeightsWarning,
                stacklevel=3,
            )
        content = content[others[0]]
    if not _is_state_dict(content):
        raise CheckpointError(
            f"{path} holds no state_dict: expected names with tensors, or the same under 'state_dict'"
        )
    assert isinstance(content, dict)
    return content


def _is_state_dict(content: object) -> bool:
    return isinstance(content, dict) and bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _first_sentence(error: Exception) -> str:
    """The start of torch's own words, which run over many lines."""
    return one_line(error).partition(". ")[0] or type(error).__name__


def _reason(error: Exception) -> str:
    """What torch's reader of plain tensors stumbled over, such as the name of a class."""
    return one_line(str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0]).partition(". ")[0]


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


def content_of(files: Sequence[Path]) -> str:
    """12 hexadecimal digits over the bytes of a file, or over those of several and their names.

    Raises:
        CheckpointError: one cannot be read.
    """
    found = []
    for file in files:
        if file.exists() and not file.is_file() and not file.is_dir():  # a pipe would be waited for without end
            raise CheckpointError(f"{file} is no regular file: give a file of weights")
        try:
            with file.open("rb") as stream:
                found.append(hashlib.file_digest(stream, "sha256").hexdigest()[:12])
        except OSError as error:
            raise CheckpointError(f"cannot read the weights {file}: {error.strerror}. Give a file of weights") from None
    if len(found) == 1:
        return found[0]
    return short_hash("\n".join(f"{file.name} {digest}" for file, digest in zip(files, found, strict=True)))


def head_size(network: nn.Module, weights: Weights, where: str) -> int:
    """How many outputs the network has of which these are the weights, by a network of 2 outputs.

    Raises:
        CheckpointError: they differ in more than the number of outputs.
    """
    whole = network.state_dict()
    known = {name for name in whole if not name.endswith(COUNTED)}
    found = _fitting_names(network, weights, known, set(whole), where)
    sizes = _head_sizes(whole, found)
    if sizes is None and any(name in found and found[name].shape != whole[name].shape for name in whole):
        fit_weights(network, weights, where)  # raises, and names the first
    return 2 if sizes is None else sizes[0]


def _head_sizes(own: Weights, found: Weights) -> tuple[int, int] | None:
    """How many outputs weights have and how many a network, if all tensors that differ do so in their rows alone."""
    sizes = set()
    for name, tensor in own.items():
        if name not in found or (other := found[name]).shape == tensor.shape:
            continue
        if other.ndim != tensor.ndim or not tensor.ndim or other.shape[1:] != tensor.shape[1:]:
            return None
        sizes.add((other.shape[0], tensor.shape[0]))
    return sizes.pop() if len(sizes) == 1 else None


def fit_weights(network: nn.Module, weights: Weights, where: str) -> None:
    """Copy `weights` into `network`.

    Names need not be the network's own: a prefix that all have is taken off, and a network that knows the names that
    other code has for its parts (a method `own_name`) renames them, where then every name fits; a warning says so.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape or type differs; the message names the first.
    """
    whole = network.state_dict()
    needed = {name for name in whole if not name.endswith(COUNTED)}
    weights = _fitting_names(network, weights, needed, set(whole), where)
    own = {name: tensor for name, tensor in whole.items() if name in weights or name in needed}
    if (sizes := _head_sizes(own, weights)) is not None and set(own) == set(weights):
        name = next(name for name in own if weights[name].shape != own[name].shape)
        raise CheckpointError(
            f"{where} does not fit the model: {name!r} is {tuple(weights[name].shape)}, the model has "
            f"{tuple(own[name].shape)}: it has {sizes[0]} outputs, and there are {sizes[1]} classes; give the data set "
            "that it was trained on, or say with classes which outputs are meant"
        )
    if missing := [name for name in own if name not in weights]:
        near = _nearest(missing[0], {other: found for other, found in weights.items() if other not in own})
        shape = tuple(own[missing[0]].shape)
        raise CheckpointError(
            f"{where} does not fit the model: it lacks {missing[0]!r} {shape}{near}{_others(missing)}; check model"
        )
    for name, tensor in own.items():
        _check_fits(name, tensor, weights[name], where)
    if extra := sorted(set(weights) - set(own)):
        near = _nearest(extra[0], own)
        raise CheckpointError(
            f"{where} does not fit the model: the model has no {extra[0]!r}{near}{_others(extra)}; check model"
        )
    network.load_state_dict(weights, strict=False)  # the names were compared above


def start_from(network: nn.Module, weights: Weights, where: str) -> None:
    """Copy `weights` into a network that is to be trained on; a head for another number of classes is left as it is.

    The head is the one layer whose weight and bias differ in their outputs alone; a warning says that it is fresh.

    Raises:
        CheckpointError: as `fit_weights`.
    """
    own = network.state_dict()
    bare = without_prefixes(weights, (*WRAPPERS, *ATTRIBUTES))[0]
    other = {name for name, tensor in bare.items() if name in own and tensor.shape != own[name].shape}
    layers = {name.rpartition(".")[0] for name in other}
    if len(layers) == 1 and all(bare[name].shape[1:] == own[name].shape[1:] for name in other):
        (layer,) = layers
        counts = len(bare[min(other)]), len(own[min(other)])
        warnings.warn(
            f"{where} was trained on {counts[0]} classes: its head, {layer}, is replaced by a new one for {counts[1]}",
            WeightsWarning,
            stacklevel=3,
        )
        weights = {name: own[name] if name in other else tensor for name, tensor in bare.items()}
    fit_weights(network, weights, where)


def _fitting_names(network: nn.Module, weights: Weights, needed: set[str], known: set[str], where: str) -> Weights:
    """The weights under the network's own names, if a change of names makes all of them fit; else as they are."""
    bare, prefix = without_prefixes(weights, (*WRAPPERS, *ATTRIBUTES))
    own_name = getattr(network, "own_name", None)
    renamed = {} if own_name is None else {own_name(name): tensor for name, tensor in bare.items()}
    for found, said in (
        (weights, ""),
        (bare, f"without the prefix {prefix!r} of every name"),
        (renamed, "with the names of other code for the same network"),
    ):
        if len(found) == len(weights) and needed <= set(found) <= known:
            if said:
                warnings.warn(f"{where} was read {said}", WeightsWarning, stacklevel=4)
            return found
    return weights


def _others(names: Sequence[str]) -> str:
    """In words, the names after the first."""
    shown = ", ".join(map(repr, names[1:NAMED]))
    rest = len(names) - NAMED
    return (f"; nor {shown}" if shown else "") + (f" and {rest} more" if rest > 0 else "")


def _check_fits(name: str, tensor: Tensor, found: Tensor, where: str) -> None:
    """Raise CheckpointError if what the weights have under `name` is something else than the network has there."""
    if found.layout != tensor.layout:
        raise CheckpointError(f"{where} does not fit the model: {name!r} is {found.layout}; save it dense")
    if found.shape != tensor.shape:
        raise CheckpointError(
            f"{where} does not fit the model: {name!r} is {tuple(found.shape)}, the model has {tuple(tensor.shape)}; "
            "check model"
        )
    is_counter = name.endswith(COUNTED)  # whatever somebody converted all tensors to
    if (found.is_floating_point() != tensor.is_floating_point() and not is_counter) or found.is_complex():
        kind = str(found.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{where} does not fit the model: {name!r} is {kind}, whose scale lies elsewhere or which is no weight at "
            "all: save the network in floating point"
        )


def _nearest(name: str, others: Weights) -> str:
    """In words, which of the other names is most like `name`; "" if none is."""
    near = get_close_matches(name, others, n=1, cutoff=0.5)
    return f", the nearest there is {near[0]!r} {tuple(others[near[0]].shape)}" if near else ""


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
