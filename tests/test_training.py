"Training that is killed, and checkpoints that are damaged."
import time
from multiprocessing import get_context

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


def in_one_thread(path):
    "For a process that is a copy: it has no threads of the other."
    torch.set_num_threads(1)
    run(path)


def test_killed_at_any_moment_it_ends_the_same(tmp_path):
    path = tmp_path/"run.safetensors"
    for delay in (0., .05, .2):
        child = get_context("fork").Process(target=in_one_thread, args=(path,))
        child.start()
        while not path.exists() and child.is_alive(): time.sleep(.01)
        time.sleep(delay)
        child.kill()
        child.join()
        child.close()
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

