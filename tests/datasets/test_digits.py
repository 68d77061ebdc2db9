"""Scikit-learn's digits as a data set of 32x32 colour pictures."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits

from pixmix_ray.datasets import Digits


def test_every_digit_is_there_once() -> None:
    data = Digits().load()
    assert data.train_images.shape == (1433, 32, 32, 3) and data.train_images.dtype == np.uint8
    assert data.test_images.shape == (364, 32, 32, 3) and data.test_images.dtype == np.uint8
    assert data.class_names == tuple("0123456789")
    # Second implementation: the source's labels, counted.
    counts = np.bincount(data.train_labels) + np.bincount(data.test_labels)
    assert counts.tolist() == np.bincount(load_digits().target).tolist()


def test_the_split_has_a_fifth_of_each_class() -> None:
    data = Digits().load()
    share = np.bincount(data.test_labels) / (np.bincount(data.train_labels) + np.bincount(data.test_labels))
    assert np.abs(share - 0.2).max() < 0.006


def test_the_first_digit_of_each_class_is_a_test_picture_and_the_next_four_are_not() -> None:
    source, data = load_digits(), Digits().load()
    zeros = np.flatnonzero(source.target == 0)[:5]
    small = torch.from_numpy(source.images[zeros] * (255 / 16)).round()[:, None]
    # Second implementation of the enlargement: torch's bilinear filter, within one level of Pillow's.
    large = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)[:, 0].numpy()
    assert np.abs(data.test_images[data.test_labels == 0][0, ..., 0] - large[0]).max() <= 1
    assert np.abs(data.train_images[data.train_labels == 0][:4, ..., 0] - large[1:]).max() <= 1


def test_pictures_are_grey_and_use_the_full_range() -> None:
    images = Digits().load().train_images
    assert np.array_equal(images[..., 0], images[..., 1]) and np.array_equal(images[..., 0], images[..., 2])
    assert images.min() == 0 and images.max() == 255


def test_a_training_limit_keeps_evenly_spaced_pictures() -> None:
    everything, few = Digits().load(), Digits(train_limit=100).load()
    assert np.array_equal(few.train_images, everything.train_images[np.arange(100) * 1433 // 100])
    assert np.array_equal(few.test_images, everything.test_images)
    assert few.version == everything.version == Digits().version()


def test_a_training_limit_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Digits(train_limit=0)


def test_number_and_height_are_those_of_the_pictures() -> None:
    found, data = Digits(train_limit=5), Digits().load()
    assert (found.num_train_images(), found.height()) == data.train_images.shape[:2]
