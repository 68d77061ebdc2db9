"""A method in the data pipeline of timm, or of any script that ends its transforms with a conversion to a tensor.

    dataset.transform = with_method(dataset.transform, "pixmix", mixing_set="fractals")

It goes where pictures are cropped and not yet converted or normalised. timm itself is not needed here.
"""

from collections.abc import Callable
from typing import Any

from torchvision.transforms import v2

from pixmix_ray.augmentation import Augment
from pixmix_ray.errors import RequestError

CONVERSIONS = ("ToNumpy", "ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor", "ToImage")
"""The classes of timm and torchvision that make an array of a picture of Pillow."""


def with_method(
    transform: Callable[[Any], Any], method: object, mixing_set: object = "fractals", *, seed: int = 0
) -> v2.Compose:
    """The transforms with a method before the conversion; one for several views of a picture does not fit here.

    Args:
        transform: a composition with a list `transforms`, such as timm's `create_transform` returns.
        method: as for `Augment`.
        mixing_set: likewise.
        seed: likewise.

    Raises:
        RequestError: the transforms hold no conversion, or the method is unknown or no transform.
    """
    steps = list(getattr(transform, "transforms", [transform]))
    places = [number for number, step in enumerate(steps) if type(step).__name__ in CONVERSIONS]
    if not places:
        found = ", ".join(type(step).__name__ for step in steps)
        raise RequestError(f"the transforms ({found}) hold none of {', '.join(CONVERSIONS)}: put Augment in by hand")
    augment = Augment(method, mixing_set, seed=seed)
    return v2.Compose([*steps[: places[0]], augment, *steps[places[0] :]])
