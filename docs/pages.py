"The notebooks as pages for Sphinx: what nbdev shows, with titles, links, folds and alternative texts."
import json
import posixpath
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import nbformat
from lead import lead
from readme import ROOT, address, addressed, shown

NOTEBOOKS = ROOT/"nbs"
FOLD = 40  # an exported cell of more lines is folded

# The sections of the site, in order: title, what a reader finds there, and its notebooks. A notebook belongs to the last section with a
# pattern for it, one of any name but where no other section takes it, so that a new one needs no entry here. Within a section the order is
# that of the patterns, then that of the names.
SECTIONS = {
    "Use": ("One page a task: your own network, its last layer, numbers with error bars, strange inputs, files; settings and troubles.",
        ["use_when", "use_classification", "use_regression", "use_last_layer", "use_training", "use_out_of_distribution", "use_uncertainty",
         "use_number_of_draws", "use_saving", "use_large", "use_gpu", "use_density", "use_likelihoods", "use_robustness", "use_draws",
         "18a_convert", "18b_features", "use_by_hand", "34a_commands", "33a_trained", "use_settings", "use_troubleshooting",
         "use_from_elsewhere", "use_*", "use_glossary"]),
    "Understand": ("The method in order, from an idea in thirty lines to every method by name, as notebooks that build it.", ["*"]),
    "Reproduce": ("The paper, claim by claim: what was run, and what came out.",
        ["paper", "results_toy", "results_uci", "results_mnist", "results_cifar", "results_correlation", "results_vae",
         "results_scaling", "results_*", "use_cluster", "exp_*"]),
    "Laboratory": ("What the experiments are made of: metrics, networks, data, figures, and how runs are recorded.", ["2[6-9]*", "3*"]),
}
OTHER_WORDS = re.compile(r"\*In other words: (.*?)\.\*")
REFERENCE = "Every public name: signature, shapes, errors, source, an example."


def section(notebook: Path) -> tuple[str, int]:
    "The section of a notebook, and the pattern that put it there."
    fitting = [(title, i, p) for title, (_, patterns) in SECTIONS.items() for i, p in enumerate(patterns) if fnmatch(notebook.stem, p)]
    named = [(title, i) for title, i, p in fitting if p == notebook.stem]
    return named[-1] if named else [(title, i) for title, i, _ in sorted(fitting, key=lambda found: found[2] != "*")][-1]


def navigation() -> dict[str, list[Path]]:
    "Section → its notebooks, in order. The home page is in none."
    paths = [p for p in sorted(NOTEBOOKS.glob("[!_.]*.ipynb")) if p.stem != "index"]
    whole = {title: sorted((p for p in paths if section(p)[0] == title), key=lambda p: (order(p), p.name)) for title in SECTIONS}
    return {title: pages for title, pages in whole.items() if pages}


def order(notebook: Path) -> int:
    "Place within the section: the first of its patterns that fits."
    return section(notebook)[1]


def page(notebook: Path) -> str:
    "The name of a notebook's page: `07_architectures.ipynb` → `architectures`."
    return re.sub(r"^\d+[a-z]*_", "", notebook.stem)


def other_words() -> dict[str, list[str]]:
    "Page → what users call its subject, as its notebook says after *In other words*."
    found = {page(p): OTHER_WORDS.search(p.read_text(encoding="utf-8")) for paths in navigation().values() for p in paths}
    return {name: match[1].lower().split(", ") for name, match in found.items() if match}


def slug(heading: str) -> str:
    "The anchor that MyST gives a heading."
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(cells: list) -> list[tuple[str, str]]:
    "For every cell the heading that it is under, and its anchor."
    seen: dict[str, int] = {}
    result, here = [], ("", "")
    for cell in cells:
        if cell.cell_type == "markdown":
            for text in re.findall(r"^#+ +(.*?)(?:\s*\{#[\w-]+\})?\s*$", cell.source, re.MULTILINE):
                seen[slug(text)] = n = seen.get(slug(text), -1) + 1
                here = text, f"{slug(text)}-{n}" if n else slug(text)
        result.append(here)
    return result


SPAN = re.compile(r"""
      (?P<fence>    ^(?P<ticks>```+|~~~+).*?^(?P=ticks)[ ]*$ )
    | (?P<formula>  \$\$.*?\$\$ ) (?:[ ]*\{\#(?P<label>eq-[\w-]+)\})?
    | (?P<math>     \$(?=\S)[^$\n]*?\S\$ | \$\S\$ )
    | (?P<heading>  ^\#+[ ][^\n]*? ) (?:[ ]*\{\#(?P<anchor>[\w-]+)\})?[ ]*$
    | (?P<link>     \[(?:[^\[\]]|\[[^\]]*\])*\] ) \((?P<target>[^)\s]+)\)
    | (?P<code>     `[^`\n]+` )
    | (?<![\w.]) @(?P<reference>(?:eq|fig|sec)-[\w-]+)
    """, re.VERBOSE | re.MULTILINE | re.DOTALL)


