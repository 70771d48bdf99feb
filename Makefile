# paper: the main experiments, figures and results · test: every check · lint · readme: from nbs/index.ipynb · clean
# docs: the site, in docs/build/site · test-docs: the site in a browser
# PYTHON=python3.12 chooses the interpreter of a new environment, PROFILE=paper the sizes of the paper.
.PHONY: paper test lint readme docs test-docs clean
PYTHON ?= python3
PROFILE ?= smoke
BIN := .venv/bin
READY := .venv/ready
DOCS := .venv/ready-docs
export PIP_DISABLE_PIP_VERSION_CHECK := 1
ifndef IMPLICIT_VI_DATA
ifneq ($(wildcard ../shared/data/.),)
export IMPLICIT_VI_DATA := $(abspath ../shared/data)
endif
endif

paper: $(READY)
	@folders=$$($(BIN)/implicit-vi nbs/exp_*.ipynb -p profile $(PROFILE)); status=$$?; \
	echo "results:"; echo "$${folders:-none}"; exit $$status

test: $(READY)
	@$(BIN)/python tests/run.py

lint: $(READY)
	@$(BIN)/python tests/run.py lint

readme: $(READY)
	$(BIN)/python docs/readme.py

docs: $(DOCS)
	@$(BIN)/python docs/make.py

test-docs: $(DOCS)
	@SITE_TEST=1 $(BIN)/python -m pytest -q -rs tests/test_docs.py

# leaves the environment and the results
clean:
	rm -rf _proc _docs docs/build build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find nbs implicit_vi tests docs -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +

$(READY): settings.ini setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e ".[dev]"
	touch $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install -q -e ".[docs]"
	touch $@
