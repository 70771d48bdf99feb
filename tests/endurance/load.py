"Eight processes write their runs into one folder while another reads; eight threads predict from one model."
import csv
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import torch
from endurance.record import write
from nbformat.v4 import new_code_cell, new_notebook
from torch import nn

from implicit_vi.experiments import Run, read_results, scan_results
from implicit_vi.methods import method_named
from implicit_vi.runs import staging

FORK = get_context("fork")
SMALL = {"nuts": dict(draws=12, warmup=12, max_tree_depth=4), "swag": dict(rank=3, swag_epochs=6)}


def make_project(folder: Path) -> None:
    "A folder with one experiment."
    (folder/"nbs").mkdir()
    (folder/"results").mkdir()
    cell = new_code_cell("EDITION = 1\nprofile = 'paper'\nseed = 0", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), folder/"nbs"/"exp_one.ipynb")


def save_runs(folder: Path, first: int, count: int) -> None:
    "Save runs of one's own, and one that all others save as well."
    os.chdir(folder)
    torch.set_num_threads(1)
    for seed in [*range(first, first + count), 10_000]:
        with staging(folder/"results") as workshop: (workshop/"something").write_text("of this process")
        if seed == 10_000: warnings.simplefilter("ignore")  # that it is there
        try: Run("one", {"seed": seed}).save({"seed squared": seed**2}, {"values": torch.full((1000,), float(seed))})
        except FileExistsError:
            if seed != 10_000: raise


def look(folder: Path) -> list[str]:
    "What a reader finds wrong at one moment."
    whole, wrong = scan_results("one")
    for run in whole:
        values = run.arrays()["values"]
        if run.metrics["seed squared"] != run.parameters["seed"]**2 or not (values == run.parameters["seed"]).all():
            wrong.append(f"{run.name} is torn")
    table = folder/"results"/"one"/"runs.csv"
    if table.exists():
        with table.open(encoding="utf-8") as file: rows = list(csv.DictReader(file))
        wrong += [f"a torn row {row}" for row in rows if float(row["seed squared"]) != float(row["seed"])**2]
    return wrong


def runs_together(processes: int, count: int) -> tuple[int, int, list[str]]:
    "How many runs were saved at once, how often they were read meanwhile, and what was wrong."
    with TemporaryDirectory() as place:
        folder, before = Path(place), Path.cwd()
        make_project(folder)
        os.chdir(folder)
        try:
            writers = [FORK.Process(target=save_runs, args=(folder, 100*i, count)) for i in range(processes)]
            for writer in writers: writer.start()
            looks, wrong = 0, []
            while any(writer.is_alive() for writer in writers):
                wrong += look(folder)
                looks += 1
                time.sleep(.01)
            for writer in writers: writer.join()
            wrong += [f"a writer ended with {writer.exitcode}" for writer in writers if writer.exitcode]
            seeds = {100*i + j for i in range(processes) for j in range(count)} | {10_000}
            found = {run.parameters["seed"] for run in read_results("one")}
            if found != seeds: wrong.append(f"{len(seeds - found)} runs are lost")
            table = (folder/"results"/"one"/"runs.csv").read_text(encoding="utf-8").splitlines()
            listed = {int(row["seed"]) for row in csv.DictReader(table)}
            if listed != seeds: wrong.append(f"{len(seeds - listed)} runs are not in the table")
            names = [p.name for p in (folder/"results").iterdir()] + [p.name for p in (folder/"results"/"one").iterdir()]
            wrong += [f"{name} is left" for name in names if name.startswith((".unfinished", ".running"))]
            return len(seeds), looks, wrong
        finally: os.chdir(before)


def predicted_together(method: str, threads: int, times: int) -> tuple[int, list[str]]:
    "How many predictions several threads made from one model, and what differs from those of one thread."
    torch.manual_seed(0)
    x = torch.randn(24, 2)
    between = nn.BatchNorm1d(6) if method in ("livi", "mfvi") else nn.Tanh()
    network = nn.Sequential(nn.Linear(2, 6), between, nn.Dropout(.2), nn.Linear(6, 1))
    model = method_named(method, network, "gaussian", **SMALL.get(method, {}))
    model.fit([(x, x.sin().sum(1, keepdim=True))], epochs=3, n_samples=2, progress=False)
    def predict(seed: int) -> list[torch.Tensor]:
        found = model.predict(x, n_samples=12, seed=seed, batch_size=7)
        module = model.module(model.sample(2, seed=seed), -1).eval()
        scores = model.log_predictive(x, x[:, :1], n_samples=12, seed=seed, batch_size=7)
        with torch.no_grad(): return [*found, scores, module(x)]
    modes = [part.training for part in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    alone = [predict(seed) for seed in range(threads)]
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(threads) as pool: together = list(pool.map(predict, [*range(threads)]*times))
    finally: sys.setswitchinterval(switch)
    wrong = [f"{method}: prediction {i} differs" for i, found in enumerate(together)
        if not all(torch.equal(a, b) for a, b in zip(found, alone[i % threads]))]
    if [part.training for part in model.modules()] != modes: wrong.append(f"{method}: parts are left in another mode")
    wrong += [f"{method}: {name} has changed" for name, value in model.state_dict().items() if not torch.equal(value, state[name])]
    return threads*times, wrong


def main() -> int:
    runs, looks, wrong = runs_together(8, 20)
    print(f"{runs} runs by eight processes, read {looks} times: {'; '.join(wrong[:5]) or 'all there, none torn'}", flush=True)
    predictions = 0
    for method in ("map", "dropout", "mfvi", "flow", "laplace_last", "swag", "livi"):
        times, differ = predicted_together(method, 8, 10)
        print(f"{method}: {times} predictions by eight threads: {'; '.join(differ[:3]) or 'the same as alone'}", flush=True)
        wrong, predictions = wrong + differ, predictions + times
    what = f"eight processes saved {runs} runs into one folder, which was read {looks} times meanwhile; eight threads made {predictions} " \
        "predictions from one model, compared with one thread, to the bit"
    return write("load", what, times=runs + looks + predictions, lost=len(wrong), found="; ".join(wrong[:5]))


if __name__ == "__main__": sys.exit(main())
