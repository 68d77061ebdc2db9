"""Sequences through H.264: as many frames of the same size, close to what went in, as in the published ImageNet-P."""

import numpy as np
import pytest

from pixmix_ray.benchmarks import Consistency
from pixmix_ray.corruptions.p.sequences import encoder, through_h264
from pixmix_ray.errors import DataError, RequestError

try:
    encoder()
except DataError:
    pytest.skip("the extra video is not installed", allow_module_level=True)


@pytest.mark.parametrize("is_noise", [False, True])
def test_frames_come_back_in_order_and_close_to_what_they_were(is_noise: bool) -> None:
    rows, columns = np.mgrid[:64, :48]
    levels = [np.stack([rows * 2 + shift, columns * 3, rows + columns], axis=2) for shift in range(0, 100, 20)]
    sequences = np.stack([np.stack(levels), np.stack(levels[::-1])]).astype(np.uint8)
    found = through_h264(sequences, is_noise=is_noise)
    assert found.shape == sequences.shape and found.dtype == np.uint8
    assert 0 < np.abs(found.astype(int) - sequences).mean() < 5  # it loses a little, and no frame is another's
    assert np.array_equal(through_h264(sequences[:1], is_noise=is_noise), found[:1])


def test_frames_with_an_odd_side_are_refused() -> None:
    with pytest.raises(DataError, match="frames are 33 x 32: their sides must be even"):
        through_h264(np.zeros((1, 2, 32, 33, 3), np.uint8), is_noise=False)


def test_the_encoder_is_part_of_what_is_measured() -> None:
    assert Consistency(codec="h264").version() == f"h264-av{encoder().__version__}"
    assert Consistency().version() == "" and "codec" not in Consistency().identity()
    with pytest.raises(RequestError, match="codec = 'h265'"):
        Consistency.read({"codec": "h265"}, "benchmark consistency")
