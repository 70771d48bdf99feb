"A training that gets SIGINT or SIGTERM at a random moment says so once, keeps its progress, and goes on to the same end."
import os
import random
import signal
import sys
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from tempfile import TemporaryDirectory

from endurance.crash import FORK, PHASES, same, train
from endurance.record import write

from implicit_vi.files import load_tensors

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def train_and_tell(method: str, folder: Path, phase: Synchronized) -> None:
    "Train, with what is said on standard error in a file; an interrupt is told there too, as Python does."
    os.dup2(os.open(folder/"said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = open(2, "w", closefd=False)
    try: train(method, folder, phase)
    except KeyboardInterrupt as e:
        os.write(2, f"{e}\n".encode())
        os._exit(130)


def stopped(method: str, folder: Path, number: int, delay: float) -> tuple[bool, str]:
    "Start a training and send it a signal: whether that came before its end, and a complaint where it was not answered as it should be."
    phase = FORK.Value("i", -1)
    child = FORK.Process(target=train_and_tell, args=(method, folder, phase))
    child.start()
    while child.is_alive() and phase.value != PHASES.index("step"): time.sleep(1e-4)
    time.sleep(delay)
    ended = child.exitcode is not None or phase.value == PHASES.index("evaluation")
    os.kill(child.pid, number)
    child.join()
    said = (folder/"said").read_text()
    (folder/"said").unlink()
    if ended or phase.value == PHASES.index("evaluation"): return False, ""
    if child.exitcode != STATUS[number]: return True, f"status {child.exitcode}, and {said!r}"
    if said == "stopped before the first step\n": return True, ""
    epochs = len(load_tensors(folder/"run.safetensors")[1]["history"])
    expected = f"run.safetensors holds {epochs} epochs, and the same call goes on from there"
    return True, "" if said.count("stopped after step") == 1 and expected in said and len(said.splitlines()) == 1 else f"said {said!r}"


def trial(method: str, times: int) -> tuple[int, list[str]]:
    "How often trainings were stopped, of so many tries with each signal, and what was wrong."
    found = []
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        train(method, Path(first), FORK.Value("i", -1))
        for number in [*STATUS]*times: found.append(stopped(method, Path(second), number, random.uniform(0, .01)))
        for name in os.listdir(second):
            if name == "end.safetensors": os.unlink(f"{second}/{name}")
        train(method, Path(second), FORK.Value("i", -1))
        return sum(in_time for in_time, _ in found), [complaint for _, complaint in found if complaint] + same(first, second)


def main() -> int:
    wrong, times = [], 0
    for method in ("map", "livi", "swag", "laplace_kron", "avb"):
        stops, found = trial(method, 4)
        print(f"{method}: stopped {stops} times, {', '.join(found) or 'the same'}", flush=True)
        wrong, times = wrong + found, times + stops
    what = "training stopped by SIGINT and SIGTERM: one message, the epochs that it names are in the file, the same end, to the bit"
    return write("signals", what, times=times, lost=len(wrong), found="; ".join(wrong))


if __name__ == "__main__": sys.exit(main())
