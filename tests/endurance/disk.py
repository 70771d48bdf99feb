"A full disk, a quota and a folder that becomes read-only in training: the previous checkpoint is whole, and training goes on from it."
import errno
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from endurance.record import write
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from implicit_vi.bnn import ImplicitBNN
from implicit_vi.files import load_tensors

EPOCHS = 6


class Happening:
    "A loader during one of whose epochs something happens."
    def __init__(self, loader: DataLoader, epoch: int, happens: Callable[[], None]):
        self.loader, self.num_data, self.left, self.happens = loader, 32, epoch, happens

    def __len__(self) -> int: return len(self.loader)

    def __iter__(self) -> Iterator:
        self.left -= 1
        if self.left == 0: self.happens()
        return iter(self.loader)


@contextmanager
def quota(folder: Path) -> Iterator[Callable[[], None]]:
    "No file may have more than some thousand bytes."
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try: yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (random.randrange(100, 15_000), limits[1]))
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    "A file system of a megabyte."
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True, capture_output=True)
    try: yield
    finally: subprocess.run(["umount", folder], check=True)


@contextmanager
def full(folder: Path) -> Iterator[Callable[[], None]]:
    "A small file system without room; where one may not be mounted, a write that fails as it would there."
    def fill():
        file = os.open(folder/"filler", os.O_WRONLY | os.O_CREAT)
        try:
            while True: os.write(file, bytes(512))
        except OSError: os.close(file)
    try:
        with mounted(folder): yield fill
    except (subprocess.CalledProcessError, FileNotFoundError):
        with patch("implicit_vi.files.os.fsync", wraps=os.fsync) as written:
            yield lambda: setattr(written, "side_effect", OSError(errno.ENOSPC, "No space left on device"))


@contextmanager
def readonly(folder: Path) -> Iterator[Callable[[], None]]:
    "A file system that becomes read-only; where one may not be mounted, a folder that cannot be made."
    try:
        with mounted(folder): yield lambda: subprocess.run(["mount", "-o", "remount,ro", folder], check=True) and None
    except (subprocess.CalledProcessError, FileNotFoundError):
        with patch("implicit_vi.files.tempfile.mkdtemp", wraps=__import__("tempfile").mkdtemp) as made:
            yield lambda: setattr(made, "side_effect", OSError(errno.EROFS, "Read-only file system"))


def train(checkpoint: Path | None, epoch: int = -1, happens: Callable[[], None] = lambda: None) -> ImplicitBNN:
    "A small training, in one of whose epochs something happens."
    torch.manual_seed(0)
    x = torch.randn(32, 1)
    loader = DataLoader(TensorDataset(x, x.sin()), batch_size=16, shuffle=True)
    model = ImplicitBNN(nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)), "gaussian")
    return model.fit(Happening(loader, epoch, happens), epochs=EPOCHS, lr=1e-2, checkpoint=checkpoint, progress=False)


def trial(kind: Callable, epoch: int) -> str:
    "Train until it fails in an epoch, look at what is left, and go on elsewhere; a complaint where something is not as it should be."
    with TemporaryDirectory() as place, TemporaryDirectory() as other:
        folder, moved = Path(place), Path(other, "run")
        with kind(folder) as happens:
            try: train(folder/"run", epoch, happens)
            except OSError as e: said = str(e)
            else: return "nothing was said"
            left = sorted(name for name in os.listdir(folder) if name != "filler")
            content = (folder/"run").read_bytes()
        moved.write_bytes(content)
        if "cannot be written" not in said or "the one before, if any, is whole" not in said: return f"said {said!r}"
        if left != ["run"]: return f"left {left}"
        if (epochs := len(load_tensors(moved)[1]["history"])) != epoch - 1: return f"{epochs} epochs are left, and not {epoch - 1}"
        whole, resumed = train(None), train(moved)
        same = whole.history == resumed.history and all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))
        return "" if same else "the end differs"


def main() -> int:
    wrong, times = [], 0
    for kind in (quota, full, readonly):
        found = [complaint for _ in range(10) if (complaint := trial(kind, random.randint(1, EPOCHS)))]
        print(f"{kind.__name__}: {'; '.join(found) or 'the previous checkpoint is whole'}", flush=True)
        wrong, times = wrong + found, times + 10
    what = "a quota, a full disk and a folder that becomes read-only in the middle of training: an error, the previous checkpoint whole, " \
        "resumed from it to the same end"
    return write("disk", what, times=times, lost=len(wrong), found="; ".join(wrong))


if __name__ == "__main__": sys.exit(main())
