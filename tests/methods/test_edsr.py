"""EDSR: the forward pass against PyTorch modules of the official layout, the distortions against their definition."""

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.datasets import ImageData
from pixmix_ray.errors import DataError, RequestError
from pixmix_ray.methods import Setup
from pixmix_ray.methods.edsr import (
    DISTORTIONS,
    Edsr,
    change_at_head,
    change_inside,
    distort,
)
from pixmix_ray.models.edsr import EdsrWeights, enlarged, read_edsr

MEAN = torch.tensor([0.4488, 0.4371, 0.4040]) * 255  # of DIV2K, the authors' training pictures
DATA = ImageData(
    train_images=np.zeros((2, 8, 8, 3), np.uint8),
    train_labels=np.zeros(2, np.int64),
    test_images=np.zeros((2, 8, 8, 3), np.uint8),
    test_labels=np.zeros(2, np.int64),
    class_names=("a",),
    version="x",
)


class _Residual(nn.Module):
    def __init__(self, features: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, features, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = features + self.share * self.body(features)
        return changed


class _Official(nn.Module):
    """EDSR out of modules whose names make the official state_dict; random weights."""

    def __init__(self, features: int, blocks: int, scale: int, share: float = 1.0) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        self.body = nn.Sequential(
            *(_Residual(features, share) for _ in range(blocks)), nn.Conv2d(features, features, 3, padding=1)
        )
        steps = [2, 2] if scale == 4 else [scale]
        shuffles = [
            layer
            for step in steps
            for layer in (nn.Conv2d(features, step**2 * features, 3, padding=1), nn.PixelShuffle(step))
        ]
        self.tail = nn.Sequential(nn.Sequential(*shuffles), nn.Conv2d(features, 3, 3, padding=1))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=_generator(parameter.numel())) * 0.1)
            for shift, sign in ((self.sub_mean, -1), (self.add_mean, 1)):
                shift.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
                assert shift.bias is not None
                shift.bias.copy_(sign * MEAN)

    def forward(self, pictures: Tensor) -> Tensor:
        start = self.head(self.sub_mean(pictures * 255))
        enlarged_: Tensor = self.add_mean(self.tail(start + self.body(start))) / 255
        return enlarged_


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pixels(seed: int, count: int = 24, height: int = 16, width: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=_generator(seed))


def _saved(folder: Path, network: nn.Module, name: str = "edsr.pt") -> Path:
    torch.save(network.state_dict(), folder / name)
    return folder / name


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return _saved(tmp_path, _Official(8, 6, 2))


def _two_blocks() -> EdsrWeights:
    """Every distortion that falls on one block has no choice here: an even one means 0, an odd one 1."""
    kernels = torch.randn(2, 2, 6, 6, 3, 3, generator=_generator(1))
    return EdsrWeights(others={}, kernels=kernels, biases=torch.randn(2, 2, 6, generator=_generator(2)))


# The network


@pytest.mark.parametrize(
    ("features", "blocks", "scale", "share"), [(8, 2, 2, 1.0), (8, 6, 4, 1.0), (4, 3, 3, 1.0), (256, 2, 2, 0.1)]
)
def test_the_forward_pass_is_that_of_the_official_modules(
    tmp_path: Path, features: int, blocks: int, scale: int, share: float
) -> None:
    official = _Official(features, blocks, scale, share).eval()
    edsr = read_edsr(_saved(tmp_path, official))
    pictures = torch.rand(3, 3, 7, 10, generator=_generator(5))
    before = pictures.clone()
    with torch.no_grad():
        expected = official(pictures)
    torch.testing.assert_close(enlarged(edsr, pictures), expected, rtol=1e-4, atol=1e-3)
    assert edsr.scale == scale
    assert edsr.kernels.shape == (blocks, 2, features, features, 3, 3)
    assert expected.shape == (3, 3, 7 * scale, 10 * scale)
    assert torch.equal(pictures, before)


