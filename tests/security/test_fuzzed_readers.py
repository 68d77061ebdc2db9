"""Readers of what a user is given, fed damaged files: each is read, or refused by one of our own errors in one line.

The damage is drawn by hypothesis: a whole file is cut off, its bits are flipped, pieces of it are overwritten, doubled
or taken out; or there is nothing but noise. The draws are the same in every run; for a longer search set
PIXMIX_RAY_FUZZ to the number of files for each reader, such as 20000, and they are new ones.
"""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from pixmix_ray.datasets.cifar import CIFAR10, read_batch, read_names
from pixmix_ray.datasets.official_arrays import picture_array
from pixmix_ray.datasets.picture_files import rgb_picture
from pixmix_ray.datasets.picture_source import array_images
from pixmix_ray.errors import PixmixRayError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.mixing_sets.sources import read_source
from pixmix_ray.models import parse_weights, read_header, read_weights
from pixmix_ray.storage.schema import MEASUREMENTS
from pixmix_ray.storage.store import Store

FILES = int(os.environ.get("PIXMIX_RAY_FUZZ", "0"))
LIMITS = settings(
    max_examples=FILES or 60,
    derandomize=not FILES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader, the name of the file that it is given, and a whole file that it takes."""

    name: str
    file: str
    content: bytes
    read: Callable[[Path], object]


def _pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def _torch_file(is_zip: bool) -> bytes:
    buffer = io.BytesIO()
    state = {"state_dict": {"module.weight": torch.ones(2, 3), "module.bias": torch.zeros(2)}, "epoch": 3}
    torch.save(state, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, _pictures())
    return buffer.getvalue()


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=_pictures())
    return buffer.getvalue()


def _picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_pictures()[0]).save(buffer, kind)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", _picture("PNG"))
        archive.writestr("b/c.jpg", _picture("JPEG"))
    return buffer.getvalue()


def _batch() -> bytes:
    data = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    return pickle.dumps({b"data": data, b"labels": [3, 9]}, protocol=2)


def _cell() -> bytes:
    row = {field.name: _filled(field.type) for field in MEASUREMENTS}
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row] * 3, schema=MEASUREMENTS), buffer, compression="zstd")
    return buffer.getvalue()


def _filled(kind: pa.DataType) -> object:
    if pa.types.is_string(kind):
        return "text"
    return 0 if pa.types.is_timestamp(kind) else 1


EXPERIMENT = b"""results: results
dataset: {name: digits, train_limit: 100}
model: {name: wide_resnet, depth: 10, width: 1}
methods: [baseline, {name: pixmix, severity: 1}]
mixing_set: fractals+fractaldb
k: [2, 3]
seeds: [0, 1]
training: {epochs: 1, lr: 0.1}
benchmarks: [clean, {name: corruptions, limit: 10, exclude: [frost]}]
resources: {trial: {cpus: 0.75}}
"""

READERS = [
    Reader(name="torch zip", file="w.pth", content=_torch_file(is_zip=True), read=read_weights),
    Reader(name="torch classic", file="w.th", content=_torch_file(is_zip=False), read=read_weights),
    Reader(name="safetensors", file="w.safetensors", content=save({"a": torch.ones(2)}), read=read_weights),
    Reader(
        name="progress",
        file="progress.safetensors",
        content=save({"a": torch.ones(2)}, {"epoch": "1", "history": "[]"}),
        read=lambda file: (parse_weights(file.read_bytes(), "it"), read_header(file.read_bytes(), "it")),
    ),
    Reader(name="CIFAR batch", file="data_batch_1", content=_batch(), read=lambda file: read_batch(CIFAR10, file)),
    Reader(
        name="CIFAR names",
        file="batches.meta",
        content=pickle.dumps({b"label_names": [b"name"] * 10}, protocol=2),
        read=lambda file: read_names(CIFAR10, file),
    ),
    Reader(
        name="official npy",
        file="fog.npy",
        content=_npy(),
        read=lambda file: np.array(picture_array(file, (-1, 8, 8, 3), "pictures")),
    ),
    Reader(name="npy of pictures", file="p.npy", content=_npy(), read=lambda file: np.array(array_images(file))),
    Reader(name="npz of pictures", file="p.npz", content=_npz(), read=lambda file: np.array(array_images(file))),
    Reader(
        name="zip of pictures",
        file="p.zip",
        content=_zip(),
        read=lambda file: [(picture.size(), picture.rgb()) for picture in read_source(file)],
    ),
    Reader(name="PNG", file="p.png", content=_picture("PNG"), read=rgb_picture),
    Reader(name="JPEG", file="p.jpg", content=_picture("JPEG"), read=rgb_picture),
    Reader(name="GIF", file="p.gif", content=_picture("GIF"), read=rgb_picture),
    Reader(name="experiment file", file="e.yaml", content=EXPERIMENT, read=read_experiment),
    Reader(
        name="cell",
        file="c.parquet",
        content=_cell(),
        read=lambda file: Store(file.parent).read_table(file.name, MEASUREMENTS),
    ),
    Reader(
        name="JSON",
        file="done.json",
        content=json.dumps({"epoch_seconds": [1.0], "settings": {"a": None}}).encode(),
        read=lambda file: Store(file.parent).read_json(file.name),
    ),
]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` after one to four accidents."""
    broken = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(broken) - 1)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["cut", "flip", "overwrite", "double", "remove", "noise", "number"])):
            case "cut":
                del broken[place:]
            case "flip" if broken:
                broken[place] ^= 1 << draw(st.integers(0, 7))
            case "overwrite":
                broken[place : place + length] = draw(st.binary(min_size=1, max_size=length))
            case "double":
                broken[place:place] = broken[place : place + length]
            case "remove":
                del broken[place : place + length]
            case "noise":
                broken[:] = draw(st.binary(max_size=200))
            case "number":  # a size or an offset that became huge, zero or negative
                value = draw(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]))
                broken[place : place + 8] = value.to_bytes(8, draw(st.sampled_from(["little", "big"])))
    return bytes(broken)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_damaged_file_is_read_or_refused_by_our_own_error(reader: Reader, tmp_path: Path) -> None:
    whole = tmp_path / reader.file
    whole.write_bytes(reader.content)
    with warnings.catch_warnings(action="ignore"):
        reader.read(whole)  # else the test would hold for a reader that refuses everything

    @LIMITS
    @given(content=damaged(reader.content))
    def holds(content: bytes) -> None:
        file = tmp_path / reader.file
        file.write_bytes(content)
        try:
            with warnings.catch_warnings(action="ignore"):  # Pillow's and NumPy's own, of which users are told
                reader.read(file)
        except PixmixRayError as error:
            assert str(error).strip() and "\n" not in str(error)

    holds()
