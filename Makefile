# Sets up and runs; whatever it calls can be called by hand as well.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What `make bench` compares with, apart from the project's own libraries.
PEERS := .venv-bench
# A file stays together, as its tests may share a gateway. Many tests watch real processes and browsers by the clock, and a
# machine may stand still for a second: such a test is tried once more, and the report says so.
SIDE_BY_SIDE := -n 2 --dist loadfile --reruns 1
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# What keys and tokens look like that somebody might leave lying about.
SECRETS := '-----BEGIN [A-Z ]*PRIVATE KEY|eyJ[A-Za-z0-9_-]{8,}\.eyJ|\b(AKIA[0-9A-Z]{16}|(gh[opsu]|github_pat|npm)_\w{24}|sk-[[:alnum:]-]{24}|xox[abp]-)'

.PHONY: run test check stress bench clean

run: $(VENV)/run.installed
	$(BIN)/python -m gateway serve --dev $(ARGS)

test: $(VENV)/test.installed node_modules/.installed
	tests/install-system-packages
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)
	npm test --silent

check: $(VENV)/test.installed node_modules/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive gateway pipeline
	git grep --no-index --exclude-standard -nIE -e $(SECRETS); test $$? -eq 1
	npm run --silent check
	$(MAKE) test

stress: $(VENV)/test.installed
	$(BIN)/python -m tests.stress $(ARGS)

# Peers that cannot be had here are left out of the comparison, which says so.
bench: $(VENV)/test.installed
	-$(MAKE) --no-print-directory $(PEERS)/.installed
	-tests/install-system-packages nginx-light libnginx-mod-nchan gcc libc6-dev
	$(BIN)/python -m tests.bench $(ARGS)

$(PEERS)/.installed: tests/bench/constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --requirement tests/bench/constraints.txt
	touch $@

$(VENV)/pip.installed:
	$(PYTHON) -m venv $(VENV) || (tests/install-system-packages python3-venv && $(PYTHON) -m venv $(VENV))
	touch $@

$(VENV)/run.installed: $(VENV)/pip.installed pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(VENV)/test.installed: $(VENV)/pip.installed pyproject.toml constraints.txt
	$(INSTALL) --editable '.[test,check]'
	touch $@ $(VENV)/run.installed

node_modules/.installed: package.json package-lock.json
	tests/install-system-packages nodejs npm
	npm ci --silent --no-audit --no-fund
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) node_modules build dist
