#!/usr/bin/env python3
"""Measures treex and its peers in turn, and prints tables: see README.md."""

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
built = f"{here}/../../target/release/examples"
WORKLOADS = "a,a_sync,b,c,d,e,e_many,f,g_dropout,g_dropout_grad,g_layernorm,g_mask,g_normal,g_uniform,g_xent"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--jax", default="python3", help="a Python that has jax, flax and optax")
parser.add_argument("--torch", default="python3", help="a Python that has torch")
parser.add_argument("--treex", default=f"{built}/treex-peer")
parser.add_argument("--candle", default=f"{built}/candle-peer")
parser.add_argument("--burn", default=f"{here}/burn/target/release/burn-peer")
parser.add_argument("--only", default=WORKLOADS, help="workloads")
parser.add_argument("--without", default="", help="peers to leave out")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--seconds", type=float, default=0.3, help="for each measurement of a round")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--patience", type=float, default=300, help="seconds after which a peer is given up")
parser.add_argument("--memory", action="store_true", help="memory and page faults instead of time")
args = parser.parse_args()

jax = [*shlex.split(args.jax), f"{here}/jax_peer.py"]
torch = [*shlex.split(args.torch), f"{here}/torch_peer.py"]
# The folder of the data comes after the program, before its options.
COMMANDS = {
    "treex": ([args.treex], []),
    "jax": (jax, []),
    "torch": (torch, []),
    "torch fused": (torch, ["--fused"]),
    "torch foreach": (torch, ["--foreach"]),
    "torch.compile": (torch, ["--compile"]),
    "candle": ([args.candle], []),
    "burn flex": ([args.burn], ["flex"]),
    "burn ndarray": ([args.burn], ["ndarray"]),
}
if args.memory:
    COMMANDS["treex leaving"] = ([args.treex], ["--leave-memory"])
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
# Where every library draws numbers of its own, another workload is compared.
CHECKED_BY = {"c": "c_without_dropout"}
# Losses and norms may differ by this part of them; bits are compared where treex promises JAX's.
TOLERANCE = 1e-4
SAME_BITS = ("treex", "jax")


