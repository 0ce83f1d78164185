#!/usr/bin/env bash
# CUDA 13.0 for building and for the simulated device (tools/simcuda), on a machine without GPU, driver or root: nvcc,
# NVRTC and headers from NVIDIA's Python wheels, and stubs to link with in the place of the driver, cuBLAS and cuRAND.
# A second run finds everything there and does nothing.
#
#   scripts/setup-cuda.sh && source target/cuda-13/env.sh      # 0.4 GB; $CUDA_ROOT is another place for it
set -euo pipefail
cd "$(dirname "$0")/.."

root=${CUDA_ROOT:-${CARGO_TARGET_DIR:-target}/cuda-13}
mkdir -p "$root"
root=$(cd "$root" && pwd)

# Driver 580 is CUDA 13.0 and refuses the PTX of a later nvcc. Any change here makes the folder anew.
wheels=(
    nvidia-cuda-nvcc==13.0.88    # nvcc, ptxas
    nvidia-nvvm==13.0.88         # its compiler
    nvidia-cuda-crt==13.0.88     # headers that it includes by itself
    nvidia-cuda-runtime==13.0.96 # cuda.h, cuda_fp16.h, libcudart
    nvidia-cuda-cccl==13.0.85    # headers that cuda_fp16.h includes
    nvidia-cuda-nvrtc==13.0.88   # libnvrtc
    nvidia-curand==10.4.0.35     # curand_kernel.h
)

fail() {
    printf 'setup-cuda: %s\n' "$1" >&2
    exit 1
}

# cudarc's functions of one library, as a library that has them all and fails: there is something to link with, and the
# loader must be given the true one, or the simulated one, to run.
stub() { # stub NAME MODULE VERSION PREFIX STATUS
    local names
    names=$(grep -rhoE "\b$4[A-Z][A-Za-z0-9_]*[[:space:]]*\(" "$cudarc/src/$2/sys" | tr -d ' (' | sort -u) &&
        [ -n "$names" ] || fail "no function of lib$1 in $cudarc"
    sed "s/.*/int &(void) { return $5; }/" <<<"$names" |
        gcc -x c -shared -fPIC -w "-Wl,-soname,lib$1.so.$3" -o "$kit/lib/stubs/lib$1.so" -
}

kit=$root/site/nvidia/cu13
wanted=$(printf '%s\n' "${wheels[@]}" && cat "$0")
if [ "$(cat "$root/installed" 2>/dev/null)" = "$wanted" ]; then
    printf 'setup-cuda: %s is there\n' "$root"
    exit 0
fi

[ "$(uname -sm)" = 'Linux x86_64' ] || fail "only for Linux on x86-64, this is $(uname -sm)"
for tool in g++ cargo python3; do
    command -v "$tool" >/dev/null || fail "\`$tool\` is missing"
done
python3 -m pip --version >/dev/null 2>&1 || fail 'python3 has no pip (on Debian: the package python3-pip)'
cudarc=$(cargo metadata --locked --format-version 1 --features cuda --filter-platform x86_64-unknown-linux-gnu |
    python3 -c 'import json, os, sys
print(next(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))') ||
    fail 'cudarc is not among the dependencies with the feature `cuda`'

printf 'setup-cuda: %d wheels to %s\n' "${#wheels[@]}" "$root"
rm -rf "$root/site" "$root/installed"
python3 -m pip install --quiet --no-deps --only-binary=:all: --no-compile --no-cache-dir --disable-pip-version-check \
    --root-user-action=ignore --target "$root/site" "${wheels[@]}" || fail 'the wheels could not be installed'

# The layout that nvcc and build scripts look for, and the names that a linker does.
chmod +x "$kit"/bin/* "$kit"/nvvm/bin/*
rm -f "$kit"/lib/*.a "$kit"/lib/*.alt.so.* "$kit"/lib/libcurand.so.*
ln -sfn lib "$kit/lib64"
for library in "$kit"/lib/lib*.so.*; do
    name=${library##*/}
    [ -L "$library" ] || ln -sfn "$name" "$kit/lib/${name%%.so.*}.so"
done
for folder in bin include lib lib64 nvvm; do
    ln -sfn "site/nvidia/cu13/$folder" "$root/$folder"
done
mkdir -p "$kit/lib/stubs"
stub cuda driver 1 cu 34 # CUDA_ERROR_STUB_LIBRARY
stub cublas cublas 13 cublas 1 # each library's "not initialized"
stub cublasLt cublaslt 13 cublasLt 1
stub curand curand 10 curand 101

cat >"$root/env.sh" <<END
export CUDA_HOME=$root CUDA_PATH=$root CUDA_ROOT=$root
export NVCC=$PWD/scripts/nvcc-lite
export CUDA_COMPUTE_CAP=90 CUDARC_CUDA_VERSION=13000
export LIBRARY_PATH=$root/lib64:$root/lib64/stubs
case :\$PATH: in *:$root/bin:*) ;; *) export PATH=$root/bin:\$PATH ;; esac
END
"$root/bin/nvcc" --version | grep release || fail 'nvcc does not run'
printf %s "$wanted" >"$root/installed"
