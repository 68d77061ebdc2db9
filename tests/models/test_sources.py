"""Networks of other libraries and formats: whatever they come from, our logits are theirs, and what is wrong is told.

Expected logits are those of the other library's own network on pictures that were resized and normalised by hand.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from pixmix_ray.errors import CheckpointError, PixmixRayError, RequestError, WorkError
from pixmix_ray.models import MODELS, Model

IMAGES = torch.rand((5, 3, 32, 32), generator=torch.Generator().manual_seed(4))
CLASSES = 4
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


class Tiny(nn.Module):
    """A network of somebody's."""

    def __init__(self, outputs: int = CLASSES) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.head(F.relu(self.conv(images)).mean((2, 3)))  # type: ignore[no-any-return]  # torch types modules as Any


def tiny() -> nn.Module:
    torch.manual_seed(5)
    return Tiny().eval()


def saved(network: nn.Module, file: Path) -> Path:
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in network.state_dict().items()}}, file)
    return file


def of_timm(folder: Path) -> tuple[dict[str, Any], nn.Module, Path]:
    timm = pytest.importorskip("timm")
    network = timm.create_model("test_resnet", num_classes=CLASSES).eval()
    file = folder / "weights.safetensors"
    save_file(network.state_dict(), file)
    return {"name": "timm", "arch": "test_resnet", **HALF}, network, file


def of_torchvision(folder: Path) -> tuple[dict[str, Any], nn.Module, Path]:
    import torchvision

    network = torchvision.models.get_model("squeezenet1_1", weights=None, num_classes=CLASSES).eval()
    return {"name": "torchvision_model", "arch": "squeezenet1_1", **HALF}, network, saved(network, folder / "w.pth")


def of_transformers(folder: Path) -> tuple[dict[str, Any], nn.Module, Path]:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    network = transformers.ResNetForImageClassification(config).eval()
    network.save_pretrained(folder / "hf")
    processor = {"do_normalize": True, "image_mean": HALF["mean"], "image_std": HALF["std"], "do_resize": False}
    (folder / "hf" / "preprocessor_config.json").write_text(json.dumps(processor))
    return {"name": "transformers"}, network, folder / "hf"


def of_function(folder: Path) -> tuple[dict[str, Any], nn.Module, Path]:
    network = tiny()
    return {"name": "tests.models.my_nets:build", "outputs": CLASSES, **HALF}, network, saved(network, folder / "w.pt")


def of_torchscript(folder: Path) -> tuple[dict[str, Any], nn.Module, Path]:
    network = tiny()
    torch.jit.save(torch.jit.trace(network, IMAGES), folder / "net.pt")  # type: ignore[no-untyped-call]
    return {"name": "torchscript", **HALF}, network, folder / "net.pt"


def of_exported(folder: Path) -> tuple[dict[str, Any], nn.Module, Path]:
    network = tiny()
    torch.export.save(torch.export.export(network, (IMAGES[:2],)), folder / "net.pt2")  # a batch of two alone
    return {"name": "exported", **HALF}, network, folder / "net.pt2"


