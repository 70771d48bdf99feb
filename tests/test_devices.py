"Nothing is made where nobody said: the default device is `meta`, which holds no numbers, while model and data are elsewhere."
import pytest
import torch
from torch import nn

from implicit_vi.methods import METHODS, method_named
from implicit_vi.priors import PRIORS
from implicit_vi.processes import Processes

X, Y = torch.randn(12, 3), torch.randn(12, 2)
SMALL = {"nuts": dict(draws=6, warmup=6, max_tree_depth=3), "swag": dict(rank=3, swag_epochs=3)}


def made(method: str, likelihood="gaussian", **settings):
    between = nn.BatchNorm1d(5) if method in ("livi", "mfvi") else nn.Tanh()
    return method_named(method, nn.Sequential(nn.Linear(3, 5), between, nn.Linear(5, 2)), likelihood, **SMALL.get(method, {}), **settings)


def used(model, y=Y) -> None:
    "Train, draw and predict, with a default device on which no number is."
    with torch.device("meta"):
        model.fit([(X, y)]*2, epochs=2, n_samples=3, seed=0, progress=False)
        theta = model.sample(5, seed=1)
        model.outputs(X, theta)
        found = [model.predict(X, n_samples=25, seed=2), model.uncertainty(X, n_samples=5), model.log_predictive(X, y, n_samples=5)]
    assert not any(tensor.is_meta for tensor in [*model.state_dict().values(), theta.values, found[-1]])


@pytest.mark.parametrize("method", METHODS)
def test_all_that_a_method_makes_is_where_the_model_is(method):
    if method == "flow": pytest.skip("zuko makes tensors on the default device")
    used(made(method))


@pytest.mark.parametrize("prior", PRIORS)
def test_priors(prior): used(made("livi_lower", prior=prior))


@pytest.mark.parametrize(("likelihood", "y"), [("categorical", torch.arange(12) % 2), ("bernoulli", (Y > 0).float())])
def test_likelihoods(likelihood, y): used(made("mfvi", likelihood), y)


@pytest.mark.parametrize("entropy", ["exact_logdet", "stochastic_logdet", "smallest_singular_value"])
def test_estimators(entropy): used(made("livi", entropy=entropy))


def test_a_tensor_on_the_default_device_is_caught():
    model = made("mfvi")
    log_prob = model.likelihood.log_prob
    model.likelihood.log_prob = lambda outputs, y: log_prob(outputs, y) + torch.zeros(len(y))
    with pytest.raises(RuntimeError, match="meta"): used(model)


def test_a_model_goes_with_its_device():
    model = made("map").to("meta")
    (-model.elbo((X.to("meta"), Y.to("meta")), 100, 3).total).backward()
    assert model.posterior.values.grad.is_meta


def test_the_fabric_says_where_the_model_goes():
    class Elsewhere:
        global_rank, world_size, device = 0, 1, torch.device("meta")
        def all_reduce(self, *_): raise AssertionError
        broadcast = all_reduce
    layer = nn.Linear(2, 2)
    Processes(Elsewhere()).start_alike(layer)
    assert layer.weight.is_meta
