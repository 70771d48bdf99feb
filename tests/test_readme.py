"README.md is what nbs/index.ipynb gives; its pictures and links lead somewhere."
import json
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))
import readme  # noqa: E402


def test_readme_is_rendered_from_the_notebook():
    done = subprocess.run([sys.executable, "docs/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_relative_links_exist():
    targets = re.findall(r"\]\(([^)\s]+)", (ROOT/"README.md").read_text(encoding="utf-8"))
    paths = [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:", t)]
    assert not [p for p in paths if not (ROOT/p).exists()]


def test_requirements_are_those_of_settings():
    parser = ConfigParser(delimiters="=")
    parser.read_string((ROOT/"settings.ini").read_text(encoding="utf-8"))
    requirements = {re.match(r"[\w-]+", r)[0] for r in parser["DEFAULT"]["requirements"].split()}
    said, = re.findall(r"^pip install \S+ +# (.*);.*$", (ROOT/"README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(said.split(", ")) == requirements


def test_readme_says_where_the_repository_is():
    parser = ConfigParser(delimiters="=")
    parser.read_string((ROOT/"settings.ini").read_text(encoding="utf-8"))
    address, text = parser["DEFAULT"]["repository"], (ROOT/"README.md").read_text(encoding="utf-8")
    assert f'pip install "git+{address or readme.UNKNOWN}"' in text
    assert bool(address) == ("actions/workflows/test.yml/badge.svg" in text)
    assert readme.site_of("https://github.com/OWNER/NAME") == "https://OWNER.github.io/NAME/"
    assert readme.addressed("git+REPOSITORY SITELINK", "https://a/b/c", "there") == "git+https://a/b/c there"
    known, _ = readme.badges("https://a/b/c")
    assert known.startswith("[![tests](https://a/b/c/actions/workflows/test.yml/badge.svg)]")


def test_commands_name_parameters_that_exist():
    page = json.loads((ROOT/"nbs"/"use_cluster.ipynb").read_text(encoding="utf-8"))
    text = "\n".join("".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "markdown")
    commands = re.findall(r"^.*(nbs/exp_\w+\.ipynb)(.*)$", text, re.MULTILINE)
    named = [(path, parameter) for path, rest in commands for parameter in re.findall(r" -p (\w+) ", rest)]
    assert named
    for path, parameter in named:
        cells = json.loads((ROOT/path).read_text(encoding="utf-8"))["cells"]
        source = "".join("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
        assert re.search(rf"^{parameter}(:.*)? *=", source, re.MULTILINE), (path, parameter)
