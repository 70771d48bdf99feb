"The site: every notebook has its page, every public name its entry, every link a target; and what a browser makes of it."
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))
import lead  # noqa: E402
import make  # noqa: E402
import pages  # noqa: E402
import reference  # noqa: E402
import words  # noqa: E402

SITE = ROOT/"docs"/"build"/"site"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
         "--disable-sync").split()


# Without Sphinx and without a browser

@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    "The sources of the site: name → text, cells joined."
    folder = tmp_path_factory.mktemp("docs")/"pages"
    make.stage(folder)
    def text(path):
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".md": return content
        return "\n\n".join("".join(cell["source"]) for cell in json.loads(content)["cells"] if cell["cell_type"] == "markdown")
    sources = [p for p in folder.rglob("*") if p.suffix in (".md", ".ipynb") and p.parent.name != "notebooks"]
    return {p.relative_to(folder).as_posix(): text(p) for p in sources}, folder


def test_every_notebook_has_one_place_and_a_page(staged):
    placed = [p for paths in pages.navigation().values() for p in paths]
    assert sorted(placed) == sorted(p for p in (ROOT/"nbs").glob("*.ipynb") if p.stem != "index")
    names = [pages.page(p) for p in placed]
    assert len(set(names)) == len(names)
    trees = re.findall(r"^```\{toctree\}.*?^```", staged[0]["index.ipynb"], re.MULTILINE | re.DOTALL)
    assert not [name for name in names if sum(f"\n{name}\n" in tree for tree in trees) != 1]


def test_every_public_name_has_an_entry_and_is_documented():
    undocumented, counted = [], 0
    for m in reference.modules():
        module = importlib.import_module(f"implicit_vi.{m.name}")
        own = [n for n in module.__all__ if getattr(getattr(module, n), "__module__", module.__name__) == module.__name__]
        assert set(own) <= {e.name for e in m.entries}
        for name in own:
            thing, counted = getattr(module, name), counted + 1
            if not (inspect.isclass(thing) or inspect.isfunction(thing)): continue  # a constant is explained by its notebook, see below
            if not (thing.__doc__ or "").strip(): undocumented.append(name)
            if inspect.isclass(thing): undocumented += [f"{name}.{n}" for n in methods(thing) if not said(thing, n, m)]
    assert not undocumented
    assert counted > 50


def methods(cls):
    kinds = property | classmethod | staticmethod | type(methods)
    return [n for n, f in vars(cls).items() if not n.startswith("_") and isinstance(f, kinds)]


def said(cls, name, module):
    "What is said of a method: its own docstring or that of what it overrides, or comments on its parameters."
    entry = next(e for e in module.entries if e.name == cls.__name__)
    return inspect.getdoc(getattr(cls, name)) or name in [e.name for e in entry.members]


def test_reference_says_what_a_name_is_and_where_it_is_built(staged):
    for m in reference.modules():
        text = staged[0][f"reference/{m.name}.md"]
        entries = re.split(r"^`````(?=\{)", text, flags=re.MULTILINE)[1:]
        assert [e.split()[1].partition("(")[0] for e in entries] == [e.name for e in m.entries]
        for entry in entries:
            assert re.match(r"[^\s`:]|`[^`]", entry.split("\n\n")[1]), f"nothing is said about {entry[:60]}"
            assert "Built in [" in entry or "built in [" in entry, f"no notebook builds {entry[:60]}"


def test_every_public_name_has_an_example():
    "Its own, or one of something that returns, extends, takes or is built with it. What is called from a shell has none in Python."
    found, seen = reference.modules(), reference.places()
    called = {"main"}
    assert not [e.name for m in found for e in m.entries if e.name not in called and not reference.any_example(e, m, found, seen)[0]]


def test_errors_are_read_from_the_lines_that_raise_them():
    source = '''def f(a):
    "Doc."
    if a < 1: raise ValueError(f"a must be at least 1, got {a}")
    raise TypeError("one " f"two {a}")
'''
    entry = reference.function(reference.ast.parse(source).body[0], {})
    assert entry.raises == (("ValueError", "a must be at least 1, got …"), ("TypeError", "one two …"))


