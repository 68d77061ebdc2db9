"""The subset rule, and what the cache keeps of a data set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixmix_ray.datasets import ImageData, evenly_spaced, load_cached
from pixmix_ray.errors import RequestError


@pytest.mark.parametrize(
    ("total", "limit", "expected"),
    [  # by hand: floor(i * total / limit)
        (10, 4, [0, 2, 5, 7]),
        (7, 3, [0, 2, 4]),
        (5, 1, [0]),
        (3, None, [0, 1, 2]),
        (3, 3, [0, 1, 2]),
        (3, 9, [0, 1, 2]),
        (0, None, []),
    ],
)
def test_a_subset_is_evenly_spaced(total: int, limit: int | None, expected: list[int]) -> None:
    indices = evenly_spaced(total, limit)
    assert indices.dtype == np.int64 and indices.tolist() == expected


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_an_error(limit: int) -> None:
    with pytest.raises(RequestError, match=f"limit must be at least 1, got {limit}"):
        evenly_spaced(10, limit)


def decoder(log: list[str]) -> Callable[[], ImageData]:
    def decode() -> ImageData:
        log.append("decoded")
        images = np.arange(10, dtype=np.uint8).repeat(12).reshape(10, 2, 2, 3)
        labels = np.arange(10) % 3
        return ImageData(
            train_images=images,
            train_labels=labels,
            test_images=images[:2],
            test_labels=labels[:2],
            class_names=("cat", "дом", "ship"),
            version="toy",
        )

    return decode


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))


def test_a_data_set_is_decoded_once_for_each_limit() -> None:
    log: list[str] = []
    for _ in range(2):
        everything, four = (load_cached("toy", limit, decoder(log)) for limit in (None, 4))
    assert len(log) == 2
    assert everything.train_images.shape == (10, 2, 2, 3)
    assert four.train_images[:, 0, 0, 0].tolist() == [0, 2, 5, 7]
    assert four.train_labels.tolist() == [0, 2, 2, 1] and four.train_labels.dtype == np.int64


def test_the_limit_is_for_training_pictures_alone() -> None:
    data = load_cached("toy", 1, decoder([]))
    assert len(data.test_images) == len(data.test_labels) == 2


def test_names_and_version_come_back_from_the_cache() -> None:
    data = load_cached("toy", None, decoder([]))
    assert data.class_names == ("cat", "дом", "ship") and data.version == "toy"
    assert data.num_classes == 3
