"""The peers of the corruptions: what others offer for the same names, picture by picture as their documents show it.

Both carry over the ImageNet constants of Hendrycks and Dietterich (ICLR 2019) at every size of picture, so at 32 pixels
they do not make CIFAR-C, and differ in work as well as in outcome. They draw from NumPy's global generator: they leave
no choice about it. OpenCV, which both use, gets one thread.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

PEERS: Final = {"imagecorruptions": "imagecorruptions", "corrupt-tta": "corrupt_tta"}
"""Name of the package -> name of its module; each has a function `corrupt` that takes a picture, severity and name."""


@dataclass(frozen=True, kw_only=True)
class CorruptionPeer:
    """A package that corrupts single pictures.

    Attributes:
        name: of the package.
        corrupt: its function.
    """

    name: str
    corrupt: Callable[..., Any]

    def corrupted(self, images: Images, name: str, severity: int) -> Images:
        """The pictures (N, H, W, 3) corrupted one by one, each made uint8, and stacked."""
        made = (self.corrupt(image, severity=severity, corruption_name=name) for image in images)
        return np.stack([np.asarray(one).astype(np.uint8) for one in made])

    def failure(self, image: Images, name: str, severity: int) -> str | None:
        """Why it cannot make this corruption, tried on one picture (H, W, 3); none if it can."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what its own libraries will stop to offer
                self.corrupted(image[None], name, severity)
        except Exception as error:  # other people's code, beside libraries newer than it knows, may raise anything
            return in_one_line(error)
        return None


def installed_peers(tell: Callable[[str], None]) -> Sequence[CorruptionPeer]:
    """The peers that work on this machine; `tell` takes a line for each that does not."""
    found = []
    for name, module in PEERS.items():
        if find_spec(module) is None:
            tell(f"{name} is not installed, so not compared")
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                imported = import_module(module)
                import_module("cv2").setNumThreads(1)
        except Exception as error:  # as above
            tell(f"{name} is installed but cannot be imported, so not compared: {in_one_line(error)}")
            continue
        found.append(CorruptionPeer(name=name, corrupt=imported.corrupt))
    return found


def in_one_line(error: Exception) -> str:
    """An error of others in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
