#!/usr/bin/env bash
# The tests that reach unsafe code, under AddressSanitizer: a read or a write beyond a buffer, or of one that is gone,
# ends them with a report. Everything is built anew for it, dependencies too, into a target folder of its own.
#
#   scripts/check-unsafe.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# Where unsafe code is; each has tests, or this fails.
modules=(compute:: random:: ops:: losses::cross_entropy:: losses::mse::)

target_dir=${CARGO_TARGET_DIR:-target}/sanitizer
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$target_dir
export RUSTC_BOOTSTRAP=1                # the flag is not stable; the runtime comes with the toolchain
export RUSTFLAGS='-Zsanitizer=address'  # not for build scripts and macros, since a target is named
export CARGO_PROFILE_TEST_OPT_LEVEL=1   # builds fast, and inlines kernels as a release does
export CARGO_PROFILE_TEST_DEBUG=line-tables-only
export CARGO_INCREMENTAL=0
export PROPTEST_CASES=${PROPTEST_CASES:-8} # each costs ten times what it does without

log=$target_dir/tests.log
mkdir -p "$target_dir"
cargo test --locked --config 'profile.dev.package."*".opt-level = 1' --target "$host" \
    -p treex-core -p treex-nn -p treex-optim --lib -- "${modules[@]}" 2>&1 | tee "$log"
for module in "${modules[@]}"; do
    grep -q "^test $module.* ok$" "$log" || {
        printf 'check-unsafe: no test is called `%s..`\n' "$module" >&2
        exit 1
    }
done
