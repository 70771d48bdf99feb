"""Tests one file after another, notebooks and files of pytest, each in a copy of a process that has imported what most of them need.

A line of input names a file, a line of JSON says what came of it. So nothing is imported twice, and no test reaches another file's.
"""
import json
import os
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import nbdev.test
import pytest
from nbdev.config import get_config

ROOT = Path(__file__).resolve().parent.parent
# the second is what the first step of an optimiser imports, for some seconds; Pyro and zuko are not here: they switch checks off
NEEDED = ("torch.func", "torch._dynamo", "matplotlib.pyplot", "seaborn", "scipy.stats", "sklearn.datasets", "torchvision", "papermill")


class Counts:
    "How many tests passed, failed and were skipped."
    def pytest_terminal_summary(self, terminalreporter):
        passed, failed, errors, skipped = (len(terminalreporter.stats.get(kind, ())) for kind in ("passed", "failed", "error", "skipped"))
        self.found = dict(passed=passed, failed=failed + errors, skipped=skipped)


def tests(path: Path) -> dict[str, int]:
    "Those of a file of pytest."
    os.chdir(ROOT)
    counts = Counts()
    code = pytest.main(["-q", "-rN", "--tb=short", "-p", "no:cacheprovider", str(path)], plugins=[counts])
    found = getattr(counts, "found", dict(passed=0, failed=0, skipped=0))
    return found | {"failed": max(found["failed"], int(code != 0))}


def notebook(path: Path) -> dict[str, int]:
    "The cells of a notebook, as one test."
    os.chdir(ROOT/"nbs")
    flags = ["slow"] if os.environ.get("SLOW") else []
    passed, _ = nbdev.test.test_nb(path, get_config(path).tst_flags.split(), flags, basepath=ROOT)
    return dict(passed=int(passed), failed=int(not passed), skipped=0)


def in_a_copy(path: Path) -> dict:
    "What came of the file, in a fork of this process."
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile("w+") as counted:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for stream in (1, 2): os.dup2(said.fileno(), stream)
            try:
                json.dump((notebook if path.suffix == ".ipynb" else tests)(path), counted)
                counted.flush()
            finally:
                sys.stdout.flush()
                os._exit(0)
        os.waitpid(child, 0)
        for file in (said, counted): file.seek(0)
        ended = counted.read()
        counts = json.loads(ended) if ended else dict(passed=0, failed=1, skipped=0)  # it died
        return counts | dict(seconds=time.perf_counter() - start, said=said.read().decode(errors="replace"))


if __name__ == "__main__":
    for name in NEEDED:
        if find_spec(name.partition(".")[0]): import_module(name)
    for line in sys.stdin: print(json.dumps(in_a_copy(ROOT/line.strip())), flush=True)
