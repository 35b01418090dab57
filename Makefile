# `make` lists the targets. The environment is .venv; whatever needs it makes it first.

# HOST is not taken from the environment: some shells export the machine's name under it. With
# `HOST=` or `HOST=::` the server is there for every network, IPv4 and IPv6.
HOST = 127.0.0.1
PORT ?= 8000
ARGS ?=
EXAMPLES ?= 1000

VENV := .venv
STAMP := $(VENV)/.installed
# What only tests and checks need is installed for them, and not for those who serve.
TEST_STAMP := $(VENV)/.installed-for-tests
UNFINISHED := $(VENV)/.unfinished
# Keeps two makes from installing at once. macOS lacks flock; there they are not kept apart.
FLOCK := $(shell command -v flock 2>/dev/null)
TYPESCRIPT := clients/typescript
NODE_MODULES := $(TYPESCRIPT)/node_modules/.package-lock.json

# The versions of Python for which there are packages of all pinned versions.
FITS := (3, 11) <= sys.version_info < (3, 15)
# The first interpreter that fits, if possible one that can make environments;
# `make install PYTHON=/path/to/python` overrides.
PYTHON ?= $(shell for modules in sys,ensurepip sys; do \
	for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c "import $$modules; sys.exit(not $(FITS))" 2>/dev/null && \
	echo $$p && exit; done; done; echo python3)

.DEFAULT_GOAL := help
.PHONY: help install serve programs test conformance check unasync clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Install everything into .venv

serve: $(STAMP) ## Run the server on HOST and PORT (127.0.0.1 and 8000)
	@exec $(VENV)/bin/python -m uvicorn server.app:app --host '$(HOST)' --port $(PORT) \
		--ws none --no-server-header

# Not in the list of targets: what tests start is installed, or named, before anything else happens.
programs:
	@PYTHON='$(PYTHON)' sh tests/programs.sh

# Files run side by side, in the order of their names: some have few tests and take long. More
# processes than these would need more memory than small machines have.
test: programs $(TEST_STAMP) ## Run the tests; ARGS="tests/server -k drain" runs some of them
	@exec $(VENV)/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder $(ARGS)

conformance: programs $(TEST_STAMP) ## Let other programs test the API for longer; EXAMPLES=1000
	@EXAMPLES=$(EXAMPLES) exec $(VENV)/bin/python -m pytest --timeout 7200 tests/conformance $(ARGS)

check: programs $(TEST_STAMP) $(NODE_MODULES) ## Run the linters, the formatters, the type checkers and the import rules
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/python -m pytest -q tests/test_imports.py
	cd $(TYPESCRIPT) && npm run --silent check

unasync: $(TEST_STAMP) ## Write the synchronous Python client from the asynchronous one
	$(VENV)/bin/python clients/python/unasync.py

clean: ## Remove the environment, the caches and the compiled kernels
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	cd $(TYPESCRIPT) && rm -rf build dist node_modules
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# What the TypeScript client is built and tested with; also made by its tests.
$(NODE_MODULES): $(TYPESCRIPT)/package.json $(TYPESCRIPT)/package-lock.json
	@node -e 'process.exit(+(parseInt(process.versions.node) < 18))' 2>/dev/null && command -v npm >/dev/null || { \
		echo "error: the TypeScript client is built with Node 18 or newer and npm." >&2; \
		echo "On Debian and Ubuntu: apt install nodejs npm" >&2; exit 1; }
	cd $(TYPESCRIPT) && npm ci --no-audit --no-fund
	@touch $@

ifdef INSTALLING
# torch comes first, alone and spelled exactly so: an index that has a CPU build of this version is
# then content with it, where a range may bring CUDA libraries of several GB. When pip fails, it
# undoes what it did; when it is killed it cannot, and the next installation starts afresh.
$(STAMP): EXTRAS = dev
$(TEST_STAMP): EXTRAS = dev,conformance
$(STAMP) $(TEST_STAMP): pyproject.toml constraints.txt clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not $(FITS))' 2>/dev/null || { \
		found=$$(command -v $(PYTHON) >/dev/null && $(PYTHON) --version 2>&1 || echo missing); \
		echo "error: CausalRN needs Python 3.11 to 3.14, and $(PYTHON) is $$found." >&2; \
		echo "Name another: make $(GOAL) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) cannot make virtual environments: venv or ensurepip is missing." >&2; \
		echo "On Debian and Ubuntu: apt install python3-venv, or python3.12-venv and so on." >&2; \
		exit 1; }
	@if [ -e $(UNFINISHED) ] || ! $(VENV)/bin/python -c 'import pip' 2>/dev/null; then \
		rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && $(PYTHON) -m venv $(VENV); fi
	@touch $(UNFINISHED); rm -f $(STAMP)
	$(VENV)/bin/python -m pip install torch==2.13.0 && \
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[$(EXTRAS)]' -e clients/python; \
	status=$$?; rm -f $(UNFINISHED); exit $$status
	@touch $(STAMP) $@
else
$(STAMP) $(TEST_STAMP): pyproject.toml constraints.txt clients/python/pyproject.toml
	@$(if $(FLOCK),$(FLOCK) Makefile) \
		$(MAKE) --no-print-directory INSTALLING=1 GOAL='$(MAKECMDGOALS)' $@
endif
