"settings.ini, pyproject.toml, setup.py and the files that repeat them agree."
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from importlib import import_module
from importlib.metadata import Distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11): import tomllib
else: import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel(sys.argv[1])"
HEADERS = {"version": "Version", "readme": "Description-Content-Type", "license": "License-Expression", "authors": "Author",
    "keywords": "Keywords", "classifiers": "Classifier", "dependencies": "Requires-Dist", "optional-dependencies": "Provides-Extra"}


def read(name): return (ROOT/name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def settings():
    parser = ConfigParser(delimiters="=")
    parser.read_string(read("settings.ini"))
    return parser["DEFAULT"]


@pytest.fixture(scope="module")
def project(): return tomllib.loads(read("pyproject.toml"))["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "The metadata that an installer is given."
    folder = tmp_path_factory.mktemp("metadata")
    done = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Distribution.at(next(folder.glob("*.dist-info")))


def test_pyproject_repeats_settings(settings, project):
    assert project["name"] == settings["lib_name"]
    assert project["description"] == settings["description"]
    assert project["requires-python"] == f">={settings['min_python']}"


def test_setup_hands_over_settings(settings, built):
    said = built.metadata
    assert (said["Name"], said["Version"], said["Summary"]) == (settings["lib_name"], settings["version"], settings["description"])
    assert (said["Author"], said["License-Expression"]) == (settings["author"], settings["license"])
    assert said["Requires-Python"] == f">={settings['min_python']}"
    assert (said["Description"] or said.get_payload()).strip() == read("README.md").strip()


def test_dependencies_and_extras(settings, built):
    extras = {key.removesuffix("_requirements"): value.split() for key, value in settings.items() if key.endswith("_requirements")}
    assert set(built.metadata.get_all("Provides-Extra")) == set(extras) >= {"experiments", "workflow", "dev", "docs"}
    needed = [Requirement(r) for r in built.requires]

    def plain(r): return f"{r.name}{r.specifier}"
    def core(): return {plain(r) for r in needed if not r.marker or r.marker.evaluate({"extra": ""})}
    def wanted(extra): return {plain(r) for r in needed if r.marker and r.marker.evaluate({"extra": extra})} - core()
    def stated(names): return {plain(r) for r in map(Requirement, names) if not r.marker or r.marker.evaluate()}

    assert core() == stated(settings["requirements"].split())
    for extra, names in extras.items(): assert wanted(extra) == stated(names)
    assert wanted("experiments") < wanted("dev") > wanted("workflow")


def requirements(settings):
    "Name of a list, requirement: of the core and of every extra."
    keys = [key for key in settings if key.endswith("requirements")]
    return [(key, Requirement(stated)) for key in keys for stated in settings[key].split()]


def test_every_requirement_has_a_floor(settings):
    without = {str(r) for _, r in requirements(settings) if not any(s.operator in (">=", "==", "~=") for s in r.specifier)}
    assert not without


def test_the_core_is_lean(settings):
    "What no module imports is not required of everybody, and nothing else is imported at the top of a module."
    modules = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT/settings["lib_path"]).glob("*.py"))
    imported = set(re.findall(r"^(?:from|import) (\w+)", modules, re.MULTILINE)) - sys.stdlib_module_names - {settings["lib_name"]}
    required = {r.name for key, r in requirements(settings) if key == "requirements"}
    assert imported == {"yaml" if name == "pyyaml" else name for name in required}


def test_constraints_are_versions_that_the_requirements_allow(settings):
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    pinned = {}
    for line in lines:
        name, equals, version = line.partition("==")
        assert equals, line
        pinned[canonicalize_name(name)] = version
    assert not [name for name in pinned if name.startswith(("nvidia-", "cuda-", "triton"))], "this file is for every platform"
    for key, r in requirements(settings):
        if key in ("requirements", "dev_requirements"): assert r.specifier.contains(pinned[canonicalize_name(r.name)]), r


