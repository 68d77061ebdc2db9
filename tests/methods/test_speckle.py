"""Speckle: the noise against its formula, who gets it, and its settings."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pixmix_ray.errors import RequestError
from pixmix_ray.methods.speckle import Speckle


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _plain(value: int, count: int = 500) -> Tensor:
    return torch.full((count, 3, 8, 8), value, dtype=torch.uint8)


def test_the_defaults_are_the_deviations_of_imagenet_c_for_half_of_the_pictures() -> None:
    # the authors' code, mode Speckle; the same five as hendrycks/robustness, speckle_noise
    assert Speckle().sigma == (0.15, 0.2, 0.35, 0.45, 0.6)
    assert Speckle().share == 0.5


@pytest.mark.parametrize("value", [30, 100])
def test_the_noise_has_deviation_sigma_times_the_pixel(value: int) -> None:
    # 96,000 values; five deviations of 0.2 reach neither 0 nor, from 100, white
    noise = Speckle(sigma=0.2, share=1.0).augment(_plain(value), None, _generator()) / (value / 255) - 1
    assert float(noise.mean()) == pytest.approx(0, abs=4 * 0.2 / np.sqrt(96_000))
    assert float(noise.std()) == pytest.approx(0.2, abs=4 * 0.2 / np.sqrt(2 * 96_000))
    within = float((noise.abs() < 0.2).float().mean())
    assert within == pytest.approx(0.6827, abs=0.006)  # of a normal distribution
    flat = noise.transpose(0, 1).flatten(1).numpy()
    assert np.abs(np.corrcoef(flat)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(32_000)  # each channel its own
    assert np.unique(flat).size > 0.95 * flat.size


def test_what_leaves_the_range_is_clipped() -> None:
    noisy = Speckle(sigma=0.3, share=1.0).augment(_plain(255), None, _generator())
    # half of the draws are positive; E min(1, 1 + σZ) = 1 - σ / √(2π)
    assert float((noisy == 1).float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(96_000))
    assert float(noisy.mean()) == pytest.approx(1 - 0.3 / np.sqrt(2 * np.pi), abs=4 * 0.18 / np.sqrt(96_000))
    assert float(Speckle(sigma=5.0, share=1.0).augment(_plain(255), None, _generator()).min()) == 0
    assert float(Speckle(share=1.0).augment(_plain(0), None, _generator()).max()) == 0  # black stays black


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_a_picture_is_noisy_as_a_whole_or_exactly_clean(share: float) -> None:
    images = torch.randint(1, 256, (2000, 3, 8, 8), dtype=torch.uint8, generator=_generator(1))
    changed = (Speckle(share=share).augment(images, None, _generator(2)) != images / 255).flatten(1).float().mean(1)
    is_noisy = changed > 0
    assert float(is_noisy.float().mean()) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 2000))
    assert bool((changed[is_noisy] > 0.6).all())  # all but what the clip to white leaves as it is


def test_each_picture_draws_one_of_the_deviations() -> None:
    noisy = Speckle(sigma=(0.05, 0.1, 0.2), share=1.0).augment(_plain(100, 3000), None, _generator())
    deviations = (noisy / (100 / 255) - 1).flatten(1).std(1)  # of 192 values each: 5 % off
    distance = (deviations.unsqueeze(1) / torch.tensor([0.05, 0.1, 0.2]) - 1).abs()
    assert float(distance.amin(1).max()) < 0.26
    shares = torch.bincount(distance.argmin(1), minlength=3) / 3000
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=4 * np.sqrt(2 / 9 / 3000))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_noise_depends_on_the_generator_alone_and_no_picture_is_changed(share: float) -> None:
    images = torch.randint(0, 256, (700, 3, 16, 16), dtype=torch.uint8, generator=_generator(1))
    before, method = images.clone(), Speckle(share=share)
    first = method.augment(images, None, _generator(3))
    assert torch.equal(first, method.augment(images, None, _generator(3)))
    assert torch.equal(images, before)
    assert first.dtype == torch.float32
    assert torch.equal(first, method.augment(images, None, _generator(4))) == (share == 0)
    assert method.augment(images[:0], None, _generator(3)).shape == (0, 3, 16, 16)


def test_one_number_is_a_list_of_one() -> None:
    one = Speckle.read({"sigma": 0.4}, "method speckle")
    assert one.identity() == Speckle.read({"sigma": [0.4]}, "method speckle").identity()
    assert one.identity() == {"sigma": [0.4], "share": 0.5}
    assert Speckle.read({"sigma": 1}, "method speckle").sigma == (1.0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0}, "sigma = 0: .*above 0"),
        ({"sigma": [0.1, -0.2]}, "sigma = -0.2: .*above 0"),
        ({"sigma": []}, "sigma"),
        ({"sigma": "much"}, "sigma = 'much'"),
        ({"share": 1.5}, "share = 1.5: .*at most 1"),
        ({"std": 0.1}, "'std'"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        Speckle.read(settings, "method speckle")
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_speckle_works_on_a_gpu() -> None:
    noisy = Speckle().augment(_plain(100).cuda(), None, torch.Generator("cuda").manual_seed(1))
    assert noisy.is_cuda
    assert 0.3 < float((noisy != 100 / 255).flatten(1).any(1).float().mean()) < 0.7
