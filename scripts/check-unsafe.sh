#!/usr/bin/env bash
# The tests that reach unsafe code, under AddressSanitizer: a read or a write beyond a buffer, or of one that is gone,
# ends them with a report. Everything is built anew for it, dependencies too, into a target folder of its own. Then loom
# tries every interleaving of the threads that share a loop; and Miri, where a toolchain has it, runs what deals with memory
# and threads without instructions of its own.
#
#   scripts/check-unsafe.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# Modules with unsafe code, or on top of it, outside of treex-kernels; each has tests, or this fails.
modules=(autograd:: random:: ops::)

target_dir=${CARGO_TARGET_DIR:-target}/sanitizer
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$target_dir
export RUSTC_BOOTSTRAP=1                # the flag is not stable; the runtime comes with the toolchain
export CARGO_PROFILE_TEST_OPT_LEVEL=1   # builds fast, and inlines kernels as a release does
export CARGO_PROFILE_TEST_DEBUG=line-tables-only
export CARGO_INCREMENTAL=0
export PROPTEST_CASES=${PROPTEST_CASES:-8} # each costs ten times what it does without

log=$target_dir/tests.log
mkdir -p "$target_dir"
: >"$log"
run() { # the flags are not for build scripts and macros, since a target is named
    RUSTFLAGS='-Zsanitizer=address' cargo test --locked --config 'profile.dev.package."*".opt-level = 1' --target "$host" "$@" 2>&1 | tee -a "$log"
}
run -p treex-kernels --lib
run -p treex-core -p treex-nn --lib -- "${modules[@]}"
run -p treex-nn --test operations
run -p treex-optim --test operations
run -p treex-core --test nested
for module in "${modules[@]}"; do
    grep -q "^test $module.* ok$" "$log" || {
        printf 'check-unsafe: no test is called `%s..`\n' "$module" >&2
        exit 1
    }
done

RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=$target_dir/loom cargo test --locked -p treex-kernels --lib -- interleavings:: 2>&1 |
    tee "$target_dir/loom.log"
grep -q '^test .*::each_index_occurs_once_in_every_interleaving .* ok$' "$target_dir/loom.log" || {
    printf 'check-unsafe: the test of interleavings did not run\n' >&2
    exit 1
}

if cargo +nightly miri --version >/dev/null 2>&1; then
    TREEX_ISA=portable MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=$target_dir/miri \
        cargo +nightly miri test --locked -p treex-kernels --lib -- parallel:: memory:: output:: fill::
else
    printf '\ncheck-unsafe: SKIPPED Miri: no toolchain `nightly` with it is installed\n' >&2
fi
