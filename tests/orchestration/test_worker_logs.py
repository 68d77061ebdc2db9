"""What workers print and raise, kept in the results folder; in processes of their own, as workers are."""

import subprocess
import sys
from pathlib import Path

BEGIN = """
import os, subprocess, sys, warnings
from pathlib import Path
from pixmix_ray.orchestration.worker_logs import logged
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import Store

store, place = Store(sys.argv[1]), Place(host="here", pid=1)
"""
TALK = """
for word in ("first", "second"):
    with logged(store, "logs/t/training.log", place):
        print(word)
        warnings.warn("careful with " + word)
        os.write(2, b"from below\\n")
        subprocess.run(["echo", "from a child"])
print("shown")
"""
SILENCE = """
with logged(store, "logs/t/training.log", place):
    pass
print("shown")
"""
ERROR = """
with logged(store, "logs/t/c.log", place):
    raise ValueError("bad idea")
"""


def run(code: str, results: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code, str(results)], capture_output=True, text=True, check=False
    )


def test_what_python_the_system_and_children_write_is_kept_behind_what_was_there(tmp_path: Path) -> None:
    ended = run(TALK, tmp_path)
    assert (ended.stdout, ended.stderr) == ("shown\n", "")
    text = (tmp_path / "logs/t/training.log").read_text()
    for word in ("first", "second"):
        assert text.count(f"\n{word}\n") == text.count(f"careful with {word}\n") == 1
    assert text.count("from below\n") == text.count("from a child\n") == 2
    assert text.index("first") < text.index("second")
    assert sum(line.startswith("---") and line.endswith("on here, pid 1") for line in text.splitlines()) == 2


def test_a_block_that_says_nothing_leaves_no_file(tmp_path: Path) -> None:
    assert run(SILENCE, tmp_path).stdout == "shown\n"
    assert list(tmp_path.rglob("*.log")) == []


def test_an_error_is_kept_with_its_traceback_and_raised(tmp_path: Path) -> None:
    ended = run(ERROR, tmp_path)
    assert ended.returncode == 1 and "ValueError: bad idea" in ended.stderr
    text = (tmp_path / "logs/t/c.log").read_text()
    assert "Traceback (most recent call last)" in text and "ValueError: bad idea" in text
