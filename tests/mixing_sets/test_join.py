"""Joins of mixing sets: shares of the crops, versions, labels, the short form, and sets that are cropped otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.mixing_sets import MIXING_SETS, Fractals, Join, Pictures
from pixmix_ray.plugins import terms_in
from pixmix_ray.seeding import torch_generator

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
COUNTS = {"red": 1, "green": 3, "blue": 4}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three folders of 1, 3 and 4 pictures of one colour each."""
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for number in range(COUNTS[name]):
            Image.new("RGB", (40 + number, 36), colour).save(tmp_path / name / f"{number}.png")
    return tmp_path


def part(name: str, **weight: float) -> dict[str, Any]:
    return {"name": "folder", "folders": name, **weight}


def join(folders: Path, *sets: object) -> Any:
    return MIXING_SETS.read({"name": "join", "sets": list(sets)}, folders).settings


def colours_of_crops(pictures: Pictures, count: int = 6000) -> list[int]:
    """How many crops are red, green and blue."""
    crops = pictures.to("cpu").crops(count, 32, torch_generator(3, "crops"))
    channel = crops[:, :, 0, 0].argmax(dim=1)
    return [int((channel == colour).sum()) for colour in range(3)]


@pytest.mark.parametrize(
    ("sets", "shares"),
    [
        ([part("red"), part("green")], [1 / 4, 3 / 4, 0]),  # no weights: by the number of pictures
        ([part("red", weight=1), part("green", weight=1)], [1 / 2, 1 / 2, 0]),
        ([part("red", weight=3), part("green", weight=1)], [3 / 4, 1 / 4, 0]),
        ([part("red"), part("green", weight=2)], [1 / 3, 2 / 3, 0]),  # one weight: that of the others is 1
        ([part("red"), part("green"), part("blue")], [1 / 8, 3 / 8, 4 / 8]),
        # a join of a join: the inner weights share the inner's pictures, 4 of 8
        (
            [{"name": "join", "sets": [part("red", weight=3), part("green", weight=1)]}, part("blue")],
            [3 / 8, 1 / 8, 4 / 8],
        ),
        ([{"name": "join", "sets": [part("red"), part("green")], "weight": 1}, part("blue")], [1 / 8, 3 / 8, 1 / 2]),
    ],
)
def test_each_set_gets_its_share_of_the_crops(folders: Path, sets: list[object], shares: list[float]) -> None:
    pictures = join(folders, *sets).pictures(36)
    counts = colours_of_crops(pictures)
    expected = 6000 * np.array(shares)  # worked out by hand above
    assert stats.chisquare([c for c in counts if c], expected[expected > 0]).pvalue > 1e-3


def test_pictures_of_one_weighted_set_are_equally_likely(folders: Path) -> None:
    pictures = join(folders, part("blue", weight=2), part("red", weight=1)).pictures(36)
    assert pictures.weights is not None
    # by hand: two thirds over four pictures, one third over one
    assert pictures.weights / pictures.weights.sum() == pytest.approx([1 / 6] * 4 + [1 / 3])


def test_the_pictures_are_those_of_the_sets_in_their_order(folders: Path) -> None:
    joined = join(folders, part("green"), {"name": "fractals", "count": 2}, part("red"))
    pictures = joined.pictures(36)
    assert len(pictures) == 6 and pictures.version == joined.version()
    fractals = Fractals(count=2).pictures(36)
    assert np.array_equal(pictures[3], fractals[0]) and np.array_equal(pictures[4], fractals[1])
    assert pictures[1].shape == (36, 41, 3) and pictures[5][0, 0].tolist() == [200, 0, 0]


def test_sets_of_equal_weight_without_weights_draw_as_one_set(folders: Path) -> None:
    """Without weights a join of two folders gives the very crops of one set of both folders."""
    joined = join(folders, part("red"), part("green")).pictures(36)
    one = MIXING_SETS.read({"name": "folder", "folders": ["red", "green"]}, folders).settings.pictures(36)
    first, second = (pictures.to("cpu").crops(50, 32, torch_generator(0)).numpy() for pictures in (joined, one))
    assert joined.weights is None and np.array_equal(first, second)


def test_the_version_follows_content_and_shares_and_not_their_scale(folders: Path) -> None:
    def version(*sets: object) -> str:
        found: str = join(folders, *sets).version()
        return found

    plain = version(part("red"), part("green"))
    others = [
        version(part("green"), part("red")),
        version(part("red"), part("blue")),
        version(part("red", weight=1), part("green", weight=1)),
        version(part("red", weight=1), part("green", weight=2)),
    ]
    assert len({plain, *others}) == 5
    assert version(part("red", weight=0.1), part("green", weight=0.2)) == others[-1]
    assert version(part("red"), part("green", weight=2)) == others[-1]  # a missing weight is 1
    Image.new("RGB", (36, 36)).save(folders / "red" / "more.png")
    assert version(part("red"), part("green")) != plain


