"Any input to the public functions gives a right answer, or one documented error that says what came: 10,000 cases of it."
import copy
import sys
import time
import traceback
import warnings
from math import e, isfinite, log, pi

import torch
from endurance.record import write
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded_by
from hypothesis import strategies as st
from torch import nn

import implicit_vi.metrics as M
from implicit_vi import (BNN, ELBO, Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, ImplicitBNN, ImplicitPosterior,
                         MLPGenerator, MMGenerator, Noise, Poisson, StudentT, WeightSamples, dnn_to_bnn, exact_logdet, fit, linearise,
                         smallest_singular_value, stochastic_logdet)
from implicit_vi.arrival import pareto_k, trend
from implicit_vi.constrained import Constrained, ordered
from implicit_vi.data import Batches
from implicit_vi.density import fit_density
from implicit_vi.generators import IndependentGenerator
from implicit_vi.layers import MMLayer
from implicit_vi.mean_field import MeanField
from implicit_vi.mixture import Mixture, Parts
from implicit_vi.noise import Affine, Factor, Widths
from implicit_vi.point import MAP
from implicit_vi.priors import prior_over
from implicit_vi.reparameterise import Layout, Reparameterised
from implicit_vi.training import measure_epoch
from implicit_vi.transforms import CORRUPTIONS, augment, corrupt

CASES = 11_400  # some groups run out of distinct cases: more than 10,000 are tried
PHASES = Phase.generate, Phase.shrink
KINDS = ValueError, TypeError
DOUBLE, SINGLE = torch.float64, torch.float32
NAN, INF = float("nan"), float("inf")
NO_NUMBER = st.sampled_from([NAN, INF, -INF])
NO_COUNT = st.sampled_from([0, -1, -7])
SCALE = st.sampled_from([1e-30, 1e-8, 1e-3, 1., 1e3, 1e8, 1e30])


def normal(data, *shape, dtype=SINGLE, scale=1.):
    "Normal numbers of this shape and scale."
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32), "seed"))
    return (torch.randn(shape, generator=rng, dtype=DOUBLE) * scale).to(dtype)


def size(data, least=0, most=5): return data.draw(st.integers(least, most))


def spoilt(data, t, value=None):
    "A copy with one entry that is no number."
    t = t.clone()
    t.view(-1)[data.draw(st.integers(0, t.numel() - 1))] = data.draw(NO_NUMBER) if value is None else value
    return t


def refused(call, *words, kinds=KINDS):
    "The call ends with a documented error that says one of these words."
    try: found = call()
    except kinds as error:
        said = str(error)
        assert len(said) > 20 and any(word in said for word in words), f"says neither of {words}: {type(error).__name__}: {said}"
        return
    raise AssertionError(f"was not refused, and gave {found!r:.300}")


def close(found, wanted, rtol=1e-4, atol=1e-6):
    torch.testing.assert_close(torch.as_tensor(found, dtype=DOUBLE), torch.as_tensor(wanted, dtype=DOUBLE), rtol=rtol, atol=atol,
                               equal_nan=True)


def unchanged(module): return {name: t.clone() for name, t in module.state_dict().items()}
def same(before, module): return all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


# measures of predictions

CLASSES = [M.accuracy, M.negative_log_likelihood, M.brier_score, M.expected_calibration_error, M.maximum_calibration_error,
           M.classwise_calibration_error]


def probabilities(data, *shape, dtype=SINGLE):
    scale = data.draw(st.sampled_from([0., 1e-3, 1., 100., 1e4]))
    return normal(data, *shape, dtype=DOUBLE, scale=scale).softmax(-1).to(dtype)


def measures_of_classes(data):
    dtype = data.draw(st.sampled_from([SINGLE, DOUBLE, torch.bfloat16, torch.float16]))
    B, K = size(data, 1, 6), size(data, 2, 5)
    p, y = probabilities(data, B, K, dtype=dtype), torch.tensor([size(data, 0, K - 1) for _ in range(B)])
    f = data.draw(st.sampled_from(CLASSES))
    value = f(p, y).item()
    assert isfinite(value) and 0 <= value <= (2.01 if f is M.brier_score else 800 if f is M.negative_log_likelihood else 1.001)
    rows = p.to(SINGLE if dtype.itemsize < 4 else dtype).tolist()
    tiny = torch.finfo(DOUBLE if dtype == DOUBLE else SINGLE).tiny
    if f is M.accuracy: close(value, sum(max(range(K), key=row.__getitem__) == k for row, k in zip(rows, y.tolist())) / B)
    if f is M.negative_log_likelihood: close(value, sum(-log(max(row[k], tiny)) for row, k in zip(rows, y.tolist())) / B)
    if f is M.brier_score: close(value, sum((q - (j == k))**2 for row, k in zip(rows, y.tolist()) for j, q in enumerate(row)) / B)


def wrong_measures_of_classes(data):
    B, K = size(data, 1, 6), size(data, 2, 5)
    p, y = probabilities(data, B, K), torch.tensor([size(data, 0, K - 1) for _ in range(B)])
    wrong = data.draw(st.sampled_from(["nan", "logits", "label", "float", "rows", "none", "shape", "meta", "bins"]))
    words = ["probabilities", "labels", "sum to 1"]
    if wrong == "nan": p = spoilt(data, p)
    if wrong == "logits": p = normal(data, B, K, scale=3.) + 7
    if wrong == "label": y = spoilt(data, y, data.draw(st.sampled_from([-1, K, 255, -100, 2**40])))
    if wrong == "float": y = y + data.draw(st.sampled_from([.5, NAN]))
    if wrong == "rows": y = torch.cat([y, y[:1]])
    if wrong == "none": p, y = p[:0], y[:0]
    if wrong == "shape": p = data.draw(st.sampled_from([p[None], p.mean(), p[None, None]]))
    if wrong == "meta": p, y, words = p.to("meta"), y.to("meta"), ["meta"]
    if wrong == "bins": return refused(lambda: M.expected_calibration_error(p, y, data.draw(NO_COUNT)), "bins")
    refused(lambda: data.draw(st.sampled_from(CLASSES))(p, y), *words)


