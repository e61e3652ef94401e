# Every target installs what it needs first: on a machine with Python 3.11+ and make,
# `make serve` and `make test` suffice.

PYTHON ?= python3
VENV   ?= .venv
# The one that the CUDA build of the lock's torch requires and brings along. A CPU build does not name
# it; beside one the kernels' tests need its interpreter and compiler.
TRITON := triton==3.7.1
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# make serve MODEL=overlock_t WEIGHTS=file.pth
MODEL   ?=
WEIGHTS ?=
PHOTOS  ?=

# make image TORCH_VARIANT=cpu ENGINE=podman EXTRAS="hub cloud"
TORCH_VARIANT ?= cuda
ENGINE        ?= docker
EXTRAS        ?=

# make serve model=...: a variable of another name would be ignored without a word.
VARIABLES := ENGINE EXTRAS MODEL PHOTOS PYTHON SECONDS TORCH_VARIANT VENV WEIGHTS
GIVEN     := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
CLOSEST    = $(shell $(PYTHON) -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1))' \
    '$(1)' $(VARIABLES))
$(foreach name,$(filter-out $(VARIABLES) SHELL,$(GIVEN)), \
    $(error There is no variable $(name); $(or $(addsuffix $() may be meant,$(call CLOSEST,$(name))),there are $(VARIABLES))))

.PHONY: all install serve image test test-fast test-exhaustive test-image check format bench fuzz soak lock protocol train-demo clean

all: check test

install: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo 'Installing into $(VENV), once: torch and the rest take a few minutes.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TRITON)
	touch $@

serve: $(READY)
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

image:
	$(ENGINE) build --tag overlock-service:$(TORCH_VARIANT) --build-arg TORCH_VARIANT=$(TORCH_VARIANT) \
	    --build-arg EXTRAS="$(EXTRAS)" \
	    --build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
	    --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date --utc +%FT%TZ) .

# As root, without a Docker engine: builds the image for CPUs and runs it.
test-image: $(READY)
	docker/install-buildah.sh
	$(BIN)/pytest docker/test_image.py -v -s --durations 5

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
	PYTHONPATH=tests $(BIN)/python benchmarks/bfloat16.py $(if $(PHOTOS),--photos $(PHOTOS))
	taskset -c 0 $(BIN)/python -m benchmarks.resizing
	$(BIN)/python -m benchmarks.export --models overlock_t --threads 2

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

# The lock pins torch without a local suffix, so that a CPU build at hand or the CUDA build of the
# index satisfies the same line; what only the CUDA build needs is pinned by torch itself.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet torch==2.13.0 && .venv-lock/bin/pip install --quiet --editable '.[dev]'
	.venv-lock/bin/pip freeze --exclude-editable \
	    | grep -ivE '^(nvidia|cuda|triton)' | sed -E 's/^(torch==[0-9.]+).*/\1/' > requirements.lock
	rm -rf .venv-lock

# What service/web/grpc/open_inference.proto is compiled to.
PROTOCOL := service/web/grpc
protocol: $(READY)
	$(BIN)/python -m grpc_tools.protoc -I $(PROTOCOL) --descriptor_set_out $(PROTOCOL)/open_inference.binpb \
	    --pyi_out $(PROTOCOL) open_inference.proto

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
