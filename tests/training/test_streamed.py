"""Pictures that stay on disk: the pixels of the official pipeline, the same batches whoever reads, exact resumption."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional

from pixmix_ray.datasets import ImageFolder
from pixmix_ray.datasets.encoded import EncodedFiles, EncodedSet
from pixmix_ray.errors import DataError, RequestError
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.memory import is_out_of_memory
from pixmix_ray.methods import Baseline, Method, MethodRun, PixMix, Setup, Sin
from pixmix_ray.mixing_sets import Pictures
from pixmix_ray.models import WideResNet
from pixmix_ray.seeding import uniforms
from pixmix_ray.training import BatchShare, Epoch, train
from pixmix_ray.training.streamed import DRAWS, Cut, Group, Reader, StreamedData, read_groups
from pixmix_ray.transforms import random_box, random_boxes

CPU = torch.device("cpu")
SIDE = 32
COUNT = 70  # a batch of 64 leaves 6 over


def _noise(width: int, height: int, key: int, channels: int = 3) -> NDArray[np.uint8]:
    """Smooth noise, so that JPEG changes it little."""
    generator = np.random.Generator(np.random.Philox(key=key))
    small = generator.integers(0, 256, (6, 6, channels), np.uint8).squeeze()
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _save_odd(folder: Path) -> None:
    """Ten pictures that a folder of photographs may hold."""
    Image.fromarray(_noise(50, 40, 1, channels=1)).save(folder / "00-grey.jpg")
    Image.fromarray(_noise(50, 40, 2)).convert("CMYK").save(folder / "01-cmyk.jpg")
    Image.fromarray(_noise(50, 40, 3, channels=1).astype(np.uint16) * 257).save(folder / "02-sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees; as in the official pipeline it is taken as it lies
    Image.fromarray(_noise(50, 40, 4)).save(folder / "03-turned.jpg", exif=exif)
    frames = [Image.fromarray(_noise(50, 40, key)) for key in (5, 6)]
    frames[0].save(folder / "04-animated.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(_noise(200, 3, 7)).save(folder / "05-wide.png")
    Image.fromarray(_noise(1, 1, 8)).save(folder / "06-point.png")
    Image.fromarray(np.dstack([_noise(50, 40, 9), _noise(50, 40, 10, channels=1)])).save(folder / "07-clear.png")
    Image.fromarray(_noise(50, 40, 11)).quantize(16).save(folder / "08-palette.png", transparency=0)
    Image.fromarray(_noise(900, 700, 12)).save(folder / "09-large.jpg", progressive=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    """Ten odd pictures and sixty JPEGs of several sizes, of ten classes."""
    folder = tmp_path_factory.mktemp("pictures")
    _save_odd(folder)
    for number in range(10, COUNT):
        width, height = [(50, 40), (40, 50), (33, 70), (64, 64)][number % 4]
        Image.fromarray(_noise(width, height, number)).save(folder / f"{number}.jpg", quality=95)
    return EncodedSet(pictures=EncodedFiles(sorted(folder.iterdir())), labels=np.arange(COUNT) % 10)


@pytest.fixture
def data(files: EncodedSet) -> StreamedData:
    """The files with three mixing pictures of noise."""
    side = SIDE + SIDE // 8
    pixels = np.random.Generator(np.random.Philox(key=5)).integers(0, 256, (3 * side * side, 3), dtype=np.uint8)
    sides = np.full(3, side)
    offsets = np.arange(3) * side * side
    bank = Pictures(pixels=pixels, offsets=offsets, heights=sides, widths=sides, version="noise").to("cpu")
    return StreamedData(files=files, device=CPU, height=SIDE, resize=SIDE, pictures=bank)


def _recipe(**settings: Any) -> Recipe:
    return Recipe.read({"epochs": 2, "batch_size": 64, "lr": 0.05, "crop": "resized", **settings}, "training")


def _read(reader: Reader, group: Group) -> NDArray[np.uint8]:
    made = np.empty((len(group.rows), 3, reader.cut.size, reader.cut.size), np.uint8)
    reader.read(group, made)
    return made.transpose(0, 2, 3, 1)


def _batches(data: StreamedData, method: Method, recipe: Recipe, epoch: int = 1, **asked: Any) -> list[Tensor]:
    share = asked.pop("share", None)
    setup = Setup(device=CPU, height=SIDE, data_version="", seed=3, size=recipe.side(SIDE), crop=recipe.cropped)
    made = data.batches(method.start(setup), recipe, seed=3, share=share).batches(epoch, **asked)
    return [tensor for batch in made for tensor in batch]


def test_pictures_are_those_of_the_official_pipeline_cut_from_the_file_by_boxes_of_torchvisions_rule(
    files: EncodedSet,
) -> None:
    reader = Reader(files=files, cut=Cut(size=24), seed=7)
    rows = np.arange(COUNT)[::-1].copy()
    found = _read(reader, Group(epoch=5, rows=rows))
    draws = uniforms(7, "crop", 5, indices=rows, count=DRAWS)
    for place, row in enumerate(rows):
        with Image.open(files.pictures.name(row)) as image:
            if image.mode.startswith("I"):
                continue  # torchvision turns 16 bits white
            rgb = image.convert("RGB")
        box = random_box(rgb.height, rgb.width, draws[place, :-1].tolist())
        expected = functional.resized_crop(rgb, *box, [24, 24], functional.InterpolationMode.BILINEAR)
        assert np.array_equal(found[place], np.asarray(expected)), files.pictures.name(int(row))


@pytest.mark.parametrize(("height", "width"), [(40, 50), (50, 40), (3, 200), (200, 3), (1, 1), (375, 500)])
def test_a_box_of_one_picture_is_that_of_a_batch(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.rand(200, 22, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(torch, "rand", lambda *_, **__: numbers)
    boxes = random_boxes(torch.empty(200, 3, height, width, dtype=torch.uint8), torch.Generator())
    assert boxes.t().tolist() == [list(random_box(height, width, drawn)) for drawn in numbers.tolist()]


@pytest.mark.parametrize(
    ("method", "crop"),
    [
        (PixMix(), {}),
        (Baseline(), {"crop_size": 24}),
        (Baseline(), {"crop": "padded"}),
        (Baseline(), {"flip": False}),
    ],
    ids=repr,
)
def test_batches_do_not_depend_on_who_reads_or_where_an_epoch_begins(
    data: StreamedData, method: Method, crop: dict[str, Any]
) -> None:
    recipe = _recipe(**crop)
    whole = _batches(data, method, recipe)
    assert [tuple(images.shape) for images in whole[::2]] == [
        (n, 3, recipe.side(SIDE), recipe.side(SIDE)) for n in (64, 6)
    ]
    assert sorted(torch.cat(whole[1::2]).tolist()) == sorted(np.arange(COUNT) % 10)
    three = _batches(replace(data, workers=3), method, recipe)
    for found, expected in zip([*three, *_batches(data, method, recipe, first=1)], [*whole, *whole[2:]], strict=True):
        assert torch.equal(found, expected)
    shares = [_batches(data, method, recipe, share=BatchShare(rank=rank, of=3)) for rank in range(3)]
    for place in range(4):  # shares begin and end within groups
        assert torch.equal(torch.cat([share[place] for share in shares]), whole[place])
    assert not torch.equal(_batches(data, method, recipe, epoch=2)[0], whole[0])


def _kept(epochs: Iterator[Epoch]) -> Iterator[Epoch]:
    for epoch in epochs:
        yield replace(epoch, tensors={name: tensor.detach().clone() for name, tensor in epoch.tensors.items()})


def _network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(depth=10, width=1, dropout=0.3).build(10)


def test_a_training_goes_on_in_the_middle_of_an_epoch_and_measures_the_error_on_what_is_held_out(
    data: StreamedData,
) -> None:
    data = replace(data, held_out=np.array([2, 30, 31]))
    recipe = _recipe(batch_size=32, checkpoint_every="1 step")
    network = _network(1)
    states = list(_kept(train(network, PixMix(), data, recipe, seed=3)))
    assert [state.is_whole for state in states] == 2 * [False, False, True]
    resumed = _network(2)
    plain = _recipe(batch_size=32)
    rest = list(train(resumed, PixMix(), data, plain, seed=3, after=(0, states[0].tensors)))
    assert [epoch.loss for epoch in rest] == [states[2].loss, states[5].loss]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
    reader = Reader(files=data.files, cut=Cut(size=SIDE, resize=SIDE))
    shown = _read(reader, Group(epoch=0, rows=np.array([2, 30, 31])))
    predicted = network.eval()(torch.from_numpy(shown).permute(0, 3, 1, 2) / 255).argmax(1)
    assert states[5].validation_error == (predicted != torch.tensor([2, 0, 1])).double().mean().item()


def test_reading_leaves_the_global_generator_alone(data: StreamedData) -> None:
    state = torch.get_rng_state()
    _batches(data, Baseline(), _recipe())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.jpg", b"\xff\xd8\xff\xe0" + bytes(100), "cannot decode the picture .*broken.jpg"),
        ("text.png", b"no picture", "cannot decode the picture .*text.png"),
        ("gone.jpg", None, "cannot read .*gone.jpg: No such file or directory"),
    ],
)
def test_a_picture_that_cannot_be_read_ends_the_training_with_one_line_that_names_it(
    data: StreamedData, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    files = EncodedSet(pictures=EncodedFiles([tmp_path / name]), labels=np.zeros(1, np.int64))
    with pytest.raises(DataError, match=message) as caught:
        _batches(replace(data, files=files), Baseline(), _recipe())
    assert "\n" not in str(caught.value)


def test_copies_of_a_method_are_shown_in_place_of_a_share_of_the_files(data: StreamedData, tmp_path: Path) -> None:
    folder = tmp_path / "stylized"
    folder.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (20, 20), (255, 0, number)).save(folder / f"{number:03d}.png")
    images = torch.cat(_batches(data, Sin(stylized=folder, share=0.4), _recipe(flip=False))[::2])
    is_copy = (images[:, 0] == 1).flatten(1).all(1) & (images[:, 1] == 0).flatten(1).all(1)
    assert 0.2 * COUNT < int(is_copy.sum()) < 0.6 * COUNT
    (folder / "000.png").unlink()
    with pytest.raises(DataError, match=f"holds 69 pictures, the training set {COUNT}: give one for each"):
        _batches(data, Sin(stylized=folder), _recipe())


class _NeedsAll(MethodRun):
    def shown(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        return images.flip(0)


class _OfSomebody(Method):
    def start(self, setup: Setup) -> MethodRun:
        return _NeedsAll(self)


def test_a_method_that_wants_pictures_before_the_crop_is_refused(data: StreamedData) -> None:
    with pytest.raises(
        RequestError, match=r"_NeedsAll.shown needs all pictures in memory: set dataset.streamed: false"
    ):
        _batches(data, _OfSomebody(), _recipe())


def test_a_reading_process_that_is_killed_counts_as_memory_that_ran_out(files: EncodedSet) -> None:
    class Killed(Reader):
        def read(self, group: Group, made: NDArray[np.uint8]) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    groups = [Group(epoch=1, rows=np.array([row])) for row in range(3)]
    with pytest.raises(RuntimeError, match="DataLoader worker") as caught:
        list(read_groups(Killed(files=files, cut=Cut(size=8)), groups, 1, CPU))
    assert is_out_of_memory(caught.value)


def test_what_is_read_ahead_is_bounded(files: EncodedSet, tmp_path: Path) -> None:
    class Counting(Reader):
        def read(self, group: Group, made: NDArray[np.uint8]) -> None:
            (tmp_path / f"{group.rows[0]}-{os.getpid()}").touch()
            super().read(group, made)

    groups = [Group(epoch=1, rows=np.array([row])) for row in range(COUNT)]
    reading = read_groups(Counting(files=files, cut=Cut(size=8)), groups, 2, CPU)
    for _ in range(5):
        next(reading)
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert 5 <= len(list(tmp_path.iterdir())) <= 5 + 2 * 4 + 2


def test_a_set_is_streamed_where_it_is_asked_for_or_too_large_and_says_so_in_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                Image.fromarray(_noise(20, 16, number)).save(tmp_path / part / name / f"{number}.png")
    small = ImageFolder(root=tmp_path, size=8, resize=8)
    assert not small.is_streamed()
    assert "streamed" not in small.identity()
    asked = small.model_copy(update={"streamed": True, "train_limit": 4})
    assert asked.identity()["streamed"] is True
    data, resident = asked.load(), small.model_copy(update={"train_limit": 4}).load()
    assert data.train_files is not None and data.train_images.shape == (0, 8, 8, 3)
    assert data.train_labels.tolist() == resident.train_labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(data.some_train_images(9), resident.train_images)
    monkeypatch.setattr("pixmix_ray.datasets.on_disk.MOST_RESIDENT", 6 * 8 * 8 * 3 - 1)
    assert small.is_streamed() and small.load().is_streamed
    assert not small.model_copy(update={"train_limit": 5}).is_streamed()
    assert not small.model_copy(update={"streamed": False}).is_streamed()
