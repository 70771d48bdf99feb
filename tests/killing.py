"Kills a command and its process group at random moments, up to 60 s after each start, then lets it end: `killing.py 10 60 make paper`."
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path


def run_killed(command: list[str], moments: list[float], **options) -> int:
    "Start a command for each moment (seconds), kill its group then, and at last let it end; returns its exit status."
    for moment in moments:
        process = subprocess.Popen(command, start_new_session=True, **options)
        try: process.wait(moment)
        except subprocess.TimeoutExpired: pass
        try: os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError: pass
        process.wait()
    return subprocess.run(command, **options).returncode


def damaged(results: Path) -> list[str]:
    "What is in the folders of experiments and is no whole record; a folder with nothing in it is none yet."
    from implicit_vi.experiments import read_result
    wrong = []
    for folder in (f for f in results.glob("[!.]*/[!.]*") if f.is_dir() and f.parent.name not in ("failed", "figures")):
        if not any(folder.iterdir()): continue
        try: read_result(folder)
        except ValueError as e: wrong.append(str(e))
    return wrong


def main() -> int:
    times, longest, *command = sys.argv[1:]
    moments = [random.uniform(1, float(longest)) for _ in range(int(times))]
    print("killed after", *(f"{moment:.1f}" for moment in moments), "seconds", flush=True)
    start = time.perf_counter()
    status = run_killed(command, moments)
    print(f"{time.perf_counter() - start:.0f} s in all, exit status {status}")
    for line in damaged(Path("results")): print(line)
    return status


if __name__ == "__main__": sys.exit(main())
