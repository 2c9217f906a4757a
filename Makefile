# One .venv, one editable install: what is tested, what the book runs and the
# tree are the same files. `make` alone lists the targets.
PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8000
# Processes that share out the test files; each keeps to one BLAS thread.
WORKERS ?= 2
BIN    := $(VENV)/bin
STRICT := -W -n --keep-going

# Our products are small: a second BLAS thread costs more in waiting than it adds, and beside
# another busy process it makes a run many times slower.
export OPENBLAS_NUM_THREADS ?= 1

# Each set of extras is installed once, and again when pyproject.toml changes.
READY      = $(VENV)/.installed-$(1)
READY_BOOK = $(call READY,book+scale)
READY_TEST = $(call READY,test+book+scale)
READY_LINT = $(call READY,lint)
READY_BENCH = $(call READY,bench)
READY_ALL  = $(call READY,test+book+scale+browser)

.DEFAULT_GOAL := help
.PHONY: help book draft serve notebooks test test-nojit fuzz test-floors lint check-book bench resume-bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

plus  := +
comma := ,
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(subst $(plus),$(comma),$*)]'
	@touch $@

book: $(READY_BOOK) ## run every chapter and build the book; any warning fails
	rm -rf _build
	$(BIN)/python book/_ext/run_chapters.py
	$(BIN)/jupyter-book build . $(STRICT)
	@echo "Open _build/html/index.html in a browser, or run make serve."

draft: $(READY_BOOK) ## build the book for writing: changed chapters only, warnings allowed
	$(BIN)/jupyter-book build .

_build/html/index.html:
	$(MAKE) book

serve: _build/html/index.html ## look at the book on http://127.0.0.1:8000 (PORT=8000)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

notebooks: $(READY_BOOK) ## write all chapters as .ipynb to _build/notebooks
	$(BIN)/python book/_ext/notebooks.py _build/notebooks

# The book that was built last may be older than the source: check-book looks at it.
UNBUILT := -m 'not book and not browser and not slow' -n $(WORKERS) --dist loadfile

test: $(READY_TEST) ## run the whole test suite, doctests included
	$(BIN)/python -m pytest $(UNBUILT)

test-nojit: $(READY_TEST) ## run the suite with kernels as plain Python, and read its coverage
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(UNBUILT) \
	  --cov=refimpl --cov-report=term-missing:skip-covered

fuzz: $(READY_TEST) ## build 10,000 corrupt matrices of each format, and multiply more of them: minutes
	$(BIN)/python -m pytest -m slow tests

# Old versions use what their newest neighbours deprecate; here that is no error.
test-floors: ## run the suite on Python 3.11 with the oldest versions that pyproject.toml allows
	rm -rf .venv-floors
	python3.11 -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-floors/bin/uv pip install --quiet --python .venv-floors/bin/python \
	  --resolution lowest-direct --editable '.[test,book,scale]'
	.venv-floors/bin/python -m pytest -W default::DeprecationWarning $(UNBUILT)

lint: $(READY_LINT) ## check style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

check-book: $(READY_ALL) ## check the built book: links, ids, and every page in headless Chromium
	REFIMPL_REQUIRE_BOOK=1 $(BIN)/python -m pytest tests/book -m 'book or browser'

# Two threads in several libraries: MKL, PyTorch and Numba wait for work in one kind of OpenMP,
# and all let their threads sleep after less than a millisecond. While they wait in circles, they
# take a core from the contender after them.
POOLS := MKL_THREADING_LAYER=GNU GOMP_SPINCOUNT=10000 OPENBLAS_THREAD_TIMEOUT=20

bench: ## measure every kernel and training steps beside SciPy, MKL and PyTorch, anew each time
	rm -rf _build/bench
	$(MAKE) resume-bench

resume-bench: $(READY_BENCH) ## go on with a bench that was stopped
	$(POOLS) $(BIN)/python -m refimpl run kernel_grid \
	  --folder _build/bench --summary book/results/kernels.json
	$(POOLS) $(BIN)/python -m refimpl run dense_step \
	  --folder _build/bench --summary book/results/dense_step.json
	$(POOLS) $(BIN)/python -m refimpl run sparsegpt_speed \
	  --folder _build/bench --summary book/results/sparsegpt_speed.json
	$(POOLS) $(BIN)/python -m refimpl run exact_obs_speed \
	  --folder _build/bench --summary book/results/exact_obs_speed.json

clean: ## remove what was built; .venv stays
	rm -rf _build build *.egg-info .numba_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .coverage htmlcov
