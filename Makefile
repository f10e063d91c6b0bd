# The doors of the house. `make` alone lists them.

SHELL := /bin/bash
CARGO ?= cargo
SEEDS ?= 1000
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

.PHONY: build
build: ## the three programs, for trying things out (target/debug)
	$(CARGO) build --bins

.PHONY: packages
packages: ## Debian packages of the three programs, into target/packages
	@deploy/packages/build.sh

.PHONY: tarball
tarball: ## all of them in one archive with an install script, for machines without dpkg, into target/packages
	@deploy/packages/tarball.sh

.PHONY: demo
demo: ## a Django application released to four hosts under load, on this machine (KEEP=1 leaves it running)
	@tests/demo/run.sh

.PHONY: test
test: ## everything; installs by itself what the tests need
	@tests/run.sh

.PHONY: lint
lint: ## format, clippy with warnings denied, cargo-deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@tests/deny.sh

.PHONY: sim
sim: ## the simulated world: SEEDS=10000 from a random start, SEED=N to replay one, HOSTILE=NAME for a hostile schedule
	@tests/sim/run.sh

.PHONY: bench
bench: ## the figures of benches/README.md, measured on this machine
	@benches/run.sh

.PHONY: audit
audit: ## known vulnerabilities of our dependencies (needs the network)
	$(CARGO) deny check advisories
