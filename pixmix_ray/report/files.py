"""Files that are written for people: whole, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixmix_ray import paths
from pixmix_ray.errors import RequestError


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` when all is written."""
    try:
        with paths.written_whole(file) as beside:
            yield Path(beside)
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror or error}") from error
