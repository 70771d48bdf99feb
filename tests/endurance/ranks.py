"Two processes that train together: one is killed at a random moment, the other ends with an error, and both go on from the checkpoint."
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from endurance.crash import FORK
from endurance.record import write
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from implicit_vi.files import load_tensors, save_tensors
from implicit_vi.methods import method_named


def train(folder: Path, count: int, epochs: int = 6, method: str = "livi") -> None:
    "Train as one of some processes, from a checkpoint; each writes what it has at the end."
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=count)
    fabric.launch()
    torch.manual_seed(fabric.global_rank)  # all start as the first does, though their own are others
    x = torch.randn(33, 1)
    x.copy_(fabric.broadcast(x))
    loader = DataLoader(TensorDataset(x, x.sin()), batch_size=8, shuffle=True)
    model = method_named(method, nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)), "gaussian")
    (folder/f"begun-{fabric.global_rank}").touch()
    model.fit(loader, epochs=epochs, n_samples=2, lr=1e-2, checkpoint=folder/"run", progress=False, fabric=fabric)
    save_tensors(folder/f"end-{fabric.global_rank}", model.state_dict(), {"history": model.history})


def launch(target: Callable, count: int, *given) -> list:
    "Processes that know of each other as those of torchrun do."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    def begin(rank: int) -> None:
        about = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=count, LOCAL_WORLD_SIZE=count, GROUP_RANK=0, MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port, TORCHELASTIC_RUN_ID="trial")
        os.environ.update({name: str(value) for name, value in about.items()})
        sys.stdout = sys.stderr = open(given[0]/f"said-{rank}", "w", buffering=1)
        os.dup2(sys.stderr.fileno(), 2)
        target(*given)
    children = [FORK.Process(target=begin, args=(rank,)) for rank in range(count)]
    for child in children: child.start()
    return children


def ended(children: list, seconds: float = 300) -> list[int | None]:
    "The exit statuses of processes; what does not end in time is killed and has none."
    end = time.monotonic() + seconds
    for child in children: child.join(max(0, end - time.monotonic()))
    statuses = [child.exitcode for child in children]
    for child in children:
        child.kill()
        child.join()
    return statuses


def killed(folder: Path, victim: int) -> str | None:
    "Kill one of two processes in training; a complaint where the other ends without an error or the checkpoint is not whole, else ''."
    for name in ("begun-0", "begun-1"): (folder/name).unlink(missing_ok=True)
    children = launch(train, 2, folder, 2)
    while not (folder/f"begun-{victim}").exists() and children[victim].is_alive(): time.sleep(1e-3)
    time.sleep(random.uniform(.02, .3))
    children[victim].kill()
    statuses = ended(children)
    if statuses[victim] == 0: return None  # it was too late
    if not statuses[1 - victim]: return f"the other process ended with {statuses[1 - victim]}"
    said = (folder/f"said-{1 - victim}").read_text()
    if (folder/"run").exists(): load_tensors(folder/"run")
    return "" if f"process {1 - victim} of 2 has lost another one" in said else f"the other process said {said[-500:]!r}"


def trial(tries: int) -> tuple[int, list[str]]:
    "How often, of so many tries, one of two processes was killed in training, and what was wrong."
    with TemporaryDirectory() as first, TemporaryDirectory() as second, TemporaryDirectory() as third:
        found = ended(launch(train, 2, Path(first), 2))
        wrong = [] if found == [0, 0] else [f"statuses {found}"]
        answers = [answer for i in range(tries) if (answer := killed(Path(second), i % 2)) is not None]
        wrong += filter(None, answers)
        found = ended(launch(train, 2, Path(second), 2))
        if found != [0, 0]: wrong.append(f"resumed, statuses {found}")
        ends = [Path(folder, f"end-{rank}").read_bytes() for folder in (first, second) for rank in range(2)]
        if len(set(ends)) > 1: wrong.append("the ends differ")
        return len(answers), wrong + filled_up_by_one(Path(third))


def filled_up_by_one(folder: Path) -> list[str]:
    "What is wrong where two processes are killed, and one alone goes on."
    both = launch(train, 2, folder, 2, 60)
    while not (folder/"run").exists() or not (history := load_tensors(folder/"run")[1]["history"]): time.sleep(.01)
    for child in both: child.kill()
    ended(both)
    history = load_tensors(folder/"run")[1]["history"]
    if ended(launch(train, 1, folder, 1, 60)) != [0]: return ["one process has not gone on"]
    whole = load_tensors(folder/"end-0")[1]["history"]
    return [] if 0 < len(history) < 60 == len(whole) and whole[:len(history)] == history else ["on one process the history is another"]


def main() -> int:
    kills, wrong = trial(10)
    print(f"killed {kills} times: {'; '.join(wrong) or 'all ends are the same'}", flush=True)
    what = "one of two processes of a training killed: the other ended with an error, both resumed to the same end, to the bit; " \
        "and a checkpoint of two processes resumed on one"
    return write("ranks", what, times=kills + 1, lost=len(wrong), found="; ".join(wrong))


if __name__ == "__main__": sys.exit(main())
