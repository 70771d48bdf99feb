"Builds the site, docs/build/site, from notebooks and exported modules. No notebook is run, and no page loads anything from elsewhere."
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pages
import reference

HERE = Path(__file__).resolve().parent
BUILD = HERE/"build"  # all that is made, left out of git
MATHJAX = "mathjax@3.2.2"
PARTS = "tex-chtml-full.js", "output/chtml/fonts"  # of it, that the pages need


def vendor() -> None:
    "MathJax in build/vendor, fetched through npm once."
    target = BUILD/"vendor"/"mathjax"
    if (target/"version").exists() and (target/"version").read_text() == MATHJAX: return
    if not (npm := shutil.which("npm")): sys.exit("The site brings its own MathJax, and npm fetches it: install Node.js with npm.")
    BUILD.mkdir(exist_ok=True)
    options = "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"
    done = subprocess.run([npm, "install", "--prefix", BUILD, *options, MATHJAX], stdin=subprocess.DEVNULL)
    if done.returncode: sys.exit(f"npm could not fetch {MATHJAX}, which the pages need for their formulas.")
    shutil.rmtree(target, ignore_errors=True)
    for name in PARTS:
        source = BUILD/"node_modules"/"mathjax"/"es5"/name
        (target/name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target/name)
    (target/"version").write_text(MATHJAX)


def scorer() -> str:
    "What orders the results of a search, with the words that pages name as theirs."
    text = (HERE/"static"/"scorer.js").read_text(encoding="utf-8")
    return text.replace("const WORDS = {};", f"const WORDS = {json.dumps(pages.other_words(), ensure_ascii=False)};")


def stage(folder: Path) -> None:
    "The sources for Sphinx."
    shutil.rmtree(folder, ignore_errors=True)
    found = reference.modules()
    writer = pages.write(folder, reference.names(found), [m.name for m in found])
    reference.write(folder/"reference", found, writer)


def main() -> int:
    from sphinx.cmd.build import build_main
    vendor()
    stage(BUILD/"pages")
    (BUILD/"scorer.js").write_text(scorer(), encoding="utf-8")
    shutil.rmtree(BUILD/"site", ignore_errors=True)
    status = build_main(["-W", "--keep-going", "-q", "-E", "-j", "auto", "-c", str(HERE), "-d", str(BUILD/"doctrees"),
        str(BUILD/"pages"), str(BUILD/"site")])
    if not status: print(f"the site: {(BUILD/'site'/'index.html').relative_to(HERE.parent)}")
    return status


if __name__ == "__main__": sys.exit(main())
