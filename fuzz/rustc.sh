#!/bin/sh
# Between Cargo and the compiler: coverage is counted in what is written here and in what parses for it.
# After each run libFuzzer looks at all counters that there are; with those of every dependency among
# them that takes most of the time.
set -eu
case ${CARGO_PKG_NAME:-} in
pasque* | serde_json | jsonwebtoken | ipnetwork) exec "$@" ;;
esac
left=$#
while [ "$left" -gt 0 ]; do
    case $1 in
    -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-*) ;;
    *) set -- "$@" "$1" ;;
    esac
    shift
    left=$((left - 1))
done
exec "$@"
