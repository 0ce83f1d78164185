#!/usr/bin/env bash
# Makes kernels.ptx of kernels.cu, with the nvcc of scripts/setup-cuda.sh (13.0.88) on the PATH.
#
#   compile.sh          writes it
#   compile.sh --check  fails if it is not what the compiler makes
set -euo pipefail
cd "$(dirname "$0")"

compile() {
    nvcc -ptx -arch=compute_90 -o - kernels.cu
}
case ${1-} in
    '') compile >kernels.ptx ;;
    --check) compile | diff -u kernels.ptx - ;;
    *) printf 'compile: unknown argument `%s`\n' "$1" >&2 && exit 2 ;;
esac
