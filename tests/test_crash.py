"Training that is killed, stopped, or finds no room: small versions of `make endurance`."
import os
from unittest.mock import patch

import pytest
import torch
from endurance import crash, disk, signals
from torch import nn

from implicit_vi.bnn import ImplicitBNN
from implicit_vi.training import fit


@pytest.mark.parametrize("method", ["livi", "swag"])
def test_killed_in_any_phase_it_ends_the_same(method):
    moments, differ = crash.trial(method)
    assert len(moments) >= 2 and not differ


def test_a_signal_is_answered_once_and_nothing_is_lost():
    times, wrong = signals.trial("livi", 2)
    assert times and not wrong


@pytest.mark.parametrize("kind", [disk.quota, disk.full, disk.readonly])
def test_where_there_is_no_room_the_previous_checkpoint_is_whole(kind): assert disk.trial(kind, 3) == ""


def test_a_folder_that_has_become_read_only_is_found_before_the_first_step(tmp_path):
    steps = []
    class Noting(torch.optim.SGD):
        def step(self): steps.append(1)
    rows = [(torch.randn(4, 1), torch.randn(4, 1))]
    def train(epochs=2): return fit(ImplicitBNN(nn.Linear(1, 1), "gaussian"), rows, epochs=epochs, optimiser=Noting,
        checkpoint=tmp_path/"run", progress=False)
    train()
    steps.clear()
    before = (tmp_path/"run").read_bytes()
    with patch("implicit_vi.files.tempfile.mkdtemp", side_effect=OSError("Read-only file system")):
        with pytest.raises(OSError, match="run cannot be written .*Read-only file system.*name another place"): train()
    assert len(steps) <= 1 and (tmp_path/"run").read_bytes() == before  # one is tried, on copies
    with pytest.raises(ValueError, match="epochs: 2 in the file, 3 now"): train(3)
    assert os.listdir(tmp_path) == ["run"]
