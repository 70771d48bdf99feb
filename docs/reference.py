"Reference: an entry for every public name, read from the exported modules without importing them."
import ast
import io
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

import pages
from readme import ROOT, shown

PACKAGE = ROOT/"implicit_vi"
LONGEST = 20  # lines of an example
EXPLAINED = "ImplicitBNN", "Assembled", "BNN", "fit", "Prediction", "dnn_to_bnn", "Noise"  # their settings have a page


class Entry(NamedTuple):
    name: str                   # `predict`
    kind: str                   # `class`, `function`, `method`, `property`, `data`
    signature: str              # from the bracket on
    text: str                   # the docstring
    parameters: dict[str, str]  # name → its comment
    returns: str                # comment on what is returned
    members: list["Entry"]      # public methods of a class
    bases: tuple[str, ...] = ()  # names of the classes that a class extends
    raises: tuple[tuple[str, str], ...] = ()  # errors that its own lines raise, with what they say


class Module(NamedTuple):
    name: str
    subtitle: str
    notebook: Path
    entries: list[Entry]


def comments(source: str) -> dict[int, str]:
    "Line number → the comment that ends it."
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}


def message(value: ast.expr) -> str:
    "What an error says, with … for what is filled in."
    if isinstance(value, ast.Constant): return str(value.value)
    if isinstance(value, ast.JoinedStr): return "".join(message(part) if isinstance(part, ast.Constant) else "…" for part in value.values)
    if isinstance(value, ast.BinOp): return message(value.left) + message(value.right)
    return "…"


def errors(node: ast.FunctionDef) -> tuple[tuple[str, str], ...]:
    "The errors that the lines of a function raise, in their order."
    calls = [n.exc for n in ast.walk(node) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call) and n.exc.args]
    return tuple(dict.fromkeys((ast.unparse(c.func), message(c.args[0])) for c in sorted(calls, key=lambda c: (c.lineno, c.col_offset))))


def function(node: ast.FunctionDef, said: dict[int, str], method: bool = False) -> Entry:
    """The entry of a function or a method.

    A comment is on the parameter whose line it ends; on the result, where it stands behind the last bracket.
    """
    arguments, decorators = node.args, {ast.unparse(d) for d in node.decorator_list}
    if method and "staticmethod" not in decorators: (arguments.posonlyargs or arguments.args).pop(0)
    named = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    lines = {a.arg: a.end_lineno for a in named if a}
    last = max([node.lineno, *lines.values()])
    closing = range(last + (last > node.lineno), max(node.body[0].lineno, node.lineno + 1))
    parameters = {name: said.get(line, "") if line > node.lineno else "" for name, line in lines.items()}
    signature = f"({ast.unparse(arguments)})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")
    kind = "property" if "property" in decorators else "method" if method else "function"
    returns = next((said[n] for n in closing if n in said), "")
    return Entry(node.name, kind, signature, ast.get_docstring(node) or "", parameters, returns, [], raises=errors(node))


def class_(node: ast.ClassDef, said: dict[int, str]) -> Entry:
    "The entry of a class: its parameters are those of `__init__`, or its annotated fields."
    methods = {f.name: function(f, said, method=True) for f in node.body if isinstance(f, ast.FunctionDef)}
    record = any(ast.unparse(b) == "NamedTuple" for b in node.bases) or bool(node.decorator_list)
    fields = {f.target.id: f for f in node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)} if record else {}
    parameters, signature = {n: said.get(f.end_lineno or 0, "") for n, f in fields.items()}, "()"
    if fields:
        defaults = {n: ast.unparse(f.value) if f.value else "" for n, f in fields.items()}
        signature = ", ".join(f"{n}: {ast.unparse(f.annotation)}" + f" = {defaults[n]}" * bool(defaults[n]) for n, f in fields.items())
        signature = f"({signature})"
    elif "__init__" in methods: signature, parameters = methods["__init__"].signature.partition(" ->")[0], methods["__init__"].parameters
    return Entry(node.name, "class", signature, ast.get_docstring(node) or "", parameters, "",
        [m for n, m in methods.items() if not n.startswith("_") and (m.text or m.returns or any(m.parameters.values()))],
        tuple(ast.unparse(b).rpartition(".")[2] for b in node.bases), methods["__init__"].raises if "__init__" in methods else ())


