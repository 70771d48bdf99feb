"The workflow on small experiments of its own: what is missing, what a failure and a kill leave, and what is committed."
import csv
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

from implicit_vi.experiments import read_results, results_folder, runs_table, scan_results
from implicit_vi.parameters import check_parameters, find_experiment, run_name
from implicit_vi.workflow import main, read_table, state_of, status

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
needs_snakemake = pytest.mark.skipif(not (BIN/"snakemake").exists(), reason="Snakemake needs Python 3.11 or newer")

PARAMETERS = "EDITION = 1\nprofile = 'paper'\nseed = 0\nepochs = 40\ncheckpoint: str | None = None"
START = """
import torch
from implicit_vi.bnn import ImplicitBNN
from implicit_vi.experiments import Run
from implicit_vi.training import fit
run = Run(NAME, globals())
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

    def write(self, name: str, parameters: str = PARAMETERS, train: str = TRAIN) -> None:
        first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        cells = [first, new_code_cell(START.replace("NAME", repr(name))), new_code_cell(train)]
        kernel = {"name": "python3", "display_name": "python3", "language": "python"}
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), self.folder/"nbs"/f"exp_{name}.ipynb")

    def plan(self, *rows: dict) -> None: (self.folder/"workflow"/"runs.yaml").write_text(yaml.safe_dump(list(rows), sort_keys=False))

    def table(self): return read_table(self.folder/"workflow"/"runs.yaml")

    def states(self) -> list[str]:
        "What there is of each run of the table."
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            return [state_of(run).name for run in self.table()]

    def make_here(self) -> None:
        "All runs of the table that are missing, in this process and without papermill."
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for planned in self.table():
                if state_of(planned).name == "done": continue
                cells = [cell.source for cell in nbformat.read(planned.experiment.notebook, 4).cells]
                names: dict = {}
                for source in (cells[0], "\n".join(f"{k} = {v!r}" for k, v in planned.given.items()), *cells[1:]): exec(source, names)

    def command(self, *options: str) -> dict:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IMPLICIT_VI_") and k != "IN_TEST"}
        workflow = ROOT/"workflow"
        command = [BIN/"snakemake", "-s", workflow/"Snakefile", "--profile", workflow/"profiles"/"local", "-d", self.folder, *options,
            "--config", "profile=paper"]
        return dict(args=[str(word) for word in command], env=environment, cwd=self.folder, stdin=subprocess.DEVNULL)

    def snakemake(self, *options: str) -> subprocess.CompletedProcess:
        return subprocess.run(**self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def planned(self) -> set[str]:
        "The runs that Snakemake would start, and `page` if it would draw."
        done = self.snakemake("-n", "--quiet", "host", "--printshellcmds")
        assert done.returncode == 0, done.stdout
        return {name for name in [*(run.name for run in self.table()), "page"] if f"workflow/logs/{name}" in done.stdout}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("IMPLICIT_VI_RESULTS", raising=False)
    return Project(tmp_path, ("one", "two"))


def test_editions_say_what_is_out_of_date_and_records_are_never_rewritten(project, monkeypatch):
    project.plan({"experiment": "one", "parameters": {"seed": [0, 1], "epochs": 1}}, {"experiment": "two", "parameters": {"epochs": 1}})
    project.make_here()
    project.write("one", train=TRAIN.replace("lr=1e-3", "lr=2e-3"))
    assert project.states() == ["done"] * 3  # people say what changes the meaning of numbers
    before = {path: path.read_bytes() for path in project.results.rglob("*") if path.is_file() and path.name != "runs.csv"}
    project.write("one", PARAMETERS.replace("EDITION = 1", "EDITION = 2"))
    assert project.states() == ["out of date", "out of date", "done"]
    monkeypatch.chdir(project.folder)
    assert "one/epochs1-seed0-edition2" in status(project.table()) and "of edition 1, now 2" in status(project.table())
    assert read_results("one") == [] and len(read_results("one", edition=1)) == 2
    project.make_here()
    assert project.states() == ["done"] * 3 and {path: path.read_bytes() for path in before} == before
    assert [r.name for r in read_results("one")] == ["epochs1-seed0-edition2", "epochs1-seed1-edition2"]
    table = list(csv.DictReader((project.results/"one"/"runs.csv").open()))
    assert [(row["seed"], row["edition"]) for row in table] == [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")]


@needs_snakemake
def test_only_what_is_missing_runs(project):
    one = {"experiment": "one", "parameters": {"seed": [0, 1], "epochs": 1}}
    two = {"experiment": "two", "parameters": {"seed": [0, 1], "epochs": 1}}
    project.plan(one, two)
    assert set(project.states()) == {"missing"}
    project.make_here()
    for path in project.results.rglob("*"): os.utime(path, (0, 0))  # a clone scrambles the times of files
    two["parameters"]["epochs"] = 2
    project.plan(one, two)
    assert project.planned() == {"two/epochs2-seed0", "two/epochs2-seed1", "page"}
    two["parameters"]["epochs"] = 1
    project.plan(one, two)
    assert project.snakemake().returncode == 0
    assert (project.results/"figures"/"paper"/"paper.html").exists()
    again = project.snakemake()
    assert "paper: 0 of 4 runs to do" in again.stdout and "Nothing to be done" in again.stdout, again.stdout


@needs_snakemake
@pytest.mark.skipif(not os.environ.get("SLOW"), reason="half a minute: make test-all")
def test_a_failed_run_keeps_its_notebook_and_stops_no_other(project):
    project.plan({"experiment": "one", "parameters": {"seed": [13, 0], "epochs": 1}})
    done = project.snakemake()
    assert done.returncode != 0
    assert project.states() == ["missing", "done"] and not damaged(project.results)
    log = (project.folder/"workflow"/"logs"/"one"/"epochs1-seed13.log").read_text()
    assert "an unlucky number" in log
    kept, = (project.results/"failed").glob("exp_one-*.ipynb")
    assert str(kept) in log and any("unlucky" in str(cell.get("outputs")) for cell in nbformat.read(kept, 4).cells)
    header, values = (project.folder/"workflow"/"benchmarks"/"one"/"epochs1-seed0.tsv").read_text().splitlines()
    assert float(dict(zip(header.split("\t"), values.split("\t")))["s"]) > 0


@needs_snakemake
def test_an_unknown_parameter_stops_the_workflow_before_it_runs(project):
    project.plan({"experiment": "one"}, {"experiment": "two", "parameters": {"sede": 1}})
    done = project.snakemake()
    assert done.returncode != 0 and "exp_two.ipynb has no parameter sede; its parameters are profile, seed, epochs" in done.stdout
    assert not project.results.exists()


@needs_snakemake
@pytest.mark.skipif(not os.environ.get("SLOW"), reason="kills and starts again, a minute: make test-all")
def test_killed_and_started_again_it_ends_with_the_same_results(project, tmp_path_factory, monkeypatch):
    row = {"experiment": "one", "parameters": {"seed": 0, "epochs": 120}}
    project.plan(row)
    undisturbed = Project(tmp_path_factory.mktemp("undisturbed"), ("one", "two"))
    undisturbed.plan(row)
    undisturbed.make_here()
    called = project.command()
    said = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert run_killed(called.pop("args"), [random.uniform(4, 9) for _ in range(2)], **called, **said) == 0
    assert not damaged(project.results)
    found = []
    for each in (project, undisturbed):
        monkeypatch.chdir(each.folder)
        found.append(read_results("one"))
    killed, whole = found
    assert [(r.name, r.metrics) for r in killed] == [(r.name, r.metrics) for r in whole] and len(whole) == 1
    assert all(torch.equal(a.arrays()["theta"], b.arrays()["theta"]) for a, b in zip(killed, whole))
    assert not list(project.results.glob(".running-*")) and not list((project.results/".checkpoints").iterdir())


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="two experiments, half a minute: make test-all")
def test_the_same_run_twice_gives_the_same_numbers(tmp_path, monkeypatch):
    given = dict(dataset="diabetes", steps=20)
    options = [word for name, value in given.items() for word in ("-p", name, str(value))]
    monkeypatch.chdir(ROOT)
    found = []
    for name in ("first", "second"):
        monkeypatch.setenv("IMPLICIT_VI_RESULTS", str(tmp_path/name))
        assert main(["nbs/exp_uci.ipynb", *options]) == 0
        found += read_results("uci")
    first, second = found
    numbers = [{name: value for name, value in run.metrics.items() if "seconds" not in name} for run in found]
    assert first.name == second.name == "smoke-livi-diabetes-steps20-seed0"
    assert len(numbers[0]) > 4 and numbers[0] == numbers[1]
    for name, values in first.arrays().items(): assert torch.equal(values.nan_to_num(-1.), second.arrays()[name].nan_to_num(-1.)), name


def test_two_that_save_the_same_run_leave_one_whole_record(project, monkeypatch):
    from implicit_vi.experiments import Run
    monkeypatch.chdir(project.folder)
    first, second = Run("one", {"seed": 4}), Run("one", {"seed": 4})
    first.save({"total": 1.})
    with pytest.raises(FileExistsError, match="seed4 exists, and a record is never rewritten"): second.save({"total": 2.})
    assert [r.metrics["total"] for r in read_results("one")] == [1.] and not damaged(project.results)


def test_the_table_has_every_experiment():
    quick = {run.experiment.name for run in read_table(ROOT/"workflow"/"runs.yaml") if run.profile == "smoke"}
    assert quick == {path.stem.removeprefix("exp_") for path in (ROOT/"nbs").glob("exp_*.ipynb")}


def test_the_weekly_matrix_is_that_of_the_table():
    jobs = yaml.safe_load((ROOT/".github"/"workflows"/"paper.yml").read_text(encoding="utf-8"))["jobs"]
    table = {run.experiment.name for run in read_table(ROOT/"workflow"/"runs.yaml") if run.profile == "paper"}
    assert set(jobs["full"]["strategy"]["matrix"]["experiment"]) == table


@pytest.fixture
def committed(monkeypatch):
    "The committed files of results."
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not (ROOT/".git").exists(): pytest.skip("not a clone")
    monkeypatch.delenv("IMPLICIT_VI_RESULTS", raising=False)
    monkeypatch.chdir(ROOT)
    return [ROOT/name for name in listed.stdout.splitlines() if (ROOT/name).exists()]


def test_committed_records_are_whole_and_small(committed):
    committed = [path for path in committed if path.parent != ROOT/"results"/"robustness"]  # which tests/test_robustness.py looks at
    assert {path.name for path in committed} == {"result.json", "arrays.safetensors", "runs.csv"}
    assert not [fault for experiment in {path.relative_to(ROOT).parts[1] for path in committed} for fault in scan_results(experiment)[1]]
    kilobytes = {path.parent.name: path.stat().st_size / 1000 for path in committed if path.name == "arrays.safetensors"}
    assert not {name: size for name, size in kilobytes.items() if size > 200}
    assert sum(path.stat().st_size for path in committed) <= 20_000_000


def test_the_tables_of_runs_are_in_step_with_the_records(committed):
    for experiment in sorted({path.relative_to(ROOT).parts[1] for path in committed} - {"robustness"}):
        kept = [r for r in scan_results(experiment)[0] if r.parameters["profile"] != "smoke"]
        with (results_folder()/experiment/"runs.csv").open(encoding="utf-8") as file: table = list(csv.DictReader(file))
        assert table == runs_table(kept), f"results/{experiment}/runs.csv: write it with implicit-vi page paper"


def test_records_have_the_parameters_that_their_names_say(committed):
    "A default that was changed without a new edition would leave records whose names say something else."
    for planned in read_table():
        state = state_of(planned)
        if state.name != "done": continue
        parameters, chosen = state.result.parameters, planned.experiment.defaults | planned.given
        asked = {k: v for k, v in chosen.items() if v is not None and k not in ("device", "checkpoint")}
        assert {k: parameters.get(k, v) for k, v in asked.items()} == asked, f"{planned.name}: raise EDITION in its notebook"


def test_no_two_runs_have_one_name():
    mnist = find_experiment("mnist").defaults
    wanted = [{}, {"seed": 1}, {"profile": "paper"}, {"noise": .1}, {"noise": 1}, {"entropy_samples": None}, {"entropy_samples": 11},
        {"antithetic": True}, {"epochs": 1}, {"epochs": 10}, {"method": "map"}, {"network": "mlp"}, {"dataset": "MNIST"}, {"lr": 1e-3}]
    names = [run_name(check_parameters(find_experiment("mnist"), given), mnist, edition) for given in wanted for edition in (1, 2, 11)]
    assert len(set(names)) == len(names) and all(set(name) <= {*"abcdefghijklmnopqrstuvwxyzMNIST0123456789-_."} for name in names)
