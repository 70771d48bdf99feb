"The records of `make endurance`, and two processes that train together."
import json
from pathlib import Path

from endurance import ranks, record

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = dict(what=str, times=int, lost=int, found=str, command=str, seconds=float, commit=str, machine=str)


def test_every_trial_has_a_record_of_nothing_lost():
    names = {path.stem for path in (ROOT/"tests"/"endurance").glob("[!_]*.py")} - {"record"}
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT/"results"/"robustness").glob("*.json")}
    assert names <= set(records)
    for name, found in records.items():
        assert {key: type(value) for key, value in found.items()} == ENTRIES, name
        assert found["lost"] == 0 and found["times"] > 0 and found["command"] == f"make endurance ARGS={name}"


def test_a_loss_is_the_exit_status(tmp_path):
    assert record.write("kept", "tried", 3, 0, folder=tmp_path) == 0
    assert record.write("lost", "tried", 3, 1, "a thing", folder=tmp_path) == 1
    assert json.loads((tmp_path/"lost.json").read_text())["found"] == "a thing"


def test_one_of_two_processes_is_killed_and_both_go_on(): assert ranks.trial(1)[1] == []
