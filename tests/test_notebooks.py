"The notebooks are the pages that people read, so they are kept as executed."
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent/"nbs").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept(notebook):
    outputs = [o for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] for o in cell.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs), "no picture"
    assert any("text/plain" in o.get("data", {}) and "image/png" not in o["data"] for o in outputs), "no value"
    assert not any(o["output_type"] == "error" for o in outputs)


def paragraphs(markdown: str) -> list[str]:
    "Paragraphs, points of lists and cells of tables, without code, formulas and addresses."
    for pattern in (r"```.*?```", r"\$\$.*?\$\$"): markdown = re.sub(pattern, "", markdown, flags=re.S)
    plain = re.sub(r"\]\([^)]*\)", "]", re.sub(r"\$[^$]*\$", "x", markdown))
    return re.split(r"\n\s*\n|\n(?=[-*] |\d+\. |\|)", plain)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_paragraphs_are_short(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found = [p for cell in cells if cell["cell_type"] == "markdown" for p in paragraphs("".join(cell["source"]))]
    long = [p for p in found if not p.startswith("|") and len(p.split()) > 90]
    wide = [cell for p in found if p.startswith("|") for cell in re.split(r"(?<!\\)\|", p) if len(cell.split()) > 25]
    assert not long + wide, f"longer than 90 words, or 25 in a cell of a table: {(long + wide)[0]}"


def test_paragraphs_are_told_apart():
    text = "one two\n\nthree $a b c$ [four](five six)\n- seven\n| eight | nine |\n\n$$ ten eleven $$\n```\ntwelve\n```"
    words = [p.split() for p in paragraphs(text)]
    assert words[:4] == [["one", "two"], ["three", "x", "[four]"], ["-", "seven"], ["|", "eight", "|", "nine", "|"]]