def measures_of_numbers(data):
    S, B, K = size(data, 1, 4), size(data, 1, 4), size(data, 1, 3)
    scale = data.draw(SCALE)
    means, y = normal(data, S, B, K, scale=scale), normal(data, B, K, scale=scale)
    sd = scale * data.draw(st.sampled_from([.1, 1., 10.]))
    mean, target = means.double(), y.double()
    density = torch.distributions.Normal(mean, sd).log_prob(target).sum(-1).logsumexp(0) - log(S)
    close(M.gaussian_mixture_log_likelihood(means, y, sd), density.mean(), rtol=1e-3, atol=1e-2)
    close(M.rmse(means.mean(0), y), (means.mean(0).double() - target).square().mean().sqrt(), rtol=1e-4, atol=0)
    assert 0 <= M.coverage(means, y) <= 1
    wrong = data.draw(st.sampled_from(["y", "means", "sd", "level", "rows", "none"]))
    if wrong == "y": refused(lambda: M.rmse(means[0], spoilt(data, y)), "targets")
    if wrong == "means": refused(lambda: M.gaussian_mixture_log_likelihood(spoilt(data, means), y, sd), "means", "outputs")
    if wrong == "sd":
        refused(lambda: M.gaussian_mixture_log_likelihood(means, y, data.draw(st.sampled_from([0., -1., NAN, INF]))), "noise_sd")
    if wrong == "level": refused(lambda: M.coverage(means, y, data.draw(st.sampled_from([0., 1., NAN, -1., 2.]))), "level")
    if wrong == "rows": refused(lambda: M.rmse(means[0], torch.cat([y, y])), "targets")
    if wrong == "none": refused(lambda: M.coverage(means[:, :0], y[:0]), "outputs")


def measures_of_scores(data):
    n, m, scale = size(data, 1, 6), size(data, 1, 6), data.draw(SCALE)
    inside, outside = normal(data, n, scale=scale), normal(data, m, scale=scale)
    pairs = [(b > a) + (b == a) / 2 for a in inside.tolist() for b in outside.tolist()]
    close(M.auroc(inside, outside), sum(pairs) / (n * m))
    assert 0 <= M.fpr95(inside, outside) <= 1
    close(M.auroc(torch.tensor([-INF, 0.]), torch.tensor([0., INF])), .875)
    f = data.draw(st.sampled_from([M.auroc, M.fpr95]))
    refused(lambda: f(spoilt(data, inside, NAN), outside), "scores")
    refused(lambda: f(inside, outside[:0]), "scores")
    p = probabilities(data, size(data, 1, 3), size(data, 1, 3), size(data, 2, 4))
    assert (M.mutual_information(p) >= 0).all() and M.mutual_information(p).isfinite().all()
    assert M.predictive_entropy(p[0]).isfinite().all() and 0 < M.mean_maximum_confidence(p[0]) <= 1
    refused(lambda: M.mutual_information(spoilt(data, p)), "probabilities", "sum to 1")
    x, y = normal(data, 3, 2, scale=min(scale, 1e15)), normal(data, 4, 2, scale=min(scale, 1e15))
    assert M.energy_distance(x, y).isfinite()
    refused(lambda: M.energy_distance(spoilt(data, x), y), "draws")


# likelihoods

def a_likelihood(data, S, B, K, scale):
    "A likelihood, its outputs, targets, and the log density of torch.distributions in double precision."
    D = torch.distributions
    out = normal(data, S, B, K, scale=scale)
    y, wide = normal(data, B, K, scale=scale), out.double()
    name = data.draw(st.sampled_from(["classes", "yes", "normal", "own", "t", "counts"]))
    if name == "classes":
        y = torch.tensor([size(data, 0, K - 1) for _ in range(B)], dtype=torch.int64)
        return Categorical(), out, y, D.Categorical(logits=wide).log_prob(y) if B else torch.zeros(S, 0)
    if name == "yes":
        y = (y > 0).float()
        return Bernoulli(), out, y, D.Bernoulli(logits=wide).log_prob(y.double()).sum(-1)
    sd = data.draw(st.sampled_from([1e-6, 1e-2, 1., 1e6])) * max(scale, 1e-6)
    if name == "normal": return Gaussian(sd), out, y, D.Normal(wide, sd).log_prob(y.double()).sum(-1)
    if name == "t": return StudentT(4., sd), out, y, D.StudentT(4., wide, sd).log_prob(y.double()).sum(-1)
    if name == "counts":
        out = out.clamp(-20, 20)
        y = data.draw(st.sampled_from([0., 1., 1e4])) * y.sign().abs()
        return Poisson(), out, y, D.Poisson(out.double().exp()).log_prob(y.double()).sum(-1)
    log_variance = normal(data, S, B, K).clamp(-2, 2)
    return (HeteroscedasticGaussian(), torch.cat([out, log_variance], 2), y,
            D.Normal(wide, (log_variance.double() / 2).exp()).log_prob(y.double()).sum(-1))


