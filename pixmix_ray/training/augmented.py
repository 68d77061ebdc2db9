"""What a training needs of the pictures that a method makes."""

from torch import Tensor

from pixmix_ray.errors import WorkError

TOLERANCE = 1e-3  # beyond [0, 1]: roundings of half precision


def check_augmented(augmented: object, images: Tensor) -> None:
    """Return if a method made of `images` (N, 3, H, W) what a training needs: float (N, 3, H, W), (N, V, 3, H, W).

    Raises:
        WorkError: its shape, its type or its range is another.
    """
    shape = tuple(images.shape)
    if not isinstance(augmented, Tensor):
        raise WorkError(f"augment returns {type(augmented).__name__}: it must be a tensor of shape {shape}")
    found = tuple(augmented.shape)
    if found != shape and (len(found) != 5 or (found[0], *found[2:]) != shape):
        raise WorkError(
            f"augment returns shape {found} for pictures of {shape}: it must be the same, or (N, V, 3, H, W)"
        )
    if not augmented.is_floating_point():
        raise WorkError(f"augment returns {augmented.dtype}: it must be float32 in [0, 1], as by images / 255")
    low, high = augmented.amin().item(), augmented.amax().item()
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise WorkError(
            f"augment returns values from {low:.3g} to {high:.3g}: they must be in [0, 1], as by .clamp(0, 1)"
        )
