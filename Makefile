# make demo | test | lint | vectors | bench | clean. Each target checks what it needs first, names the remedy for what is
# missing, and sets up the rest itself (libtorch, the demo's model and data, cargo-deny, the oracle's Python).
PYTHON ?= python3
CARGO ?= cargo
PROFILE := --release --locked
# What --version says of itself: read by the few lines of each main.rs, so that a commit compiles no library again.
export BLINDSUM_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
# The programs, chosen one by one: the packages of a build share their features, and tests/ has some that no program may have.
PROGRAMS := -p blindsum-certs -p blindsum-coordinator -p blindsum-silo -p blindsum-demo
DENY := .tools/bin/cargo-deny
DENY_VERSION := 0.20.2
FLOWER := .tools/flower
FLOWER_VERSION := 1.41.0

MUTANTS := .tools/bin/cargo-mutants
MUTANTS_VERSION := 27.1.0
# What links libtorch.
LIBTORCH_PACKAGES := -p blindsum-torch -p blindsum-silo -p blindsum-tests -p blindsum-demo
# The crates whose tests switch checks off (crypto/src/teeth.rs) or make faults live (privacy/src/teeth.rs).
TEETH := -p blindsum-crypto -p blindsum-protocol -p blindsum-privacy -p blindsum-engine

FIGURES := target/release/blindsum-figures

.PHONY: check-fast figures long help demo compare install test schedules lint lint-fast doc vectors bench bench-crypto bench-flower experiment clean prerequisites libtorch inputs build fuzz fuzz-smoke fuzz-corpus model mutants crash bench-training

help:
	@echo "make demo        fine-tune one model across four silos on this machine and show what came of it"
	@echo "make compare     the same, then each silo alone and the pooled rows, side by side (about three times as long)"
	@echo "make install     PREFIX=/usr/local: programs and libtorch under one folder, which may be moved"
	@echo "make test        set up and run every test"
	@echo "make crash       kill -9 at every journal and send point of a silo, and old state put back (part of make test)"
	@echo "make schedules   ten thousand runs of the protocol with generated faults and lies, and their counts (part of make test)"
	@echo "make check-fast  compile everything that needs no libtorch, without it: the quick loop on those crates"
	@echo "make lint        formatting, clippy, documentation, purity of the inner crates, cargo deny"
	@echo "make doc         the documentation of every crate, in target/doc; a broken link is an error (part of make lint)"
	@echo "make vectors     compute crypto/vectors again with the independent oracle and compare"
	@echo "make fuzz-smoke  every fuzz target over its corpus and new inputs, one minute in all"
	@echo "make fuzz        every fuzz target for SECONDS each (600)"
	@echo "make mutants     change every line of the verify modules and see that a test notices (hours; docs/testing.md)"
	@echo "make bench       benchmarks of the training step and of secure aggregation"
	@echo "make bench-training  training steps beside Hugging Face PEFT and Opacus (fetches 3 GB with pip, or HF_PYTHON=…)"
	@echo "make bench-crypto  masks, rounding, packing, shares: one core (part of make bench, without libtorch)"
	@echo "make bench-flower  the same work through Flower, side by side (fetches flwr with pip)"
	@echo "make model       the protocol under a model checker: every lie of a coordinator, up to five silos (minutes, 7 GB)"
	@echo "make figures     rerun what a topic claims in figures: TOPIC=house [ROW=name] [FORMAT=markdown]"
	@echo "make long        everything that is too long for the gate, step by step; goes on where it was stopped (hours)"
	@echo "                 STEP=name,… these alone; SECONDS=… each fuzz target; FORCE=1 again; REPORT=1 the report alone"
	@echo "make experiment  the figures of docs/results.md: three seeds, with and without privacy (hours)"
	@echo "make clean       remove what the build, the demo and the set-up made"

