# Two commands: `make book` and `make test`. Each works alone, from a clean clone; `make help` lists the rest.

.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# The environment is made again when one of these files changed, and not when it was only touched.
STAMP := $(VENV)/.made-$(shell cat requirements-build.lock requirements.lock pyproject.toml | cksum | tr ' ' '-')
# Values reach the command through the environment, letter by letter: neither make nor the shell reads them.
override PYTHON := $(value PYTHON)
override SCALE := $(value SCALE)
override SEED := $(value SEED)
override MODEL := $(value MODEL)
override ONLY := $(value ONLY)
override JOBS := $(value JOBS)
override PORT := $(value PORT)
override BEFORE := $(value BEFORE)
export PYTHON SCALE SEED MODEL ONLY JOBS PORT BEFORE
# All that was given of a run goes to its command, which refuses what it does not take; empty is not given.
GIVEN = $${SCALE:+--scale "$$SCALE"} $${SEED:+--seed "$$SEED"} $${MODEL:+--model "$$MODEL"} $${ONLY:+--only "$$ONLY"}
PARALLEL = $${JOBS:+--jobs "$$JOBS"}

.PHONY: help env book test test-gpu execute site check copies serve status claims results bench nano mutants twice tidy format clean
.PHONY: notebooks exercises student slides wheels published release links changes install-test
.PHONY: push-executed last-week upload-release

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  options: SCALE=smoke|book|paper  ONLY=08  JOBS=2  SEED=0  MODEL=nano  PORT=8000  PYTHON=python3"

env: $(STAMP) ## make .venv and install the lock file into it

$(STAMP):
	@command -v "$$PYTHON" >/dev/null || { echo "$$PYTHON was not found: install Python 3.11 or newer, or name it: make PYTHON=..."; exit 1; }
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, and $$PYTHON is $$("$$PYTHON" -V 2>&1): name another with make PYTHON=..."; exit 1; }
	@test -x "$(PY)" || "$$PYTHON" -m venv "$(VENV)" || { echo "$$PYTHON has no venv module (on Debian: install python3-venv)"; exit 1; }
	@echo "installing the packages of requirements.lock into $(VENV) (a few minutes the first time)"
	@"$(PY)" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements-build.lock -r requirements.lock
	@"$(PY)" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@"$(PY)" -m compileall -qq -j 0 -x '/tests?/|transformers/models/(?!auto|gpt|llama|encoder)' "$(VENV)"/lib lib || true # pip would do it on one core
	@rm -f "$(VENV)"/.made-* && touch "$@"

book: env ## execute every notebook that changed and build the pages
	@"$(PY)" -m entanglement_book book $(GIVEN) $(PARALLEL)

test: env ## everything that must hold: lint, types, tests, notebooks at smoke, the built site
	@"$(PY)" -m entanglement_book test $(GIVEN) $(PARALLEL)

test-gpu: env ## the tests that need a CUDA device
	@"$(PY)" -m pytest -q -m gpu

execute: env ## execute every notebook that changed
	@"$(PY)" -m entanglement_book execute $(GIVEN) $(PARALLEL)

site: env ## build the pages from stored outputs
	@"$(PY)" -m entanglement_book site $(GIVEN)

check: env ## open every built page in a browser
	@"$(PY)" -m entanglement_book check $(GIVEN)

copies: env ## the built book as one PDF and one EPUB
	@"$(PY)" -m entanglement_book copies $(GIVEN)

serve: env ## show the pages on localhost
	@"$(PY)" -m entanglement_book serve $(GIVEN) $${PORT:+--port "$$PORT"}

notebooks: env ## open the chapters in JupyterLab, in the book's environment
	@test -x "$(VENV)/bin/jupyter-lab" || { echo "installing JupyterLab (requirements-lab.lock)"; "$(PY)" -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-lab.lock; }
	@"$(PY)" -m jupyterlab --notebook-dir .

