# Two commands do everything on a new machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
VISION := .venv-vision
OUT ?= demo-report

.PHONY: help demo test check docs figures bench clean
help:
	@echo "make demo   install into $(VENV) and run the demonstration (writes $(OUT)/)"
	@echo "make test   install the development tools as well (torchvision into $(VISION)), and run every check and test"
	@echo "make docs   build the site into site/, its tutorials executed"
	@echo "make check  lint, format and types alone"
	@echo "make bench  the fast benchmarks again, beside the committed figures (a quiet machine, some minutes)"
	@echo "make clean  remove $(VENV), $(VISION) and what was made"

demo: $(VENV)/demo-installed
	$(BIN)/equiform demo --out $(OUT) --overwrite

test: check $(VISION)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m ""
	OMP_NUM_THREADS=1 $(VISION)/bin/python -m pytest -n 2 -m "" tests/vision

# needs no network, nor do its pages; a warning is an error
docs: $(VENV)/dev-installed
	OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

check: $(VENV)/dev-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; install it, or name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Equiform needs Python 3.11 or newer; $(PYTHON) is older"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv; on Debian: apt-get install python3.11-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch comes first: on its own it is the build that constraints.txt names, and nothing later may replace it
OPTIONS = --quiet --disable-pip-version-check -c constraints.txt
INSTALL = $(BIN)/python -m pip install $(OPTIONS)
MISSING = { echo "The installation failed; it needs a package index (PyPI or a mirror: see 'pip config')."; exit 1; }

$(VENV)/demo-installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing Equiform and its dependencies into $(VENV) ..."
	@$(INSTALL) torch || $(MISSING)
	@$(INSTALL) -e '.[demo]' || $(MISSING)
	@touch $@

# without Ray, whose tests are skipped then: pip install -e '.[ray]' for them
$(VENV)/dev-installed: $(VENV)/demo-installed
	@echo "Installing the development tools into $(VENV) ..."
	@$(INSTALL) -e '.[demo,transformers,onnx,detection,clouds,volumes,parquet,jpeg,web,docs,dev]' || $(MISSING)
	@touch $@

# torchvision and what needs it live apart: where it does not fit the torch beside it, half of the other packages fail with it
$(VISION)/installed: $(VENV)/demo-installed
	@echo "Installing torchvision, timm and transformers into $(VISION) ..."
	@$(PYTHON) -m venv $(VISION)
	@$(VISION)/bin/python -m pip install $(OPTIONS) torch || $(MISSING)
	@$(VISION)/bin/python -m pip install $(OPTIONS) -e '.[timm,torchvision,transformers,detection]' pytest pytest-xdist hypothesis beartype scipy || $(MISSING)
	@touch $@

# the pictures and the figures of the README and the docs, from photos, a browser and the committed JSON
figures: $(VENV)/dev-installed
	$(BIN)/python benchmarks/readme.py
	$(BIN)/python benchmarks/pictures.py
	EQUIFORM_SCREENSHOT=docs/web.png $(BIN)/python -m pytest -m "" tests/test_web_page.py

# ratios beside the committed ones: what got slower, for a person to look at
bench: $(VENV)/dev-installed
	$(BIN)/python benchmarks/guard.py

clean:
	rm -rf $(VENV) $(VISION) $(OUT) site .pytest_cache .ruff_cache
