"Every experiment, run whole once in its quick profile as a user runs it, and what a wrong parameter does."
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from implicit_vi.parameters import read_experiment, run_name
from implicit_vi.workflow import main

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
    assert len(tagged) == 1 and "".join(tagged[0]["source"]).startswith("EDITION = ")
    assert {"profile", "seed"} <= {line.partition("=")[0].strip() for line in "".join(tagged[0]["source"]).splitlines()}


# even less than the quick profile, for every test run; the weekly job runs that profile as it is
LESS = {"exp_cifar": dict(dataset="digits", epochs=1, train_images=256, test_images=100, samples=2),
        "exp_mnist": dict(epochs=1, train_images=600, test_images=300, samples=5),
        "exp_correlation": dict(steps=60, draws=20, image_epochs=3, train_images=500, samples=400),
        "exp_pretrained": dict(epochs=5, more_epochs=1, last_epochs=1, train_images=600),
        "exp_scaling": dict(largest=100_000, images=16, latents=1, changes="[nothing]")}


@each_experiment
def test_quick_profile(notebook, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("IMPLICIT_VI_RESULTS", str(tmp_path))
    monkeypatch.chdir(ROOT)
    less = LESS.get(notebook.stem, {})
    options = [word for name, value in less.items() for word in ("-p", name, str(value))]
    code = main([str(notebook.relative_to(ROOT)), "-p", "profile", "smoke", *options])
    told = capfd.readouterr()
    assert code == 0, told.err[-4000:]
    folder, = (path for path in tmp_path.glob("[!.]*/[!.]*") if path.is_dir())
    assert Path(told.out.strip()) == folder
    assert {path.name for path in folder.iterdir()} == {"result.json", "arrays.safetensors", "notebook.ipynb"}
    result = json.loads((folder/"result.json").read_text(encoding="utf-8"))
    experiment = read_experiment(notebook)
    assert folder.name == result["name"] == run_name(less, experiment.defaults, experiment.edition)
    assert (result["experiment"], result["edition"], result["parameters"]["profile"]) == (folder.parent.name, experiment.edition, "smoke")
    assert {"versions", "revision", "dirty", "hardware", "random_seeds", "seconds", "peak_memory_MB"} <= set(result)
    assert result["command"].startswith(f"implicit-vi nbs/{notebook.name}")
    assert result["metrics"] and all(math.isfinite(value) for value in result["metrics"].values() if isinstance(value, float))
    shown = [output for cell in cells(folder/"notebook.ipynb") for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)


WRONG = [("sede", "1", "has no parameter sede; its parameters are profile"), ("seed", "one", "parameter seed should be int, got 'one'"),
    ("EDITION", "2", "has no parameter EDITION; its parameters are profile")]


@pytest.mark.parametrize(("name", "value", "said"), WRONG, ids=[name for name, *_ in WRONG])
def test_a_wrong_parameter_is_refused_before_anything_runs(name, value, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMPLICIT_VI_RESULTS", str(tmp_path))
    notebook = EXPERIMENTS[0]
    assert main([str(notebook), "-p", name, value]) == 1
    told = capsys.readouterr()
    assert notebook.name in told.err and said in told.err
    assert not told.out and not list(tmp_path.iterdir())


def test_papermill_alone_refuses_it_too(tmp_path):
    papermill = "papermill", "nbs/exp_toy.ipynb", tmp_path/"out.ipynb", "--no-progress-bar"
    done = command(*papermill, "-p", "sede", "1", results=tmp_path/"results")
    assert done.returncode != 0
    assert "exp_toy.ipynb has no parameter sede; its parameters are profile" in done.stderr
    assert not (tmp_path/"results").exists()
