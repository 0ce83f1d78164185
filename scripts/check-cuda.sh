#!/usr/bin/env bash
# Type-checks and lints everything behind the `cuda` and `cudnn` features on a machine that has no CUDA, no driver
# and no GPU: `nvcc-none` stands in for the compiler, and nothing is linked. Kernels (`*.cu`) are not compiled here.
#
#   scripts/check-cuda.sh [arguments of cargo clippy]
set -euo pipefail
cd "$(dirname "$0")/.."

# A target folder of its own: its PTX files and objects are empty and must never reach a real build.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/check-cuda
export NVCC=$PWD/scripts/nvcc-none
export CUDA_COMPUTE_CAP=90       # instead of asking nvidia-smi
export CUDARC_CUDA_VERSION=13000 # instead of asking nvcc on the PATH

# Features are named by crate, so that a crate that loses one is an error here and not silence.
crates=(candle-treex treex-core treex-nn treex-optim treex-examples)
features=
for crate in "${crates[@]}"; do
    features+="$crate/cuda,$crate/cudnn,"
done
# Nothing runs here but build scripts and macros, so dependencies are built without optimization.
cargo clippy --locked --config 'profile.dev.package."*".opt-level = 0' \
    --workspace --all-targets --features "${features%,}" "$@" -- -D warnings
