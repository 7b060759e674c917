# Every target installs what it needs and says so. The only things that must be there before:
# Rust, make and a C compiler.

CARGO ?= cargo

# quiche builds BoringSSL, for which these are needed.
BUILD_TOOLS := cmake clang libclang-dev

# Tests make networks with these.
NETWORK_TOOLS := iproute2 nftables

.PHONY: help tools demo test lint check conformance bench fmt

help:
	@echo "make demo         build, start a server, fetch a file and tunnel datagrams through it"
	@echo "make test         formatting, lints, all tests, documentation"
	@echo "make check        formatting, borders, lints, documentation, dependencies"
	@echo "make conformance  which requirement is shown by which test"
	@echo "make bench        throughput of UDP tunnels beside plain UDP"

tools:
	@./tests/tools.sh $(BUILD_TOOLS)

demo: tools
	$(CARGO) build --locked -p psq-server -p psq-client -p pasque-tests --bins
	@target/debug/demo

test: lint
	@./tests/tools.sh --python --browser $(NETWORK_TOOLS)
	$(CARGO) build --locked -p psq-server -p psq-client
	$(CARGO) test --locked --workspace --all-features --no-fail-fast

lint: tools
	$(CARGO) fmt --all --check
	./tests/borders.sh
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --all-features

# Not a part of `test`: it takes another five minutes where cargo-deny has to be built first.
check: lint
	@./tests/tools.sh --deny
	@PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo-deny --locked --all-features check bans licenses sources

conformance: tools
	@./tests/tools.sh --python --browser $(NETWORK_TOOLS)
	$(CARGO) build --locked -p psq-server -p psq-client -p pasque-tests --bins
	@mkdir -p target
	-$(CARGO) test --locked --workspace --all-features --no-fail-fast >target/conformance.log 2>&1
	@target/debug/conformance <target/conformance.log

bench: tools
	$(CARGO) build --locked --release -p psq-server -p pasque-tests --bin psq-server --bin bench
	@target/release/bench

fmt:
	$(CARGO) fmt --all
