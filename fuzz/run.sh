#!/bin/sh
# Runs fuzz targets one after the other. Usage: run.sh [TARGET...], by default all.
#   FUZZ_SECONDS  how long each runs; 60 by default
#   FUZZ_RUNS     how often each runs instead; then only this bounds it
# What is found goes to fuzz/target/found/TARGET, a crash or a time-out to fuzz/artifacts/TARGET.
set -eu
cd "$(dirname "$0")"
tools=$PWD/../target/tools/bin
PATH=$tools:$PATH

limit="-max_total_time=${FUZZ_SECONDS:-60}"
[ -z "${FUZZ_RUNS:-}" ] || limit="-runs=$FUZZ_RUNS"
[ $# -gt 0 ] || set -- $(ls corpus)

# The lints deny `unsafe`, so a memory sanitizer would find nothing and cost two thirds of the speed.
# Overflows and debug assertions are on. A stable compiler has all that this takes, behind a switch.
export RUSTC_BOOTSTRAP=1
RUSTC_WRAPPER=$PWD/rustc.sh cargo fuzz build --fuzz-dir . --sanitizer none --debug-assertions
host=$(rustc -vV | sed -n 's/^host: //p')

for target in "$@"; do
    mkdir -p "target/found/$target" "artifacts/$target"
    log=target/$target.log
    if "target/$host/release/$target" "target/found/$target" "corpus/$target" \
        $limit -max_len=4096 -timeout=5 -rss_limit_mb=512 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" >"$log" 2>&1; then
        stat() { sed -n "s/^stat::$1: *//p" "$log"; }
        printf '%-16s %12s runs %8s a second %5s MB\n' "$target" \
            "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" "$(stat peak_rss_mb)"
    else
        tail -n 30 "$log"
        echo "$target: fails; its input is in fuzz/artifacts/$target"
        exit 1
    fi
done
