"Wide residual networks: against the formula written out, and under samples of their weights."
import pytest
import torch
import torch.nn.functional as F

from implicit_vi.networks import WideResNet, batch_norm, group_norm
from implicit_vi.reparameterise import Reparameterised


def count(net): return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("depth,widen,classes,weights", [(16, 4, 10, 2_745_274), (28, 10, 100, 36_518_932)])
def test_number_of_weights(depth, widen, classes, weights):
    with torch.device("meta"): net = WideResNet(depth, widen, classes)
    assert count(net) == weights
    assert not [n for n, p in net.named_parameters() if "norm" in n or n.endswith("bias") and n != "fc.bias"]


@pytest.mark.parametrize("depth", [-2, 4, 5, 9, 11, 18, 20, 27])
def test_a_depth_that_is_not_6n_plus_4(depth):
    with pytest.raises(ValueError, match=rf"must be 6n \+ 4, such as 10, 16, 22, 28 or 40, got {depth}"): WideResNet(depth)


def test_weights_begin_with_the_variance_that_their_layer_needs():
    torch.manual_seed(0)
    for name, p in WideResNet(16, 4, 10).named_parameters():
        if p.ndim == 4 and p.numel() > 1000: assert abs(p.std() / (2 / p[0].numel())**.5 - 1) < .1, name


def normalised(x, norm):
    if norm is batch_norm: over, parts = (0, 2, 3), x
    else: over, parts = (2, 3, 4), x.reshape(len(x), 8, -1, *x.shape[2:])
    return ((parts - parts.mean(over, keepdim=True)) / (parts.var(over, correction=0, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)


@pytest.mark.parametrize("norm", [batch_norm, group_norm])
@pytest.mark.parametrize("depth,widen", [(10, 1), (16, 2)])
def test_outputs_are_those_of_the_formula(depth, widen, norm):
    torch.manual_seed(0)
    net = WideResNet(depth, widen, 5, channels=2, norm=norm).double()
    weights, x = dict(net.named_parameters()), torch.randn(4, 2, 16, 12).double()
    act = lambda x: normalised(x, norm).clamp(min=0)
    h = F.conv2d(x, weights.pop("conv1.weight"), padding=1)
    for group in (1, 2, 3):
        for i in range((depth - 4) // 6):
            stride = 2 if group > 1 and i == 0 else 1
            w1, w2, skip = (weights.pop(f"block{group}.{i}.{name}.weight", None) for name in ("conv1", "conv2", "shortcut"))
            change = F.conv2d(act(F.conv2d(act(h), w1, stride=stride, padding=1)), w2, padding=1)
            h = change + (h if skip is None else F.conv2d(act(h), skip, stride=stride))
    expected = act(h).mean((2, 3)) @ weights.pop("fc.weight").T + weights.pop("fc.bias")
    assert not weights and h.shape[2:] == (4, 3)
    torch.testing.assert_close(net(x), expected)


def test_every_weight_has_a_gradient():
    net = WideResNet(10, 1, 10)
    net(torch.randn(3, 3, 32, 32)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.fixture
def samples():
    torch.manual_seed(0)
    network = Reparameterised(WideResNet(10, 1, 10).double())
    return network, network.initial * (1 + .5 * torch.randn(3, network.num_weights).double()), torch.randn(8, 3, 16, 16).double()


@pytest.mark.parametrize("chunk", [1, 2, None])
def test_training_uses_the_statistics_of_the_batch_for_every_sample(samples, chunk):
    network, theta, x = samples
    network.chunk_size = chunk
    together = network(theta, x)
    torch.testing.assert_close(together, torch.stack([network(t, x) for t in theta]))
    network.eval()
    torch.testing.assert_close(network(theta, x, network.statistics(theta, x)), together, rtol=.2, atol=.2)  # variances with n and n - 1
    assert all((v == 0).all() for n, v in network.module.named_buffers() if n.endswith("running_mean"))


def test_each_sample_needs_its_own_statistics(samples):
    network, theta, x = samples
    network.eval()
    own = network.statistics(theta, x)
    mixed = {k: v.roll(1, 0) for k, v in own.items()}
    assert (network(theta, x, own) - network(theta, x, mixed)).abs().max() > .1
    with pytest.raises(RuntimeError, match="measure them with statistics"): network(theta, x)


def test_group_norm_needs_no_statistics_and_no_company(samples):
    _, theta, x = samples
    network = Reparameterised(WideResNet(10, 1, 10, norm=group_norm).double())
    assert network.statistics(theta, x) == {}
    training, evaluation = network(theta, x), network.eval()(theta, x)
    torch.testing.assert_close(training, evaluation)
    torch.testing.assert_close(network(theta, x[:1]), evaluation[:, :1])
