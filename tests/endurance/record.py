"The record of a long trial: what was tried, how often, and what was lost."
import json
import os
import platform
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START = time.perf_counter()


def _machine() -> str:
    "The processor and its cores."
    try: lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError: lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores"


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def write(name: str, what: str, times: int, lost: int, found: str = "", folder: Path = ROOT/"results"/"robustness") -> int:
    "Write the record of the trial of that name, and return the exit status: 1 where something was lost."
    record = dict(what=what, times=times, lost=lost, found=found, command=f"make endurance ARGS={name}",
                  seconds=round(time.perf_counter() - START, 1), commit=_revision(), machine=_machine())
    folder.mkdir(parents=True, exist_ok=True)
    (folder/f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{name}: {times} times, {lost} lost, {record['seconds']:.0f} s{'; ' + found if found else ''}", flush=True)
    return int(lost > 0)
