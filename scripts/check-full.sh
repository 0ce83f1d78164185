#!/usr/bin/env bash
# What must hold before a release and takes too long for each change: run it beside `.ci/run`. It needs the network, and
# goes on after a fault, so that one run shows all of them.
#
#   scripts/check-full.sh
set -uo pipefail
cd "$(dirname "$0")/.."

export CARGO_TERM_PROGRESS_WHEN=never
failed=()
check() { # check NAME COMMAND...
    printf '\n=== %s\n' "$1"
    "${@:2}" || failed+=("$1")
}

# Known weaknesses, and versions that were withdrawn: the database comes from the network.
advisories() {
    command -v cargo-deny >/dev/null || PATH+=:${CARGO_TARGET_DIR:-$PWD/target}/tools/bin
    cargo deny --workspace --locked check advisories
}

# What cargo would upload, built from the archives against each other. That integration tests stay out is meant.
publish() {
    local log=${CARGO_TARGET_DIR:-target}/check-publish.log
    mkdir -p "${log%/*}"
    cargo publish --dry-run --workspace --locked 2>&1 | tee "$log" || return 1
    ! grep '^warning' "$log" | grep -vE 'ignoring test .* is not included|aborting upload due to dry run'
}

# Against the last release; before the first one, breaks are allowed, and the commit before is compared for information.
semver() {
    local release
    if release=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); then
        scripts/check-semver.sh "$release"
    else
        scripts/check-semver.sh
        case $? in
            0) ;;
            1) printf 'check-full: NOT ENFORCED: no release exists; compared with the commit before\n' ;;
            *) return 1 ;;
        esac
    fi
}

check advisories advisories
check 'unsafe code, under AddressSanitizer' scripts/check-unsafe.sh
check 'bad input, in a release build' cargo test --release --locked -p treex-nn -p treex-kernels -p treex-optim --test bad_input
check 'simulated device, all' scripts/test-cuda-sim.sh --all
check targets scripts/check-targets.sh
check semver semver
check 'publish, dry run' publish

[ "${#failed[@]}" -eq 0 ] || {
    printf '\ncheck-full: failed: %s\n' "$(printf '%s; ' "${failed[@]}")" >&2
    exit 1
}
