"""CIFAR ResNets: size by hand, function by a second implementation, and a trained file of other people's."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.errors import RequestError
from pixmix_ray.models import CifarResNet, fit_weights, read_weights

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def _by_hand(depth: int, num_classes: int) -> int:
    """3x3 convolutions without bias, two numbers a channel of BatchNorm, a linear head, and nothing for shortcuts."""
    per_stage = (depth - 2) // 3
    total, planes = 3 * 16 * 9 + 2 * 16, 16
    for width in (16, 32, 64):
        for _ in range(per_stage):
            total, planes = total + planes * width * 9 + 2 * width, width
    return total + 64 * num_classes + num_classes


def test_resnet_20_has_the_number_of_parameters_of_the_widely_shared_implementation() -> None:
    assert sum(parameter.numel() for parameter in CifarResNet().build(10).parameters()) == 269_722


# the published table gives 0.46, 0.66, 0.85 and 1.7 million
@pytest.mark.parametrize(("depth", "millions", "digits"), [(32, 0.46, 2), (44, 0.66, 2), (56, 0.85, 2), (110, 1.7, 1)])
def test_deeper_ones_have_the_published_size(depth: int, millions: float, digits: int) -> None:
    count = sum(parameter.numel() for parameter in CifarResNet(depth=depth).build(10).parameters())
    assert count == _by_hand(depth, 10)
    assert round(count / 1e6, digits) == millions


def test_the_name_in_results_holds_the_depth() -> None:
    assert [CifarResNet(depth=depth).label() for depth in (20, 56)] == ["resnet_20", "resnet_56"]


def _reference(state: dict[str, Tensor], images: Tensor, depth: int) -> Tensor:
    """The logits in evaluation mode after He et al., shortcuts of option A, from bare tensors and functions."""

    def convolved(features: Tensor, block: str, number: str, stride: int = 1) -> Tensor:
        name = f"{block}bn{number}"
        out = F.conv2d(features, state[f"{block}conv{number}.weight"], stride=stride, padding=1)
        centred = out - state[f"{name}.running_mean"].view(1, -1, 1, 1)
        scaled = centred / (state[f"{name}.running_var"] + 1e-5).sqrt().view(1, -1, 1, 1)
        return scaled * state[f"{name}.weight"].view(1, -1, 1, 1) + state[f"{name}.bias"].view(1, -1, 1, 1)

    features = F.relu(convolved((images - MEAN.view(1, 3, 1, 1)) / STD.view(1, 3, 1, 1), "", "1"))
    for stage in (1, 2, 3):
        for number in range((depth - 2) // 6):
            block, is_change = f"layer{stage}.{number}.", stage > 1 and number == 0
            shortcut = features
            if is_change:  # option A: every second pixel, and as many zero channels before as after
                every_second = features[:, :, 0::2, 0::2]
                zeros = torch.zeros(len(images), every_second.shape[1] // 2, *every_second.shape[2:])
                shortcut = torch.cat([zeros, every_second, zeros], dim=1)
            inner = F.relu(convolved(features, block, "1", 2 if is_change else 1))
            features = F.relu(convolved(inner, block, "2") + shortcut)
    pooled = F.adaptive_avg_pool2d(features, 1).flatten(1)
    return F.linear(pooled, state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize("depth", [8, 20])
def test_logits_are_those_of_a_second_implementation(depth: int) -> None:
    network = CifarResNet(depth=depth).build(10)
    generator = torch.Generator().manual_seed(5)
    for name, tensor in network.state_dict().items():  # fresh BatchNorm is the identity and would hide a wrong one
        if "bn" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    images = torch.rand(3, 3, 32, 32, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(
            network.eval()(images), _reference(network.state_dict(), images, depth), rtol=1e-4, atol=1e-4
        )


def test_the_picture_of_mean_colour_is_zero_to_the_first_convolution() -> None:
    network = CifarResNet().build(10).eval()
    seen: list[Tensor] = []
    stem = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    grey = MEAN.view(1, 3, 1, 1).expand(2, 3, 32, 32)
    with torch.no_grad():
        network(grey)
        network(grey + STD.view(1, 3, 1, 1))
    torch.testing.assert_close(seen[0], torch.zeros(2, 3, 32, 32), rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[1], torch.ones(2, 3, 32, 32), rtol=0, atol=1e-6)


def test_names_are_those_of_the_widely_shared_weights_and_nothing_more() -> None:
    names = set(CifarResNet().build(10).state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.conv1.weight", "layer3.2.bn2.bias", "linear.bias"} <= names
    assert not [name for name in names if "normalise" in name or "shortcut" in name]


@pytest.mark.parametrize("depth", [18, 21, 40])
def test_a_depth_that_is_no_whole_number_of_blocks_is_refused(depth: int) -> None:
    with pytest.raises(RequestError, match=rf"6n \+ 2 .*{depth}"):
        CifarResNet.read({"depth": depth}, "model cifar_resnet")


def _first_test_pictures(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first pictures and labels of CIFAR-10's test set, from the first sheet of 50x50 pictures."""
    with zipfile.ZipFile(DATA / "cifar10" / "cifar10_test_webp_sheets.zip") as archive:
        names = sorted(archive.namelist())
        labels = np.load(io.BytesIO(archive.read(next(n for n in names if n.endswith(".npy")))), allow_pickle=False)
        sheet = np.asarray(
            Image.open(io.BytesIO(archive.read(next(n for n in names if n.endswith(".webp"))))).convert("RGB")
        )
    rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
    images = sheet.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    return images[:count], labels[:count].astype(np.int64)


@pytest.mark.filterwarnings("ignore:.* without the prefix 'module.")
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the folder `shared` beside the repository")
def test_a_trained_file_of_other_people_loads_and_errs_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    load = torch.load

    def watched(*args: object, **kwargs: object) -> object:
        modes.append(kwargs.get("weights_only"))
        return load(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(torch, "load", watched)
    file = DATA / "cifar10_resnet20.th"
    network = CifarResNet().build(10)
    fit_weights(network, read_weights(file), str(file))
    assert modes == [True]  # never unpickled unrestricted
    images, labels = _first_test_pictures(500)
    shown = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        predicted = torch.cat([network.eval()(part).argmax(dim=1) for part in torch.split(shown, 100)])
    error = float((predicted != torch.from_numpy(labels)).float().mean())
    assert 0.05 < error < 0.12  # published 8.27 % of 10,000; 500 pictures have a standard error of 1.2 %
