# Two commands do everything: `make demo` and `make test`. `make docs` writes the site, `make tutorials` runs the
# tutorials again, and `make packages` tries the wheel with every extra.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE := $(VENV)/.site_installed
PAGE := src/chiasm/service/page/index.html

.PHONY: demo docs lint packages page test tutorials
.DEFAULT_GOAL := demo

demo: $(STAMP) page
	$(BIN)/chiasm demo --serve

test: $(STAMP)
	$(MAKE) --no-print-directory -j2 page lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: $(STAMP)
	$(BIN)/ruff format --check src tests tools
	$(BIN)/ruff check src tests tools
	$(BIN)/mypy

# Warnings are errors, links are checked, and nothing is loaded from another server.
docs: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "The site is build/site/index.html; a browser opens it as it lies there."

tutorials: $(STAMP)
	$(BIN)/python tools/tutorials.py

packages: page
	$(PYTHON) tools/packages.py

# The operators' page is built from web/ where npm is there; the service says so where it is not.
page:
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory $(PAGE); \
	else echo "npm is not installed: the operators' page is not built. 'apt-get install npm' and 'make page' build it;" \
	"a wheel from a package index has it inside."; fi

$(PAGE): $(shell find web -type f -not -path '*/node_modules/*' 2> /dev/null)
	cd web && npm ci --no-audit --no-fund --loglevel=error && npm run build

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(SITE): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@
