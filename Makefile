# The two commands a newcomer needs: `make quickstart` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed

.PHONY: quickstart hand-small hand-base pictures test test-fast lint docs release-check gpu-check clean help

help:
	@echo "make quickstart   install, render hands, train, evaluate, draw pictures (about 12 minutes on 2 cores)"
	@echo "make hand-small   the weights that ship: render, train (hours), evaluate, pack; goes on where it stopped"
	@echo "make hand-base    the same of the full-width network, on a GPU"
	@echo "make test         install and run every test (15 to 30 minutes on 2 cores)"
	@echo "make test-fast    the developer loop: everything but the slow tests"
	@echo "make lint         ruff, mypy, import layers, spelling"
	@echo "make docs         build the documentation site into site/; warnings are errors"
	@echo "make release-check  build wheel and sdist, and test the wheel outside the checkout"
	@echo "make gpu-check    on a machine with a GPU: speed, tests and launch lines; about half an hour"
	@echo "make clean        remove the environment and builds; runs and data stay"

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $(INSTALLED)

quickstart: $(INSTALLED)
	$(BIN)/a2j build synthetic_hand --crop_size 80 --train 24000 --validation 512 --test 2000
	$(BIN)/a2j show synthetic_hand --crop_size 80 --out runs/quickstart/examples.png
	$(BIN)/python train.py --config quickstart
	$(BIN)/python eval.py --workdir runs/quickstart
	@echo
	@echo "Pictures to look at: runs/quickstart/examples.png and runs/quickstart/eval/*.png"

# A training that was interrupted goes on; what is built already stays.
hand-small: CROP = 96
hand-small: FILE = a2j_jax/weights/hand-small.npz
hand-base: CROP = 128
hand-base: FILE = hand-base.npz
hand-small hand-base: RUN = runs/$(subst -,_,$@)
hand-small hand-base: $(INSTALLED)
	$(BIN)/a2j build synthetic_hand --scenes varied --crop_size $(CROP) --train 120000 --validation 2000 --test 2000
	$(BIN)/a2j build synthetic_hand --scenes shifted --crop_size $(CROP) --train 0 --validation 1000 --test 2000
	$(BIN)/a2j train --config $(notdir $(RUN))
	$(BIN)/a2j eval --workdir $(RUN)
	$(BIN)/a2j eval --workdir $(RUN) --data_dir data/shifted --out $(RUN)/shifted
	$(BIN)/a2j export $(RUN) $(FILE) --overwrite
	$(BIN)/python benchmarks/find_hands.py $(FILE) --fit --frames 1000
	sha256sum $(FILE)

# What README and docs show of the quickstart is what its last run drew.
pictures:
	cp runs/quickstart/eval/frames.png docs/images/quickstart_frames.png
	cp runs/quickstart/eval/success_curve.png docs/images/quickstart_success.png
	cp runs/quickstart/examples.png docs/images/rendered_hands.png
	$(BIN)/a2j figure 1 --checkpoint runs/quickstart
	$(BIN)/a2j figure 3 --checkpoint runs/quickstart
	$(BIN)/python benchmarks/hand_joints.py --out docs/images/hand_joints.png
	cp runs/quickstart/figures/figure_1.png runs/quickstart/figures/figure_3.png docs/images/

# One more than cores: tests of several processes wait for each other much of the time.
TEST_WORKERS ?= $(shell $(BIN)/python -c 'import os; print(os.cpu_count() + 1)')

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(TEST_WORKERS)

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

$(VENV)/.installed-docs: $(INSTALLED)
	@$(PIP) --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

release-check: $(INSTALLED) lint docs
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m pytest tests/test_wheel.py
	@ls -l dist

$(VENV)/.installed-cuda: $(INSTALLED)
	@$(PIP) --editable '.[cuda,torch]'
	@touch $@

# On a machine with a GPU: what docs say was NOT RUN. Results: benchmarks/results/speed.jsonl and docs/speed.md.
gpu-check: $(VENV)/.installed-cuda
	nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
	$(BIN)/python benchmarks/speed.py gpu_inference gpu_training
	$(BIN)/python benchmarks/speed.py --write_docs
	$(BIN)/python -m pytest -n 0 -m "not slow" tests/models tests/training tests/inference
	$(BIN)/a2j build synthetic_hand --crop_size 80 --train 24000 --validation 512 --test 2000
	CUDA_VISIBLE_DEVICES=0 $(BIN)/a2j train --config quickstart --workdir runs/gpu_check/one
	$(BIN)/a2j train --config quickstart --workdir runs/gpu_check/pmap --config.parallel=pmap --config.optim.epochs=1
	$(BIN)/a2j train --config quickstart --workdir runs/gpu_check/mesh --config.parallel=mesh --config.optim.epochs=1
	$(BIN)/a2j eval --workdir runs/gpu_check/one

clean:
	rm -rf $(VENV) build dist site
