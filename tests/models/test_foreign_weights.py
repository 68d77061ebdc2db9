"""Checkpoints as other people's code saves them: what fits is read and said, what does not is named with a way out."""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pixmix_ray.errors import CheckpointError
from pixmix_ray.models import Model, TorchvisionModel, Weights, WideResNet, fit_weights, read_weights
from pixmix_ray.models.cifar_resnet import CifarResNet
from pixmix_ray.models.weights import WeightsWarning

pytestmark = pytest.mark.filterwarnings("ignore:.* without the prefix 'module.")
SMALL = CifarResNet(depth=8)
PICTURES = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def weights() -> Weights:
    torch.manual_seed(3)
    return {name: torch.rand_like(tensor.float()) if tensor.ndim else tensor for name, tensor in _state().items()}


def _state() -> Weights:
    return SMALL.build(4).state_dict()


def _prefixed(prefix: str) -> Callable[[Weights], object]:
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def _zeros(weights: Weights) -> Weights:
    return {name: torch.zeros_like(tensor) for name, tensor in weights.items()}


FILES: dict[str, tuple[Callable[[Weights], object], str | None]] = {
    "plain": (lambda w: w, None),
    "DataParallel": (_prefixed("module."), "without the prefix 'module.'"),
    "torch.compile": (_prefixed("_orig_mod."), "without the prefix '_orig_mod.'"),
    "both": (_prefixed("module._orig_mod."), "without the prefix 'module._orig_mod.'"),
    "both the other way": (_prefixed("_orig_mod.module."), "without the prefix '_orig_mod.module.'"),
    "twice": (_prefixed("module.module."), "without the prefix 'module.module.'"),
    "Lightning": (lambda w: {"state_dict": _prefixed("model.")(w), "epoch": 3}, "without the prefix 'model.'"),
    "wrapped": (_prefixed("module.net."), "without the prefix 'net.'"),
    "model_state_dict": (lambda w: {"model_state_dict": w, "epoch": 3}, None),
    "network": (lambda w: {"epoch": 3, "network": w}, None),
    "a name of its own": (lambda w: {"epoch": 3, "student": w}, None),
    "average beside": (lambda w: {"model": w, "ema": _zeros(w)}, "model was taken, not ema"),
    "average as timm has it": (
        lambda w: {"state_dict": w, "state_dict_ema": _zeros(w)},
        "state_dict was taken, not state_dict_ema",
    ),
    "numbers of NumPy beside": (
        lambda w: {"state_dict": w, "best_acc": np.float64(0.9), "epoch": np.int64(3), "losses": np.zeros(3)},
        None,
    ),
    "counters converted too": (lambda w: {name: one if one.ndim else one.half() for name, one in w.items()}, None),
    "average alone": (
        lambda w: {"n_averaged": torch.tensor(3), **{f"module.{name}": one for name, one in w.items()}},
        "without the prefix 'module.'",
    ),
    "last layer called fc": (
        lambda w: {name.replace("linear.", "fc."): tensor for name, tensor in w.items()},
        "with the names of other code",
    ),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("is_safetensors", [False, True])
def test_files_of_other_code_are_read_and_what_was_done_is_said(
    case: str, is_safetensors: bool, weights: Weights, tmp_path: Path
) -> None:
    change, said = FILES[case]
    content = change(weights)
    file = tmp_path / ("w.safetensors" if is_safetensors else "w.pt")
    if not is_safetensors:
        torch.save(content, file)
    elif not all(isinstance(value, Tensor) for value in dict(content).values()):  # type: ignore[call-overload]
        pytest.skip("a safetensors file holds no mappings")
    else:
        save_file({name: tensor.clone() for name, tensor in dict(content).items()}, file)  # type: ignore[call-overload]
    network = SMALL.build(4)
    if said is None:
        fit_weights(network, read_weights(file), "w")
    else:
        with pytest.warns(WeightsWarning, match=said):
            fit_weights(network, read_weights(file), "w")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


class _OfficialWideResNet(nn.Module):
    """The names of the official code of PixMix, AugMix and Outlier Exposure for WRN-16-2, in order of its modules."""

    NAMES = (
        "conv1.weight block1.layer.0.bn1.weight block1.layer.0.conv1.weight block1.layer.0.bn2.weight "
        "block1.layer.0.conv2.weight block1.layer.0.convShortcut.weight block1.layer.1.bn1.bias "
        "block2.layer.0.convShortcut.weight block2.layer.1.bn2.running_mean block3.layer.1.conv2.weight bn1.weight "
        "bn1.num_batches_tracked fc.weight fc.bias"
    )
    OURS = (
        "stem.weight blocks.0.bn1.weight blocks.0.conv1.weight blocks.0.bn2.weight "
        "blocks.0.conv2.weight blocks.0.shortcut.weight blocks.1.bn1.bias "
        "blocks.2.shortcut.weight blocks.3.bn2.running_mean blocks.5.conv2.weight bn.weight "
        "bn.num_batches_tracked head.weight head.bias"
    )


def test_official_wide_resnets_have_other_names_for_the_same_parts() -> None:
    network = WideResNet(depth=16, width=2).build(10)
    renamed = [network.own_name(name) for name in _OfficialWideResNet.NAMES.split()]  # type: ignore[operator]
    assert renamed == _OfficialWideResNet.OURS.split()
    assert set(renamed) <= set(network.state_dict())


def test_a_checkpoint_of_the_official_code_gives_the_same_logits(tmp_path: Path) -> None:
    settings = WideResNet(depth=10, width=1)
    own = settings.build(10).eval()
    theirs = {}
    for name, tensor in own.state_dict().items():
        found = re.sub(r"^blocks\.(\d)\.", lambda match: f"block{int(match[1]) + 1}.layer.0.", name)
        found = found.replace("shortcut", "convShortcut")
        found = re.sub("^(stem|bn|head)[.]", lambda m: {"stem": "conv1.", "bn": "bn1.", "head": "fc."}[m[1]], found)
        theirs[f"module.{found}"] = tensor
    torch.save({"epoch": 99, "state_dict": theirs, "best_acc": 0.95}, tmp_path / "checkpoint.pth.tar")
    other = settings.build(10).eval()
    with pytest.warns(WeightsWarning, match="with the names of other code for the same network"):
        fit_weights(other, read_weights(tmp_path / "checkpoint.pth.tar"), "checkpoint")
    assert torch.equal(own(PICTURES), other(PICTURES))


TYPES: dict[str, tuple[torch.dtype, bool]] = {
    "bfloat16": (torch.bfloat16, True),
    "float16": (torch.float16, True),
    "float64": (torch.float64, True),
    "int8": (torch.int8, False),
    "uint8": (torch.uint8, False),
    "bool": (torch.bool, False),
    "complex64": (torch.complex64, False),
}


@pytest.mark.parametrize("case", TYPES)
def test_weights_that_are_no_floating_point_are_refused(case: str, weights: Weights) -> None:
    kind, is_taken = TYPES[case]
    found = {name: tensor.to(kind) if tensor.ndim == 4 else tensor for name, tensor in weights.items()}
    network = SMALL.build(4)
    if is_taken:
        fit_weights(network, found, "w")
        assert torch.allclose(network.state_dict()["conv1.weight"], weights["conv1.weight"], atol=4e-3)
        return
    with pytest.raises(CheckpointError, match=rf"'conv1.weight' is {case}, .*: save the network in floating point"):
        fit_weights(network, found, "w")


def _zip(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


NO_WEIGHTS: dict[str, tuple[bytes, str]] = {
    "gzip": (b"\x1f\x8b\x08" + bytes(300), "is a gzip archive: unpack it, and give the file of weights in it"),
    "tar": (b"w.pth".ljust(257, b"\0") + b"ustar\0" + bytes(300), "is a tar archive: unpack it"),
    "zip": (_zip("w.pth"), "is a zip archive: unpack it"),
    "program": (_zip("w/data.pkl", "w/constants.pkl"), "is a program of TorchScript .*: give it as model torchscript"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1102345\n", "run git lfs pull"),
    "page": (
        b"\n<!DOCTYPE html><html><head><title>Virus scan warning</title>",
        "is a web page and not a file of weights",
    ),
    "error page": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    "empty": (b"", "is empty: fetch it again"),
}


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_what_is_saved_in_place_of_weights_is_called_so(case: str, name: str, tmp_path: Path) -> None:
    content, message = NO_WEIGHTS[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
def test_what_a_file_is_is_told_by_its_content_and_not_by_its_name(name: str, weights: Weights, tmp_path: Path) -> None:
    for save in (torch.save, save_file):
        save(weights, tmp_path / name)
        assert all(torch.equal(tensor, weights[key]) for key, tensor in read_weights(tmp_path / name).items())


def test_the_error_names_the_nearest_match(weights: Weights) -> None:
    found = {name.replace("layer2.0.conv1", "layer2.0.convolution1"): tensor for name, tensor in weights.items()}
    near = r"it lacks 'layer2.0.conv1.weight' \(32, 16, 3, 3\), the nearest there is 'layer2.0.convolution1.weight'"
    with pytest.raises(CheckpointError, match=near):
        fit_weights(SMALL.build(4), found, "w")


MODELS: tuple[Model, ...] = (WideResNet(depth=10, width=1), SMALL, TorchvisionModel(arch="squeezenet1_1"))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_mean_and_std_are_settings_of_every_model_and_part_of_its_identity_where_set(model: Model) -> None:
    changed = type(model).read({**model.model_dump(), "mean": [0, 0, 0], "std": [1, 1, 1]}, "model")
    assert changed.identity() != model.identity()
    torch.manual_seed(0)
    plain = changed.build(4).eval()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.mean, model.std))  # type: ignore[attr-defined]
    torch.manual_seed(0)
    own = model.build(4).eval()
    assert torch.allclose(plain((PICTURES - mean) / std), own(PICTURES), atol=1e-5)
    assert not torch.allclose(plain(PICTURES), own(PICTURES), atol=1e-3)


def test_the_identity_of_a_model_with_its_own_normalisation_is_what_it_was() -> None:
    assert WideResNet().identity() == {"depth": 40, "width": 4, "dropout": 0.3}
    assert TorchvisionModel().identity() == {"arch": "resnet50", "weights": None}
    assert CifarResNet().identity() == {
        "depth": 20,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
