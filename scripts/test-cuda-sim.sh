#!/usr/bin/env bash
# treex's tests on the simulated CUDA device of tools/simcuda, from nothing: CUDA's tool chain, the simulator and its own
# tests, then the tests of treex with a device. It needs the network once, for the tool chain, and no GPU.
#
#   scripts/test-cuda-sim.sh          a stated table of cases, at most 12 minutes on two cores
#   scripts/test-cuda-sim.sh --all    everything, at most 40 minutes; what is skipped is an error
set -euo pipefail
cd "$(dirname "$0")/.."

all=
case ${1-} in
    --all) all=yes ;;
    '') ;;
    *) printf 'test-cuda-sim: unknown argument `%s`\n' "$1" >&2 && exit 2 ;;
esac
export CARGO_TERM_PROGRESS_WHEN=never
target=${CARGO_TARGET_DIR:-$PWD/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
sim_target=$target/simcuda
kernels=$target/kernels # compiled ones
libraries=$sim_target/lib # for LD_LIBRARY_PATH: the simulator, by the names of NVIDIA's libraries

names=()
seconds=()
step() { # step NAME COMMAND...
    printf '\n=== simulated device: %s\n' "$1"
    local started=$SECONDS
    "${@:2}"
    names+=("$1")
    seconds+=($((SECONDS - started)))
}
report() {
    local status=$? i
    printf '\n=== simulated device: minutes\n'
    for i in "${!names[@]}"; do
        awk -v name="${names[i]}" -v seconds="${seconds[i]}" 'BEGIN { printf "%-28s %6.1f\n", name, seconds / 60 }'
    done
    awk -v seconds="$SECONDS" 'BEGIN { printf "%-28s %6.1f\n", "total", seconds / 60 }'
    [ "$status" -eq 0 ] || printf 'test-cuda-sim: failed\n' >&2
}
trap report EXIT

sim() { # cargo, in the simulator's workspace
    (cd tools/simcuda && CARGO_TARGET_DIR=$sim_target cargo "$@")
}

# The fixtures are what the oracle says and what the compiler makes of kernels, and the simulator agrees with them.
simulator_tests() {
    python3 tools/simcuda/oracle/generate.py --check
    tools/simcuda/tests/seeded/compile.sh --check
    sim test --locked --release
}

# NVIDIA's own assembler takes each kernel of the simulator's tests: what they test is PTX.
assembler() {
    local modules=$sim_target/modules refused
    rm -rf "$modules"
    SIMCUDA_PTX=$modules sim test --locked --release --test instructions -- --ignored write_modules >/dev/null
    refused=$(find "$modules" -name '*.ptx' -print0 | xargs -0 -P "$(nproc)" -n 1 sh -c '
        ptxas -arch=sm_90 -O0 -o "$0.cubin" "$0" 2>&1 | sed "s/^/$(head -n 1 "$0" | cut -c 4-): /"')
    printf '%s modules assembled\n' "$(find "$modules" -name '*.cubin' | wc -l)"
    [ -z "$refused" ] || {
        printf 'test-cuda-sim: refused by ptxas:\n%s\n' "$refused" >&2
        return 1
    }
}

library() {
    local name
    sim build --locked --release
    mkdir -p "$libraries"
    for name in libcuda.so.1 libcublas.so.13 libcublasLt.so.13 libcurand.so.10; do
        ln -sfn "$sim_target/release/libsimcuda.so" "$libraries/$name"
    done
}

# treex's own tests: which run on the device, in which packages. Their time is the simulator's, so less optimization is sooner
# done.
packages=(-p candle-treex -p treex-core -p treex-nn -p treex-optim)
features=candle-treex/cuda,treex-core/cuda,treex-nn/cuda,treex-optim/cuda
table=(
    derive gradients laws misuse nested random recompute semantics summary # treex-core
    candle_gradients candle_on_cuda errors init layers linen losses_and_logs metrics resize # treex-nn
    additions combinators contrib does_nothing linear_algebra linesearch losses not_finite optax optax_arguments optimizer # treex-optim
    projections tree wrappers # treex-optim
    operations # of both
)
rest=(
    second_order # of both
)
export CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_TEST_DEBUG=0

on_device() { # cargo, with the simulated device
    LD_LIBRARY_PATH=$libraries:$CUDA_ROOT/lib64 \
        cargo test --locked --no-fail-fast "${packages[@]}" --features "$features" "$@"
}

# The table, or all of them, with few of the drawn cases. What the device cannot run is a list in the test, which prints it.
treex_tests() {
    local log=$target/test-cuda-sim.log tests=("${table[@]}")
    export TREEX_TEST_DIFFERENCES=$target/test-cuda-sim
    [ -z "$all" ] || tests+=("${rest[@]}")
    rm -rf "$TREEX_TEST_DIFFERENCES"
    mkdir -p "$TREEX_TEST_DIFFERENCES"
    TREEX_TEST_DEVICE=cuda PROPTEST_CASES=4 on_device "${tests[@]/#/--test=}" 2>&1 | tee "$log"

    awk '/^test result: / { sum += $4 } END { printf "\n%d tests passed on the simulated device; ", sum }' "$log"
    printf '%d tests, or cases of one, were skipped:\n' "$(grep -o 'SKIPPED .*' "$log" | sort -u | wc -l)"
    grep -o 'SKIPPED .*' "$log" | sort -u || true
    printf '\nthe largest difference from an oracle or the CPU, by package and element type (`-`: numbers of any):\n'
    sort -k1,2 -k3,3gr "$TREEX_TEST_DIFFERENCES"/* | awk '!seen[$1, $2]++'
}

# What a training step and each operation ask of the device, and what happens where memory runs out, and where the driver is
# missing or old.
budgets() {
    rm -rf "$kernels"
    TREEX_TEST_KERNELS=$kernels on_device --test budgets --test capture --test kernels --test optimizer_step --test out_of_memory --test driver
}

# What these launched, by registers, spills and occupancy.
kernel_table() {
    python3 scripts/kernel-table.py "$kernels"
}

# The main example on the device. Its packages are other ones, for which Candle is built again.
digits() {
    packages+=(-p treex-examples)
    features+=,treex-examples/cuda
    TREEX_TEST_DEVICE=cuda on_device --test cuda
}

step 'tool chain' scripts/setup-cuda.sh
# shellcheck source=/dev/null
source "${CUDA_ROOT:-$target/cuda-13}/env.sh"
step 'tests of the simulator' simulator_tests
[ -z "$all" ] || step 'PTX of these tests' assembler
step 'the library' library
step 'tests of treex' treex_tests
step 'budgets, memory, driver' budgets
step 'table of kernels' kernel_table
[ -z "$all" ] || step 'digits' digits
