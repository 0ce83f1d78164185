#!/usr/bin/env bash
# Type-checks the libraries for the targets in the README's table of platforms, without features. Nothing is linked and
# nothing runs: what a target needs beyond its standard library is not looked at.
#
#   scripts/check-targets.sh [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-gnu)
[ $# -eq 0 ] || targets=("$@")

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/check-targets
rustup target add "${targets[@]}"
for target in "${targets[@]}"; do
    printf '\n--- %s\n' "$target"
    # No C compiler for it is needed.
    export "CC_${target//-/_}=$PWD/scripts/cc-none" "AR_${target//-/_}=ar"
    # Only build scripts and macros run here, so dependencies are built without optimization.
    cargo check --locked --config 'profile.dev.package."*".opt-level = 0' --target "$target" --package candle-treex
done
