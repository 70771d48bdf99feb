"""Do the tests bite? Each fault of faults.yaml is put into a copy of the project; the tests next to it ought to fail.

python tests/faults.py [PATTERN] [-j N]: the faults whose module or description holds PATTERN, N at a time.
Ends with 1 below 95 % caught. Libraries are imported once: every test runs in a fork of this process.
"""
import argparse
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
NEEDED = 0.95
PATIENCE = 60, 4  # seconds, and times the seconds that the sound module takes; all of the processor, for machines are busy
DEAD = 3600       # seconds of the clock after which tests wait for what will never be
TESTED_WITH = {"sources": "data"}  # modules whose file in tests has the name of another
LEFT_OUT = shutil.ignore_patterns("results", "build", "__pycache__", ".*_cache", ".git", ".venv", "_proc", "_docs")
LIBRARIES = "torch", "matplotlib.pyplot", "sklearn.metrics", "scipy.stats", "nbdev.test", "pytest"  # that most tests import


class Fault(NamedTuple):
    "One way to be wrong."
    module: str
    wrong: str        # what is wrong, in a phrase
    code: str         # occurs once in the module
    replacement: str


class Outcome(NamedTuple):
    fault: Fault
    verdict: str      # caught, MISSED, or NO END where the time was up
    by: str           # what failed, and how
    seconds: float    # of the processor


def read_faults(path: Path = ROOT/"tests"/"faults.yaml") -> list[Fault]:
    "The list, module by module."
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Fault(module, row["wrong"], row["code"], row["fault"]) for module, rows in table.items() for row in rows]


@cache
def exports(notebook: Path) -> set[str]:
    "The module that a notebook exports, if it exports one."
    return set(re.findall(r'"#\| default_exp (\w+)(?:\\n)?"', notebook.read_text("utf-8")))


def notebook_of(module: str, root: Path = ROOT) -> Path:
    "The notebook that exports a module. Raises `ValueError` where none does, or several do."
    found = [path for path in sorted((root/"nbs").glob("*.ipynb")) if module in exports(path)]
    if len(found) != 1: raise ValueError(f"{module} should be exported by one notebook, and is by {[path.name for path in found]}")
    return found[0]


def exported(cell: dict) -> bool: return cell["cell_type"] == "code" and "".join(cell["source"]).startswith("#| export")


def replaced(fault: Fault, text: str, where: str) -> str:
    "The text with the fault. Raises `ValueError` unless the snippet occurs once."
    if (count := text.count(fault.code)) != 1:
        raise ValueError(f"{fault.module}, {fault.wrong}: in {where} the snippet should occur once, and does {count} times: {fault.code!r}")
    return text.replace(fault.code, fault.replacement)


def apply(fault: Fault, root: Path) -> None:
    "Put a fault into the notebook and the module below `root`; into both, or none."
    notebook, module = notebook_of(fault.module, root), root/"implicit_vi"/f"{fault.module}.py"
    made = replaced(fault, module.read_text("utf-8"), module.name)
    page = json.loads(notebook.read_text("utf-8"))
    cells = [cell for cell in page["cells"] if exported(cell) and fault.code in "".join(cell["source"])]
    if len(cells) != 1:
        raise ValueError(f"{fault.module}, {fault.wrong}: {len(cells)} exported cells of {notebook.name} hold the snippet {fault.code!r}")
    cells[0]["source"] = replaced(fault, "".join(cells[0]["source"]), notebook.name).splitlines(keepends=True)
    module.write_text(made, "utf-8")
    notebook.write_text(json.dumps(page, ensure_ascii=False, indent=1) + "\n", "utf-8")


def notebook_passes(path: Path) -> bool:
    from nbdev.test import test_nb
    return test_nb(path, cell_timeout=None)[0]


def file_passes(path: Path) -> bool:
    import pytest
    return pytest.main(["-q", "-x", "-rN", "--tb=line", "-p", "no:cacheprovider", str(path)]) == 0


def checks(module: str, root: Path) -> dict[str, Callable[[], bool]]:
    "What tests a module: its notebook, and its file in tests where there is one."
    notebook, file = notebook_of(module, root), root/"tests"/f"test_{TESTED_WITH.get(module, module)}.py"
    return {notebook.name: partial(notebook_passes, notebook)} | ({file.name: partial(file_passes, file)} if file.exists() else {})


