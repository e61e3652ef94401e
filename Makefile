# Every target installs what it needs first: on a machine with Python 3.11+ and make,
# `make serve` and `make test` suffice.

PYTHON ?= python3
VENV   ?= .venv
BIN     := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
READY   := $(VENV)/.ready

# make serve MODEL=overlock_t WEIGHTS=file.pth
MODEL   ?=
WEIGHTS ?=
PHOTOS  ?=

# make image TORCH_VARIANT=cpu ENGINE=podman EXTRAS="hub cloud" SOURCE=https://example.com/repository
TORCH_VARIANT ?= cuda
ENGINE        ?= docker
EXTRAS        ?=
SOURCE        ?=
# make image TORCH_INDEX=https://download.pytorch.org/whl/cu126 CUDA=12.6
TORCH_INDEX   ?=
CUDA          ?=

# make lock UPGRADE=yes
UPGRADE ?=

# make serve model=...: a variable of another name would be ignored without a word.
VARIABLES := CUDA ENGINE EXTRAS MODEL PHOTOS PYTHON SECONDS SOURCE TORCH_INDEX TORCH_VARIANT UPGRADE VENV WEIGHTS
GIVEN     := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
CLOSEST    = $(shell $(PYTHON) -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1))' \
    '$(1)' $(VARIABLES))
$(foreach name,$(filter-out $(VARIABLES) SHELL,$(GIVEN)), \
    $(error There is no variable $(name); $(or $(addsuffix $() may be meant,$(call CLOSEST,$(name))),there are $(VARIABLES))))

.PHONY: all install serve image test test-fast test-exhaustive test-processors test-image pin-base check format bench fuzz soak lock licences protocol train-demo clean

all: check test

install: $(READY)

# A lock file names every package with its version and hashes, and torch is none of them: see
# requirements/install_torch.sh.
PIP     := $(BIN)/python -m pip --quiet --disable-pip-version-check
LOCKED  := $(PIP) install --no-deps --require-hashes --requirement

$(RUNTIME): requirements/torch.txt requirements/cuda.lock requirements/runtime.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo 'Installing into $(VENV), once: torch and the rest take a minute or a few.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	requirements/install_torch.sh $(PIP)
	$(LOCKED) requirements/runtime.lock
	$(PIP) install --no-deps --editable .
	@echo "$$(du --summarize --human-readable $(VENV) | cut --fields 1) in $(VENV)"
	touch $@

# What the tests need as well, and every extra.
$(READY): $(RUNTIME) requirements/development.lock
	$(LOCKED) requirements/development.lock
	@echo "$$(du --summarize --human-readable $(VENV) | cut --fields 1) in $(VENV)"
	touch $@

serve: $(RUNTIME)
	@exec env $(if $(MODEL),OVERLOCK_CLASSIFY_MODEL=$(MODEL)) $(if $(WEIGHTS),OVERLOCK_CLASSIFY_WEIGHTS=$(WEIGHTS)) \
	    $(BIN)/overlock serve

# Two at a time, tests and their services compute on one thread each; where a test wants several, they
# do not spin while they wait. Beside other work that makes a test ten times slower.
test test-fast: export OMP_NUM_THREADS := 1
test test-fast: export GOMP_SPINCOUNT := 2000
# A file's tests share its networks and services.
PAIR := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15

test: $(READY)
	$(PAIR) -m 'not exhaustive'

# All but the tests that start a service (tests/e2e, tests/fault, tests/browser) and those marked
# `slow` (half a second and more: whole networks, downloads, kernels in Triton's interpreter) or
# `compiler` (what torch.compile makes of a network, what Triton makes of the kernels for an H100).
test-fast: $(READY)
	$(PAIR) --ignore tests/browser --ignore tests/e2e --ignore tests/fault \
	    -m 'not slow and not compiler and not exhaustive'

# Minutes, of what seldom changes: see CONTRIBUTING.md.
test-exhaustive: $(READY)
	$(BIN)/pytest -m exhaustive --durations 0

# The CPU kernels and whole networks on processors that are elsewhere, in ten minutes. What is missing
# is named, and its tests are skipped: nothing is installed.
test-processors: export OMP_NUM_THREADS := 1
test-processors: $(READY)
	@for program in qemu-x86_64 qemu-aarch64 aarch64-linux-gnu-gcc objdump; do command -v $$program > /dev/null \
	    || echo "There is no $$program: apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross binutils" >&2; done
	$(BIN)/pytest -m processors --durations 5 tests/unit/model

