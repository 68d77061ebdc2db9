"""Pages of the site that lie elsewhere in the repository, or are made: READMEs with their links, and the reference.

A hook of mkdocs (see mkdocs.yml). Links between documents become links between pages; what is no page, such as an
experiment file, is named by its path.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = {
    "index.md": "README.md",
    "experiments.md": "experiments/README.md",
    "cluster.md": "cluster/README.md",
    "code.md": "pixmix_ray/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
}
"""Page -> where its text lies."""

REFERENCE = {
    "api": ("pixmix_ray.api", "pixmix_ray.planning.plan", "pixmix_ray.orchestration.run"),
    "results": ("pixmix_ray.results",),
    "augmentation": ("pixmix_ray.augmentation", "pixmix_ray.timm"),
    "experiment": ("pixmix_ray.experiment",),
    "methods": ("pixmix_ray.methods",),
    "benchmarks": ("pixmix_ray.benchmarks",),
    "metrics": ("pixmix_ray.metrics",),
    "mixing_sets": ("pixmix_ray.mixing_sets",),
    "models": ("pixmix_ray.models",),
    "datasets": ("pixmix_ray.datasets",),
    "corruptions": ("pixmix_ray.corruptions",),
    "transforms": ("pixmix_ray.transforms",),
    "analysis": ("pixmix_ray.analysis",),
    "storage": ("pixmix_ray.storage.schema", "pixmix_ray.storage.cell", "pixmix_ray.storage.store"),
    "errors": ("pixmix_ray.errors",),
}
"""Page of the reference -> its modules."""

LINK = re.compile(r"(?<!\!)\[([^\]]*)\]\(([^)\s]+)\)|(<img src=\"|!\[[^\]]*\]\()([^)\"\s]+)")


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File

    for page, source in DOCUMENTS.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for name, modules in REFERENCE.items():
        text = "\n\n".join(map(_described, modules))
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def _described(module: str) -> str:
    """What mkdocstrings is asked for: what a room lists as its own, or all of its modules where it lists nothing."""
    room = ROOT / module.replace(".", "/") / "__init__.py"
    is_listed = not room.is_file() or "__all__" in room.read_text(encoding="utf-8")
    options = "" if is_listed else "    options: {show_submodules: true}\n"
    return f"# `{module}`\n\n::: {module}\n{options}"


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Links and pictures as they are among the pages."""
    own = page.file.src_uri
    if own.startswith("reference/"):
        return markdown
    source = DOCUMENTS.get(own, f"docs/{own}")
    pages = {text: name for name, text in DOCUMENTS.items()}

    def moved(found: re.Match[str]) -> str:
        words, link, start, picture = found.groups()
        path, sign, anchor = (link or picture).partition("#")
        if "://" in path or not path:
            return found.group()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        target = pages.get(target, target.removeprefix("docs/"))
        if picture:
            return f"{start}{target}"
        is_page = target in DOCUMENTS or (ROOT / "docs" / target).is_file()
        return f"[{words}]({target}{sign}{anchor})" if is_page else words

    return LINK.sub(moved, markdown)