def fork(work: Callable[[], int]) -> int:
    "Start work in a copy of this process, which ends with the number that the work returns; the number of the process."
    sys.stdout.flush()
    if process := os.fork(): return process
    code = 1
    try: code = work()
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def tested(fault: Fault, folder: Path, limit: float) -> int:
    "The tests next to a fault, in a process of its own: 0 if all pass, 1 if some fail, 2 without end; `folder` keeps what was said."
    os.setpgrp()
    os.nice(max(0, 10 - os.nice(0)))
    signal.alarm(DEAD)
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))
    copy = folder/"project"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    apply(fault, copy)
    sys.path[0] = str(copy)
    os.environ |= {"PYTHONPATH": str(copy), "TMPDIR": str(folder)}
    os.chdir(copy)
    for name, passes in checks(fault.module, copy).items():
        (folder/"name").write_text(name)
        with (folder/"said").open("w") as said:
            for stream in (1, 2): os.dup2(said.fileno(), stream)
        _, status = os.waitpid(fork(lambda passes=passes: int(not passes())), 0)
        if status: return 2 if os.WIFSIGNALED(status) else 1
    return 0


def reason(said: str) -> str:
    "The line of an output that names the error."
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in said.splitlines()]
    errors = [line for line in lines if re.match(r"(.*:\d+: )?([\w.]*(Error|Exception)\b|assert )", line)]
    return (errors or [line for line in lines if line] or ["no output"])[-1][:150]


def outcome(fault: Fault, folder: Path, status: int, seconds: float) -> Outcome:
    "What became of a fault, from the status of its process."
    if not status: return Outcome(fault, "MISSED", "", seconds)
    name = (folder/"name").read_text()
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 2: return Outcome(fault, "NO END", name, seconds)
    return Outcome(fault, "caught", f"{name}: {reason((folder/'said').read_text('utf-8', 'replace'))}", seconds)


def outcomes(faults: Iterable[Fault], limits: dict[str, float], at_once: int) -> Iterator[Outcome]:
    "Test faults, some at a time; outcomes in the order in which they are known."
    waiting, running = iter(faults), dict[int, tuple[Fault, tempfile.TemporaryDirectory]]()
    while True:
        while len(running) < at_once and (fault := next(waiting, None)):
            folder = tempfile.TemporaryDirectory(prefix="fault-", ignore_cleanup_errors=True)
            running[fork(partial(tested, fault, Path(folder.name), limits[fault.module]))] = fault, folder
        if not running: return
        process, status, used = os.wait3(0)
        with suppress(ProcessLookupError): os.killpg(process, signal.SIGKILL)  # whatever its tests have left running
        fault, folder = running.pop(process)
        with folder: yield outcome(fault, Path(folder.name), status, used.ru_utime + used.ru_stime)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pattern", nargs="?", default="", help="a part of a module's name or of a description; all faults unless given")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="faults at a time, each on one thread")
    given = parser.parse_args()
    faults = [fault for fault in read_faults() if given.pattern in f"{fault.module}: {fault.wrong}"]
    if not faults: parser.error(f"no fault holds {given.pattern!r}; the modules are {', '.join({f.module: 0 for f in read_faults()})}")
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.pop("IN_TEST", None)
    for library in LIBRARIES: import_module(library)
    assert "implicit_vi" not in sys.modules

    limits = {fault.module: 1800. for fault in faults}
    sound = {fault.module: fault._replace(replacement=fault.code) for fault in faults}
    for one in outcomes(sound.values(), dict(limits), given.j):
        module = one.fault.module
        if one.verdict != "MISSED": sys.exit(f"{module}: its tests fail without a fault, {one.by}")
        print(f"sound   {one.seconds:6.1f} s  {module}", flush=True)
        limits[module] = PATIENCE[0] + PATIENCE[1] * one.seconds

    caught = 0
    for one in outcomes(faults, limits, given.j):
        caught += one.verdict == "caught"
        print(f"{one.verdict:7} {one.seconds:6.1f} s  {one.fault.module}: {one.fault.wrong}{f' ({one.by})' if one.by else ''}", flush=True)
    print(f"{caught} of {len(faults)} caught ({caught / len(faults):.0%})")
    return int(caught < NEEDED * len(faults))


if __name__ == "__main__": sys.exit(main())
