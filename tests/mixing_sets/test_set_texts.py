"""Mixing sets as a text: paths, weights, and the labels that are printed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixmix_ray.errors import RequestError
from pixmix_ray.mixing_sets import MIXING_SETS
from pixmix_ray.plugins import terms_in


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(tmp_path / name / "a.png")
    np.save(tmp_path / "array.npy", np.zeros((2, 8, 8, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["mine", "./mine", "{}/mine", "array.npy"])
def test_a_path_works_where_a_set_is_asked_for(folder: Path, text: str) -> None:
    part = MIXING_SETS.read(text.format(folder))
    assert part.name == "folder" and len(part.settings.pictures(8)) in (1, 2)


@pytest.mark.parametrize(
    "text", ["fractals+fractaldb", "1*fractals+3*mine", "mine*0.7+fractals*0.3", "0.5*(mine+yours)+1*fractals"]
)
def test_the_label_of_a_join_is_read_as_the_same_join(folder: Path, text: str) -> None:
    part = MIXING_SETS.read(text)
    label = part.settings.label(part.own_name)
    again = MIXING_SETS.read(label)
    assert again.settings.label(again.own_name) == label
    assert again.settings.identity() == part.settings.identity()


@pytest.mark.parametrize(("text", "error"), [("a+", "has an empty name"), ("(a+b", "unclosed parenthesis")])
def test_a_text_that_is_none_is_told(text: str, error: str) -> None:
    with pytest.raises(RequestError, match=error):
        terms_in(text)
