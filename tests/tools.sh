#!/bin/sh
# Installs what is missing, and says so. Usage: tools.sh PACKAGE... | [--python] [--browser] [--deny] [--fuzz]
set -eu
cd "$(dirname "$0")"

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

install() {
    missing=
    for package in "$@"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing with apt-get:$missing"
    $sudo apt-get update -q >/dev/null
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >/dev/null
}

packages=
for wanted in "$@"; do
    case "$wanted" in
    --python)
        # Clients that others wrote, in an environment of their own.
        environment=../target/python
        if ! "$environment/bin/python" -c 'import aioquic, curl_cffi' 2>/dev/null; then
            command -v python3 >/dev/null || install python3
            python3 -m venv "$environment" 2>/dev/null || {
                install python3-venv
                python3 -m venv "$environment"
            }
            echo "installing with pip: $(grep -v '^#' requirements.txt | tr '\n' ' ')"
            "$environment/bin/pip" install -q --disable-pip-version-check -r requirements.txt
        fi
        ;;
    --deny)
        if ! command -v cargo-deny >/dev/null && [ ! -x ../target/tools/bin/cargo-deny ]; then
            echo "installing with cargo: cargo-deny"
            cargo install --quiet --locked --root ../target/tools cargo-deny
        fi
        ;;
    --fuzz)
        if ! command -v cargo-fuzz >/dev/null && [ ! -x ../target/tools/bin/cargo-fuzz ]; then
            echo "installing with cargo: cargo-fuzz"
            cargo install --quiet --locked --root ../target/tools cargo-fuzz
        fi
        ;;
    --browser) packages="$packages chromium" ;;
    *) packages="$packages $wanted" ;;
    esac
done
# shellcheck disable=SC2086
install $packages
