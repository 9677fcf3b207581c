# Everything on a fresh clone: `make demo` to see it, `make test` to check it. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-out

# Qt needs a screen; where there is none, a virtual one does.
SCREEN := $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname -s)))
virtual_screen = $(if $(SCREEN),,xvfb-run -a -n $(1) -s "-screen 0 1920x1200x24")
VIRTUAL_SCREEN := $(call virtual_screen,99)
# Small tensors in several threads mostly wait for each other, on a busy machine for minutes.
THREADS ?= 1
TEST_ENVIRONMENT := NAPARI_ENSURE_PLUGIN_MAIN_THREAD=1 OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) QT_API=pyqt6
in_screen = $(TEST_ENVIRONMENT) $(call virtual_screen,$(1))
PYTEST_ARGUMENTS ?=
QUALITY_ARGUMENTS ?=
FIGURES_ARGUMENTS ?=
SMALL := --device cpu --dataset em_isbi2012 --labels 2 --seed 0 --preset tiny --tile 128 --pretrain-batch 8 --batch 4 \
    --minutes 0.6 --finetune-minutes 0.6

.PHONY: help demo test lint format typecheck pytest pytest-widgets pytest-rest bench quality quality-small results figures tutorial install clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: install ## the whole loop on data it brings along; without a screen, pictures and layers go to demo-out/
	$(VIRTUAL_SCREEN) $(BIN)/napari-affmae demo --out $(OUT) $(if $(SCREEN),,--headless)

test: lint typecheck pytest ## everything that must hold: style, types, manifest, tests

lint: install ## style, formatting and the plugin manifest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/npe2 validate src/napari_affmae/napari.yaml

typecheck: install ## mypy, strict
	$(BIN)/mypy

pytest: install ## the tests, in two processes; PYTEST_ARGUMENTS="-k word" runs some of them, in one
	$(if $(PYTEST_ARGUMENTS),$(call in_screen,99) $(BIN)/python -m pytest $(PYTEST_ARGUMENTS), \
	    $(MAKE) --no-print-directory -j2 pytest-widgets pytest-rest)

# Live mode's tests mostly compute, so that the two processes take about equally long.
LIVE := tests/widgets/test_live.py
pytest-widgets:
	$(call in_screen,99) $(BIN)/python -m pytest tests/widgets --ignore=$(LIVE)

pytest-rest:
	$(call in_screen,199) $(BIN)/python -m pytest $(LIVE) $(filter-out tests/widgets tests/conftest.py tests/__pycache__,$(wildcard tests/*))

bench: install ## steps of this machine against a compiled ViT-MAE; figures go to bench.json, too
	$(BIN)/napari-affmae bench --out bench.json

quality: install ## methods compared on real images: make quality DATA=folder; lines add up in quality.jsonl
	$(BIN)/python -m pip install --disable-pip-version-check -q monai scikit-learn
	AFFMAE_DATA=$(DATA) $(BIN)/python tests/benchmarks/quality.py $(QUALITY_ARGUMENTS)

results: ## write docs/results.md from the lines in docs/results.jsonl
	$(BIN)/python tests/benchmarks/quality.py --report docs/results.jsonl > docs/results.md

quality-small: install ## the same in under ten minutes on a CPU, one seed: make quality-small DATA=folder
	$(BIN)/python -m pip install --disable-pip-version-check -q monai scikit-learn
	OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) AFFMAE_DATA=$(DATA) $(BIN)/python tests/benchmarks/quality.py \
	    $(SMALL) --out quality-small.jsonl
	$(BIN)/python tests/benchmarks/quality.py --report quality-small.jsonl

figures: install ## draw docs/figures: make figures DATA=folder FIGURES_ARGUMENTS="--model file --pair folder --lines file"
	$(BIN)/python -m pip install --disable-pip-version-check -q matplotlib
	AFFMAE_DATA=$(DATA) $(BIN)/python tests/benchmarks/figures.py $(FIGURES_ARGUMENTS)

tutorial: install ## walk the dock and photograph docs/tutorial: make tutorial DATA=folder
	AFFMAE_DATA=$(DATA) $(VIRTUAL_SCREEN) $(BIN)/python tests/benchmarks/tutorial.py

format: install ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.package ## .venv with torch, the package (editable), napari and the test tools

$(VENV)/.system: scripts/system_packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) came. Run: make PYTHON=python3.12 ..." >&2; exit 1; }
	scripts/system_packages.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.system scripts/install_torch.py
	$(BIN)/python scripts/install_torch.py
	@touch $@

$(VENV)/.package: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[all,test]'
	@touch $@

clean: ## remove the environment, the caches and what the demo wrote
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache demo-out
	find src kernels tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
