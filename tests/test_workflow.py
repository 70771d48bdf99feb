"The workflow on small experiments of its own: what is stale, what a failure and a kill leave, and what is committed."
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from killing import damaged, run_killed
from nbformat.v4 import new_code_cell, new_notebook

from implicit_vi.experiments import read_result, read_results
from implicit_vi.runs import code_digests
from implicit_vi.workflow import read_table, states, status

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
needs_snakemake = pytest.mark.skipif(not (BIN/"snakemake").exists(), reason="Snakemake needs Python 3.11 or newer")

PARAMETERS = "profile = 'smoke'\nseed = 0\nepochs = 40\ncheckpoint = None"
START = """
import torch
from implicit_vi.bnn import ImplicitBNN
from implicit_vi.experiments import Run
from implicit_vi.training import fit
run = Run(NAME, globals(), ["profile", "seed", "epochs", "checkpoint"])
if seed == 13: raise RuntimeError("an unlucky number")
"""
TRAIN = """
torch.manual_seed(seed)
torch.set_num_threads(1)
x = torch.randn(64, 3)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=32, shuffle=True)
bnn = ImplicitBNN(torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)), "gaussian")
history = fit(bnn, loader, epochs=epochs, lr=1e-3, checkpoint=checkpoint, progress=False)
run.save({"total": history[-1]["total"]}, {"theta": bnn.sample(3, seed=0).values})
"""


