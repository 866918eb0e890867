# Zongji (总机). `make` alone lists the targets. Every target installs first what it lacks.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo test run bench bench-peers soak fuzz fmt clean

# rustup may have been installed a moment ago, before this shell knew of it.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Extra arguments: make run ARGS="--sip 0.0.0.0:5080"
ARGS ?=
# make demo KEEP=1 leaves the hotline up.
KEEP ?=
# make fuzz FUZZ_CASES=1000000 FUZZ="rtp:: sdp::"
FUZZ_CASES ?= 100000
FUZZ ?=
# make fuzz FUZZ_SECONDS=1800 FUZZ=fuzz_sip
FUZZ_SECONDS ?= 300
# make soak SOAK_MINUTES=60
SOAK_MINUTES ?= 10
# make bench-peers IVRLOAD=folder/of/ivrload.c
IVRLOAD ?=

FLAGS = $$(scripts/setup.sh flags)
ZONGJI = "$$(scripts/target-dir.sh)/release/zongji"

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what building, running and testing need (Debian, Ubuntu), asking nothing
	@scripts/setup.sh test

build: ## Build the release program (target/release/zongji)
	@scripts/setup.sh build
	@$(MAKE) --no-print-directory release

# The first build of about 400 crates and whisper.cpp takes minutes; say so, or it looks stuck.
.PHONY: release
release:
	@if [ ! -d "$$(scripts/target-dir.sh)/release/deps" ]; then \
	    echo "[build] first release build: about 10 minutes on two cores, later ones seconds"; fi
	@cargo build --release --locked --bin zongji $(FLAGS)
	@echo "[build] ready:" $(ZONGJI)

demo: ## Start the hotline, place real SIP calls and show each turn (KEEP=1 leaves it up)
	@scripts/setup.sh run
	@$(MAKE) --no-print-directory release
	@$(ZONGJI) demo $(if $(filter-out 0,$(KEEP)),--keep) $(ARGS)

run: ## The hotline in the foreground on port 5060, to be called from a softphone
	@scripts/setup.sh run
	@$(MAKE) --no-print-directory release
	@exec $(ZONGJI) serve $(ARGS)

test: ## Format check, clippy with warnings as errors, every test
	@scripts/setup.sh test
	cargo fmt --check
	cargo clippy --locked --all-targets $(FLAGS) -- -D warnings
	cargo test --locked $(FLAGS) --lib --bins --test main --no-run
	cargo test --locked $(FLAGS) --lib --bins
	# Calls wait for their prompts in real time: more of them side by side than there are cores.
	cargo test --locked $(FLAGS) --test main -- --test-threads=4
	cargo test --locked $(FLAGS) --doc

bench: ## Measure: latency of a turn, cost of a call, pacing (criterion; budgets stand in benches/)
	@scripts/setup.sh run
	cargo bench --locked $(FLAGS)

bench-peers: ## Measure with the load tool that other engines were measured with (IVRLOAD=folder of ivrload.c)
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory release
	@for part in run curve slope; do ZONGJI=$(ZONGJI) benches/peer/$$part.sh "$(IVRLOAD)"; done

soak: ## Long tests, then calls in a loop against a release build, watching its memory (SOAK_MINUTES=10)
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory release
	@scripts/soak.sh $(SOAK_MINUTES)

fuzz: ## Every property test with FUZZ_CASES random inputs (100000), every fuzz target for FUZZ_SECONDS (300)
	@scripts/setup.sh test
	PROPTEST_RNG_SEED=$$(date +%s%N) PROPTEST_CASES=$(FUZZ_CASES) \
	    ZONGJI_FUZZ_SEED=$$(date +%s%N) ZONGJI_FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --release --locked --lib $(FLAGS) -- $(FUZZ)

fmt: ## Format the code
	cargo fmt

clean: ## Remove what was built (./data with its calls and tickets stays)
	cargo clean
