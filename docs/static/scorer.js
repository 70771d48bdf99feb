// Sphinx's own weights, but that pages for users come before pages of other readers.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename]) => {
    if (/^use_(settings|troubleshooting|glossary|from_elsewhere)/.test(docname)) return score + 12;
    if (/^(use_(?!cluster)|index$|convert$|features$|commands$|trained$)/.test(docname)) return score + 20;
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
