"settings.ini, pyproject.toml, setup.py and the files that repeat them agree."
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from importlib.metadata import Distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

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


@pytest.mark.parametrize("name", ["export", "test", "clean"])
def test_nbdev_commands_have_both_names(built, name):
    ours = {entry.name: entry.load() for entry in built.entry_points if entry.group == "console_scripts"}
    theirs = {entry.name: entry.load() for entry in Distribution.from_name("nbdev").entry_points if entry.name == f"nbdev-{name}"}
    assert ours[f"nbdev_{name}"] is theirs[f"nbdev-{name}"]
    said = subprocess.run([Path(sys.executable).parent/f"nbdev_{name}", "--help"], capture_output=True, text=True)
    assert said.returncode == 0 and f"usage: nbdev_{name}" in said.stdout
