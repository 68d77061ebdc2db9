"""Files made to do harm: each is refused in one line by an error of ours, and nothing of it is run or written."""

import io
import json
import os
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pixmix_ray.api import evaluation_of
from pixmix_ray.benchmarks import BENCHMARKS
from pixmix_ray.datasets.cifar import CIFAR10, read_batch
from pixmix_ray.datasets.official_arrays import picture_array
from pixmix_ray.datasets.picture_files import rgb_picture
from pixmix_ray.datasets.picture_source import array_images
from pixmix_ray.errors import RequestError, ResultsError
from pixmix_ray.evaluation.migrate import migrate
from pixmix_ray.evaluation.rescore import rescore
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import BenchmarkRun
from pixmix_ray.mixing_sets.sources import read_source
from pixmix_ray.models import read_weights
from pixmix_ray.report.sheet import parse_mixing_set
from pixmix_ray.storage.schema import MEASUREMENTS, PREDICTIONS
from pixmix_ray.storage.store import Store, cell_file
from tests.stored_cells import CHECKPOINT, ERROR, common, put


class _Command:
    """Unpickled without restriction, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.mkdir, (str(self.marker), 0o700)


def _torch_file(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.ones(1)}, "extra": _Command(marker)}, buffer)
    return buffer.getvalue()


def _npy(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([_Command(marker)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _npz(marker: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images.npy", _npy(marker))
    return buffer.getvalue()


def _experiment(marker: Path) -> bytes:
    return f"results: r\ndataset: digits\nmethods: !!python/object/apply:os.mkdir ['{marker}']\n".encode()


def _parquet_with_pickle(marker: Path) -> bytes:
    """A column of pickles where numbers should be, and metadata that name a class to build."""
    table = pa.table({"value": pa.array([pickle.dumps(_Command(marker))])})
    extension = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": b"pickle"}
    field = table.schema.field("value").with_metadata(extension | {"pandas": pickle.dumps(_Command(marker))})
    buffer = io.BytesIO()
    pq.write_table(table.cast(pa.schema([field])), buffer)
    return buffer.getvalue()


def _bomb(_: Path) -> bytes:
    """A PNG of a few hundred bytes whose header says 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def _zip_bomb(_: Path) -> bytes:
    """A picture of 300 MB of zeros in an archive of 300 kB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(300 * 2**20))
    return buffer.getvalue()


def _huge_npy(_: Path) -> bytes:
    """A header that promises more bytes than any machine has."""
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 2**10, 2**10, 3)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + bytes(64)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A file, made by `content` to make the folder that it is given when run, and the reader that must refuse it."""

    name: str
    file: str
    content: Callable[[Path], bytes]
    read: Callable[[Path], object]


ATTACKS = [
    Attack(name="checkpoint", file="w.pth", content=_torch_file, read=read_weights),
    Attack(
        name="pickle called checkpoint",
        file="w.pt",
        content=lambda marker: pickle.dumps(_Command(marker)),
        read=read_weights,
    ),
    Attack(
        name="CIFAR batch",
        file="data_batch_1",
        content=lambda marker: pickle.dumps({"data": _Command(marker), "labels": [1]}),
        read=lambda file: read_batch(CIFAR10, file),
    ),
    Attack(name="array", file="p.npy", content=_npy, read=array_images),
    Attack(name="archive of arrays", file="p.npz", content=_npz, read=array_images),
    Attack(
        name="official array", file="fog.npy", content=_npy, read=lambda file: picture_array(file, (-1,), "pictures")
    ),
    Attack(name="huge array", file="p.npy", content=_huge_npy, read=array_images),
    Attack(name="experiment file", file="e.yaml", content=_experiment, read=read_experiment),
    Attack(
        name="cell",
        file="c.parquet",
        content=_parquet_with_pickle,
        read=lambda file: Store(file.parent).read_table(file.name, MEASUREMENTS),
    ),
    Attack(name="picture", file="p.png", content=_bomb, read=rgb_picture),
    Attack(
        name="zip of pictures", file="p.zip", content=_zip_bomb, read=lambda file: [p.rgb() for p in read_source(file)]
    ),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of a pickle that is no file of its own
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_hostile_file_is_refused_in_one_line_and_runs_nothing(attack: Attack, tmp_path: Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / attack.file
    file.write_bytes(attack.content(marker))
    with pytest.raises(RequestError) as caught:
        attack.read(file)
    assert str(caught.value).isprintable() and attack.file in str(caught.value)
    assert not marker.exists()


def test_a_trial_that_names_code_imports_nothing_unless_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_part.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "results" / "trials" / "baseline-000000000000"
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"mixing_set": None, "dataset": {"name": "evil_part:Set"}}))
    with pytest.raises(RequestError, match="asks to import 'evil_part:Set': if you trust it, add --trust"):
        evaluation_of([str(folder)], ["clean"])
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RequestError, match="cannot import"):  # trusted, it is imported, and holds no such class
        evaluation_of([str(folder)], ["clean"], is_trusted=True)
    assert (tmp_path / "ran").exists()


