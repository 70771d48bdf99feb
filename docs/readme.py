"README.md from nbs/index.ipynb: nbdev decides what is shown, nbconvert writes it, pictures and badges go to docs/images."
import argparse
import os
import posixpath
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat
from fastcore.nbio import nb2str
from nbconvert import MarkdownExporter
from nbdev.process import NBProcessor
from nbdev.processors import clean_magics, filter_stream_, hide_, hide_line, populate_language, rm_export, strip_ansi
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK, README = "nbs/index.ipynb", "README.md"
IMAGES = "docs/images/readme"  # every picture of README.md begins so
NOTICE = f"<!-- Rendered from {NOTEBOOK} by `make readme`: change the notebook, not this file. -->\n\n"

UNKNOWN = "https://github.com/OWNER/implicit_vi"  # stands for the repository's address until settings.ini says it
HINT = "In place of OWNER stands the account that hosts the copy you read."


def settings() -> dict[str, str]:
    "What settings.ini says of the package."
    parser = ConfigParser(delimiters="=")
    parser.read(ROOT/"settings.ini", encoding="utf-8")
    return dict(parser["DEFAULT"])


def address(here: bool = False) -> str:
    "Of the repository: settings.ini says it; `here`, on the machine that builds the site, GitHub Actions may know it."
    built_by = os.environ.get("GITHUB_REPOSITORY") if here else None
    return settings()["repository"] or (f"{os.environ['GITHUB_SERVER_URL']}/{built_by}" if built_by else "")


def site_of(repository: str) -> str:
    "GitHub Pages of a repository."
    owner, name = repository.rstrip("/").split("/")[-2:]
    return f"https://{owner}.github.io/{name}/"


def addressed(text: str, repository: str, elsewhere: str) -> str:
    "The text with the repository's address, and the way to where else the same pages are."
    found = text.replace("REPOSITORY", repository or UNKNOWN).replace("SITELINK", elsewhere)
    return found.replace("OWNERHINT", "" if repository else HINT)


def badge(label: str, value: str) -> bytes:
    "A picture of two words, as SVG."
    left, right = (14 + 6.6 * len(words) for words in (label, value))
    parts = (0, left, "#555", label), (left, right, "#2b7a6f", value)
    drawn = "".join(f'<rect x="{x:.0f}" width="{w:.0f}" height="20" fill="{fill}"/>' for x, w, fill, _ in parts)
    drawn += "".join(f'<text x="{x + w / 2:.0f}" y="14" text-anchor="middle">{words}</text>' for x, w, _, words in parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right:.0f}" height="20" role="img" aria-label="{label}: {value}" '
            f'fill="#fff" font-family="sans-serif" font-size="11">{drawn}</svg>\n').encode()


def badges(repository: str) -> tuple[str, dict[str, bytes]]:
    "What settings.ini says at a glance, and, where the address is known, how the tests fare: the line of Markdown, pictures by path."
    about = settings()
    said = {"python": f"{about['min_python']} or newer", "licence": about["license"], "version": about["version"]}
    line = [f"![{label}: {value}]({IMAGES}_{label}.svg)" for label, value in said.items()]
    if repository: line.insert(0, f"[![tests]({repository}/actions/workflows/test.yml/badge.svg)]({repository}/actions/workflows/test.yml)")
    return " ".join(line), {f"{IMAGES}_{label}.svg": badge(label, value) for label, value in said.items()}


def shown(path: Path, exported: bool = False) -> nbformat.NotebookNode:
    "What a reader sees of the notebook: no hidden cells, exported ones if asked for, and directives turned into tags."
    processors = [populate_language, strip_ansi, hide_line, filter_stream_, *[rm_export] * (not exported), clean_magics, hide_]
    processed = NBProcessor(path, rm_directives="quarto", process=True, procs=processors).nb
    notebook = nbformat.reads(nb2str(processed), as_version=4)
    for cell, source in zip(notebook.cells, processed.cells, strict=True):
        if cell.cell_type != "code": continue
        directives = source.directives_
        cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|")).strip()
        cell.metadata.tags = [f"{name}-{directives[name]}" for name in ("echo", "output", "include") if name in directives]
        cell.metadata.alt = directives.get("fig-alt", directives.get("fig-cap", "")).strip("\"'")
        cell.metadata.directives = dict(directives)
    notebook.metadata.language_info = {"name": "python"}
    notebook.cells = [cell for cell in notebook.cells if cell.source and "include-false" not in cell.metadata.get("tags", [])]
    return notebook


def relocate(target: str) -> str:
    "A link as it is written beside the notebook → the same link from the root."
    if re.match(r"[a-z][a-z0-9+.-]*:|#|/", target, re.IGNORECASE): return target
    path, hash_mark, section = target.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(NOTEBOOK), path)) + hash_mark + section


def render() -> tuple[str, dict[str, bytes]]:
    "The text of README.md and its pictures by path."
    notebook = shown(ROOT/NOTEBOOK)
    for cell in notebook.cells:
        if cell.cell_type == "markdown": cell.source = re.sub(r"(\]\()([^)\s]+)(?=[)\s])", lambda m: m[1]+relocate(m[2]), cell.source)
    settings = Config(
        TagRemovePreprocessor=dict(enabled=True, remove_input_tags={"echo-false"}, remove_all_outputs_tags={"output-false"}),
        ExtractOutputPreprocessor=dict(output_filename_template="{unique_key}_{cell_index}_{index}{extension}"))
    text, resources = MarkdownExporter(config=settings).from_notebook_node(notebook, {"unique_key": IMAGES})
    for index, cell in enumerate(notebook.cells):
        if cell.metadata.get("alt"):
            text = re.sub(rf"!\[\w+\]\(({re.escape(IMAGES)}_{index}_)", lambda m, alt=cell.metadata.alt: f"![{alt}]({m[1]}", text)
    text = re.sub(r"<style.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"^[ \t]+$", "", text, flags=re.MULTILINE)
    repository, about = address(), "with search, and a reference of every public name"
    site = f"[These pages as a site]({site_of(repository)}), {about}." if repository else f"These pages as a site, {about}: `make docs`."
    title, _, rest = addressed(text, repository, site).strip().partition("\n")
    line, drawn = badges(repository)
    return NOTICE + re.sub(r"\n{3,}", "\n\n", f"{title}\n\n{line}\n\n{rest}") + "\n", resources.get("outputs", {}) | drawn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if README.md is not what the notebook gives")
    check = parser.parse_args().check
    text, pictures = render()
    if check:
        missing = [name for name in pictures if not (ROOT/name).exists()]
        stale = not (ROOT/README).exists() or (ROOT/README).read_text(encoding="utf-8") != text
        if stale or missing: print(f"{README} is not what {NOTEBOOK} gives: run `make readme`.", *missing, file=sys.stderr)
        return int(stale or bool(missing))
    folder = (ROOT/IMAGES).parent
    for old in folder.glob(f"{Path(IMAGES).name}_*"): old.unlink()
    for name, data in pictures.items():
        folder.mkdir(parents=True, exist_ok=True)
        (ROOT/name).write_bytes(data)
    (ROOT/README).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__": sys.exit(main())