def of_onnx(folder: Path) -> tuple[dict[str, Any], nn.Module, Path]:
    """The graph is written by hand, with ONNX's own functions: torch's exporter would need another package."""
    onnx, network = pytest.importorskip("onnx"), tiny()
    pytest.importorskip("onnxruntime")
    helper, values = onnx.helper, {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    nodes = [
        helper.make_node("Conv", ["images", "conv.weight", "conv.bias"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", floats, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", floats, ["n", CLASSES])],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "net.onnx")
    return {"name": "onnx", **HALF}, network, folder / "net.onnx"


def of_robustbench(folder: Path) -> tuple[dict[str, Any], nn.Module, Path]:
    return {"name": "robustbench", "arch": "Tiny", **HALF}, tiny(), saved(tiny(), folder / "Tiny.pt")


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """RobustBench's two modules in the form of its 1.1.1: a table by data set, threat model and name; and a loader."""
    names = {
        "Tiny": {"model": Tiny, "gdrive_id": "0"},
        "Several": {"model": lambda: [Tiny(), Tiny()], "gdrive_id": ["0", "1"]},
        "Others": {"model": Tiny, "gdrive_id": None},
    }
    dicts = {_Key("cifar10"): {_Key("Linf"): names}}

    def load_model(name: str, model_dir: Path, dataset: str, threat_model: str) -> nn.Module:
        file = model_dir / dataset / threat_model / f"{name}.pt"
        if not file.is_file():
            raise OSError("no network")
        network = Tiny()
        weights = torch.load(file, map_location="cpu")["state_dict"]
        network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in weights.items()})
        return network.eval()

    modules: dict[str, dict[str, object]] = {
        "": {},
        ".model_zoo": {"model_dicts": dicts},
        ".utils": {"load_model": load_model},
    }
    for module, values in modules.items():
        made = ModuleType(f"robustbench{module}")
        vars(made).update(values)
        monkeypatch.setitem(sys.modules, f"robustbench{module}", made)


class _Key:
    """As a member of an Enum, with its value."""

    def __init__(self, value: str) -> None:
        self.value = value


