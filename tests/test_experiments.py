"Every experiment, run whole once in its quick profile as a user runs it, and what a wrong parameter does."
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
EXPERIMENTS = sorted((ROOT/"nbs").glob("exp_*.ipynb"))
each_experiment = pytest.mark.parametrize("notebook", EXPERIMENTS, ids=lambda path: path.stem)


def cells(path): return json.loads(path.read_text(encoding="utf-8"))["cells"]


def command(name, *arguments, results):
    "Run a command of the environment from the root; experiments write into `results`."
    environment = os.environ | {"IMPLICIT_VI_RESULTS": str(results)}
    return subprocess.run([BIN/name, *map(str, arguments)], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True)


@each_experiment
def test_parameters_are_in_one_cell(notebook):
    tagged = [cell for cell in cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert {"profile", "seed"} <= {line.partition("=")[0].strip() for line in "".join(tagged[0]["source"]).splitlines()}


@each_experiment
def test_quick_profile(notebook, tmp_path):
    done = command("implicit-vi", notebook.relative_to(ROOT), "-p", "profile", "smoke", results=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    folder, = tmp_path.glob("*/*/")
    assert Path(done.stdout.strip()) == folder
    assert {path.name for path in folder.iterdir()} == {"result.json", "arrays.safetensors", "notebook.ipynb"}
    result = json.loads((folder/"result.json").read_text(encoding="utf-8"))
    assert (result["experiment"], result["run"], result["parameters"]["profile"]) == (folder.parent.name, folder.name, "smoke")
    assert {"versions", "revision", "dirty", "hardware", "random_seeds", "seconds", "peak_memory_MB"} <= set(result)
    assert (result["given"], result["command"]) == ({"profile": "smoke"}, f"implicit-vi nbs/{notebook.name} -p profile smoke")
    assert {"notebook", "layers"} <= set(result["code"])
    assert result["metrics"] and all(math.isfinite(value) for value in result["metrics"].values() if isinstance(value, float))
    shown = [output for cell in cells(folder/"notebook.ipynb") for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)


def test_an_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    notebook = EXPERIMENTS[0]
    done = command("implicit-vi", notebook, "-p", "sede", "1", results=tmp_path)
    assert done.returncode == 1
    assert f"{notebook.name} has no parameter sede; its parameters are profile" in done.stderr
    assert not done.stdout and not list(tmp_path.iterdir())


@each_experiment
def test_papermill_alone_refuses_it_too(notebook, tmp_path):
    done = command("papermill", notebook, tmp_path/"out.ipynb", "-p", "sede", "1", "--no-progress-bar", results=tmp_path/"results")
    assert done.returncode != 0
    assert "has no parameter sede; its parameters are profile" in done.stderr
    assert not (tmp_path/"results").exists()
