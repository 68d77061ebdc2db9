"""The recipe's defaults against the paper, and the schedule against the formula worked by hand and by torch."""

import math
from itertools import pairwise

import pytest
import torch

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.recipe import Recipe, cosine
from pixmix_ray.transforms import flip_and_crop, random_resized_crop


def test_the_default_recipe_is_the_papers() -> None:
    # section 3.2: 100 epochs, learning rate .1, cosine; official code: batch 128, Nesterov .9, end 1e-6, flip, pad 4
    others = {"precision", "channels_last", "tf32", "deterministic", "accumulation", "checkpoint_every"}
    assert Recipe().model_dump(exclude=others) == {
        "epochs": 100,
        "batch_size": 128,
        "lr": 0.1,
        "final_lr": 1e-6,
        "momentum": 0.9,
        "weight_decay": None,  # the method's own: 5e-4, for Mixup 1e-4
        "flip": True,
        "crop": "padded",
        "crop_padding": 4,
        "crop_size": None,
        "validation": None,  # trains on all pictures
    }
    assert Recipe().precision == "float32"


def test_a_padded_crop_is_that_of_cifar_and_a_resized_one_that_of_imagenet() -> None:
    images = torch.randint(0, 256, (6, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))

    def draws() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    padded = Recipe(crop_padding=2, flip=False)
    assert torch.equal(padded.cropped(images, draws()), flip_and_crop(images, draws(), flip=False, padding=2))
    resized = Recipe(crop="resized", crop_size=14)
    assert torch.equal(resized.cropped(images, draws()), random_resized_crop(images, draws(), size=14, flip=True))
    assert [recipe.side(20) for recipe in (padded, resized, Recipe(crop="resized"))] == [20, 14, 20]


def test_the_identity_holds_the_settings_of_the_crop_that_is_used() -> None:
    assert {"crop", "crop_size"}.isdisjoint(Recipe().identity())
    assert Recipe().identity()["crop_padding"] == 4
    resized = Recipe(crop="resized").identity()
    assert "crop_padding" not in resized and resized["crop"] == "resized"


def test_validation_is_part_of_the_identity_where_it_is_set() -> None:
    assert "validation" not in Recipe().identity()
    assert Recipe(validation=0.1).identity() == {**Recipe().identity(), "validation": 0.1}


def test_a_crop_size_without_a_resized_crop_is_refused() -> None:
    with pytest.raises(RequestError, match=r"crop_size = 14 .* only used with crop: resized"):
        Recipe.read({"crop_size": 14}, "training")


@pytest.mark.parametrize(
    ("precision", "gpus", "capabilities", "is_told"),
    [
        ("bfloat16", 0, {"avx2": True, "avx512_bf16": False}, True),
        ("bfloat16", 0, {"avx2": True, "avx512_bf16": True}, False),
        ("bfloat16", 0, {}, False),
        ("bfloat16", 1, {"avx512_bf16": False}, False),
        ("float32", 0, {"avx512_bf16": False}, False),
    ],
)
def test_bfloat16_on_a_processor_without_it_is_told_before_it_costs_hours(
    precision: str, gpus: float, capabilities: dict[str, bool], is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities, raising=False)
    assert bool(Recipe.model_validate({"precision": precision}).notes(gpus)) == is_told


def test_the_schedule_by_hand() -> None:
    # cos 0 = 1, cos 60 degrees = 1/2, cos 90 degrees = 0, cos 120 degrees = -1/2, cos 180 degrees = -1
    assert cosine(0, 6, 0.1, 0.0) == pytest.approx(0.1)
    assert cosine(2, 6, 0.1, 0.0) == pytest.approx(0.075)
    assert cosine(3, 6, 0.1, 0.0) == pytest.approx(0.05)
    assert cosine(4, 6, 0.1, 0.02) == pytest.approx(0.02 + 0.08 / 4)
    assert cosine(6, 6, 0.1, 0.02) == pytest.approx(0.02)


def test_the_schedule_starts_at_the_first_rate_and_ends_next_to_the_last() -> None:
    steps = 39_100  # 100 epochs of 391 batches
    assert cosine(0, steps, 0.1, 1e-6) == 0.1
    assert cosine(steps, steps, 0.1, 1e-6) == pytest.approx(1e-6)
    # one step before the end the cosine is 1 - (pi / steps)^2 / 2 from its end
    assert cosine(steps - 1, steps, 0.1, 1e-6) - 1e-6 == pytest.approx(0.1 * (math.pi / steps) ** 2 / 4, rel=1e-3)


def test_the_schedule_falls_at_every_step() -> None:
    rates = [cosine(step, 100, 0.1, 1e-6) for step in range(101)]
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_the_schedule_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=37, eta_min=1e-6)
    for step in range(37):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(cosine(step, 37, 0.1, 1e-6), rel=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", -0.1),
        ("lr", float("nan")),
        ("final_lr", -1e-6),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("crop_padding", -1),
        ("validation", 0.0),
        ("validation", 0.6),
        ("precision", "float16"),
        ("learning_rate", 0.1),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name_in_one_line(key: str, value: object) -> None:
    with pytest.raises(RequestError, match=key) as caught:
        Recipe.read({key: value}, "training")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"), [("tf32", "nowhere"), ("tf32", "everywhere"), ("deterministic", True), ("accumulation", 2)]
)
def test_how_exactly_is_part_of_the_identity_where_it_is_said(setting: str, value: object) -> None:
    assert setting not in Recipe().identity()
    assert Recipe.read({setting: value}, "training").identity() == Recipe().identity() | {setting: value}