prerequisites:
	@command -v $(CARGO) >/dev/null || { echo "missing: cargo. Install Rust with rustup (https://rustup.rs)." >&2; exit 2; }
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON). Install Python 3 (on Debian: apt-get install python3 python3-pip)." >&2; exit 2; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "missing: pip for $(PYTHON). Install it (on Debian: apt-get install python3-pip)." >&2; exit 2; }
	@command -v c++ >/dev/null || { echo "missing: a C++ compiler. Install one (on Debian: apt-get install g++)." >&2; exit 2; }

libtorch: prerequisites
	@$(PYTHON) engine/torch/libtorch/fetch.py

inputs: prerequisites
	@$(PYTHON) demo/fetch.py

build: libtorch
	$(CARGO) build $(PROFILE) $(PROGRAMS) --bins

demo: inputs build
	@target/release/blindsum-demo run $(ARGS)

compare: inputs build
	@target/release/blindsum-demo run --compare $(ARGS)

# Programs and libraries under one folder, which may be moved or packed whole. DESTDIR is for packagers.
INSTALLED = $(DESTDIR)$(PREFIX)
install: build
	@test -n "$(PREFIX)" || { echo "where to? make install PREFIX=/usr/local (programs go to bin/, libraries to lib/blindsum/)" >&2; exit 2; }
	@install -d "$(INSTALLED)/bin" "$(INSTALLED)/lib/blindsum" "$(INSTALLED)/share/blindsum"
	@install -m 0755 target/release/blindsum-certs target/release/blindsum-coordinator target/release/blindsum-silo "$(INSTALLED)/bin"
	@install -m 0644 coordinator/coordinator.sample.toml silo/silo.sample.toml protocol/job.sample.toml "$(INSTALLED)/share/blindsum"
	@libraries=$$(ldd target/release/blindsum-silo | awk '$$1 ~ /^lib(torch|c10|gomp|cudart|cupti)/ { print $$3 }'); \
	  test -n "$$libraries" || { echo "install: target/release/blindsum-silo finds no libtorch" >&2; exit 1; }; \
	  install -m 0644 $$libraries "$(INSTALLED)/lib/blindsum"
	@echo "installed in $(INSTALLED): bin/blindsum-certs, bin/blindsum-coordinator, bin/blindsum-silo; lib/blindsum/ (libtorch); share/blindsum/ (samples)"

# Three runs: in the first, tests can switch checks off and make faults live; in the second, a harness looks into both services; in the third, the
# programs under test are those that are shipped.
test: libtorch inputs
	$(CARGO) test $(PROFILE) $(TEETH)
	$(CARGO) test $(PROFILE) -p blindsum-tests
	$(CARGO) test $(PROFILE) --workspace $(TEETH:-p=--exclude) --exclude blindsum-tests

# Part of `make test`, alone.
schedules:
	$(CARGO) test $(PROFILE) -p blindsum-protocol --test protocol -- schedules::

lint-fast: prerequisites check-fast
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	@.ci/purity

# Everything that needs no libtorch compiles without one, which a LIBTORCH that leads nowhere proves.
check-fast: prerequisites
	LIBTORCH=/nowhere $(CARGO) check $(PROFILE) --workspace $(LIBTORCH_PACKAGES:-p=--exclude)

# Part of `make test`, alone and with what it counts.
crash: libtorch
	$(CARGO) test $(PROFILE) -p blindsum-tests --test federation -- --nocapture crashes:: restored::

# Public items only: what a reader of another crate comes to first.
doc: libtorch
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(PROFILE) --no-deps --workspace