def test_experiments_begin_with_their_result(staged):
    for path in (ROOT/"nbs").glob("exp_*.ipynb"):
        cells = json.loads((staged[1]/path.name).read_text(encoding="utf-8"))["cells"]
        kinds = [lead.kind(pages.nbformat.from_dict(c)) for c in cells[1:4]]
        assert kinds == ["sentence", "picture", "table"], path.name
        heads = re.findall(r"^## .*", staged[0][path.name], re.MULTILINE)
        assert heads[0] == "## Run it again" and heads[1].startswith("## The quick run"), path.name
        folded = [c for c in cells if "hide-input" in c["metadata"].get("tags", [])]
        assert any("EDITION" in "".join(c["source"]) for c in folded), f"{path.name}: its parameters are not folded"


def test_sections_list_their_pages(staged):
    for title, paths in pages.navigation().items():
        listed = re.findall(r"^- \[.*?\]\((.*?)\.ipynb\)", staged[0][f"{title.lower()}.md"], re.MULTILINE)
        assert listed == [pages.page(p) for p in paths]
    assert list(pages.navigation())[:3] == ["Use", "Understand", "Reproduce"]


def test_words_are_those_that_are_read():
    page = "<nav>no</nav><article><p>two words</p><pre>no</pre><div class='math'>no</div><br><b>and one – more</b></article><p>no</p>"
    assert words.words(page) == 5


def test_links_between_pages_lead_somewhere(staged):
    texts, folder = staged
    anchors = {name: {slug for _, slug in all_headings(text)} | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
               for name, text in texts.items()}
    broken = []
    for name, text in texts.items():
        prose = re.sub(r"^(```+)(?!`*\{).*?^\1$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", target): continue
            path, _, anchor = target.partition("#")
            to = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
            exists = to in texts or (folder/to).is_file()
            if not exists or (anchor and anchor not in anchors.get(to, ())): broken.append((name, target))
    assert not broken


def all_headings(text):
    class Cell: cell_type = "markdown"
    lines = []
    for line in text.splitlines():
        cell = Cell()
        cell.source = line
        lines.append(cell)
    return [pair for cell, pair in zip(lines, pages.headings(lines)) if cell.source.startswith("#")]


@pytest.mark.parametrize("written, staged_as", [
    ("see [bounds](09_bounds.ipynb#what-it-bounds)", "see [bounds](bounds.ipynb#what-it-bounds)"),
    ("[licence](../LICENSE), [how](../CONTRIBUTING.md)", "[licence](LICENSE), [how](contributing.md)"),
    ("a [folder](../docs), a [gap](gone.ipynb)", "a folder, a [gap](gone.ipynb)"),
    ("`fit` and `fit()`, not `fit(x)`", "{py:obj}`fit <m.fit>` and {py:obj}`fit() <m.fit>`, not `fit(x)`"),
    ("[`fit`](12_training.ipynb)", "[`fit`](training.ipynb)"),
    ("```python\n`fit` # @eq-one\n```", "```python\n`fit` # @eq-one\n```"),
    ("$$ a = b $$ {#eq-one}", "$$ a = b $$ (eq-one)"),
    ("by @eq-one, @fig-two, @sec-a", "by {eq}`eq-one`, {numref}`fig-two`, {ref}`sec-a`"),
    ("## The `fit` of it {#the-fit-of-it}", "## The `fit` of it"),
    ("## A title {#other}", "(other)=\n## A title"),
    ("$x$ and `x`", "$x$ and `x`")])
def test_markdown_is_translated(written, staged_as):
    assert pages.Writer(ROOT, {"fit": "m.fit"}).markdown(written, "nbs/index.ipynb") == staged_as


def test_a_picture_without_a_text_is_refused():
    cell = pages.nbformat.v4.new_code_cell("plot()", outputs=[pages.nbformat.v4.new_output("display_data", {"image/png": ""})],
        metadata={"tags": [], "directives": {}, "alt": ""})
    with pytest.raises(ValueError, match="cell 7: its picture needs a text"): pages.decorate(cell, "", "cell 7")