# And a list of what is in it.
image:
	$(ENGINE) build --tag overlock-service:$(TORCH_VARIANT) --build-arg TORCH_VARIANT=$(TORCH_VARIANT) \
	    --build-arg EXTRAS="$(EXTRAS)" $(if $(TORCH_INDEX),--build-arg TORCH_INDEX=$(TORCH_INDEX)) \
	    $(if $(CUDA),--build-arg CUDA=$(CUDA)) $(if $(SOURCE),--build-arg SOURCE=$(SOURCE)) \
	    --build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
	    --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date --utc +%FT%TZ) .
	$(ENGINE) run --rm --entrypoint cat overlock-service:$(TORCH_VARIANT) /opt/overlock/sbom.cdx.json \
	    > overlock-service-$(TORCH_VARIANT).cdx.json

# Writes the digest of the base image into the Dockerfile, and renews it. Untried against a registry.
pin-base:
	tag=$$(sed -n 's/^ARG BASE_IMAGE=\([^@]*\).*/\1/p' Dockerfile) \
	    && digest=$$($(ENGINE) buildx imagetools inspect "$$tag" --format '{{.Manifest.Digest}}') \
	    && sed -i "s|^ARG BASE_IMAGE=.*|ARG BASE_IMAGE=$$tag@$$digest|" Dockerfile

# As root, without a Docker engine: builds the image and runs it, by default the one for CPUs.
test-image: export TORCH_VARIANT := $(if $(filter command,$(origin TORCH_VARIANT)),$(TORCH_VARIANT),cpu)
test-image: $(READY)
	docker/install-buildah.sh
	$(BIN)/pytest docker -v -s --durations 5

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# PHOTOS: a folder of JPEG files, for the part of the bfloat16 table that needs some.
bench: export PYTHONPATH := .:tests
bench: $(READY)
	$(BIN)/python benchmarks/network.py --repeats 9 --forms folded served --threads 2
	$(BIN)/python benchmarks/network.py --models backbone_t_512x704 backbone_t_800x1088 \
	    upernet_overlock_t mask_rcnn_overlock_t --batches 1 --repeats 3 --threads 2 --output network-dense-cpu
	$(BIN)/python benchmarks/network.py --models overlock_t --batches 8 --repeats 7 \
	    --forms folded compiled served --threads 2 --output network-compiled-cpu
	$(BIN)/python benchmarks/where_time_goes.py --threads 2
	$(BIN)/python benchmarks/dense_convolutions.py --threads 2
	PYTHONPATH=tests $(BIN)/python benchmarks/bfloat16.py $(if $(PHOTOS),--photos $(PHOTOS))
	taskset -c 0 $(BIN)/python -m benchmarks.resizing
	$(BIN)/python -m benchmarks.export --models overlock_t --threads 2
	$(BIN)/python benchmarks/network.py --instructions avx2 avx512 avx512_bf16 --repeats 7 --threads 2 --output instructions-cpu
	$(BIN)/python -m benchmarks.neighbours.run --threads 2

# Ten thousand damaged images, and as many damaged calls of the Open Inference Protocol, against a
# running service: no 5xx, no hang, no memory that grows.
fuzz: $(READY)
	PYTHONPATH=.:tests $(BIN)/python -m support.fuzz --count 10000

# Clients that come and leave for a minute, after which nothing may be kept.
SECONDS ?= 60
soak: $(READY)
	$(BIN)/pytest tests/fault/test_clients.py -k leave --log-cli-level INFO --log-disable httpx --timeout 0 --soak-seconds $(SECONDS)

train-demo: $(READY)
	$(BIN)/python -m service.commands.train_demo classify
	$(BIN)/python -m service.commands.train_demo segment

# Every lock file; versions change only where pyproject.toml asks for it, or with UPGRADE=yes.
lock: $(READY)
	$(BIN)/python requirements/lock.py $(if $(UPGRADE),--upgrade)

# Every package that an image can hold, with its licence, from an environment of gigabytes that is
# removed again. pip is not in an image.
LICENCES := .venv-licences
licences: $(READY)
	$(PYTHON) -m venv $(LICENCES)
	requirements/install_torch.sh $(LICENCES)/bin/pip --quiet
	$(LICENCES)/bin/pip install --quiet --no-deps --require-hashes \
	    --requirement requirements/extras.lock --requirement requirements/cuda.lock
	cp requirements/licences.md THIRD_PARTY_LICENSES.md
	$(BIN)/uvx --from pip-licenses==5.5.5 pip-licenses --python $(LICENCES)/bin/python \
	    --with-system --ignore-packages pip --from mixed --with-urls --format markdown \
	    | sed 's/  */ /g; s/---*/--/g' >> THIRD_PARTY_LICENSES.md
	rm -r $(LICENCES)

# What service/web/grpc/open_inference.proto is compiled to.
PROTOCOL := service/web/grpc
protocol: $(READY)
	$(BIN)/python -m grpc_tools.protoc -I $(PROTOCOL) --descriptor_set_out $(PROTOCOL)/open_inference.binpb \
	    --pyi_out $(PROTOCOL) open_inference.proto

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
