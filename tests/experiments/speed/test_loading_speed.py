"""The speed of loading: every pipeline makes all pictures, ours the same whoever reads; no speed is asserted."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.speed.loading import HEIGHT, SIDE, VISITS, pipelines
from experiments.speed.loading_steps import steps

COUNT = 4


@pytest.mark.drill
@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
def test_every_pipeline_makes_every_picture(tmp_path: Path) -> None:
    made = {name: list(pipeline()) for name, pipeline in pipelines(tmp_path, COUNT).items()}
    for name, pictures in made.items():
        assert len(pictures) == COUNT * VISITS, name
        assert sorted(np.asarray(pictures[0]).shape) == [3, SIDE, SIDE], name
    ours = [made[f"reading: ours, Pillow, {how}"] for how in ("DataLoader", "threads")]
    for first, second in pairwise(ours):
        for one, other in zip(first, second, strict=True):
            assert isinstance(one, torch.Tensor)
            assert np.array_equal(one.numpy(), np.asarray(other))


@pytest.mark.drill
def test_the_steps_are_those_of_the_pipeline(tmp_path: Path) -> None:
    found = {name: step() for name, step in steps(tmp_path, 1).items()}
    ((whole,), (part,)) = (np.asarray(found[f"decoding, {how}"]) for how in ("whole", "down to the crop"))
    assert len(part) <= len(whole) == HEIGHT and np.array_equal(part[:-16], whole[: len(part) - 16])
    assert sorted(np.asarray(found["normalisation"]).shape) == [1, 3, SIDE, SIDE]
