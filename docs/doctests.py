"""Examples in docstrings as code: without a heading of their own they would be read as Markdown. For mkdocstrings."""

import re
from typing import Any

from griffe import Docstring, Extension

EXAMPLE = re.compile(r"(?:^[ \t]*>>> .*\n(?:^[ \t]*\S.*\n?)*\n?)+", re.M)


class Fenced(Extension):
    """Fences around the examples of every docstring."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Fence those of one object."""
        if isinstance(obj.docstring, Docstring):
            text = obj.docstring.value
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found.group().rstrip()}\n```\n\n", text)