class Peer:
    """A process that answers lines; started when it is first asked, and again after it was given up."""

    def __init__(self, name, allocator, data):
        program, options = COMMANDS[name]
        self.name, self.allocator, self.command, self.process = name, allocator, [*program, data, *options], None
        threads = {key: str(args.threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
        caches = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": f"{data}/jax"}
        self.environment = {**os.environ, **threads, **caches, **ALLOCATORS[allocator]}

    def ask(self, workload, seconds):
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=None if self.name == "treex" else subprocess.DEVNULL, text=True, start_new_session=True,
            )
        alarm = threading.Timer(args.patience, self.kill)
        alarm.start()
        try:
            print(workload, seconds, file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        alarm.cancel()
        if line:
            return json.loads(line)
        self.stop()
        return {"error": f"stopped, or took more than {args.patience:.0f} s"}

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self):
        if self.process is not None:
            self.process.communicate()  # closes its input, at which it ends
            self.process = None

    def proc(self, file):
        with open(f"/proc/{self.process.pid}/{file}") as text:
            return text.read()

    def stat(self, *fields):
        """Numbers of /proc/PID/stat, counted as in its manual."""
        values = self.proc("stat").rpartition(")")[2].split()
        return sum(int(values[field - 3]) for field in fields)


def busy():
    """Seconds that all cores together were not idle."""
    with open("/proc/stat") as text:
        user, nice, system, *_ = map(int, text.readline().split()[1:])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def own(peers):
    running = [peer for peer in peers if peer.process is not None]
    return sum(os.times()[:2]) + sum(peer.stat(14, 15) for peer in running) / os.sysconf("SC_CLK_TCK")


def cpu():
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(title, header, rows):
    print(f"\n{title}\n\n| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def short(value):
    return "-" if value is None else f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def head(versions):
    print(f"{datetime.date.today()}, {cpu()}, {args.threads} threads; "
          + ", ".join(f"{name} {version}" for name, version in versions.items()))


# --- time ---------------------------------------------------------------------------------------------------------


def measure_time(names, workloads, data):
    times, numbers, versions, others, notes = {}, {}, {}, {}, set()
    peers = [Peer(name, allocator, data) for name in names for allocator in ALLOCATORS]

    def ask(peer, workload, seconds):
        answer = peer.ask(workload, seconds)
        if "error" in answer:
            notes.add(f"{peer.name}, {peer.allocator}, {workload}: {answer['error']}")
        if "version" in answer:
            versions[peer.name.split()[0].removesuffix(".compile")] = answer["version"]
        return answer if "ms" in answer else None

    for workload in workloads:
        print(f"{time.strftime('%H:%M:%S')} {workload}", file=sys.stderr)
        able = []
        for peer in peers:  # makes ready and compares
            checked = ask(peer, CHECKED_BY.get(workload, workload), 0)
            if checked:
                numbers.setdefault(workload, {})[peer.name, peer.allocator] = checked["numbers"]
            if workload in CHECKED_BY:
                checked = ask(peer, workload, 0)
            if checked:
                able.append(peer)
        before, busy_before, own_before = time.monotonic(), busy(), own(peers)
        for _ in range(args.rounds):
            for peer in able:
                answer = ask(peer, workload, args.seconds)
                if answer:
                    times.setdefault((workload, peer.name, peer.allocator), []).append(answer["ms"])
        wall = time.monotonic() - before
        others[workload] = max(0.0, busy() - busy_before - (own(peers) - own_before)) / wall
    for peer in peers:
        peer.stop()
    return times, numbers, versions, others, notes


def middles(rounds):
    return [statistics.median(ms) for ms in rounds]


def faster(times, workload, name):
    """The rounds under the allocator setting with which it is faster."""
    both = [times[workload, name, allocator] for allocator in ALLOCATORS if (workload, name, allocator) in times]
    return min(both, key=lambda rounds: statistics.median(middles(rounds)), default=None)


def different(numbers):
    """Who disagrees with treex, as a list of sentences."""
    faults = []
    ours = numbers.get(("treex", "default"), [])
    for (name, allocator), theirs in numbers.items():
        bits = any(isinstance(number, str) for number in theirs)
        if not theirs or bits and name not in SAME_BITS:
            continue
        close = len(theirs) == len(ours) and all(
            a == b if bits else abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in zip(theirs, ours)
        )
        if not close:
            faults.append(f"{name}, {allocator}: {theirs}, and treex {ours}")
    return faults


def time_of_all(names, workloads, data):
    times, numbers, versions, others, notes = measure_time(names, workloads, data)
    chosen = {(w, name): faster(times, w, name) for w in workloads for name in names}
    middle = {key: rounds and statistics.median(middles(rounds)) for key, rounds in chosen.items()}
    least = {key: rounds and min(map(min, rounds)) for key, rounds in chosen.items()}
    spread = {key: rounds and max(middles(rounds)) / min(middles(rounds)) for key, rounds in chosen.items()}

    def verdict(workload):
        ours = middle[workload, "treex"]
        known = {name: middle[workload, name] for name in names[1:] if middle[workload, name]}
        best = min(known, key=known.get, default=None)
        if not ours or not best:
            return ["-"] * 4
        ratio, width = known[best] / ours, max(spread[workload, "treex"], spread[workload, best])
        word = "even" if 1 / width <= ratio <= width else "ahead" if ratio > 1 else "behind"
        return [best, f"{ratio:.2f}", f"{width:.2f}", word]

    head(versions)
    ratios = [
        [w, short(middle[w, "treex"])]
        + [f"{middle[w, n] / middle[w, 'treex']:.2f}" if middle[w, n] and middle[w, "treex"] else "-" for n in names[1:]]
        + verdict(w) + [f"{others[w]:.1f}"]
        for w in workloads
    ]
    table("treex's ms a step, and how many times as long each peer takes: medians over the rounds of the rounds' medians, "
          "the faster allocator setting of each.\nThe spread is the greatest by the least round, of treex or the best peer, "
          "whichever is wider; others are the cores that\nother programs kept busy.",
          ["workload", "treex", *names[1:], "best", "its ratio", "spread", "treex is", "others"], ratios)
    for title, values in (("ms a step, the same medians", middle), ("ms a step, least of all", least),
                          ("greatest by least of the rounds' medians", spread)):
        table(title, ["workload", *names], [[w, *(short(values[w, name]) for name in names)] for w in workloads])
    each = [[w, *(short(statistics.median(middles(times[w, "treex", a]))) if (w, "treex", a) in times else "-" for a in ALLOCATORS)]
            for w in workloads]
    table("ms a step of treex, by allocator setting", ["workload", *ALLOCATORS], each)
    faults = [f"{w}: {fault}" for w in workloads for fault in different(numbers.get(w, {}))]
    missing = [f"{w}: treex has no numbers" for w in workloads if (w, "treex", "default") not in times]
    print(f"\nWithout a result: {'; '.join(sorted(notes)) or 'none, but for what a peer does not have'}.")
    print("Losses, norms and bits agree in all that were compared." if not faults + missing else "\n".join(faults + missing))
    return not faults + missing


# --- memory -------------------------------------------------------------------------------------------------------


def memory_of(peer, workload):
    """MiB at the peak and page faults a step, of a process that did nothing else; making ready does not count."""
    if "ms" not in peer.ask(workload, 0):
        return None
    with open(f"/proc/{peer.process.pid}/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before = peer.stat(10)
    answer = peer.ask(workload, args.seconds)
    faults = (peer.stat(10) - before) / answer["steps"]
    peak = next(line for line in peer.proc("status").splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024, faults, answer["version"]


def memory_of_all(names, workloads, data):
    found, versions = {}, {}
    for workload in workloads:
        for name in names:
            for allocator in ALLOCATORS:
                peer = Peer(name, allocator, data)
                found[workload, name, allocator] = memory = memory_of(peer, workload)
                if memory:
                    versions[name.split()[0].removesuffix(".compile")] = memory[2]
                peer.stop()
    head(versions)
    for allocator in ALLOCATORS:
        rows = [[w] + [f"{m[0]:.0f}, {m[1]:.0f}" if (m := found[w, name, allocator]) else "-" for name in names] for w in workloads]
        table(f"peak resident MiB, page faults a step; allocator: {allocator}", ["workload", *names], rows)
    return all(found[w, "treex", allocator] for w in workloads for allocator in ALLOCATORS)


os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
left_out = [name for name, (program, _) in COMMANDS.items() if not shutil.which(program[0])]
for name in left_out:
    print(f"{name} is left out: there is no `{COMMANDS[name][0][0]}`.")
names = [name for name in COMMANDS if name not in left_out and name not in args.without.split(",")]
with tempfile.TemporaryDirectory() as data:
    subprocess.run([*shlex.split(args.jax), f"{here}/data.py", data], check=True)
    good = (memory_of_all if args.memory else time_of_all)(names, args.only.split(","), data)
raise SystemExit(not good)
