# Two commands do everything on a new machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-report

.PHONY: help demo test check figures clean
help:
	@echo "make demo   install into $(VENV) and run the demonstration (writes $(OUT)/)"
	@echo "make test   install the development tools as well, and run every check and test"
	@echo "make check  lint, format and types alone"
	@echo "make clean  remove $(VENV) and what was made"

demo: $(VENV)/demo-installed
	$(BIN)/equiform demo --out $(OUT)

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

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
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MISSING = { echo "The installation failed; it needs a package index (PyPI or a mirror: see 'pip config')."; exit 1; }

$(VENV)/demo-installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing Equiform and its dependencies into $(VENV) ..."
	@$(INSTALL) torch || $(MISSING)
	@$(INSTALL) -e '.[demo]' || $(MISSING)
	@touch $@

$(VENV)/dev-installed: $(VENV)/demo-installed
	@echo "Installing the development tools into $(VENV) ..."
	@$(INSTALL) -e '.[demo,transformers,onnx,clouds,dev]' || $(MISSING)
	@touch $@

# the picture and the figures of the README, from a demonstration and the committed JSON
figures: $(VENV)/demo-installed
	$(BIN)/equiform demo --out $(OUT)
	cp $(OUT)/accuracy.png docs/digits.png
	$(BIN)/python benchmarks/readme.py

clean:
	rm -rf $(VENV) $(OUT) .pytest_cache .ruff_cache
