#!/bin/sh
# How many instructions both ends of a datagram take together, in memory: a figure that does not change
# with the load or the mood of a machine. Two runs of different length, so that what is done once does not
# count. The cipher weighs more here than on a processor: valgrind lacks its newest instructions.
#
# Usage: count.sh [PROGRAM], by default the release build of the example `ceiling`.
set -eu
cd "$(dirname "$0")/.."

program=${1:-target/release/examples/ceiling}
short=2000
long=12000

if ! command -v valgrind >/dev/null; then
    echo "instructions per datagram: not counted, valgrind is not installed"
    exit 0
fi

# The datagrams that were moved, and the instructions of the whole run.
count() {
    log=$(mktemp)
    moved=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file="$log" \
        "$program" exchange "$1" | sed 's/.*datagrams=\([0-9]*\).*/\1/')
    refs=$(sed -n 's/.*Collected *: *\([0-9]*\).*/\1/p' "$log")
    rm -f "$log"
    echo "$moved $refs"
}

set -- $(count "$short") $(count "$long")
echo "instructions per datagram of 1380 bytes, sender and receiver: $((($4 - $2) / ($3 - $1)))"
