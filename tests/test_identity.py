"""The source of classes that are not ours: which edits make another class of one, wherever its source lies."""

import importlib
import itertools
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pixmix_ray.errors import RequestError
from pixmix_ray.identity import is_ours, part_identity, source_hash, user_module_names
from pixmix_ray.methods import Method, PixMix

ROOT = Path(__file__).resolve().parents[1]
NOISE = '''
"""A method of mine."""
from typing import ClassVar

from pixmix_ray.settings import Settings

STRENGTH = 0.5
OTHER = 1
x = 1
RATES: dict[str, float] = {}
RATES["low"] = 0.1


def noise(x):
    """Some noise."""
    return scaled(x) + STRENGTH


def scaled(x):
    return RATES["low"] * x


def unused(x):
    return x


class Base(Settings):
    source: ClassVar[str] = "a test"


class Noise(Base):
    """Adds noise."""

    summary: ClassVar[str] = "noise"
    strength: float = 0.5

    def augment(self, images, pictures, generator):
        return noise(images)  # more of it
'''
numbers = itertools.count()
Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Imports text as a module of a new name, in a folder that is on sys.path with other files given."""

    def imported(text: str, **files: str) -> ModuleType:
        number = next(numbers)
        folder = tmp_path / str(number)
        for name, content in files.items():
            file = folder / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            monkeypatch.delitem(sys.modules, name.partition("__")[0], raising=False)
        folder.mkdir(exist_ok=True)
        (folder / f"identity_{number}.py").write_text(text)
        monkeypatch.syspath_prepend(folder)
        return importlib.import_module(f"identity_{number}")

    return imported


def noise_hash(module: ModuleType) -> str:
    return source_hash(module.Noise)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # more of it", ""),
        ("return noise(images)", "return (\n            noise( images ))"),
        ('"""Adds noise."""', '"""Adds much noise."""'),
        ('    """Some noise."""\n', ""),
        ('"""A method of mine."""\n', "import os\n"),
        ("OTHER = 1", "OTHER = 2"),
        ("\nx = 1", "\nx = 2"),  # elsewhere x is an argument
        ("def unused(x):\n    return x", "def unused(x):\n    return -x"),
        ("STRENGTH = 0.5\nOTHER = 1", "OTHER = 1\nSTRENGTH = 0.5"),
    ],
)
def test_comments_layout_and_what_the_class_does_not_name_do_not_count(load: Load, old: str, new: str) -> None:
    assert old in NOISE
    assert noise_hash(load(NOISE)) == noise_hash(load(NOISE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("noise(images)", "noise(images) + 1"),
        ("strength: float = 0.5", "strength: float = 0.25"),
        ("\nSTRENGTH = 0.5", "\nSTRENGTH = 0.25"),
        ("return scaled(x)", "return x"),
        ('return RATES["low"] * x', 'return RATES["low"] / x'),
        ('RATES["low"] = 0.1', 'RATES["low"] = 0.2'),
        ('    source: ClassVar[str] = "a test"', "    weight_decay: ClassVar[float] = 0.0"),
    ],
)
def test_code_of_the_class_and_of_what_it_names_counts(load: Load, old: str, new: str) -> None:
    assert old in NOISE
    assert noise_hash(load(NOISE)) != noise_hash(load(NOISE.replace(old, new)))


@pytest.mark.parametrize(
    ("imports", "call"),
    [
        ("from identity_helper import noise", "noise(images)"),
        ("from identity_helper import noise as n", "n(images)"),
        ("from identity_helper import *", "noise(images)"),
        ("import identity_helper", "identity_helper.noise(images)"),
        ("import identity_helper as helper", "helper.noise(images)"),
        ("try:\n    from identity_helper import noise\nexcept ImportError:\n    noise = None", "noise(images)"),
    ],
)
def test_what_the_class_takes_from_another_module_of_the_user_counts(load: Load, imports: str, call: str) -> None:
    text = (
        f"{imports}\nfrom pixmix_ray.methods import Method\nclass Noise(Method):\n    def augment(self, images, *_):\n"
    )
    text += f"        return {call}\n"
    helper = "LEVEL = 1\ndef noise(x):\n    return x + LEVEL\n"
    first = noise_hash(load(text, identity_helper=helper))
    assert noise_hash(load(text, identity_helper=helper + "# a comment\n")) == first
    assert noise_hash(load(text, identity_helper=helper.replace("LEVEL = 1", "LEVEL = 2"))) != first


def test_modules_of_a_package_count_by_relative_imports(load: Load) -> None:
    method = "from pixmix_ray.methods import Method\nfrom . import levels\nfrom .levels import LEVEL\n"
    method += "class Noise(Method):\n    def augment(self, images, *_):\n        return images + LEVEL\n"
    hashes = set()
    for level in (1, 1, 2):
        for name in [name for name in sys.modules if name.startswith("identity_package")]:
            del sys.modules[name]
        files = {"identity_package____init__": "", "identity_package__levels": f"LEVEL = {level}\n"}
        module = load("from identity_package.noise import Noise", **files, identity_package__noise=method)
        assert user_module_names(module.Noise) == {"identity_package"}
        hashes.add(noise_hash(module))
    assert len(hashes) == 2


def test_names_that_lead_in_circles_are_followed_once(load: Load) -> None:
    text = "from pixmix_ray.methods import Method\ndef a(x):\n    return b(x)\ndef b(x):\n    return a(x)\n"
    assert (
        len(noise_hash(load(text + "class Noise(Method):\n    def augment(self, x, *_):\n        return a(x)\n"))) == 12
    )


def test_ours_have_no_source_and_others_do(load: Load) -> None:
    noise = load(NOISE).Noise
    assert is_ours(PixMix) and not is_ours(noise)
    assert part_identity("pixmix", PixMix()) == {"name": "pixmix", **PixMix().identity()}
    assert part_identity("mine:Noise", noise()) == {"name": "Noise", "strength": 0.5, "source": source_hash(noise)}


def test_a_class_whose_source_cannot_be_had_is_refused_in_one_line(load: Load) -> None:
    class Local(Method):
        pass

    with pytest.raises(RequestError, match="define the class at the top level of a file or cell"):
        source_hash(Local)
    module = load(NOISE)
    old = module.Noise
    vars(module)["Noise"] = PixMix
    with pytest.raises(RequestError, match=r":Noise is not the class of that name"):
        source_hash(old)
    module = load(NOISE)
    Path(str(module.__file__)).unlink()
    with pytest.raises(RequestError, match=r":Noise cannot be read: put the class in a file, and import it"):
        noise_hash(module)


def test_the_modules_that_a_class_needs_are_its_own_and_the_users_that_they_import(load: Load) -> None:
    text = "import json\nimport numpy\nimport identity_helper\n" + NOISE
    module = load(text, identity_helper="from identity_deeper import x\n", identity_deeper="x = 1\n")
    assert user_module_names(module.Noise) == {module.__name__, "identity_helper", "identity_deeper"}
    assert user_module_names(PixMix) == set()


def answer(folder: Path, *words: str, stdin: str | None = None) -> str:
    """What a fresh Python prints."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder)}
    ran = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_script_and_python_c_have_the_hash_of_the_module(load: Load, tmp_path: Path) -> None:
    expected = noise_hash(load(NOISE))
    text = f"{NOISE}\nfrom pixmix_ray.identity import source_hash\nprint(source_hash(Noise))\n"
    (tmp_path / "script.py").write_text(text)
    assert answer(tmp_path, "script.py") == expected
    assert answer(tmp_path, "-c", text) == expected


