// Sphinx's own weights, but that pages for users come first, and among them those that name the words of the query as their own.
const WORDS = {};
const asked = () => (new URLSearchParams(window.location.search).get("q") || "").toLowerCase().trim();
const names = (phrases, query) => (phrases || []).some(phrase => phrase === query || ` ${phrase} `.includes(` ${query} `));
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename]) => {
    if (names(WORDS[docname], asked())) return score + 60;
    if (/^(use_(settings|troubleshooting|glossary|from_elsewhere)|convert$|features$|commands$|trained$)/.test(docname)) return score + 12;
    if (/^(use_(?!cluster)|index$)/.test(docname)) return score + 20;
    if (/^reference\//.test(docname)) return score - 3;
    return score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
