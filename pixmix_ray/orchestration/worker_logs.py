"""What a worker prints, warns and raises, kept in the results folder: one file a trial, and one a cell.

    logs/TRIAL/training.log     of the trial, each attempt behind the one before
    logs/TRIAL/NAME-HASH.log    of a cell, by the key of its benchmark

Whatever the process writes to its standard output and error goes there, also what libraries in C write. A file that
would be empty is not kept. On a local disk it grows as the work goes on, so a worker that is killed leaves it; to
object storage, which knows no growing files, it is written when the work ends.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import BinaryIO

from pixmix_ray.errors import ResultsError, StorageError
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import Store


@contextmanager
def logged(store: Store, path: str, place: Place) -> Iterator[None]:
    """A block whose standard output and error are kept at `path`; so is the traceback of what it raises."""
    with _opened(store, path) as file:
        started = file.tell()
        header = f"--- {datetime.now(UTC).isoformat(timespec='seconds')} on {place}\n".encode()
        with _redirected(file, header):
            try:
                yield
            except GeneratorExit:
                raise
            except BaseException:
                traceback.print_exc()
                raise
        if file.tell() == started + len(header):  # nothing was said
            file.truncate(started)
            file.seek(started)


@contextmanager
def _opened(store: Store, path: str) -> Iterator[BinaryIO]:
    """A file to append to; where it cannot be kept, the work goes on without."""
    if store.is_local:
        place = os.path.join(store.uri, path)
        with _appended(place) as file:
            yield file
            is_empty = os.fstat(file.fileno()).st_size == 0
        if is_empty:
            with suppress(OSError):
                os.unlink(place)
        return
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        if content := file.read():
            with suppress(StorageError, ResultsError):
                store.write(path, (store.read(path) or b"") + content)


def _appended(place: str) -> BinaryIO:
    try:
        return open(place, "ab")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        return open(place, "ab")


@contextmanager
def _redirected(file: BinaryIO, header: bytes) -> Iterator[None]:
    """The process's standard output and error go to a file, for the time of the block."""
    file.write(header)
    file.flush()
    _flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        yield
    finally:
        _flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)
        file.seek(0, os.SEEK_END)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
