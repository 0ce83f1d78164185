"""Numbers of NVIDIA's cuRAND, by its generators on the host, which need no GPU: `python3 oracle/curand.py LIBCURAND`.

Prints the table that the tests of `src/rand` hold the simulated library against: on each line the generator, the seed,
the offset, and then calls on that one generator: a new seed, or a distribution, a count, and the numbers at chosen
places as bits.
"""

import ctypes
import struct
import sys

LIBRARY = ctypes.CDLL(sys.argv[1])
TYPES = {
    "": (ctypes.c_uint, "I"),
    "Uniform": (ctypes.c_float, "f"),
    "UniformDouble": (ctypes.c_double, "d"),
    "Normal": (ctypes.c_float, "f"),
    "NormalDouble": (ctypes.c_double, "d"),
}


def check(status):
    if status:
        raise SystemExit(f"cuRAND answered {status}")


def line(kind, seed, offset, calls):
    generator = ctypes.c_void_p()
    check(LIBRARY.curandCreateGeneratorHost(ctypes.byref(generator), kind))
    check(LIBRARY.curandSetPseudoRandomGeneratorSeed(generator, ctypes.c_ulonglong(seed)))
    check(LIBRARY.curandSetGeneratorOffset(generator, ctypes.c_ulonglong(offset)))
    words = [str(kind), str(seed), str(offset)]
    for name, count in calls:
        if name == "Seed":
            check(LIBRARY.curandSetPseudoRandomGeneratorSeed(generator, ctypes.c_ulonglong(count)))
            words.append(f"Seed {count}")
            continue
        c_type, code = TYPES[name]
        numbers = (c_type * count)()
        more = (c_type(1.5), c_type(2.0)) if name.startswith("Normal") else ()
        check(getattr(LIBRARY, "curandGenerate" + name)(generator, numbers, ctypes.c_size_t(count), *more))
        places = sorted({p for p in (0, 1, 2, 3, count // 3, count // 2, count - 2, count - 1) if 0 <= p < count})
        chosen = [f"{p}={struct.pack('>' + code, numbers[p]).hex()}" for p in places]
        words.append(" ".join([name or "Bits", str(count), *chosen]))
    print(" | ".join(words))


for seed, offset in [(0, 0), (299792458, 0), (2**64 - 1, 0), (299792458, 5), (1, 4096), (1, 123456789)]:
    line(100, seed, offset, [("", 10), ("Uniform", 5000), ("", 6)])
    line(100, seed, offset, [("UniformDouble", 4100), ("", 5000), ("UniformDouble", 6)])
    line(100, seed, offset, [("Normal", 10), ("", 8), ("Normal", 9000), ("Uniform", 9)])
    line(100, seed, offset, [("NormalDouble", 10), ("", 8), ("NormalDouble", 9000), ("Uniform", 9)])
for seed, offset in [(0, 0), (299792458, 8), (2**64 - 1, 2**18), (1, 2**40)]:
    line(161, seed, offset, [("", 10), ("Uniform", 300000), ("", 6)])
line(100, 5, 7, [("", 10), ("Seed", 6), ("Normal", 10), ("UniformDouble", 3), ("Seed", 7), ("", 10)])
for seed in (0, 299792458):
    line(161, seed, 0, [("Normal", 12)])