ROLES = {"eq": "eq", "fig": "numref", "sec": "ref"}


class Writer:
    "Writes pages to a folder, and remembers which other files of the project they link to."
    def __init__(self, folder: Path, names: dict[str, str]):
        self.folder, self.names = folder, names  # names: `fit` → `implicit_vi.training.fit`, an entry of Reference
        self.linked: list[str] = []

    def relocate(self, target: str, source: str) -> str | None:
        "A link as it is written in the file `source` → as its page needs it; `None` for a folder, which has no page."
        if re.match(r"[a-z][a-z0-9+.-]*:|#", target, re.IGNORECASE): return target
        path, hash_mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if (ROOT/path).is_dir(): return None
        if not (ROOT/path).is_file(): return target  # broken, and Sphinx says so
        if path == "README.md": return "index.ipynb"
        if path.startswith("nbs/") and path.endswith(".ipynb"): return f"{page(Path(path))}.ipynb{hash_mark}{anchor}"
        if path not in self.linked: self.linked.append(path)
        return f"{path.lower() if path.endswith('.md') else path}{hash_mark}{anchor}"

    def markdown(self, text: str, source: str, up: str = "") -> str:
        "Markdown of the project as MyST: links to pages, names to Reference, labels and references as roles."
        def rewrite(match):
            kind, whole = match.lastgroup, match[0]
            if match["formula"]: return f"{match['formula']} ({match['label']})" if match["label"] else whole
            if match["heading"]:
                own = match["anchor"] and match["anchor"] != slug(match["heading"].lstrip("# "))
                return f"({match['anchor']})=\n{match['heading']}" if own else match["heading"]
            if match["link"]:
                target = self.relocate(match["target"], source)
                if target is None: return match["link"][1:-1]
                return f"{match['link']}({target if re.match('[a-z]+:|#', target) else up + target})"
            if kind == "code" and (name := whole.strip("`")).removesuffix("()") in self.names:
                return f"{{py:obj}}`{name} <{self.names[name.removesuffix('()')]}>`"
            if kind == "reference": return f"{{{ROLES[match['reference'].partition('-')[0]]}}}`{match['reference']}`"
            return whole
        return SPAN.sub(rewrite, text)

    def notebook(self, path: Path, extra: str = "") -> None:
        "Stage one notebook under the name of its page; `extra` goes below its first picture."
        notebook, source = shown(path, exported=True), f"nbs/{path.name}"
        prose, cells = "", []
        if path.stem.startswith("exp_"): notebook.cells[1:1] = lead(path)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                prose = cell.source
                repository = address(here=True)
                back = f"The [repository]({repository}) has the same pages as notebooks." if repository else ""
                named = OTHER_WORDS.sub(r"{.about}\nIn other words: \1.", cell.source)
                cell.source = self.markdown(addressed(named, repository, back), source)
            elif cell.cell_type == "code":
                decorate(cell, prose, f"{source}, cell {cell.id}")
                for output in cell.outputs:
                    data = output.get("data", {})
                    if "text/markdown" in data: data["text/markdown"] = self.markdown(data["text/markdown"], source)
            cells.append(cell)
            if extra and pictures(cell):
                cells.append(nbformat.v4.new_markdown_cell(extra))
                extra = ""
        cells[0].source = opening(cells[0].source, path, exports(path))
        notebook.cells = cells
        (self.folder/f"{page(path)}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
        shutil.copy(path, self.folder/"notebooks")

    def file(self, name: str) -> None:
        "Stage a file of the project that a page links to."
        target = self.folder/(name.lower() if name.endswith(".md") else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".md"): target.write_text(self.markdown((ROOT/name).read_text(encoding="utf-8"), name), encoding="utf-8")
        else: shutil.copy(ROOT/name, target)


def opening(source: str, path: Path, module: str | None) -> str:
    "The first cell: title, subtitle, and where the notebook and what it exports are to be had."
    title, _, rest = source.partition("\n")
    subtitle, _, rest = rest.strip().partition("\n")
    about = f"{{download}}`{path.name} <notebooks/{path.name}>`"
    if module: about += f" · exports [implicit_vi.{module}](reference/{module}.md)"
    return f"{title}\n\n{{.subtitle}}\n{subtitle.removeprefix('> ')}\n\n{{.about}}\nNotebook: {about}\n\n{rest}"


def exports(path: Path) -> str | None:
    "The module that a notebook is exported to."
    found = re.search(r"#\| *default_exp +(\w+)", path.read_text(encoding="utf-8"))
    return found[1] if found else None


def pictures(cell) -> bool: return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def plain(text: str) -> str:
    "Markdown as a screen reader should say it."
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\\(?:mathbb|mathcal|mathrm|text|big|left|right)\b", "", text.replace(r"\times", "×").replace(r"\sim", "~"))
    return " ".join(re.sub(r"[*`${}\\]", "", text).split())


def alternative(cell, prose: str) -> str:
    "What stands for a picture: `#| fig-alt`, `#| fig-cap`, else the last paragraph before it, or its heading."
    if cell.metadata.get("alt"): return cell.metadata.alt
    paragraphs = [p for p in re.split(r"\n\s*\n", prose) if not re.match(r"\s*(>|\||\$\$|```)", p)]
    return plain(paragraphs[-1].lstrip("# ")) if paragraphs else ""


def decorate(cell, prose: str, where: str) -> None:
    "Tell MyST-NB what to fold and leave out, and what a picture shows."
    tags, options, about = cell.metadata.tags, {}, cell.metadata.directives
    cell.metadata.tags = [{"echo-false": "remove-input", "output-false": "remove-output"}[t] for t in tags if not t.endswith("true")]
    lines = [line for line in cell.source.splitlines() if line.strip()]
    imports = all(re.match(r"(from|import)\s|[\s)]", line) for line in lines)
    experiment = where.startswith(("nbs/exp_", "nbs/results_"))
    parameters = experiment and re.match(r"(EDITION|profile) *=", cell.source)
    if (("export" in about or "exporti" in about or experiment) and (imports or len(lines) > FOLD)) or parameters:
        named = re.search(r"^(?:class|def) (\w+)", cell.source, re.MULTILINE)
        what = "the parameters" if parameters else "the imports" if imports else \
            f"{named[1]}, {len(lines)} lines" if named else f"{len(lines)} lines"
        cell.metadata.tags.append("hide-input")
        options |= {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}
    if pictures(cell):
        text = alternative(cell, prose)
        if not text: raise ValueError(f"{where}: its picture needs a text that stands for it; add a line `#| fig-alt: what is seen`")
        options["image"] = {"alt": text}
        caption, label = about.get("fig-cap", "").strip("\"'"), about.get("label", "")
        if caption: options["figure"] = {"caption": caption} | ({"name": label} if label else {})
    if options: cell.metadata.mystnb = options
    del cell.metadata["directives"], cell.metadata["alt"]


def home(sections: dict[str, list[Path]], modules: list[str]) -> str:
    "What the home page adds to its notebook: one link for each section, and the table of contents."
    places = [(title, f"{title.lower()}.md", SECTIONS[title][0]) for title in sections]
    places.append(("Reference", "reference/index.md", REFERENCE))
    links = "\n".join(f"- **[{title}]({target})**\\\n  {about}" for title, target, about in places)
    trees = {title: [f"All pages <{title.lower()}>", *(page(p) for p in paths)] for title, paths in sections.items()}
    trees["Reference"] = ["All names <reference/index>", *(f"reference/{m}" for m in modules)]
    contents = [f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(pages) + "\n```" for title, pages in trees.items()]
    return "\n\n".join([f"```{{container}} places\n{links}\n```", *contents])


def overview(title: str, paths: list[Path], writer: Writer) -> str:
    "The page of a section: each of its notebooks with its subtitle."
    lines = []
    for path in paths:
        name, _, rest = shown(path, exported=True).cells[0].source.partition("\n")
        subtitle = rest.strip().partition("\n")[0].removeprefix("> ")
        lines.append(f"- [{name.lstrip('# ')}]({page(path)}.ipynb)\\\n  {writer.markdown(subtitle, f'nbs/{path.name}')}")
    return f"# {title}\n\n{{.subtitle}}\n{SECTIONS[title][0]}\n\n{{.listing}}\n" + "\n".join(lines) + "\n"


def write(folder: Path, names: dict[str, str], modules: list[str]) -> Writer:
    "All notebooks as pages in `folder`, and the files that they link to."
    (folder/"notebooks").mkdir(parents=True)
    writer, sections = Writer(folder, names), navigation()
    for path in (p for paths in sections.values() for p in paths): writer.notebook(path)
    for title, paths in sections.items():
        (folder/f"{title.lower()}.md").write_text(overview(title, paths, writer), encoding="utf-8")
    writer.notebook(NOTEBOOKS/"index.ipynb", home(sections, modules))
    for name in writer.linked: writer.file(name)
    rest = [name.lower().removesuffix(".md") for name in writer.linked if name.endswith(".md")]
    if rest:
        index = folder/"index.ipynb"
        notebook = json.loads(index.read_text(encoding="utf-8"))
        notebook["cells"].append(nbformat.v4.new_markdown_cell(
            "```{toctree}\n:hidden:\n:caption: Project\n\n" + "\n".join(rest) + "\n```"))
        index.write_text(json.dumps(notebook), encoding="utf-8")
    return writer
