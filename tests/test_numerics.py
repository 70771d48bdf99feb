"The estimators of the entropy where numbers are small, large, equal or zero, in single precision, in double and in sixteen bits."
from math import e, log, pi

import pytest
import torch

from implicit_vi.bounds import exact_logdet, smallest_singular_value, stochastic_logdet
from implicit_vi.linearise import linearise

DOUBLE, SINGLE = torch.float64, torch.float32
# scale of the spectrum: with sigma a thousandth of the largest singular value, single precision knows the sum
SCALES = [10.**k for k in range(-8, 9, 2)]
SPECTRA = {"spread": [1., .5, .2, .1, .01], "equal": [1.] * 5, "vanishing": [1., .5, 0., 0., 0.], "all zero": [0.] * 5, "far apart": [1.,
    1e-3, 1e-5, 1e-8, 0.]}


def jacobian(values, m=8):
    "A matrix `(m, d)` with these singular values and vectors that are always the same."
    rng = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, len(values), generator=rng, dtype=DOUBLE))[0] for n in (m, len(values)))
    return left * torch.tensor(values, dtype=DOUBLE) @ right.mT


def estimate(function, W, sigma, dtype, **settings):
    "The value of an estimator for a linear generator, and the gradient in its matrix."
    W = W.to(dtype, copy=True).requires_grad_(True)
    torch.manual_seed(0)
    found = function(linearise(lambda z: z @ W.mT, torch.zeros(1, W.shape[1], dtype=dtype)), sigma, **settings)
    found.value.sum().backward()
    return found.value.item(), W.grad.double(), found


def known(values, sigma, m=8):
    "L' of a linear generator with these singular values and its gradient, in closed form."
    s = torch.tensor(values, dtype=DOUBLE)
    value = ((s / sigma).square().log1p().sum() / 2 + m * log(sigma) + m / 2 * log(2 * pi * e)).item()
    return value, jacobian((s / (s**2 + sigma**2)).tolist())


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("block_size", [64, 2])
def test_the_exact_estimator_is_right(spectrum, dtype, block_size):
    "Over sixteen orders of magnitude, with a sigma of a thousandth of the largest value; double precision with a millionth."
    for scale in SCALES:
        values = [scale * value for value in SPECTRA[spectrum]]
        W = jacobian(values)
        for ratio, dtypes in ((1e-3, (SINGLE, DOUBLE)), (1e-6, (DOUBLE,))):
            if dtype not in dtypes: continue
            value, gradient, _ = estimate(exact_logdet, W, ratio * scale, dtype, block_size=block_size)
            wanted, of_matrix = known(values, ratio * scale)
            near = 1e-2 if dtype == SINGLE else 1e-3 if ratio < 1e-3 else 1e-8
            if block_size == 2 and dtype == SINGLE:
                near = .6  # products in single precision know squares to 1e-7 of the largest, here a tenth of sigma's
            assert abs(value - wanted) < near + 1e-6 * abs(wanted)
            assert (gradient - of_matrix).norm() <= near * (of_matrix.norm() + 1 / scale)


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_single_precision_is_double_precision_to_rounding(spectrum):
    W = jacobian(SPECTRA[spectrum])
    (single, of_single, _), (double, of_double, _) = (estimate(smallest_singular_value, W, .05, dtype,
                                                               iterations=20) for dtype in (SINGLE, DOUBLE))
    assert abs(single - double) < .05 and abs(of_single.norm() - of_double.norm()) < .05 * (1 + of_double.norm())


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_stochastic_estimator_is_unbiased_where_values_repeat_or_vanish(spectrum, dtype):
    W, sigma = jacobian(SPECTRA[spectrum]), .05
    value, gradient, _ = estimate(stochastic_logdet, W, sigma, dtype, steps=5, probes=4000)
    wanted, of_matrix = known(SPECTRA[spectrum], sigma)
    assert abs(value - wanted) < .15 and (gradient - of_matrix).norm() < .1 * of_matrix.norm() + .05


@pytest.mark.parametrize("values", [[1., .5, .1, .1, .1], [1.] * 5, [1., .5, .2, 0., 0.]])
def test_where_the_smallest_value_repeats_its_gradient_is_one_of_its_directions(values):
    "d s / (s² + sigma²) times the outer product of singular vectors of the smallest value: of any of them, where there are several."
    W, sigma, s = jacobian(values), .05, values[-1]
    value, gradient, found = estimate(smallest_singular_value, W, sigma, DOUBLE, iterations=60)
    assert abs(found.diagnostics["smallest_singular_value"].item() - s) < 1e-5
    assert abs(gradient.norm().item() - 5 * s / (s**2 + sigma**2)) < 1e-3 * (1 + gradient.norm())
    assert torch.linalg.matrix_norm(W.mT @ gradient - (W.mT @ W) @ torch.linalg.pinv(W) @ gradient) < 1e-6 * (1 + gradient.norm())
    if s: assert (torch.linalg.svdvals(gradient)[1:] < 1e-6 * gradient.norm()).all()


@pytest.mark.parametrize("spectrum", ["spread", "equal", "vanishing"])
def test_products_in_bfloat16_cost_a_known_error(spectrum):
    "Two hundredths of a nat for each latent, where sigma is not below a tenth of the largest value."
    W, d = jacobian(SPECTRA[spectrum]), 5
    for function, settings in ((stochastic_logdet, {"steps": 5, "probes": 200}), (smallest_singular_value, {"iterations": 10})):
        short, _, _ = estimate(function, W, .2, SINGLE, precision=torch.bfloat16, **settings)
        whole, _, _ = estimate(function, W, .2, SINGLE, **settings)
        assert abs(short - whole) < .02 * d, (function.__name__, short - whole)


def test_float16_is_refused():
    W = jacobian([1., .5])
    for function in (exact_logdet, stochastic_logdet, smallest_singular_value):
        with pytest.raises(ValueError, match="float16"): estimate(function, W, .1, torch.float16)
    for function in (stochastic_logdet, smallest_singular_value):
        with pytest.raises(ValueError, match="float16"): estimate(function, W, .1, SINGLE, precision=torch.float16)


@pytest.mark.parametrize("function", [exact_logdet, stochastic_logdet, smallest_singular_value])
def test_what_leaves_the_precision_is_said(function):
    with pytest.raises(FloatingPointError, match="not finite|lost in rounding"): estimate(function, 1e30 * jacobian([1., .5]), .1, SINGLE)
    with pytest.raises(FloatingPointError, match="not finite"): estimate(function, jacobian([1., .5]) * torch.nan, .1, DOUBLE)
