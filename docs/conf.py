"Configuration of Sphinx for the site; make.py calls it."
from pathlib import Path

HERE = Path(__file__).resolve().parent

project, html_title = "implicit_vi", "implicit_vi"
copyright = "implicit_vi contributors"
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx.ext.viewcode", "sphinx_copybutton"]

myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
myst_dmath_allow_labels = True
exclude_patterns = ["notebooks"]  # the originals, for download
nb_render_markdown_format = "myst"  # outputs that are Markdown
nb_execution_mode = "off"  # a page shows what its notebook keeps
numfig = True

mathjax_path = "mathjax/tex-chtml-full.js"
html_theme = "furo"
html_static_path = [str(HERE/"static"), str(HERE/"build"/"vendor")]
html_css_files = ["site.css"]
html_search_scorer = str(HERE/"build"/"scorer.js")
html_favicon = str(HERE/"static"/"icon.svg")
html_show_sourcelink = False
html_copy_source = False
pygments_style, pygments_dark_style = "friendly", "github-dark"

add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 80
copybutton_selector = ":not(.output) > div.highlight > pre"
