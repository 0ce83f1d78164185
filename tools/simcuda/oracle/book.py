"""The fixture: forms of instructions, each with rows of inputs and of what must come out.

    form add.rn.f32              the opcode with its modifiers and types
    in f32 f32                   what the kernel reads for each thread
    out f32                      what it writes
    ptx add.rn.f32 $d0, $a0, $a1;
    3f800000 33800000 3f800000   a row: inputs, outputs

An output is its bits; `nan` for any NaN of its type; `x/y` if both are right; `x:y` for all from x to y, as numbers of its
type; `?` for anything. A row is a thread: blocks have 64 threads, so 32 rows, and each 32 after them, are a warp.

`$a` and `$d` are the registers of inputs and outputs. `$g`, `$s` and `$l` are addresses of 64 bytes that each thread has in
global, shared and local memory, `$w` of 64 bytes of global memory that a warp has in common; all are zero at first.
"""

from dataclasses import dataclass, field
from random import Random

import ieee

WIDTHS = {"pred": 1, "f16x2": 32, "bf16x2": 32}


def width(kind):
    """The bits of a type: its digits, but for predicates and pairs."""
    return WIDTHS.get(kind) or int(kind.lstrip("bfsu"))


def wrap(value, bits):
    return value & ((1 << bits) - 1)


def signed(value, bits):
    return value - (1 << bits) if value >> (bits - 1) else value


def digits(value, kind):
    """Bits as hexadecimal digits."""
    return f"{wrap(value, width(kind)):0{(width(kind) + 3) // 4}x}"


@dataclass
class Form:
    name: str
    inputs: list
    outputs: list
    body: str
    prelude: str = ""
    parameters: list = field(default_factory=list)
    rows: list = field(default_factory=list)

    def text(self):
        lines = [f"form {self.name}"]
        lines += [f"in {' '.join(self.inputs)}"] if self.inputs else []
        lines += [f"out {' '.join(self.outputs)}"]
        lines += [f"param {kind} {digits(value, kind)}" for kind, value in self.parameters]
        lines += [f"pre {line.strip()}" for line in self.prelude.splitlines() if line.strip()]
        lines += [f"ptx {line.strip()}" for line in self.body.splitlines() if line.strip()]
        for given, expected in self.rows:
            lines.append(" ".join([digits(g, kind) for g, kind in zip(given, self.inputs, strict=True)] + expected))
        return "\n".join(lines) + "\n"


class Book:
    """The forms of one fixture."""

    def __init__(self):
        self.forms = {}

    def form(self, name, inputs, outputs, given, answer, body=None, **rest):
        """Adds a form. `given` are rows of inputs as bits. `answer` gets one, signed integers as such, and returns what comes
        out: an integer, a word of the fixture, or a list of these."""
        assert name not in self.forms, name
        operands = ", ".join([f"$d{i}" for i in range(len(outputs))] + [f"$a{i}" for i in range(len(inputs))])
        form = Form(name, inputs, outputs, body or f"{name} {operands};", **rest)
        for row in given:
            row = [wrap(value, width(kind)) for value, kind in zip(row, inputs, strict=True)]
            found = answer(*(signed(value, width(kind)) if kind[0] == "s" else value for value, kind in zip(row, inputs)))
            found = found if isinstance(found, (list, tuple)) else [found]
            words = [
                word if isinstance(word, str) else digits(int(word), kind) for word, kind in zip(found, outputs, strict=True)
            ]
            form.rows.append((row, words))
        self.forms[name] = form

    def text(self):
        return "".join(form.text() for form in self.forms.values())


def generator(name):
    """A generator that depends on a name alone, so that a new form leaves the others as they are."""
    return Random(f"simcuda {name}")


def integers(bits, rng, extra=()):
    """An integer: an extreme, a small one, or a random one of any length."""
    edges = [0, 1, 2, 3, -1, -2, 1 << (bits - 1), (1 << (bits - 1)) - 1, (1 << (bits - 1)) + 1, 0x55555555_55555555, *extra]
    if rng.random() < 0.4:
        return wrap(rng.choice(edges), bits)
    value = rng.getrandbits(rng.randint(1, bits))
    return wrap(-value if rng.random() < 0.3 else value, bits)


def floats(form, rng):
    """The bits of a float: a special one, one near to one or to a power, a small integer or half, or any."""
    sign = rng.choice((0, form.sign))
    kind = rng.random()
    if kind < 0.3:
        small = form.smallest_normal
        return sign | rng.choice(
            [0, 0, 1, 2, small - 1, small // 2, small, small + 1, form.one, form.one - 1, form.one + 1, form.largest,
             form.largest - 1, form.infinity, form.infinity, form.canonical_nan, form.infinity + 1,
             form.infinity + (small >> 1)]
        )
    if kind < 0.45:
        return sign | rng.getrandbits(form.fraction_bits)
    if kind < 0.6:
        return form.round(ieee.number(ieee.Fraction(rng.randint(-20, 20), 2)), "rn")
    if kind < 0.8:
        return sign | ((form.bias + rng.randint(-3, 3)) << form.fraction_bits) | rng.getrandbits(form.fraction_bits)
    return rng.getrandbits(form.width)


def value(kind, rng):
    """The bits of an input of a type."""
    if kind == "pred":
        return rng.getrandbits(1)
    if kind in ieee.FORMATS:
        return floats(ieee.FORMATS[kind], rng)
    if kind in ("f16x2", "bf16x2"):
        half = ieee.FORMATS[kind[:-2]]
        return floats(half, rng) << 16 | floats(half, rng)
    return integers(width(kind), rng)


def rows(name, kinds, count):
    """Rows of inputs of these types."""
    rng = generator(name)
    return [[value(kind, rng) for kind in kinds] for _ in range(count)]
