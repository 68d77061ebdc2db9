"""The results folder: a local path or a URI through pyarrow.fs, and the one place that knows every file in it.

    measurements.parquet                   all measurements, a row each: an index, made again from the cells (`index`)
    report.html                            all of it as a page, as of the last run that ended
    cells/CHECKPOINT/NAME-KEY.parquet      a checkpoint on a benchmark: a row a picture, measurements behind (`cell`)
    cells/CHECKPOINT/NAME-KEY.failed.json  why it failed (`failures`); removed when it succeeds
    trials/TRIAL/trial.json                what the trial is
    trials/TRIAL/progress.safetensors      weights and momentum where it was last saved, while it trains
    trials/TRIAL/model.safetensors         the trained weights
    trials/TRIAL/done.json                 written last: its existence means that the trial is complete
    trials/TRIAL/failed.json               why it failed; removed when it succeeds
    trials/TRIAL/stopped.json              which scheduler stopped it early, and when; removed when it goes on
    runs/RUN.json                          what one run used of its cluster, rewritten while it runs
    logs/TRIAL/training.log                what its workers printed and raised, and NAME-HASH.log for each cell
    searches/HASH.json                     the points that a search has suggested, written before they are trained
    running.json                           who is running on it (`run_lock`)
    any of them with .damaged behind       bytes that are not those that were written; it counts for nothing

What is done is read from here and remembered nowhere else. A file is written beside and renamed (on object stores a
put is atomic), so a reader never sees half of one. Parquet files carry a digest of their bytes (`sealed`). On object
storage a request that fails is made again a few times, since such storage now and then refuses one.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
from pyarrow import fs

from pixmix_ray.errors import DamagedError, ResultsError, StorageError, one_line
from pixmix_ray.paths import PART, written_path
from pixmix_ray.storage import local_files
from pixmix_ray.storage.local_files import FileStamp
from pixmix_ray.storage.location import check_answer, refuse_secrets
from pixmix_ray.storage.sealed import Unsealed, seal, unseal

PAGE = "report.html"
DAMAGED = ".damaged"  # behind the name of a file that was set aside
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between the tries of a request to object storage
FINAL = (FileNotFoundError, NotADirectoryError, PermissionError)  # errors that come again on every try
FINAL_WORDS = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_")  # of S3, which pyarrow tells as plain OSErrors
T = TypeVar("T")


class Store:
    """Files below one local path or URI, read and written whole."""

    def __init__(self, uri: str | Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Open the store at a local path or a URI that pyarrow.fs knows; `sleep` waits between two tries.

        Raises:
            ResultsError: the URI is of an unknown kind, holds credentials, or nobody answers there.
        """
        try:
            text = written_path(str(uri))
        except ValueError as error:
            raise ResultsError(f"results {error}") from None
        refuse_secrets(text)
        try:
            self.uri = text if "://" in text else str(Path(text).resolve())
            self._files, self._root = fs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link to itself
            raise ResultsError(
                f"cannot open results {text!r}: {one_line(error)}. Give a folder, or a URI such as s3://bucket/folder"
            ) from None
        self.is_local = isinstance(self._files, fs.LocalFileSystem)
        self._sleep = sleep
        if not self.is_local:
            check_answer(self.uri, lambda: self._files.get_file_info(self._root))

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def _place(self, path: str) -> str:
        """Where a file of the store lies. Names come out of files too, which may be somebody else's."""
        if path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ResultsError(f"{path!r} is outside of results {self.uri}: give a path below the folder")
        return f"{self._root}/{path}"

    def write(self, path: str, content: bytes) -> None:
        """Write a file whole: it is there with all of `content`, or not at all.

        Raises:
            StorageError: it cannot be written.
            ResultsError: as all that follows does, `path` leads out of the store.
        """
        target = self._place(path)
        with self._writing():
            if self.is_local:
                local_files.write(target, content)
            else:
                self._tried(lambda: self._put(target, content))

    def _put(self, target: str, content: bytes) -> None:
        with self._files.open_output_stream(target) as stream:
            stream.write(content)

    def write_new(self, path: str, content: bytes) -> bool:
        """Write a file where there is none yet, on a local disk; whether it was, and not somebody else's.

        Raises:
            StorageError: it cannot be written.
        """
        assert self.is_local, "object storage has no such request in pyarrow"
        target = self._place(path)
        with self._writing():
            return local_files.write_new(target, content)

    def read(self, path: str) -> bytes | None:
        """The content of a file, or none if there is no such file."""
        return self._read(path, lambda file: file.read())

    def read_start(self, path: str, count: int) -> bytes | None:
        """The first `count` bytes of a file, or all if it has fewer, or none if there is no such file."""
        return self._read(path, lambda file: file.read(count))

    def read_end(self, path: str, count: int) -> bytes | None:
        """The last `count` bytes of a file, or all if it has fewer, or none if there is no such file."""

        def end(file: BinaryIO) -> bytes:
            file.seek(max(0, file.seek(0, os.SEEK_END) - count))
            return file.read()

        return self._read(path, end)

    def _read(self, path: str, part: Callable[[BinaryIO], bytes]) -> bytes | None:
        place = self._place(path)

        def read() -> bytes:
            with local_files.opened(place) if self.is_local else self._files.open_input_file(place) as file:
                return part(file)

        with self._reading():
            try:
                return self._tried(read)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        place = self._place(path)
        if self.is_local:
            return os.path.isfile(place)
        with self._reading():
            return bool(self._tried(lambda: self._files.get_file_info(place)).type == fs.FileType.File)

    def delete(self, path: str) -> None:
        """Remove a file, if it is there.

        Raises:
            StorageError: it cannot be removed.
        """
        target = self._place(path)
        with self._writing(), suppress(FileNotFoundError, NotADirectoryError):
            if self.is_local:
                local_files.delete(target)
            elif self.exists(path):
                self._tried(lambda: self._files.delete_file(target))

    def set_aside(self, path: str) -> str:
        """Rename a damaged file, so that it counts for nothing but can be looked at; its new name.

        What was set aside under that name before is replaced. A file that is gone, as another process was faster, is
        no error.

        Raises:
            StorageError: it cannot be renamed.
        """
        aside = f"{path}{DAMAGED}"
        with self._writing(), suppress(FileNotFoundError):
            (local_files.move if self.is_local else self._files.move)(self._place(path), self._place(aside))
        return aside

    def files(self, prefix: str) -> set[str]:
        """Paths of all files at or below `prefix`, relative to the store."""
        if self.is_local:
            return self._local(prefix, local_files.paths)
        return set(self._remote(prefix))

    def filesystem(self) -> tuple[fs.FileSystem, str]:
        """The file system of pyarrow and the folder in it, for what pyarrow reads by itself."""
        return self._files, self._root

    def stamps(self, prefix: str) -> dict[str, FileStamp]:
        """The same paths, each with what tells whether the file was written anew."""
        if self.is_local:
            return self._local(prefix, local_files.stamps)
        return {
            path: FileStamp(modified=entry.mtime_ns or 0, size=entry.size)
            for path, entry in self._remote(prefix).items()
        }

    def _local(self, prefix: str, listing: Callable[[str, str], T]) -> T:
        self._place(prefix)  # refuses what leads out
        with self._reading():
            return listing(self._root, prefix)

    def _remote(self, prefix: str) -> dict[str, Any]:
        """The files at or below `prefix` by path, as pyarrow tells of them."""
        top = self._place(prefix)
        selector = fs.FileSelector(top, recursive=True, allow_not_found=True)
        with self._reading():
            info = self._tried(lambda: self._files.get_file_info(top))
            is_file = info.type == fs.FileType.File
            found = [info] if is_file else self._tried(lambda: self._files.get_file_info(selector))
        return {
            entry.path.removeprefix(self._root).lstrip("/"): entry
            for entry in found
            if entry.type == fs.FileType.File and not entry.path.endswith(PART)
        }

    def _tried(self, action: Callable[[], T]) -> T:
        """What `action` returns; on object storage it is tried again, since a failure may pass."""
        pauses = () if self.is_local else PAUSES
        for pause in pauses:
            try:
                return action()
            except OSError as error:
                if isinstance(error, FINAL) or any(word in str(error) for word in FINAL_WORDS):
                    raise
                self._sleep(pause)
        return action()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A block that writes or removes: that it cannot be done is an error of its own class."""
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                f"cannot write to results {self.uri}: {_why(error)}. What is done is kept: once there is room and "
                "permission, run the same command again"
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A block that reads."""
        try:
            yield
        except OSError as error:
            raise ResultsError(f"cannot read results {self.uri}: {_why(error)}. Check that it is reachable") from None

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

    def damaged(self, path: str, error: Exception) -> DamagedError:
        """The error for a file that cannot be read."""
        return DamagedError(f"{path} in {self.uri} is damaged: {one_line(error)}. Delete it and run again")

    def write_table(self, path: str, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
        """Write a Parquet file whole, with a digest of its bytes, and `metadata` in its footer."""
        self.write(path, seal([table], metadata))

    def check_writable(self) -> None:
        """Try to write a small file.

        Raises:
            ResultsError: it cannot be written; the message says why.
        """
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except StorageError as error:
            why = _why(error.__cause__ if isinstance(error.__cause__, OSError) else error)
            raise ResultsError(
                f"cannot write to results {self.uri}: {why}. Give another folder: --set results=PATH"
            ) from None


def _why(error: OSError) -> str:
    return one_line(error.strerror or error, 300)


def trial_file(trial_id: str, name: str) -> str:
    """The path of one of a trial's files, named as at the top of this module."""
    return f"trials/{trial_id}/{name}"


def cell_file(cell: str) -> str:
    """The path of a cell, which is named CHECKPOINT/NAME-KEY."""
    return f"cells/{cell}.parquet"


def cell_failure_file(trial_id: str, key: str) -> str:
    """The path of the reason why a trial's cell failed; `key` is that of the benchmark, as there may be no weights."""
    return f"cells/{trial_id}/{key}.failed.json"


def log_file(trial_id: str, key: str = "training") -> str:
    """The path of what the workers of a trial printed, or those of a cell, by the key of its benchmark."""
    return f"logs/{trial_id}/{key}.log"


def search_file(name: str) -> str:
    """The path of the points that a search has suggested."""
    return f"searches/{name}.json"


def run_file(run: str) -> str:
    """The path of what a run used."""
    return f"runs/{run}.json"
