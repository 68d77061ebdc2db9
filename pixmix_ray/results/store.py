"""The results folder: a local path or a URI through pyarrow.fs, and the one place that knows every file in it.

    trials/TRIAL/trial.json              what the trial is
    trials/TRIAL/progress.safetensors    weights and momentum after the last whole epoch, while it trains
    trials/TRIAL/model.safetensors       the trained weights
    trials/TRIAL/done.json               written last: its existence means that the trial is complete
    trials/TRIAL/failed.json             why it failed; removed when it succeeds
    predictions/TRIAL/BENCHMARK.parquet  a row a picture
    cells/TRIAL/BENCHMARK.parquet        the measurements, written last: its existence means that the cell is complete
    cells/TRIAL/BENCHMARK.failed.json    why it failed; removed when it succeeds

What is done is read from here and remembered nowhere else. A file is written beside and renamed (on object stores a
put is atomic), so a reader never sees half of one.
"""

import io
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from pixmix_ray.errors import ResultsError
from pixmix_ray.results.location import check_answer, refuse_secrets


class Store:
    """Files below one local path or URI, read and written whole."""

    def __init__(self, uri: str | Path) -> None:
        """Open the store at a local path or a URI that pyarrow.fs knows.

        Raises:
            ResultsError: the URI is of an unknown kind, holds credentials, or nobody answers there.
        """
        self.uri = str(uri) if "://" in str(uri) else str(Path(uri).expanduser().resolve())
        refuse_secrets(self.uri)
        try:
            self._files, self._root = fs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ResultsError(
                f"cannot open results {self.uri!r}: {reason}. Give a folder, or a URI such as s3://bucket/folder"
            ) from None
        self._is_local = isinstance(self._files, fs.LocalFileSystem)
        if not self._is_local:
            check_answer(self.uri, lambda: self._files.get_file_info(self._root))

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def write(self, path: str, content: bytes) -> None:
        """Write a file whole: it is there with all of `content`, or not at all.

        Raises:
            OSError: on a local disk.
            ResultsError: on object storage.
        """
        target = f"{self._root}/{path}"
        if self._is_local:
            _write_beside_and_rename(Path(target), content)
            return
        try:
            with self._files.open_output_stream(target) as stream:
                stream.write(content)
        except OSError as error:
            raise ResultsError(
                f"cannot write to results {self.uri}: {' '.join(str(error).split())[:300]}. Is it reachable, may you "
                "write there? What is done is kept: run the same command again"
            ) from None

    def read(self, path: str) -> bytes | None:
        """The content of a file, or none if there is no such file."""
        try:
            with self._files.open_input_stream(f"{self._root}/{path}") as stream:
                content: bytes = stream.read()
                return content
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreachable(error) from None

    def delete(self, path: str) -> None:
        """Remove a file, if it is there."""
        if self.files(path):
            self._files.delete_file(f"{self._root}/{path}")

    def files(self, prefix: str) -> set[str]:
        """Paths of all files at or below `prefix`, relative to the store."""
        selector = fs.FileSelector(f"{self._root}/{prefix}", recursive=True, allow_not_found=True)
        try:
            info = self._files.get_file_info(f"{self._root}/{prefix}")
            found = [info] if info.type == fs.FileType.File else self._files.get_file_info(selector)
        except OSError as error:
            raise self._unreachable(error) from None
        return {
            entry.path.removeprefix(self._root).lstrip("/")
            for entry in found
            if entry.type == fs.FileType.File and not entry.path.endswith(".part")
        }

    def read_json(self, path: str) -> dict[str, Any] | None:
        """The content of a JSON file, or none if there is no such file.

        Raises:
            ResultsError: it is damaged.
        """
        content = self.read(path)
        try:
            found = None if content is None else json.loads(content)
        except ValueError as error:
            raise self.damaged(path, error) from None
        if found is not None and not isinstance(found, dict):
            raise self.damaged(path, TypeError("not a JSON object"))
        return found

    def write_json(self, path: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file whole."""
        self.write(path, json.dumps(values, indent=1).encode())

    def read_table(self, path: str, schema: pa.Schema | None = None) -> pa.Table | None:
        """The content of a Parquet file, or none if there is no such file.

        Args:
            path: of the file.
            schema: the columns that it must have; none takes them as they are.

        Raises:
            ResultsError: it is damaged, or lacks a column.
        """
        content = self.read(path)
        try:
            return None if content is None else pq.read_table(io.BytesIO(content), schema=schema)
        except (pa.ArrowException, OSError) as error:
            raise self.damaged(path, error) from None

    def _unreachable(self, error: OSError) -> ResultsError:
        return ResultsError(f"cannot read results {self.uri}: {' '.join(str(error).split())[:200]}. Is it reachable?")

    def damaged(self, path: str, error: Exception) -> ResultsError:
        """The error for a file that cannot be read."""
        reason = " ".join(str(error).split())[:200]
        return ResultsError(f"{path} in {self.uri} is damaged: {reason}. Delete it and run again")

    def write_table(self, path: str, table: pa.Table) -> None:
        """Write a Parquet file whole."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write(path, buffer.getvalue())

    def check_writable(self) -> None:
        """Try to write a small file.

        Raises:
            ResultsError: it cannot be written; the message says why.
        """
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except OSError as error:
            reason = error.strerror or " ".join(str(error).split())[:300]
            raise ResultsError(
                f"cannot write to results {self.uri}: {reason}. Give another folder: --set results=PATH"
            ) from None


def _write_beside_and_rename(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        with beside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(target)
    finally:
        beside.unlink(missing_ok=True)


def trial_file(trial_id: str, name: str) -> str:
    """The path of one of a trial's files, named as at the top of this module."""
    return f"trials/{trial_id}/{name}"


def cell_file(trial_id: str, key: str) -> str:
    """The path of a cell's measurements."""
    return f"cells/{trial_id}/{key}.parquet"


def cell_failure_file(trial_id: str, key: str) -> str:
    """The path of the reason why a cell failed."""
    return f"cells/{trial_id}/{key}.failed.json"


def predictions_file(trial_id: str, key: str) -> str:
    """The path of the predictions behind a cell."""
    return f"predictions/{trial_id}/{key}.parquet"
