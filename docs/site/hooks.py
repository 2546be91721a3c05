"""MkDocs hooks: the home page is the README, and API pages are generated from the package's docstrings."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent.parent
#: Files at the top -> their pages.
TOP = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
#: Page of the API reference -> folders of its modules, which need not be packages.
PAGES = {
    "foundations": ["a2j_jax"],
    "models": ["a2j_jax/models"],
    "data": ["a2j_jax/data"],
    "weights": ["a2j_jax/weights"],
    "inference": ["a2j_jax/inference"],
    "evaluation": ["a2j_jax/evaluation"],
    "runs": ["a2j_jax/runs"],
    "training": ["a2j_jax/training"],
    "synthetic": ["a2j_jax/synthetic"],
    "figures": ["a2j_jax/figures"],
    "tools": ["a2j_jax/tools"],
    "builders": ["tfds_builders"],
}


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages."""
    for source, page in TOP.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    for page, folders in PAGES.items():
        lines = [f"# {page.capitalize()}"]
        for folder in folders:
            for path in sorted((ROOT / folder).glob("[!_]*.py")):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                lines.append(f"## {module}\n\n::: {module}")
        files.append(File.generated(config, f"api/{page}.md", content="\n\n".join(lines)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to source files, which are not part of the site, become plain text."""
    outside = r"(?:\.\./)+(?!images|centers|own_)[^)]*|CITATION\.cff"
    return re.sub(rf"\[([^\]]+)\]\((?:{outside})\)", r"\1", markdown)
