# make train   train K-2:4 QMIX on simple_spread
# make test    run all tests, two files side by side (TEST_PROCESSES=1: one after the other)
# make lint    ruff and mypy
# make site    the documentation as pages in site/, every link checked (search needs a server: python -m http.server -d site)
# make reliability   long runs with faults (docs/reliability.md)
# make tasks   every method on every task, as far as docs/data/tasks.csv lacks it (docs/tasks.md): hours
# make venv    only build .venv

PYTHON ?= $(shell for name in python3.11 python3; do $$name -c '' 2>/dev/null && echo $$name && break; done)
VENV := .venv
TEST_PROCESSES ?= 2
READY := $(VENV)/.ready
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: train test lint site reliability tasks venv clean

train: $(READY)
	$(RUN) rllib train -f tuned_examples/k24_spread.yaml

# A file's tests stay in one process, which keeps its Ray; files go out in their order, so that long ones are not last.
test: $(READY)
	$(RUN) python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

reliability: $(READY)
	$(RUN) python -m pytest -m campaign tests/reliability

tasks: $(READY)
	$(RUN) python -m benchmarks.campaign --out results/tasks --known docs/data/tasks.csv --csv results/tasks.csv

lint: $(READY)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

site: $(READY)
	$(RUN) NO_MKDOCS_2_WARNING=1 mkdocs build --strict

venv: $(READY)

# The stamp is written last, so an installation that failed half-way is started again.
$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; make PYTHON=/path/to/python names one" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install -r requirements.txt -r requirements-dev.txt
	$(VENV)/bin/python -m pip install --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
