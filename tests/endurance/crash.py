"Every method, killed in a step, in a write, in what follows the loop and in the evaluation, ends as if nothing had happened."
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from endurance.record import write
from torch import nn
from torch.utils.data import DataLoader, Dataset

import implicit_vi.files as files
from implicit_vi.files import save_tensors
from implicit_vi.methods import METHODS, method_named

PHASES = "step", "write", "end", "evaluation"
SMALL = {"nuts": dict(draws=12, warmup=12, max_tree_depth=4), "swag": dict(rank=3, swag_epochs=6), "ensemble": dict(members=2),
         "livi": dict(components=2)}
NORMALISED = "ensemble", "livi_lower", "swag"  # of these the network keeps running statistics
LONGEST = {"step": .03, "write": .002, "end": .01, "evaluation": .003}  # seconds after its beginning in which a phase is hit
FORK = get_context("fork")


class Jittered(Dataset):
    "Points with noise from Python's, NumPy's and torch's random numbers, as augmentations have it."
    def __init__(self): self.x = torch.linspace(-1, 1, 24)[:, None]
    def __len__(self): return len(self.x)
    def __getitem__(self, i):
        noise = random.gauss(0, .01) + np.random.normal(0, .01) + torch.randn(()) * .01  # noqa: NPY002
        return self.x[i], (3*self.x[i]).sin() + noise


def train(method: str, folder: Path, phase) -> None:
    "Train from the checkpoint of a folder, evaluate, and write all that there is at the end; the phase says what is going on."
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    network = nn.Sequential(nn.Linear(1, 6), nn.BatchNorm1d(6) if method in NORMALISED else nn.Tanh(), nn.Linear(6, 1))
    model = method_named(method, network, "gaussian", **SMALL.get(method, {}))
    loader = DataLoader(Jittered(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(1))
    save, finish = files.save_file, model.finish
    def slowly(*given):
        phase.value = PHASES.index("write")
        save(*given)
        phase.value = PHASES.index("step")
    def finishing(*given):
        phase.value = PHASES.index("end")
        finish(*given)
    files.save_file, model.finish = slowly, finishing
    model.fit(loader, epochs=4, n_samples=2, lr=1e-2, checkpoint=folder/"run.safetensors", progress=False)
    phase.value = PHASES.index("evaluation")
    x = torch.linspace(-2, 2, 50)[:, None]
    mean, scores = model.predict(x, n_samples=20).mean, model.log_predictive(x, x.sin(), n_samples=20)
    files.save_file = save
    keys = torch.from_numpy(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002
    ends = {"mean": mean, "scores": scores, "random": torch.get_rng_state(), "numpy": keys, "drawn": torch.tensor(random.random())}
    save_tensors(folder/"end.safetensors", model.state_dict() | ends, {"history": model.history})


def killed(method: str, folder: Path, targets: Sequence[str]) -> list[str]:
    "Start a training for each phase and kill it in that phase, somewhere; then let it end. Returns the phases of the kills."
    moments = []
    for target in [*targets, ""]:
        phase = FORK.Value("i", -1)
        child = FORK.Process(target=train, args=(method, folder, phase))
        child.start()
        if target:
            while child.is_alive() and phase.value != PHASES.index(target): time.sleep(1e-4)
            time.sleep(random.uniform(0, LONGEST[target]))
            child.kill()
        child.join()
        if child.exitcode == -signal.SIGKILL: moments.append(PHASES[phase.value])
        elif child.exitcode: raise RuntimeError(f"{method}: a training ended with {child.exitcode}")
        if target and (folder/"end.safetensors").exists(): (folder/"end.safetensors").unlink()
    return moments


def same(first: str, second: str) -> list[str]:
    "What differs between two folders of trainings that have ended, and what else is there."
    names = "run.safetensors", "end.safetensors"
    differ = [name for name in names if Path(first, name).read_bytes() != Path(second, name).read_bytes()]
    return differ + [name for name in os.listdir(second) if name not in names]


def trial(method: str, targets: Sequence[str] = PHASES) -> tuple[list[str], list[str]]:
    "Where a method was killed, and what differs at its end from one that was not."
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        train(method, Path(first), FORK.Value("i", -1))  # in this process, whose copies need import nothing then
        moments = killed(method, Path(second), targets)
        return moments, same(first, second)


def main() -> int:
    where, lost = Counter(), []
    for method in METHODS:
        moments, differ = trial(method)
        where.update(moments)
        if differ: lost.append(f"{method}: {', '.join(differ)}")
        print(f"{method:18} killed in {', '.join(moments)}; {'differs in ' + ', '.join(differ) if differ else 'the same'}", flush=True)
    words = {"step": "the loop", "write": "a write", "end": "what follows the loop", "evaluation": "the evaluation"}
    kinds = ", ".join(f"{where[phase]} in {words[phase]}" for phase in PHASES)
    what = f"training of {len(METHODS)} methods killed by SIGKILL ({kinds}), resumed, and compared with one that was not, to the bit"
    return write("crash", what, times=sum(where.values()), lost=len(lost), found="; ".join(lost))


if __name__ == "__main__": sys.exit(main())
