"""What is said of settings: every one has a meaning; and the JSON schema takes what we take and marks mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixmix_ray.cli.console import as_json
from pixmix_ray.experiment.described import TABLES, experiment_schema, settings_of
from pixmix_ray.methods import METHODS
from pixmix_ray.settings import Settings

jsonschema = pytest.importorskip("jsonschema")
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
FILES = sorted(EXPERIMENTS.glob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(json.dumps(experiment_schema(), default=str))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("kind", TABLES)
def test_every_setting_of_ours_says_what_it_means(kind: str) -> None:
    silent = [(name, s.name) for name, part in TABLES[kind].ours.items() for s in settings_of(part) if not s.meaning]
    assert not silent


def test_a_setting_has_default_and_range() -> None:
    found = {setting.name: (setting.default, setting.range) for setting in settings_of(METHODS.ours["pixmix"])}
    assert found["k"] == ("4", "integer ≥ 0")
    assert found["severity"] == ("3", "number > 0 and ≤ 10")
    assert found["partner"] == ("both", "both, augmented, pictures, iterative")

    class Own(Settings):
        note: str = ""
        must: str

    assert [setting.default for setting in settings_of(Own)] == ['""', ""]


def test_the_schema_beside_the_experiments_is_that_of_the_code(schema: dict[str, Any]) -> None:
    stored = EXPERIMENTS / "schema.json"
    if json.loads(stored.read_text()) != schema:
        stored.write_text(as_json(schema) + "\n")
        pytest.fail("experiments/schema.json was behind the code; it is written anew: commit it with the change")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_the_files_here_name_the_schema_and_fit_it(file: Path, validator: Any) -> None:
    text = file.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    validator.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("content", "is_right"),
    [
        ({"extends": "a.yaml", "methods+": ["augmix"], "x-mine": 3, "presets": {"a": {"seeds": [1]}}}, True),
        ({"training": {"lr": [0.1, 0.2]}, "methods": [{"name": "pixmix", "severity": {"grid": [1, 2]}}]}, True),
        ({"dataset": ["cifar10", "digits"], "methods": "my:Method", "zip": ["training.lr", "training.epochs"]}, True),
        ({"method": ["pixmix"]}, False),
        ({"methods": [{"name": "pixmix", "severty": 3}]}, False),
        ({"training": {"epoch": 3}}, False),
        ({"seeds": ["a"]}, False),
    ],
)
def test_the_schema_marks_mistakes_and_nothing_else(content: dict[str, Any], is_right: bool, validator: Any) -> None:
    assert validator.is_valid(content) is is_right
