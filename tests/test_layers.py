"""The rooms import each other in one direction only, and the package itself imports nothing heavy."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_rooms_import_downwards_only() -> None:
    found = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", ROOT / "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_importing_the_package_imports_neither_ray_nor_torch() -> None:
    code = "import sys, pixmix_ray; print(sorted({'ray', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_training_and_evaluation_do_not_import_ray() -> None:
    code = "import sys, pixmix_ray.training.trial, pixmix_ray.evaluation.cell; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