lint: lint-fast libtorch $(DENY) doc
	$(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings
	$(DENY) --locked check bans licenses sources
	@$(DENY) --locked check advisories || { \
	  if $(DENY) fetch db >/dev/null 2>&1; then exit 1; fi; \
	  echo "lint: the advisory database could not be fetched here; advisories were NOT checked"; }

$(DENY):
	$(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --root .tools

# The oracle is Python and shares nothing with the Rust code; `make test` reads what it printed and needs no Python.
vectors: .tools/vectors/installed
	@.tools/vectors/bin/python -B crypto/vectors/oracle.py --check

.tools/vectors/installed: crypto/vectors/requirements.txt
	@$(PYTHON) -m venv .tools/vectors || { echo "missing: venv for $(PYTHON). Install it (on Debian: apt-get install python3-venv)." >&2; exit 2; }
	@.tools/vectors/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Neither needs libtorch, nor a compiler other than the pinned one.
fuzz: prerequisites
	@SECONDS_EACH=$(or $(SECONDS),600) fuzz/run all

fuzz-smoke: prerequisites
	@SECONDS_IN_ALL=$(or $(SECONDS),60) fuzz/run smoke

# Due after every change of what travels.
fuzz-corpus: prerequisites
	@fuzz/run corpus

$(MUTANTS):
	$(CARGO) install cargo-mutants --version $(MUTANTS_VERSION) --locked --root .tools

# ARGS="--shard 0/4" does a quarter of it.
mutants: prerequisites $(MUTANTS)
	$(MUTANTS) mutants $(ARGS)

bench: bench-crypto libtorch inputs
	$(CARGO) run $(PROFILE) -p blindsum-torch --example bench_step

# On one processor, so that the figures are those of one core.
PINNED := $(shell command -v taskset >/dev/null && echo taskset -c 0)

# An environment with the packages of engine/torch/benches/requirements.txt serves as well: make bench-training HF_PYTHON=…/python
HF_PYTHON ?= .tools/bench-training/bin/python

.tools/bench-training/bin/python: engine/torch/benches/requirements.txt | prerequisites
	@$(PYTHON) -m venv .tools/bench-training
	@.tools/bench-training/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench-training: libtorch inputs $(HF_PYTHON)
	@binary=$$($(CARGO) bench --profile release --locked -p blindsum-torch --bench training --no-run \
	    --message-format=json-render-diagnostics | sed -n 's|.*"executable":"\([^"]*/training-[^"]*\)".*|\1|p') && \
	  $(HF_PYTHON) -B engine/torch/benches/training.py $(ARGS) -- "$$binary"

bench-crypto:
	$(CARGO) bench --locked -p blindsum-crypto --bench speed --no-run
	@$(PINNED) $(CARGO) bench --locked -q -p blindsum-crypto --bench speed

$(FLOWER)/bin/python: | prerequisites
	@$(PYTHON) -m venv $(FLOWER)
	@$(FLOWER)/bin/python -m pip install --quiet --disable-pip-version-check flwr==$(FLOWER_VERSION)

bench-flower: $(FLOWER)/bin/python
	$(CARGO) bench --locked -p blindsum-crypto --bench speed --no-run
	@$(PINNED) $(FLOWER)/bin/python crypto/benches/flower_compare.py $(CARGO) bench --locked -q -p blindsum-crypto --bench speed --

# ARGS="retries 4" runs one campaign up to four silos, ARGS=--help says which there are.
model: prerequisites
	$(CARGO) run $(PROFILE) -p blindsum-model -- $(ARGS)

experiment: inputs build
	@target/release/blindsum-demo experiment $(ARGS)

# A question wrongly put ends with 2, a bar that is missed or a command that failed with 1 (make itself says 2 of both).
figures: libtorch
	@$(CARGO) build --quiet $(PROFILE) -p blindsum-experiments
	@$(FIGURES) show $(TOPIC) $(if $(ROW),--row $(ROW)) $(if $(FORMAT),--format $(FORMAT))

# Results are kept in .long, which make clean leaves alone: they took hours.
long: prerequisites
	@$(CARGO) build --quiet $(PROFILE) -p blindsum-experiments
	@$(FIGURES) long $(if $(STEP),--step $(STEP)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(FORCE),--force) $(if $(REPORT),--report)

clean:
	rm -rf target fuzz/target fuzz/work fuzz/artifacts .libtorch .demo .tools
