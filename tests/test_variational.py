"Variational methods: how far the weights vary at first, and which of them learn a discriminator."
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


def test_only_the_adversarial_method_has_a_discriminator():
    def learns(method): return any("discriminator" in name for name in method(MLP([2, 3, 1]), "gaussian").state_dict())
    assert learns(AVB) and not learns(KIVI)
