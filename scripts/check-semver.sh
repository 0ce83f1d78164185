#!/usr/bin/env bash
# Compares the public interface of each published crate with that of an earlier commit, by cargo-semver-checks: fails if
# something went away or changed that the crates' version numbers do not admit.
#
#   scripts/check-semver.sh [COMMIT]    default: the commit before
#
# Exits with 1 for such a break, with another number if the comparison could not be made.
set -euo pipefail
cd "$(dirname "$0")/.."

baseline=$(git rev-parse --verify "${1:-HEAD^}^{commit}")
crates=( # NAME MANIFEST; a macro has no interface that the tool can see, so the derive is left out
    'candle-treex Cargo.toml'
    'treex-core treex-core/Cargo.toml'
    'treex-kernels treex-core/kernels/Cargo.toml'
    'treex-nn treex-nn/Cargo.toml'
    'treex-optim treex-optim/Cargo.toml'
)

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TERM_PROGRESS_WHEN=never
PATH+=:$CARGO_TARGET_DIR/tools/bin
if ! command -v cargo-semver-checks >/dev/null; then
    # Built without optimization, in the build folder, as cargo-deny is in `.ci/run`.
    CARGO_PROFILE_DEV_DEBUG=0 cargo install cargo-semver-checks --version 0.51.0 --locked --debug \
        --root "$CARGO_TARGET_DIR/tools" || {
        printf 'check-semver: NOTHING WAS COMPARED: cargo-semver-checks could not be installed\n' >&2
        exit 3
    }
fi

compared=()
for entry in "${crates[@]}"; do
    read -r name manifest <<<"$entry"
    if ! git grep -q "^name = \"$name\"$" "$baseline" -- "$manifest"; then
        printf 'check-semver: NOT COMPARED: `%s` does not exist at %.9s\n' "$name" "$baseline" >&2
    elif [ ! -f "$manifest" ]; then
        printf 'check-semver: `%s` went away since %.9s\n' "$name" "$baseline" >&2
        exit 1
    else
        compared+=(--package "$name")
    fi
done
[ "${#compared[@]}" -gt 0 ] || { printf 'check-semver: nothing to compare\n' >&2; exit 2; }
report=$CARGO_TARGET_DIR/check-semver.log
status=0
cargo semver-checks --baseline-rev "$baseline" --only-explicit-features "${compared[@]}" 2>&1 | tee "$report" || status=$?
if [ "$status" -ne 0 ]; then
    grep -q 'semver requires new' "$report" && exit 1
    printf 'check-semver: THE COMPARISON FAILED (above)\n' >&2
    exit 3
fi
