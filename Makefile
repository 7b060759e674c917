# Every target installs what it needs and says so. The only things that must be there before:
# Rust, make and a C compiler.

CARGO ?= cargo

# quiche builds BoringSSL, for which these are needed.
BUILD_TOOLS := cmake clang libclang-dev

# What `make test` takes of the disk at least, in GiB. Incremental compilation takes as much again.
ROOM := 5

# Tests make networks with these.
NETWORK_TOOLS := iproute2 nftables procps

# What `make bench` measures and how, such as FIGURES="--secs 2 echo oneway"; everything by default.
FIGURES ?=

# What `make hostile` runs, such as HOSTILE="--short garbage"; everything at full length by default.
HOSTILE ?=
# How long `make fuzz` runs each target, in seconds; which ones, such as FUZZ="files varint"; all by
# default.
FUZZ_SECONDS ?= 60
FUZZ ?=

# Selected together, so that what they depend on is built once for both.
BENCH_CRATES := -p pasque-tests -p pasque-h3 --features pasque-h3/testing

.PHONY: help tools demo test lint check conformance hostile bench bench-count fmt advisories fuzz

help:
	@echo "make demo         build, start a server, fetch a file and tunnel datagrams through it"
	@echo "make test         formatting, lints, all tests, documentation"
	@echo "make check        formatting, borders, lints, documentation, dependencies"
	@echo "make advisories   what is known against the dependencies; needs a network"
	@echo "make conformance  which requirement is shown by which test"
	@echo "make hostile      what hostile peers may cost, each figure beside its bound (root, three quarters of an hour)"
	@echo "make fuzz         each fuzz target for a minute, on what peers and files may hold"
	@echo "make bench        cost and speed, each figure beside a baseline of the same run"
	@echo "make bench-count  instructions for each datagram, where valgrind is installed"

tools:
	@./tests/room.sh $(ROOM)
	@./tests/tools.sh $(BUILD_TOOLS)

demo: tools
	$(CARGO) build --locked -p psq-server -p psq-client -p pasque-tests --bins
	@target/debug/demo

test: lint
	@./tests/tools.sh --python --browser $(NETWORK_TOOLS)
	$(CARGO) build --locked -p psq-server -p psq-client
	$(CARGO) test --locked --workspace --all-features --no-fail-fast
	@./tests/tools.sh valgrind
	@./tests/count.sh target/debug/examples/ceiling

lint: tools
	$(CARGO) fmt --all --check
	./tests/borders.sh
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --all-features

# Not a part of `test`: it takes another five minutes where cargo-deny has to be built first.
check: lint
	@./tests/tools.sh --deny
	@PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo-deny --locked --all-features check bans licenses sources

# Fetches RustSec's database, so it is not a part of `check`, which works without a network. To be run
# daily: an advisory may come out any day, about code that has not changed.
advisories:
	@./tests/tools.sh --deny
	@PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo-deny --locked --all-features check advisories

conformance: tools
	@./tests/tools.sh --python --browser $(NETWORK_TOOLS)
	$(CARGO) build --locked -p psq-server -p psq-client -p pasque-tests --bins
	@mkdir -p target
	-$(CARGO) test --locked --workspace --all-features --no-fail-fast >target/conformance.log 2>&1
	@target/debug/conformance <target/conformance.log

# Takes a C++ compiler, with which libFuzzer is built.
fuzz:
	@./tests/tools.sh --fuzz g++
	@FUZZ_SECONDS=$(FUZZ_SECONDS) ./fuzz/run.sh $(FUZZ)

# The programs are built alone: together with the tests they would have the testing kit in them.
hostile: tools
	@./tests/tools.sh --python $(NETWORK_TOOLS)
	$(CARGO) build --locked --release -p psq-server -p psq-client
	$(CARGO) build --locked --release -p pasque-tests --features hostile --bin hostile
	@target/release/hostile $(HOSTILE)

bench: bench-count
	@./tests/tools.sh iperf3 $(NETWORK_TOOLS)
	$(CARGO) build --locked --release -p psq-server -p psq-client
	$(CARGO) build --locked --release $(BENCH_CRATES) --bin bench
	$(CARGO) bench --locked -p pasque --bench wire
	$(CARGO) bench --locked -p pasque-ip --bench packet
	@target/release/bench $(FIGURES)

bench-count: tools
	$(CARGO) build --locked --release $(BENCH_CRATES) --example ceiling
	@./tests/count.sh

fmt:
	$(CARGO) fmt --all
