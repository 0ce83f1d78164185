"""What the Python peers share: reading the data, and answering lines on standard input, as README.md says."""

import json
import sys
import time

import numpy as np

ELEMENTS = 10_000_000
RATE = 0.5


def load(name):
    """The tensors of a file that data.py wrote, by name."""
    with open(f"{sys.argv[1]}/{name}.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()

    def tensor(entry):
        dtype = {"F32": np.float32, "U32": np.uint32}[entry["dtype"]]
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], dtype).reshape(entry["shape"])
        return array.astype(np.int32) if dtype == np.uint32 else array.copy()

    return {key: tensor(entry) for key, entry in header.items()}


def digest(arrays):
    """The bits of all elements, each times its place, summed modulo 2^64."""
    total = 0
    for array in map(np.asarray, arrays):
        bits = array.view(np.uint8 if array.dtype.itemsize == 1 else np.uint32).astype(np.uint64)
        total += int((bits * np.arange(1, len(bits) + 1, dtype=np.uint64)).sum(dtype=np.uint64))
    return [str(total % 2**64)]


def norms(arrays):
    """The norm of all elements of each, and the first element of the first."""
    arrays = [np.asarray(array).ravel().astype(np.float64) for array in arrays]
    return [*(float(np.linalg.norm(array)) for array in arrays), float(arrays[0][0])]


def norm_of_all(arrays):
    """The norm of all elements together, and the first of them."""
    return norms([np.concatenate([np.asarray(array).ravel() for array in arrays])])


class Work:
    """A workload made ready: `step` may return before its work is done, `wait` returns after it, and `numbers` are
    those by which the peers are compared."""

    def __init__(self, step, wait, numbers):
        self.step, self.wait, self.numbers = step, wait, []
        for steps in (1, 9):
            for _ in range(steps):
                step()
            wait()
            self.numbers += numbers()
        self.group = 1
        while self.time_group() < 5 and self.group < 4096:
            self.group *= 2

    def time_group(self):
        """Milliseconds of as many steps as one measurement takes, until their work is done."""
        before = time.perf_counter()
        for _ in range(self.group):
            self.step()
        self.wait()
        return (time.perf_counter() - before) * 1e3

    def measure(self, seconds):
        ms, start = [], time.perf_counter()
        while len(ms) < 3 or time.perf_counter() - start < seconds:
            ms.append(self.time_group() / self.group)
        return {"ms": ms, "steps": len(ms) * self.group, "numbers": self.numbers}


def serve(workloads, version):
    """`workloads` maps a name to a function that gives its `Work`, or what `Work` is made of. One is kept at a time."""
    current, work = None, None
    for line in sys.stdin:
        name, seconds = line.split()
        try:
            if name not in workloads:
                answer = {}
            else:
                if name != current:
                    current, work = None, None
                    work = Work(*workloads[name]())
                    current = name
                answer = {**work.measure(float(seconds)), "version": version}
        except Exception as error:  # one workload may fail, the others go on
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)
