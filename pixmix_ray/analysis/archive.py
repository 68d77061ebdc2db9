"""Results as one file that another machine takes in: a zip of cells and trials, with a manifest of their hashes.

What comes out of an archive is checked against its manifest before anything is written, and lies below cells/ and
trials/ alone. A file that is there already with another content is a conflict: it is told, and never overwritten.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixmix_ray.errors import DamagedError, ResultsError, one_line
from pixmix_ray.paths import written_whole
from pixmix_ray.storage.store import DAMAGED, Store

MANIFEST, VERSION = "manifest.json", 1
ROOMS = ("cells", "trials")
WEIGHTS = ("model.safetensors", "progress.safetensors")
LARGEST = 2**34  # bytes of one file in an archive: more is no cell and no weights
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same results make the same archive


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of an archive.

    Attributes:
        added: files that were not there.
        same: files that were.
        conflicts: files that were there with another content, which they keep.
    """

    added: tuple[str, ...]
    same: tuple[str, ...]
    conflicts: tuple[str, ...]


def write_archive(store: Store, file: Path, *, has_weights: bool = False) -> int:
    """Write the archive of a results folder and return how many files are in it.

    Args:
        store: the results folder.
        file: where to, a .zip.
        has_weights: whether trained weights come along; measuring anew needs them.

    Raises:
        ResultsError: there is nothing, or the file cannot be written.
    """
    paths = [path for path in _paths(store) if has_weights or not path.endswith(WEIGHTS)]
    if not any(path.startswith("cells/") for path in paths):
        raise ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")
    entries = {}
    try:
        with written_whole(file) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in paths:
                content = store.read(path)
                if content is None:  # gone since it was listed
                    continue
                entries[path] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                archive.writestr(zipfile.ZipInfo(path, EPOCH), content, zipfile.ZIP_DEFLATED)
            manifest = json.dumps({"version": VERSION, "files": entries}, indent=1, sort_keys=True)
            archive.writestr(zipfile.ZipInfo(MANIFEST, EPOCH), manifest)
    except OSError as error:
        raise ResultsError(f"cannot write {file}: {error.strerror or error}") from None
    return len(entries)


def read_archive(store: Store, file: Path) -> Imported:
    """Take an archive into a results folder: what is new is written, what differs is reported.

    Raises:
        ResultsError: it is not an archive of ours, or cannot be read.
        DamagedError: a file in it is not what its manifest says; nothing was written.
        StorageError: a file cannot be written; what was written stays.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ResultsError(f"cannot read {file}: {error.strerror or error}") from None
    added: list[str] = []
    same: list[str] = []
    conflicts: list[str] = []
    for path, fresh in _checked(content, file):
        before = store.read(path)
        if before is None:
            store.write(path, fresh)
            added.append(path)
        else:
            (same if before == fresh else conflicts).append(path)
    return Imported(added=tuple(added), same=tuple(same), conflicts=tuple(conflicts))


def _paths(store: Store) -> list[str]:
    """The files that make up results: what can be made again from them is left out."""
    found = store.files("cells") | store.files("trials")
    return sorted(
        path for path in found if path.endswith((".parquet", ".json", *WEIGHTS)) and not path.endswith(DAMAGED)
    )


def _checked(content: bytes, file: Path) -> list[tuple[str, bytes]]:
    """The files of an archive, those of cells last, all of which are what the manifest says."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            files = manifest["files"]
            if manifest["version"] != VERSION or not isinstance(files, dict):
                raise ResultsError(
                    f"{file} is an archive of version {manifest['version']!r}, and this program reads {VERSION}: "
                    "export it again with this version of pixmix-ray"
                )
            return list(_contents(archive, files, file))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(f"{file} is not an archive written by pixmix-ray export: {one_line(error)}") from None


def _contents(archive: zipfile.ZipFile, files: dict[str, Any], file: Path) -> Iterator[tuple[str, bytes]]:
    # a trial is complete once its done.json is there, and a cell counts once its trial is known
    for path in sorted(files, key=lambda name: (name.startswith("cells/"), name.endswith("done.json"), name)):
        parts = path.split("/")
        if len(parts) != 3 or parts[0] not in ROOMS or any(part in ("", ".", "..") for part in parts) or "\\" in path:
            raise ResultsError(
                f"{file} holds {one_line(path)!r}: only files cells/CHECKPOINT/FILE and trials/TRIAL/FILE are taken"
            )
        if archive.getinfo(path).file_size != files[path]["bytes"] or files[path]["bytes"] > LARGEST:
            raise DamagedError(f"{one_line(path)} in {file} is not what was packed: nothing was taken from it")
        found = archive.read(path)
        if hashlib.sha256(found).hexdigest() != files[path]["sha256"]:
            raise DamagedError(f"{one_line(path)} in {file} is not what was packed: nothing was taken from it")
        yield path, found
