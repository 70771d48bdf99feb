"A few cases of each property of tests/endurance/properties.py; `make endurance ARGS=properties` tries 10,000."
import pytest
import torch
from endurance.properties import PROPERTIES, trial
from hypothesis import strategies as st
from torch import nn

from implicit_vi.point import MAP

LONG = "estimators", "wrong_densities", "models", "interrupted_training", "without_memory"


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_it_holds(holds): assert trial(holds, 6 if holds.__name__ in LONG else 14) >= 6


def test_what_does_not_hold_is_found():
    def never_small(data): assert data.draw(st.integers(0, 100)) > 10
    with pytest.raises(AssertionError): trial(never_small, 100)


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_a_bounded_network_learns_nothing_from_infinite_inputs(value):
    "Its loss is finite, its gradient is not: the weights stay as they were."
    torch.manual_seed(0)
    model = MAP(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), "gaussian")
    x, before = torch.tensor([[value, 1.], [0., 1.]]), {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="step 0: the gradient is not finite"):
        model.fit([(x, torch.zeros(2, 1))], epochs=1, progress=False)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
