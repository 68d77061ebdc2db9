"""Seeds and resumption: the same run, in one go or in two, ends in the same bits."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import AdversarialL2, Ant, AugMix, Baseline, CutMix, Cutout, Method, Mixup, PixMix, Setup
from pixmix_ray.mixing_sets import Pictures
from pixmix_ray.models import WideResNet
from pixmix_ray.training import BatchShare, Epoch, TrainingData, train

METHODS: list[Method] = [
    Baseline(),
    Cutout(),
    Mixup(),
    CutMix(),
    PixMix(),
    PixMix(k=2, beta=5, partner="augmented"),
    PixMix(partner="iterative", visualizations=6, visualization_steps=2),
    Ant(renew_every=1, renew_steps=4),
    AdversarialL2(steps=2),
    AugMix(jsd=True),
]


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Thirty-five digits (a batch of 16 leaves 3 over) and five mixing pictures of noise."""
    digits = Digits(train_limit=35).load()
    images = torch.from_numpy(np.array(digits.train_images)).permute(0, 3, 1, 2).contiguous()
    pixels = np.random.Generator(np.random.Philox(key=5)).integers(0, 256, (5 * 36 * 36, 3), dtype=np.uint8)
    sides = np.full(5, 36)
    bank = Pictures(pixels=pixels, offsets=np.arange(5) * 36 * 36, heights=sides, widths=sides, version="noise").to(
        "cpu"
    )
    return TrainingData(images=images, labels=torch.from_numpy(np.array(digits.train_labels)), pictures=bank)


def _recipe(epochs: int = 3, **settings: object) -> Recipe:
    return Recipe.read({"epochs": epochs, "batch_size": 16, "lr": 0.05, **settings}, "training")


def _network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(depth=10, width=1, dropout=0.3).build(10)


def _bits(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}


def _are_identical(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first
    )


