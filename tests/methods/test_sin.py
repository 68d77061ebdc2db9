"""SIN: copies that are given or made, one style for each picture, the share replaced, resumption, and mistakes."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pixmix_ray.datasets import Digits, ImageData
from pixmix_ray.errors import CheckpointError, DataError, RequestError, UnknownNameError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import Setup, sin
from pixmix_ray.methods.sin import Sin, SinRun, read_style_transfer
from pixmix_ray.models import WideResNet
from pixmix_ray.seeding import uniforms
from pixmix_ray.training import TrainingData, train

NAME = "pixmix_ray.methods.sin:Sin"
CPU = torch.device("cpu")

# The convolutions of the port's two files by index, with a few channels each.
ENCODER = {2: 16, 5: 16, 9: 16, 12: 16, 16: 16, 19: 16, 22: 16, 25: 16, 29: 32}
DECODER = {1: 16, 5: 16, 8: 16, 11: 16, 14: 16, 18: 16, 21: 16, 25: 16, 28: 3}


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))


def _noise(count: int, size: int, seed: int) -> NDArray[np.uint8]:
    return np.random.Generator(np.random.Philox(key=seed)).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _weights(widths: dict[int, int], channels: int, seed: int) -> dict[str, Tensor]:
    generator, weights = torch.Generator().manual_seed(seed), {}
    for index, width in widths.items():
        weights[f"{index}.weight"] = torch.randn(width, channels, 3, 3, generator=generator) * (2 / channels / 9) ** 0.5
        weights[f"{index}.bias"] = torch.rand(width, generator=generator) * 0.5
        channels = width
    return weights


def _save_weights(folder: Path, name: str, seed: int) -> None:
    """The two files of AdaIN, untrained; the decoder, called `name`, so scaled that few values end at 0 or 1."""
    normalisation = {"0.weight": torch.eye(3).view(3, 3, 1, 1), "0.bias": torch.zeros(3)}
    torch.save(normalisation | _weights(ENCODER, 3, seed=2), folder / "vgg_normalised.pth")
    weights = _weights(DECODER, 32, seed)
    torch.save(weights, folder / name)
    network = read_style_transfer(folder / "vgg_normalised.pth", folder / name)
    std, mean = torch.std_mean(network.decoder(network.encoder(_tensor(_noise(8, 24, seed=4)) / 255)), dim=(0, 2, 3))
    weights["28.weight"] *= (0.2 / std).view(3, 1, 1, 1)
    weights["28.bias"] = 0.5 + (weights["28.bias"] - mean) * 0.2 / std
    torch.save(weights, folder / name)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with styles.npy (five pictures), vgg_normalised.pth and decoder.pth, which are untrained."""
    np.save(tmp_path / "styles.npy", _noise(5, 24, seed=1) // 2)  # darker than the pictures
    _save_weights(tmp_path, "decoder.pth", seed=3)
    return tmp_path


def _made(files: Path, **settings: object) -> Sin:
    paths = {"styles": "styles.npy", "encoder": "vgg_normalised.pth", "decoder": "decoder.pth"}
    return Sin.read({**paths, **settings}, "method sin", files)


def _tensor(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def _run(method: Sin, images: Tensor) -> SinRun:
    setup = Setup(
        images=images,
        device=images.device,
        height=images.shape[2],
        data_version="v",
        seed=0,
        size=images.shape[2],
        crop=lambda pictures, _: pictures,
    )
    run = method.start(setup)
    assert isinstance(run, SinRun)
    return run


def _data(images: NDArray[np.uint8]) -> ImageData:
    labels = np.zeros(len(images), dtype=np.int64)
    return ImageData(
        train_images=images,
        train_labels=labels,
        test_images=images[:1],
        test_labels=labels[:1],
        class_names=("a",),
        version="v",
    )


def test_the_defaults_are_those_of_the_authors(files: Path) -> None:
    method = _made(files)
    assert (method.share, method.alpha, method.stylize_size, method.weight_decay) == (0.5, 1.0, None, 5e-4)
    assert not method.needs_pictures
    assert method.summary and "ICLR 2019" in method.source


# Copies that are given


def test_a_copy_takes_the_place_of_its_own_picture_with_the_probability_asked_for(tmp_path: Path) -> None:
    images, copies = _noise(50, 8, seed=1), _noise(50, 8, seed=2)
    np.save(tmp_path / "copies.npy", copies)
    run = _run(Sin(stylized=tmp_path / "copies.npy", share=0.3), before := _tensor(images))
    rows = torch.arange(4000) % 50
    chosen = run.shown(before[rows], rows, torch.Generator().manual_seed(1))
    is_copy = (chosen == _tensor(copies)[rows]).flatten(1).all(1)
    assert torch.equal(chosen[~is_copy], _tensor(images)[rows][~is_copy])
    assert float(is_copy.float().mean()) == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 4000))
    assert chosen.dtype == torch.uint8
    assert torch.equal(before, _tensor(images))
    assert torch.equal(chosen, run.shown(before[rows], rows, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(("share", "key"), [(0.0, 1), (1.0, 2)])
def test_none_or_all_pictures_are_replaced(share: float, key: int, tmp_path: Path) -> None:
    np.save(tmp_path / "copies.npy", _noise(9, 8, seed=2))
    images = _tensor(_noise(9, 8, seed=1))
    run = _run(Sin(stylized=tmp_path / "copies.npy", share=share), images)
    rows = torch.tensor([8, 0, 3, 3])
    assert torch.equal(run.shown(images[rows], rows, torch.Generator()), _tensor(_noise(9, 8, seed=key))[rows])


def test_the_copies_of_a_folder_are_in_the_order_of_their_relative_paths(tmp_path: Path) -> None:
    copies = _noise(3, 8, seed=2)
    for name, picture in zip(["a/2.png", "a/3.png", "b/1.png"], copies, strict=True):
        (tmp_path / "copies" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "copies" / name)
    found = Sin(stylized=tmp_path / "copies").copies(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), "v", CPU)
    assert np.array_equal(found, copies)


@pytest.mark.parametrize(("count", "size"), [(4, 8), (6, 8), (4, 20)])
def test_another_number_of_copies_is_refused_with_both_numbers(count: int, size: int, tmp_path: Path) -> None:
    np.save(tmp_path / "copies.npy", _noise(count, size, seed=2))
    method = Sin(stylized=tmp_path / "copies.npy")
    message = rf"copies\.npy holds {count} stylised pictures, the training set 5: give one for each"
    with pytest.raises(DataError, match=message):
        method.prepare(_data(_noise(5, 8, seed=1)))
    with pytest.raises(DataError, match=message):
        _run(method, _tensor(_noise(5, 8, seed=1)))


# Copies that are made


def _styles_of(count: int, seed: int = 0) -> NDArray[np.int64]:
    draws = uniforms(seed, "style", indices=np.arange(count), count=1)[:, 0]
    return (draws * 5).astype(np.int64)


def test_a_copy_is_its_picture_in_the_style_that_its_index_names(files: Path) -> None:
    images = _noise(12, 24, seed=4)
    before = images.copy()
    found = _made(files, alpha=0.8).copies(_tensor(images), "v", CPU)
    network = read_style_transfer(files / "vgg_normalised.pth", files / "decoder.pth")
    styles = np.load(files / "styles.npy")
    for index, style in enumerate(_styles_of(12)):  # one at a time, style and picture afresh
        content = _tensor(images[index : index + 1]) / 255
        mean, std = network.style(_tensor(styles[style : style + 1]) / 255)
        expected = (network(content, mean, std, 0.8)[0] * 255).round().permute(1, 2, 0).numpy()
        assert np.abs(found[index] - expected).max() <= 1  # sums in another order, before rounding
    assert found.dtype == np.uint8
    assert not found.flags.writeable
    assert np.array_equal(images, before)
    assert ((found > 0) & (found < 255)).mean() > 0.8
    assert float(found.std(axis=(1, 2)).mean()) > 10  # and they are no flat pictures


def test_the_style_of_a_picture_depends_on_seed_and_index_alone(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _tensor(_noise(20, 24, seed=4))
    whole = _made(files).copies(images, "v", CPU)
    part = _made(files).copies(images[:7], "v", CPU)
    monkeypatch.setitem(sin._PIXELS_AT_ONCE, "cpu", 24 * 24 * 3)  # in batches of three
    in_batches = _made(files).copies(images, "another name of the same", CPU)
    other = _made(files, style_seed=1).copies(images, "v", CPU)
    assert np.abs(whole[:7].astype(int) - part).max() <= 1
    assert np.abs(whole.astype(int) - in_batches).max() <= 1
    differs = (np.abs(whole.astype(int) - other) > 1).any((1, 2, 3))
    assert np.array_equal(differs, _styles_of(20) != _styles_of(20, seed=1))


def test_copies_are_made_once_a_machine(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _noise(6, 16, seed=4)
    _made(files).prepare(_data(images))
    monkeypatch.setattr("pixmix_ray.methods.sin.read_style_transfer", None)
    copies = _made(files, share=0.1).copies(_tensor(images), "v", CPU)  # the share changes no copy
    assert isinstance(copies, np.memmap)
    run = _run(_made(files, share=1.0), _tensor(images))
    assert torch.equal(run.shown(_tensor(images), torch.arange(6), torch.Generator()), _tensor(np.array(copies)))


@pytest.mark.parametrize(
    "change",
    [{"alpha": 0.5}, {"stylize_size": 32}, {"style_seed": 3}, {"styles": "other.npy"}, {"decoder": "other.pth"}],
    ids=repr,
)
def test_what_changes_the_copies_makes_new_ones(change: dict[str, object], files: Path) -> None:
    np.save(files / "other.npy", _noise(5, 24, seed=9))
    _save_weights(files, "other.pth", seed=9)
    images = _tensor(_noise(4, 24, seed=4))
    assert not np.array_equal(_made(files, **change).copies(images, "v", CPU), _made(files).copies(images, "v", CPU))


def test_pictures_are_enlarged_stylised_and_reduced_again(files: Path) -> None:
    # second implementation: Pillow enlarges and reduces; it rounds to whole grey levels in between
    images = _noise(3, 16, seed=4)
    found = _made(files, stylize_size=40).copies(_tensor(images), "v", CPU)
    network = read_style_transfer(files / "vgg_normalised.pth", files / "decoder.pth")
    styles = [
        Image.fromarray(picture).resize((40, 40), Image.Resampling.BILINEAR)
        for picture in np.load(files / "styles.npy")
    ]
    for index, style in enumerate(_styles_of(3)):
        large = Image.fromarray(images[index]).resize((40, 40), Image.Resampling.BILINEAR)
        content, painting = (
            torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 for image in (large, styles[style])
        )
        stylised = (network(content, *network.style(painting))[0] * 255).round().byte().permute(1, 2, 0).numpy()
        expected = Image.fromarray(stylised).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.abs(found[index].astype(int) - np.asarray(expected)).mean() < 1.5


@pytest.mark.parametrize("size", [9, 20, 33])
def test_sides_that_are_no_multiple_of_eight_come_out_as_they_went_in(size: int, files: Path) -> None:
    assert _made(files).copies(_tensor(_noise(2, size, seed=4)), "v", CPU).shape == (2, size, size, 3)


def test_too_small_pictures_need_a_larger_size_to_be_stylised_at(files: Path) -> None:
    images = _noise(2, 8, seed=4)
    with pytest.raises(DataError, match="pictures of 8 pixels are too small to be stylised: set stylize_size to 9"):
        _made(files).prepare(_data(images))
    assert _made(files, stylize_size=16).copies(_tensor(images), "v", CPU).shape == (2, 8, 8, 3)


def test_styles_of_a_folder_are_read_in_any_size(files: Path) -> None:
    (files / "paintings").mkdir()
    for number, shape in enumerate([(60, 30, 3), (10, 12, 3)]):
        Image.fromarray(np.full(shape, 90 * number, dtype=np.uint8)).save(files / "paintings" / f"{number}.png")
    copies = _made(files, styles="paintings").copies(_tensor(_noise(4, 16, seed=4)), "v", CPU)
    assert copies.shape == (4, 16, 16, 3)


# Versions and identity


def test_the_version_is_that_of_the_files_and_the_identity_holds_no_path(files: Path) -> None:
    np.save(files / "copies.npy", _noise(4, 8, seed=1))
    given, made = Sin(stylized=files / "copies.npy"), _made(files)
    versions = {given.version(), made.version()}
    assert given.identity() == made.identity() == {"share": 0.5, "alpha": 1.0, "stylize_size": None, "style_seed": 0}
    for name in ("styles.npy", "copies.npy"):
        np.save(files / name, _noise(5, 8, seed=9))
        versions |= {given.version(), made.version()}
    for name in ("vgg_normalised.pth", "decoder.pth"):
        (files / name).write_bytes(b"other")
        versions.add(made.version())
    assert len(versions) == 6


@pytest.mark.parametrize("gone", ["styles.npy", "vgg_normalised.pth", "decoder.pth"])
def test_a_missing_file_is_named_before_any_work(gone: str, files: Path) -> None:
    (files / gone).unlink()
    with pytest.raises(DataError, match=rf"there is no(thing at| file) .*{gone}: give") as caught:
        _made(files).version()
    assert str(caught.value).isprintable()


def test_weights_that_do_not_fit_are_found_before_any_training(files: Path) -> None:
    method = _made(files, encoder="decoder.pth")
    with pytest.raises(CheckpointError, match=r"the encoder .*decoder\.pth does not fit: it lacks '0.weight'"):
        method.prepare(_data(_noise(2, 16, seed=4)))


# Training


@pytest.fixture(scope="module")
def data() -> TrainingData:
    digits = Digits(train_limit=70).load()  # a batch of 32 leaves 6 over
    images = torch.from_numpy(np.array(digits.train_images)).permute(0, 3, 1, 2).contiguous()
    return TrainingData(images=images, labels=torch.from_numpy(np.array(digits.train_labels)), version=digits.version)


def _network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(depth=10, width=1, dropout=0.3).build(10)


def _bits(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().numpy().tobytes() for name, tensor in tensors.items()}


def _given(files: Path) -> Sin:
    np.save(files / "copies.npy", _noise(70, 32, seed=5))
    return Sin(stylized=files / "copies.npy")


@pytest.mark.parametrize("way", [_given, _made])
def test_a_run_interrupted_after_an_epoch_ends_in_the_same_bits(
    way: Callable[[Path], Sin], files: Path, data: TrainingData
) -> None:
    method, recipe, whole = way(files), Recipe(epochs=3, batch_size=32, lr=0.05), _network()
    losses = [epoch.loss for epoch in train(whole, method, data, recipe, seed=4)]
    first = next(train(_network(), method, data, recipe, seed=4))
    saved = {name: tensor.detach().clone() for name, tensor in first.tensors.items()}
    resumed = _network(seed=99)
    rest = [epoch.loss for epoch in train(resumed, method, data, recipe, seed=4, after=(1, saved))]
    assert [first.loss, *rest] == losses
    assert _bits(resumed.state_dict()) == _bits(whole.state_dict())


# Mistakes


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {},
            RequestError,
            "method sin: no stylised pictures: set 'stylized' to a folder of pictures, or an array file",
        ),
        ({"share": 0.2}, RequestError, "or, to have them made, 'styles' to a folder of pictures"),
        ({"styles": "x"}, RequestError, "method sin: 'encoder', 'decoder' missing beside 'styles': set 'stylized' to"),
        ({"styles": "x", "encoder": "x"}, RequestError, "'decoder' missing beside 'styles', 'encoder': "),
        ({"decoder": "x"}, RequestError, "'styles', 'encoder' missing beside 'decoder': "),
        (
            {"stylized": "x", "styles": "x"},
            RequestError,
            "method sin: 'stylized' and 'styles' are both set: leave out one",
        ),
        ({"stylized": "x", "decoder": "x"}, RequestError, "'stylized' and 'decoder' are both set"),
        ({"stylized": 5}, RequestError, "stylized = 5: "),
        ({"stylized": "x", "share": 1.5}, RequestError, "share = 1.5: "),
        ({"stylized": "x", "alpha": -0.1}, RequestError, "alpha = -0.1: "),
        (
            {"stylized": "x", "stylize_size": 8},
            RequestError,
            "stylize_size = 8: must be at least 9",
        ),
        ({"stylised": "x"}, UnknownNameError, "did you mean 'stylized'?"),
    ],
)
def test_wrong_settings_are_refused_in_one_line_that_says_which_keys_to_set(
    settings: dict[str, object], error: type[RequestError], message: str
) -> None:
    with pytest.raises(error) as caught:
        Sin.read(settings, "method sin")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def _experiment(folder: Path, **settings: object) -> Path:
    content = {
        "results": "results",
        "dataset": {"name": "digits", "train_limit": 60},
        "model": {"name": "wide_resnet", "depth": 10, "width": 1},
        "methods": [{"name": NAME, **settings}],
        "k": [2, 3],
        "benchmarks": ["clean"],
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content))
    return folder / "experiment.yaml"


