# Needs Rust (rust-version in Cargo.toml), Python 3 with venv, pip, and GNU make.

.DEFAULT_GOAL := help
.PHONY: help test integrations audit fuzz gauntlet demo docs zoo clean

PYTHON ?= python3
VENV := $(CURDIR)/.venv
INTEGRATIONS_VENV := $(CURDIR)/target/integrations-venv
# The tests take ONNX Runtime from the virtual environment, whatever else is installed.
test_env = env -u ORT_DYLIB_PATH VIRTUAL_ENV=$(1) ONNX_MIPP_PYTHON=$(1)/bin/python
TEST_ENV := $(call test_env,$(VENV))

PIP_QUIET := --quiet --disable-pip-version-check
# The Python package, not optimised as a release is. On top of the tests' artifacts it takes the features that
# the tests have, and --workspace below: what cargo compiles with the same features it compiles once.
install_package = MATURIN_PEP517_ARGS='--profile dev --locked $(2)' PATH=$(1)/bin:$(PATH) \
	$(1)/bin/python -m pip install $(PIP_QUIET) --no-build-isolation --no-deps .

# A name for each file of fuzz/fuzz_targets, and for how many seconds each runs.
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 60
# There is no unsafe code on these ways; without the sanitizer of addresses they run several times as often.
FUZZ := cargo +nightly fuzz run --sanitizer none

# Makes the zoo's exports where it has PyTorch; without, the zoo has the shipped models only.
ZOO_PYTHON ?= $(VENV)/bin/python

TARGET := $(or $(CARGO_TARGET_DIR),target)
DEMO := target/demo
MODEL := fixtures/resnet_bn_torchscript.onnx
DOCS_VENV := target/docs-venv

help:
	@echo 'make test   format, lints, documentation, all tests, the Python package (makes .venv when it is missing)'
	@echo 'make integrations  the Python package with PyTorch, TensorFlow, datasets, Olive and NNCF (fetches gigabytes)'
	@echo 'make docs   build the pages of docs/ as a site in target/site (fetches mkdocs)'
	@echo 'make audit  licences, known faults and sources of the dependencies (needs cargo-deny and the network)'
	@echo 'make fuzz   send made-up files through every reader, FUZZ_SECONDS (60) each (needs nightly Rust and cargo-fuzz)'
	@echo 'make gauntlet  prune every skeleton of tests/gauntlet with all options (hours)'
	@echo 'make demo   build, fetch ONNX Runtime, prune a fixture to half its MACs, compare accuracies'
	@echo 'make zoo    fetch real models, prune them, check them, write docs/results/zoo.md (over an hour;'
	@echo '            ZOO_PYTHON= with fixtures/requirements-zoo.txt adds the exports)'
	@echo 'make clean  remove target, fuzz/target and .venv'

# Clippy has checked the examples: those without tests need not be built.
test: .venv/made
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --all-features --no-deps --locked
	.venv/bin/python bench/tables.py --check
	$(TEST_ENV) cargo test --workspace --locked --no-fail-fast --tests
	$(TEST_ENV) cargo test --workspace --locked --doc
	$(TEST_ENV) .venv/bin/python tests/gauntlet/run.py --bin $(TARGET)/debug/onnx-mipp
	$(call install_package,$(VENV),--features tests)
	$(TEST_ENV) .venv/bin/python -m pytest -q

# The mark comes last: an interrupted installation starts again.
.venv/made: requirements-test.txt
	rm -rf .venv
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install $(PIP_QUIET) --require-hashes -r requirements-test.txt
	touch $@

# Not in `make test`: gigabytes of packages. The plain PyTorch for Linux brings CUDA's libraries. A process for
# each file: PyTorch's Triton and TensorFlow have an LLVM each, and abort in one process.
integrations: $(INTEGRATIONS_VENV)/made
	$(call install_package,$(INTEGRATIONS_VENV))
	for file in python/integrations/test_*.py; do \
		$(call test_env,$(INTEGRATIONS_VENV)) $(INTEGRATIONS_VENV)/bin/python -m pytest -q $$file || exit 1; \
	done

$(INTEGRATIONS_VENV)/made: requirements-integrations.txt
	rm -rf $(INTEGRATIONS_VENV)
	$(PYTHON) -m venv $(INTEGRATIONS_VENV)
	$(INTEGRATIONS_VENV)/bin/python -m pip install $(PIP_QUIET) --require-hashes -r requirements-integrations.txt
	touch $@

# Not in `make test`: the list of known faults comes from the network and changes without us.
audit:
	cargo deny --workspace --all-features --locked check

# What is found on the way is kept under target; a file that ends the program, in fuzz/artifacts.
fuzz:
	for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/target/found/$$target && \
		$(FUZZ) $$target fuzz/target/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 -rss_limit_mb=3000 || exit 1; \
	done

gauntlet: .venv/made
	cargo build --locked --bin onnx-mipp
	$(TEST_ENV) .venv/bin/python tests/gauntlet/run.py --all --bin $(TARGET)/debug/onnx-mipp

demo:
	cargo build --release --locked --features demo
	$(TARGET)/release/onnx-mipp setup
	mkdir -p $(DEMO)
	$(TARGET)/release/onnx-mipp $(MODEL) $(DEMO)/half.onnx --calib fixtures/calib.npz --macs 0.5
	@echo
	$(TARGET)/release/evaluate $(MODEL) $(DEMO)/half.onnx --data fixtures/eval.npz

docs: $(DOCS_VENV)/made
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --site-dir $(CURDIR)/target/site
	@echo 'open target/site/index.html'

$(DOCS_VENV)/made: requirements-docs.txt
	rm -rf $(DOCS_VENV)
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install $(PIP_QUIET) --require-hashes -r requirements-docs.txt
	touch $@

zoo: .venv/made
	$(ZOO_PYTHON) fixtures/zoo.py
	cargo build --release --locked --bin onnx-mipp --example masked
	$(TEST_ENV) .venv/bin/python bench/zoo.py --bin $(TARGET)/release

clean:
	cargo clean
	rm -rf .venv fuzz/target
