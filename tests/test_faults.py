"The list of faults: each can be put where it belongs and leaves what Python reads, and what becomes of it is told rightly."
import ast
import json
import os
import shutil
import sys

import faults
import nbformat
import pytest
from faults import ROOT, Fault, apply, notebook_of, outcomes, read_faults, reason
from nbformat.v4 import new_code_cell, new_notebook

FAULTS = read_faults()


@pytest.fixture
def copy(tmp_path):
    for name in ("nbs", "implicit_vi"): shutil.copytree(ROOT/name, tmp_path/name)
    return tmp_path


def test_every_fault_can_be_made(copy):
    for fault in FAULTS:
        notebook, module = notebook_of(fault.module, copy), copy/"implicit_vi"/f"{fault.module}.py"
        sound = notebook.read_bytes(), module.read_bytes()
        apply(fault, copy)
        changed = module.read_text("utf-8")
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(sound[1])), fault
        cells = ["".join(cell["source"]) for cell in json.loads(notebook.read_text("utf-8"))["cells"]]
        assert any(fault.replacement in cell for cell in cells if cell.startswith("#| export")), fault
        notebook.write_bytes(sound[0])
        module.write_bytes(sound[1])


def test_descriptions_tell_faults_apart():
    said = [(fault.module, fault.wrong) for fault in FAULTS]
    assert len(set(said)) == len(said)


def test_a_snippet_that_is_not_there_once_is_refused(copy):
    for code in ("no such line", "outputs"):
        fault = Fault("likelihoods", "all of it", code, "pass")
        count = (copy/"implicit_vi"/"likelihoods.py").read_text("utf-8").count(code)
        with pytest.raises(ValueError, match=f"all of it: in likelihoods.py the snippet should occur once, and does {count} times"):
            apply(fault, copy)
    with pytest.raises(ValueError, match=r"nowhere should be exported by one notebook, and is by \[\]"): notebook_of("nowhere", copy)


def test_the_error_is_told():
    assert reason("some line\n\x1b[31mAssertionError\x1b[0m: 1 == 2\n\nthe end") == "AssertionError: 1 == 2"
    for line in ("tests/test_x.py:3: ValueError: no", "tests/test_x.py:3: assert 1 == 2"):
        assert reason(f"F\n{line}\n1 failed in 2 s") == line


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="tries faults, one of them endless: make test-all")
def test_verdicts(tmp_path, monkeypatch):
    pytest.importorskip("nbdev.test")  # here, and not in every fork
    for name in ("nbs", "implicit_vi", "tests"): (tmp_path/name).mkdir()
    shutil.copy(ROOT/"pyproject.toml", tmp_path)
    exported = ["#| export\ndef double(x): return 2 * x", "#| export\ndef half(x): return x / 2", "#| export\ndef third(x): return x / 3"]
    cells = ["#| default_exp small", *exported, "assert double(3) == 6"]
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), tmp_path/"nbs"/"00_small.ipynb")
    (tmp_path/"implicit_vi"/"__init__.py").touch()
    (tmp_path/"implicit_vi"/"small.py").write_text("\n".join(exported))
    (tmp_path/"tests"/"test_small.py").write_text("from implicit_vi.small import half\ndef test_half(): assert half(6) == 3")
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "implicit_vi"]: monkeypatch.delitem(sys.modules, name)
    planned = [Fault("small", "twice", "2 * x", "3 * x"), Fault("small", "half", "x / 2", "x / 4"), Fault("small", "third", "x / 3", "x"),
               Fault("small", "endless", "return 2 * x", "\n    while True: pass")]
    # a limit that a busy machine does not bring near for those that end, and one soon spent for the one that does not
    known = [*outcomes(planned[:3], {"small": 300.}, at_once=1), *outcomes(planned[3:], {"small": 3.}, at_once=1)]
    found = {one.fault.wrong: (one.verdict, one.by.partition(":")[0]) for one in known}
    assert found == {"twice": ("caught", "00_small.ipynb"), "half": ("caught", "test_small.py"), "third": ("MISSED", ""),
                     "endless": ("NO END", "00_small.ipynb")}
