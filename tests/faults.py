"""Do the tests bite? Each fault of faults.yaml is put into a copy of the project; the tests next to it ought to fail.

python tests/faults.py [PATTERN] [-j N]: the faults whose module or description holds PATTERN, N at a time.
Ends with 1 below 95 % caught.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NEEDED = 0.95
PATIENCE = 60, 4  # seconds, and times the seconds that the sound module takes
LEFT_OUT = shutil.ignore_patterns("results", "build", "__pycache__", ".*_cache", ".git", ".venv", "_proc", "_docs")


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
    seconds: float


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
    made = replaced(fault, module.read_text("utf-8"), f"{module.name}")
    page = json.loads(notebook.read_text("utf-8"))
    cells = [cell for cell in page["cells"] if exported(cell) and fault.code in "".join(cell["source"])]
    if len(cells) != 1:
        raise ValueError(f"{fault.module}, {fault.wrong}: {len(cells)} exported cells of {notebook.name} hold the snippet {fault.code!r}")
    cells[0]["source"] = replaced(fault, "".join(cells[0]["source"]), notebook.name).splitlines(keepends=True)
    module.write_text(made, "utf-8")
    notebook.write_text(json.dumps(page, ensure_ascii=False, indent=1) + "\n", "utf-8")


def checks(module: str, root: Path) -> list[list[str | Path]]:
    "The commands that test a module: its notebook, and its file in tests."
    file = root/"tests"/f"test_{module}.py"
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-rN", "--tb=line", "-p", "no:cacheprovider", file]
    return [[BIN/"nbdev-test", notebook_of(module, root)], *([pytest] if file.exists() else [])]


def reason(said: str) -> str:
    "The line of an output that names the error."
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in said.splitlines()]
    errors = [line for line in lines if re.match(r"(E\s+)?[\w.]*(Error|Exception)\b", line) or re.search(r": \w+(Error|Exception): ", line)]
    return (errors or [line for line in lines if line] or ["no output"])[-1][:150]


def tested(fault: Fault, limit: float, sound: bool = False) -> Outcome:
    "The tests next to a fault in a copy of their own; those of the sound module if `sound`."
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        copy = Path(folder, "project")
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        if not sound: apply(fault, copy)
        environment = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
        environment |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder}
        for command in checks(fault.module, copy):
            left = limit - (time.monotonic() - start)
            name = Path(command[-1]).name
            try: done = subprocess.run(["nice", *map(str, command)], cwd=copy, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=max(left, 1))
            except subprocess.TimeoutExpired: return Outcome(fault, "NO END", name, time.monotonic() - start)
            if done.returncode: return Outcome(fault, "caught", f"{name}: {reason(done.stdout)}", time.monotonic() - start)
    return Outcome(fault, "MISSED", "", time.monotonic() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pattern", nargs="?", default="", help="a part of a module's name or of a description; all faults unless given")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="faults at a time, each on one thread")
    given = parser.parse_args()
    faults = [fault for fault in read_faults() if given.pattern in f"{fault.module} {fault.wrong}"]
    if not faults: parser.error(f"no fault holds {given.pattern!r}; the modules are {', '.join({f.module: 0 for f in read_faults()})}")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.j) as pool:
        shutil.copytree(ROOT, copy := Path(folder, "project"), ignore=LEFT_OUT)
        for fault in faults: apply(fault._replace(replacement=fault.code), copy)  # before anything runs, all are looked for

        first = {fault.module: fault for fault in faults}
        limits = {}
        for outcome in pool.map(partial(tested, limit=1800, sound=True), first.values()):
            module = outcome.fault.module
            if outcome.verdict != "MISSED": sys.exit(f"{module}: its tests fail without a fault, {outcome.by}")
            print(f"sound   {outcome.seconds:6.1f} s  {module}", flush=True)
            limits[module] = PATIENCE[0] + PATIENCE[1] * outcome.seconds

        outcomes = []
        for job in as_completed([pool.submit(tested, fault, limits[fault.module]) for fault in faults]):
            outcome = job.result()
            outcomes.append(outcome)
            by = f" ({outcome.by})" if outcome.by else ""
            print(f"{outcome.verdict:7} {outcome.seconds:6.1f} s  {outcome.fault.module}: {outcome.fault.wrong}{by}", flush=True)
    caught = [outcome for outcome in outcomes if outcome.verdict == "caught"]
    print(f"{len(caught)} of {len(outcomes)} caught ({len(caught) / len(outcomes):.0%})")
    return int(len(caught) < NEEDED * len(outcomes))


if __name__ == "__main__": sys.exit(main())
