"Every experiment, run whole in its quick profile as a user runs it."
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = sorted((ROOT/"nbs").glob("exp_*.ipynb"))


def cells(path): return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("notebook", EXPERIMENTS, ids=lambda path: path.stem)
def test_parameters_are_in_one_cell(notebook):
    tagged = [cell for cell in cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert "profile" in "".join(tagged[0]["source"])


@pytest.mark.parametrize("notebook", EXPERIMENTS, ids=lambda path: path.stem)
def test_quick_profile(notebook, tmp_path):
    out = tmp_path/notebook.name
    command = [sys.executable, "-m", "papermill", str(notebook), str(out), "--cwd", str(notebook.parent), "-p", "profile", "smoke",
        "--no-progress-bar"]
    done = subprocess.run(command, env=os.environ | {"IMPLICIT_VI_RESULTS": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    shown = [output for cell in cells(out) for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
