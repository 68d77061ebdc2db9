"""Which outputs of a network are the classes of a data set, where the network was trained on others.

Such as a network of ImageNet's 1,000 classes on 200 of them, or one of 21,841 classes on ImageNet: its outputs are
declared by name, and those of the data set's classes are taken; or the outputs are counted out one by one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.errors import CheckpointError, RequestError, one_line
from pixmix_ray.identity import hash_of_values
from pixmix_ray.paths import written_path
from pixmix_ray.settings import Located

KNOWN: Mapping[str, tuple[str, ...]] = {"imagenet": WNIDS}


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """The classes of a network's outputs.

    Attributes:
        names: of all outputs, in their order; none where `outputs` says it.
        outputs: for each class of the data set, in its order, the number of its output.
    """

    names: tuple[str, ...] = ()
    outputs: tuple[int, ...] = ()

    @staticmethod
    def read(value: object, base: Path | None = None) -> "ClassMap":
        """What an experiment file says: `imagenet`, a file with a name a line, names, or numbers of outputs.

        Raises:
            RequestError: it is none of these, or names a class or output twice.
        """
        if isinstance(value, ClassMap):
            return value
        if isinstance(value, str):
            value = KNOWN.get(value) or _lines(value, base)
        made = _of_items(tuple(value) if isinstance(value, list | tuple) else ())
        if made is None:
            raise RequestError(
                f"classes must be {' or '.join(KNOWN)}, a file with one name per line, a list of all outputs' names, "
                f"or the output's number for each class of the data set, got {one_line(repr(value), 80)}"
            )
        if twice := [one for one, count in Counter(made.names or made.outputs).items() if count > 1]:
            raise RequestError(f"classes contains {twice[0]!r} twice: give each class one output of its own")
        return made

    def identity(self) -> str | list[int]:
        """A hash of the names, or the numbers."""
        return hash_of_values({"names": self.names}) if self.names else list(self.outputs)

    def outputs_of(self, classes: Sequence[str]) -> tuple[int, ...]:
        """The numbers of the outputs of these classes of a data set.

        Raises:
            CheckpointError: a class is unknown, or there are more or fewer than numbers.
        """
        if not self.names:
            if len(self.outputs) != len(classes):
                raise CheckpointError(
                    f"classes gives {len(self.outputs)} outputs, and the data set has {len(classes)} classes: give "
                    "one number for each"
                )
            return self.outputs
        places = {name: place for place, name in enumerate(self.names)}
        if missing := [name for name in classes if name not in places]:
            near = get_close_matches(missing[0], self.names, n=1)
            raise CheckpointError(
                f"the data set's class {missing[0]!r} is not among the {len(self.names)} names in classes"
                + (f", did you mean {near[0]!r}?" if near else "")
                + ("" if len(missing) == 1 else f" ({len(missing) - 1} more missing)")
            )
        return tuple(places[name] for name in classes)


def _of_items(items: tuple[Any, ...]) -> ClassMap | None:
    """The class map of names or of numbers; none where they are neither."""
    kinds = {type(one) for one in items}
    if kinds and all(issubclass(kind, str) for kind in kinds):
        return ClassMap(names=tuple(map(str, items)))
    return ClassMap(outputs=items) if kinds == {int} and min(items) >= 0 else None


def _lines(text: str, base: Path | None) -> list[str]:
    """The lines of a file that are not empty."""
    folder = text.folder if isinstance(text, Located) else base
    file = (folder or Path.cwd()) / written_path(text)
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise RequestError(
            f"classes = {text!r} is neither {' nor '.join(KNOWN)} nor a file that can be read ({file}: {reason})"
        ) from None
