"""Pictures as networks and mixes take them: float32 in [0, 1]."""

from torch import Tensor

from pixmix_ray.transforms import native


def to_unit(images: Tensor) -> Tensor:
    """The values of uint8 pictures of any shape divided by 255: new float32 of that shape."""
    made = native.to_unit(images)
    return images.float().div_(255) if made is None else made
