"What training writes into buffers, for small networks of many kinds."
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from implicit_vi import Gaussian, ImplicitBNN
from implicit_vi.reparameterise import Reparameterised


class Codebook(nn.Module):
    "The nearest of some codes, which are moving averages of what they stand for."
    def __init__(self, n_codes, size):
        super().__init__()
        self.register_buffer("codes", torch.randn(n_codes, size))
        self.register_buffer("counts", torch.ones(n_codes))

    def forward(self, x):
        chosen = nn.functional.one_hot(torch.cdist(x, self.codes).argmin(1), len(self.codes)).to(x)
        found = chosen @ self.codes.clone()
        if self.training:
            self.counts.mul_(.9).add_(chosen.sum(0), alpha=.1)
            self.codes.mul_(.9).add_(chosen.T @ x.detach() / chosen.sum(0).clamp(min=1)[:, None], alpha=.1)
        return x + (found - x).detach()


class Centred(nn.Module):
    "Takes off a running mean, which a pass puts in the place of the last."
    def __init__(self, size):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, x):
        if self.training:
            with torch.no_grad(): self.mean = .9 * self.mean + .1 * x.mean(0)
            self.passes += 1
        return x - self.mean


class Mixed(Centred):
    "Writes what depends on a draw into what does not, so that no work is shared, and keeps a mean of its inputs before."
    def __init__(self):
        super().__init__(4)
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = self.body(super().forward(x))
        h += self.head.weight[:1]
        return self.head(h)


def stacked(*layers): return nn.Sequential(*layers)
def tracking(kind, size): return kind(size, track_running_stats=True, affine=True)
def dense(*between): return lambda: stacked(nn.Linear(4, 6), *(layer() for layer in between), nn.ReLU(), nn.Linear(6, 3))
def images(*between): return lambda: stacked(nn.Conv2d(2, 3, 3), *(layer() for layer in between), nn.Flatten(), nn.Linear(75, 3))

DENSE, SIGNALS, IMAGES = (12, 4), (12, 2, 9), (6, 2, 7, 7)
NETWORKS = {  # network, stochastic, shape of the inputs
    "batch": (dense(lambda: nn.BatchNorm1d(6)), "**", DENSE),
    "batch, cumulative": (dense(lambda: nn.BatchNorm1d(6, momentum=None)), "**", DENSE),
    "batch of images": (images(lambda: nn.BatchNorm2d(3, affine=False)), "**", IMAGES),
    "batch before random weights": (dense(lambda: nn.BatchNorm1d(6)), "3.*", DENSE),
    "instance": (lambda: stacked(nn.Conv1d(2, 3, 3), tracking(nn.InstanceNorm1d, 3), nn.Flatten(), nn.Linear(21, 3)), "**", SIGNALS),
    "instance of images": (images(lambda: tracking(nn.InstanceNorm2d, 3)), "**", IMAGES),
    "instance before random weights": (lambda: stacked(tracking(nn.InstanceNorm1d, 2), nn.Flatten(), nn.Linear(18, 3)), "2.*", SIGNALS),
    "spectral": (lambda: stacked(spectral_norm(nn.Linear(4, 6)), nn.ReLU(), spectral_norm(nn.Linear(6, 3))), "**", DENSE),
    "spectral of a convolution": (lambda: stacked(spectral_norm(nn.Conv2d(2, 3, 3)), nn.Flatten(), nn.Linear(75, 3)), "**", IMAGES),
    "spectral, transposed": (lambda: stacked(spectral_norm(nn.ConvTranspose1d(2, 3, 3)), nn.Flatten(), nn.Linear(33, 3)), "**", SIGNALS),
    "spectral before random weights": (lambda: stacked(spectral_norm(nn.Linear(4, 6), "weight", 2), nn.Linear(6, 3)), "1.*", DENSE),
    "spectral and batch": (lambda: stacked(spectral_norm(nn.Linear(4, 6)), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), "**", DENSE),
    "running mean": (lambda: stacked(Centred(4), nn.Linear(4, 3)), "**", DENSE),
    "running mean of features": (dense(lambda: Centred(6)), "3.*", DENSE),
    "nothing to share": (Mixed, "head.*", DENSE),
    "codebook": (dense(lambda: Codebook(5, 6)), "3.*", DENSE),
}
def sizes_of(name): return [1] if name == "nothing to share" else [1, 2, None]  # batched draws are not written into what is one for all
KEPT = [name for name in NETWORKS if "before" in name or name.startswith(("running", "nothing", "codebook"))]


def made(name, chunk_size):
    torch.manual_seed(0)
    build, stochastic, shape = NETWORKS[name]
    net = build().double()
    network = Reparameterised(net, stochastic, chunk_size)
    return net, network, network.initial + .3 * torch.randn(3, network.num_weights).double(), 1 + torch.randn(shape).double()


def state_of(net): return [part.training for part in net.modules()], {name: t.clone() for name, t in net.state_dict().items()}


def assert_same_state(one, other):
    assert one[0] == other[0]
    torch.testing.assert_close(one[1], other[1])


