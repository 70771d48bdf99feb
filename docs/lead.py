"What stands first on the page of an experiment, taken from that of its results: what came out, how to run it again, what that costs."
import re
from copy import deepcopy
from pathlib import Path

import nbformat
from readme import shown


def results_of(experiment: Path) -> Path:
    "`exp_mnist.ipynb` → `results_mnist.ipynb`."
    return experiment.with_name(experiment.name.replace("exp_", "results_", 1))


def said(cell) -> str:
    "What a cell of code has computed as Markdown."
    return "".join("".join(o["data"]["text/markdown"]) for o in cell.get("outputs", []) if "text/markdown" in o.get("data", {}))


def kind(cell) -> str:
    "Of what a page of results shows: `sentence`, `picture`, `table`, `runs`, or nothing."
    text = said(cell)
    if any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])): return "picture"
    if "|:--" in text: return "table"
    if re.match(r"\*(One run|\d+ runs)", text): return "runs"
    return "sentence" if text else ""


def again(cells: list) -> list:
    "The section that says how to run it again, and what that took."
    starts = [i for i, c in enumerate(cells) if c.cell_type == "markdown" and c.source.startswith("## Run it again")]
    if not starts: return []
    after = [c for c in cells[starts[0] + 1:starts[0] + 2] if c.cell_type == "code" and kind(c) == "sentence"]
    return [cells[starts[0]], *after]


def moved(cell, path: Path):
    "A cell as it reads on another page: links to places of its own page name that page."
    copy = deepcopy(cell)
    def named(text): return text.replace("](#", f"]({path.name}#")
    if copy.cell_type == "markdown": copy.source = named(copy.source)
    for output in copy.get("outputs", []):
        if "text/markdown" in output.get("data", {}): output["data"]["text/markdown"] = named("".join(output["data"]["text/markdown"]))
    return copy


def lead(experiment: Path) -> list:
    "What goes below the title of an experiment: sentence, picture, table, how to run it again."
    path = results_of(experiment)
    if not path.exists(): return []
    cells = [moved(cell, path) for cell in shown(path).cells]
    first: dict[str, nbformat.NotebookNode] = {}
    for cell in cells:
        if cell.cell_type == "code" and kind(cell) in ("sentence", "picture", "table", "runs"): first.setdefault(kind(cell), cell)
    more = nbformat.v4.new_markdown_cell(f"The beginning of [all results]({path.name}), which these records gave:")
    quick = nbformat.v4.new_markdown_cell("## The quick run, step by step\n\nBelow is the experiment itself, as its quick profile runs in "
                                          "a minute: small, and not what the result above is made of.")
    shown_first = [first[name] for name in ("sentence", "picture", "table") if name in first]
    return [*shown_first, more, *([first["runs"]] if "runs" in first else []), *again(cells), quick]
