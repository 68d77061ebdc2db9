"""Reading weights: every layout people use, and no file, however broken or hostile, that does more than fail."""

import argparse
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from pixmix_ray.errors import CheckpointError
from pixmix_ray.models import CifarResNet, WideResNet, fit_weights, parse_weights, read_weights


def _network(width: int = 1, num_classes: int = 10, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(depth=10, width=width).build(num_classes)


def _are_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _torch_file(content: object, *, is_zip: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def _one_line(caught: pytest.ExceptionInfo[CheckpointError]) -> str:
    message = str(caught.value)
    assert message.isprintable()  # no second line, and none of torch's escape codes for bold
    return message


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best_acc": 91.7},
    "model": lambda state: {"model": state},
    "net": lambda state: {"net": state, "acc": 0.9},
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "DataParallel in state_dict": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
}


@pytest.mark.filterwarnings("ignore:.* without the prefix")
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "classic"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_torch_files_of_every_usual_layout_give_the_same_weights(tmp_path: Path, wrapper: str, is_zip: bool) -> None:
    state = _network().state_dict()
    file = tmp_path / "model.pth"
    file.write_bytes(_torch_file(WRAPPERS[wrapper](state), is_zip=is_zip))
    assert _are_equal(read_weights(file), state)


def test_safetensors_files_give_the_weights_and_those_fit_a_fresh_network(tmp_path: Path) -> None:
    trained, fresh = _network(seed=1), _network(seed=2)
    file = tmp_path / "model.safetensors"
    file.write_bytes(save(trained.state_dict()))
    fit_weights(fresh, read_weights(file), str(file))
    assert _are_equal(fresh.state_dict(), trained.state_dict())


def test_a_name_that_only_contains_module_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(_torch_file({"module.inner.module.weight": torch.ones(1), "a.module.b": torch.ones(1)}))
    assert set(read_weights(file)) == {"module.inner.module.weight", "a.module.b"}


class _Command:
    """Unpickled without restriction, this runs a shell command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


HOSTILE: dict[str, Callable[[object], bytes]] = {
    "zip": lambda command: _torch_file(command),
    "classic": lambda command: _torch_file(command, is_zip=False),
    "beside tensors": lambda command: _torch_file({"state_dict": {"weight": torch.ones(2)}, "extra": command}),
    "bare pickle": lambda command: pickle.dumps(command, protocol=2),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("suffix", [".pt", ".th", ".safetensors"])
def test_a_file_that_holds_a_command_is_refused_and_nothing_runs(tmp_path: Path, kind: str, suffix: str) -> None:
    marker, file = tmp_path / "ran", tmp_path / f"model{suffix}"
    file.write_bytes(HOSTILE[kind](_Command(marker)))
    with pytest.raises(CheckpointError) as caught:
        read_weights(file)
    message = _one_line(caught)
    assert str(file) in message
    assert "`weights_only` set to `False`" not in message  # torch's advice: not ours
    assert not marker.exists()


def test_the_hostile_file_of_these_tests_would_run_where_nothing_guards(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(HOSTILE["bare pickle"](_Command(marker)))
    assert marker.exists()


def test_settings_objects_beside_the_weights_are_not_unpickled(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(_torch_file({"state_dict": {}, "args": argparse.Namespace(lr=0.1)}))
    with pytest.raises(CheckpointError, match="tensors") as caught:
        read_weights(file)
    message = _one_line(caught)
    assert str(file) in message
    assert "you have two options" not in message  # torch's way out is to load without the guard: not ours


@pytest.mark.parametrize(
    "content", [[torch.ones(2)], {"weight": [1.0, 2.0]}, torch.ones(3), 7, {"state_dict": {"a": "b"}}], ids=repr
)
def test_a_torch_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(_torch_file(content))
    with pytest.raises(CheckpointError, match="no state_dict") as caught:
        read_weights(file)
    assert str(file) in _one_line(caught)


def _zip_of_something_else() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    return buffer.getvalue()


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x00",
    "text": b"<!DOCTYPE html><html>404</html>",
    "zeros": bytes(512),
    "noise": np.random.Generator(np.random.Philox(key=3)).bytes(4096),
    "end of pickle": b".",
    "another zip": _zip_of_something_else(),
    "another pickle": pickle.dumps({"lr": 0.1}, protocol=2),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_refused_by_name_in_one_line(tmp_path: Path, kind: str, suffix: str) -> None:
    file = tmp_path / f"model{suffix}"
    file.write_bytes(BROKEN[kind])
    with pytest.raises(CheckpointError) as caught:
        read_weights(file)
    assert str(file) in _one_line(caught)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "classic"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    state = {"layer.weight": torch.arange(12.0).view(3, 4), "layer.bias": torch.ones(4), "steps": torch.tensor(5)}
    whole = save(state) if kind == "safetensors" else _torch_file(state, is_zip=kind == "zip")
    file = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.th")
    file.write_bytes(whole)
    assert _are_equal(read_weights(file), state)
    for length in sorted({*range(0, len(whole), 7), len(whole) - 1}):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as caught:
            read_weights(file)
        assert str(file) in _one_line(caught)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "classic"])
def test_a_file_with_one_damaged_byte_loads_or_is_refused(tmp_path: Path, is_zip: bool) -> None:
    whole = _torch_file({"layer.weight": torch.arange(12.0).view(3, 4), "steps": torch.tensor(5)}, is_zip=is_zip)
    file = tmp_path / "model.th"
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= (0x01, 0x80, 0xFF)[place % 3]
        file.write_bytes(damaged)
        try:
            read_weights(file)
        except CheckpointError:  # and nothing else
            refused += 1
    assert refused > 0


def test_bytes_that_are_cut_off_are_refused_under_the_name_they_are_given() -> None:
    content = save({"weight": torch.ones(8)})
    assert torch.equal(parse_weights(content, "here")["weight"], torch.ones(8))
    with pytest.raises(CheckpointError, match="trials/a/model"):
        parse_weights(content[:-1], "trials/a/model")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pt.*safetensors"):
        read_weights(tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError):
        read_weights(tmp_path)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_weights_of_another_width_are_refused_with_the_tensor_and_both_shapes() -> None:
    network = _network(width=1, seed=1)
    before = _copy(network)
    with pytest.raises(CheckpointError) as caught:
        fit_weights(network, _network(width=2).state_dict(), "model.pt")
    message = _one_line(caught)
    # by hand: the stem is the same for all widths, the first block widens 16 channels to 32
    assert "model.pt" in message
    assert "'blocks.0.conv1.weight'" in message
    assert "(32, 16, 3, 3)" in message
    assert "(16, 16, 3, 3)" in message
    assert _are_equal(network.state_dict(), before)


def test_weights_for_other_classes_are_refused_with_the_tensor_and_both_shapes() -> None:
    with pytest.raises(CheckpointError, match=r"'head.weight' is \(100, 64\).*\(10, 64\)"):
        fit_weights(_network(), _network(num_classes=100).state_dict(), "model.pt")


def test_weights_of_another_architecture_are_refused_with_the_missing_tensor() -> None:
    network = _network()
    before = _copy(network)
    with pytest.raises(CheckpointError, match=r"lacks 'stem.weight' \(16, 3, 3, 3\)"):
        fit_weights(network, CifarResNet().build(10).state_dict(), "model.pt")
    assert _are_equal(network.state_dict(), before)


def test_a_tensor_too_many_is_refused_by_name() -> None:
    network = _network()
    with pytest.raises(CheckpointError, match=r"'ema\.weight'"):
        fit_weights(network, {**network.state_dict(), "ema.weight": torch.ones(1)}, "model.pt")


def test_files_from_before_step_counters_fit() -> None:
    trained, fresh = _network(seed=1), _network(seed=2)
    old = {name: tensor for name, tensor in trained.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = dict(old)
    fit_weights(fresh, given, "old.th")
    assert _are_equal({name: fresh.state_dict()[name] for name in old}, old)
    assert given.keys() == old.keys()
