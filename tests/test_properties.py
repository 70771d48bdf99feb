"A few cases of each property of tests/endurance/properties.py; `make endurance ARGS=properties` tries 10,000."
import pytest
from endurance.properties import PROPERTIES, trial
from hypothesis import strategies as st

LONG = "estimators", "wrong_densities", "models", "interrupted_training", "without_memory"


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_it_holds(holds): assert trial(holds, 6 if holds.__name__ in LONG else 14) >= 6


def test_what_does_not_hold_is_found():
    def never_small(data): assert data.draw(st.integers(0, 100)) > 10
    with pytest.raises(AssertionError): trial(never_small, 100)
