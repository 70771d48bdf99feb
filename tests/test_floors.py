"The house: who may import whom, how large a module may grow, and that everything public says what it is."
import ast
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {p.stem: p for p in sorted((ROOT/"implicit_vi").glob("*.py")) if not p.stem.startswith("_")}
FLOORS = dict(
    # tools
    files=0, arguments=0, strangers=0, random=0, stops=0, epochs=1, checkpoints=1, processes=1,
    # beside: functions of tensors
    metrics=1, networks=0, sources=1, transforms=1, references=0, arrival=0, constrained=1,
    data=2, plots=2, together=3,
    # networks of weights
    layers=1, batching=0, shared=0, buffers=0,
    reparameterise=1, linearise=2, samples=2,
    generators=2,
    architectures=3,
    # what is assumed, and what is climbed
    likelihoods=1, families=2, priors=3, bounds=3, lazy=4, training=2, starts=3,
    # distributions over weights
    posterior=5,
    noise=6, mean_field=7, mixture=6, audit=7, flow=6, ratio=6, place=7, density=8,
    # one model
    prediction=6,
    bnn=7, convert=8, features=8, distil=3,
    # methods
    point=8,
    dropout=9, laplace=9, swag=9, samplers=9, variational=8,
    methods=10,
    # the laboratory
    parameters=1, experiments=6, report=7,
    runs=7,
    # from a shell
    trained=11, commands=12,
    workflow=13)


def imported(path: Path) -> set[str]:
    "The modules of this package that a module imports anywhere, inside functions too."
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import): dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "implicit_vi" if node.level else ""
            whole = ".".join(filter(None, (start, node.module)))
            dotted = [f"{whole}.{alias.name}" for alias in node.names] if whole == "implicit_vi" else [whole]
        else: continue
        names |= {name.split(".")[1] for name in dotted if name.startswith("implicit_vi.")}
    return names


def test_imports_are_seen(tmp_path):
    source = """
import torch
import implicit_vi.data
from implicit_vi.layers import MMLayer
def later():
    from . import bnn
    from .bounds import exact_logdet
"""
    (tmp_path/"module.py").write_text(source)
    assert imported(tmp_path/"module.py") == {"data", "layers", "bnn", "bounds"}


def test_every_module_has_a_floor(): assert set(MODULES) <= set(FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_come_from_lower_floors(name):
    not_lower = {other for other in imported(MODULES[name]) if FLOORS[other] >= FLOORS[name]}
    assert not not_lower, f"{name} is on floor {FLOORS[name]}, and these are not below it: {not_lower}"


@pytest.mark.parametrize("name", MODULES)
def test_module_is_one_idea(name): assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) < 300


@pytest.mark.parametrize("name", MODULES)
def test_public_names_have_docstrings(name):
    module = importlib.import_module(f"implicit_vi.{name}")
    public = {n: getattr(module, n) for n in module.__all__}
    documented = {n: o for n, o in public.items() if inspect.isclass(o) or inspect.isfunction(o)}
    written = {n: o.__doc__ or "" for n, o in documented.items()}
    assert not [n for n, doc in written.items() if not doc.strip() or doc.startswith(f"{n}(")]  # f"{n}(" begins a generated one


def test_the_package_offers_names_of_its_modules():
    package, modules = importlib.import_module("implicit_vi"), [importlib.import_module(f"implicit_vi.{name}") for name in MODULES]
    homeless = [n for n in package.__all__ if not any(n in m.__all__ and getattr(m, n) is getattr(package, n) for m in modules)]
    assert not homeless