def densities_of_targets(data):
    S, B, K, scale = size(data, 1, 3), size(data, 0, 3), size(data, 2, 4), data.draw(st.sampled_from([1e-8, 1e-2, 1., 30., 1e4]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        likelihood, out, y, wanted = a_likelihood(data, S, B, K, scale)
        found = likelihood.log_prob(out, y)
        close(found, wanted, rtol=2e-3, atol=1e-3 * (1 + scale))
        parts = likelihood.decompose(out)
        assert all(part.isfinite().all() and (part >= 0).all() for part in parts[1:]), parts
        close(parts.total, parts.epistemic + parts.aleatoric, rtol=1e-3, atol=1e-5)
        if not B: return
        broken = out.clone()
        broken[0, 0, 0] = NAN
        rows = likelihood.log_prob(broken, y).isnan()
        assert rows[0, 0] and not rows[:, 1:].any()


def wrong_targets(data):
    S, B, K = size(data, 1, 3), size(data, 1, 3), size(data, 2, 4)
    likelihood, out, y, _ = a_likelihood(data, S, B, K, 1.)
    wrong = data.draw(st.sampled_from(["value", "rows", "outputs", "columns", "kind"]))
    words = "targets", "classes", "counts", "a yes", "outputs"
    if wrong == "value":
        y = spoilt(data, y, data.draw(st.sampled_from([-1, K, 255, 2**40]))) if isinstance(likelihood, Categorical) else spoilt(data, y)
    if wrong == "rows": y = torch.cat([y, y])
    if wrong == "outputs": out = out[0]
    if wrong == "columns": y = y[..., None]
    if wrong == "kind": y = data.draw(st.sampled_from([None, y.tolist(), "targets"]))
    refused(lambda: likelihood.log_prob(out, y), *words)


def wrong_likelihoods(data):
    value = data.draw(st.sampled_from([0., -1., NAN, INF, -INF]))
    make = data.draw(st.sampled_from([lambda: Gaussian(value), lambda: Gaussian(value, learn=True), lambda: StudentT(value),
        lambda: StudentT(scale=value), lambda: Categorical([1., value if value else NAN])]))
    refused(make, "must be positive", "class_weights")
    levels = data.draw(st.sampled_from([[0.], [1.], [NAN], [.5, 2.]]))
    refused(lambda: Gaussian().quantiles(torch.zeros(2, 3, 1), levels), "levels")


# priors

LAYOUT = Layout({"a.weight": (3, 2), "a.bias": (3,)})


def priors(data):
    scale, D = data.draw(SCALE), torch.distributions
    theta = normal(data, size(data, 0, 3), 9, scale=min(scale, 1e15))
    for name in ("normal", "fan_in", "unknown_scale"):
        found = prior_over(name, LAYOUT).log_prob(theta)
        assert found.shape == theta.shape[:1] and found.isfinite().all()
    sd = data.draw(st.sampled_from([1e-6, 1., 1e6]))
    wanted = D.Normal(0., sd).log_prob(theta.double()).sum(-1)
    close(prior_over(D.Normal(0., sd), LAYOUT).log_prob(theta.double()), wanted)
    zero = data.draw(st.sampled_from([0., -1., NAN, INF]))
    kind = data.draw(st.sampled_from([D.Normal, D.Laplace, D.Cauchy]))
    refused(lambda: prior_over(kind(0., zero, validate_args=False), LAYOUT), "scale")
    refused(lambda: prior_over({"*.weight": "normal", "*.bias": kind(data.draw(NO_NUMBER), 1., validate_args=False)}, LAYOUT), "loc")
    refused(lambda: prior_over(data.draw(st.sampled_from(["none", 3, D.Normal(torch.zeros(5), 1.), {"a.*": "normal", "**": "normal"}, {}])),
            LAYOUT), "prior", "globs", "one weight")


# generators and estimators

def a_generator(data):
    m, dtype = size(data, 1, 12), data.draw(st.sampled_from([SINGLE, DOUBLE]))
    kind = data.draw(st.sampled_from(["mlp", "mm", "apart"]))
    if kind == "mlp": g = MLPGenerator(size(data, 1, 4), [size(data, 1, 4)] * size(data, 0, 2), m)
    elif kind == "mm": g = MMGenerator((size(data, 1, 3), size(data, 1, 3)), (2, 3), (4, 3), size(data, 0, 2), m)
    else: g = IndependentGenerator([MLPGenerator(2, [3], m), MLPGenerator(1, [2], size(data, 1, 3))])
    return g.to(dtype)


def generators(data):
    g, S = a_generator(data), size(data, 0, 3)
    dtype = next(g.parameters()).dtype
    z = normal(data, S, g.latent_dim, dtype=dtype, scale=data.draw(st.sampled_from([0., 1., 30.])))
    J = linearise(g, z)
    t, u = normal(data, S, g.latent_dim, dtype=dtype), normal(data, S, g.num_weights, dtype=dtype)
    assert J.value.shape == (S, g.num_weights) and torch.equal(J.value, g(z))
    close((J.jvp(t) * u).sum(-1), (J.vjp(u) * t).sum(-1), rtol=1e-3, atol=1e-3 * (1 + z.abs().sum().item()))
    wrong = data.draw(st.sampled_from([z[:, 1:], z[None], z.new_zeros(2, g.latent_dim + 1)]))
    refused(lambda: linearise(g, wrong), "z must be")
    if not S: return
    z = spoilt(data, z, NAN)
    assert torch.equal(g(z).isnan().all(-1), z.isnan().any(-1)) or not isinstance(g, MLPGenerator)
    J = linearise(g, z)
    if J.gram(torch.ones_like(z)).isfinite().all(): return
    refused(lambda: exact_logdet(J, .1), "not finite", kinds=FloatingPointError)


def wrong_generators(data):
    n = data.draw(NO_COUNT)
    make = data.draw(st.sampled_from([lambda: MLPGenerator(n, [3], 4), lambda: MLPGenerator(2, [3, n], 4), lambda: MLPGenerator(2, [3], n),
        lambda: MMGenerator((n, 2), (2, 2), (3, 3)), lambda: MMGenerator((2, 2), (2, n), (3, 3)), lambda: MMGenerator((2, 2), (2, 2), (n,
                                                                                                                                       3)),
        lambda: MMGenerator((2, 2), (2, 2), (3, 3), num_weights=n), lambda: MMLayer((n, 2), (2, 2)), lambda: MMLayer((2, 2), (2, n)),
        lambda: IndependentGenerator([]), lambda: MMGenerator((2,), (2, 2), (3, 3)), lambda: MMGenerator((2, 2), (2, 2), (3, 3), -1)]))
    refused(make, "sizes", "latent", "weights", "at least one", "layers", "shape")
    g = MLPGenerator(2, [3], 4)
    refused(lambda: g.initialise(torch.zeros(4), spoilt(data, torch.ones(4))), "sd")
    refused(lambda: g.initialise(spoilt(data, torch.zeros(4)), torch.ones(4)), "mean")
    refused(lambda: g.initialise(torch.zeros(3), torch.ones(4)), "mean")
    refused(lambda: g.initialise(torch.zeros(4), -torch.ones(4)), "sd")


class Chosen:
    "A linear generator whose Jacobian has these singular values."
    def __init__(self, values, m, dtype, data):
        d = len(values)
        left = torch.linalg.qr(normal(data, m, d, dtype=DOUBLE))[0]
        right = torch.linalg.qr(normal(data, d, d, dtype=DOUBLE))[0]
        self.matrix = (left * torch.tensor(values, dtype=DOUBLE) @ right).to(dtype).requires_grad_(True)

    def __call__(self, z): return z @ self.matrix.mT


def estimators(data):
    "Singular values that repeat, vanish or lie 16 orders of magnitude apart: the value is right and the gradient finite."
    values = data.draw(st.lists(st.sampled_from([0., 1e-8, 1e-4, 1., 1., 1e4, 1e8]), min_size=1, max_size=5))
    sigma, dtype = data.draw(st.sampled_from([1e-8, 1e-4, 1., 1e4, 1e8])), data.draw(st.sampled_from([SINGLE, DOUBLE]))
    d, m, S = len(values), len(values) + size(data, 0, 3), size(data, 1, 2)
    g = Chosen(values, m, dtype, data)
    J = linearise(g, torch.zeros(S, d, dtype=dtype))
    constant = (m - d) * log(sigma) + m / 2 * log(2 * pi * e)
    squares = torch.tensor(values, dtype=DOUBLE).square()
    lost = 8 * m * max(values) * torch.finfo(dtype).eps  # what rounding of the Jacobian leaves of a singular value
    slack = 1e-3 + 2e-6 * abs(constant)
    low, high = ((squares.sqrt() + extra).clamp(min=0).square().add(sigma**2).log().sum() / 2 + constant for extra in (-lost, lost))
    torch.manual_seed(size(data))
    for estimate, settings_ in ((exact_logdet, {}), (stochastic_logdet, {"steps": d}), (smallest_singular_value, {"iterations": d})):
        g.matrix.grad = None
        try: found = estimate(J, sigma, **settings_)
        except FloatingPointError as error:
            assert "lost in rounding" in str(error) and sigma**2 < 100 * torch.finfo(DOUBLE).eps * squares.max(), error
            continue
        assert found.value.shape == (S,) and found.value.isfinite().all(), (estimate, found)
        assert not any(part.isnan().any() for part in found.diagnostics.values()), found
        if estimate is exact_logdet and (found.diagnostics["residual"] < .01).all():
            assert (found.value >= low - slack).all() and (found.value <= high + slack).all(), (found, low, high)
        found.value.sum().backward(retain_graph=True)
        assert g.matrix.grad.isfinite().all(), (estimate, g.matrix.grad)


def wrong_estimators(data):
    J = linearise(Chosen([1., 2.], 3, SINGLE, data), torch.zeros(1, 2))
    sigma = data.draw(st.sampled_from([0., -1., NAN, INF]))
    f = data.draw(st.sampled_from([exact_logdet, stochastic_logdet, smallest_singular_value]))
    refused(lambda: f(J, sigma), "sigma")
    n = data.draw(NO_COUNT)
    refused(lambda: stochastic_logdet(J, .1, steps=n), "steps")
    refused(lambda: stochastic_logdet(J, .1, probes=n), "probes")
    refused(lambda: exact_logdet(J, .1, block_size=n), "block_size")
    refused(lambda: smallest_singular_value(J, .1, iterations=-1), "iterations")
    huge = linearise(Chosen([1e30, 1.], 3, SINGLE, data), torch.zeros(1, 2))
    if f is exact_logdet:
        try: assert f(huge, 1e-30).diagnostics["residual"] > .01
        except FloatingPointError as error: assert "lost in rounding" in str(error) or "not finite" in str(error)
    else: refused(lambda: f(huge, .1), "not finite", kinds=FloatingPointError)
    if f is not exact_logdet: refused(lambda: f(J, .1, precision=torch.float16), "precision")
    refused(lambda: f(linearise(Chosen([1., 2.], 3, torch.float16, data), torch.zeros(1, 2).half()), .1), "float16")


# distributions over weights

def a_distribution(data, m=9):
    kind = data.draw(st.sampled_from(["implicit", "field", "affine", "mixture", "parts"]))
    def implicit(n, noise=.1): return ImplicitPosterior(MLPGenerator(2, [3], n), noise, "exact_logdet")
    if kind == "implicit": return implicit(m)
    if kind == "field": return MeanField(torch.zeros(m), torch.full((m,), .1))
    if kind == "affine": return Affine(implicit(m, 1.), torch.zeros(m), Noise(.1).widths(Layout({"w": (m,)})))
    if kind == "mixture": return Mixture([implicit(m), implicit(m)])
    return Parts([implicit(4), MeanField(torch.zeros(m - 4), torch.ones(m - 4))], torch.arange(m).split([4, m - 4]))


def distributions(data):
    q, seed = a_distribution(data), size(data, 0, 2**31)
    n = size(data, 1, 7)
    theta = q.sample(n, seed)
    assert theta.values.shape == (n, 9) and theta.values.isfinite().all() and torch.equal(theta.values, q.sample(n, seed).values)
    assert len(WeightSamples.join(q.sample_in_chunks(n, seed, size(data, 1, 3)))) == n
    refused(lambda: q.sample(data.draw(st.sampled_from([0, -1, 2.5, "3", None]))), "n_samples")
    refused(lambda: list(q.sample_in_chunks(3, chunk=data.draw(st.sampled_from([0, -1, 1.5])))), "chunk")
    before = unchanged(q)
    torch.manual_seed(seed % 1000)
    steps = data.draw(st.integers(0, 1))
    value = data.draw(NO_NUMBER)
    calls = []
    def log_joint(theta):
        calls.append(1)
        return -theta.square().sum(-1) * (value if len(calls) > steps else 0)
    try: q.fit(log_joint, steps=3, n_samples=2, progress=False)
    except FloatingPointError as error: assert "log_likelihood" in str(error) and len(calls) == steps + 1
    else: raise AssertionError("a density without finite values was fitted")
    assert steps or same(before, q)
    assert all(t.isfinite().all() for t in q.state_dict().values())


def wrong_distributions(data):
    noise = data.draw(st.sampled_from([0., -1., NAN, INF]))
    g, D = MLPGenerator(2, [3], 4), torch.ones(4)
    refused(lambda: ImplicitPosterior(g, noise), "noise")
    refused(lambda: ImplicitPosterior(g, .1, data.draw(st.sampled_from(["none", "", 3]))), "estimator", "entropy")
    refused(lambda: ImplicitPosterior(g, .1, entropy_samples=data.draw(NO_COUNT)), "entropy_samples")
    refused(lambda: MeanField(D, spoilt(data, D, noise)), "standard deviation")
    refused(lambda: MeanField(spoilt(data, D), D), "mean")
    refused(lambda: MeanField(D, torch.ones(3)), "mean")
    refused(lambda: Widths(spoilt(data, D, noise)), "noise")
    refused(lambda: Widths(D, [1, 2]), "groups")
    refused(lambda: Factor(torch.diag(spoilt(data, D, noise))), "diagonal", "finite")
    refused(lambda: Factor(torch.ones(3, 4)), "triangle")
    refused(lambda: Affine(MeanField(D, D), spoilt(data, D), Widths(D)), "mean")
    refused(lambda: Noise(noise).widths(LAYOUT), "noise")
    refused(lambda: Mixture([MeanField(D, D)]), "two parts")
    refused(lambda: Mixture([MeanField(D, D), MeanField(torch.ones(3), torch.ones(3))]).draw(2), "weights")
    refused(lambda: Parts([MeanField(D, D)], [torch.tensor([0, 1, 1, 3])]), "positions")


def named_parameters(data):
    C = torch.distributions.constraints
    shape = tuple(size(data, 1, 3) for _ in range(size(data, 0, 2)))
    kind = data.draw(st.sampled_from([C.real, C.positive, C.unit_interval, C.interval(-1., 3.)]))
    space = Constrained({"a": (shape, kind), "b": ((3,), data.draw(st.sampled_from([C.simplex, ordered])))})
    x = normal(data, size(data, 0, 3), sum(space.sizes), dtype=DOUBLE, scale=data.draw(st.sampled_from([0., 1., 5.])))
    named, jacobian = space.constrain(x)
    assert kind.check(named["a"]).all() and jacobian.shape == x.shape[:1] and jacobian.isfinite().all()
    close(space.unconstrain(named), x, rtol=1e-3, atol=1e-3)
    refused(lambda: space.unconstrain({"a": named["a"]}), "b must be")
    refused(lambda: space.unconstrain(named | {"b": named["b"][..., :2]}), "b must be")
    if len(x): refused(lambda: space.unconstrain(named | {"b": spoilt(data, named["b"], NAN)}), "b ")
    refused(lambda: Constrained(data.draw(st.sampled_from([{"a": 3}, {"a": ((-1,), C.real)}, {"a": ((2,), "positive")}, {}, {"a": ((2.5,),
                                                                                                                                   C.real)},
        {"a": ((0,), C.real)}]))), "parameters")


def wrong_densities(data):
    C, value = torch.distributions.constraints, data.draw(NO_NUMBER)
    calls = data.draw(st.sampled_from([lambda a: a * value, lambda a: a[None], lambda a: None, lambda b: b, lambda a: a if a > 0 else -a]))
    settings_ = dict(steps=60, n_samples=2, seed=0, progress=False)
    refused(lambda: fit_density(calls, {"a": ((), C.real)}, **settings_), "log_joint", "log density")
    wrong = data.draw(st.sampled_from([{"steps": 0}, {"steps": 59}, {"n_samples": 0}, {"lr": value}, {"starts": 0}, {"noise": 0.},
                                       {"noise": 1.},
        {"noise": NAN}, {"hidden": [0]}]))
    refused(lambda: fit_density(lambda a: -a**2, {"a": ((), C.real)}, **settings_ | wrong), next(iter(wrong)))


def signs_of_arrival(data):
    n, scale = size(data, 25, 200), data.draw(SCALE)
    weights = normal(data, n, scale=min(scale, 1e8), dtype=DOUBLE)
    assert pareto_k(weights) == pareto_k(weights) and pareto_k(torch.zeros(n)) <= .7
    bound = normal(data, n + 40, scale=min(scale, 1e15), dtype=DOUBLE)
    assert all(map(isfinite, trend(bound)))
    refused(lambda: pareto_k(spoilt(data, weights, data.draw(st.sampled_from([NAN, INF])))), "weights")
    refused(lambda: pareto_k(weights[:24]), "weights")
    refused(lambda: trend(spoilt(data, bound)[-60:] if False else torch.full((60,), data.draw(NO_NUMBER))), "bound")
    refused(lambda: trend(bound[:59]), "trend")


# a whole model

def a_network(data):
    kind = data.draw(st.sampled_from(["line", "two", "normalised"]))
    if kind == "line": return nn.Linear(2, 2)
    if kind == "two": return nn.Sequential(nn.Linear(2, 3), nn.ELU(), nn.Linear(3, 2))
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2))