def test_an_experiment_names_the_files_relative_to_its_own_place(files: Path) -> None:
    paths = {"styles": "styles.npy", "encoder": "vgg_normalised.pth", "decoder": "decoder.pth"}
    sweep = read_experiment(_experiment(files, **paths))
    sweep.prepare()
    (trial,) = sweep.trials()  # k is no setting of this method
    assert trial.method_version == _made(files).version()
    assert str(files) not in repr(trial.settings)


def test_an_experiment_without_pictures_says_which_keys_to_set(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no stylised pictures: set 'stylized' to .* 'styles' to .* 'encoder' and"):
        read_experiment(_experiment(tmp_path))


def test_an_experiment_with_too_few_copies_says_so_before_any_training(tmp_path: Path) -> None:
    np.save(tmp_path / "copies.npy", _noise(59, 8, seed=1))
    sweep = read_experiment(_experiment(tmp_path, stylized="copies.npy"))
    with pytest.raises(DataError, match=r"holds 59 stylised pictures, the training set 60: give one for each"):
        sweep.prepare()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copies_are_made_and_lie_on_the_gpu_of_the_training(files: Path) -> None:
    images = _tensor(_noise(12, 24, seed=4))
    here = _made(files).copies(images, "here", CPU)
    run = _run(_made(files, share=1.0), images.cuda())
    chosen = run.shown(images.cuda(), torch.arange(12, device="cuda"), torch.Generator("cuda"))
    assert chosen.device.type == "cuda"
    assert int((chosen.cpu().int() - _tensor(np.array(here)).int()).abs().max()) <= 2