def test_the_lock_is_the_constraints_with_sums():
    "Every requirement of requirements.lock has a version and a sum, the version of constraints.txt where that names one."
    pinned = dict(line.split("==") for line in read("constraints.txt").splitlines() if "==" in line)
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    lines = "\n".join(line for line in read("requirements.lock").splitlines() if not line.startswith("#"))
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", lines.strip())
    assert len(blocks) > 100
    for block in blocks:
        name, version = re.match(r"([\w.-]+)(?:\[.*?\])?==([^\s;]+)", block).groups()
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), name
        assert pinned.get(canonicalize_name(name), version) == version, name


def test_dynamic_fields_are_set(project, built):
    groups = {entry.group for entry in built.entry_points}
    assert {"console_scripts", "nbdev"} <= groups
    unset = [name for name in project["dynamic"] if name not in ("scripts", "entry-points") and not built.metadata[HEADERS[name]]]
    assert not unset


def test_version_is_said_once(settings):
    assert import_module("implicit_vi").__version__ == settings["version"]
    citation = yaml.safe_load(read("CITATION.cff"))
    assert (citation["version"], citation["license"]) == (settings["version"], settings["license"])
    assert f"\n## {settings['version']}" in read("CHANGELOG.md")


PACKED = "implicit_vi", "gen_arch_config", "settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", \
    "CHANGELOG.md", "CITATION.cff", "constraints.txt"
PACK = "import sys; from setuptools import build_meta as b; made = sys.argv[1]; b.build_sdist(made); b.build_wheel(made)"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    "The names of the files in the source archive and in the wheel, built in a copy."
    copy, made = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in PACKED:
        if (ROOT/name).is_dir(): shutil.copytree(ROOT/name, copy/name, ignore=shutil.ignore_patterns("__pycache__"))
        else: shutil.copy(ROOT/name, copy/name)
    done = subprocess.run([sys.executable, "-c", PACK, str(made)], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(made.glob("*.tar.gz"))) as archive: source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(next(made.glob("*.whl"))) as archive: wheel = set(archive.namelist())
    return source, wheel


def test_packages_hold_what_is_used(packages):
    source, wheel = packages
    modules = {f"implicit_vi/{path.name}" for path in (ROOT/"implicit_vi").glob("*.py")}
    architectures = {path.name for path in (ROOT/"gen_arch_config").glob("*.y*ml")}
    assert modules | {"implicit_vi/py.typed"} | {f"implicit_vi/gen_arch_config/{name}" for name in architectures} <= wheel
    assert modules | {"implicit_vi/py.typed", *PACKED} | {f"gen_arch_config/{name}" for name in architectures} <= source
    assert not [name for name in wheel if name.startswith(("tests", "nbs", "workflow", "docs"))]


def test_hooks_are_commands_of_the_environment(settings):
    config = ROOT/".pre-commit-config.yaml"
    done = subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    hooks = [hook for repository in yaml.safe_load(config.read_text(encoding="utf-8"))["repos"] for hook in repository["hooks"]]
    entries = [hook["entry"].split()[0] for hook in hooks]
    assert entries == [f".venv/bin/{command}" for command in ("nbdev-clean", "nbdev-export", "ruff")]
    assert all((Path(sys.executable).parent/Path(entry).name).exists() for entry in entries)


def test_every_action_is_held_at_a_commit():
    "An action has one commit in all workflows, and says which version that is."
    used = [line for path in sorted((ROOT/".github"/"workflows").glob("*.yml")) for line in re.findall(r"uses: (.*)", path.read_text())]
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", line) for line in used)
    assert len({line.partition("@")[0] for line in used}) == len(set(used))


@pytest.mark.parametrize("name", ["export", "test", "clean"])
def test_nbdev_commands_have_both_names(built, name):
    ours = {entry.name: entry.load() for entry in built.entry_points if entry.group == "console_scripts"}
    theirs = {entry.name: entry.load() for entry in Distribution.from_name("nbdev").entry_points if entry.name == f"nbdev-{name}"}
    assert ours[f"nbdev_{name}"] is theirs[f"nbdev-{name}"]
    said = subprocess.run([Path(sys.executable).parent/f"nbdev_{name}", "--help"], capture_output=True, text=True)
    assert said.returncode == 0 and f"usage: nbdev_{name}" in said.stdout
