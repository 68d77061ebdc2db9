"""The quickstart as the README prints it, and after it the README's other commands on its results."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.program import PROGRAM

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ELSEWHERE = ("--address", "--watch", "seeds=", "serve", "import")  # a cluster, no end, hours, or another's archive


def commands() -> list[list[str]]:
    """The words of each command of the README that names the quickstart, the first of them its run."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").replace("&& pixmix-ray", "\npixmix-ray").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("pixmix-ray")]
    return [words for words in found if "quickstart" in " ".join(words) and not has_any(ELSEWHERE, words)]


def has_any(parts: tuple[str, ...], words: list[str]) -> bool:
    return any(part in word for part in parts for word in words)


@pytest.mark.drill
@pytest.mark.ray
def test_the_quickstart_and_the_commands_on_its_results_do_what_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    shutil.copy(ROOT / "experiments" / "quickstart.yaml", tmp_path / "experiments")
    first, *others = commands()
    assert first[:2] == ["pixmix-ray", "run"] and len(others) >= 5
    ran = subprocess.run([PROGRAM, *first[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    printed = README.partition("```text\n")[2].partition("```")[0]
    for line in printed.splitlines():
        if re.match(r"\w+ +[=*]?\d", line):  # a row of the table; its figures depend on the processor
            assert re.search(rf"^\s*{line.split()[0]} +[=*]?\d", ran.stdout, re.MULTILINE), ran.stdout
    assert (tmp_path / "results" / "quickstart" / "report.html").is_file()
    for words in others:
        ended = subprocess.run([PROGRAM, *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{shlex.join(words)}\n{ended.stderr}"
        assert ended.stdout.strip(), shlex.join(words)
