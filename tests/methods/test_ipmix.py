"""IPMix against a reference that goes picture by picture with Pillow and NumPy, and its distributions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.stats import kstest, uniform
from torch import Tensor
from torch.nn import functional as F

from pixmix_ray.errors import RequestError
from pixmix_ray.methods.chains import blend, consistency_loss
from pixmix_ray.methods.ipmix import IMAGE_OPERATIONS, MIXINGS, IPMix, PatchChoices, patched_chains

Picture = NDArray[np.uint8]
Noise = NDArray[np.float32]


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


# in the order of the official code, with its levels
PILLOW: dict[str, Callable[[Image.Image, float, int], Image.Image]] = {
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "posterize": lambda image, level, sign: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
    "rotate": lambda image, level, sign: image.rotate(sign * int(level * 30 / 10), resample=Image.Resampling.BILINEAR),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
    "shear_x": lambda image, level, sign: _moved(image, 1, sign * (level * 0.3 / 10), 0, 0, 1, 0),
    "shear_y": lambda image, level, sign: _moved(image, 1, 0, 0, sign * (level * 0.3 / 10), 1, 0),
    "translate_x": lambda image, level, sign: _moved(image, 1, 0, sign * int(level * (image.width / 3) / 10), 0, 1, 0),
    "translate_y": lambda image, level, sign: _moved(image, 1, 0, 0, 0, 1, sign * int(level * (image.width / 3) / 10)),
    "mirror": lambda image, level, sign: ImageOps.mirror(image),
    "invert": lambda image, level, sign: ImageOps.invert(image),
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _smooth_pictures(seed: int, count: int, height: int, width: int) -> Tensor:
    """Random pictures with structure and some black and white areas: enlarged noise of high contrast."""
    coarse = torch.randn(count, 3, 6, 6, generator=_generator(seed)) * 90 + 128
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).to(torch.uint8)


def _patched(
    chain: Picture, partner: Picture, noise: Noise, draws: PatchChoices, slot: tuple[int, int, int]
) -> Picture:
    """A step on the level of patches: crop both, mix in float64, truncate, paste."""
    top, left, height, width = (int(number) for number in draws.box[(slice(None), *slot)])
    window = slice(top, top + height), slice(left, left + width)
    x, y = chain[window] / 255, partner[window] / 255
    a, b, kept = float(draws.a[slot]), float(draws.b[slot]), float(draws.kept[slot])
    match MIXINGS[int(draws.mixing[slot])]:
        case "add":
            mixed = (a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2
        case "multiply":
            mixed = (2 * x) ** a * np.maximum(2 * y, 1e-37) ** b / 2
        case "pixels":
            mixed = np.where(noise[0, *window][..., None] < kept, x, y)
        case _:
            mixed = np.where(noise.transpose(1, 2, 0)[window] < kept, x, y)
    result = chain.copy()
    # float32 rounds what should be a whole number to either side of it: 1e-4 makes both truncate to that number
    result[window] = (np.clip(mixed, 0, 1) * 255 + 1e-4).astype(np.uint8)
    return result


def _chain(image: Picture, partner: Picture, noise: Noise, draws: PatchChoices, number: int, row: int) -> Picture:
    """One chain of one picture, given the choices of a batch."""
    chain = image
    for step in range(int(draws.length[number, row])):
        slot = number, row, step
        if draws.is_patched[number, row]:
            chain = _patched(chain, partner, noise[slot], draws, slot)
        else:
            name, level = list(PILLOW)[int(draws.operation[slot])], float(draws.level[slot])
            chain = np.asarray(PILLOW[name](Image.fromarray(chain), abs(level), -1 if level < 0 else 1))
    return chain


def _ours_and_reference(
    method: IPMix, size: tuple[int, int], count: int
) -> tuple[PatchChoices, Tensor, Tensor, Tensor]:
    images, pictures = (_smooth_pictures(seed, count, *size) for seed in (1, 2))
    draws = method.draw(count, *size, _generator(3))
    noise = torch.rand(method.k, count, method.t, 3, *size, generator=_generator(4))
    flat = noise.flatten(0, 2)
    chains = patched_chains(images, pictures, draws, lambda slots, channels: flat[slots, :channels])
    pairs = [(i.permute(1, 2, 0).numpy(), p.permute(1, 2, 0).numpy()) for i, p in zip(images, pictures, strict=True)]
    expected = [
        np.stack([_chain(*pair, noise.numpy(), draws, number, row) for row, pair in enumerate(pairs)])
        for number in range(method.k)
    ]
    return draws, images, chains, torch.from_numpy(np.stack(expected)).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize(
    ("method", "size"),
    [
        (IPMix(), (32, 32)),
        (IPMix(k=2, t=5, severity=10, beta=1), (40, 33)),
        (IPMix(k=1, beta=0.5, patch_sizes=(3, 200)), (24, 40)),
        (IPMix(t=1), (8, 8)),
    ],
)
def test_chains_equal_the_reference_given_the_same_draws(method: IPMix, size: tuple[int, int]) -> None:
    draws, _, chains, expected = _ours_and_reference(method, size, 120)
    difference = (chains.int() - expected.int()).abs()
    assert int(difference[~draws.is_patched].max()) == 0  # image operations are exact
    is_selected = draws.mixing >= MIXINGS.index("pixels")
    takes_place = torch.arange(method.t) < draws.length.unsqueeze(2)
    assert int(difference[(is_selected | ~takes_place).all(2)].max()) == 0  # and so are masks
    # sums and products are truncated from float32 here and from float64 there
    assert float((difference > 0).double().mean()) < 1e-3
    assert int(difference.max()) <= 2


def test_the_chains_are_mixed_with_the_picture_by_their_weights() -> None:
    draws, images, chains, _ = _ours_and_reference(IPMix(), (16, 16), 30)
    mixed = blend(images, chains, draws.weights, draws.share)
    weighted = (draws.weights[..., None, None, None].double() * chains).sum(0)
    share = draws.share.double().view(-1, 1, 1, 1)
    torch.testing.assert_close(mixed.double(), ((1 - share) * images + share * weighted) / 255, rtol=0, atol=1e-6)


def _shares(numbers: Tensor) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = (torch.bincount(numbers.flatten()) / numbers.numel()).double().numpy()
    return shares


def test_the_choices_have_the_distributions_of_the_code() -> None:
    draws = IPMix().draw(20_000, 32, 32, _generator(5))
    for numbers, count in ((draws.length, 4), (draws.operation, 10), (draws.mixing, 4), (draws.is_patched.long(), 2)):
        assert len(_shares(numbers)) == count
        assert _shares(numbers) == pytest.approx(1 / count, abs=5 * math.sqrt(1 / count / numbers.numel()))
    assert kstest(draws.level.abs().flatten().numpy(), uniform(0.1, 2.9).cdf).pvalue > 0.001
    assert kstest(draws.kept.flatten().numpy(), uniform().cdf).pvalue > 0.001
    assert kstest(draws.share.numpy(), uniform().cdf).pvalue > 0.001
    # half of a ~ Beta(3, 1), b ~ Beta(1, 3), means 3/4 and 1/4, half of a ~ 1 + Beta(1, 3), b ~ -Beta(1, 3)
    assert float(draws.a.mean()) == pytest.approx(1.0, abs=0.005)
    assert float(draws.b.mean()) == pytest.approx(0.0, abs=0.005)


def test_patches_have_the_distribution_of_the_code() -> None:
    # half are squares of side 4, 8, 16 or 32, half have sides uniform on 2..s; the patch starts uniformly on 0..32 - s
    top, left, height, width = IPMix().draw(20_000, 32, 32, _generator(6)).box.flatten(1).double()
    assert float(top[height == 32].max()) == 0
    assert bool(((top + height <= 32) & (left + width <= 32) & (height >= 2) & (width >= 2)).all())
    # expected side: mean of s = 15 and of (2 + s) / 2 = 8.5, each half of the time
    for side, start in ((height, top), (width, left)):
        assert float(side.mean()) == pytest.approx((15 + 8.5) / 2, abs=0.1)
        assert float(start.mean()) == pytest.approx((32 - 15) / 2, abs=0.1)
    # squares: half of the time, and by chance among the others, where sides agree with probability 1 / (s - 1)
    by_chance = np.mean([1 / (side - 1) for side in (4, 8, 16, 32)])
    assert float((height == width).double().mean()) == pytest.approx(0.5 + 0.5 * float(by_chance), abs=0.005)


@pytest.mark.parametrize("settings", [{"jsd": False}, {}, {"jsd": False, "t": 0}])
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 8, 8), (5, 3, 40, 33)])
def test_every_size_is_augmented_in_range_by_the_generator_alone(
    settings: dict[str, object], shape: tuple[int, ...]
) -> None:
    method = IPMix.read(settings, "method ipmix")
    images, pictures = (torch.randint(0, 256, shape, dtype=torch.uint8, generator=_generator(i)) for i in (1, 2))
    before = images.clone(), pictures.clone()
    augmented = method.augment(images, pictures, _generator(7))
    assert augmented.shape == ((shape[0], 3, *shape[1:]) if method.jsd else shape)
    assert augmented.dtype == torch.float32
    assert bool(((augmented >= 0) & (augmented <= 1)).all())
    assert torch.equal(images, before[0])
    assert torch.equal(pictures, before[1])
    assert torch.equal(augmented, method.augment(images, pictures, _generator(7)))


def test_each_picture_is_mixed_with_its_own_partner() -> None:
    # black pictures and white partners: where two pictures swap places, so do their mixes' partners
    images = torch.zeros(200, 3, 16, 16, dtype=torch.uint8)
    pictures = images.clone()
    pictures[::2] = 255
    draws = IPMix(k=1).draw(200, 16, 16, _generator(8))
    chains = patched_chains(images, pictures, draws, lambda slots, channels: torch.full((len(slots), 1, 16, 16), 0.5))[
        0
    ]
    is_mixed = draws.is_patched[0]
    assert int(chains[1::2][is_mixed[1::2] & (draws.mixing[0, 1::2] >= 2).all(1)].max()) == 0
    assert int(chains[::2][is_mixed[::2]].max()) == 255


def test_the_loss_compares_views_unless_told_otherwise() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5))
    images, pictures, labels = *(_smooth_pictures(i, 10, 16, 16) for i in (1, 2)), torch.arange(10) % 5
    views = IPMix().augment(images, pictures, _generator(9))
    torch.testing.assert_close(views[:, 0], images / 255, rtol=0, atol=0)
    assert not torch.equal(views[:, 1], views[:, 2])
    loss = IPMix().loss(network, views, labels, np.random.default_rng(0))
    torch.testing.assert_close(loss, consistency_loss(network, views, labels), rtol=0, atol=0)
    plain = IPMix(jsd=False).loss(network, views[:, 1], labels, np.random.default_rng(0))
    torch.testing.assert_close(plain, F.cross_entropy(network(views[:, 1]), labels))


def test_the_operations_are_those_of_the_code() -> None:
    assert list(IMAGE_OPERATIONS) == list(PILLOW)
    assert IPMix().needs_pictures


@pytest.mark.parametrize(
    ("pictures", "message"),
    [(None, "give a mixing set"), (torch.zeros(4, 3, 9, 8, dtype=torch.uint8), "crop them so")],
)
def test_ipmix_says_which_pictures_it_needs(pictures: Tensor | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        IPMix().augment(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), pictures, _generator(1))


@pytest.mark.parametrize("settings", [{"k": 0}, {"t": -1}, {"beta": 0}, {"severity": 11}, {"patch_sizes": []}])
def test_a_setting_out_of_range_is_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        IPMix.read(settings, "method ipmix")


@pytest.mark.parametrize("mixing", ["add", "multiply"])
def test_sums_and_products_beyond_wrap_around_as_in_the_authors_code(mixing: str) -> None:
    # by the code's own casts: PixMix's formulas in floating point, times 255, to uint8
    generator = np.random.default_rng(3)
    x, y = (generator.integers(0, 256, (6, 3, 4, 4), dtype=np.uint8) for _ in range(2))
    a, b = 1 + generator.uniform(0, 0.5, 6), -generator.uniform(0, 0.5, 6)
    fraction, other = (values.astype(np.float32) / 255 for values in (x, y))
    by_row = [values.astype(np.float32).reshape(-1, 1, 1, 1) for values in (a, b)]
    if mixing == "add":
        mixed = (by_row[0] * (2 * fraction - 1) + by_row[1] * (2 * other - 1) + 1) / 2
    else:
        mixed = (2 * fraction) ** by_row[0] * np.maximum(2 * other, 1e-37) ** by_row[1] / 2
    expected = (np.clip(mixed * 255, -(2.0**31), 2.0**31 - 129)).astype(np.int64) % 256
    choices = PatchChoices(
        length=torch.ones(1, 6, dtype=torch.int64),
        is_patched=torch.ones(1, 6, dtype=torch.bool),
        operation=torch.zeros(1, 6, 1, dtype=torch.int64),
        level=torch.zeros(1, 6, 1, dtype=torch.float64),
        mixing=torch.full((1, 6, 1), MIXINGS.index(mixing)),
        box=torch.tensor([0, 0, 4, 4]).view(4, 1, 1, 1).expand(4, 1, 6, 1),
        a=torch.from_numpy(a).float().view(1, 6, 1),
        b=torch.from_numpy(b).float().view(1, 6, 1),
        kept=torch.zeros(1, 6, 1),
        weights=torch.ones(1, 6),
        share=torch.ones(6),
    )
    images, pictures = torch.from_numpy(x), torch.from_numpy(y)
    found = patched_chains(images, pictures, choices, lambda slots, channels: torch.zeros(0), "wrap")[0].numpy()
    assert (np.abs(found.astype(int) - expected) % 255 <= 1).mean() > 0.99  # but for the last bit of a product
    clipped = patched_chains(images, pictures, choices, lambda slots, channels: torch.zeros(0))[0].numpy()
    is_beyond = (mixed < 0) | (mixed >= 256 / 255)
    assert is_beyond.any() and (found != clipped)[is_beyond].mean() > 0.9
    assert np.array_equal(found[~is_beyond & (mixed < 1)], clipped[~is_beyond & (mixed < 1)])


def test_how_beyond_is_handled_is_part_of_an_identity_only_where_it_is_wrap() -> None:
    assert "overflow" not in IPMix().identity()
    assert IPMix(overflow="wrap").identity()["overflow"] == "wrap"