def a_model(data, network=None, likelihood=None):
    likelihood = likelihood or data.draw(st.sampled_from(["categorical", "gaussian", "bernoulli", "poisson"]))
    network = network or a_network(data)
    if data.draw(st.booleans()): return MAP(network, likelihood)
    return ImplicitBNN(network, likelihood, generator="mlp", entropy="exact_logdet")


def rows_for(data, model, n):
    x, y = normal(data, n, 2), normal(data, n, 2)
    if isinstance(model.likelihood, Categorical): y = (y[:, 0] > 0).long()
    if isinstance(model.likelihood, Bernoulli | Poisson): y = (y > 0).float()
    return x, y


def models(data):
    "Training and prediction of models on good data, in rows of any number; then with bad ones."
    model, n = a_model(data), size(data, 2, 5)
    x, y = rows_for(data, model, n)
    model.fit(Batches(x, y), epochs=1, n_samples=2, seed=1, progress=False)
    rows = size(data, 0, n)
    found = model.predict(x[:rows], 3, seed=2, batch_size=size(data, 1, 4))
    found = found if isinstance(found, torch.Tensor) else torch.stack(list(found))
    assert found.shape[-2:] == (rows, 2) and found.isfinite().all(), (found, model.likelihood)
    density = model.log_predictive(x[:rows], y[:rows], 3, seed=2)
    assert density.shape == (rows,) and density.isfinite().all()
    theta = model.sample(2, seed=0)
    wrong = data.draw(st.sampled_from(["nan", "n_samples", "batch_size", "rows", "columns", "list", "none", "other", "levels", "y",
                                       "draws", "dtype"]))
    verb = data.draw(st.sampled_from([model.predict, model.uncertainty, lambda x, **k: model.log_predictive(x, y, **k)]))
    if wrong == "nan": refused(lambda: verb(spoilt(data, x, NAN), theta=theta), "x ")
    if wrong == "n_samples" and not isinstance(model, MAP):
        refused(lambda: verb(x, n_samples=data.draw(st.sampled_from([0, -2, 1.5]))), "n_samples")
    if wrong == "batch_size": refused(lambda: verb(x, theta=theta, batch_size=data.draw(st.sampled_from([0, -1, 1.5]))), "batch_size")
    if wrong == "rows": refused(lambda: model.log_predictive(x, y[:-1], theta=theta, batch_size=size(data, 1, 2)), "targets", "rows")
    if wrong == "columns": refused(lambda: verb(torch.zeros(n, 3), theta=theta), "x ", "network")
    if wrong == "list": refused(lambda: verb(x.tolist(), theta=theta), "x must be")
    if wrong == "none": refused(lambda: verb(x, theta=data.draw(st.sampled_from([[], theta.values, "theta"]))), "theta")
    if wrong == "other": refused(lambda: verb(x, theta=MAP(nn.Linear(2, 3)).sample(1)), "theta")
    if wrong == "levels" and hasattr(model.likelihood, "quantiles"):
        refused(lambda: model.quantiles(x, [data.draw(NO_NUMBER)], theta=theta), "levels")
    if wrong == "y": refused(lambda: model.log_predictive(x, y.double() * NAN, theta=theta), "targets", "classes", "counts", "a yes")
    if wrong == "draws":
        broken = copy.copy(theta)
        broken.values = spoilt(data, theta.values, NAN)
        refused(lambda: verb(x, theta=broken), "theta")
    if wrong == "dtype": refused(lambda: verb(x.double(), theta=theta), "x ", "dtype")


