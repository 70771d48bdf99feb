"Many at once: runs into one folder, and predictions from one model. Small versions of `make endurance ARGS=load`."
import pytest
from endurance import load


def test_runs_of_several_processes_are_all_there_and_whole():
    runs, looks, wrong = load.runs_together(4, 4)
    assert (runs, wrong) == (17, []) and looks


@pytest.mark.parametrize("method", ["livi", "dropout"])
def test_threads_predict_what_one_predicts(method): assert load.predicted_together(method, 8, 3) == (24, [])
