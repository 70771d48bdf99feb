"What a reader sees of home and of the pages of Use runs from top to bottom, with nothing that a hidden cell has made."
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))
import pages  # noqa: E402
from readme import shown  # noqa: E402

PAGES = [ROOT/"nbs"/"index.ipynb", *(p for p in pages.navigation()["Use"] if p.stem.startswith("use_"))]
FIRST = "index", "use_classification", "use_regression", "use_saving", "use_robustness"  # the others by make test-all: minutes
if not os.environ.get("SLOW"): PAGES = [path for path in PAGES if path.stem in FIRST]


def visible(path: Path) -> str:
    "The code of a page, as it can be read and copied; cells that `make test` leaves out are left out."
    cells = [c for c in shown(path).cells if c.cell_type == "code" and "echo-false" not in c.metadata.tags]
    return "\n\n".join(c.source for c in cells if "slow" not in c.metadata.directives)


def short(code: str) -> str:
    "The same with two epochs in each training, unless it asserts what a whole training gives."
    return code if re.search(r"^\s*assert ", code, re.MULTILINE) else re.sub(r"\bepochs=\d+", "epochs=2", code)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_visible_cells_run(path, tmp_path):
    environment = os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    (tmp_path/"page.py").write_text(short(visible(path)), encoding="utf-8")
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_home_reaches_a_prediction_within_300_words():
    said = 0
    for cell in shown(ROOT/"nbs"/"index.ipynb").cells:
        if cell.cell_type == "code" and ".predict(" in cell.source and "echo-false" not in cell.metadata.tags: break
        if cell.cell_type == "markdown": said += len(re.findall(r"\S*\w\S*", cell.source))
    else: raise AssertionError("home shows no prediction")
    assert said <= 300


def test_home_takes_eight_lines():
    first = next(c for c in shown(ROOT/"nbs"/"index.ipynb").cells if c.cell_type == "code" and "echo-false" not in c.metadata.tags)
    assert len(first.source.splitlines()) == 8 and first.outputs


def test_readme_is_short_and_speaks_of_uncertainty_first():
    text = (ROOT/"README.md").read_text(encoding="utf-8")
    assert len(text.split()) < 600
    prose = re.sub(r"<!--.*?-->|^#.*$|^!\[.*$|^\[!\[.*$", "", text, flags=re.MULTILINE).split()
    assert "uncertainty" in " ".join(prose).split(".")[0].lower()


def test_training_is_shortened():
    assert short("fit(m, epochs=600, lr=1)") == "fit(m, epochs=2, lr=1)"
    assert short("fit(m, epochs=600)\nassert m") == "fit(m, epochs=600)\nassert m"