def test_a_text_that_python_does_not_keep_is_refused(tmp_path: Path) -> None:
    text = f"{NOISE}\nfrom pixmix_ray.identity import source_hash\ntry:\n    source_hash(Noise)\n"
    assert "put the class in a file" in answer(
        tmp_path, "-", stdin=text + "except Exception as error:\n    print(error)\n"
    )


NOTEBOOK = """
import sys
from pixmix_ray.identity import source_hash

main, In = sys.modules["__main__"], [""]

class Shell:  # what IPython puts into a notebook
    def transform_cell(self, cell):
        return cell.replace("%matplotlib inline", "get_ipython()")

def get_ipython():
    return Shell()

def cell(text):
    In.append(text)
    exec(compile(get_ipython().transform_cell(text), f"<cell {len(In)}>", "exec"), vars(main))

def show():
    print(source_hash(main.Noise))
"""


def test_a_notebook_has_the_hash_of_the_module_and_another_when_a_cell_changes(load: Load, tmp_path: Path) -> None:
    first, strong = noise_hash(load(NOISE)), noise_hash(load(NOISE.replace("\nSTRENGTH = 0.5", "\nSTRENGTH = 1")))
    stronger = NOISE.replace("\nSTRENGTH = 0.5", "\nSTRENGTH = 1").replace("noise(images)", "-noise(images)")
    head, _, last = NOISE.partition("class Noise")
    cells = textwrap.dedent(f"""
        cell("%matplotlib inline")
        cell({head!r})
        cell({"class Noise" + last!r})
        show()
        cell("STRENGTH = 1")
        show()
        cell({("class Noise" + last).replace("noise(images)", "-noise(images)")!r})
        show()
        cell("STRENGTH = 0.5")
        cell({"class Noise" + last!r})
        show()
    """)
    shown = answer(tmp_path, "-", stdin=NOTEBOOK + cells).split()
    assert shown == [first, strong, noise_hash(load(stronger)), first]
