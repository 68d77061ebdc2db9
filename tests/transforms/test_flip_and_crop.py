"""The flip and the crop of the training loop."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pixmix_ray.transforms import crop_with_padding, flip_and_crop


def _pixels(count: int, height: int, width: int) -> Tensor:
    return torch.randint(
        1, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize(("height", "width", "padding"), [(32, 32, 4), (8, 12, 3), (6, 5, 0), (4, 4, 6)])
def test_a_crop_is_a_window_of_the_padded_picture(height: int, width: int, padding: int) -> None:
    images, rng = _pixels(30, height, width), np.random.default_rng(2)
    top, left = rng.integers(0, 2 * padding + 1, (2, 30))
    before = images.clone()
    cropped = crop_with_padding(images, torch.from_numpy(top), torch.from_numpy(left), padding)
    framed = np.pad(images.numpy(), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    for i in range(30):
        window = framed[i, :, top[i] : top[i] + height, left[i] : left[i] + width]
        np.testing.assert_array_equal(cropped[i].numpy(), window)
    assert torch.equal(images, before)


@pytest.mark.parametrize("flip", [False, True])
def test_all_windows_of_both_directions_are_drawn_equally_often(flip: bool) -> None:
    picture, count = _pixels(1, 6, 7), 20_000
    images = picture.expand(count, -1, -1, -1)
    drawn = flip_and_crop(images, torch.Generator().manual_seed(3), flip=flip, padding=2)
    sources = [picture, picture.flip(3)] if flip else [picture]
    corners = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    possible = torch.cat(
        [crop_with_padding(p.expand(25, -1, -1, -1), corners[:, 0], corners[:, 1], 2) for p in sources]
    )
    counts = (drawn.flatten(1).unsqueeze(1) == possible.flatten(1)).all(2).sum(0)
    assert int(counts.sum()) == count  # each drawn picture is exactly one of the possible ones
    share = 1 / len(possible)
    assert float((counts - count * share).abs().max()) < 4.5 * np.sqrt(count * share * (1 - share))


def test_without_flip_and_padding_the_pictures_stay_as_they_are() -> None:
    images = _pixels(5, 9, 9)
    same = flip_and_crop(images, torch.Generator().manual_seed(1), flip=False, padding=0)
    assert torch.equal(same, images)
    assert same.data_ptr() != images.data_ptr()


def test_the_same_seed_gives_the_same_crops_and_the_input_is_not_changed() -> None:
    images = _pixels(50, 32, 32)
    before = images.clone()
    first, second = (flip_and_crop(images, torch.Generator().manual_seed(4), flip=True, padding=4) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, flip_and_crop(images, torch.Generator().manual_seed(5), flip=True, padding=4))
    assert torch.equal(images, before)
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
