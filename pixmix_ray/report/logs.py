"""What workers printed, warned and raised: the logs of a results folder, listed, shown, and followed as they grow."""

import re
import time
from collections.abc import Callable, Iterable, Iterator

from pixmix_ray.errors import ResultsError, UnknownNameError
from pixmix_ray.storage.kept_plan import read_kept_plan
from pixmix_ray.storage.local_files import FileStamp
from pixmix_ray.storage.run_lock import FILE as RUNNING
from pixmix_ray.storage.store import Store

SECONDS = 1.0
FAILED = "failed.json"
_HEADER_ALONE = re.compile(r"(?<![^\n])--- [^\n]*\n?\Z")  # of an attempt that has printed nothing, and may never


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
    """The names of the logs of a trial or a cell: those that begin with `wanted`; none where nothing was printed.

    Raises:
        UnknownNameError: no log begins so, and no trial either.
        ResultsError: there is nothing.
    """
    names = log_names(store)
    found = [name for name in names if name.startswith(wanted)]
    if not found:
        _check_known(store, wanted, names)
    return found


def _check_known(store: Store, wanted: str, names: Iterable[str]) -> None:
    """Raise UnknownNameError unless `wanted` is the beginning of a trial that is there or planned, or one of its cells.

    What is planned is not known before the run has prepared its data.
    """
    files = store.files("trials") | store.files("cells")
    trials = {path.split("/")[1] for path in files} | set(read_kept_plan(store).cells)
    if trials and not any(trial.startswith(wanted) or wanted.startswith(f"{trial}/") for trial in trials):
        raise UnknownNameError("trial or cell", wanted, trials | set(names))


def text_of_log(store: Store, name: str) -> str:
    """All of a log, and the traceback of its last failure where the log does not hold it."""
    trial, _, key = name.partition("/")
    printed = (store.read(f"logs/{name}.log") or b"").decode(errors="replace")
    record = store.read_json(f"trials/{trial}/{FAILED}" if key == "training" else f"cells/{name}.{FAILED}") or {}
    trace = str(record.get("traceback") or record.get("reason") or "")
    return printed if trace.strip() and trace.strip() in printed else "\n".join(filter(None, [printed, trace]))


def followed(store: Store, wanted: str = "", sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """What is printed to the logs whose names begin with `wanted`, from their beginning on, as it comes.

    Each name stands above what comes of it. It ends with the run that is at work, with the tracebacks that are in no
    log; before a run begins, it waits.

    Raises:
        UnknownNameError: nothing that is there or planned begins with `wanted`.
    """
    stamps: dict[str, FileStamp] = {}
    shown: dict[str, str] = {}
    last, was_running = "", False
    while True:
        is_running = store.exists(RUNNING)  # before the logs are read, so that all that it printed is shown
        has_ended = was_running and not is_running
        found = {_name(path): stamp for path, stamp in store.stamps("logs").items()}
        changed = {name for name, stamp in found.items() if stamps.get(name) != stamp}
        for name in sorted(changed | set(log_names(store) if has_ended else ())):
            new = _new_text(store, name, shown) if name.startswith(wanted) else ""
            if new and name != last:
                yield f"=== {name}\n"
                last = name
            yield from filter(None, [new])
        if not last:
            _check_known(store, wanted, found)
        if has_ended:
            return
        stamps, was_running = found, is_running
        sleep(SECONDS)


def _new_text(store: Store, name: str, shown: dict[str, str]) -> str:
    """What a log holds beyond what was `shown` of it, which it then is; all where it was written anew."""
    text = _HEADER_ALONE.sub("", text_of_log(store, name).rstrip("\ufffd"))  # half a letter: not yet
    before = shown.get(name, "")
    shown[name] = text
    return text.removeprefix(before)
