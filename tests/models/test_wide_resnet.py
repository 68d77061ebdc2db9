"""The paper's network: its size and cost from the facts, its function from a second implementation on bare tensors."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pixmix_ray.errors import RequestError
from pixmix_ray.models import Normalise, WideResNet, wide_resnet


def _seeded(settings: WideResNet, num_classes: int = 10, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return settings.build(num_classes)


def _images(count: int = 4, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _stem_input(network: nn.Module, images: Tensor) -> Tensor:
    """What the first convolution sees."""
    seen: list[Tensor] = []
    stem = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    handle = stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(images)
    handle.remove()
    return seen[0]


def test_the_default_is_the_papers_wrn_40_4_with_its_published_number_of_parameters() -> None:
    settings = WideResNet()
    assert (settings.depth, settings.width, settings.dropout, settings.label()) == (40, 4, 0.3, "wrn_40_4")
    assert _num_parameters(settings.build(10)) == 8_949_210


@pytest.mark.parametrize(
    ("num_classes", "expected"), [(10, 8_949_210), (100, 8_949_210 + 90 * 257), (1, 8_949_210 - 9 * 257)]
)
def test_a_class_costs_256_weights_and_a_bias(num_classes: int, expected: int) -> None:
    assert _num_parameters(wide_resnet(num_classes=num_classes)) == expected


# thousands of parameters and 10^9 floating point operations of one forward pass, as rounded in the facts
@pytest.mark.parametrize(
    ("depth", "width", "thousands", "giga_flop", "digits"),
    [(16, 2, 692, 0.202, 3), (22, 1, 272, 0.0816, 4), (16, 1, 175, 0.0533, 4), (10, 1, 78, 0.025, 3)],
)
def test_smaller_networks_have_the_size_and_cost_of_the_facts(
    depth: int, width: int, thousands: int, giga_flop: float, digits: int
) -> None:
    network = WideResNet(depth=depth, width=width).build(10).eval()
    assert round(_num_parameters(network) / 1000) == thousands
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(_images(1))
    assert round(counter.get_total_flops() / 1e9, digits) == giga_flop


def test_a_forward_pass_of_wrn_40_4_costs_what_the_facts_say() -> None:
    network = wide_resnet().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(_images(1)).shape == (1, 10)
    assert counter.get_total_flops() == 2_597_164_032


def _reference(state: dict[str, Tensor], images: Tensor, width: int, blocks: int) -> Tensor:
    """The logits in evaluation mode, after Zagoruyko and Komodakis, from bare tensors and functions."""

    def normalised(features: Tensor, name: str) -> Tensor:
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
        shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
        return F.relu(features * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1))

    features = F.conv2d(2 * images - 1, state["stem.weight"], padding=1)
    planes = 16
    for number in range(3 * blocks):
        name, stage = f"blocks.{number}", number // blocks
        stride = 2 if stage > 0 and number % blocks == 0 else 1
        activated = normalised(features, f"{name}.bn1")
        if planes != (wanted := 16 * width * 2**stage):
            features, planes = F.conv2d(activated, state[f"{name}.shortcut.weight"], stride=stride), wanted
        out = normalised(F.conv2d(activated, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn2")
        features = features + F.conv2d(out, state[f"{name}.conv2.weight"], padding=1)
    pooled = F.adaptive_avg_pool2d(normalised(features, "bn"), 1).flatten(1)
    return pooled @ state["head.weight"].T + state["head.bias"]


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (10, 2), (16, 1), (22, 2)])
def test_logits_are_those_of_a_second_implementation(depth: int, width: int) -> None:
    network = _seeded(WideResNet(depth=depth, width=width))
    generator = torch.Generator().manual_seed(5)
    for name, tensor in network.state_dict().items():  # fresh BatchNorm is the identity and would hide a wrong one
        if (name.endswith("bias") or "bn" in name) and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    network.eval()
    images = _images(3)
    with torch.no_grad():
        expected = _reference(network.state_dict(), images, width, (depth - 4) // 6)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


def test_a_grey_picture_is_zero_to_the_first_convolution() -> None:
    network = _seeded(WideResNet(depth=10, width=1)).eval()
    assert torch.equal(_stem_input(network, torch.full((2, 3, 32, 32), 0.5)), torch.zeros(2, 3, 32, 32))


def test_pictures_from_0_to_1_become_minus_1_to_1() -> None:
    network = _seeded(WideResNet(depth=10, width=1)).eval()
    images = _images()
    before = images.clone()
    torch.testing.assert_close(_stem_input(network, images), 2 * images - 1)
    assert torch.equal(images, before)


def test_normalisation_leaves_no_trace_in_the_weights() -> None:
    assert Normalise([0.5] * 3, [0.5] * 3).state_dict() == {}
    assert not [name for name in WideResNet(depth=10, width=1).build(10).state_dict() if "norm" in name]


def test_normalisation_is_by_channel() -> None:
    # by hand: (1 - .5) / .25 = 2, (1 - 0) / 1 = 1, (1 - 1) / .5 = 0
    shown = Normalise([0.5, 0.0, 1.0], [0.25, 1.0, 0.5])(torch.ones(1, 3, 1, 1))
    assert shown.flatten().tolist() == [2.0, 1.0, 0.0]


def test_normalisation_is_the_same_in_both_layouts_of_memory() -> None:
    normalise = Normalise([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    images = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    by_pixels = normalise(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(by_pixels, normalise(images))
    assert by_pixels.is_contiguous(memory_format=torch.channels_last)


def test_convolutions_start_normal_with_deviation_sqrt_2_over_fan_out() -> None:
    network = _seeded(WideResNet(depth=16, width=4))
    kernels = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(kernels) == 1 + 12 + 3  # stem, two a block, one for each change of width
    for kernel in kernels:
        side = kernel.kernel_size[0]
        wanted = math.sqrt(2 / (side * side * kernel.out_channels))
        weights = kernel.weight.detach().flatten() / wanted
        tolerance = 5 / math.sqrt(2 * len(weights))  # five standard errors of a normal sample's deviation
        assert abs(float(weights.std()) - 1) < tolerance
        assert abs(float(weights.mean())) < 5 / math.sqrt(len(weights))
        if len(weights) > 10_000:  # a uniform of that deviation stays within sqrt(3); of a normal 4.6 % lie beyond 2
            assert 0.03 < float((weights.abs() > 2).float().mean()) < 0.06
        assert kernel.bias is None


def test_batch_norm_starts_as_the_identity_and_the_head_without_bias() -> None:
    network = _seeded(WideResNet(depth=10, width=1))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.zeros_like(module.bias))
        if isinstance(module, nn.Linear):
            assert torch.equal(module.bias, torch.zeros_like(module.bias))


def test_dropout_is_off_in_evaluation() -> None:
    dropping, plain = (
        _seeded(WideResNet(depth=10, width=1, dropout=0.5)),
        _seeded(WideResNet(depth=10, width=1, dropout=0)),
    )
    plain.load_state_dict(dropping.state_dict())
    images = _images()
    with torch.no_grad():
        first, second = dropping.eval()(images), dropping(images)
        assert torch.equal(first, second)
        assert torch.equal(first, plain.eval()(images))


def test_dropout_is_on_in_training() -> None:
    images = _images()
    for dropout, is_same in [(0.5, False), (0.0, True)]:
        network = _seeded(WideResNet(depth=10, width=1, dropout=dropout)).train()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            assert torch.equal(network(images), network(images)) is is_same


def test_dropout_lies_between_the_two_convolutions_of_each_block_at_the_rate_asked_for() -> None:
    network = _seeded(WideResNet(depth=16, width=1, dropout=0.3)).train()
    calls: list[tuple[nn.Module, Tensor]] = []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_pre_hook(lambda module, inputs: calls.append((module, inputs[0].detach().clone())))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network(_images(16))
    places = [number for number, (module, _) in enumerate(calls) if isinstance(module, nn.Dropout)]
    assert len(places) == 6
    for place in places:
        before, (dropout, shown), (after, received) = calls[place - 1][0], calls[place], calls[place + 1]
        assert isinstance(before, nn.BatchNorm2d)
        assert isinstance(dropout, nn.Dropout)
        assert isinstance(after, nn.Conv2d)
        assert after.kernel_size == (3, 3)
        assert float(shown.min()) == 0  # rectified
        lost = float((received[shown > 0] == 0).float().mean())
        assert lost == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("depth", "nearest"), [(39, 40), (41, 40), (12, 10), (15, 16), (27, 28)])
def test_a_depth_that_is_no_whole_number_of_blocks_is_refused_with_the_nearest(depth: int, nearest: int) -> None:
    with pytest.raises(RequestError, match=r"6n \+ 4") as caught:
        WideResNet.read({"depth": depth}, "model wide_resnet")
    message = str(caught.value)
    assert f"depth = {depth}" in message
    assert f"nearest is {nearest}" in message
    assert "\n" not in message


@pytest.mark.parametrize("depth", [4, 39])
def test_the_plain_function_refuses_a_bad_depth_as_a_mistake_in_the_request(depth: int) -> None:
    with pytest.raises(RequestError, match=rf"6n \+ 4.*{depth}"):
        wide_resnet(depth=depth)


@pytest.mark.parametrize(
    "values", [{"depth": 4}, {"width": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"droput": 0.3}], ids=repr
)
def test_settings_out_of_range_are_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(values))):
        WideResNet.read(values, "model wide_resnet")


def test_other_sizes_of_pictures_are_taken() -> None:
    network = _seeded(WideResNet(depth=10, width=1), num_classes=3).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 64, 48)).shape == (2, 3)
