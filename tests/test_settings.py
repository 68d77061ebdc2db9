"""The base of all settings: frozen, strict about keys, paths relative to the right folder, mistakes in one line."""

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field, ValidationError, field_validator

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.settings import DataPath, Located, ResultsUri, Settings


class Inner(Settings):
    momentum: float = Field(0.9, ge=0, lt=1)


class Sample(Settings):
    location: ClassVar[frozenset[str]] = frozenset({"root"})
    rate: float = Field(0.5, gt=0, le=1)
    count: int = 3
    kind: str = "warm"
    root: DataPath | None = None
    inner: Inner = Inner()

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        if kind not in ("warm", "cold"):
            raise UnknownNameError("kind", kind, ("warm", "cold"))
        return kind


class Place(Settings):
    results: ResultsUri


class Needy(Settings):
    root: DataPath


def message(values: dict[str, Any], kind: type[Settings] = Sample) -> str:
    with pytest.raises(RequestError) as caught:
        kind.read(values, "method sample")
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    sample = Sample.read({"rate": 0.25}, "method sample")
    with pytest.raises(ValidationError):
        sample.rate = 0.5  # type: ignore[misc]  # the assignment is what must fail
    assert sample.rate == 0.25


def test_reading_does_not_change_the_values_given() -> None:
    values = {"inner": {"momentum": 0.5}, "root": "data"}
    Sample.read(values, "method sample")
    assert values == {"inner": {"momentum": 0.5}, "root": "data"}


def test_identity_holds_all_defaults_and_no_location() -> None:
    identity = Sample.read({"root": "somewhere"}, "method sample").identity()
    assert identity == {"rate": 0.5, "count": 3, "kind": "warm", "inner": {"momentum": 0.9}}


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"rat": 0.1}, ["method sample", "'rat'", "did you mean 'rate'?"]),
        ({"inner": {"momentun": 0.1}}, ["method sample", "momentun", "did you mean 'momentum'?"]),
        ({"inner": {"mom": 0.1}}, ["inner", "'mom'", "Known: momentum"]),
        ({"rate": 0}, ["method sample", "rate = 0", "above 0"]),
        ({"rate": 2}, ["rate = 2", "at most 1"]),
        ({"rate": "fast"}, ["rate = 'fast'", "number"]),
        ({"rate": float("nan")}, ["rate = nan"]),
        ({"rate": float("inf")}, ["rate = inf"]),
        ({"count": 1.5}, ["count = 1.5", "whole number"]),
        ({"count": None}, ["count = None", "whole number"]),
        ({"inner": {"momentum": 1}}, ["inner.momentum = 1", "below 1"]),
        ({"kind": "wram"}, ["unknown kind 'wram'", "did you mean 'warm'?"]),
        ({"kind": "wa\nrm"}, ["unknown kind"]),
    ],
)
def test_a_mistake_is_told_in_one_line_with_key_value_and_what_is_allowed(
    values: dict[str, Any], parts: list[str]
) -> None:
    text = message(values)
    for part in parts:
        assert part in text


def test_a_missing_key_is_named() -> None:
    assert message({}, Needy) == "method sample: the key 'root' is missing"


def test_a_misspelt_key_is_told_as_such_and_not_as_a_missing_one() -> None:
    assert "did you mean 'root'?" in message({"rot": "data"}, Needy)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("data", "{base}/data"), ("../data", "{parent}/data"), ("/data", "/data"), ("a/../b", "{base}/b")],
)
def test_a_path_in_a_file_starts_at_the_folder_of_that_file(tmp_path: Path, written: str, expected: str) -> None:
    base = tmp_path / "experiments"
    base.mkdir()
    path = Needy.read({"root": written}, "dataset", base).root
    assert path == Path(expected.format(base=base, parent=tmp_path))


def test_a_path_typed_at_the_shell_starts_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Needy.read({"root": Located("data")}, "dataset", Path("/elsewhere")).root == tmp_path / "data"
    assert Place.read({"results": Located("out")}, "experiment", Path("/elsewhere")).results == f"{tmp_path}/out"


