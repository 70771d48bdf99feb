"The records of `make endurance`, and two processes that train together."
import json
from pathlib import Path

import pytest
import torch
from endurance import ranks, record
from lightning_fabric import Fabric
from torch import nn

import implicit_vi.posterior
from implicit_vi.bnn import ImplicitBNN
from implicit_vi.files import load_tensors, save_tensors

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = dict(what=str, times=int, lost=int, found=str, command=str, seconds=float, commit=str, machine=str)


def test_every_trial_has_a_record_of_nothing_lost():
    names = {path.stem for path in (ROOT/"tests"/"endurance").glob("[!_]*.py")} - {"record"}
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT/"results"/"robustness").glob("*.json")}
    assert names <= set(records)
    for name, found in records.items():
        assert {key: type(value) for key, value in found.items()} == ENTRIES, name
        assert found["lost"] == 0 and found["times"] > 0 and found["command"] == f"make endurance ARGS={name}"


def test_a_loss_is_the_exit_status(tmp_path):
    assert record.write("kept", "tried", 3, 0, folder=tmp_path) == 0
    assert record.write("lost", "tried", 3, 1, "a thing", folder=tmp_path) == 1
    assert json.loads((tmp_path/"lost.json").read_text())["found"] == "a thing"


def small_model():
    torch.manual_seed(0)
    return ImplicitBNN(nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)), "gaussian", entropy="exact_logdet")


def one_step(folder, count: int, x) -> None:
    "A step of gradient descent of length one as one of some processes; writes the weights' way and all normal numbers drawn on it."
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=count)
    fabric.launch()
    model, drawn = small_model(), []
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    standard_normal = implicit_vi.posterior.standard_normal
    def noted(*given):
        drawn.append(standard_normal(*given))
        return drawn[-1]
    implicit_vi.posterior.standard_normal = noted
    model.fit([(x, x.sin())], steps=1, lr=1., n_samples=3, num_data=10, optimiser=torch.optim.SGD, progress=False, fabric=fabric)
    moved = nn.utils.parameters_to_vector(model.parameters()).detach() - start
    save_tensors(folder/str(fabric.global_rank), {"moved": moved, "latents": drawn[0], "noise": drawn[1]})


@pytest.mark.parametrize("rows", [1, 6, 7])
def test_two_processes_have_the_gradient_of_one_with_all_latents_and_rows(tmp_path, monkeypatch, rows):
    x = torch.linspace(-1, 1, rows)[:, None]
    assert ranks.ended(ranks.launch(one_step, 2, tmp_path, 2, x)) == [0, 0], (tmp_path/"said-0").read_text()
    both = [load_tensors(tmp_path/str(rank))[0] for rank in range(2)]
    latents, noise = (torch.cat([rank[name] for rank in both]) for name in ("latents", "noise"))
    assert not torch.equal(*latents.chunk(2)) and torch.equal(both[0]["moved"], both[1]["moved"])
    model = small_model()
    given = iter([latents, noise])
    monkeypatch.setattr(implicit_vi.posterior, "standard_normal", lambda *_: next(given))
    theta, entropy = model.posterior.draw(6)
    log_prob = model.likelihood.log_prob(model.network(theta, x), x.sin())  # (6, rows): all latents and all rows
    own = torch.ones(6, rows)  # a single row goes to both; else each datum meets the latents of its process
    if rows > 1:
        first = len(torch.arange(rows).tensor_split(2)[0])
        own[:3, first:] = own[3:, :first] = 0
    bound = (log_prob * own).sum() / own.sum() + (model.prior.log_prob(theta).mean() + entropy.value.mean()) / 10
    gradient = torch.autograd.grad(bound, list(model.parameters()), allow_unused=True)
    expected = torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(model.parameters(), gradient)])
    torch.testing.assert_close(both[0]["moved"], expected, rtol=1e-5, atol=2e-6)


def test_one_of_two_processes_is_killed_and_both_go_on(): assert ranks.trial(1)[1] == []