def test_a_network_that_only_copies_repeats_pixels() -> None:
    # colours go to three features, on to each of the four new pixels, and back
    centre = torch.zeros(3, 3, 3, 3)
    centre[range(3), range(3), 1, 1] = 1
    others = {
        "sub_mean.weight": torch.eye(3).view(3, 3, 1, 1),
        "sub_mean.bias": -MEAN,
        "add_mean.weight": torch.eye(3).view(3, 3, 1, 1),
        "add_mean.bias": MEAN,
        "head.0.weight": centre,
        "body.2.weight": torch.zeros(3, 3, 3, 3),
        "tail.0.0.weight": centre.repeat_interleave(4, dim=0),
        "tail.1.weight": centre,
    }
    others |= {name.replace("weight", "bias"): torch.zeros(len(value)) for name, value in others.items()} | others
    edsr = EdsrWeights(others=others, kernels=torch.zeros(2, 2, 3, 3, 3, 3), biases=torch.zeros(2, 2, 3))
    pictures = torch.rand(2, 3, 5, 6, generator=_generator(1))
    expected = pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(enlarged(edsr, pictures), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(enlarged(edsr, pictures, block_share=0.0), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("blocks", "after"), [(3, 3), (5, 5), (7, 5)])
def test_the_body_is_interrupted_after_five_blocks(blocks: int, after: int, tmp_path: Path) -> None:
    official = _Official(4, blocks, 2).eval()
    seen: list[Tensor] = []

    def see(features: Tensor) -> Tensor:
        seen.append(features)
        return features

    pictures = torch.rand(1, 3, 6, 6, generator=_generator(5))
    enlarged(read_edsr(_saved(tmp_path, official)), pictures, in_the_middle=see)
    with torch.no_grad():
        start = official.head(official.sub_mean(pictures * 255))
        torch.testing.assert_close(seen[0], official.body[:after](start), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("add_mean.bias"), r"add_mean.bias should be \(3,\), got None"),
        (lambda weights: weights.update({"more": torch.zeros(1)}), "more should be None"),
        (lambda weights: weights.update({"body.6.weight": torch.zeros(8, 9, 3, 3)}), r"got \(8, 9, 3, 3\)"),
        (lambda weights: weights.update({"tail.0.0.weight": torch.zeros(40, 8, 3, 3)}), r"should be \(32, 8, 3, 3\)"),
        (lambda weights: weights.clear(), "holds no state_dict"),
    ],
)
def test_a_file_of_another_network_is_refused_with_the_first_difference(
    tmp_path: Path,
    change: "object",
    message: str,
) -> None:
    content = OrderedDict(_Official(8, 6, 2).state_dict())
    assert callable(change)
    change(content)
    torch.save(content, tmp_path / "broken.pt")
    with pytest.raises(DataError, match=message):
        Edsr(weights=tmp_path / "broken.pt").prepare(DATA)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "damaged.pt").write_bytes(b"nothing")
    for name, message in (("absent.pt", "no checkpoint file"), ("damaged.pt", "damaged.pt")):
        with pytest.raises(DataError, match=message) as caught:
            Edsr(weights=tmp_path / name).prepare(DATA)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"absent\.pt"):
        Edsr(weights=tmp_path / "absent.pt").version()
    with pytest.raises(RequestError, match="'weights' is missing: set it to a state_dict file of EDSR"):
        Edsr.read({}, "method edsr")


# The method


def test_spoiled_pictures_are_in_range_and_depend_on_the_generator_alone(weights: Path) -> None:
    for shape in ((24, 16, 16), (3, 20, 33), (1, 8, 8), (0, 8, 8)):
        images = _pixels(1, *shape)
        before, state = images.clone(), torch.get_rng_state()
        method = Edsr(weights=weights, share=0.7)
        spoiled = method.augment(images, None, _generator(3))
        assert (spoiled.shape, spoiled.dtype) == (images.shape, torch.float32)
        assert bool(((spoiled >= 0) & (spoiled <= 1)).all())  # false for NaN
        assert torch.equal(spoiled, method.augment(images, None, _generator(3)))
        assert torch.equal(images, before)
        assert torch.equal(torch.get_rng_state(), state)


def test_half_of_every_batch_is_spoiled_and_the_rest_is_clean(weights: Path) -> None:
    images = _pixels(1, 60)
    spoiled = Edsr(weights=weights, pictures_per_network=7).augment(images, None, _generator(3))
    is_clean = (spoiled == images / 255).flatten(1).all(1)
    assert is_clean.tolist() == [False, True] * 30
    assert torch.equal(Edsr(weights=weights, share=0).augment(images, None, _generator(3)), images / 255)


