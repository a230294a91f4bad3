# make serve | install | test | torture | lint | lock. Everything is set up in .venv/ from locks/; DEVICE=cuda12 or cuda13 adds a GPU.
PYTHON ?= python3
DEVICE ?= cpu
BIN := .venv/bin

.PHONY: serve install test torture lint lock clean

serve: .venv/$(DEVICE)
	$(BIN)/inkling serve

install: .venv/$(DEVICE)

test: .venv/dev
	$(BIN)/pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder  # tests/conftest.py has the order

# Minutes each; a full disk is among the faults where this may mount one, as root. TORTURE="--seed 7 --runs 200" varies it.
torture: .venv/dev
	@status=0; for database in sqlite postgresql; do \
		$(BIN)/python -m tests.torture --database $$database $(TORTURE) || status=1; \
	done; exit $$status

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# One stamp a lock: what it lists is installed in .venv/, and `inkling` runs from this checkout.
.venv/%: locks/%.txt pyproject.toml | $(BIN)/python
	@echo 'Setting up .venv: a minute or two'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Half an environment, as where python3-venv is missing, would pass for a whole one at the next try.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Inkling needs Python 3.11 or newer; name one with PYTHON=python3.12")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# Universal locks: one file serves every Python from 3.11 on and every platform.
LOCK = .venv-lock/bin/uv pip compile pyproject.toml --extra install --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --upgrade

lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) -o locks/cpu.txt
	$(LOCK) --extra dev -o locks/dev.txt
	$(LOCK) --extra cuda12 -o locks/cuda12.txt
	$(LOCK) --extra cuda13 -o locks/cuda13.txt
	$(LOCK) --extra telemetry -o locks/telemetry.txt

clean:
	rm -rf .venv .venv-lock
