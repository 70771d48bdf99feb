"Words of the site by section, as a reader sees them: prose with tables, without code, its outputs, formulas and navigation."
import argparse
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pages

SITE = Path(__file__).resolve().parent/"build"/"site"
USERS = "Home", "Use", "Reference"  # what is written for people who use the package
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
PASSED_OVER = {"pre", "script", "style", "svg", "button", "nav"}


class Prose(HTMLParser):
    "The text inside `article`, but for what is passed over."
    def __init__(self):
        super().__init__()
        self.within, self.outside, self.text = 0, 0, []

    def handle_starttag(self, tag, attributes):
        if tag in VOID: return
        hidden = tag in PASSED_OVER or "math" in (dict(attributes).get("class") or "").split()
        if self.outside or (self.within and hidden): self.outside += 1
        if self.within or tag == "article": self.within += 1

    def handle_endtag(self, tag):
        if tag in VOID or not self.within: return
        self.within -= 1
        if self.outside: self.outside -= 1

    def handle_data(self, data):
        if self.within and not self.outside: self.text.append(data)


def words(html: str) -> int:
    "Of a page: pieces between spaces that hold a letter or a digit."
    reader = Prose()
    reader.feed(html)
    return len(re.findall(r"\S*\w\S*", " ".join(reader.text)))


def by_section(site: Path = SITE) -> dict[str, int]:
    "Section → words of its pages."
    places = {"Home": [site/"index.html"]}
    for title, paths in pages.navigation().items():
        places[title] = [site/f"{title.lower()}.html", *(site/f"{pages.page(p)}.html" for p in paths)]
    places["Reference"] = sorted((site/"reference").glob("*.html"))
    return {title: sum(words(p.read_text(encoding="utf-8")) for p in paths) for title, paths in places.items()}


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not (SITE/"index.html").exists(): sys.exit("There is no site yet: make docs.")
    counted = by_section()
    whole, lessons = sum(counted.values()), sum(n for title, n in counted.items() if title != "Reference")
    for title, n in counted.items(): print(f"{title:12} {n:7,} {n / whole:5.0%}")
    print(f"{'all':12} {whole:7,}")
    home = counted["Home"] + counted["Use"]
    print(f"for users, home and Use: {home:,}, {home / lessons:.0%} of all pages but Reference, {home / whole:.0%} with it")
    print(f"for users, Reference too: {sum(counted[t] for t in USERS) / whole:.0%}")
    return 0


if __name__ == "__main__": sys.exit(main())