def test_without_a_base_a_path_starts_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Needy.read({"root": "data"}, "dataset").root == tmp_path / "data"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Needy.read({"root": "~/data"}, "dataset", Path("/elsewhere")).root == tmp_path / "data"


@pytest.mark.parametrize("uri", ["s3://bucket/folder", "gs://bucket/folder/", "file:///results"])
def test_a_uri_for_results_stays_as_it_is(uri: str) -> None:
    assert Place.read({"results": uri}, "experiment", Path("/elsewhere")).results == uri


@pytest.mark.parametrize("value", [None, {"folder": "a"}, ["a", "b"], True])
def test_what_is_no_path_is_no_place_for_results(value: object) -> None:
    assert "results" in message({"results": value}, Place)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$PIXMIX_TEST_PLACE/res", "/somewhere/res"),
        ("${PIXMIX_TEST_PLACE}/res", "/somewhere/res"),
        ("s3://$PIXMIX_TEST_NAME/res", "s3://bucket/res"),
        ("file:///tmp/some%20where", "file:///tmp/some%20where"),
        ("/tmp/100%20ü #1", "/tmp/100%20ü #1"),
        ("/tmp/a:b", "/tmp/a:b"),
    ],
)
def test_variables_in_a_path_are_filled_in(text: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMIX_TEST_PLACE", "/somewhere")
    monkeypatch.setenv("PIXMIX_TEST_NAME", "bucket")
    assert Place.read({"results": text}, "experiment").results == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$PIXMIX_NOT_SET/res", "the variable $PIXMIX_NOT_SET, which is not set"),
        ("${PIXMIX_NOT_SET}/res", "the variable ${PIXMIX_NOT_SET}, which is not set"),
        ("%USERPROFILE%/res", "the variable %USERPROFILE%, which is not set"),
        ("s3:/bucket/res", "looks like a URI: write s3://bucket/res"),
        ("s3//bucket/res", "looks like a URI: write s3://bucket/res"),
        ("gs:bucket/res", "looks like a URI: write gs://bucket/res"),
        ("C:/res", "is a Windows path"),
        ("C:\\data\\res", "is a Windows path"),
        ("~nobody_here/x", "cannot be expanded: .* Write the path out"),
    ],
)
def test_what_would_become_a_local_folder_of_that_name_is_refused(text: str, said: str) -> None:
    for kind, key in ((Place, "results"), (Needy, "root")):
        assert re.search(said.replace("$", "[$]").replace("{", "[{]"), message({key: text}, kind))


def test_data_are_read_from_local_paths(tmp_path: Path) -> None:
    assert "root = 's3://bucket/x': it is a URI, and data are read from local paths" in message(
        {"root": "s3://bucket/x"}, Needy
    )
    (tmp_path / "loop").symlink_to("loop")
    assert "a link that leads back to itself" in message({"root": str(tmp_path / "loop")}, Needy)


class Numbers(Settings):
    count: int = 1
    rates: tuple[float, ...] = ()
    limit: int | None = None
    is_on: bool = False


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": True}, "count = True: must be a number, not true or false"),
        ({"rates": [0.5, False]}, r"rates = \[0.5, False\]: must be a number"),
        ({"limit": False}, "limit = False: must be a number"),
        ({"limit": "yes"}, "limit = 'yes': must be a whole number"),
    ],
)
def test_booleans_are_no_numbers(values: dict[str, object], said: str) -> None:
    assert re.search(said, message(values, Numbers))
    assert Numbers.read({"is_on": True}, "numbers").is_on


class Implied(Settings):
    implied: ClassVar[frozenset[str]] = frozenset({"later"})
    first: int = 1
    later: float = 0.5


def test_a_field_that_came_later_is_part_of_an_identity_only_where_it_is_set_otherwise() -> None:
    assert Implied().identity() == {"first": 1}
    assert Implied(later=0.5).identity() == {"first": 1}
    assert Implied(later=0.25).identity() == {"first": 1, "later": 0.25}
