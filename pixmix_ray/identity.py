"""What a part of an experiment is: its name, its settings and, for a class that is not ours, its source.

Ours are told apart by name and `revision`. The code of a user's class changes while it is written, so its source is
hashed: the class, and what it names of its own module and of the user's other modules, their classes, functions and
constants, and so on. Comments, docstrings and layout do not count. What code finds only while it runs (getattr, a file,
a registry that is filled by a call) is not seen.

Hashes are short here and in all names of what depends on much: `short_hash`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import symtable
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from pixmix_ray.errors import RequestError

if TYPE_CHECKING:
    from pixmix_ray.settings import Settings


def short_hash(content: str | bytes, digits: int = 12) -> str:
    """The first hexadecimal digits of the SHA-256 of some text (as UTF-8) or bytes.

    >>> short_hash("a")
    'ca978112ca1b'
    """
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:digits]


def hash_of_values(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of JSON values, whatever the order of keys."""
    return short_hash(json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False))


MAIN, OURS = "__main__", "pixmix_ray"
INSTALLED = {"site-packages", "dist-packages"}
Code: TypeAlias = type | FunctionType
_hashes: WeakKeyDictionary[Code, str] = WeakKeyDictionary()


def part_identity(name: str, settings: Settings) -> dict[str, Any]:
    """Name and settings as JSON values; for a class that is not ours its own name, and the hash of its source.

    Args:
        name: the class's name in the table of ours; not used for a class of somebody else.
        settings: the part.

    Raises:
        RequestError: the source of the class cannot be had.
    """
    source = {} if is_ours(type(settings)) else {"source": source_hash(type(settings))}
    return {"name": own_name(name, settings), **settings.identity(), **source}


def own_name(name: str, settings: Settings) -> str:
    """What a part is called in ids and results: `name` for one of ours, else the class's own name."""
    return name if is_ours(type(settings)) else type(settings).__name__


def is_ours(kind: Code) -> bool:
    """Whether the class or function belongs to this package."""
    return _top(kind.__module__) == OURS


def source_hash(kind: Code) -> str:
    """Twelve hexadecimal digits of the source of a class or function and of all that it names, of the user's own.

    Raises:
        RequestError: the source of the class cannot be had.
    """
    if kind in _hashes:
        return _hashes[kind]
    module, name = kind.__module__, kind.__name__
    if getattr(sys.modules.get(module), name, None) is not kind:
        raise RequestError(
            f"{module}:{name} is not the class of that name: define the class at the top level of a file or cell, "
            "not in a function, and make its objects again after each change"
        )
    source = _Source(module)
    source.add(module, name)
    if not source.pieces[module, name]:
        raise RequestError(f"the source of {module}:{name} cannot be read: put the class in a file, and import it")
    found = short_hash("\n".join(sorted(filter(None, source.pieces.values()))))
    if module != MAIN:  # in a notebook, a cell that runs again may change what the class names
        _hashes[kind] = found
    return found


def user_module_names(kind: Code) -> set[str]:
    """The names of the modules that a class or function of the user needs: its own, and those that this imports.

    A module within a package is named by the package. Empty for a class of ours or of an installed package; `__main__`,
    which no other process can import, is left out.
    """
    if not _is_users(kind.__module__, home=""):
        return set()
    source = _Source(kind.__module__)
    source.add(kind.__module__, kind.__name__)
    for module in {module for module, _ in source.pieces} - {MAIN}:
        source.add_whole(module)  # to import a module is to run all of it
    return {_top(module) for module, _ in source.pieces} - {MAIN}


