"Tests notebooks, each in a copy of a process that has imported what most of them need; a line of JSON says how each of them ended."
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot  # noqa: F401
import nbdev.test
import sklearn.datasets  # noqa: F401
import torch.func  # noqa: F401
from nbdev.config import get_config

ROOT = Path(__file__).resolve().parent.parent


def tested(path: Path, force_flags: list[str]) -> dict:
    "What came of the notebook, in a fork of this process."
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            for stream in (1, 2): os.dup2(said.fileno(), stream)
            passed = False
            try: passed, _ = nbdev.test.test_nb(path, get_config(path).tst_flags.split(), force_flags, basepath=ROOT)
            finally:
                sys.stdout.flush()
                os._exit(not passed)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return dict(what=str(path.relative_to(ROOT)), failed=int(status != 0), seconds=time.perf_counter() - start,
                    said=said.read().decode(errors="replace"))


if __name__ == "__main__":
    flags = ["slow"] if os.environ.get("SLOW") else []
    os.chdir(ROOT/"nbs")
    for name in sys.argv[1:]: print(json.dumps(tested(ROOT/name, flags)), flush=True)