SOURCES: dict[str, Callable[[Path], tuple[dict[str, Any], nn.Module, Path]]] = {
    "timm": of_timm,
    "torchvision_model": of_torchvision,
    "transformers": of_transformers,
    "function": of_function,
    "torchscript": of_torchscript,
    "exported": of_exported,
    "onnx": of_onnx,
    "robustbench": of_robustbench,
}
pytestmark = [
    pytest.mark.usefixtures("zoo"),
    pytest.mark.filterwarnings("ignore:.*without the prefix"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
]


def opened(spec: dict[str, Any], weights: Path, outputs: int | None = CLASSES) -> tuple[Model, nn.Module]:
    settings, file = MODELS.read(spec).settings.with_weights(weights)
    return settings, settings.opened(file, outputs).eval()


@pytest.mark.parametrize("source", SOURCES)
def test_the_logits_are_those_of_the_other_library(source: str, tmp_path: Path) -> None:
    spec, network, weights = SOURCES[source](tmp_path)
    settings, ours = opened(spec, weights)
    with torch.no_grad():
        expected = network((IMAGES - 0.5) / 0.5)
        expected = getattr(expected, "logits", expected)
        assert torch.allclose(ours(IMAGES), expected, atol=1e-5)
        assert torch.allclose(ours.eval()(IMAGES[:1]), expected[:1], atol=1e-5)
    assert settings.content(weights) == settings.content(weights)
    assert settings.summary and settings.label()
    if settings.has_gradients:
        images = IMAGES[:2].clone().requires_grad_()
        ours(images).sum().backward()
        assert images.grad is not None and bool(images.grad.any())


@pytest.mark.parametrize("source", SOURCES)
def test_pictures_are_resized_where_the_network_wants_another_size(source: str, tmp_path: Path) -> None:
    spec, network, weights = SOURCES[source](tmp_path)
    _, ours = opened({**spec, "input_size": 32}, weights)
    large = torch.rand((2, 3, 48, 48), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        small = F.interpolate(large, (32, 32), mode="bilinear", antialias=True)
        expected = network((small - 0.5) / 0.5)
        assert torch.allclose(ours(large), getattr(expected, "logits", expected), atol=1e-5)


TRAINED = ("timm", "torchvision_model", "transformers", "function")


@pytest.mark.parametrize("source", TRAINED)
def test_what_is_trained_here_is_read_as_weights_too(source: str, tmp_path: Path) -> None:
    spec, _, weights = SOURCES[source](tmp_path)
    settings, _ = MODELS.read(spec).settings.with_weights(weights)
    network = settings.build(CLASSES).eval()
    folder = tmp_path / "ours"
    folder.mkdir()
    if source == "transformers":
        return  # its folders are transformers' own
    save_file(network.state_dict(), folder / "model.safetensors")
    _, again = opened(spec, folder / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(network(IMAGES), again(IMAGES))


@pytest.mark.parametrize("source", [name for name in SOURCES if name not in TRAINED and name != "robustbench"])
def test_what_is_a_file_alone_cannot_be_trained(source: str) -> None:
    with pytest.raises(RequestError, match="can only be evaluated: list it under checkpoints"):
        MODELS.read(source).settings.build(CLASSES)


@pytest.mark.parametrize("source", TRAINED)
def test_the_number_of_outputs_is_read_from_the_weights(source: str, tmp_path: Path) -> None:
    spec, _, weights = SOURCES[source](tmp_path)
    if source == "function":
        spec = {key: value for key, value in spec.items() if key != "outputs"}
    _, network = opened(spec, weights, None)
    assert network(IMAGES).shape == (len(IMAGES), CLASSES)


@pytest.mark.parametrize("source", TRAINED)
def test_weights_of_other_classes_are_refused_in_one_line(source: str, tmp_path: Path) -> None:
    spec, _, weights = SOURCES[source](tmp_path)
    if source == "function":
        spec = {**spec, "outputs": 7}
    with pytest.raises(CheckpointError, match="it has 4 outputs, and there are 7 classes") as caught:
        opened(spec, weights, 7)
    assert "\n" not in str(caught.value)


PACKAGES = {"timm": "timm", "transformers": "transformers", "onnx": "onnxruntime", "robustbench": "robustbench"}


@pytest.mark.parametrize("source", PACKAGES)
def test_a_package_that_is_not_there_is_one_line_with_the_way_out(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _, weights = SOURCES[source](tmp_path)
    package = PACKAGES[source]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Absent(package), *sys.meta_path])
    with pytest.raises(RequestError, match=f"needs the package {package}, which is not installed: pip") as caught:
        opened(spec, weights)
    assert "\n" not in str(caught.value)


class _Absent:
    """A finder that says of one package that it is not installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == self._package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "timm arch": ({"name": "timm", "arch": "resnt50"}, "unknown arch 'resnt50', did you mean 'resnet50'"),
    "timm tag": ({"name": "timm", "arch": "resnet50.a9_in1k"}, "unknown arch 'resnet50.a9_in1k', did you mean"),
    "robustbench arch": ({"name": "robustbench", "arch": "Tny"}, "unknown arch 'Tny', did you mean 'Tiny'"),
    "ensemble": ({"name": "robustbench", "arch": "Several"}, "is an ensemble"),
    "of timm": ({"name": "robustbench", "arch": "Others"}, "no file of Others, whose weights come with timm"),
    "no such parameter": ({"name": "tests.models.my_nets:build", "depth": 3}, "has no parameter 'depth': it has"),
    "no module": ({"name": "tests.models.my_nets:nothing"}, "returns a dict: it must return a torch.nn.Module"),
    "no safetensors": ({"name": "transformers"}, "is not a whole safetensors file"),
    "no such function": ({"name": "tests.models.my_nets:absent"}, "cannot import 'tests.models.my_nets:absent'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    spec, message = WRONG[case]
    if spec["name"] == "timm":
        pytest.importorskip("timm")
    weights = saved(tiny(), tmp_path / "w.pth")
    with pytest.raises(PixmixRayError, match=message) as caught:
        opened(spec, weights)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("source", ["torchscript", "exported", "onnx"])
@pytest.mark.parametrize("content", [b"", b"nothing of that kind", b"PK\x03\x04"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_of_another_kind_is_refused_by_name(source: str, content: bytes, tmp_path: Path) -> None:
    if source == "onnx":
        pytest.importorskip("onnxruntime")
    file = tmp_path / "net"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(file)) as caught:
        opened({"name": source}, file)
    assert "\n" not in str(caught.value)


def test_a_networks_dictionary_or_number_is_no_logits(tmp_path: Path) -> None:
    network = MODELS.read("tests.models.my_nets:tuple_of_logits").settings.build(CLASSES)
    with pytest.raises(WorkError, match="returns a tuple: it must return logits"):
        network(IMAGES)


def test_published_weights_are_taken_where_the_library_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    import huggingface_hub

    _, _, weights = of_timm(tmp_path)
    asked = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        return str(weights)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    settings, file = MODELS.read({"name": "timm", "arch": "test_resnet.r160_in1k"}).settings.with_weights(None)
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors")] and file == weights
    assert settings.model_dump()["input_size"] == 160  # what timm says that they were trained with
    for name in ("torchscript", "function", "transformers"):
        other = {"name": name, "function": "tests.models.my_nets:build"} if name == "function" else name
        with pytest.raises(RequestError, match=r"give weights in place of pretrained|give the folder as weights"):
            MODELS.read(other).settings.with_weights(None)


def test_torchvisions_published_weights_come_with_their_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = MODELS.read({"name": "torchvision_model", "arch": "vit_b_16", "mean": [0, 0, 0]}).settings

    def download(url: str, file: str, **_: object) -> None:
        assert url.startswith("https://download.pytorch.org/models/vit_b_16")
        Path(file).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    settings, file = model.with_weights(None)
    assert file.read_bytes() == b"weights" and file.is_relative_to(tmp_path)
    assert settings.model_dump()["input_size"] == 224 and settings.model_dump()["mean"] == (0.485, 0.456, 0.406)

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    file.unlink()
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(
        RequestError, match=r"cannot be downloaded \(no network\): fetch it on a machine with a network"
    ):
        model.with_weights(None)


def test_normalisation_and_a_fixed_size_are_timms_own() -> None:
    pytest.importorskip("timm")
    vit = MODELS.read({"name": "timm", "arch": "vit_tiny_patch16_224"}).settings.model_dump()
    assert (vit["mean"], vit["std"], vit["input_size"]) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 224)
    resnet = MODELS.read({"name": "timm", "arch": "resnet18"}).settings.model_dump()
    assert (resnet["mean"], resnet["input_size"]) == ((0.485, 0.456, 0.406), None)


PROCESSORS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vit": (
        {"do_resize": True, "size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": 224},
    ),
    "shortest edge": (
        {"do_resize": True, "size": {"shortest_edge": 160}, "do_normalize": False},
        {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "input_size": 160},
    ),
    "crop": (
        {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
        {"mean": (0.0, 0.0, 0.0), "input_size": 224},
    ),
    "older": (
        {"size": 96, "image_mean": [0.4] * 3, "image_std": [0.2] * 3},
        {"mean": (0.4, 0.4, 0.4), "input_size": 96},
    ),
    "0 to 255": (
        {"do_rescale": False, "do_resize": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": None},
    ),
    "none": ({}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "input_size": None}),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_a_folders_preprocessor_decides_the_input_and_settings_come_on_top(case: str, tmp_path: Path) -> None:
    values, expected = PROCESSORS[case]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    settings, _ = MODELS.read("transformers").settings.with_weights(tmp_path)
    found = settings.model_dump()
    for key, value in expected.items():
        assert found[key] == (value if value is None else pytest.approx(value))
    own, _ = MODELS.read({"name": "transformers", "input_size": 31}).settings.with_weights(tmp_path)
    assert own.model_dump()["input_size"] == 31
    assert own.identity() != settings.identity() and "config" in settings.identity()


def test_two_functions_of_a_name_differ_by_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    identities = []
    for name, width in (("nets_one", 4), ("nets_two", 5)):
        code = f"from torch import nn\n\n\ndef build(num_classes):\n    return nn.Conv2d(3, {width}, 1)\n"
        (tmp_path / f"{name}.py").write_text(code)
        part = MODELS.read(f"{name}:build")
        assert (part.name, part.settings.label()) == (f"{name}:build", "build")
        assert MODELS.read(part.dump()).identity() == part.identity()
        identities.append(part.identity())
    assert identities[0]["source"] != identities[1]["source"]
    assert {one["function"] for one in identities} == {"build"}
