"""What workers printed, warned and raised: the logs of a results folder, listed, shown, and followed as they grow."""

import time
from collections.abc import Callable, Iterator

from pixmix_ray.errors import ResultsError, UnknownNameError
from pixmix_ray.storage.store import Store

SECONDS = 1.0
FAILED = "failed.json"


def log_names(store: Store) -> list[str]:
    """What can be shown: TRIAL/training and TRIAL/BENCHMARK-KEY, of all that printed something or failed.

    Raises:
        ResultsError: there are no results.
    """
    files = store.files("logs") | store.files("trials") | store.files("cells")
    if not files:
        raise ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")
    found = {_name(path) for path in files if path.startswith("logs/") or path.endswith(FAILED)}
    return sorted(found)


def _name(path: str) -> str:
    """The name of a log, or of the record of a failure."""
    room, trial, file = path.split("/", 2)
    if room == "trials":
        return f"{trial}/training"
    return f"{trial}/{file.removesuffix('.log').removesuffix('.' + FAILED)}"


def matching(store: Store, wanted: str) -> list[str]:
    """The names of the logs of a trial or a cell: those that begin with `wanted`.

    Raises:
        UnknownNameError: none does.
        ResultsError: there is nothing.
    """
    names = log_names(store)
    if found := [name for name in names if name.startswith(wanted)]:
        return found
    raise UnknownNameError("log:", wanted, {name.partition("/")[0] for name in names} | set(names))


def text_of_log(store: Store, name: str) -> str:
    """All of a log, and the traceback of its last failure where the log does not hold it."""
    trial, _, key = name.partition("/")
    printed = (store.read(f"logs/{name}.log") or b"").decode(errors="replace")
    record = store.read_json(f"trials/{trial}/{FAILED}" if key == "training" else f"cells/{name}.{FAILED}") or {}
    trace = str(record.get("traceback") or record.get("reason") or "")
    return printed if trace.strip() and trace.strip() in printed else "\n".join(filter(None, [printed, trace]))


def followed(store: Store, name: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """What is printed to a log from its beginning on as it comes, until interrupted; it may come yet."""
    shown = 0
    try:
        while True:
            content = store.read(f"logs/{name}.log") or b""
            if len(content) < shown:  # written anew
                shown = 0
            if len(content) > shown:
                yield content[shown:].decode(errors="replace")
                shown = len(content)
            sleep(SECONDS)
    except KeyboardInterrupt:
        return