def interrupted_training(data):
    "Data that are not finite end training with an error, and leave the model as it was before that step."
    model = a_model(data)
    x, y = rows_for(data, model, 4)
    model.fit([(x, y)], epochs=1, n_samples=2, seed=1, progress=False)
    before, history = unchanged(model), list(model.history)
    wrong = data.draw(st.sampled_from(["x", "y", "empty", "epochs", "steps", "n_samples", "lr", "num_data", "pair", "none", "iterator",
                                       "rows", "single"]))
    batches = [(x, y)]
    settings_ = dict(epochs=1, n_samples=2, seed=1, progress=False)
    words = ("x ", "targets")
    if wrong == "x": batches, words = [(spoilt(data, x), y)], ("x ", "data", "finite")
    if wrong == "y": batches, words = [(x, y.double() * NAN)], ("targets", "classes", "counts", "a yes")
    if wrong == "empty": batches, words = [(x[:0], y[:0])], ("rows", "empty", "no data")
    if wrong == "epochs": settings_["epochs"], words = data.draw(st.sampled_from([-1, 1.5, "2", NAN])), ("epochs",)
    if wrong == "steps": settings_, words = settings_ | {"epochs": None, "steps": data.draw(st.sampled_from([-1, 2.5, INF]))}, ("steps",)
    if wrong == "n_samples": settings_["n_samples"], words = data.draw(st.sampled_from([0, -1, 2.5])), ("n_samples",)
    if wrong == "lr": settings_["lr"], words = data.draw(st.sampled_from([-1., NAN, INF, "1"])), ("lr", "learning rate")
    if wrong == "num_data": settings_["num_data"], words = data.draw(st.sampled_from([0, -1, 2, NAN, 2.5])), ("num_data",)
    if wrong == "pair": batches, words = data.draw(st.sampled_from([[x], [(x, y, y)], [None], [(x, y.tolist())]])), ("batch",)
    if wrong == "none": batches, words = data.draw(st.sampled_from([[], None, 3])), ("loader",)
    if wrong == "iterator": batches, words = iter(batches), ("once",)
    if wrong == "rows": batches, words = [(x, torch.cat([y, y]))], ("targets",)
    if wrong == "single": batches, words = [(x[0], y[0])], ("batch", "targets", "outputs", "rows", "x ")
    refused(lambda: fit(model, batches, **settings_), *words, kinds=(*KINDS, FloatingPointError))
    assert same(before, model), f"{wrong} changed the model"
    assert not model.history or model.history == history


