# Every target installs what it needs and says so. The only things that must be there before:
# Rust, make and a C compiler.

CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# quiche builds BoringSSL, for which these are needed.
BUILD_TOOLS := cmake clang libclang-dev

.PHONY: help tools test-tools demo test check conformance bench fmt

help:
	@echo "make demo         build, start a server, fetch a file and tunnel datagrams through it"
	@echo "make test         formatting, lints, all tests, documentation"
	@echo "make check        formatting, lints, dependencies, documentation"
	@echo "make conformance  which requirement is shown by which test"
	@echo "make bench        throughput of UDP tunnels beside plain UDP"

tools:
	@./tests/tools.sh $(BUILD_TOOLS)

demo: tools
	$(CARGO) build --locked -p psq-server -p psq-client
	$(CARGO) run --locked -q -p pasque-tests --bin demo

test: check
	@./tests/tools.sh --python --browser
	$(CARGO) test --locked --workspace

check: tools
	$(CARGO) fmt --all --check
	./tests/borders.sh
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --all-features

conformance: tools
	$(CARGO) test --locked --workspace 2>&1 | $(CARGO) run --locked -q -p pasque-tests --bin conformance

bench: tools
	$(CARGO) build --locked --release -p psq-server -p pasque-tests --bins
	target/release/bench

fmt:
	$(CARGO) fmt --all