class Project:
    "A folder with experiments and a table, as the project has them."
    def __init__(self, folder: Path, experiments: tuple[str, ...]):
        self.folder, self.results = folder, folder/"results"
        (folder/"nbs").mkdir()
        (folder/"workflow").mkdir()
        for name in experiments: self.write(name)

    def write(self, name: str, train: str = TRAIN) -> None:
        first = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        cells = [first, new_code_cell(START.replace("NAME", repr(name))), new_code_cell(train)]
        kernel = {"name": "python3", "display_name": "python3", "language": "python"}
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), self.folder/"nbs"/f"exp_{name}.ipynb")

    def plan(self, *rows: dict) -> None: (self.folder/"workflow"/"runs.yaml").write_text(yaml.safe_dump(list(rows), sort_keys=False))

    def table(self): return read_table(self.folder/"workflow"/"runs.yaml")

    def make_here(self) -> None:
        "All runs of the table, in this process and without papermill."
        for planned in self.table():
            about = {"given": planned.given, "code": code_digests(planned.notebook), "command": planned.command}
            cells = [cell.source for cell in nbformat.read(planned.notebook, 4).cells]
            names: dict = {}
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("IMPLICIT_VI_RESULTS", str(self.results))
                patch.setenv("IMPLICIT_VI_RUN", json.dumps(about))
                for source in (cells[0], "\n".join(f"{k} = {v!r}" for k, v in planned.given.items()), *cells[1:]): exec(source, names)

    def command(self, *options: str) -> dict:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IMPLICIT_VI_") and k != "IN_TEST"}
        workflow = ROOT/"workflow"
        command = [BIN/"snakemake", "-s", workflow/"Snakefile", "--profile", workflow/"profiles"/"local", "-d", self.folder, *options]
        return dict(args=[str(word) for word in command], env=environment, cwd=self.folder, stdin=subprocess.DEVNULL)

    def snakemake(self, *options: str) -> subprocess.CompletedProcess:
        return subprocess.run(**self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def planned(self) -> set[str]:
        "The runs that Snakemake would start."
        done = self.snakemake("-n", "--quiet", "host", "--printshellcmds")
        assert done.returncode == 0, done.stdout
        return {run.name for run in self.table() if f"workflow/made/{run.name}\n" in done.stdout}


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("IMPLICIT_VI_RESULTS", "IMPLICIT_VI_RUN"): monkeypatch.delenv(name, raising=False)
    return Project(tmp_path, ("one", "two"))


@needs_snakemake
def test_only_what_is_stale_runs_again(project):
    one = {"experiment": "one", "parameters": {"seed": [0, 1], "epochs": 1}}
    two = {"experiment": "two", "parameters": {"seed": [0, 1], "epochs": 1}}
    project.plan(one, two)
    assert {state.name for state in states(project.table(), project.results)} == {"missing"}
    project.make_here()
    for path in project.results.rglob("*"): os.utime(path, (0, 0))  # a clone scrambles the times of files
    assert {state.name for state in states(project.table(), project.results)} == {"done"}
    two["parameters"]["epochs"] = 2
    project.plan(one, two)
    assert project.planned() == {"two-seed0-epochs2", "two-seed1-epochs2"}
    two["parameters"]["epochs"] = 1
    project.plan(one, two)
    project.write("one", TRAIN.replace("lr=1e-3", "lr=2e-3"))
    assert [(state.planned.experiment, state.name, state.changed) for state in states(project.table(), project.results)] == [
        *[("one", "stale", ["notebook"])] * 2, *[("two", "done", [])] * 2]
    project.write("one", TRAIN + "# a comment")
    assert "4 done, 0 stale, 0 missing" in status(project.table(), project.results)


@needs_snakemake
def test_a_failed_run_keeps_its_notebook_and_stops_no_other(project):
    project.plan({"experiment": "one", "parameters": {"seed": [13, 0], "epochs": 1}})
    done = project.snakemake()
    assert done.returncode != 0
    assert [state.name for state in states(project.table(), project.results)] == ["missing", "done"]
    log = (project.folder/"workflow"/"logs"/"one-seed13-epochs1.log").read_text()
    assert "an unlucky number" in log
    kept, = (project.results/"failed").glob("exp_one-*.ipynb")
    assert str(kept) in log and any("unlucky" in str(cell.get("outputs")) for cell in nbformat.read(kept, 4).cells)
    header, values = (project.folder/"workflow"/"benchmarks"/"one-seed0-epochs1.tsv").read_text().splitlines()
    assert float(dict(zip(header.split("\t"), values.split("\t")))["s"]) > 0


@needs_snakemake
def test_an_unknown_parameter_stops_the_workflow_before_it_runs(project):
    project.plan({"experiment": "one"}, {"experiment": "two", "parameters": {"sede": 1}})
    done = project.snakemake()
    assert done.returncode != 0 and "exp_two.ipynb has no parameter sede; its parameters are profile, seed, epochs" in done.stdout
    assert not project.results.exists()


@needs_snakemake
def test_killed_and_started_again_it_ends_with_the_same_results(project, tmp_path_factory):
    row = {"experiment": "one", "parameters": {"seed": 0, "epochs": 200}}
    project.plan(row)
    undisturbed = Project(tmp_path_factory.mktemp("undisturbed"), ("one", "two"))
    undisturbed.plan(row)
    undisturbed.make_here()
    called = project.command()
    said = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert run_killed(called.pop("args"), [random.uniform(4, 14) for _ in range(2)], **called, **said) == 0
    assert not damaged(project.results)
    killed, whole = read_results("one", project.results), read_results("one", undisturbed.results)
    assert [(r.run, r.metrics) for r in killed] == [(r.run, r.metrics) for r in whole] and len(whole) == 1
    assert all(torch.equal(a.arrays()["theta"], b.arrays()["theta"]) for a, b in zip(killed, whole))
    assert not list(project.results.glob(".running-*")) and not list((project.results/".checkpoints").iterdir())


def test_the_same_run_twice_gives_the_same_numbers(tmp_path):
    given = dict(profile="smoke", dataset="digits", epochs=1, train_images=256, samples=3)
    options = [word for name, value in given.items() for word in ("-p", name, str(value))]
    folders, command = [tmp_path/"first", tmp_path/"second"], [BIN/"implicit-vi", "nbs/exp_mnist.ipynb", *options]
    runs = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env=os.environ | {"IMPLICIT_VI_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}) for folder in folders]
    assert [run.wait() for run in runs] == [0, 0]
    first, second = [read_results("mnist", folder)[0] for folder in folders]
    numbers = [{name: value for name, value in run.metrics.items() if "seconds" not in name} for run in (first, second)]
    assert first.run == second.run and len(numbers[0]) > 5 and numbers[0] == numbers[1]
    for name, values in first.arrays().items(): assert torch.equal(values.nan_to_num(-1.), second.arrays()[name].nan_to_num(-1.)), name


def test_the_table_has_every_experiment():
    quick = {run.experiment for run in read_table(ROOT/"workflow"/"runs.yaml") if run.profile == "smoke"}
    assert quick == {path.stem.removeprefix("exp_") for path in (ROOT/"nbs").glob("exp_*.ipynb")}


def test_the_weekly_matrix_is_that_of_the_table():
    jobs = yaml.safe_load((ROOT/".github"/"workflows"/"paper.yml").read_text(encoding="utf-8"))["jobs"]
    table = {run.experiment for run in read_table(ROOT/"workflow"/"runs.yaml") if run.profile == "paper"}
    assert set(jobs["full"]["strategy"]["matrix"]["experiment"]) == table


def committed():
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not (ROOT/".git").exists(): pytest.skip("not a clone")
    return [ROOT/name for name in listed.stdout.splitlines() if (ROOT/name).exists()]


def test_committed_results_are_whole_and_small():
    files = committed()
    assert not [str(path) for path in files if path.name not in ("result.json", "arrays.safetensors")]
    for folder in {path.parent for path in files}: read_result(folder)
    kilobytes = {path.parent.name: path.stat().st_size / 1000 for path in files if path.name == "arrays.safetensors"}
    assert not {name: size for name, size in kilobytes.items() if size > 200}
    assert sum(path.stat().st_size for path in files) <= 20_000_000