def test_a_trial_that_fvis_visualizes_imports_nothing_unless_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_net.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "results" / "trials" / "baseline-000000000000"
    folder.mkdir(parents=True)
    for name in ("done.json", "model.safetensors"):
        (folder / name).write_bytes(b"")
    (folder / "trial.json").write_text(json.dumps({"model": {"name": "evil_net:Net"}}))
    text = f"{{name: fvis, trial: {folder}}}"
    with pytest.raises(RequestError, match="asks to import 'evil_net:Net': if you trust it, add trust: true beside"):
        parse_mixing_set(text).settings.version()
    assert not (tmp_path / "ran").exists()
    for trusted in (parse_mixing_set(text.replace("}", ", trust: true}")), parse_mixing_set(text, is_trusted=True)):
        with pytest.raises(RequestError, match="cannot import"):  # trusted, it is imported, and holds no such class
            trusted.settings.version()
    assert (tmp_path / "ran").exists()
    joined = parse_mixing_set(f"{{name: join, sets: [fractals, {text}]}}", is_trusted=True)
    assert joined.dump()["sets"][1]["trust"] is True and "trust" not in parse_mixing_set(text).identity()


def test_a_trial_cannot_say_itself_that_another_is_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "trials" / "pixmix-000000000000"
    folder.mkdir(parents=True)
    spec = {"name": "fvis", "trial": "/elsewhere", "trust": True}
    (folder / "trial.json").write_text(json.dumps({"mixing_set": {"name": "join", "sets": ["fractals", spec]}}))
    with pytest.raises(RequestError, match="asks to import '/elsewhere': if you trust it, add --trust"):
        evaluation_of([str(folder)], ["clean"])


CLEAN = BenchmarkRun(benchmark=BENCHMARKS.read("clean"), version="")


def _cell(store: Store, benchmark: dict[str, object], **columns: object) -> str:
    """Write a cell of `benchmark` with one prediction; its name."""
    settings = {"benchmark": "clean", "benchmark_settings": json.dumps(benchmark), "data_version": "a;"}
    name = f"baseline-000000000000/{CLEAN.cell_key('', CHECKPOINT)}"
    numbers = dict.fromkeys(PREDICTIONS.names, 0)
    rows = pa.Table.from_pylist([{**numbers, "condition": ""}], schema=PREDICTIONS)
    put(store, name, ERROR, rows=rows, **{**settings, **columns})
    return name


def test_a_cell_that_names_code_imports_nothing_unless_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_cell.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    store = Store(tmp_path / "results")
    _cell(store, {"name": "evil_cell:Theirs"})
    (cell,) = rescore(store.uri, write=True)
    said = "it asks to import 'evil_cell:Theirs': if you trust it, add --trust"
    assert (cell.state, cell.reason) == ("skipped", said)
    assert not (tmp_path / "ran").exists()
    (cell,) = rescore(store.uri, is_trusted=True)  # trusted, it is imported, and holds no such class
    assert cell.state == "skipped" and "cannot import" in cell.reason
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("outside", ["../../outside", "..", "/outside", "a/../../../outside"])
def test_what_a_cell_says_of_its_place_is_not_believed(tmp_path: Path, outside: str) -> None:
    store = Store(tmp_path / "results")
    name = _cell(store, CLEAN.benchmark.identity(), trial_id=outside)
    before = _everything(tmp_path)
    (found,) = rescore(store.uri)
    assert (found.path, found.state) == (cell_file(name), "skipped")  # it lacks what the benchmark keeps
    assert _everything(tmp_path) == before


@pytest.mark.parametrize("trial", ["../../outside", "..", "/outside", "a/../../../outside"])
def test_an_old_folder_cannot_name_a_cell_outside_of_itself(tmp_path: Path, trial: str) -> None:
    store = Store(tmp_path / "results")
    row = {
        **common(trial_id=trial, benchmark_settings=json.dumps(CLEAN.benchmark.identity())),
        **columns_of_error(),
        "unit": "",
    }
    rows = pa.Table.from_pylist([row], schema=MEASUREMENTS)
    manifest = {"benchmarks": [CLEAN.key], "trials": {trial: [[0, 0, 1]]}}
    store.write_table("compacted/1.parquet", rows, {"pixmix_ray.cells": json.dumps(manifest)})
    before = _everything(tmp_path)
    with pytest.raises(RequestError, match="is not the name of a cell"):
        migrate(store)
    assert _everything(tmp_path) == before


def columns_of_error() -> dict[str, object]:
    return {**asdict(ERROR), "direction": "lower", "unit": ""}


def _everything(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("path", ["../victim", "cells/../../victim", "/victim", "..", "cells/.."])
def test_no_path_leads_out_of_the_results_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "results" / "cells").mkdir(parents=True)
    store = Store(tmp_path / "results")
    calls: list[Callable[[], object]] = [
        lambda: store.read(path),
        lambda: store.write(path, b"theirs"),
        lambda: store.delete(path),
        lambda: store.set_aside(path),
        lambda: store.files(path),
        lambda: store.stamps(path),
        lambda: store.read_start(path, 1),
        lambda: store.read_end(path, 1),
        lambda: store.write_new(path, b"theirs"),
        lambda: store.exists(path),
    ]
    for call in calls:
        with pytest.raises(ResultsError, match="is outside of results") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert (tmp_path / "victim").read_text() == "mine"
    store.write("cells/a..b/..c", b"")  # two dots within a name are only a name