def wrong_models(data):
    net, value, n = nn.Linear(2, 2), data.draw(st.sampled_from([NAN, INF, -INF, -1.])), data.draw(NO_COUNT)
    make = data.draw(st.sampled_from([
        ("components", lambda: ImplicitBNN(net, components=data.draw(st.sampled_from([0, -1, 1.5])))),
        ("noise", lambda: ImplicitBNN(net, noise=value)), ("noise", lambda: ImplicitBNN(net, noise=Noise(value))),
        ("noise", lambda: ImplicitBNN(net, noise=Noise(.1, "none"))),
        ("spread", lambda: ImplicitBNN(net, spread=value)), ("prior_weight", lambda: ImplicitBNN(net, prior_weight=value)),
        ("entropy_weight", lambda: ImplicitBNN(net, entropy_weight=value)), ("chunk_size", lambda: BNN(net, chunk_size=n)),
        ("entropy_samples", lambda: ImplicitBNN(net, entropy_samples=n)), ("likelihood", lambda: ImplicitBNN(net, "none")),
        ("likelihood", lambda: ImplicitBNN(net, 3)), ("generator", lambda: ImplicitBNN(net, generator="none")),
        ("generator", lambda: ImplicitBNN(net, generator=MLPGenerator(2, [3], 5))), ("matches", lambda: ImplicitBNN(net,
                                                                                                                    stochastic=["x*"])),
        ("start", lambda: ImplicitBNN(net, start=torch.full((6,), NAN))), ("start", lambda: ImplicitBNN(net, start=torch.zeros(5))),
        ("network", lambda: ImplicitBNN(nn.Linear)), ("no weights", lambda: ImplicitBNN(nn.ReLU())), ("network", lambda: ImplicitBNN(None)),
        ("temperature", lambda: dnn_to_bnn(net, temperature=data.draw(st.sampled_from([0., NAN, INF, -1.])), progress=False)),
        ("estimator", lambda: ImplicitBNN(net, entropy="none")), ("prior", lambda: ImplicitBNN(net, prior="none")),
        ("members", lambda: __import__("implicit_vi.point").point.Ensemble(net, members=n))]))
    refused(make[1], make[0])


