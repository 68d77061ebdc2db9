"""The speed of loading: every pipeline makes all pictures, ours the same whoever reads; no speed is asserted."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.speed.loading import SIDE, VISITS, pipelines

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