def test_a_training_reads_the_weights_once_and_spoils_as_the_method_does(weights: Path) -> None:
    method, images = Edsr(weights=weights), _pixels(1)
    expected = method.augment(images, None, _generator(3))
    method.prepare(DATA)
    run = method.start(
        Setup(
            images=images,
            device=images.device,
            height=images.shape[2],
            data_version="x",
            seed=1,
            size=images.shape[2],
            crop=lambda pictures, _: pictures,
        )
    )
    weights.unlink()
    assert torch.equal(run.augment(images, None, _generator(3)), expected)
    assert run.tensors() == {}


def test_the_identity_holds_the_content_of_the_weights_and_not_their_place(tmp_path: Path, weights: Path) -> None:
    same = Edsr(weights=_saved(tmp_path, _Official(8, 6, 2), "again.pt"))
    assert Edsr(weights=weights).identity() == same.identity()
    (tmp_path / "copy.pt").write_bytes(weights.read_bytes())
    assert Edsr(weights=weights).version() == Edsr(weights=tmp_path / "copy.pt").version()
    other = _saved(tmp_path, _Official(8, 5, 2), "other.pt")
    assert Edsr(weights=weights).version() != Edsr(weights=other).version()


@pytest.mark.parametrize(("reduction", "small"), [(None, (8, 10)), (1, (16, 19)), (3, (6, 7))])
def test_pictures_enter_the_network_as_small_as_asked_for(
    weights: Path, reduction: int | None, small: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Size] = []

    def watched(edsr: EdsrWeights, pictures: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(pictures.shape[2:])
        return F.interpolate(pictures, scale_factor=edsr.scale)

    monkeypatch.setattr("pixmix_ray.methods.edsr.enlarge_with_changes", watched)
    images = torch.full((4, 3, 16, 19), 51, dtype=torch.uint8)
    result = Edsr(weights=weights, share=1, reduction=reduction).augment(images, None, _generator(1))
    assert [tuple(size) for size in seen] == [small]
    torch.testing.assert_close(result, torch.full_like(result, 0.2))  # one colour survives every change of size


# Activations


def test_changes_at_the_head_are_those_asked_for() -> None:
    features = torch.randn(4, 10, 40, 40, generator=_generator(1))
    before = features.clone()
    kind = torch.arange(4).view(4, 1, 1, 1)
    copied, zeroed, negated, same = change_at_head(features, kind, _generator(2))
    assert torch.equal(features, before)
    is_of = (copied[:, None] == features[0][None]).flatten(2).all(2)  # (channel after, channel before)
    assert bool((is_of.sum(1) == 1).all())  # every channel is one of before
    assert 1 <= int((~is_of.diagonal()).sum()) <= 5
    for changed, of, factor, share in ((zeroed, features[1], 0, 0.05), (negated, features[2], -1, 0.025)):
        is_changed = changed != of
        assert torch.equal(changed[is_changed], factor * of[is_changed])
        assert float(is_changed.float().mean()) == pytest.approx(share, abs=4 * math.sqrt(share / 16_000))
    assert torch.equal(same, features[3])


def test_copies_of_channels_follow_each_other_in_order() -> None:
    # the same draws, carried out one after the other as in the reference code
    features = torch.randn(6, 4, 3, 3, generator=_generator(1))
    pairs = torch.randint(4, (5, 2, 6, 1), generator=_generator(2))
    expected = features.clone()
    for picture in range(6):
        for to, of in pairs[:, :, picture, 0].tolist():
            expected[picture, to] = expected[picture, of]
    assert torch.equal(change_at_head(features, torch.zeros(6, 1, 1, 1, dtype=torch.int64), _generator(2)), expected)


def test_changes_inside_are_those_asked_for() -> None:
    features = torch.randn(1, 3, 4, 5, generator=_generator(1)).repeat(8, 1, 1, 1)
    kind = torch.tensor([0, 1, 1, 2, 2, 3, 4, 0]).view(8, 1, 1, 1)
    is_rarer = torch.tensor([0, 1, 0, 1, 0, 1, 1, 1]).bool().view(8, 1, 1, 1)
    x = features[0]
    gelu = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    expected = torch.stack([-x, x.clamp(min=0), gelu, x.flip(0, 1), x.flip(0, 2), x, x, -x])
    torch.testing.assert_close(change_inside(features, kind, is_rarer), expected)


# Weights

LAPLACE_4 = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
LAPLACE_8 = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]])