def patched(node: ast.stmt) -> str | None:
    "The class that a function is a method of, by fastcore's `@patch`."
    if not isinstance(node, ast.FunctionDef) or "patch" not in {ast.unparse(d).partition("(")[0] for d in node.decorator_list}: return None
    return ast.unparse(node.args.args[0].annotation)


def read(path: Path) -> Module:
    "The public names of a module, in the order of its notebook."
    source = path.read_text(encoding="utf-8")
    tree, said = ast.parse(source), comments(source)
    notebook = ROOT/"nbs"/re.search(r"File to edit: \.\./nbs/(.*\.ipynb)\.", source)[1]
    public, entries = [], []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        names = [t.id for t in targets if isinstance(t, ast.Name)]
        if "__all__" in names: public = ast.literal_eval(node.value)
        elif owner := patched(node): next(e for e in entries if e.name == owner).members.append(function(node, said, method=True))
        elif isinstance(node, ast.FunctionDef): entries.append(function(node, said))
        elif isinstance(node, ast.ClassDef): entries.append(class_(node, said))
        elif names: entries.append(Entry(names[0], "data", ast.unparse(node).removeprefix(names[0]), said.get(node.lineno, ""), {}, "", []))
    return Module(path.stem, ast.get_docstring(tree) or "", notebook, [e for e in entries if e.name in public])


def modules() -> list[Module]:
    "All modules, in the order of their notebooks."
    return sorted((read(p) for p in PACKAGE.glob("[!_]*.py")), key=lambda m: m.notebook.name)


def names(found: list[Module]) -> dict[str, str]:
    "`fit` → `implicit_vi.training.fit`, and so for methods, as `ImplicitBNN.predict`."
    full: dict[str, str] = {}
    for m in found:
        for e in m.entries:
            for name in (e.name, *(f"{e.name}.{member.name}" for member in e.members)):
                full.setdefault(name, f"implicit_vi.{m.name}.{name}")
    return full


class Place(NamedTuple):
    notebook: Path
    title: str      # of the notebook
    heading: str    # above the cell
    anchor: str     # of that heading
    exports: bool   # whether the cell is part of the package
    source: str
    output: str     # as text
    names: set[str]  # that the cell mentions