def networks_of_weights(data):
    net, S, B = nn.Sequential(nn.Linear(2, 3), nn.ELU(), nn.Linear(3, 2)), size(data, 0, 3), size(data, 0, 3)
    draws = Reparameterised(net, chunk_size=data.draw(st.sampled_from([1, 2, None])))
    theta, x = normal(data, S, 17), normal(data, B, 2)
    if S:
        found = draws(theta, x)
        assert found.shape == (S, B, 2)
        for one, own in zip(theta, found): close(draws.with_weights(one)(x), own)
    refused(lambda: draws(normal(data, max(S, 1), 16), x), "theta")
    refused(lambda: draws(theta[None], x), "theta")
    refused(lambda: draws(theta[:0], x), "theta")


def images(data):
    n, c, side = size(data, 0, 3), size(data, 1, 3), size(data, 3, 6)
    x = normal(data, n, c, side, side).sigmoid()
    kind, severity = data.draw(st.sampled_from(sorted(CORRUPTIONS))), size(data, 1, 5)
    found = corrupt(x, kind, severity)
    assert found.shape == x.shape and found.isfinite().all() and ((found >= 0) & (found <= 1)).all()
    assert augment(x, pad=size(data, 0, 2), flip=data.draw(st.booleans())).shape == x.shape
    refused(lambda: corrupt(x, kind, data.draw(st.sampled_from([0, 6, 2.5, NAN, None]))), "severity")
    refused(lambda: corrupt(x, "none"), "corruption")
    if n: refused(lambda: corrupt(spoilt(data, x), kind), "pixels")
    refused(lambda: augment(x[0] if n else x[..., 0], 1), "images")
    refused(lambda: augment(x, data.draw(st.sampled_from([-1, side, 1.5]))), "pad")
    refused(lambda: corrupt((255 * x).byte(), kind, severity) if n else corrupt(x[..., 0], kind), "pixels", "images")


