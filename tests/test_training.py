"Training that is killed, and checkpoints that are damaged."
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from implicit_vi.bnn import ImplicitBNN
from implicit_vi.likelihoods import Gaussian
from implicit_vi.training import fit

EPOCHS = 60


def run(checkpoint=None):
    torch.manual_seed(0)
    x = torch.randn(64, 1)
    loader = DataLoader(TensorDataset(x, x.sin()), batch_size=16, shuffle=True)
    bnn = ImplicitBNN(nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)), Gaussian(0.1, learn=True))
    history = fit(bnn, loader, epochs=EPOCHS, checkpoint=checkpoint, progress=False)
    return bnn.state_dict(), history


def test_killed_at_any_moment_it_ends_the_same(tmp_path):
    path = tmp_path/"run.safetensors"
    for delay in (0., .05, .2):
        child = subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "training\n"
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    resumed, history = run(path)
    undisturbed, whole = run()
    assert history == whole
    for name, value in undisturbed.items(): assert torch.equal(value, resumed[name]), name


def test_a_damaged_checkpoint_is_told_and_left(tmp_path):
    path = tmp_path/"run.safetensors"
    run(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], b"\x00"*len(whole), b"\xff" + whole[1:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a whole file"): run(path)
        assert path.read_bytes() == damaged


if __name__ == "__main__":
    print("training", flush=True)
    run(Path(sys.argv[1]))
