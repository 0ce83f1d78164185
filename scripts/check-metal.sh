#!/usr/bin/env bash
# Type-checks and lints everything behind the `metal` and `accelerate` features for macOS, on any machine where the standard
# library of that target is installed; elsewhere it says that it skipped. Nothing is linked, and nothing runs: Metal compiles
# its shaders at run time.
#
#   scripts/check-metal.sh [arguments of cargo clippy]
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-apple-darwin
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    printf 'check-metal: SKIPPED: `%s` is not installed; `rustup target add %s` installs it\n' "$target" "$target" >&2
    exit 0
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/check-metal
export CC_aarch64_apple_darwin=$PWD/scripts/cc-none AR_aarch64_apple_darwin=ar
# Features are named by crate, so that a crate that loses one is an error here and not silence.
crates=(candle-treex treex-core treex-nn treex-optim treex-examples)
features=
for crate in "${crates[@]}"; do
    features+="$crate/metal,$crate/accelerate,"
done
# Only build scripts and macros run here, so dependencies are built without optimization.
cargo clippy --locked --config 'profile.dev.package."*".opt-level = 0' --target "$target" \
    --package "${crates[0]}" --package treex-core --package treex-nn --package treex-optim --package treex-examples \
    --features "${features%,}" "$@" -- -D warnings
