# Two commands matter: `make demo` and `make test`. `scripts/setup` installs what they need.
# Namespaces and packet sockets need root: without it the lab's programs go through sudo.

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# The end-to-end suite needs root, the compiler does not: only the test programs go through sudo.
ifneq ($(SUDO),)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := sudo --preserve-env
endif

.PHONY: help demo demo-single test soak measure compare bench guard lint fmt build loom e2e clean-lab

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: programs ## the pair: kill the active node under traffic, bring it back, switch over; a verdict and a picture
	$(SUDO) $(TARGET)/release/lab demo --picture $(TARGET)/takeover.svg

demo-single: programs ## one firewall between a client and a server, real traffic, a table of what passed
	$(SUDO) $(TARGET)/release/lab demo --nodes 1

.PHONY: programs
programs:
	cargo build --release --locked -p dataplane -p ha-ctl -p lab

test: lint loom ## everything: format, lints, loom models, unit, property and end-to-end tests
	cargo build --workspace --bins --locked
	cargo nextest run --workspace --locked --no-fail-fast

soak: programs ## what takes long: lossy links for minutes, the demo twenty times, the simulator over many seeds
	cargo build --workspace --bins --locked
	cargo nextest run --profile soak -p tests --run-ignored only --no-fail-fast
	set -o pipefail; for run in $$(seq 20); do $(SUDO) $(TARGET)/release/lab demo --picture $(TARGET)/takeover.svg --json | tail -n 1 || exit 1; done
	cargo run --release --locked -p sim -- --seeds $(or $(SEEDS),1000000) --from $(or $(FROM),10000) --seconds $(or $(SOAK_SECONDS),1800)

measure: programs ## what the pair reaches: takeovers, switchovers, bulk sync, the sync link
	$(SUDO) $(TARGET)/release/lab measure takeover
	$(SUDO) $(TARGET)/release/lab measure takeover --interval-ms 10
	$(SUDO) $(TARGET)/release/lab measure takeover --sessions 500000
	$(SUDO) $(TARGET)/release/lab measure switchover
	$(SUDO) $(TARGET)/release/lab measure bulk --runs 3
	$(SUDO) $(TARGET)/release/lab measure wire

compare: programs ## the pair beside nftables, conntrackd and keepalived (which must be installed), on the same cables
	$(SUDO) $(TARGET)/release/lab compare --picture $(TARGET)/compare.svg

e2e: ## only the end-to-end suite
	cargo build --workspace --bins
	cargo nextest run -p tests --no-fail-fast

loom: ## only the loom models
	scripts/loom

bench: ## what it costs, beside the machine's ceiling and what was promised: a table, in about seven minutes
	cargo build --release --locked -p perf
	$(SUDO) $(TARGET)/release/perf run $(BENCH_ARGS)

guard: ## instructions of the hot paths against the committed baseline
	cargo build --release --locked -p perf
	$(TARGET)/release/perf guard

lint: ## format check and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt: ## format everything
	cargo fmt --all

build: ## all programs, optimised
	cargo build --release --workspace --bins

clean-lab: ## take down what a lab left behind
	cargo build --release -p lab
	$(SUDO) $(TARGET)/release/lab down
