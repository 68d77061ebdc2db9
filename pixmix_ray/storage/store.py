"""The results folder: a local path or a URI through pyarrow.fs, and the one place that knows every file in it.

    trials/TRIAL/trial.json              what the trial is
    trials/TRIAL/progress.safetensors    weights and momentum after the last whole epoch, while it trains
    trials/TRIAL/model.safetensors       the trained weights
    trials/TRIAL/done.json               written last: its existence means that the trial is complete
    trials/TRIAL/failed.json             why it failed (`failures`); removed when it succeeds
    trials/TRIAL/stopped.json            which scheduler stopped it early, and when; removed when it goes on
    predictions/TRIAL/BENCHMARK.parquet  a row a picture
    cells/TRIAL/BENCHMARK.parquet        the measurements, written last: its existence means that the cell is complete
    cells/TRIAL/BENCHMARK.failed.json    why it failed; removed when it succeeds
    cells/TRIAL/BENCHMARK.vN.parquet     measurements that replace those of BENCHMARK.parquet, and of any smaller N
    compacted/NAME.parquet               the measurements of many cells that had files of their own (`segments`)
    runs/RUN.json                        what one run used of its cluster, rewritten while it runs
    searches/HASH.json                   the points that a search has suggested, written before they are trained
    lease.json                           who is running on it (`lease`)
    any of them with .damaged behind     bytes that are not those that were written; it counts for nothing

What is done is read from here and remembered nowhere else. A file is written beside and renamed (on object stores a
put is atomic), so a reader never sees half of one. Parquet files carry a digest of their bytes (`sealed`).
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import fs

from pixmix_ray.errors import DamagedError, ResultsError, StorageError, one_line
from pixmix_ray.storage.location import check_answer, refuse_secrets
from pixmix_ray.storage.sealed import Unsealed, seal, unseal

DAMAGED = ".damaged"  # behind the name of a file that was set aside


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

    def _place(self, path: str) -> str:
        """Where a file of the store lies. Names come out of files too, which may be somebody else's."""
        if path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ResultsError(f"{path!r} leads out of results {self.uri}: a path must lie below the folder")
        return f"{self._root}/{path}"

    def write(self, path: str, content: bytes) -> None:
        """Write a file whole: it is there with all of `content`, or not at all.

        Raises:
            OSError: on a local disk.
            ResultsError: on object storage; or, as all that follows does, `path` leads out of the store.
        """
        target = self._place(path)
        if self._is_local:
            _write_beside_and_rename(target, content)
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
            with self._files.open_input_stream(self._place(path)) as stream:
                content: bytes = stream.read()
                return content
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreachable(error) from None

    def delete(self, path: str) -> None:
        """Remove a file, if it is there."""
        target = self._place(path)
        if self._is_local:
            with suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(target)
        elif self.files(path):
            with suppress(FileNotFoundError):  # another process was faster
                self._files.delete_file(target)

    def set_aside(self, path: str) -> str:
        """Rename a damaged file, so that it counts for nothing but can be looked at; its new name.

        What was set aside under that name before is replaced. A file that is gone, as another process was faster, is
        no error.
        """
        aside = f"{path}{DAMAGED}"
        with suppress(FileNotFoundError):
            self._files.move(self._place(path), self._place(aside))
        return aside

    def files(self, prefix: str) -> set[str]:
        """Paths of all files at or below `prefix`, relative to the store."""
        top = self._place(prefix)
        if self._is_local:
            return self._local_files(prefix)
        selector = fs.FileSelector(top, recursive=True, allow_not_found=True)
        try:
            info = self._files.get_file_info(top)
            found = [info] if info.type == fs.FileType.File else self._files.get_file_info(selector)
        except OSError as error:
            raise self._unreachable(error) from None
        return {
            entry.path.removeprefix(self._root).lstrip("/")
            for entry in found
            if entry.type == fs.FileType.File and not entry.path.endswith(".part")
        }

    def _local_files(self, prefix: str) -> set[str]:
        """The same, five times as fast: sizes and times are not asked for."""
        top = os.path.join(self._root, prefix)  # strings: a Path a file would cost more than the listing
        if os.path.isfile(top):
            return {prefix}
        found: set[str] = set()
        folders = [top.rstrip("/")]
        skipped = len(self._root.rstrip("/")) + 1
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir():
                            folders.append(entry.path)
                        elif not entry.name.endswith(".part"):
                            found.add(entry.path[skipped:])
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise self._unreachable(error) from None
        return found

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
            schema: the columns that are wanted, as for `unseal`; none takes them as they are.

        Raises:
            DamagedError: its bytes are not those that were written, or a column has another type.
        """
        try:
            found = self.unsealed(path, schema)
            return None if found is None else found.table
        except DamagedError as error:
            raise self.damaged(path, error) from None

    def unsealed(self, path: str, schema: pa.Schema | None = None) -> Unsealed | None:
        """The content of a Parquet file with its metadata, its rows not yet decoded; otherwise as `read_table`."""
        content = self.read(path)
        return None if content is None else unseal(content, schema)

    def _unreachable(self, error: OSError) -> ResultsError:
        return ResultsError(f"cannot read results {self.uri}: {' '.join(str(error).split())[:200]}. Is it reachable?")

    def damaged(self, path: str, error: Exception) -> DamagedError:
        """The error for a file that cannot be read."""
        return DamagedError(f"{path} in {self.uri} is damaged: {one_line(error)}. Delete it and run again")

    def write_table(self, path: str, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
        """Write a Parquet file whole, with a digest of its bytes, and `metadata` in its footer."""
        self.write(path, seal(table, metadata))

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


def _write_beside_and_rename(target: str, content: bytes) -> None:
    beside = f"{target}.{uuid.uuid4().hex}.part"  # a string: a Path costs as much as the system's own part of this
    try:
        with _opened(beside) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(beside, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _opened(beside: str) -> BinaryIO:
    """A new file, in a folder that is made if it is not there."""
    try:
        return open(beside, "xb")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(beside), exist_ok=True)
        return open(beside, "xb")


@contextmanager
def kept(store: Store) -> Iterator[None]:
    """A block that writes results: that they cannot be written is an error of its own class."""
    try:
        yield
    except OSError as error:
        why = " ".join((error.strerror or str(error)).split())[:200]
        raise StorageError(
            f"cannot write to results {store.uri}: {why}. What is done is kept: once there is room and permission, "
            "run the same command again"
        ) from error


def trial_file(trial_id: str, name: str) -> str:
    """The path of one of a trial's files, named as at the top of this module."""
    return f"trials/{trial_id}/{name}"


def cell_file(trial_id: str, key: str) -> str:
    """The path of a cell's measurements."""
    return f"cells/{trial_id}/{key}.parquet"


def compacted_file(name: str) -> str:
    """The path of a file that holds the measurements of many cells."""
    return f"compacted/{name}.parquet"


def cell_failure_file(trial_id: str, key: str) -> str:
    """The path of the reason why a cell failed."""
    return f"cells/{trial_id}/{key}.failed.json"


def predictions_file(trial_id: str, key: str) -> str:
    """The path of the predictions behind a cell."""
    return f"predictions/{trial_id}/{key}.parquet"


def search_file(name: str) -> str:
    """The path of the points that a search has suggested."""
    return f"searches/{name}.json"


def run_file(run: str) -> str:
    """The path of what a run used."""
    return f"runs/{run}.json"
