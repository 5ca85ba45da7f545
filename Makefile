# The commands of this project. `make help` lists them; all of them set up .venv first if need be.
# Choose another Python with: make PYTHON=/path/to/python3.12 setup

PYTHON ?= $(shell python3.11 -c "" >/dev/null 2>&1 && echo python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CODE := synth catalog flows dashboard tests infra
HOME_FOLDER = $(if $(COHORTIUM_HOME),$(COHORTIUM_HOME),cohortium-data)

# Installed without bytecode, Python writes it on first use; forbidden to, every process would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format dashboard clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## make .venv with everything pinned (nothing happens when it is up to date)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Cohortium needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | head -1)." >&2; \
	  echo "Install one (Debian: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "'$(PYTHON)' cannot make a virtual environment (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Installing the pinned environment into $(VENV) (about a minute)..."
	@$(PIP) install --no-compile -r requirements.lock # Python compiles what is used, when it is used: half the time
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## build two demo cohorts, brain MRI and radiographs, then say where to look next
	@$(BIN)/cohortium build flows/specs/demo.toml
	@$(BIN)/cohortium build flows/specs/demo-radiographs.toml
	@echo
	@echo "Where to look next:"
	@echo "  make dashboard                  # subjects, images, requested against measured"
	@echo "  $(BIN)/cohortium sql \"SELECT kind, count(*) AS images FROM released_images GROUP BY kind\""
	@echo "  $(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///$(HOME_FOLDER)/mlflow.db  # the build's run"
	@echo "  $(BIN)/cohortium serve      # Prefect (port 4200) and MLflow (5000) pages, recipes built on schedule"
	@echo "  $(BIN)/cohortium --help     # everything else"

test: setup  ## run the tests
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		--durations 25 --durations-min 5

check: setup  ## format, lint, types, direction of imports
	@$(BIN)/ruff format --check --quiet . || { echo "Run 'make format'." >&2; $(BIN)/ruff format --check .; }
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup  ## rewrite the code as `make check` wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

dashboard: setup  ## open the dashboard on http://127.0.0.1:8501
	@$(BIN)/cohortium dashboard

clean:  ## remove .venv and caches; cohorts are kept
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
