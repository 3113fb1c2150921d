# make demo | test | lint | bench | clean. Each target checks what it needs first, names the remedy for what is missing,
# and sets up the rest itself (libtorch, the demo's model and data, cargo-deny).
PYTHON ?= python3
CARGO ?= cargo
PROFILE := --release --locked
DENY := .tools/bin/cargo-deny
DENY_VERSION := 0.20.2

.PHONY: help demo test crash lint lint-fast bench experiment clean prerequisites libtorch inputs build

help:
	@echo "make demo        fine-tune one model across four silos on this machine and show what came of it"
	@echo "make test        set up and run every test"
	@echo "make crash       kill -9 at every journal and send point of a silo, and old state put back"
	@echo "make lint        formatting, clippy, purity of the inner crates, cargo deny"
	@echo "make bench       benchmarks of the training step and of secure aggregation"
	@echo "make experiment  the figures of the README: three seeds, with and without privacy (hours)"
	@echo "make clean       remove what the build, the demo and the set-up made"

prerequisites:
	@command -v $(CARGO) >/dev/null || { echo "missing: cargo. Install Rust with rustup (https://rustup.rs)." >&2; exit 2; }
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON). Install Python 3 (on Debian: apt-get install python3 python3-pip)." >&2; exit 2; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "missing: pip for $(PYTHON). Install it (on Debian: apt-get install python3-pip)." >&2; exit 2; }
	@command -v c++ >/dev/null || { echo "missing: a C++ compiler. Install one (on Debian: apt-get install g++)." >&2; exit 2; }

libtorch: prerequisites
	@$(PYTHON) silo/libtorch/fetch.py

inputs: prerequisites
	@$(PYTHON) demo/fetch.py

build: libtorch
	$(CARGO) build $(PROFILE) --workspace --bins

demo: inputs build
	@target/release/blindsum-demo run $(ARGS)

test: libtorch inputs
	$(CARGO) test $(PROFILE) --workspace

lint-fast: prerequisites
	$(CARGO) fmt --all --check
	@.ci/purity

# kill -9 at every journal and send point of a silo, and old state put back; part of `test`
crash: libtorch
	$(CARGO) test $(PROFILE) -p blindsum-tests --test federation -- --nocapture crashes:: restored::

lint: lint-fast libtorch $(DENY)
	$(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings
	$(DENY) --locked check bans licenses sources
	@$(DENY) --locked check advisories || { \
	  if $(DENY) fetch db >/dev/null 2>&1; then exit 1; fi; \
	  echo "lint: the advisory database could not be fetched here; advisories were NOT checked"; }

$(DENY):
	$(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --root .tools

bench: libtorch inputs
	$(CARGO) run $(PROFILE) -p blindsum-silo --example bench_step

experiment: inputs build
	@target/release/blindsum-demo experiment $(ARGS)

clean:
	rm -rf target .libtorch .demo .tools
