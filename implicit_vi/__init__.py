__version__ = "0.1.0"

from .architectures import derive_generator, load_generator, make_generator
from .bnn import BNN, ImplicitBNN
from .bounds import exact_logdet, smallest_singular_value, stochastic_logdet
from .convert import dnn_to_bnn
from .families import HeteroscedasticGaussian, Poisson, StudentT
from .features import on_features
from .generators import CorreMMGenerator, IndependentGenerator, MLPGenerator, MMGenerator
from .likelihoods import Bernoulli, Categorical, Gaussian
from .linearise import linearise
from .noise import Affine, Noise
from .posterior import ImplicitPosterior
from .reparameterise import Reparameterised
from .samples import WeightSamples
from .training import ELBO, fit

__all__ = [
    "Affine", "BNN", "Bernoulli", "Categorical", "CorreMMGenerator", "ELBO", "Gaussian", "HeteroscedasticGaussian", "ImplicitBNN",
    "ImplicitPosterior", "IndependentGenerator", "MLPGenerator", "MMGenerator", "Noise", "Poisson", "Reparameterised", "StudentT",
    "WeightSamples", "derive_generator", "dnn_to_bnn", "exact_logdet", "fit", "linearise", "load_generator", "make_generator",
    "on_features", "smallest_singular_value", "stochastic_logdet"]