def batches_and_draws(data):
    n = size(data, 1, 7)
    x, y, b = normal(data, n, 2), normal(data, n, 1), size(data, 1, 4)
    seen = torch.cat([rows for rows, _ in Batches(x, y, b)])
    assert torch.equal(seen.sort(0).values, x.sort(0).values) and measure_epoch(Batches(x, y, b)).num_data == n
    refused(lambda: Batches(x, y, data.draw(st.sampled_from([0, -1, 1.5, "2"]))), "batch_size")
    refused(lambda: Batches(x, y[:-1]), "targets")
    refused(lambda: Batches(x[:0], y[:0]), "row")
    refused(lambda: Batches(data.draw(st.sampled_from([x.tolist(), None, torch.tensor(1.)])), y), "tensors", "rows", "row")
    theta = WeightSamples(normal(data, size(data, 2, 4), 9), LAYOUT)
    assert all(t.isfinite().all() for t in theta.sd().values()) and theta.mean()["a.bias"].shape == (3,)
    refused(lambda: WeightSamples(theta.values[:1], LAYOUT).sd(), "two draws")
    refused(lambda: theta.correlation("none"), "tensor is called")
    refused(lambda: WeightSamples(theta.values).mean(), "layout")
    refused(lambda: WeightSamples.join([]), "draws")
    refused(lambda: WeightSamples.join([theta, WeightSamples(theta.values[:, :4])]), "weights", "draws")
    refused(lambda: LAYOUT.unflatten(theta.values[:, :4]), "theta")


def without_memory(data):
    "On the device without memory shapes are right and nothing is computed, or a function says that it needs values."
    with torch.device("meta"):
        g = MLPGenerator(3, [4], 6)
        J = linearise(g, torch.zeros(size(data, 1, 3), 3))
        assert J.value.device.type == "meta" and J.gram(J.z).shape == J.z.shape
        estimate = data.draw(st.sampled_from([exact_logdet, stochastic_logdet, smallest_singular_value]))
        assert estimate(J, .1).value.shape == J.z.shape[:1]
        likelihood = data.draw(st.sampled_from([Gaussian(1.), Bernoulli(), Poisson(), HeteroscedasticGaussian(), StudentT()]))
        out, y = torch.zeros(2, 3, 4), torch.zeros(3, 2 if isinstance(likelihood, HeteroscedasticGaussian) else 4)
        assert likelihood.log_prob(out, y).shape == (2, 3)
        assert Categorical().log_prob(out, torch.zeros(3, dtype=torch.int64)).shape == (2, 3)
        assert ELBO(*torch.zeros(3)).total.device.type == "meta"


PROPERTIES = [measures_of_classes, wrong_measures_of_classes, measures_of_numbers, measures_of_scores, densities_of_targets, wrong_targets,
              wrong_likelihoods, priors, generators, wrong_generators, estimators, wrong_estimators, distributions, wrong_distributions,
              named_parameters, wrong_densities, signs_of_arrival, models, interrupted_training, wrong_models, networks_of_weights, images,
              batches_and_draws, without_memory]


def trial(holds, examples, seed=None):
    "That a property holds in so many cases, the same ones every time unless a seed is given."
    how = settings(max_examples=examples, deadline=None, database=None, phases=PHASES, derandomize=seed is None, report_multiple_bugs=False,
                   suppress_health_check=list(HealthCheck), print_blob=False)
    tried = []
    def case(data):
        tried.append(holds.__name__)
        torch.manual_seed(0)
        holds(data)
    run = how(given(st.data())(case))
    (run if seed is None else seeded_by(seed)(run))()
    return len(tried)


def main(cases=CASES):
    share, lost, times = -(-cases // len(PROPERTIES)), [], 0
    seed = int(time.time())
    for holds in PROPERTIES:
        start = time.perf_counter()
        try: times += trial(holds, share, seed)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt): raise
            lost.append(holds.__name__)
            times += share
            traceback.print_exc()
        print(f"{holds.__name__}: {time.perf_counter() - start:.1f} s", flush=True)
    return write("properties", f"inputs to {len(PROPERTIES)} groups of public functions, good, odd and bad (seed {seed})", times, len(lost),
                 f"these do not hold: {', '.join(lost)}" if lost else "")


if __name__ == "__main__": sys.exit(main(*map(int, sys.argv[1:])))
