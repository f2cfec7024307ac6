# make demo   label the embedded sample with the embedded model, then train one and label with that
# make test   run the tests; with COVERAGE=1, show the lines that none of them reaches, which takes
#             twice as long on Python 3.11
# make prism  build Beam's own portable runner, for the tests that run on it; needs Go
# make flink  fetch Flink and Beam's job server for it, for a cluster on this machine; needs Java and Maven
# make cluster-test run the label job on such a cluster; skipped without Java or Maven
# make airflow make an environment with Airflow, for the test of the nightly DAG; Python 3.11 or newer
# make lint   formatting, lint and types
# make lock   write into the locks what setup.py and the requirements.in files ask for; other pins stay
# make upgrade the same, with the newest versions of everything
# make bench  measure this package against the alternatives (benchmarks/)
# make sample draw the sample's images and train its model again

SHELL := /bin/sh

# The first Python between 3.10 and 3.13; override with make PYTHON=..., after make clean if there
# is a .venv of another one.
CHECK := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c "$(CHECK)" 2>/dev/null && echo $$p && break; done)

BIN := .venv/bin
# uv takes a quarter of pip's time; pip also knows the mirrors that are set up for it alone.
install = $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1) \
	|| $(PIP) --require-hashes -r $(1)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test prism flink cluster-test airflow lint ruff mypy shellcheck hadolint lock upgrade bench sample clean

demo: .venv/installed
	rm -rf demo
	$(BIN)/python -m pipeline label --input sample --model sample --output demo/labeled
	$(BIN)/python -m pipeline finetune --input sample --model sample --output demo/trained
	$(BIN)/python -m pipeline label --input sample --model demo/trained/export/* \
		--output demo/labeled-by-trained

# Each worker gets neighboring tests, which share models and stores, and takes over others' when it is done.
PYTEST := $(BIN)/python -m pytest -n logical --dist worksteal

test: .venv/installed-tests
	$(PYTEST) $(if $(COVERAGE),--cov --cov-report=term)

prism: $(BIN)/prism

# The same version as the installed Beam. Without cgo, it needs no C compiler.
$(BIN)/prism: .venv/installed
	CGO_ENABLED=0 GOBIN="$(CURDIR)/$(BIN)" go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$$( \
		$(BIN)/python -c "import apache_beam; print(apache_beam.__version__)")

flink: .venv/flink/installed

.venv/flink/installed: launch/flink.sh launch/flink/pom.xml | .venv/installed
	rm -rf .venv/flink/lib .venv/flink/job-server
	PATH="$(CURDIR)/$(BIN):$$PATH" launch/flink.sh install
	touch $@

# One cluster for all of them, so one process.
cluster-test: .venv/installed-tests $(if $(and $(shell command -v java),$(shell command -v mvn)),flink)
	$(BIN)/python -m pytest tests/cluster -m cluster -v --durations=0 -rs

airflow: .venv-airflow/installed

.venv-airflow/installed: .venv/installed-tests tests/launch/airflow/requirements.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-airflow
	VIRTUAL_ENV=.venv-airflow $(BIN)/uv pip install --quiet --require-hashes \
		-r tests/launch/airflow/requirements.txt
	touch $@

# Each is a hook in .pre-commit-config.yaml.
lint: ruff mypy shellcheck hadolint

ruff: .venv/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mypy: .venv/installed-tests
	$(BIN)/mypy

shellcheck: .venv/installed-tests
	$(BIN)/shellcheck -x .ci/run launch/*.sh launch/nightly/*.sh

hadolint: .venv/installed-tests
	$(BIN)/hadolint launch/Dockerfile

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url $(UPGRADE) \
	--custom-compile-command "make lock"

lock: .venv/installed-tests
	$(COMPILE) setup.py --python-version 3.10 -o requirements.txt
	$(COMPILE) tests/requirements.in --python-version 3.10 -c requirements.txt -o tests/requirements.txt
	$(COMPILE) launch/gpu-requirements.in --python-version 3.10 -c requirements.txt \
		-o launch/gpu-requirements.txt
	$(COMPILE) tests/launch/airflow/requirements.in --python-version 3.11 --only-binary :all: \
		-o tests/launch/airflow/requirements.txt

upgrade: UPGRADE := --upgrade
upgrade: lock

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
	@echo "Installing Beam and TensorFlow into .venv: about a minute"
	sed -n '/^uv==/,/# via/p' tests/requirements.txt >.venv/uv.txt
	$(PIP) --require-hashes -r .venv/uv.txt
	$(call install,requirements.txt)
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv/installed-tests: .venv/installed tests/requirements.txt
	$(call install,tests/requirements.txt)
	touch $@
