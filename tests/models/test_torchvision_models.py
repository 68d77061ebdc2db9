"""Torchvision's networks: the same weights and names, ImageNet's normalisation inside, and refusals in one line."""

import copy
from pathlib import Path

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.functional import normalize

from pixmix_ray.errors import CheckpointError, RequestError, UnknownNameError
from pixmix_ray.models import fit_weights
from pixmix_ray.models.torchvision_models import TorchvisionModel

ARCHS = ["resnet18", "resnet50", "alexnet"]


def _theirs(arch: str, num_classes: int = 1000) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network: nn.Module = torchvision.models.get_model(arch, weights=None, num_classes=num_classes)
    return network.eval()


def _images() -> torch.Tensor:
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("arch", ARCHS)
def test_torchvisions_weights_fit_by_name_and_give_its_logits_on_normalised_pictures(arch: str) -> None:
    theirs = _theirs(arch)
    ours = TorchvisionModel(arch=arch).build(1000).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    fit_weights(ours, theirs.state_dict(), "theirs")
    with torch.no_grad():
        expected = theirs(normalize(_images(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        torch.testing.assert_close(ours(_images()), expected, rtol=0, atol=0)
        torch.testing.assert_close(copy.deepcopy(ours)(_images()), expected, rtol=0, atol=0)


def test_the_number_of_classes_is_that_of_the_data() -> None:
    assert TorchvisionModel(arch="resnet18").build(7)(_images()).shape == (2, 7)


@pytest.mark.parametrize(
    ("arch", "head"), [("resnet18", "fc"), ("alexnet", "classifier.6"), ("squeezenet1_1", "classifier.1")]
)
def test_weights_of_another_number_of_classes_are_loaded_but_for_the_head(tmp_path: Path, arch: str, head: str) -> None:
    theirs = _theirs(arch, num_classes=4).state_dict()
    torch.save({"state_dict": theirs}, tmp_path / "a.pth")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        fresh = TorchvisionModel(arch=arch).build(7).state_dict()
        torch.manual_seed(5)
        with pytest.warns(match=f"was trained on 4 classes: its head, {head}, is replaced by a new one for 7"):
            started = TorchvisionModel(arch=arch, weights=tmp_path / "a.pth").build(7).state_dict()
    for name, tensor in started.items():
        wanted = fresh[name] if name.startswith(f"{head}.") else theirs[name]
        assert torch.equal(tensor, wanted), name


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_to_start_from_are_loaded_and_named_by_content(tmp_path: Path, suffix: str) -> None:
    theirs = _theirs("resnet18", num_classes=4)
    for name in ("a", "b"):
        file = tmp_path / f"{name}{suffix}"
        save_file(theirs.state_dict(), file) if suffix == ".safetensors" else torch.save(theirs.state_dict(), file)
    first, second = (TorchvisionModel(arch="resnet18", weights=tmp_path / f"{name}{suffix}") for name in ("a", "b"))
    for name, tensor in first.build(4).state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name])
    assert set(first.identity()) == {"arch", "weights"}
    if suffix == ".safetensors":  # torch writes the name of the file into it
        assert first.identity() == second.identity()
    assert first.identity() != TorchvisionModel(arch="resnet18").identity()


def test_weights_that_do_not_fit_are_named_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(_theirs("resnet18", num_classes=4).state_dict(), file)
    (tmp_path / "broken.pth").write_bytes(b"abc")
    for settings, num_classes, message in [
        (TorchvisionModel(arch="alexnet", weights=file), 4, "does not fit the model"),
        (TorchvisionModel(weights=tmp_path / "missing.pth"), 4, "no checkpoint file"),
        (TorchvisionModel(weights=tmp_path / "broken.pth"), 4, "broken.pth"),
    ]:
        with pytest.raises(CheckpointError, match=message) as caught:
            settings.build(num_classes)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        TorchvisionModel(weights=tmp_path / "missing.pth").identity()


@pytest.mark.parametrize("arch", ["resnet5", "inception_v3", "fcn_resnet50"])
def test_other_architectures_are_refused(arch: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown arch '{arch}'"):
        TorchvisionModel.read({"arch": arch}, "model torchvision_model")


def test_the_default_is_the_papers_resnet_50() -> None:
    assert TorchvisionModel().label() == "resnet50"
    parameters = sum(parameter.numel() for parameter in TorchvisionModel().build(1000).parameters())
    assert parameters == 25_557_032  # as torchvision documents it


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(RequestError, match="did you mean 'weights'"):
        TorchvisionModel.read({"weigths": "a"}, "model torchvision_model")
