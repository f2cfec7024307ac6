# make demo   label the embedded sample with the embedded model, then train one and label with that
# make test   pass the tests
# make prism  build Beam's own portable runner, for the tests that run on it; needs Go
# make airflow an environment with Airflow, for the test of the nightly DAG; Python 3.11 or newer
# make lint   formatting, lint and types
# make lock   renew requirements.txt from setup.py, and tests/requirements.txt
# make bench  measure this package against the alternatives (benchmarks/)
# make sample draw the sample's images and train its model again

SHELL := /bin/sh

# The first Python between 3.10 and 3.13; override with make PYTHON=..., after make clean if there
# is a .venv of another one.
CHECK := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c "$(CHECK)" 2>/dev/null && echo $$p && break; done)

BIN := .venv/bin

.PHONY: demo test prism airflow lint lock bench sample clean

demo: .venv/installed
	rm -rf demo
	$(BIN)/python -m pipeline label --input sample --model sample --output demo/labeled
	$(BIN)/python -m pipeline finetune --input sample --model sample --output demo/trained
	$(BIN)/python -m pipeline label --input sample --model demo/trained/export/* \
		--output demo/labeled-by-trained

test: .venv/installed-tests
	$(BIN)/python -m pytest -n logical --cov --cov-report=term

prism: $(BIN)/prism

# Of the version of Beam that is installed. Without cgo, as it needs no compiler of C then.
$(BIN)/prism: .venv/installed
	CGO_ENABLED=0 GOBIN="$(CURDIR)/$(BIN)" go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$$( \
		$(BIN)/python -c "import apache_beam; print(apache_beam.__version__)")

airflow: .venv-airflow/installed

.venv-airflow/installed: .venv/installed-tests tests/launch/airflow/requirements.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-airflow
	VIRTUAL_ENV=.venv-airflow $(BIN)/uv pip install --quiet -r tests/launch/airflow/requirements.txt
	touch $@

lint: .venv/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck launch/*.sh launch/nightly/*.sh
	$(BIN)/hadolint launch/Dockerfile

lock: .venv/installed-tests
	$(BIN)/uv pip compile setup.py --universal --python-version 3.10 --upgrade \
		--custom-compile-command "make lock" -o requirements.txt
	$(BIN)/uv pip compile tests/requirements.in --universal --python-version 3.10 --upgrade \
		-c requirements.txt --custom-compile-command "make lock" -o tests/requirements.txt
	$(BIN)/uv pip compile tests/launch/airflow/requirements.in --universal --python-version 3.11 --upgrade \
		--only-binary :all: --custom-compile-command "make lock" -o tests/launch/airflow/requirements.txt

bench: .venv/installed-tests
	$(MAKE) -C benchmarks bench

sample: .venv/installed
	$(BIN)/python -m tools.sample.train
	$(BIN)/python -m tools.sample.write_images

clean:
	rm -rf .venv .venv-airflow demo build dist *.egg-info

.venv/installed: requirements.txt setup.py
	@$(or $(PYTHON),false) -c "$(CHECK)" || { echo "Python 3.10 to 3.13 with its venv module" \
		"is needed (on Debian and Ubuntu: apt-get install python3-venv)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing Beam and TensorFlow into .venv: about two minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation -e .
	touch $@

.venv/installed-tests: .venv/installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@
