#!/usr/bin/env python3
"""Measures treex and its peers in turn, and prints a table: see README.md."""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess

here = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--jax", default="python3", help="a Python that has jax")
parser.add_argument("--torch", default="python3", help="a Python that has torch")
parser.add_argument("--treex", default=f"{here}/../../target/release/examples/treex-peer")
parser.add_argument("--only", default="uniform,normal,mask,dropout,dropout_grad", help="workloads")
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--seconds", type=float, default=0.3, help="for each measurement of a round")
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

COMMANDS = {
    "treex": [args.treex],
    "jax": [*shlex.split(args.jax), f"{here}/jax_peer.py"],
    "torch": [*shlex.split(args.torch), f"{here}/torch_peer.py"],
    "torch.compile": [*shlex.split(args.torch), f"{here}/torch_peer.py", "--compile"],
}
# glibc gives large buffers back to the system, which clears them anew for the next call; or it keeps them.
KEEP = str(8 << 30)
ALLOCATORS = {
    "default": {},
    "keeping": {
        "MALLOC_TRIM_THRESHOLD_": KEEP,
        "MALLOC_MMAP_THRESHOLD_": KEEP,
        "MALLOC_TOP_PAD_": str(64 << 20),
    },
}
# Whose numbers must be the same.
SAME = ("treex", "jax")


def start(command, allocator):
    threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
    environment = {**os.environ, **threads, "JAX_PLATFORMS": "cpu", **allocator}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def ask(peer, workload):
    peer.stdin.write(f"{workload} {args.seconds}\n")
    peer.stdin.flush()
    line = peer.stdout.readline()
    if not line:
        raise SystemExit(f"{shlex.join(peer.args)} stopped at {workload}")
    return json.loads(line)


os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
peers = {(name, kind): start(command, allocator)
         for name, command in COMMANDS.items() for kind, allocator in ALLOCATORS.items()}
workloads = args.only.split(",")
times, digests, versions = {}, {}, {}
loads = [os.getloadavg()[0]]
for round_ in range(args.rounds + 1):
    for workload in workloads:
        for (name, kind), peer in peers.items():
            answer = ask(peer, workload)
            if "ms" in answer and round_ > 0:  # the first round warms up
                times.setdefault((workload, name, kind), []).append(answer["ms"])
                digests.setdefault((workload, name), set()).add(answer["digest"])
                versions[name] = answer["version"]
    loads.append(os.getloadavg()[0])
for peer in peers.values():
    peer.stdin.close()
    peer.wait()


def milliseconds(workload, name, of):
    """The faster allocator's, of the rounds' medians or of all steps."""
    rounds = [times[workload, name, kind] for kind in ALLOCATORS if (workload, name, kind) in times]
    return min((of(r) for r in rounds), default=None)


def middle(rounds):
    return statistics.median(statistics.median(ms) for ms in rounds)


def least(rounds):
    return min(min(ms) for ms in rounds)


def table(title, of):
    print(f"\n{title}\n")
    names = list(COMMANDS)
    print("| workload | " + " | ".join(names) + " | " + " | ".join(f"{name} / treex" for name in names[1:]) + " |")
    print("|---" * (2 * len(names)) + "|")
    for workload in workloads:
        ms = [milliseconds(workload, name, of) for name in names]
        cells = [f"{x:.2f}" if x else "-" for x in ms]
        ratios = [f"{x / ms[0]:.1f}" if x and ms[0] else "-" for x in ms[1:]]
        print(f"| {workload} | " + " | ".join(cells + ratios) + " |")


def cpu():
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


print(f"{datetime.date.today()}, {cpu()}, {args.threads} threads; "
      + ", ".join(f"{name} {version}" for name, version in versions.items())
      + f"; load {min(loads):.1f} to {max(loads):.1f}")
table("ms a step, median of the rounds' medians, the faster allocator setting of each", middle)
table("ms a step, least of all", least)
print("\n| workload | treex, default allocator | treex, keeping |\n|---|---|---|")
for workload in workloads:
    print(f"| {workload} | " + " | ".join(f"{middle(times[workload, 'treex', kind]):.2f}" for kind in ALLOCATORS) + " |")
different = [w for w in workloads if len(set().union(*(digests.get((w, name), set()) for name in SAME))) != 1]
print(f"\nThe numbers of {' and '.join(SAME)} are the same" + (f", except for {different}" if different else "") + ".")
raise SystemExit(bool(different))
