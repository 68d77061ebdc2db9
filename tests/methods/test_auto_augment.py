"""AutoAugment's tables against torchvision's, and its draws; the operations are compared in test_magnitudes.py."""

import re

import numpy as np
import pytest
import torch
from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
from torchvision.transforms import AutoAugmentPolicy

from pixmix_ray.errors import RequestError
from pixmix_ray.methods.auto_augment import (
    CIFAR10,
    MAGNITUDES,
    POLICIES,
    AutoAugment,
    Policy,
    draw,
    operation_names,
    steps,
)
from pixmix_ray.methods.magnitudes import PAPER, RELEASE, take

COUNT = 50_000
WITHOUT_STRENGTH = {"autocontrast", "equalize", "invert"}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _snake_case(name: str) -> str:
    return "autocontrast" if name == "AutoContrast" else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize(
    ("ours", "theirs"), [("cifar10", AutoAugmentPolicy.CIFAR10), ("imagenet", AutoAugmentPolicy.IMAGENET)]
)
def test_the_policies_are_torchvisions(ours: str, theirs: AutoAugmentPolicy) -> None:
    def as_theirs(operation: str, level: int) -> int | None:
        return None if operation in WITHOUT_STRENGTH else level  # where torchvision leaves the printed level out

    printed = [
        tuple((step.operation, step.probability, as_theirs(step.operation, step.level)) for step in pair)
        for pair in POLICIES[ours]
    ]
    expected = TorchvisionAutoAugment(theirs).policies
    assert printed == [tuple((_snake_case(name), p, level) for name, p, level in pair) for pair in expected]
    assert len(printed) == 25


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_every_level_and_probability_is_in_range(policy: Policy) -> None:
    every = [step for pair in policy for step in pair]
    assert {step.level for step in every} <= set(range(10))
    assert {round(step.probability * 10, 9) for step in every} <= set(range(11))


def test_the_strengths_are_torchvisions_where_they_agree() -> None:
    # torchvision moves the other way for the same sign, which is random; keeps single precision; its translations are
    # truncated when they are applied; and it solarizes from 255 down, we from 256 as the paper's range has it
    height, width = 24, 40
    level = torch.arange(10).double()
    theirs = TorchvisionAutoAugment()._augmentation_space(10, (height, width))
    for name, (strengths, _) in theirs.items():
        operation, side = _snake_case(name), height if name.endswith("Y") else width
        if operation in WITHOUT_STRENGTH:
            continue
        ours = PAPER.parameter(operation, level, side).double()
        expected = strengths.double()
        if operation.startswith("translate"):
            expected = expected.trunc()
        elif operation in ("color", "contrast", "brightness", "sharpness"):
            expected = expected + 1
        elif operation == "solarize":
            expected = expected * 256 / 255
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("name", "level", "paper", "release"),
    [
        ("shear_y", 8, 0.3 * 8 / 9, 0.24),
        ("translate_x", 9, 14, 9),  # int(32 * 150 / 331 = 14.5), int(9 / 10 of 10 pixels)
        ("translate_y", 3, 4, 3),  # int(4.83)
        ("rotate", -2, -20 / 3, -6),
        ("posterize", 7, 5, 2),  # 8 - round(3.11), 4 - int(2.8)
        ("solarize", 8, 256 / 9, 52),  # 256 - int(204.8)
        ("color", 0, 1.0, 0.1),
        ("color", -3, 0.7, 0.64),  # the release knows no sign
        ("brightness", 9, 1.9, 1.72),
        ("contrast", 5, 1.5, 1.0),
    ],
)
def test_both_readings_of_a_level_by_hand(name: str, level: int, paper: float, release: float) -> None:
    numbers = [float(m.parameter(name, torch.tensor([float(level)]).double(), 32)) for m in (PAPER, RELEASE)]
    assert numbers == pytest.approx([paper, release], abs=1e-12)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_sub_policies_coins_and_signs_have_their_frequencies(policy: Policy) -> None:
    draws = draw(COUNT, policy, _generator(1))
    counts = np.bincount(draws.sub_policy.numpy(), minlength=25)
    assert (np.abs(counts - COUNT / 25) < 4.5 * np.sqrt(COUNT * 0.04 * 0.96)).all()
    for number, pair in enumerate(policy):
        happens = draws.happens[draws.sub_policy == number].double()
        for position, step in enumerate(pair):
            p, share = step.probability, float(happens[:, position].mean())
            assert share == pytest.approx(p, abs=4.5 * np.sqrt(p * (1 - p) / len(happens)) + 1e-12)
    signs = draws.is_negative.double()
    assert signs.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=4 * 0.5 / np.sqrt(COUNT))
    # coins and signs of the two operations are independent: both negative in a quarter of the pictures
    assert float(signs.prod(1).mean()) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / COUNT))


def test_the_draws_mean_what_the_policy_says() -> None:
    draws, names = draw(500, CIFAR10, _generator(2)), operation_names(CIFAR10)
    meaning = steps(draws, CIFAR10)
    for row, sub_policy in enumerate(draws.sub_policy.tolist()):
        for position, step in enumerate(CIFAR10[sub_policy]):
            number = int(meaning.operation[row, position])
            assert (number < len(names)) == bool(draws.happens[row, position])
            assert number == len(names) or names[number] == step.operation
            sign = -1 if draws.is_negative[row, position] else 1
            assert float(meaning.level[row, position]) == sign * step.level


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
@pytest.mark.parametrize("magnitudes", ["paper", "release"])
def test_a_batch_is_changed_as_drawn(policy: str, magnitudes: str) -> None:
    images = torch.randint(0, 256, (100, 3, 16, 24), dtype=torch.uint8, generator=_generator(3))
    before = images.clone()
    method = AutoAugment.read({"policy": policy, "magnitudes": magnitudes}, "method auto_augment")
    table = POLICIES[policy]
    meaning = steps(draw(100, table, _generator(4)), table)
    changed = take(images, meaning, operation_names(table), MAGNITUDES[magnitudes])
    torch.testing.assert_close(method.augment(images, None, _generator(4)), changed / 255, rtol=0, atol=0)
    assert torch.equal(images, before)
    assert not torch.equal(images, changed)


def test_the_settings_are_in_the_identity() -> None:
    assert AutoAugment().identity() == {"policy": "cifar10", "magnitudes": "paper", "interpolation": "nearest"}


@pytest.mark.parametrize("settings", [{"policy": "svhn"}, {"magnitudes": "torch"}, {"interpolation": "bicubic"}])
def test_an_unknown_setting_is_refused_with_what_is_allowed(settings: dict[str, str]) -> None:
    with pytest.raises(RequestError, match=rf"{next(iter(settings))} = .*must be '"):
        AutoAugment.read(settings, "method auto_augment")