def _saved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors after a way through a file."""
    return load(save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}))


def _trained(method: Method, data: TrainingData, recipe: Recipe, seed: int) -> tuple[dict[str, Tensor], list[float]]:
    network = _network()
    losses = [epoch.loss for epoch in train(network, method, data, recipe, seed=seed)]
    return _bits(network), losses


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(method: Method, data: TrainingData) -> None:
    recipe = _recipe(epochs=1)
    first, again, other = (_trained(method, data, recipe, seed) for seed in (4, 4, 5))
    assert _are_identical(first[0], again[0])
    assert first[1] == again[1]
    assert not any(torch.equal(first[0][name], other[0][name]) for name in first[0] if name.endswith("conv1.weight"))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_run_interrupted_after_an_epoch_ends_in_the_same_bits(method: Method, data: TrainingData) -> None:
    recipe = _recipe(epochs=3)
    whole, losses = _trained(method, data, recipe, seed=4)

    first = next(train(_network(), method, data, recipe, seed=4))
    saved = _saved(first.tensors)
    resumed = _network(seed=99)  # other weights: all of them must come from the file
    rest = list(train(resumed, method, data, recipe, seed=4, after=(first.number, saved)))
    assert [epoch.number for epoch in rest] == [2, 3]
    assert [first.loss, *(epoch.loss for epoch in rest)] == losses
    assert _are_identical(_bits(resumed), whole)


@pytest.mark.parametrize("settings", [{"channels_last": False}, {"precision": "bfloat16"}], ids=repr)
def test_resumption_is_exact_in_other_layouts_and_precisions_and_twice(
    settings: dict[str, object], data: TrainingData
) -> None:
    recipe = _recipe(epochs=3, **settings)
    whole, _ = _trained(PixMix(), data, recipe, seed=1)
    after: tuple[int, Mapping[str, Tensor]] | None = None
    for number in (1, 2, 3):  # a fresh process for every epoch
        network = _network(seed=0 if after is None else 50 + number)
        epoch = next(train(network, PixMix(), data, recipe, seed=1, after=after))
        assert epoch.number == number
        after = epoch.number, _saved(epoch.tensors)
    assert _are_identical(_bits(network), whole)


def test_the_tensors_of_an_epoch_hold_weights_and_momentum(data: TrainingData) -> None:
    network = _network()
    epoch = next(train(network, Baseline(), data, _recipe(), seed=0))
    held = sum(tensor.numel() for tensor in epoch.tensors.values())
    in_state = sum(tensor.numel() for tensor in network.state_dict().values())
    assert held == in_state + sum(parameter.numel() for parameter in network.parameters())
    assert all(tensor.isfinite().all() for tensor in epoch.tensors.values())


def test_resumption_does_not_change_the_tensors_it_is_given(data: TrainingData) -> None:
    first = next(train(_network(), Baseline(), data, _recipe(), seed=0))
    given = _saved(first.tensors)
    before = {name: tensor.clone() for name, tensor in given.items()}
    list(train(_network(seed=9), Baseline(), data, _recipe(), seed=0, after=(1, given)))
    assert _are_identical(given, before)


def test_without_the_momentum_the_rest_of_the_run_would_differ(data: TrainingData) -> None:
    whole, _ = _trained(Baseline(), data, _recipe(epochs=2), seed=0)
    first = next(train(_network(), Baseline(), data, _recipe(epochs=2), seed=0))
    weights = {name: tensor for name, tensor in _saved(first.tensors).items() if "momentum" not in name}
    resumed = _network()
    list(train(resumed, Baseline(), data, _recipe(epochs=2), seed=0, after=(1, weights)))
    assert not _are_identical(_bits(resumed), whole)


def test_a_run_that_is_complete_has_nothing_left_to_train(data: TrainingData) -> None:
    network = _network()
    *_, last = train(network, Baseline(), data, _recipe(epochs=2), seed=0)
    trained = _bits(network)
    resumed = _network(seed=9)
    assert list(train(resumed, Baseline(), data, _recipe(epochs=2), seed=0, after=(2, _saved(last.tensors)))) == []
    assert _are_identical(_bits(resumed), trained)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_run_interrupted_in_the_middle_of_an_epoch_ends_in_the_same_bits(method: Method, data: TrainingData) -> None:
    recipe = _recipe(epochs=2)
    whole, losses = _trained(method, data, recipe, seed=4)

    often = recipe.model_copy(update={"checkpoint_every": "1 step"})
    states = list(_kept(train(_network(), method, data, often, seed=4)))
    assert [(state.number, state.is_whole) for state in states] == [(n, b == 2) for n in (1, 2) for b in range(3)]
    state = states[4]
    resumed = _network(seed=99)  # other weights: all of them must come from the file
    (last,) = train(resumed, method, data, recipe, seed=4, after=(1, _saved(state.tensors)))
    assert last.loss == losses[1]
    assert last.seconds > state.seconds
    assert _are_identical(_bits(resumed), whole)


def _kept(epochs: Iterator[Epoch]) -> Iterator[Epoch]:
    """The epochs with their tensors as they are now: the living ones change."""
    for epoch in epochs:
        yield replace(epoch, tensors={name: tensor.detach().clone() for name, tensor in epoch.tensors.items()})


@pytest.mark.parametrize(
    ("every", "due"),
    [(None, []), ("2 steps", [2, 4, 6]), ("1 step", [1, 2, 3, 4, 5, 6]), ("5 steps", [5]), ("90 minutes", [])],
)
def test_states_in_the_middle_of_an_epoch_are_due_as_the_recipe_says(every: str | None, due: list[int]) -> None:
    images = torch.zeros((7, 3, 8, 8), dtype=torch.uint8)
    pictures = TrainingData(images=images, labels=torch.arange(7))
    recipe = Recipe.read({"epochs": 2, "batch_size": 1, "checkpoint_every": every}, "training")
    found = [
        int(state.tensors["epoch.batches"])
        for state in train(_network(), Baseline(), pictures, recipe, seed=0)
        if not state.is_whole
    ]
    assert found == 2 * due
    assert recipe.identity() == Recipe(epochs=2, batch_size=1).identity()


def test_minutes_are_counted_from_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 119.0, 120.0, 120.0, 239.0, 241.0, 241.0])
    monkeypatch.setattr("pixmix_ray.experiment.recipe.time.monotonic", lambda: next(clock))
    is_due = Recipe(checkpoint_every="2 minutes").checkpoint_due()
    assert [is_due(1) for _ in range(4)] == [False, True, False, True]


@pytest.mark.parametrize("every", ["10", "0 steps", "ten minutes", "1.5 minutes", "3 hours", ""])
def test_another_span_is_refused_with_what_is_allowed(every: str) -> None:
    with pytest.raises(RequestError, match=r"checkpoint_every = .*: it must be a number of minutes or steps, such as"):
        Recipe.read({"checkpoint_every": every}, "training")


@pytest.mark.parametrize("of", [1, 2, 3])
def test_shares_of_the_batches_make_the_whole_ones(of: int, data: TrainingData) -> None:
    method, recipe = PixMix(), _recipe()
    setup = Setup(
        images=data.images,
        device=data.images.device,
        height=data.images.shape[2],
        data_version="",
        seed=4,
        size=32,
        crop=recipe.cropped,
    )
    held = replace(data, held_out=torch.tensor([3, 5, 8]))

    def batches(share: BatchShare | None = None) -> list[tuple[Tensor, Tensor]]:
        made = held.batches(method.start(setup), recipe, seed=4, share=share)
        return [*made.batches(2), *made.batches(2, first=1), *made.held_out()]

    shares = [batches(BatchShare(rank=rank, of=of)) for rank in range(of)]
    for place, (images, labels) in enumerate(batches()):
        assert torch.equal(torch.cat([share[place][0] for share in shares]), images)
        assert torch.equal(torch.cat([share[place][1] for share in shares]), labels)
