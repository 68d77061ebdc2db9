"""HybridAugment++: its filters and spectra against torchvision and NumPy, its mixtures by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import functional as V

from pixmix_ray.methods import hybrid_augment
from pixmix_ray.methods.base import whole_batch
from pixmix_ray.methods.hybrid_augment import HybridAugment, low_pass, operated, recombined
from pixmix_ray.seeding import torch_generator


def _bytes(count: int, size: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch_generator(seed))


class Chosen:
    """A stand-in for a generator of NumPy that gives what a test wants."""

    def __init__(self, numbers: list[float], orders: list[list[int]]) -> None:
        self.numbers, self.orders = numbers, orders

    def random(self) -> float:
        return self.numbers.pop(0)

    def permutation(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        order = np.array(self.orders.pop(0))
        assert len(order) == count
        return order


def test_the_low_pass_is_torchvisions_blur() -> None:
    images = _bytes(3).float() / 255
    torch.testing.assert_close(low_pass(images), V.gaussian_blur(images, [3, 3], [0.5, 0.5]), rtol=0, atol=1e-6)


def test_amplitudes_and_phases_are_numpys() -> None:
    amplitudes, phases = _bytes(4).double(), _bytes(4, seed=2).double()
    for row, made in enumerate(recombined(amplitudes, phases)):
        # second implementation: the official code's lines in NumPy, channels last and with its shifts
        first, second = (of[row].permute(1, 2, 0).numpy() for of in (amplitudes, phases))
        spectra = [np.fft.fftshift(np.fft.fftn(of)) for of in (first, second)]
        joined = np.abs(spectra[0]) * np.exp(1j * np.angle(spectra[1]))
        expected = np.fft.ifftn(np.fft.ifftshift(joined)).real
        np.testing.assert_allclose(made.permute(1, 2, 0).numpy(), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(recombined(amplitudes, amplitudes), amplitudes)


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [("wrap", [254, 255, 0, 0, 255, 0, 4]), ("clip", [0, 0, 0, 0, 255, 255, 255])],
)
def test_values_beyond_eight_bits_wrap_or_are_clipped(overflow: str, expected: list[int]) -> None:
    method = HybridAugment.model_validate({"overflow": overflow})
    values = torch.tensor([-2.9, -1.0, -0.9, 0.9, 255.9, 256.0, 260.5])
    assert method.to_bytes(values).tolist() == expected


@pytest.mark.parametrize("recombine", [True, False])
def test_a_paired_mixture_by_hand(recombine: bool) -> None:
    images = _bytes(3).float() / 255
    numbers, orders = ([0.59, 0.59], [[1, 2, 0], [2, 0, 1]]) if recombine else ([0.59], [[1, 2, 0]])
    rng, batch = Chosen(numbers, orders), whole_batch(images, torch.arange(3))
    mixed = HybridAugment(recombine=recombine).mixed(images, batch, rng)  # type: ignore[arg-type]
    low = V.gaussian_blur(images, [3, 3], [0.5, 0.5])
    high = images - low
    if recombine:
        spectrum, other = (torch.fft.fftn(of, dim=(1, 2, 3)) for of in (low, low[[2, 0, 1]]))
        low = torch.fft.ifftn(other.abs() * torch.exp(1j * spectrum.angle()), dim=(1, 2, 3)).real
    torch.testing.assert_close(mixed, low + high[[1, 2, 0]], rtol=0, atol=1e-5)


def test_four_of_ten_batches_stay_as_they_are() -> None:
    images = _bytes(2, size=4).float() / 255
    rng, method = np.random.default_rng(1), HybridAugment()
    batch = whole_batch(images, torch.arange(2))
    whole = sum(method.mixed(images, batch, rng) is images for _ in range(2000))
    assert whole / 2000 == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / 2000))


def test_the_loss_is_that_of_both_views() -> None:
    images, labels = _bytes(5).float() / 255, torch.arange(5)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 10))
    loss = HybridAugment().loss(network, images, labels, np.random.default_rng(3))
    mixed = HybridAugment().mixed(images, whole_batch(images, labels), np.random.default_rng(3))
    expected = F.cross_entropy(network(images), labels) + F.cross_entropy(network(mixed), labels)
    torch.testing.assert_close(loss, expected)
    alone = HybridAugment(paired=False).loss(network, images, labels, np.random.default_rng(3))
    torch.testing.assert_close(alone, F.cross_entropy(network(images), labels))


def _unchanged(images: Tensor, generator: torch.Generator) -> Tensor:
    return images.clone()


@pytest.mark.parametrize("recombine", [True, False])
def test_without_operations_a_picture_and_itself_are_the_picture(
    recombine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """low(x) + high(x) is x; what is recombined of one picture is it, truncated twice."""
    monkeypatch.setattr(hybrid_augment, "operated", _unchanged)
    images = 3 + _bytes(200) // 2
    made = HybridAugment(recombine=recombine).augment(images, None, torch_generator(2)) * 255
    assert float((made - images).abs().max()) <= 3


def test_low_and_high_frequencies_come_from_two_changes_of_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """With x = operation(image) and y = operation(x) given: a quarter each is low(x) + high(y) and the reverse."""
    count = 2000
    x, y = _bytes(1, seed=1) // 4 + 90, _bytes(1, seed=2) // 4 + 90
    given = iter([x.expand(count, -1, -1, -1).clone(), y])
    monkeypatch.setattr(
        hybrid_augment, "operated", lambda images, generator: next(given).expand(len(images), -1, -1, -1).clone()
    )
    made = HybridAugment(recombine=False).augment(_bytes(count), None, torch_generator(3)) * 255
    low = [V.gaussian_blur(of.float(), [3, 3], [0.5, 0.5]) for of in (x, y)]
    wanted = [x.float(), low[0] + y - low[1], low[1] + x - low[0]]
    shares = [float(((made - of).abs().amax((1, 2, 3)) <= 1.01).double().mean()) for of in wanted]
    for share, expected in zip(shares, (0.5, 0.25, 0.25), strict=True):
        assert share == pytest.approx(expected, abs=0.05)


def test_the_operations_are_augmixs_nine_at_levels_up_to_three() -> None:
    images = _bytes(3000)
    same = (operated(images, torch_generator(4)) == images).flatten(1).all(1)
    # of PixMix's table at 32 pixels, of 12: rotations below one degree and shifts below one pixel change nothing
    assert 0.02 < float(same.double().mean()) < 0.35
