#!/bin/sh
# The borders between the crates and layers, each checked by one line.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "border crossed: $1"
    echo "$2"
    exit 1
}

quiche=$(grep -rlE '\bquiche(::|\s*=|\.workspace)' --include='*.rs' --include='Cargo.toml' framework/src framework/Cargo.toml endpoints apps || true)
[ -z "$quiche" ] || fail "quiche is named outside framework/h3" "$quiche"

sansio=$(grep -rnE '\b(tokio|std::fs|std::net::(UdpSocket|Tcp))' framework/src/wire || true)
[ -z "$sansio" ] || fail "input or output in framework/src/wire" "$sansio"

long=$(git ls-files '*.rs' | xargs wc -l | awk '$2 != "total" && $1 > 700')
[ -z "$long" ] || fail "a file of more than 700 lines" "$long"

main=$(wc -l <apps/psq-server/src/main.rs)
[ "$main" -le 40 ] || fail "apps/psq-server/src/main.rs is no longer something to copy" "$main lines"

for crate in pasque-udp pasque-ip pasque-files; do
    c=$(cargo tree --locked -p "$crate" -e normal,build,dev --prefix none --format '{p}' | grep -E '^(quiche|cmake|cc|boring|ring) ' || true)
    [ -z "$c" ] || fail "$crate compiles C" "$c"
done