def _gelu(values: Tensor) -> Tensor:
    return values * 0.5 * (1 + torch.erf(values / math.sqrt(2)))


@pytest.mark.parametrize(
    ("choice", "block", "first", "second", "biases"),
    [
        (0, 0, lambda k: k.flip(0), lambda k: k.flip(0), lambda b: b.flip(1)),
        (1, 1, lambda k: -k, lambda k: k, lambda b: b * torch.tensor([[-1.0], [1.0]])),
        (2, 0, lambda k: 0 * k, lambda k: k, lambda b: b * torch.tensor([[0.0], [1.0]])),
        (3, 0, lambda k: -_gelu(k), lambda k: -_gelu(k), lambda b: b),
        (4, 0, lambda k: k * LAPLACE_4, lambda k: k, lambda b: b),
        (5, 0, lambda k: k * LAPLACE_8, lambda k: k, lambda b: b),
        (7, 0, lambda k: k[..., [2, 1, 0]], lambda k: -k, lambda b: b),
    ],
)
def test_distortions_without_noise_by_their_definition(
    choice: int, block: int, first: object, second: object, biases: object
) -> None:
    edsr = _two_blocks()
    kernels, shifts = edsr.kernels.clone(), edsr.biases.clone()
    DISTORTIONS[choice](kernels, shifts, np.random.default_rng(1), _generator(1))
    assert callable(first)
    assert callable(second)
    assert callable(biases)
    torch.testing.assert_close(kernels[block, 0], first(edsr.kernels[block, 0]))
    torch.testing.assert_close(kernels[block, 1], second(edsr.kernels[block, 1]))
    torch.testing.assert_close(shifts[block], biases(edsr.biases[block]))
    assert torch.equal(kernels[1 - block], edsr.kernels[1 - block])
    assert torch.equal(shifts[1 - block], edsr.biases[1 - block])


def _distorted(choice: int) -> tuple[Tensor, Tensor]:
    """All kernels before and after a distortion of kernels alone."""
    edsr = _two_blocks()
    kernels, biases = edsr.kernels.clone(), edsr.biases.clone()
    DISTORTIONS[choice](kernels, biases, np.random.default_rng(3), _generator(4))
    assert torch.equal(biases, edsr.biases)
    return edsr.kernels, kernels


@pytest.mark.parametrize(
    ("choice", "place"), [(6, (0, 1)), (8, (1, 0)), (9, (0, 0)), (10, (1, 1)), (13, (None, 0)), (14, (None, 0))]
)
def test_noisy_distortions_fall_on_one_convolution(choice: int, place: tuple[int | None, int]) -> None:
    before, after = _distorted(choice)
    block, convolution = place
    assert torch.equal(before[:, 1 - convolution], after[:, 1 - convolution])
    assert not torch.equal(before[:, convolution], after[:, convolution])
    if block is not None:
        assert torch.equal(before[1 - block], after[1 - block])


def test_noise_in_the_weights_has_the_size_of_the_code() -> None:
    before, after = _distorted(6)
    factor = after[0, 1] / before[0, 1]
    u = np.random.default_rng(3)
    u.choice([0])  # the draw of the block
    # the factor is 1 + 4 u U(0, 1), with one u for all
    assert 1 <= float(factor.min()) <= float(factor.max()) <= 1 + 4 * u.random() + 1e-5
    before, after = _distorted(11)
    is_block = (before != after).flatten(1).any(1)
    assert int(is_block.sum()) == 1
    added = (after - before)[is_block]
    assert float(added[0, 0].abs().max()) == 0
    assert 0.45 < float(added[0, 1].abs().max()) <= 0.5 + 1e-6