class _Source:
    """The statements of the user's modules that a class consists of, by (module, name).

    Attributes:
        pieces: the source of each name without comments and docstrings; of a whole module under the name *.
    """

    def __init__(self, module: str) -> None:
        self.pieces: dict[tuple[str, str], str] = {}
        self._home = _top(module)
        self._read: dict[str, list[list[ast.stmt]]] = {}

    def add(self, module: str, name: str) -> None:
        """Collect what binds `name` in `module`, and all that this names in turn."""
        if (module, name) in self.pieces:
            return
        found = self._binding(module, name)
        self.pieces[module, name] = _text(found)  # before what it names, for names may lead in circles
        for statement in found:
            self._follow(module, statement, name)
            for used in _globals(symtable.symtable(ast.unparse(statement), module, "exec")):
                self.add(module, used)

    def add_whole(self, module: str) -> None:
        """Collect all of a module, and of those of the user that it imports."""
        if (module, "*") in self.pieces:
            return
        statements = [statement for part in self._statements(module) for statement in part]
        self.pieces[module, "*"] = _text(statements)
        for statement in statements:
            self._follow(module, statement, "*")

    def _binding(self, module: str, name: str) -> list[ast.stmt]:
        """The statements that bind `name`; of the cells of a notebook those of the last one that does."""
        for part in reversed(self._statements(module)):
            if found := [statement for statement in part if _binds(module, statement, name)]:
                return found
        return []

    def _statements(self, module: str) -> list[list[ast.stmt]]:
        if module not in self._read:
            self._read[module] = [_statements(text) for text in _texts(module)]
        return self._read[module]

    def _follow(self, module: str, statement: ast.stmt, name: str) -> None:
        """Collect what the imports in a statement bring from other modules of the user."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._add_import(alias.name, "*")
            elif isinstance(node, ast.ImportFrom):
                origin = _origin(module, node)
                for alias in node.names:
                    self._add_import(origin, name if alias.name == "*" else alias.name)

    def _add_import(self, module: str, name: str) -> None:
        if not _is_users(module, self._home):
            return
        if _spec(f"{module}.{name}") is not None:  # a module of a package
            self.add_whole(f"{module}.{name}")
        elif name == "*":
            self.add_whole(module)
        else:
            self.add(module, name)


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:  # as ast names it
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _statements(text: str) -> list[ast.stmt]:
    """The top-level statements without docstrings, each import of one name; none if the text is not Python."""
    try:
        tree = _WithoutDocstrings().visit(ast.parse(text))
    except SyntaxError:  # a cell that failed
        return []
    found: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            found += [ast.Import(names=[alias]) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            module, level = statement.module, statement.level
            found += [ast.ImportFrom(module=module, names=[alias], level=level) for alias in statement.names]
        else:
            found.append(statement)
    return found


def _text(statements: Iterable[ast.stmt]) -> str:
    return "\n".join(ast.unparse(statement) for statement in statements)


def _globals(table: symtable.SymbolTable) -> set[str]:
    """The names of the module that code uses; what is local to a function or class is none of them."""
    is_module = table.get_type() == "module"
    own = {name.get_name() for name in table.get_symbols() if (name.is_referenced() if is_module else name.is_global())}
    return own.union(*map(_globals, table.get_children()))


def _binds(module: str, statement: ast.stmt, name: str) -> bool:
    """Whether a top-level statement gives `name` its meaning, or a part of it, as in `name[key] = value`."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name == name
    return any(name in _bound(module, node, name) for node in ast.walk(statement))


def _bound(module: str, node: ast.AST, name: str) -> Collection[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.name,)
    if isinstance(node, ast.Import):
        return [alias.asname or _top(alias.name) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.names[0].name == "*":
            return (name,) if hasattr(sys.modules.get(_origin(module, node)), name) else ()
        return [alias.asname or alias.name for alias in node.names]
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)]


def _texts(module: str) -> list[str]:
    """The source of a module: one text, or one for each cell of a notebook in the order of execution; none if unknown.

    Without a file, `__main__` is a notebook of IPython, or the argument of `python -c`.
    """
    loaded = sys.modules.get(module)
    if module == MAIN and (shell := getattr(loaded, "get_ipython", None)) is not None:
        return [shell().transform_cell(cell) for cell in vars(loaded).get("In", [])]  # what % and ! stand for
    try:
        if loaded is None:
            loader = getattr(_spec(module), "loader", None)
            return [loader.get_source(module) or ""] if loader is not None else []
        if module != MAIN or hasattr(loaded, "__file__"):
            return [inspect.getsource(loaded)]
    except (OSError, TypeError, ImportError, AttributeError):  # compiled, removed, or a loader that keeps no source
        return []
    if "-c" in sys.orig_argv:
        return [sys.orig_argv[sys.orig_argv.index("-c") + 1]]
    return []


def _is_users(module: str, home: str) -> bool:
    """Whether a module is written by the user, or belongs to the package `home`; libraries do not count."""
    top = _top(module)
    if top in (MAIN, home):
        return True
    if top == OURS or top in sys.stdlib_module_names:
        return False
    origin = getattr(_spec(module), "origin", None) or ""
    return origin.endswith(".py") and not INSTALLED & set(Path(origin).parts)


def _spec(module: str) -> ModuleSpec | None:
    loaded = sys.modules.get(module)
    if loaded is not None:
        return loaded.__spec__
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # its parent is no package
        return None


def _origin(module: str, node: ast.ImportFrom) -> str:
    """The name of the module that a `from` in `module` imports from."""
    if not node.level:
        return node.module or ""
    package = getattr(sys.modules.get(module), "__package__", None) or getattr(_spec(module), "parent", "")
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def _top(module: str) -> str:
    return module.partition(".")[0]