def test_comments_belong_to_what_they_stand_beside():
    source = '''def f(
    a: int,  # first
    b=2,
) -> int:    # result
    "Doc."

def g(a, b) -> int: # result
    return a

def h(
    a,       # first
): return a  # this is on the code
'''
    tree, comments = reference.ast.parse(source), reference.comments(source)
    f, g, h = (reference.function(node, comments) for node in tree.body)
    assert (f.signature, f.parameters, f.returns) == ("(a: int, b=2) -> int", {"a": "first", "b": ""}, "result")
    assert (g.parameters, g.returns) == ({"a": "", "b": ""}, "result")
    assert (h.parameters, h.returns) == ({"a": "first"}, "")


# In a browser

@pytest.fixture(scope="module")
def address():
    "The site, built and served."
    if "SITE_TEST" not in os.environ: pytest.skip("`make test-docs` builds the site and opens it in a browser")
    done = subprocess.run([sys.executable, "docs/make.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser(address):
    "Headless Chromium: one that is installed, else the driver's own."
    from playwright.sync_api import Error, sync_playwright
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
    with sync_playwright() as driver:
        def launch(): return driver.chromium.launch(executable_path=installed, args=FLAGS)
        try: chromium = launch()
        except Error:
            subprocess.run([sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"], timeout=300)
            try: chromium = launch()
            except Error as e:
                if os.environ.get("CI"): raise
                pytest.skip(f"no browser: install Chromium ({e.message.splitlines()[0]})")
        yield chromium
        chromium.close()


LOOK = """async () => {
    if (window.MathJax) await MathJax.startup.promise
    await document.fonts.ready
    const shown = document.body.cloneNode(true)
    shown.querySelectorAll("pre, code, script, style, mjx-container, .sig").forEach(e => e.remove())
    const pictures = [...document.querySelectorAll("article img")]
    return {
        ids: [...document.querySelectorAll("[id]")].map(e => e.id),
        links: [...document.querySelectorAll("a[href]")].map(e => e.href),
        wide: document.documentElement.scrollWidth - window.innerWidth,
        text: shown.textContent,
        code: [...document.querySelectorAll("div.cell_input pre")].map(e => e.textContent).join("\\n"),
        formulas: document.querySelectorAll("mjx-container").length,
        unset: document.querySelectorAll("span.math, div.math").length,
        errors: document.querySelectorAll("mjx-merror, [data-mjx-error], .problematic, .system-message").length,
        unsaid: pictures.filter(e => !e.alt || !e.naturalWidth).map(e => e.src),
        first: pictures.length ? pictures[0].getBoundingClientRect().top + window.scrollY : null,
    }
}"""


@pytest.fixture(scope="module")
def seen(address, browser):
    "Every page at every size: what it says, and what went wrong."
    found = {}
    for size, (width, height) in SIZES.items():
        context = browser.new_context(viewport={"width": width, "height": height})
        for path in sorted(SITE.rglob("*.html")):
            name, wrong = path.relative_to(SITE).as_posix(), []
            tab = context.new_page()
            listen(tab, wrong, address)
            tab.goto(address + name)
            found[size, name] = tab.evaluate(LOOK) | {"wrong": wrong}
            tab.close()
        context.close()
    return found


def listen(tab, wrong, address):
    "Note what goes wrong while a page is open."
    def note(kind, bad=lambda e: True, what=lambda e: e.url):
        return lambda event: wrong.append(f"{kind}: {what(event)}") if bad(event) else None
    tab.on("console", note("console", lambda m: m.type in ("error", "warning"), lambda m: m.text))
    tab.on("pageerror", note("error", what=str))
    tab.on("requestfailed", note("failed"))
    tab.on("response", note("refused", lambda r: r.status >= 400))
    tab.on("request", note("elsewhere", lambda r: not r.url.startswith((address, "data:"))))


def failing(seen, test): return {where: bad for where, page in seen.items() if (bad := test(page))}


def test_pages_load_whole_and_from_here_alone(seen):
    assert len(seen) >= 2 * len(list((ROOT/"nbs").glob("*.ipynb")))
    assert not failing(seen, lambda page: page["wrong"])


def test_no_page_is_wider_than_the_screen(seen): assert not failing(seen, lambda page: max(page["wide"], 0))


def test_formulas_are_set(seen):
    assert sum(page["formulas"] for page in seen.values()) > 200
    assert not failing(seen, lambda page: page["errors"])
    raw = re.compile(r"\\[a-zA-Z]+|\\[()\[\]]|\$[^$\n]+\$|\{(?:eq|numref|py:\w+|download)\}|^\{\.\w+\}|\?\?", re.MULTILINE)
    assert not failing(seen, lambda page: raw.findall(page["text"]))


def test_directives_are_not_shown(seen): assert not failing(seen, lambda page: re.findall(r"^#\|.*", page["code"], re.MULTILINE))


def test_pictures_say_what_they_show(seen): assert not failing(seen, lambda page: page["unsaid"])


def test_notebooks_open_with_a_picture(seen):
    names = [f"{pages.page(p)}.html" for p in (ROOT/"nbs").glob("*.ipynb") if not p.stem.startswith("exp_")]
    late = {n: seen["desktop", n]["first"] for n in names if (seen["desktop", n]["first"] or 1e9) > SIZES["desktop"][1]}
    assert not late


def test_links_and_anchors_exist(seen, address):
    ids = {name: set(page["ids"]) for (size, name), page in seen.items() if size == "desktop"}
    broken = []
    for name in ids:
        for href in seen["desktop", name]["links"]:
            if not href.startswith(address): continue
            target, anchor = urldefrag(urljoin(address + name, href))
            to = unquote(urlsplit(target).path).lstrip("/") or "index.html"
            if not (SITE/to).is_file() or (anchor and to in ids and unquote(anchor) not in ids[to]): broken.append((name, href))
    assert not broken


QUERIES = {
    "error bars": "use_regression", "confidence interval": "use_regression", "prediction interval": "use_regression",
    "calibration": "use_classification", "ResNet": "use_last_layer", "pretrained": "use_last_layer", "cuda": "use_gpu", "GPU": "use_gpu",
    "save model": "use_saving", "load": "use_saving", "ensemble": "use_when", "anomaly detection": "use_out_of_distribution",
    "epistemic": "use_uncertainty", "number of samples": "use_number_of_draws", "out of memory": "use_gpu", "learning rate": "use_settings",
    "NaN": "use_troubleshooting", "outliers": "use_likelihoods", "laplace": "use_from_elsewhere", "MCMC": "use_density"}


def test_search_finds(browser, address):
    "What users type leads to the page for it among the first three."
    tab, missed = browser.new_page(), {}
    for query, page in QUERIES.items():
        tab.goto(f"{address}search.html?q={query}")
        tab.wait_for_selector("ul.search li a")
        tab.wait_for_selector("p.search-summary:not(:empty)")
        tab.wait_for_timeout(300)
        first = tab.locator("ul.search li > a").evaluate_all("links => links.slice(0, 3).map(e => e.getAttribute('href').split(/[?#]/)[0])")
        if f"{page}.html" not in first: missed[query] = first
    tab.close()
    assert not missed


def test_a_fifth_of_the_words_is_for_users(address):
    counted = words.by_section()
    lessons = sum(n for title, n in counted.items() if title != "Reference")
    assert counted["Home"] + counted["Use"] >= lessons / 5


def test_theme_and_copy_buttons(browser, address):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.goto(f"{address}use_classification.html", wait_until="networkidle")
    def background(): return tab.evaluate("getComputedStyle(document.body).backgroundColor")
    light = background()
    tab.locator("button.theme-toggle:visible").first.click()
    if background() == light: tab.locator("button.theme-toggle:visible").first.click()
    assert background() != light
    cell = tab.locator("div.cell_input:visible").first
    cell.hover()
    cell.locator("button.copybtn").click()
    assert tab.evaluate("navigator.clipboard.readText()").strip() == cell.locator("pre").inner_text().strip()
    assert tab.locator("div.cell_output button.copybtn").count() == 0
    context.close()


def test_notebooks_can_be_downloaded(address):
    for path in (ROOT/"nbs").glob("*.ipynb"):
        text = (SITE/f"{pages.page(path)}.html").read_text(encoding="utf-8")
        link = re.search(r'<a class="[^"]*download[^"]*"[^>]* href="([^"]+)"', text)
        assert (SITE/link[1]).read_bytes() == path.read_bytes()