def test_the_identity_does_not_depend_on_where_things_lie_and_tells_shares_apart(folders: Path) -> None:
    one = MIXING_SETS.read({"name": "join", "sets": [part("red"), "fractals"]}, folders).identity()
    moved = MIXING_SETS.read({"name": "join", "sets": [part("blue"), "fractals"]}, folders).identity()
    weighted = MIXING_SETS.read({"name": "join", "sets": [part("red", weight=2), "fractals"]}, folders).identity()
    assert one == moved != weighted


def test_a_join_reads_back_from_what_it_dumps(folders: Path) -> None:
    spec = {"name": "join", "sets": ["fractals", part("red", weight=2), {"name": "join", "sets": [part("blue")]}]}
    found = MIXING_SETS.read(spec, folders)
    assert MIXING_SETS.read(found.dump(), Path("/elsewhere")) == found
    assert spec["sets"][1] == part("red", weight=2)  # the mapping is not changed


@pytest.mark.parametrize(
    ("sets", "label"),
    [
        (["fractals", part("fvis")], "fractals+fvis"),
        ([part("fractals", weight=1), part("fvis", weight=2.5)], "1*fractals+2.5*fvis"),
        ([{"name": "folder", "folders": ["a", "b.zip"], "weight": 2}, "fractals"], "2*(a+b)+1*fractals"),
    ],
)
def test_the_label_names_the_sets_and_weights(folders: Path, sets: list[object], label: str) -> None:
    assert join(folders, *sets).label("join") == label


def test_plus_signs_are_short_for_a_join() -> None:
    short = MIXING_SETS.read("fractals + fractals")
    assert isinstance(short.settings, Join) and short.name == "join"
    assert short == MIXING_SETS.read({"name": "join", "sets": ["fractals", "fractals"]})
    assert terms_in("a+b") == ["a", "b"]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("fractals+", RequestError, r"mixing set 'fractals\+' has an empty name"),
        ("fractals+fractal", UnknownNameError, "unknown mixing set 'fractal', did you mean 'fractals'"),
        ({"name": "fractals+fractals", "count": 3}, UnknownNameError, "unknown key in mixing set join: 'count'"),
        ({"name": "join"}, RequestError, "mixing set join: the key 'sets' is missing"),
        ({"name": "join", "sets": []}, RequestError, "at least 1 item"),
        ({"name": "join", "sets": "fractals"}, RequestError, "sets = 'fractals': "),
        ({"name": "join", "sets": [3]}, RequestError, "mixing set must be a name, or a mapping"),
        ({"name": "join", "sets": [{"name": "fractals", "weight": 0}]}, RequestError, "weight = 0: .*above 0"),
        ({"name": "join", "sets": [{"name": "fractals", "weight": -1}]}, RequestError, "weight = -1: .*above 0"),
        ({"name": "join", "sets": [{"name": "fractals", "weight": "many"}]}, RequestError, "weight = 'many': "),
        ({"name": "join", "sets": [{"name": "fractals", "weight": float("inf")}]}, RequestError, "weight = inf: "),
        ({"name": "join", "sets": [{"name": "fractals", "wieght": 1}]}, UnknownNameError, "'wieght'"),
        ({"name": "join", "sets": [{"weight": 1}]}, RequestError, "mapping with the key 'name'"),
        ("$PIXMIX_NOT_SET/fractals", RequestError, r"the variable \$PIXMIX_NOT_SET, which is not set"),
        (r"C:\fractals", RequestError, "mixing set .* is a Windows path"),
        ("s3://bucket/fractals", RequestError, "is a URI: pictures are read from local folders"),
        ("s3:/bucket/fractals", RequestError, "looks like a URI: write s3://"),
    ],
)
def test_wrong_joins_are_errors_in_one_line(spec: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        MIXING_SETS.read(spec)
    assert "\n" not in str(caught.value)


def test_other_tables_have_no_short_form() -> None:
    from pixmix_ray.methods import METHODS

    with pytest.raises(UnknownNameError, match=r"unknown method 'pixmix\+cutmix'"):
        METHODS.read("pixmix+cutmix")


def test_a_join_keeps_the_flip_of_the_sets_that_have_one(folders: Path) -> None:
    np.save(folders / "left.npy", np.tile(np.arange(32, dtype=np.uint8)[None, None, :, None], (5, 32, 1, 3)))
    pictures = join(folders, {"name": "random_images_300k", "file": "left.npy"}, part("red")).pictures(36)
    assert pictures.mirrored is not None and pictures.mirrored.tolist() == [True] * 5 + [False]
    assert pictures[0].shape == (40, 40, 3) and pictures[5].shape == (36, 40, 3)
