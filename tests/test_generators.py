"What every generator must do, whatever its kind."
import pytest
import torch

from implicit_vi.architectures import make_generator
from implicit_vi.bounds import ESTIMATORS
from implicit_vi.generators import CorreMMGenerator, IndependentGenerator, MLPGenerator, MMGenerator
from implicit_vi.linearise import linearise


def slices(): return [MMGenerator((3, 4), (5, 6), (4, 5)), MMGenerator((2, 3), (4, 4), (5, 5), num_hidden=2, num_weights=22)]


CASES = {
    "mlp": lambda: MLPGenerator(6, [9, 7], 30),
    "linear": lambda: MLPGenerator(6, [], 30),
    "mm": lambda: MMGenerator((3, 2), (5, 4), (6, 7), num_weights=40),
    "mm without hidden layers": lambda: MMGenerator((3, 2), (5, 4), (6, 7), num_hidden=0),
    "latent wider than high": lambda: MMGenerator((1, 9), (5, 4), (6, 7)),
    "independent": lambda: IndependentGenerator(slices()),
    "nested": lambda: IndependentGenerator([IndependentGenerator(slices()), MLPGenerator(2, [3], 4)]),
    "correlated": lambda: CorreMMGenerator((3, 3), [(4, 5), (6, 3)], slices()),
    "by name, small": lambda: make_generator(50),
    "derived": lambda: make_generator(600, "correlated"),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    torch.manual_seed(0)
    return CASES[request.param]


def test_values_do_not_depend_on_the_batch(case):
    generator = case().double()
    z = torch.randn(2, 3, generator.latent_dim).double()
    together = generator(z)
    assert together.shape == (2, 3, generator.num_weights)
    torch.testing.assert_close(together, torch.stack([torch.stack([generator(row) for row in part]) for part in z]))


def test_products_are_those_of_the_jacobian(case):
    generator = case().double()
    z, u = torch.randn(1, generator.latent_dim).double(), torch.randn(2, 1, generator.num_weights).double()
    t = torch.randn(2, 1, generator.latent_dim).double()
    J = torch.autograd.functional.jacobian(generator, z[0])
    products = linearise(generator, z)
    torch.testing.assert_close(products.value, generator(z))
    torch.testing.assert_close(products.jvp(t)[:, 0], t[:, 0] @ J.T)
    torch.testing.assert_close(products.vjp(u)[:, 0], u[:, 0] @ J)
    torch.testing.assert_close(products.gram(t)[:, 0], t[:, 0] @ J.T @ J)


def test_gram_after_initialisation_is_still_the_product(case):
    "Scales that change within a row of the output matrix, at its ends as between tensors of a network, and none at all."
    generator = case().double()
    z, t = torch.randn(3, generator.latent_dim).double(), torch.randn(3, generator.latent_dim).double()
    for std in (torch.ones(generator.num_weights), (torch.arange(generator.num_weights) // 9 + 1.), torch.rand(generator.num_weights)):
        generator.initialise(torch.zeros(generator.num_weights).double(), std.double())
        products = linearise(generator, z)
        torch.testing.assert_close(products.gram(t), products.vjp(products.jvp(t)))


def test_state_is_whole(case):
    one, other = case(), case()
    one.initialise(torch.full((one.num_weights,), .5), torch.full((one.num_weights,), 2.))
    other.load_state_dict(one.state_dict())
    z = torch.randn(2, one.latent_dim)
    assert torch.equal(one(z), other(z))


def test_initialisation_meets_mean_and_deviation(case):
    generator = case()
    mean, std = torch.randn(generator.num_weights), torch.rand(generator.num_weights) + 0.1
    generator.initialise(mean, std)
    with torch.no_grad(): theta = generator(torch.randn(4000, generator.latent_dim))
    assert ((theta.mean(0) - mean) / std).abs().mean() < 0.1
    assert (theta.std(0) / std - 1).abs().mean() < 0.1
    with pytest.raises(ValueError, match=rf"mean must be \({generator.num_weights},\), got \(3,\)"):
        generator.initialise(torch.zeros(3), std)


def test_wrong_latents_are_refused(case):
    generator = case()
    for shape in ((generator.latent_dim + 1,), (2, generator.latent_dim - 1), ()):
        with pytest.raises(ValueError, match=rf"must be \(\.\.\., {generator.latent_dim}\)"): generator(torch.zeros(shape))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_entropy_reaches_every_parameter_that_matters(case, estimator):
    "All but the last biases, which only move the mean."
    generator = case()
    ESTIMATORS[estimator](linearise(generator, torch.randn(2, generator.latent_dim)), 0.1).value.sum().backward()
    bound = [name for name, p in generator.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert bound and all(p.grad is None or p.grad.isfinite().all() for p in generator.parameters())
    without = {n for n, _ in generator.named_parameters()} - set(bound)
    assert all(n.endswith("bias") for n in without), without
