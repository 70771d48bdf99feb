"README.md is what nbs/index.ipynb gives; its pictures and links lead somewhere."
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_readme_is_rendered_from_the_notebook():
    done = subprocess.run([sys.executable, "docs/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_relative_links_exist():
    targets = re.findall(r"\]\(([^)\s]+)", (ROOT/"README.md").read_text(encoding="utf-8"))
    paths = [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:", t)]
    assert not [p for p in paths if not (ROOT/p).exists()]
