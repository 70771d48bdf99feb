"How far the weights vary at first, in every variational method that lets one choose it."
import pytest
import torch

from implicit_vi.bnn import ImplicitBNN
from implicit_vi.generators import fan_in_sd
from implicit_vi.networks import MLP
from implicit_vi.variational import AVB, KIVI, FlowVI, MeanFieldVI


@pytest.mark.parametrize("method", [MeanFieldVI, FlowVI, ImplicitBNN, AVB, KIVI])
@pytest.mark.parametrize("spread", [.05, .4])
def test_spread_at_the_start(method, spread):
    torch.manual_seed(0)
    model = method(MLP([4, 30, 2]), "gaussian", spread=spread)
    varies = model.sample(2000, seed=0).values.std(0) / fan_in_sd(model.network.layout)
    assert varies.square().mean().sqrt().item() == pytest.approx(spread, rel=.15)
