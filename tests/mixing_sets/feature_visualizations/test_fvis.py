"""Feature visualizations as a mixing set: of whose network, of which channels, and what happens when it cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pixmix_ray.cache import read_manifest
from pixmix_ray.errors import CheckpointError, RequestError, UnknownNameError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.mixing_sets import MIXING_SETS, Pictures
from pixmix_ray.mixing_sets.base import entry_name
from pixmix_ray.mixing_sets.feature_visualizations.feature_visualization import activations
from pixmix_ray.mixing_sets.feature_visualizations.fvis import MOST_A_SHARD, FeatureVisualizations
from pixmix_ray.models import CifarResNet, TorchvisionModel
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import train_trial

WIDTHS = {"conv1": 16, "layer1.0.conv1": 16, "layer1.0.conv2": 16, "layer2.0.conv1": 32, "layer2.0.conv2": 32}
WIDTHS |= {"layer3.0.conv1": 64, "layer3.0.conv2": 64}  # of ResNet-8
SMALL = {"count": 6, "steps": 2, "size": 16}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of weights of a ResNet-8 of seven classes."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.save(CifarResNet(depth=8).build(7).state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def fvis(weights: Path, **settings: object) -> FeatureVisualizations:
    spec = {"name": "fvis", "model": {"name": "cifar_resnet", "depth": 8}, "weights": str(weights), **SMALL, **settings}
    found = MIXING_SETS.read(spec).settings
    assert isinstance(found, FeatureVisualizations)
    return found


def stacked(pictures: Pictures) -> NDArray[np.uint8]:
    return np.stack([pictures[index] for index in range(len(pictures))])


def test_pictures_are_repeatable_and_have_a_manifest(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fvis(weights).pictures(12)
    assert stacked(first).shape == (6, 12, 12, 3) and first.version == fvis(weights).version()
    manifest = read_manifest(entry_name(first.version, 12))
    assert manifest is not None and (manifest["generator"], manifest["count"]) == ("fvis", 6)
    assert manifest["settings"]["model"]["name"] == "cifar_resnet" and manifest["settings"]["steps"] == 2
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(weights.parent / "another"))  # as if on another machine
    assert np.array_equal(fvis(weights).pictures(12).pixels, first.pixels)


@pytest.mark.parametrize("objective", ["channel", "neuron"])
def test_each_picture_drives_its_own_target(weights: Path, objective: str) -> None:
    made = fvis(weights, steps=24, count=4, objective=objective)
    targets = made.targets()
    images = torch.from_numpy(made.draw(np.arange(4), 36)).permute(0, 3, 1, 2).float() / 255
    noise = (
        torch.from_numpy(made.model_copy(update={"steps": 0}).draw(np.arange(4), 36)).permute(0, 3, 1, 2).float() / 255
    )
    network = made._network().network
    assert {target.is_neuron for target in targets} == {objective == "neuron"}
    assert bool((activations(network, images, targets) > activations(network, noise, targets)).all())


def test_every_channel_comes_equally_often_and_layers_follow_one_another(weights: Path) -> None:
    total = sum(WIDTHS.values())
    targets = fvis(weights, count=2 * total + 5).targets()
    counts = {(layer, number): 0 for layer, width in WIDTHS.items() for number in range(width)}
    for target in targets:
        counts[target.layer, target.channel] += 1
    assert sorted(counts.values()) == [2] * (total - 5) + [3] * 5
    assert [target.layer for target in targets] == sorted((t.layer for t in targets), key=list(WIDTHS).index)


def test_more_pictures_than_channels_is_said_and_repeats_differ(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fvis(weights, layers="layer1.0.conv2", count=20).pictures(8)
    assert "20 pictures of 16 channels, which are visualized 1.25 times on average" in capsys.readouterr().err
    assert len({picture.tobytes() for picture in stacked(made)}) == 20


def test_a_shard_is_of_one_layer_and_not_too_large(weights: Path) -> None:
    made = fvis(weights, count=1000)
    ends, layers = made._ends(), [target.layer for target in made.targets()]
    shards = [layers[start:end] for start, end in zip((0, *ends), ends, strict=False)]
    assert ends[-1] == 1000 and sum(map(len, shards)) == 1000
    assert all(len(set(shard)) == 1 and len(shard) <= MOST_A_SHARD for shard in shards)


def test_both_is_half_of_each(weights: Path) -> None:
    share = np.mean([target.is_neuron for target in fvis(weights, count=1000, objective="both").targets()])
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 1000)


def test_the_version_follows_settings_and_content_and_not_the_place(weights: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.safetensors"  # the same tensors in another file are another content
    (tmp_path / "copy.pt").write_bytes(weights.read_bytes())
    save_file(CifarResNet(depth=8).build(7).state_dict(), moved)
    versions = [
        fvis(weights).version(),
        fvis(weights, steps=3).version(),
        fvis(weights, objective="neuron").version(),
        fvis(weights, layers=["conv1"]).version(),
        fvis(weights, seed=1).version(),
        fvis(moved).version(),
    ]
    assert len(set(versions)) == 6 and versions[0].startswith("fvis-1-")
    assert fvis(tmp_path / "copy.pt").version() == versions[0]
    assert "weights" not in fvis(weights).identity() and "model" not in fvis(weights).identity()
    part = MIXING_SETS.read({"name": "fvis", **fvis(weights).model_dump(mode="json")})
    assert part.settings.version() == versions[0]  # as a worker reads it


def test_a_network_of_torchvision_is_taken_with_its_weights_as_its_own_setting(tmp_path: Path) -> None:
    file = tmp_path / "squeezenet.pth"
    torch.save(TorchvisionModel(arch="squeezenet1_1").build(5).state_dict(), file)
    spec = {"name": "fvis", "model": {"name": "torchvision_model", "arch": "squeezenet1_1", "weights": str(file)}}
    made = MIXING_SETS.read({**spec, "layers": ["features.3.expand3x3"], "count": 2, "steps": 1, "size": 32}).settings
    assert stacked(made.pictures(16)).shape == (2, 16, 16, 3)


def test_one_of_our_trials_is_visualized(experiment: Path) -> None:
    plan = make_plan(read_experiment(experiment))
    (trial,) = plan.trials
    list(train_trial(trial, plan.store, torch.device("cpu")))
    folder = experiment.parent / "results" / "trials" / trial.id
    made = MIXING_SETS.read({"name": "fvis", "trial": str(folder), **SMALL})
    assert len(made.settings.pictures(12)) == 6
    both = read_experiment(experiment, [f"mixing_set={{name: fvis, trial: {folder}, count: 6}}", "methods=pixmix"])
    (follower,) = both.trials()
    assert Trial.load(json.loads(json.dumps(follower.dump()))).id == follower.id
    Store(experiment.parent / "results").delete(f"trials/{trial.id}/done.json")
    with pytest.raises(CheckpointError, match=r"is not complete, as done.json is missing: run its experiment again"):
        made.settings.version()


def test_mistakes_are_one_line(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown layer 'layer3.0.conv3', did you mean 'layer\S+'\? Known: conv1"
    ):
        fvis(weights, layers=["layer3.0.conv3"]).version()
    with pytest.raises(CheckpointError, match=r"weights.pt does not fit the model: it lacks 'layer1.1.conv1.weight'"):
        fvis(weights, model={"name": "cifar_resnet", "depth": 20}).version()
    with pytest.raises(CheckpointError, match=r"no file of weights .*missing.pt: give a .safetensors"):
        fvis(tmp_path / "missing.pt").version()
    with pytest.raises(CheckpointError, match=r"nowhere is not a trial: give the folder RESULTS/trials/TRIAL"):
        MIXING_SETS.read({"name": "fvis", "trial": str(tmp_path / "nowhere")}).settings.version()
    with pytest.raises(UnknownNameError, match="unknown model 'resnet'"):
        fvis(weights, model="resnet")
    for spec in ({}, {"weights": str(weights)}, {"model": "cifar_resnet"}, {"trial": "x", "weights": str(weights)}):
        with pytest.raises(RequestError, match=r"fvis visualizes one network: give trial, .* or model and weights"):
            MIXING_SETS.read({"name": "fvis", **spec})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_pictures_every_time(weights: Path) -> None:
    made = fvis(weights, steps=8, count=4)
    assert np.array_equal(made.draw(np.arange(4), 36), made.draw(np.arange(4), 36))
