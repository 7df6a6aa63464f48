# The commands people type. CMake does the work (see CMakePresets.json); this file only puts steps in order.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export PATH := $(PATH):$(HOME)/.cargo/bin

JOBS ?= $(shell nproc)
PYTHON ?= python3
MODEL ?=
FUZZ_SECONDS ?= 600

program := build/release/nibble
models := build/models
configure := cmake --preset release $(if $(CI),-DNIBBLE_WERROR=ON)
ctest := ctest --preset release --parallel $(JOBS)

.PHONY: help bootstrap build all-targets demo test test-interop models lint asan tsan fuzz isa-scalar avx512-emulated aarch64 clean

help:  ## this list
	@grep -hE '^[a-z0-9 -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9 -]+):.*## */\1\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

bootstrap:  ## check for the tools and packages that the build needs; as root, install what is missing
	@scripts/bootstrap.sh

build: bootstrap  ## the program, at build/release/nibble
	$(configure)
	cmake --build --preset release --parallel $(JOBS) --target nibble_cli

demo: build .venv/.ready  ## quantize a real model to several levels, show what each cost, run one; MODEL=path for another
	.venv/bin/python demo/demo.py --nibble $(program) --work build/demo $(if $(MODEL),--model '$(MODEL)')

test: all-targets .venv/.ready models web/node_modules/.ready  ## unit, contract, golden, interop and browser tests (stock llama.cpp, Python gguf and tokenizers, Chromium)
	$(ctest) --label-exclude torch

test-interop: all-targets .venv-torch/.ready models  ## the judges that need PyTorch (logits of Transformers)
	$(ctest) --label-regex torch

models: $(models)/plain/model.safetensors $(models)/wide/model.safetensors  ## the checkpoints that interop tests judge with

lint:  ## clang-format, clang-tidy and the layer rules
	@scripts/bootstrap.sh lint
	cmake --preset release >/dev/null
	$(PYTHON) tests/lint/lint.py .
	scripts/tidy.sh build/release

asan tsan isa-scalar avx512-emulated:  ## all tests under sanitizers, with plain C++ kernels, or with AVX-512 written out in C++
	@scripts/bootstrap.sh
	cmake --workflow --preset $@

aarch64: build  ## cross build for 64-bit Arm, tests under qemu; bytes and tokens must be those of this machine
	@scripts/bootstrap.sh cross
	cmake --build --preset release --parallel $(JOBS) --target greedy
	cmake --workflow --preset $@

fuzz:  ## every fuzz target for FUZZ_SECONDS (600) each, under clang's sanitizers
	@scripts/bootstrap.sh fuzz
	cmake --preset fuzz
	cmake --build --preset fuzz --parallel $(JOBS)
	scripts/fuzz.sh build/fuzz $(FUZZ_SECONDS) $(JOBS)

clean:  ## remove everything that was built or fetched
	rm -rf build .venv .venv-torch web/node_modules

all-targets: bootstrap
	$(configure)
	cmake --build --preset release --parallel $(JOBS)

.venv/.ready: tests/interop/requirements.txt
.venv-torch/.ready: tests/interop/requirements-torch.txt tests/interop/requirements-gptqmodel.txt
.venv/.ready .venv-torch/.ready: | bootstrap
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	$(if $(word 2,$^),BUILD_CUDA_EXT=0 GPTQMODEL_FORCE_BUILD=1 $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -r $(word 2,$^))
	touch $@

web/node_modules/.ready: web/package-lock.json | bootstrap
	@scripts/bootstrap.sh web
	npm ci --prefix web --ignore-scripts --no-audit --no-fund
	touch $@

$(models)/plain/model.safetensors: scripts/make_model.py | .venv/.ready
	.venv/bin/python scripts/make_model.py $(@D)
$(models)/wide/model.safetensors: scripts/make_model.py | .venv/.ready
	.venv/bin/python scripts/make_model.py $(@D) --wide
