"""The device kernels as NVIDIA's assembler sees them, for compute capabilities 8.0 and 9.0: registers, spills, shared memory and
occupancy, the worst of all variants of a kernel. A spill, a stack frame, or an occupancy below the bound is an error.

    python3 scripts/kernel-table.py FOLDER    # of compiled kernels; scripts/test-cuda-sim.sh fills one
"""

import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ARCHITECTURES = ("sm_80", "sm_90")
THREADS = 256  # of a group
REGISTERS = 65536  # of a multiprocessor, given to warps in units of 256
WARPS = 64
SHARED = {"sm_80": 164 * 1024, "sm_90": 228 * 1024}
RESERVED = 1024  # of shared memory, for each group
LEAST = 0.5  # of the warps at a time


def assembled(path):
    """For each kernel of a file and each architecture: registers, bytes of stack and spills, bytes of shared memory."""
    text = path.read_text()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ARCHITECTURES:
            # Of the features of the later one, kernels use none.
            source = pathlib.Path(folder) / "kernel.ptx"
            source.write_text(re.sub(r"^\.target .*$", f".target {architecture}", text, flags=re.M))
            command = ["ptxas", "-v", f"-arch={architecture}", "-o", f"{folder}/cubin", source]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode != 0:
                sys.exit(f"kernel-table: {path.name}: {run.stderr}")
            entries = re.split(r"Compiling entry function '(\w+)'", run.stderr)
            for name, report in zip(entries[1::2], entries[2::2]):
                number = lambda pattern: sum(int(n) for n in re.findall(pattern, report))
                spilled = number(r"(\d+) bytes stack frame") + number(r"(\d+) bytes spill")
                found[name, architecture] = (number(r"Used (\d+) registers"), spilled, number(r"(\d+) bytes smem"))
    return found


def occupancy(architecture, registers, shared):
    """The share of a multiprocessor's warps that run at a time."""
    warps = THREADS // 32
    of_warp = -(-registers * 32 // 256) * 256
    groups = min(WARPS // warps, REGISTERS // of_warp // warps, SHARED[architecture] // (shared + RESERVED))
    return groups * warps / WARPS


def main(folder):
    paths = sorted(pathlib.Path(folder).glob("*.ptx"))
    if not paths:
        sys.exit(f"kernel-table: no kernel in {folder}")
    worst = {}
    with ThreadPoolExecutor() as pool:
        for found in pool.map(assembled, paths):
            for key, numbers in found.items():
                old = worst.get(key, (0, 0, 0))
                worst[key] = tuple(map(max, old, numbers))
    faults = []
    print(f"{'kernel':<32}{'':>7}{'registers':>11}{'spills':>8}{'shared':>8}{'occupancy':>11}")
    for (name, architecture), (registers, spilled, shared) in sorted(worst.items()):
        share = occupancy(architecture, registers, shared)
        print(f"{name:<32}{architecture:>7}{registers:>11}{spilled:>8}{shared:>8}{share:>11.0%}")
        if spilled or share < LEAST:
            faults.append(f"{name} on {architecture}: {spilled} bytes of stack and spills, an occupancy of {share:.0%}")
    print(f"{len(paths)} compiled texts")
    sources = pathlib.Path("treex-core/src/device").rglob("*.rs")
    launched = {name for path in sources for name in re.findall(r'Kernel \{ name: "(\w+)"', path.read_text())}
    missing = (launched | {"sweep", "sums", "totals", "bernoulli"}) - {name for name, _ in worst}
    faults += [f"{name} was not compiled" for name in sorted(missing)]
    if faults:
        sys.exit("kernel-table: " + "\nkernel-table: ".join(faults))


main(*sys.argv[1:])
