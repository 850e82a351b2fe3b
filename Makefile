# Everything that is done with this project, by one word each. `make` alone lists the words.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# The steps of `test` share cargo's locks and the machine's cores.
.NOTPARALLEL:

.PHONY: help
help: ## show this list
	@echo "make WORD, where WORD is one of"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F '\t' '{ printf "  %-9s %s\n", $$1, $$2 }'

.PHONY: demo
demo: ## run the orders example from end to end, and leave nothing behind
	@scripts/demo

.PHONY: test
test: setup lint plugins guests build faulty ## check everything: format, lints, unit tests, end to end
	cargo test --locked --workspace
	cd plugins/src && cargo test --locked --workspace --target-dir ../../target/plugins

.PHONY: bench
bench: setup plugins guests ## compare the host with a native consumer
	@scripts/bench

.PHONY: faults
faults: setup guests ## make N faults by SEED, or one CASE, and see that nothing is lost
	@N='$(N)' SEED='$(SEED)' CASE='$(CASE)' QUEUE='$(QUEUE)' scripts/faults

.PHONY: plugins
plugins: setup ## compile the example handlers into plugins/
	@scripts/build-plugins plugins

.PHONY: guests
guests: setup ## compile the handlers that the tests run
	@scripts/build-plugins guests

.PHONY: setup
setup: ## install what is missing: RabbitMQ, Python packages, Rust targets
	@scripts/require-rust
	@scripts/require-rabbitmq
	@scripts/require-python

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	rm -f plugins/*.wasm

# All of the workspace, so that features are resolved as they are for the tests, and nothing is built twice.
.PHONY: build
build:
	cargo build --locked --workspace --bin wabbit

# The host with switches: it dies at a named point, or makes a named mistake.
.PHONY: faulty
faulty:
	@scripts/build-faulty

# The handlers are built for another target, so they are workspaces of their own; they are checked and tested natively.
.PHONY: lint
lint: setup
	cargo fmt --all --check
	cd plugins/src && cargo fmt --all --check
	cd tests/guests && cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cd plugins/src && cargo clippy --locked --workspace --all-targets --target-dir ../../target/plugins -- -D warnings
	cd tests/guests && cargo clippy --locked --workspace --all-targets --target-dir ../../target/guests-build -- -D warnings
