"""The exceptions of the package.

    PixmixRayError
    ├── RequestError (ValueError)      the request is wrong and nothing started: exit code 2
    │   ├── UnknownNameError           a method, benchmark, model, ... or key that does not exist
    │   ├── ProblemsError              several of these at once
    │   ├── DataError                  a data set, mixing set or outlier folder is missing or broken
    │   ├── CheckpointError            a checkpoint is missing, broken or of another model
    │   ├── ResultsError               the results folder cannot be read or written
    │   │   └── DamagedError           a file in it is not what was written
    │   └── ClusterError               no Ray cluster there, or one too small for the work
    ├── TryAgainError                  the same command may succeed later: exit code 75
    │   ├── HeldError                  another run is at work on the results folder
    │   └── StorageError (OSError)     results can no longer be kept: the run stops
    └── WorkError                      a trial or a cell failed while it ran; the others go on: exit code 1
        ├── PreemptedError             its machine will be gone soon; it goes on elsewhere
        └── TrainingDivergedError      the training loss became NaN or infinite

A command that is interrupted ends with 130 (Ctrl-C) or 143 (SIGTERM); the same command goes on with what is left.
Every message names the value, what is allowed and the way out, in one line; `ProblemsError` has one for each problem.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


def one_line(text: object, limit: int = 200) -> str:
    r"""Somebody else's words, such as another library's error, as one printable line of at most `limit` letters.

    >>> one_line(ValueError("bad \x1b[1m header\nin  the file"))
    'bad [1m header in the file'
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return " ".join(printable.split())[:limit]


def _plain(name: str) -> str:
    """A name as those write it who know it by ear: CIFAR-10 is cifar10."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


class PixmixRayError(Exception):
    """The root of every error that this package raises on purpose.

    Attributes:
        exit_code: of the command that ends with it.
    """

    exit_code: ClassVar[int] = 1


class RequestError(PixmixRayError, ValueError):
    """What was asked for cannot be done; nothing was started."""

    exit_code: ClassVar[int] = 2


class UnknownNameError(RequestError):
    """A name that is not in a table.

    >>> raise UnknownNameError("method", "pixmx", ["baseline", "pixmix"])
    Traceback (most recent call last):
    pixmix_ray.errors.UnknownNameError: unknown method 'pixmx', did you mean 'pixmix'? Known: baseline, pixmix
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self._arguments = (kind, name, names := sorted(known, key=lambda one: (one.isdigit() * len(one), one)))
        plain = {_plain(one): one for one in names}
        near = get_close_matches(_plain(str(name)), plain, n=1)
        hint = f", did you mean {plain[near[0]]!r}?" if near else "."
        super().__init__(f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}")

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:  # carried between processes
        return type(self), self._arguments


class ProblemsError(RequestError):
    """Several things are wrong with one request; all are told at once, a line each.

    >>> raise ProblemsError("experiment a.yaml", [RequestError("k = -1: too low"), RequestError("beta = 0: too low")])
    Traceback (most recent call last):
    pixmix_ray.errors.ProblemsError: experiment a.yaml has 2 problems:
      k = -1: too low
      beta = 0: too low
    """

    def __init__(self, where: str, problems: Iterable[RequestError]) -> None:
        listed = [one for problem in problems for one in getattr(problem, "problems", (problem,))]
        self.problems, self._where = tuple(listed), where
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{where} has {len(self.problems)} problems:\n{lines}")

    def __reduce__(self) -> tuple[type, tuple[str, tuple[RequestError, ...]]]:  # carried between processes
        return type(self), (self._where, self.problems)


class DataError(RequestError):
    """A data set, a mixing set or a folder of outliers is missing or broken."""


class CheckpointError(RequestError):
    """A checkpoint is missing, broken, or its weights do not fit the model."""


class ResultsError(RequestError):
    """The results folder cannot be read or written."""


class DamagedError(ResultsError):
    """A file of the results is not what was written; it is set aside and made again."""


class ClusterError(RequestError):
    """There is no Ray cluster at the address, or it is too small for the work."""


class TryAgainError(PixmixRayError):
    """What was asked for is right, and cannot be done now; EX_TEMPFAIL of sysexits.h, for batch systems."""

    exit_code: ClassVar[int] = 75


class HeldError(TryAgainError):
    """Another run is at work on the results folder."""


class StorageError(TryAgainError, OSError):
    """Results can no longer be kept, such as on a full disk; no other work of the run could be kept either."""


class WorkError(PixmixRayError):
    """One trial or one cell failed while it ran."""


class PreemptedError(WorkError):
    """The process was told that it will be ended; what it had done is safe."""


class TrainingDivergedError(WorkError):
    """The training loss became NaN or infinite in `epoch` (counted from 1)."""

    def __init__(self, epoch: int, loss: float) -> None:
        self.epoch, self.loss = epoch, loss
        super().__init__(f"the training loss became {loss} in epoch {epoch}: lower training.lr, or change the method")

    def __reduce__(self) -> tuple[type, tuple[int, float]]:  # carried between processes
        return type(self), (self.epoch, self.loss)
