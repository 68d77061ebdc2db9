"""The speed of generators: what is timed is what is said; both pyramids give the picture back; no speed is asserted."""

import sys
import warnings
from types import ModuleType

import numpy as np
import pytest

from experiments.speed import PictureRate, PictureSpeedRequest, picture_rates, pictures_grid, pictures_heading
from experiments.speed import pictures as measuring
from experiments.speed.__main__ import main
from experiments.speed.pictures import GENERATORS, pyramid_there_and_back
from pixmix_ray.errors import RequestError
from pixmix_ray.seeding import rng


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0)
    monkeypatch.setitem(measuring.PICTURES, 32, 2)


@pytest.mark.parametrize("name", [name for name in GENERATORS if name != "fractaldb"])  # whose search takes seconds
def test_what_is_timed_is_the_set_s_own_pictures(name: str) -> None:
    pictures = GENERATORS[name](np.arange(2), 36)
    assert pictures.shape == (2, 36, 36, 3) and pictures.dtype == np.uint8
    assert pictures.std(axis=(1, 2, 3)).min() > 1  # none is blank


def test_our_pyramid_gives_the_channels_back() -> None:
    channels = rng(0, "test").standard_normal((2, 128, 128)).astype(np.float32)
    assert np.abs(pyramid_there_and_back(channels) - channels).max() < 1e-4


def test_the_peer_s_pyramid_gives_them_back_too() -> None:
    pytest.importorskip("pyrtools", reason="a peer that need not be installed")
    channels = rng(0, "test").standard_normal((2, 128, 128)).astype(np.float32)
    assert np.abs(measuring.peer_pyramid_there_and_back(channels) - channels).max() < 0.05


class HalfPyramid:
    """What pyrtools offers, as far as it is called."""

    def __init__(self, channel: np.ndarray, height: int, order: int) -> None:
        assert channel.shape == (128, 128) and (height, order) == (3, 3)
        self.channel = channel

    def recon_pyr(self) -> np.ndarray:
        return self.channel


def test_the_pyramid_is_timed_beside_its_peer_where_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pyramids = ModuleType("pyrtools.pyramids")
    monkeypatch.setattr(pyramids, "SteerablePyramidFreq", HalfPyramid, raising=False)
    monkeypatch.setitem(sys.modules, "pyrtools", ModuleType("pyrtools"))
    monkeypatch.setitem(sys.modules, "pyrtools.pyramids", pyramids)
    request = PictureSpeedRequest(sets=("spectrum_color_wmm",), repeats=1)
    told: list[str] = []
    monkeypatch.setattr(measuring, "find_spec", lambda name: None)
    assert [rate.theirs for rate in picture_rates(request, told.append)] == [None, None]
    assert told[-1] == "pyrtools is not installed, so not compared"
    monkeypatch.setattr(measuring, "find_spec", lambda name: name)
    drawn, pyramid = picture_rates(request, told.append)
    assert drawn.theirs is None and drawn.ours > 0
    assert pyramid.theirs is not None and pyramid.theirs > 0


def test_rates_are_shown_with_their_ratio() -> None:
    rates = [PictureRate(name="a", side=36, ours=40.0), PictureRate(name="b", side=128, ours=40.0, theirs=10.0)]
    grid = pictures_grid(rates)
    assert grid.rows == (("a", "36", "40", "-", "-", "-"), ("b", "128", "40", "pyrtools", "10", "4.00"))
    heading = pictures_heading(PictureSpeedRequest(sets=("dead_leaves_squares",), size=224, repeats=2))
    assert heading.startswith(
        "`python -m experiments.speed pictures --sets 'dead_leaves_squares' --size 224 --repeats 2`: "
    )


def test_an_unknown_generator_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match="unknown generator 'dust'"):
        PictureSpeedRequest.read({"sets": ["dust"]}, "speed pictures")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(
        sys, "argv", ["experiments.speed", "pictures", "--sets", "dead_leaves_squares", "--repeats", "1"]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    assert not stop.value.code and "dead_leaves_squares" in shown.out and "2 pictures of 36 pixels" in shown.err
