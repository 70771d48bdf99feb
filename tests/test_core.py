"The package with its core dependencies alone."
import json
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 2  # that the import may take beyond torch's own

IMPORT = """
import json, sys, time
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    blocked = set(json.loads(sys.argv[1]))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.blocked: raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import torch
start = time.perf_counter()
import implicit_vi
seconds = time.perf_counter() - start
from importlib import import_module
from pathlib import Path
for path in Path(implicit_vi.__file__).parent.glob("*.py"): import_module(f"implicit_vi.{path.stem}")
print(json.dumps(dict(seconds=seconds, loaded=sorted({name.partition(".")[0] for name in sys.modules}))))
"""


def canonical(name): return re.sub(r"[-_.]+", "-", name).lower()


def closure(names):
    "These distributions and all that they need, no extras."
    seen, queue = set(), [canonical(n) for n in names]
    while queue:
        if (name := queue.pop()) in seen: continue
        seen.add(name)
        needed = [Requirement(r) for r in requires(name) or []]
        queue += [canonical(r.name) for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    return seen


@pytest.fixture(scope="module")
def core_import():
    settings = ConfigParser(delimiters="=")
    settings.read_string((ROOT/"settings.ini").read_text(encoding="utf-8"))
    core = [Requirement(r).name for r in settings["DEFAULT"]["requirements"].split()]  # what is installed may be of an older version
    allowed = closure(core) | {"implicit-vi"}
    blocked = [module for module, owners in packages_distributions().items() if not {canonical(o) for o in owners} & allowed]
    assert {"fastcore", "matplotlib", "torchvision", "sklearn", "scipy", "papermill", "nbdev", "IPython", "netcal"} <= set(blocked)
    done = subprocess.run([sys.executable, "-c", IMPORT, json.dumps(blocked)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), blocked


def test_every_module_imports(core_import):
    outcome, blocked = core_import
    assert "implicit_vi" in outcome["loaded"]
    assert not set(outcome["loaded"]) & set(blocked)


def test_import_is_quick(core_import): assert core_import[0]["seconds"] < SECONDS
