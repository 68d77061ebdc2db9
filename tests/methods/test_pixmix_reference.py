"""PixMix against a reference that goes picture by picture with Pillow and NumPy, and the official code's figures."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from pixmix_ray.methods import PixMix
from pixmix_ray.methods.pixmix import Draws, mix
from pixmix_ray.transforms import ALL, NINE

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

Picture = NDArray[np.uint8]
Float = NDArray[np.float32]
Augment = Callable[[Image.Image, float, int], Image.Image]


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


def _factor(level: float) -> float:
    return level * 1.8 / 10 + 0.1


# level to operation as in the official code: whole parameters truncated, a sign for geometric operations alone
REFERENCE: dict[str, Augment] = {
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "posterize": lambda image, level, sign: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
    "rotate": lambda image, level, sign: image.rotate(sign * int(level * 30 / 10), resample=Image.Resampling.BILINEAR),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
    "shear_x": lambda image, level, sign: _moved(image, 1, sign * (level * 0.3 / 10), 0, 0, 1, 0),
    "shear_y": lambda image, level, sign: _moved(image, 1, 0, 0, sign * (level * 0.3 / 10), 1, 0),
    "translate_x": lambda image, level, sign: _moved(image, 1, 0, sign * int(level * (image.width / 3) / 10), 0, 1, 0),
    "translate_y": lambda image, level, sign: _moved(image, 1, 0, 0, 0, 1, sign * int(level * (image.width / 3) / 10)),
    "color": lambda image, level, sign: ImageEnhance.Color(image).enhance(_factor(level)),
    "contrast": lambda image, level, sign: ImageEnhance.Contrast(image).enhance(_factor(level)),
    "brightness": lambda image, level, sign: ImageEnhance.Brightness(image).enhance(_factor(level)),
    "sharpness": lambda image, level, sign: ImageEnhance.Sharpness(image).enhance(_factor(level)),
}


def _copy(image: Picture, name: str, level: float, sign: int) -> Float:
    return _as_float(np.asarray(REFERENCE[name](Image.fromarray(image), level, sign)))


def _as_float(image: Picture) -> Float:
    return image.astype(np.float32) / np.float32(255)


def _blended(mixed: Float, partner: Float, is_product: bool, a: float, b: float) -> Float:
    if is_product:
        with np.errstate(over="ignore"):
            blend = (2 * mixed) ** np.float32(a) * np.maximum(2 * partner, np.float32(1e-37)) ** np.float32(b) / 2
    else:
        blend = (np.float32(a) * (2 * mixed - 1) + np.float32(b) * (2 * partner - 1) + 1) / 2
    return np.clip(blend, 0, 1)


def _mixed_by_draws(image: Picture, picture: Picture, draws: Draws, row: int, operations: tuple[str, ...]) -> Float:
    """One picture, given the choices of a batch."""

    def copy(slot: int) -> Float:
        name = operations[int(draws.operation[row, slot])]
        return _copy(image, name, float(draws.level[row, slot]), -1 if draws.is_negative[row, slot] else 1)

    mixed = copy(0) if draws.is_copy[row, 0] else _as_float(image)
    for j in range(int(draws.rounds[row])):
        partner = copy(j + 1) if draws.is_copy[row, j + 1] else _as_float(picture)
        mixed = _blended(mixed, partner, bool(draws.is_product[row, j]), float(draws.a[row, j]), float(draws.b[row, j]))
    return mixed


def _mixed_by_chance(
    image: Picture, picture: Picture, rng: np.random.Generator, k: int = 4, beta: float = 3.0
) -> Float:
    """One picture, all choices drawn here in the order of the official code."""

    def copy() -> Float:
        return _copy(image, ALL[rng.integers(13)], rng.uniform(0.1, 3), -1 if rng.random() < 0.5 else 1)

    mixed = copy() if rng.random() < 0.5 else _as_float(image)
    for _ in range(rng.integers(k + 1)):
        partner = copy() if rng.random() < 0.5 else _as_float(picture)
        is_product = rng.random() < 0.5
        if rng.random() < 0.5:
            a, b = rng.beta(beta, 1), rng.beta(1, beta)
        else:
            a, b = 1 + rng.beta(1, beta), -rng.beta(1, beta)
        mixed = _blended(mixed, partner, is_product, a, b)
    return mixed


def _channels_first(pictures: Picture) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))


def _smooth_pictures(rng: np.random.Generator, count: int, height: int = 32, width: int = 32) -> Picture:
    """Random pictures with structure, some black and some white areas: enlarged noise of high contrast."""
    coarse = np.clip(rng.normal(128, 90, (count, 6, 6, 3)), 0, 255).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse])


@pytest.mark.parametrize(
    ("settings", "operations", "size"),
    [
        (PixMix(), ALL, (32, 32)),
        (PixMix(operations="nine"), NINE, (32, 32)),
        (PixMix(k=3, beta=4, severity=10), ALL, (24, 40)),
        (PixMix(k=1, beta=0.3, severity=1, partner="pictures"), ALL, (32, 32)),
        (PixMix(k=2, partner="augmented"), ALL, (9, 8)),
    ],
)
def test_a_batch_equals_the_reference_given_the_same_draws(
    settings: PixMix, operations: tuple[str, ...], size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(3)
    images, pictures = _smooth_pictures(rng, 250, *size), _smooth_pictures(rng, 250, *size)
    draws = settings.draw(250, torch.Generator().manual_seed(5))
    ours = mix(_channels_first(images), _channels_first(pictures), draws, operations).permute(0, 2, 3, 1).numpy()
    for row, (image, picture) in enumerate(zip(images, pictures, strict=True)):
        reference = _mixed_by_draws(image, picture, draws, row, operations)
        if draws.rounds[row] == 0:  # nothing but uint8 copies: exact
            np.testing.assert_array_equal(ours[row], reference)
        np.testing.assert_allclose(ours[row], reference, rtol=0, atol=1e-5)


def test_the_batch_may_be_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    images, pictures = (_channels_first(_smooth_pictures(rng, 60)) for _ in range(2))
    whole = PixMix().augment(images, pictures, torch.Generator().manual_seed(1))
    monkeypatch.setattr("pixmix_ray.transforms.choice.CHUNK_VALUES", 3 * 32 * 32 * 3)  # three pictures
    assert torch.equal(PixMix().augment(images, pictures, torch.Generator().manual_seed(1)), whole)
    monkeypatch.setattr("pixmix_ray.methods.pixmix._CHUNK", 7 * 32 * 32 * 3)
    assert torch.equal(PixMix().augment(images, pictures, torch.Generator().manual_seed(1)), whole)


def _statistics(mixed: Float, images: Picture) -> NDArray[np.float64]:
    """For each picture (N, 10): unchanged, blacks, whites, distance to the image, means, mean squares; float64."""
    clean = _as_float(images)
    pixels = mixed.astype(np.float64)
    columns = [
        (mixed == clean).all((1, 2, 3)),
        (mixed == 0).mean((1, 2, 3)),
        (mixed == 1).mean((1, 2, 3)),
        np.sqrt(np.square(pixels - clean).sum((1, 2, 3))),
        *pixels.mean((1, 2)).T,
        *np.square(pixels).mean((1, 2)).T,
    ]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], 1)


@pytest.mark.parametrize(
    ("k", "beta"),
    [
        pytest.param(k, beta, marks=() if (k, beta) in [(4, 3.0), (2, 5.0)] else pytest.mark.drill)
        for k in (2, 3, 4)
        for beta in (3.0, 4.0, 5.0)
    ],
)
def test_the_draws_have_the_distribution_of_the_reference(k: int, beta: float) -> None:
    count = 1500
    rng = np.random.default_rng(11)
    images, pictures = _smooth_pictures(rng, count), _smooth_pictures(rng, count)
    pairs = zip(images, pictures, strict=True)
    drawn = np.stack([_mixed_by_chance(image, picture, rng, k, beta) for image, picture in pairs])
    reference = _statistics(drawn, images)
    generator = torch.Generator().manual_seed(7)
    mixed = PixMix(k=k, beta=beta).augment(_channels_first(images), _channels_first(pictures), generator)
    ours = _statistics(mixed.permute(0, 2, 3, 1).numpy(), images)
    error = np.sqrt((reference.var(0) + ours.var(0)) / count)
    assert (np.abs(reference.mean(0) - ours.mean(0)) < 4 * error).all()
    # quantiles of the distance: the share of ours below each of the reference's is a binomial count
    for share in (0.25, 0.5, 0.75, 0.95):
        below = (ours[:, 3] <= np.quantile(reference[:, 3], share)).mean()
        assert abs(below - share) < 4 * np.sqrt(2 * share * (1 - share) / count)


def _cats_and_ships() -> Picture:
    """The first 512 cats and 512 ships of CIFAR-10's test set, from sheets of 50 x 50 pictures."""
    sheets: list[Picture] = []
    with zipfile.ZipFile(DATA / "cifar10" / "cifar10_test_webp_sheets.zip") as archive:
        labels: NDArray[np.int64] = np.load(io.BytesIO(archive.read("y_test.npy")), allow_pickle=False)
        for name in sorted(n for n in archive.namelist() if n.endswith(".webp")):
            sheet = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
            sheets.append(sheet.reshape(-1, 32, 50, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3))
    images: Picture = np.concatenate(sheets)
    chosen: Picture = images[np.concatenate([np.flatnonzero(labels == 3)[:512], np.flatnonzero(labels == 8)[:512]])]
    return chosen