def mentioned(source: str) -> set[str]:
    "The names in a piece of code; those it defines are written `def name`."
    try: tree = ast.parse(source)
    except SyntaxError: return set()
    found = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    found |= {f"def {n.name}" for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    return found | {f"def {n.id}" for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def places() -> list[Place]:
    "Every cell of code that the site shows."
    result = []
    for path in (p for paths in pages.navigation().values() for p in paths):
        cells = shown(path, exported=True).cells
        title = cells[0].source.partition("\n")[0].lstrip("# ")
        for cell, (heading, anchor) in zip(cells, pages.headings(cells)):
            if cell.cell_type != "code" or "echo-false" in cell.metadata.tags: continue
            texts = [o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result" and "text/plain" in o.data]
            exports = "export" in cell.metadata.directives or "exporti" in cell.metadata.directives
            result.append(Place(path, title, heading, anchor, exports, cell.source, "\n".join(texts), mentioned(cell.source)))
    return result


def example(entry: Entry, home: Path, found: list[Place]) -> Place | None:
    "A short lesson that uses the entry, or shows it; best one at home or in a recipe that tests nothing and ends in a value."
    def shows(p): return entry.name in p.names or re.search(rf"\b{entry.name}\(", p.output)
    def rank(p):
        near = p.notebook == home or pages.section(p.notebook)[0] == "Use"
        tests = bool(re.search(r"^\s*(test_|assert|with expect_fail)", p.source, re.MULTILINE))
        return not near, len(p.source.splitlines()) > LONGEST, entry.name not in p.names, tests, not p.output, p.notebook != home
    return min((p for p in found if not p.exports and shows(p) and len(p.source.splitlines()) <= 2 * LONGEST), key=rank, default=None)


def stands_for(entry: Entry, module: Module, modules: list[Module], found: list[Place]) -> list[tuple[Entry, Module]]:
    "Entries whose examples show this one too: functions that return it, classes that extend it, what takes it, what is built with it."
    everything = [(e, m) for m in [module, *(m for m in modules if m is not module)] for e in m.entries]
    def returns(e): return re.search(rf"-> .*\b{entry.name}\b", e.signature) or any(returns(member) for member in e.members)
    def takes(e): return re.search(rf"\b{entry.name}\b", e.signature)
    homes = [p for p in found if p.exports and entry.name in p.names]
    def built_with(e): return any(f"def {name}" in p.names for p in homes for name in (e.name, *(member.name for member in e.members)))
    ways = returns, lambda e: entry.name in e.bases, takes, built_with
    return [(e, m) for way in ways for e, m in everything if e is not entry and way(e)]


def any_example(entry: Entry, module: Module, modules: list[Module], found: list[Place]) -> tuple[Place | None, str]:
    "An example of the entry, else of one that stands for it, with that one's name."
    if at := example(entry, module.notebook, found): return at, ""
    tried, ways = {(entry.name, module.name)}, [(entry, module)]
    for other, home in ways:  # grows as it is gone through, until one has an example
        for more, its_home in stands_for(other, home, modules, found):
            if (more.name, its_home.name) in tried: continue
            if at := example(more, its_home.notebook, found): return at, more.name
            tried.add((more.name, its_home.name))
            ways.append((more, its_home))
    return None, ""


def link(place: Place) -> str:
    name = place.title if place.heading in ("", place.title) else f"{place.title}: {place.heading}"
    return f"[{name}](../{pages.page(place.notebook)}.ipynb#{place.anchor})"


def block(entry: Entry, module: Module, text, more: tuple[str, ...] = (), depth: int = 5) -> str:
    "The entry as a directive of Sphinx's Python domain: docstring, parameters, `more`, and its members inside."
    fields = [f":param {n}: {text(c)}" for n, c in entry.parameters.items() if c]
    if entry.returns: fields.append(f":returns: {text(entry.returns)}")
    fields += [f":raises {kind}: `{said.replace('`', chr(39)).strip()}`" for kind, said in entry.raises if said.strip("… ")]
    options, head = [f":module: implicit_vi.{module.name}"], entry.name + entry.signature
    if entry.kind == "property": options, head = [*options, f":type: {entry.signature.partition('-> ')[2] or 'object'}"], entry.name
    if entry.kind == "data":
        kind, _, value = entry.signature.partition(" = ")
        options, head = [*options, *[f":type: {kind.strip(': ')}"] * bool(kind.strip(": ")), f":value: {value}"], entry.name
    body = [text(entry.text), "\n".join(fields), *more, *(block(m, module, text, depth=depth - 1) for m in entry.members)]
    ticks = "`" * depth
    return f"{ticks}{{py:{entry.kind}}} {head}\n" + "\n".join(options) + "\n\n" + "\n\n".join(filter(None, body)) + f"\n{ticks}"


def inherited(entry: Entry, classes: dict[str, Entry]) -> dict[str, str]:
    "Methods that a class has from others of the package: `predict` → `Prediction.predict`. The nearest class counts."
    methods: dict[str, str] = {}
    for base in (classes[b] for b in reversed(entry.bases) if b in classes):
        methods |= inherited(base, classes) | {m.name: f"{base.name}.{m.name}" for m in base.members}
    return {name: full for name, full in methods.items() if name not in [m.name for m in entry.members]}


def shown_in(entry: Entry, module: Module, modules: list[Module], found: list[Place]) -> tuple[str, ...]:
    "An example of the entry, and the places where it is built and used."
    parts = []
    at, other = any_example(entry, module, modules, found)
    if at:
        by = f" by way of `{other}`" if other else ""
        parts += [f"{{.example}}\nExample{by}, from {link(at)}:", f"```python\n{at.source}\n```"]
        if at.output: parts.append(f"```text\n{at.output}\n```")
    built = building(entry, module, found)
    elsewhere = {p.notebook: p for p in reversed(found) if entry.name in p.names and p.notebook != module.notebook and not p.exports}
    used = [link(p) for p in reversed(elsewhere.values())][:6]
    where = [f"Built in {link(built)}"] * bool(built) + [f"used in {', '.join(used)}"] * bool(used)
    if where: parts.append("{.about}\n" + "; ".join(where) + ".")
    return tuple(parts)


def exported() -> list[str]:
    "What `from implicit_vi import …` offers."
    tree = ast.parse((PACKAGE/"__init__.py").read_text(encoding="utf-8"))
    return next(ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__")


def building(entry: Entry, module: Module, found: list[Place]) -> Place | None:
    "The cell that exports the entry."
    return next((p for p in found if p.notebook == module.notebook and p.exports and f"def {entry.name}" in p.names), None)


def render(module: Module, modules: list[Module], found: list[Place], classes: dict[str, Entry], text) -> str:
    "The page of one module."
    path = f"../{pages.page(module.notebook)}.ipynb"
    offered = [f"`{e.name}`" for e in module.entries if e.name in exported()]
    about = f"`implicit_vi.{module.name}`, from the notebook [{module.notebook.name}]({path})"
    if offered: about += f" · {', '.join(offered)}: also from `implicit_vi`"
    parts = [f"# {module.name}", f"{{.subtitle}}\n{module.subtitle}", f"{{.about}}\n{about}"]
    for entry in module.entries:
        methods = ", ".join(f"`{full}`" for full in inherited(entry, classes).values())
        more = [text(f"{{.about}}\nInherits {methods}.")] * bool(methods)
        if entry.name in EXPLAINED: more.append("{.about}\nWhat they do, typical values: [every setting](../use_settings.ipynb).")
        parts.append(block(entry, module, text, (*more, *shown_in(entry, module, modules, found))))
    return "\n\n".join(parts) + "\n"


def before(notebook: Path, built: Place | None) -> str:
    "The last paragraph before the cell that builds something, or its heading: what is said of a constant that has no comment."
    prose = ""
    for cell in shown(notebook, exported=True).cells:
        if cell.cell_type == "markdown": prose = cell.source
        elif built and cell.source == built.source: break
    return re.split(r"\n\s*\n", prose.strip())[-1].lstrip("# ") if built else ""


def contents(found: list[Module], text) -> str:
    "The first page: every name with the first sentence about it."
    parts = ["# Reference", "{.subtitle}\nEvery public name, by module",
        "What settings do, and typical values: [every setting](../use_settings.ipynb). What errors mean: "
        "[troubles and remedies](../use_troubleshooting.ipynb).",
        "Shapes are written `(S, B, K)`: draws of the weights, data, outputs. Entropies and log-probabilities are in nats."]
    for m in found:
        parts.append(f"## [{m.name}]({m.name}.md)\n\n{m.subtitle}.")
        lines = [f"- {{py:obj}}`{e.name} <implicit_vi.{m.name}.{e.name}>`: {text(first(e.text))}".rstrip(": ") for e in m.entries]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def first(text: str) -> str:
    "The first sentence of a docstring."
    return re.split(r"(?<=\.)\s+(?=[A-Z])|\n\n", text, maxsplit=1)[0].replace("\n", " ")


def write(folder: Path, found: list[Module], writer: "pages.Writer") -> None:
    "All pages of Reference in `folder`."
    folder.mkdir(parents=True)
    seen = places()
    classes = {e.name: e for m in found for e in m.entries if e.kind == "class"}
    for i, m in enumerate(found):
        entries = [e if e.text else e._replace(text=before(m.notebook, building(e, m, seen))) for e in m.entries]
        found[i] = m = m._replace(entries=entries)
        def text(t, m=m): return writer.markdown(t, f"nbs/{m.notebook.name}", "../")
        (folder/f"{m.name}.md").write_text(render(m, found, seen, classes, text), encoding="utf-8")
    (folder/"index.md").write_text(contents(found, text), encoding="utf-8")
