"""The tables: every name opens, other people's classes are found, and what is no part is refused in one line."""

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from pixmix_ray.benchmarks import BENCHMARKS, Clean
from pixmix_ray.datasets import DATASETS, Digits
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.experiment.described import TABLES
from pixmix_ray.methods import METHODS, Baseline, PixMix
from pixmix_ray.mixing_sets import MIXING_SETS, Fractals, Join
from pixmix_ray.models import MODELS, WideResNet
from pixmix_ray.plugins import Part, Table, user_modules
from pixmix_ray.settings import Settings

OTHERS = """
from pydantic import Field

from pixmix_ray.benchmarks import Clean
from pixmix_ray.methods import Method
from pixmix_ray.mixing_sets import Fractals, Join


class Gentle(Method):
    summary = "leaves pictures alone"
    source = "a test"
    strength: float = Field(0.5, ge=0)


class Night(Clean):
    summary = "the test set in the dark"
    shade: int = 3


class Dots(Fractals):
    pass


class Named(Method):
    name: str = "mine"


class NoPart:
    pass


number = 3
"""
EVERY_NAME = [(table, name) for table in TABLES.values() for name in table.ours]


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of somebody else on sys.path."""
    name = f"others_{abs(hash(tmp_path))}"  # a new one for each test: an imported module stays imported
    (tmp_path / f"{name}.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Callable[[EntryPoint], None]:
    """Announces entry points as an installed package would."""
    announced: list[EntryPoint] = []

    def entry_points(*, group: str) -> Sequence[EntryPoint]:
        return [point for point in announced if point.group == group]

    monkeypatch.setattr("pixmix_ray.plugins.entry_points", entry_points)
    return announced.append


def refusal(table: Table[Any], spec: object) -> str:
    with pytest.raises(RequestError) as caught:
        table.read(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("table", "name"), EVERY_NAME, ids=lambda value: value if isinstance(value, str) else "")
def test_every_name_leads_to_a_class_of_its_kind_that_says_what_it_is(table: Table[Any], name: str) -> None:
    found = table.find(name)
    assert issubclass(found, table.base)
    summary = getattr(found, "summary", None)
    assert isinstance(summary, str)
    assert summary
    assert "\n" not in summary


def test_the_parts_that_the_first_experiments_need_are_there() -> None:
    assert {"baseline", "cutout", "mixup", "cutmix", "pixmix"} <= set(METHODS.known())
    assert {"clean", "corruptions", "adversaries", "anomalies"} <= set(BENCHMARKS.known())
    assert {"digits", "cifar10", "cifar100"} <= set(DATASETS.known())
    assert {"wide_resnet", "cifar_resnet"} <= set(MODELS.known())
    assert {"fractals", "folder"} <= set(MIXING_SETS.known())


def test_a_name_and_a_mapping_with_that_name_are_the_same_part() -> None:
    assert METHODS.read("pixmix") == METHODS.read({"name": "pixmix"})
    assert METHODS.read("pixmix").settings == PixMix()
    assert METHODS.read({"name": "pixmix", "k": 2}).settings == PixMix(k=2)


@pytest.mark.parametrize(
    ("table", "name", "kind", "setting"),
    [
        (METHODS, "pixmix", PixMix, {"k": 2}),
        (DATASETS, "digits", Digits, {"train_limit": 7}),
        (MODELS, "wide_resnet", WideResNet, {"depth": 10}),
        (MIXING_SETS, "fractals", Fractals, {"count": 3}),
        (BENCHMARKS, "clean", Clean, {"limit": 5}),
    ],
)
def test_a_class_or_an_object_of_it_is_the_part_that_its_name_is(
    table: Table[Any], name: str, kind: type[Settings], setting: dict[str, int]
) -> None:
    assert table.read(kind) == table.read(name) == table.read(kind()) == table.read(table.read(kind))
    whole = table.read({"name": name, **setting})
    assert table.read({"name": kind, **setting}) == table.read(kind(**setting)) == whole
    assert whole.name == name


def test_one_of_somebody_elses_is_one_thing_however_it_is_named(
    others: str, announce: Callable[[EntryPoint], None]
) -> None:
    announce(EntryPoint(name="gentle", value=f"{others}:Gentle", group="pixmix_ray.methods"))
    kind: Any = METHODS.find(f"{others}:Gentle")
    specs = [{"name": name, "strength": 2} for name in (f"{others}:Gentle", "gentle", kind)] + [kind(strength=2)]
    parts = [METHODS.read(spec) for spec in specs]
    assert [part.name for part in parts] == [f"{others}:Gentle", "gentle", f"{others}:Gentle", f"{others}:Gentle"]
    (identity,) = {tuple(part.identity().items()) for part in parts}
    assert dict(identity)["name"] == "Gentle" == parts[1].own_name and len(dict(identity)["source"]) == 12
    assert parts[1].described() == {**dict(identity), "name": "gentle"}


def test_one_of_somebody_elses_within_another_part_has_its_source_too(tmp_path: Path, others: str) -> None:
    sets = [{"name": f"{others}:Dots"}, "fractals"]
    first, second = MIXING_SETS.read({"name": "join", "sets": sets}).identity()["sets"]
    assert first["name"] == "Dots" and len(first["source"]) == 12 and "source" not in second
    assert MIXING_SETS.read({"name": "join", "sets": sets}).settings.label("join") == "Dots+fractals"


def test_a_join_of_one_set_is_that_set() -> None:
    one = MIXING_SETS.read({"name": "join", "sets": [{"name": "fractals", "count": 3, "weight": 2}]})
    assert one == MIXING_SETS.read({"name": "fractals", "count": 3}) == MIXING_SETS.read(Join(sets=[Fractals(count=3)]))


def test_the_modules_of_the_user_that_parts_need(others: str) -> None:
    parts: list[Part[Any]] = [METHODS.read("pixmix"), METHODS.read(f"{others}:Gentle")]
    assert [module.__name__ for module in user_modules(parts)] == [others]
    join = MIXING_SETS.read({"name": "join", "sets": [f"{others}:Dots", "fractals"]})
    assert [module.__name__ for module in user_modules([join])] == [others]
    assert user_modules(parts[:1]) == []


def test_reading_does_not_change_the_mapping_given() -> None:
    spec = {"name": "pixmix", "k": 2}
    METHODS.read(spec)
    assert spec == {"name": "pixmix", "k": 2}


def test_what_a_part_dumps_reads_back_as_the_same_part(tmp_path: Path) -> None:
    for part in (METHODS.read({"name": "pixmix", "k": 2}), METHODS.read("baseline")):
        assert METHODS.read(part.dump()) == part
    pictures = MIXING_SETS.read({"name": "folder", "folders": "a"}, tmp_path)
    assert MIXING_SETS.read(pictures.dump(), Path("/elsewhere")) == pictures


def test_identity_has_the_name_and_leaves_out_where_things_lie(tmp_path: Path) -> None:
    assert MIXING_SETS.read({"name": "folder", "folders": "a"}, tmp_path).identity() == {"name": "folder"}
    assert METHODS.read("baseline").identity() == {"name": "baseline"}


@pytest.mark.parametrize(
    ("table", "spec", "parts"),
    [
        (METHODS, "pixmx", ["unknown method 'pixmx'", "did you mean 'pixmix'?", "baseline"]),
        (MIXING_SETS, "fractal", ["unknown mixing set 'fractal'", "did you mean 'fractals'?"]),
        (METHODS, {"name": "pixmix", "bta": 3}, ["method pixmix", "'bta'", "did you mean 'beta'?"]),
        (METHODS, {"k": 3}, ["method", "'name'"]),
        (METHODS, {"name": 3}, ["method", "'name'"]),
        (METHODS, 3, ["method", "3"]),
        (METHODS, None, ["method", "None"]),
        (METHODS, ["pixmix"], ["method", "pixmix"]),
        (METHODS, Digits, ["not a method", "Digits"]),
        (METHODS, Digits(), ["not a method", "derived from Method"]),
        (METHODS, {"name": dict}, ["not a method", "dict"]),
        (METHODS, DATASETS.read("digits"), ["not a method"]),
        (METHODS, "no_such_module_here:Thing", ["no_such_module_here:Thing", "module:Class"]),
        (METHODS, "pixmix_ray.methods:PixMax", ["pixmix_ray.methods:PixMax", "PixMax"]),
        (METHODS, "pixmix_ray.models:WideResNet", ["not a method", "Method"]),
        (BENCHMARKS, "pixmix_ray.methods:PixMix", ["not a benchmark", "Benchmark"]),
        (METHODS, "pixmix_ray.methods:", ["pixmix_ray.methods:"]),
    ],
)
def test_what_is_no_part_is_refused_in_one_line(table: Table[Any], spec: object, parts: list[str]) -> None:
    text = refusal(table, spec)
    for part in parts:
        assert part in text


def test_an_unknown_name_is_an_unknown_name_error() -> None:
    with pytest.raises(UnknownNameError):
        METHODS.find("pixmx")


def test_a_class_on_the_path_works_without_registration(others: str) -> None:
    part = METHODS.read({"name": f"{others}:Gentle", "strength": 0.25})
    assert part.name == f"{others}:Gentle"
    assert part.identity()["strength"] == 0.25
    assert METHODS.read(part.dump()) == part
    benchmark = BENCHMARKS.read({"name": f"{others}:Night", "limit": 7})
    assert (benchmark.settings.limit, benchmark.identity()["shade"]) == (7, 3)


def test_the_settings_of_other_peoples_classes_are_checked_like_ours(others: str) -> None:
    assert "did you mean 'strength'?" in refusal(METHODS, {"name": f"{others}:Gentle", "strenght": 1})
    assert "strength = -1" in refusal(METHODS, {"name": f"{others}:Gentle", "strength": -1})


def test_a_setting_whose_name_has_another_meaning_is_refused(others: str) -> None:
    assert "Named has a setting 'name', which is a reserved name: rename it" in refusal(METHODS, f"{others}:Named")


def test_a_module_is_found_in_the_current_folder_and_beside_the_file_behind_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, beside = tmp_path / "here", tmp_path / "beside"
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder, name in ((here, "part_in_cwd"), (beside, "part_beside")):
        folder.mkdir()
        (folder / f"{name}.py").write_text(OTHERS)
        (folder / "statistics.py").write_text("raise RuntimeError")
    monkeypatch.chdir(here)
    assert METHODS.read("part_in_cwd:Gentle", beside).name == "part_in_cwd:Gentle"
    assert METHODS.read("part_beside:Gentle", beside).name == "part_beside:Gentle"
    assert sys.path[-2:] == [str(here), str(beside)]


@pytest.mark.parametrize("attribute", ["NoPart", "number", "Night"])
def test_a_thing_of_the_wrong_kind_on_the_path_is_refused(others: str, attribute: str) -> None:
    text = refusal(METHODS, f"{others}:{attribute}")
    assert f"{others}:{attribute}" in text
    assert "Method" in text


def test_an_installed_package_announces_its_classes_by_entry_points(
    others: str, announce: Callable[[EntryPoint], None]
) -> None:
    announce(EntryPoint(name="gentle", value=f"{others}:Gentle", group="pixmix_ray.methods"))
    announce(EntryPoint(name="night", value=f"{others}:Night", group="pixmix_ray.benchmarks"))
    assert METHODS.read({"name": "gentle", "strength": 2}).settings.identity() == {"strength": 2.0}
    assert {"gentle", "pixmix"} <= set(METHODS.known())
    assert "gentle" not in BENCHMARKS.known()
    assert BENCHMARKS.find("night").__name__ == "Night"
    assert "did you mean 'gentle'?" in refusal(METHODS, "gentel")


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("methods", "pixmix_ray.methods"),
        ("mixing-sets", "pixmix_ray.mixing_sets"),
        ("datasets", "pixmix_ray.datasets"),
        ("models", "pixmix_ray.models"),
        ("benchmarks", "pixmix_ray.benchmarks"),
    ],
)
def test_the_group_of_entry_points_is_the_plural_of_the_kind(kind: str, group: str) -> None:
    assert TABLES[kind].group == group


def test_nobody_can_take_over_one_of_our_names(others: str, announce: Callable[[EntryPoint], None]) -> None:
    announce(EntryPoint(name="baseline", value=f"{others}:Gentle", group="pixmix_ray.methods"))
    assert METHODS.find("baseline") is Baseline
    with pytest.warns(
        UserWarning, match=r"^the entry point baseline = .* of pixmix_ray, which is used instead: rename"
    ):
        assert METHODS.known()["baseline"] is Baseline


@pytest.mark.parametrize("value", ["{others}:NoPart", "{others}:Missing", "no_such_module_here:Thing"])
def test_a_broken_announcement_is_named_and_does_not_stop_our_own_names(
    others: str, announce: Callable[[EntryPoint], None], value: str
) -> None:
    announced = value.format(others=others)
    announce(EntryPoint(name="broken", value=announced, group="pixmix_ray.methods"))
    announce(EntryPoint(name="gentle", value=f"{others}:Gentle", group="pixmix_ray.methods"))
    assert METHODS.find("pixmix") is PixMix
    assert METHODS.find("gentle").__name__ == "Gentle"
    assert announced in refusal(METHODS, "broken")
    assert "did you mean 'gentle'?" in refusal(METHODS, "gentel")
    with pytest.warns(
        UserWarning, match=f"^the entry point broken = {announced} .* cannot be used: .* Fix or uninstall"
    ):
        assert {"gentle", "pixmix"} <= set(METHODS.known()) and "broken" not in METHODS.known()


@pytest.mark.parametrize("shape", ["squares", "circles", "oriented", "mixed"])
def test_the_name_of_table_4_stands_for_dead_leaves_of_that_shape(shape: str) -> None:
    short = MIXING_SETS.read({"name": f"dead_leaves_{shape}", "count": 3})
    whole = MIXING_SETS.read({"name": "dead_leaves", "shape": shape, "count": 3})
    assert short == whole and whole.settings.label(whole.name) == f"dead_leaves_{shape}"
    with pytest.raises(
        RequestError, match=f"dead_leaves_{shape} sets shape itself: leave shape out, or use dead_leaves"
    ):
        MIXING_SETS.read({"name": f"dead_leaves_{shape}", "shape": "circles"})
    with pytest.raises(UnknownNameError, match="did you mean 'dead_leaves_squares'"):
        MIXING_SETS.read("dead_leaves_square")
