# `make demo` and `make test` do all of their set-up in .venv; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

PAGES := $(BIN)/python -m reports.page_blocks docs

.PHONY: demo test lint types contracts fast bench validate samplers-table scenario-tables whole-models known-chips constants \
  eager-profile power-bands attention-worth constants-worth tables pages study clean

demo: $(VENV)/.demo
	$(BIN)/roofscape demo

test: lint types contracts
	$(BIN)/python -m pytest
	sh tests/wheel_smoke.sh $(BIN)/python

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow and not browser"

lint: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

# Errors of kernel models in docs/tables, from measured tables, and the bands that predictions carry.
validate: $(VENV)/.silicon
	$(BIN)/roofscape validate --markdown docs/tables/validation.md --classes docs/tables/size_classes.md \
	  --write-bands simulator/bands.json
	$(BIN)/python benchmarks/gpu_ranking.py docs/tables/gpu_ranking.md
	$(BIN)/python benchmarks/untuned_experts.py docs/tables/untuned_experts.md
	$(BIN)/python benchmarks/foreign_attention.py docs/tables/foreign_attention.md
	$(BIN)/python benchmarks/eager_attention.py docs/tables/eager_attention.md
	$(BIN)/python benchmarks/moved_constants.py docs/tables/moved_constants.md
	$(BIN)/python benchmarks/settled_products.py docs/tables/settled_products.md
	$(BIN)/python benchmarks/gemm_repeats.py docs/tables/gemm_repeats.md
	$(PAGES)

# All tables of errors and constants in docs/tables, and the blocks of the pages that show parts of them; five minutes.
tables: validate whole-models known-chips constants

# The generated blocks of all pages, from the tables of docs/tables as they are; every target that makes tables does it.
pages: $(VENV)/.demo
	$(PAGES)

# The tables of docs/scenarios.md; about two minutes of CPU time.
scenario-tables: $(VENV)/.dev
	for name in infill edit lengths rollouts budget budget-few-shot; do \
		$(BIN)/roofscape scenario $$name --markdown docs/tables/scenario-$$name.md || exit 1; \
	done
	$(PAGES)

# The study of studies/denoising-chip, rebuilt whole into out/denoising-chip.
study: $(VENV)/.dev
	$(BIN)/python studies/denoising-chip/study.py --markdown studies/denoising-chip/findings.md

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/ceilings.py
	$(BIN)/python benchmarks/simulate_speed.py
	$(BIN)/python benchmarks/explore_speed.py

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Roofscape needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[capture]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.silicon: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[silicon]'
	touch $@

# The table of docs/samplers.md: every sampler at the dimensions of LLaDA-8B, 256 tokens after a prompt of 1,024.
samplers-table: $(VENV)/.demo
	$(BIN)/roofscape compare llama-3.1-8b@autoregressive any_order llada llada:steps=64 dream:steps=64 \
	  mdlm:steps=64 sedd:steps=64 udlm:steps=64 \
	  fast_dllm:cache=none,block_length=32 fast_dllm:cache=prefix,block_length=32 \
	  fast_dllm:cache=dual,block_length=32 fast_dllm:cache=dual,block_length=32,threshold=0.9 \
	  dkv_cache:block_length=32 bd3lm:block_length=32 sdar:block_length=4 llada_edit:block_length=32 \
	  --model llada-8b --device meta --prompt-length 1024 --gen-length 256 --markdown docs/tables/samplers.md

# The tables of docs/whole-models.md: captured on meta, simulated, beside what others measured.
whole-models: $(VENV)/.demo
	$(BIN)/roofscape validate-models --markdown docs/tables/whole_models.md
	$(BIN)/python benchmarks/prompt_steps.py docs/tables/prompt_steps.md
	$(BIN)/python benchmarks/waiting_power.py docs/tables/waiting_power.md
	$(BIN)/python benchmarks/other_boards.py docs/tables/other_boards.md
	$(PAGES)

# The table of docs/area-power-cost.md: area, power and cost of real chips, published and predicted.
known-chips: $(VENV)/.demo
	$(BIN)/roofscape known-chips --markdown docs/tables/known_chips.md
	$(PAGES)

# What each constant of attention is worth; some minutes of CPU time.
attention-worth: $(VENV)/.silicon
	$(BIN)/python benchmarks/attention_worth.py docs/tables/attention_worth.md
	$(PAGES)

# Every calibration constant of the shipped chips, with its meaning and source.
constants: $(VENV)/.demo
	$(BIN)/roofscape chips --constants docs/tables/constants.md
	$(PAGES)

# What each constant and rule of matrix products is worth; some minutes.
constants-worth: $(VENV)/.silicon
	$(BIN)/python benchmarks/gemm_constants_worth.py docs/tables/gemm_constants_worth.md
	$(PAGES)

# One measured forward by kind of kernel; PROFILE is the file that docs/whole-models.md names.
eager-profile: $(VENV)/.demo
	$(BIN)/python benchmarks/eager_profile.py $(PROFILE) docs/tables/eager_profile.md
	$(PAGES)

# The bands of power that simulated joules carry; POWER is the H200's log that docs/energy.md names.
power-bands: $(VENV)/.silicon
	$(BIN)/python benchmarks/power_bands.py $(POWER) simulator/power_bands.json docs/tables/power_bands.md
	$(PAGES)

clean:
	rm -rf $(VENV) out build dist *.egg-info