def test_filters_are_moved_by_one_tap_at_most_and_summed_with_signs() -> None:
    before, after = _distorted(8)
    # the same for every output channel: Σ_j ± shift(w_j), by NumPy; the draws are those of the distortion
    rng = np.random.default_rng(3)
    rng.choice([1])
    ys, xs = rng.integers(3, size=6), rng.integers(3, size=6)
    signs = rng.choice([-1, 1], 6)
    padded = np.pad(before[1, 0].numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = sum(signs[j] * padded[:, j, ys[j] : ys[j] + 3, xs[j] : xs[j] + 3] for j in range(6))
    for channel in range(6):
        np.testing.assert_allclose(after[1, 0, :, channel].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_convolved_filters_are_sums_with_the_weights_drawn() -> None:
    rng = np.random.default_rng(3)
    rng.choice([1])
    mixing = rng.dirichlet([0.1] * 9, (6, 6)).reshape(6, 6, 3, 3)
    np.testing.assert_allclose(mixing.sum((2, 3)), 1)
    before, after = _distorted(10)
    padded = np.pad(before[1, 1].numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    expected = np.einsum("ojyxab,kjab->okyx", windows, mixing)
    np.testing.assert_allclose(after[1, 1].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_turned_filters_keep_their_values(seed: int) -> None:
    edsr = _two_blocks()
    kernels = edsr.kernels.clone()
    DISTORTIONS[12](kernels, edsr.biases.clone(), np.random.default_rng(seed), _generator(1))
    assert not torch.equal(kernels, edsr.kernels)
    torch.testing.assert_close(kernels.flatten(2).sort(2).values, edsr.kernels.flatten(2).sort(2).values)


def test_signs_zeros_and_largest_values_by_their_definition() -> None:
    before, after = _distorted(13)
    assert torch.equal(before.abs(), after.abs())
    before, after = _distorted(14)
    assert bool(((after == before) | (after == 0)).all())
    before, after = _distorted(15)
    sign = (after / before).flatten(3)
    assert bool((sign == sign[..., :1]).all())  # whole filters
    assert torch.equal(before.abs(), after.abs())
    before, after = _distorted(16)
    is_changed = (before != after).flatten(2).any(2)
    taps = after[is_changed].flatten(3)
    is_kept = (taps != 0).sum(3)  # none where a convolution was drawn twice and its largest value is negative
    assert int(is_kept.max()) == 1
    assert float(is_kept.float().mean()) > 0.98
    torch.testing.assert_close(taps.sum(3), is_kept * before[is_changed].flatten(3).max(3).values)


def test_as_many_filters_are_negated_as_half_of_them_are_drawn() -> None:
    edsr = _two_blocks()
    channels, shares = edsr.kernels.shape[2], []
    for seed in range(300):
        kernels = edsr.kernels.clone()
        DISTORTIONS[15](kernels, edsr.biases.clone(), np.random.default_rng(seed), _generator(1))
        shares.append(float((kernels[:, 0] / edsr.kernels[:, 0] < 0).float().mean()))
    drawn = 1 - (1 - 1 / channels) ** (channels // 2)  # of a block's filters, each of five times that one is drawn
    expected = (1 - (1 - 2 * drawn / len(edsr.kernels)) ** 5) / 2
    assert np.mean(shares) == pytest.approx(expected, abs=0.02)  # a third of them drawn would be 0.05 less


@pytest.mark.parametrize("blocks", [2, 16, 32])
def test_networks_of_every_depth_are_distorted_and_themselves_unchanged(blocks: int) -> None:
    kernels = torch.randn(blocks, 2, 4, 4, 3, 3, generator=_generator(1))
    edsr = EdsrWeights(others={}, kernels=kernels, biases=torch.randn(blocks, 2, 4, generator=_generator(2)))
    before = kernels.clone(), edsr.biases.clone()
    for seed in range(20):
        distorted = distort(edsr, 3, np.random.default_rng(seed), _generator(seed))
        again = distort(edsr, 3, np.random.default_rng(seed), _generator(seed))
        assert bool(distorted.kernels.isfinite().all())
        assert torch.equal(distorted.kernels, again.kernels)
        assert not torch.equal(distorted.kernels, kernels)
    assert torch.equal(distort(edsr, 0, np.random.default_rng(1), _generator(1)).kernels, kernels)
    assert torch.equal(kernels, before[0])
    assert torch.equal(edsr.biases, before[1])
    assert len(DISTORTIONS) == 17


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_works_on_a_gpu(weights: Path) -> None:
    images = _pixels(1, 512).cuda()
    spoiled = Edsr(weights=weights).augment(images, None, torch.Generator("cuda").manual_seed(3))
    assert spoiled.device == images.device
    assert bool(spoiled.isfinite().all())
