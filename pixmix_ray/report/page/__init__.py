"""The page of a results folder: one HTML file that needs no server and no network.

`content` collects what it shows, `page` puts that into the template, `write_page` writes the file. The template, its
style and its scripts lie beside this module and are ours alone; the browser is told to run nothing but them (a content
security policy with their hashes), and names in the results, which may be anybody's, are text there and never markup.
"""

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from pathlib import Path

import pandas as pd

from pixmix_ray.report.files import written_whole
from pixmix_ray.report.page.content import content
from pixmix_ray.storage.store import Store

SCRIPTS = ("core.js", "table.js", "front.js", "details.js", "sections.js")
MARKUP = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})
"""Letters that end a script for HTML, though not for JSON."""


def write_page(store: Store, frame: pd.DataFrame, file: Path) -> Path:
    """Write the page of results and return where it is.

    Args:
        store: the results folder.
        frame: its measurements; unchanged.
        file: where to.

    Raises:
        RequestError: the file cannot be written.
    """
    text = page(store, frame)
    with written_whole(file) as part:
        part.write_text(text, encoding="utf-8")
    return file


def page(store: Store, frame: pd.DataFrame, *, live: str = "") -> str:
    """The page as text.

    Args:
        store: the results folder.
        frame: its measurements; unchanged.
        live: what tells this state of the results from others, where the page is served and looks for changes.
    """
    found = content(store, frame)
    data = json.dumps({**found, "live": live}, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    style, script = _file("page.css"), "\n".join(map(_file, SCRIPTS))
    policy = [
        "default-src 'none'",
        f"script-src '{_hash(script)}'",
        f"style-src '{_hash(style)}'",
        "connect-src 'self'" if live else "connect-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    parts = {
        "policy": "; ".join(policy),
        "title": escape(f"{found['title']}: pixmix_ray"),
        "style": style,
        "data": data.translate(MARKUP),
        "script": script,
    }
    text = _file("page.html")
    before, *rest = text.split("{{")
    return before + "".join(parts[name] + after for name, _, after in (one.partition("}}") for one in rest))


def _file(name: str) -> str:
    return files("pixmix_ray.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
