# Everything that is done with this project, by one word each. `make` alone lists the words.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# The steps of `test` share cargo's locks and the machine's cores.
.NOTPARALLEL:

# The languages that are set up and tested; all where none is named.
TESTED := $(shell grep -v '^\#' tests/languages)
# The host that `build` makes.
WABBIT := $${CARGO_TARGET_DIR:-target}/debug/wabbit
# Cargo for handlers in Rust, natively, with what they share compiled once.
NATIVE := CARGO_TARGET_DIR=$(CURDIR)/target/plugins cargo
# The source that has the folder sdk in it.
CARRIES := runtime/src/project/sdk.rs

.PHONY: help
help: ## show this list
	@echo "make WORD, where WORD is one of"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F '\t' '{ printf "  %-10s %s\n", $$1, $$2 }'

.PHONY: demo
demo: ## run the orders example from end to end, and leave nothing behind
	@scripts/demo

.PHONY: test
test: setup lint build plugins guests faulty ## check everything: format, lints, unit tests, end to end
	cargo test --locked --workspace
	scripts/test-embedded ack_none:: dead:: dedupe:: headers:: orders:: outcomes:: publications:: topology::
	for crate in plugins/src/*/Cargo.toml sdk/*/conformance/Cargo.toml; do $(NATIVE) test --locked --quiet --manifest-path "$$crate"; done
	scripts/languages test $(TESTED)

.PHONY: test-embedded
test-embedded: setup build plugins guests ## run the end-to-end tests on embedded brokers, in place of RabbitMQ
	@scripts/test-embedded

.PHONY: test-all
test-all: toolchains ## the same, with every language
	WABBIT_TEST_LANGUAGES=all $(MAKE) test TESTED=

.PHONY: bench
bench: setup plugins guests ## compare the host with a native consumer
	@scripts/bench

.PHONY: growth
growth: setup plugins guests ## measure how the cost grows, and what more hosts, queues and nodes come to
	@scripts/growth

.PHONY: steps
steps: setup plugins guests ## time the steps of a delivery's way, one at a time
	cargo bench --locked -p wabbit --bench steps

.PHONY: instructions
instructions: setup guests ## count what the processor does for each of these steps, and hold it against docs/instructions.json
	@scripts/require-valgrind
	@scripts/instructions

.PHONY: behaviours
behaviours: setup ## hold the embedded broker against RabbitMQ, and write the table of its README
	@scripts/behaviours

.PHONY: faults
faults: setup guests ## make N faults by SEED, or one CASE, and see that nothing is lost
	@N='$(N)' SEED='$(SEED)' CASE='$(CASE)' QUEUE='$(QUEUE)' scripts/faults

.PHONY: simulate
simulate: guests ## run the host on a stopped clock by N seeds from SEED, with faults between any two frames
	cargo build --locked --workspace --bin simulate
	$${CARGO_TARGET_DIR:-target}/debug/simulate --seeds $(or $(N),20000) --seed $(or $(SEED),1)

.PHONY: hostile
hostile: setup guests ## try N hostile deliveries of SEED, and see that the sandbox holds
	@N='$(N)' SEED='$(SEED)' CASE='$(CASE)' scripts/hostile

.PHONY: reloads
reloads: setup guests ## make N changes of plugins and manifests by SEED under load, and see that nothing is lost
	@N='$(N)' SEED='$(SEED)' RATE='$(RATE)' scripts/reloads

.PHONY: gallery
gallery: setup guests ## play every row of the gallery, or ROW, at full size or with N messages
	@ROW='$(ROW)' N='$(N)' scripts/gallery

.PHONY: fuzz
fuzz: ## fuzz what others write, for T seconds a target, or run one CASE again
	@T='$(T)' CASE='$(CASE)' scripts/fuzz

.PHONY: plugins
plugins: setup build ## compile the example handlers into plugins/
	@$(WABBIT) build --available

.PHONY: guests
guests: plugins ## compile the handlers that the tests run
	@scripts/build-guests

.PHONY: setup
setup: ## install what is missing: RabbitMQ, other clients, Rust targets, compilers of the tested languages
	@scripts/require-rust
	@scripts/require-rabbitmq
	@scripts/require-python
	@scripts/languages setup $(TESTED)
	@scripts/require-clients

.PHONY: toolchains
toolchains: ## install the compilers of all languages
	@scripts/languages setup

.PHONY: languages
languages: toolchains guests ## try and measure every language, and write the table of docs/languages.md
	cargo build --locked --release --bin wabbit
	cargo test --locked -p wabbit-tests conformance::
	@scripts/languages-table

.PHONY: deny
deny: ## check the licences, duplicates and known holes of all dependencies
	@scripts/deny

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	rm -rf plugins/*.wasm plugins/src/.build

# All of the workspace, so that features are resolved as they are for the tests, and nothing is built twice.
# The host carries the folder sdk. Cargo notices which of its files changed, but not that some are new or gone.
.PHONY: build
build:
	@find sdk -name '.?*' -prune -o -name node_modules -prune -o -name target -prune -o -type d -newer $(CARRIES) -print -quit | xargs -r touch $(CARRIES)
	cargo build --locked --workspace --bin wabbit

# The host with switches: it dies at a named point, or makes a named mistake.
.PHONY: faulty
faulty:
	@scripts/build-faulty

# The handlers are built for another target, so they are crates of their own; they are checked and tested natively.
.PHONY: lint
lint: setup
	cargo fmt --all --check
	for crate in plugins/src/*/Cargo.toml sdk/*/conformance/Cargo.toml; do cargo fmt --check --manifest-path "$$crate"; done
	find sdk/*/template -name '*.rs' -exec rustfmt --check --edition 2024 {} +
	cd tests/guests && cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	for crate in plugins/src/*/Cargo.toml sdk/*/conformance/Cargo.toml; do $(NATIVE) clippy --locked --quiet --all-targets --manifest-path "$$crate" -- -D warnings; done
	cd tests/guests && cargo clippy --locked --workspace --all-targets --target-dir ../../target/guests-build -- -D warnings