@pytest.mark.parametrize("name,chunk_size", [(name, size) for name in NETWORKS for size in sizes_of(name)])
def test_draws_are_plain_networks(name, chunk_size):
    net, network, draws, x = made(name, chunk_size)
    before = state_of(net)
    plain = [network.with_weights(draw) for draw in draws]
    torch.testing.assert_close(network(draws, x), torch.stack([one(x) for one in plain]), rtol=1e-3, atol=1e-3)

    network.eval()
    statistics = network.statistics(draws, x)
    outputs = network(draws, x, statistics)
    ordinary = [network.with_weights(draw, {n: v[i] for n, v in statistics.items()}).eval() for i, draw in enumerate(draws)]
    torch.testing.assert_close(outputs, torch.stack([one(x) for one in ordinary]))
    torch.testing.assert_close(network(draws, x, network.statistics(draws, x)), outputs, rtol=0, atol=0)
    assert_same_state(state_of(net), before)


@pytest.mark.parametrize("name,chunk_size", [(name, size) for name in KEPT for size in sizes_of(name)])
def test_what_no_random_weight_comes_before_is_trained_as_in_a_plain_network(name, chunk_size):
    net, network, draws, x = made(name, chunk_size)
    plain = deepcopy(net)
    for rows in (x, x.flip(0) * 2, x + 1):
        network(draws, rows)
        plain(rows)
    learned, expected = dict(network.module.named_buffers()), dict(plain.named_buffers())
    for n in expected: torch.testing.assert_close(learned[n], expected[n])
    assert not network.has_statistics
    network.eval()
    one = network.with_weights(network.initial).eval()
    torch.testing.assert_close(network(network.initial, x), one(x))
    torch.testing.assert_close(one(x), plain.eval()(x))


@pytest.mark.parametrize("chunk_size", [1, None])
@pytest.mark.parametrize("stochastic", ["**", "0.*"])
def test_what_a_random_weight_comes_before_is_refused_by_name(stochastic, chunk_size):
    torch.manual_seed(0)
    net, x = stacked(nn.Linear(4, 6), Codebook(5, 6), nn.Linear(6, 3)), torch.randn(12, 4)
    network = Reparameterised(net, stochastic, chunk_size)
    before = state_of(network)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"training writes into 1.codes, 1.counts what depends .*net.get_submodule\('1'\).eval"):
            network(network.initial.expand(2, -1), x)
    assert_same_state(state_of(network), before)
    net[1].eval()                                               # the advice of the error
    resting = Reparameterised(net, stochastic, chunk_size)
    resting(resting.initial.expand(2, -1), x)
    torch.testing.assert_close(resting.module[1].codes, net[1].codes)


@pytest.mark.parametrize("spread", [.1, .5, 2.])
@pytest.mark.parametrize("chunk_size", [1, None])
@pytest.mark.parametrize("training", [True, False])
def test_every_drawn_layer_has_spectral_norm_one(spread, chunk_size, training):
    torch.manual_seed(0)
    network = Reparameterised(spectral_norm(nn.Linear(20, 30, bias=False)), chunk_size=chunk_size).train(training)
    draws = network.initial + spread * torch.randn(6, 600)
    norms = torch.linalg.matrix_norm(network(draws, torch.eye(20)).detach(), 2)
    torch.testing.assert_close(norms, torch.ones(6), rtol=0, atol=1e-2)


def test_spectral_norms_that_are_refused():
    with pytest.raises(ValueError, match="old spectral_norm: use torch.nn.utils.parametrizations"):
        Reparameterised(stacked(nn.utils.spectral_norm(nn.Linear(4, 3)), nn.Linear(3, 2)), ["1.*"])
    with pytest.raises(ValueError, match="must be the first parametrisation .* not in parametrizations.weight"):
        Reparameterised(spectral_norm(weight_norm(nn.Linear(4, 3))))


def test_attributes_that_a_pass_sets_are_as_they_were_after_the_trial():
    class Begun(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("codes", torch.zeros(4))
            self.begun = False
        def forward(self, x):
            if not self.begun: self.codes, self.begun = x.mean(0), True
            return x - self.codes
    network = Reparameterised(stacked(Begun(), nn.Linear(4, 3)))
    x = torch.randn(5, 4)
    network(network.initial.expand(2, -1), x)
    torch.testing.assert_close(network.module[0].codes, x.mean(0))


@pytest.mark.parametrize("name", ["instance", "spectral", "spectral and batch", "running mean of features", "codebook"])
def test_a_model_is_fitted_and_predicts_the_same_twice(name):
    torch.manual_seed(0)
    build, stochastic, shape = NETWORKS[name]
    net, x = build(), torch.randn(shape)
    before = state_of(net)
    bnn = ImplicitBNN(net, Gaussian(.3), stochastic=stochastic)
    bnn.fit([(x, torch.randn(len(x), 3))] * 2, epochs=1, progress=False, seed=0)
    fitted = state_of(bnn.network)
    one, other = (bnn.outputs(x, bnn.sample(3, seed=1)) for _ in range(2))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert_same_state(state_of(bnn.network), fitted)
    assert_same_state(state_of(net), before)
