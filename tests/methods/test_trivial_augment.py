"""TrivialAugment's draws and its spaces, by hand; the operations are compared with Pillow in test_magnitudes.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import TrivialAugmentWide

from pixmix_ray.errors import RequestError
from pixmix_ray.methods.magnitudes import RANDOM_OPERATIONS, take
from pixmix_ray.methods.trivial_augment import SPACES, TrivialAugment, draw


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_operations_strengths_and_signs_are_uniform() -> None:
    count = 60_000
    steps = draw(count, _generator(1))
    assert steps.operation.shape == steps.level.shape == (count, 1)
    for values, kinds in ((steps.operation, 14), (steps.level.abs().long(), 31)):
        counts = np.bincount(values[:, 0].numpy(), minlength=kinds)
        assert len(counts) == kinds
        assert (np.abs(counts - count / kinds) < 4.5 * np.sqrt(count / kinds)).all()
    level = steps.level[steps.level != 0]  # the sign of zero says nothing
    assert float((level < 0).double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(level)))


@pytest.mark.parametrize(
    ("name", "level", "wide", "standard"),
    [  # the ends of the ranges in the paper's table, and one in between where numbers are truncated
        ("shear_x", 30, 0.99, 0.3),
        ("shear_y", -30, -0.99, -0.3),
        ("translate_x", 30, 32, 10),
        ("translate_y", -7, -7, -2),  # int(7.47), int(2.33)
        ("rotate", 30, 135, 30),
        ("rotate", -7, -31, -7),  # int(31.5)
        ("posterize", 0, 8, 8),
        ("posterize", 30, 2, 4),
        ("posterize", 14, 6, 7),  # 8 - int(2.8), 8 - int(1.87)
        ("solarize", 0, 256, 256),
        ("solarize", 30, 0, 0),
        ("color", 0, 0.01, 0.1),
        ("contrast", 15, 1.005, 1.0),
        ("brightness", 30, 2.0, 1.9),
        ("sharpness", -30, 2.0, 1.9),  # enhancers have no sign
    ],
)
def test_the_spaces_by_hand(name: str, level: int, wide: float, standard: float) -> None:
    strength = torch.tensor([float(level)]).double()
    for size in (32, 224):  # pixels are pixels, whatever the size
        numbers = [float(SPACES[space].parameter(name, strength, size)) for space in ("wide", "standard")]
        assert numbers == pytest.approx([wide, standard], abs=1e-12)


def test_the_wide_space_is_torchvisions_where_they_agree() -> None:
    # torchvision does not truncate degrees, rounds bits, solarizes from 255, and mirrors the enhancers around 1
    theirs = TrivialAugmentWide()._augmentation_space(31)
    level = torch.arange(31).double()
    for ours, name in (("shear_x", "ShearX"), ("shear_y", "ShearY"), ("translate_x", "TranslateX")):
        expected = theirs[name][0].double()
        expected = expected.add(1e-5).trunc() if ours == "translate_x" else expected
        torch.testing.assert_close(SPACES["wide"].parameter(ours, level, 32).double(), expected, rtol=1e-6, atol=1e-6)
    degrees = SPACES["wide"].parameter("rotate", level, 32)
    assert torch.equal(degrees, theirs["Rotate"][0].add(1e-4).long())
    bits = SPACES["wide"].parameter("posterize", level, 32)
    assert int((bits - theirs["Posterize"][0]).abs().max()) == 1
    factor = SPACES["wide"].parameter("color", level, 32)
    assert float(factor[0]) == pytest.approx(0.01)
    assert float(1 + theirs["Color"][0][0]) == 1


@pytest.mark.parametrize(
    "method", [TrivialAugment(), TrivialAugment(space="standard", interpolation="bilinear")], ids=repr
)
def test_a_batch_is_changed_as_drawn(method: TrivialAugment) -> None:
    images = torch.randint(0, 256, (100, 3, 16, 24), dtype=torch.uint8, generator=_generator(3))
    before = images.clone()
    magnitudes = replace(SPACES[method.space], interpolation=method.interpolation)
    changed = take(images, draw(100, _generator(4)), RANDOM_OPERATIONS, magnitudes)
    torch.testing.assert_close(method.augment(images, None, _generator(4)), changed / 255, rtol=0, atol=0)
    assert torch.equal(images, before)
    assert not torch.equal(images, changed)


def test_what_comes_in_from_outside_is_black() -> None:
    images = torch.full((200, 3, 32, 32), 100, dtype=torch.uint8)
    steps = draw(200, _generator(7))
    names = (*RANDOM_OPERATIONS, "identity")
    changed = TrivialAugment().augment(images, None, _generator(7))
    for row, (number, level) in enumerate(zip(steps.operation[:, 0].tolist(), steps.level[:, 0].tolist(), strict=True)):
        if names[number] in ("translate_x", "translate_y") and 2 <= abs(level) < 30:  # neither nothing nor all of it
            assert set((changed[row] * 255).round().flatten().tolist()) == {0.0, 100.0}


def test_an_unknown_space_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(RequestError, match="space = 'narrow': must be 'wide' or 'standard'"):
        TrivialAugment.read({"space": "narrow"}, "method trivial_augment")
