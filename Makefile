# Everything a developer or CI runs. `make` alone lists it.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# What scripts/setup may have installed: Node.js into .tools, tools by cargo, and
# servers where Debian keeps them out of a plain user's PATH.
CARGO_BIN := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# What is built here has its dashboard, or is not built.
export TIDEGATE_UI := required
export PATH := $(CURDIR)/.tools/node/node_modules/.bin:$(PATH):$(CARGO_BIN):/usr/local/sbin:/usr/sbin
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Set up, build, and run a whole fleet here: control plane, balancer, two terminators, four apps
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
# Killed with make, even by kill -9: no process may be left behind.
	@exec setpriv --pdeathsig TERM $(TARGET)/debug/tidegate dev

.PHONY: test
test: setup check ## Set up, then run everything CI runs

.PHONY: bench
bench: ## The comparison with other software: all of it, about an hour; writes bench/results/
	@bench/run

.PHONY: setup
setup: ## Install what is missing to build and test
	@scripts/setup

.PHONY: ui
ui: web-ui/dist/index.html ## Build the dashboard, which the control plane embeds

# Only when something has changed: another dashboard is another control plane.
web-ui/dist/index.html: docs/openapi.json $(shell find web-ui/src web-ui/public web-ui/scripts -type f ! -name schema.d.ts) \
		$(wildcard web-ui/*.json web-ui/*.ts web-ui/index.html)
	@scripts/setup ui
	cd web-ui && npm run --silent build

.PHONY: build
build: ui ## Build every program
	cargo build --workspace --bins

.PHONY: release
release: ui ## Build optimised programs and say where they are
	cargo build --release --workspace --bins --exclude tidegate-tests --exclude tidegate-local --exclude tidegate-bench
	@find $(TARGET)/release -maxdepth 1 -type f -executable

# The cheap checks first; the tests last, so that their summary ends the output.
.PHONY: check
check: check-fmt check-js check-ui check-deny check-sqlx check-clippy check-doc check-doctest check-openapi check-fuzz check-bench check-tests ## The gate, without setting up: formats, lints, docs, dependencies, fuzz targets, a short comparison, tests

.PHONY: check-fmt
check-fmt:
	cargo fmt --all --check

.PHONY: check-js
check-js:
	cd tests/browser && npm run --silent check

# Before anything is compiled: the control plane embeds what this builds.
.PHONY: check-ui
check-ui: ui
	cd web-ui && npm run --silent check && npm run --silent test && npm run --silent size

# A stale Cargo.lock fails here, before anything else could quietly mend it.
.PHONY: check-deny
check-deny:
	cargo deny --locked check --hide-inclusion-graph bans licenses sources

# What Postgres says about each query, as committed, against a migrated one.
.PHONY: check-sqlx
check-sqlx:
	@scripts/sqlx --check

.PHONY: check-clippy
check-clippy:
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: check-doc
check-doc:
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items

.PHONY: check-doctest
check-doctest:
	cargo test --workspace --doc --quiet

# The description that is read in a browser or generated from is the program's own.
.PHONY: check-openapi
check-openapi: build
	@$(TARGET)/debug/tidegate openapi | diff docs/openapi.json - || \
		{ echo 'Run make openapi and commit docs/openapi.json' >&2; exit 1; }

# Too short to find much: every target builds, and holds for its seeds and what it
# makes of them.
.PHONY: check-fuzz
check-fuzz:
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	scripts/fuzz --seconds 3

# Seconds, with tiny counts: every system answers rightly, and no figure is meant.
.PHONY: check-bench
check-bench: build
	$(TARGET)/debug/tidegate-bench run --smoke

# End-to-end tests run the programs themselves, as they were built. One Postgres
# serves them all; a test that is run by hand starts its own.
.PHONY: check-tests
check-tests: build
	$(TARGET)/debug/tidegate-postgres run -- cargo nextest run --workspace

.PHONY: fuzz
fuzz: ## Run every fuzz target for SECONDS (60)
	scripts/fuzz --seconds $(or $(SECONDS),60)

.PHONY: openapi
openapi: build ## Write docs/openapi.json as the control plane tells it
	$(TARGET)/debug/tidegate openapi > docs/openapi.json

.PHONY: sqlx
sqlx: ## Ask Postgres again about each query, after a change of one or of a migration
	@scripts/sqlx

.PHONY: fmt
fmt: ## Format Rust and JavaScript
	cargo fmt --all
	cd tests/browser && npm run --silent fmt
	cd web-ui && npm run --silent fmt

.PHONY: clean
clean: ## Remove what was built and installed inside this checkout
	cargo clean
	rm -rf fuzz/corpus fuzz/artifacts .tools web-ui/dist/assets web-ui/dist/*.*
	rm -rf $(addsuffix /node_modules,bench/apps examples/node-app tests/browser tests/websockets web-ui)