exercises: env ## the exercises as notebooks to work in, under _build/exercises
	@"$(PY)" -m entanglement_book exercises

student: env ## the executed book without its solutions: pages, PDF, EPUB
	@"$(PY)" -m entanglement_book student $${SCALE:+--scale "$$SCALE"}

slides: env ## a deck of slides a part, from the executed chapters
	@"$(PY)" -m entanglement_book slides $${SCALE:+--scale "$$SCALE"}

wheels: env ## the science and the book as wheels
	@"$(PY)" -m entanglement_book wheels

published: env ## executed notebooks that any viewer can show
	@"$(PY)" -m entanglement_book published $${SCALE:+--scale "$$SCALE"}

release: env ## all that a release gives away, with checksums (after: make book slides copies)
	@"$(PY)" -m entanglement_book release $${SCALE:+--scale "$$SCALE"}

links: env ## ask every address to which the pages lead; wants a network
	@"$(PY)" -m entanglement_book links $${SCALE:+--scale "$$SCALE"}

changes: env ## what differs from chapters executed before: make changes BEFORE=folder; wants a network
	@"$(PY)" -m entanglement_book changes $${SCALE:+--scale "$$SCALE"} --versions --before "$$BEFORE"

push-executed: ## publish: make _build/published the branch "executed" of origin (in GitHub's workflow)
	@cd _build/published && export GIT_DIR="$(CURDIR)/.git" GIT_WORK_TREE=. GIT_INDEX_FILE="$(CURDIR)/_build/published.index" \
	  && rm -f "$$GIT_INDEX_FILE" && git add --all . \
	  && git push --quiet --force origin "$$(git -c user.name=book -c user.email=book@localhost commit-tree -m 'Executed notebooks' "$$(git write-tree)")":refs/heads/executed

last-week: ## publish: fetch the chapters that the last weekly run executed into _build/last-week (in GitHub's workflow)
	@mkdir -p _build/last-week && { gh run download --name executed --dir _build/last-week || echo "there is no earlier run to compare with"; }

upload-release: ## publish: give what make release collected to the release of this tag (in GitHub's workflow)
	@gh release create "$$GITHUB_REF_NAME" _build/release/* --title "$$GITHUB_REF_NAME" --generate-notes

install-test: env ## at night: an empty environment installs the wheel and a chapter's first cell installs the book, with all they need
	@INSTALL_ALL=1 "$(PY)" -m pytest -q tests/book/test_installing.py tests/book/test_wheels.py

status: env ## which notebooks would run, and why
	@"$(PY)" -m entanglement_book status $(GIVEN)

claims: env ## the ledger of claims with its verdicts
	@"$(PY)" -m entanglement_book claims $(GIVEN)

results: env ## compute the grids that are too big for a notebook (resumable; five to ten hours on two cores, by the machine)
	@"$(PY)" -m entanglement_book results run $(GIVEN) $(PARALLEL)

bench: env ## time the gradient geometry and a training step against other ways (half an hour alone on two cores; wants 22 GB of memory)
	@"$(PY)" -m entanglement_book bench $(GIVEN)

nano: env ## pretrain the small language model again (half an hour on two cores)
	@"$(PY)" -m entanglement_book nano $(GIVEN)

mutants: env ## at night: change the code in small ways, and see whether the tests notice (an hour or two)
	@"$(PY)" -m entanglement_book mutants $(GIVEN) $(PARALLEL)

twice: env ## at night: build everything at smoke from two clones and compare every byte (a quarter of an hour)
	@"$(PY)" -m entanglement_book twice $(GIVEN) $(PARALLEL)

tidy: env ## bring the notebooks into the form in which they are committed
	@"$(PY)" -m entanglement_book tidy

format: env ## format and lint the code, notebooks included
	@"$(PY)" -m ruff check --fix . && "$(PY)" -m ruff format .

clean: ## remove everything that was made, the environment excepted
	rm -rf _build build .pytest_cache .ruff_cache .mypy_cache .hypothesis
