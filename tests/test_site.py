"""The site of guide and reference: built without a warning, whole, and asking no server for anything."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_every_document_has_its_place_in_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    assert [file.name for file in (ROOT / "docs").glob("*.md") if f": {file.name}\n" not in text] == []


@pytest.mark.drill
@pytest.mark.skipif(not (find_spec("mkdocs") and find_spec("mkdocstrings")), reason="needs the extra docs")
def test_the_site_is_built_without_a_warning_and_stands_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    pages = {page.relative_to(tmp_path).as_posix(): page.read_text() for page in tmp_path.rglob("*.html")}
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//[^"]*"|<link[^>]*rel="stylesheet"[^>]*href="http'
    )
    assert [name for name, text in pages.items() if loaded.search(text)] == []
    assert "A method of your own" in pages["experiments.html"] and "experiments.html#" in pages["index.html"]
    for name, shown in (("api", "evaluate"), ("methods", "PixMix"), ("metrics", "rms_calibration_error")):
        assert f'id="pixmix_ray.{name}' in pages[f"reference/{name}.html"] and shown in pages[f"reference/{name}.html"]