@pytest.mark.drill
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the CIFAR-10 test pictures")
def test_mixing_with_copies_alone_gives_the_figures_of_the_official_code() -> None:
    # Figures: 50,000 outputs of the official code on 1,024 of these cats and ships, k = 4, beta = 3, all operations,
    # partners augmented copies alone. Which 1,024 is not known, so the bounds are those of another choice of pictures.
    images = np.tile(_cats_and_ships(), (10, 1, 1, 1))
    mixed = PixMix(partner="augmented").augment(_channels_first(images), None, torch.Generator().manual_seed(1))
    statistics = _statistics(mixed.permute(0, 2, 3, 1).numpy(), images)
    unchanged, blacks, whites, _, red, green, blue, *squares = statistics.mean(0)
    assert unchanged == pytest.approx(0.105, abs=5 * np.sqrt(0.105 * 0.895 / len(images)))
    assert [blacks, whites] == pytest.approx([0.0290, 0.0378], abs=0.004)
    assert [red, green, blue] == pytest.approx([0.4827, 0.4778, 0.4743], abs=0.006)
    deviations = np.sqrt(np.array(squares) - np.array([red, green, blue]) ** 2)
    assert deviations == pytest.approx(np.array([0.2622, 0.2593, 0.2689]), abs=0.004)
    distances = np.quantile(statistics[:, 3], [0.25, 0.5, 0.75, 0.95])
    assert distances == pytest.approx(np.array([2.87, 6.13, 9.69, 18.14]), rel=0.05)
