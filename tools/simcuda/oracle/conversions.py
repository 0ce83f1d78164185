"""`cvt` (chapter 9.7.9.21 of the manual)."""

from fractions import Fraction
from itertools import product

import ieee
from book import digits, floats, generator, integers, rows, signed, width, wrap
from floats import finish, in_pairs
from ieee import BF16, E4M3, E5M2, F16, F32, F64, FORMATS, NAN
from integers import clamp

INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")
COUNT = 24


def register(kind):
    """The register that holds a type: the smallest has 16 bits."""
    return f"b{max(width(kind), 16)}"


def extended(value, kind):
    """An integer in its register: extended by its sign, or by zeros."""
    value = wrap(value, width(kind))
    return signed(value, width(kind)) if kind[0] == "s" else value


def source(kind, bits):
    """An integer from the low bits of its register."""
    value = wrap(bits, width(kind))
    return signed(value, width(kind)) if kind[0] == "s" else value


def span(kind):
    """The least and the largest of an integer type."""
    return clamp(-(1 << 70), kind), clamp(1 << 70, kind)


def between_integers(book):
    for d, a in product(INTEGERS, INTEGERS):
        name = f"cvt.{d}.{a}"
        given = rows(name, [register(a)], COUNT)
        book.form(name, [register(a)], [register(d)], given, lambda x: extended(source(a, x), d))
        if span(d)[0] > span(a)[0] or span(d)[1] < span(a)[1]:
            name = f"cvt.sat.{d}.{a}"
            book.form(name, [register(a)], [register(d)], given, lambda x: extended(clamp(source(a, x), d), d))
    # Registers may be wider than the types.
    name = "cvt.s64.s8"
    book.form(f"{name} from 32 bits", ["b32"], ["b64"], rows(name, ["b32"], COUNT), lambda x: source("s8", x), body=f"{name} $d0, $a0;")
    for d in ("u8", "s8", "u16", "s16"):
        name = f"cvt.{d}.u32"
        book.form(
            f"{name} to 32 bits", ["b32"], ["b32"], rows(name, ["b32"], COUNT), lambda x: extended(x, d), body=f"{name} $d0, $a0;"
        )


def from_integers(book):
    for form, a, mode in product(FORMATS.values(), INTEGERS, ieee.MODES):
        if form is BF16 and width(a) == 8:
            continue  # needs a register of 8 bits
        for ftz, sat in product(("", ".ftz") if form is F32 else ("",), ("", ".sat") if form is not BF16 else ("",)):
            dots, count = f".{mode}{ftz}{sat}", 4 if ftz else COUNT
            name = f"cvt{dots}.{form.name}.{a}"
            rng = generator(name)
            given = [[integers(width(register(a)), rng)] for _ in range(count // 2)]
            for _ in range(count // 2):  # a digit more than the format holds: ties
                length = min(rng.randint(form.fraction_bits, form.fraction_bits + 4), width(a) - 1)
                given.append([wrap((1 << length | rng.getrandbits(length)) * rng.choice((1, -1)), width(register(a)))])

            def answer(bits):
                return finish(form, ieee.number(Fraction(source(a, bits))), mode, sat=bool(sat))

            book.form(name, [register(a)], [form.name], given, answer)


def near_integers(form, kind, rng):
    """A float for a conversion to integers: halves, the ends of the range, or any."""
    pick = rng.random()
    low, high = span(kind)
    if pick < 0.3:
        exact = Fraction(rng.randint(-40, 40), 2)
    elif pick < 0.6:
        exact = Fraction(rng.choice((low, high))) + Fraction(rng.randint(-6, 6), 4)
    elif pick < 0.8:
        exact = Fraction(rng.randint(-1 << 20, 1 << 20), 1 << rng.randint(0, 22))
    else:
        return floats(form, rng)
    return form.round(ieee.number(exact), rng.choice(ieee.MODES))


def to_integers(book):
    for form, d, mode in product(FORMATS.values(), INTEGERS, ieee.MODES):
        if form is BF16 and width(d) == 8:
            continue
        for ftz in ("", ".ftz") if form is F32 else ("",):
            for sat in ("", ".sat") if form is not BF16 else ("",):
                name = f"cvt.{mode}i{ftz}{sat}.{d}.{form.name}"
                rng = generator(name)
                given = [[near_integers(form, d, rng)] for _ in range(COUNT)] + [[form.canonical_nan], [form.infinity], [form.sign | 1]]

                def answer(bits):
                    x = form.decode(form.flush(bits) if ftz else bits)
                    if x == NAN:
                        return extended(1 << (width(d) - 1), d) if form is F64 or width(d) == 64 else 0
                    if not x.finite:
                        return extended(span(d)[0] if x.negative else span(d)[1], d)
                    return extended(clamp(ieee.to_integral(x, mode), d), d)

                book.form(name, [form.name], [register(d)], given, answer)


def ties(d, a, rng):
    """A float that lies at, or next to, the middle of two of a narrower format; or any."""
    if rng.random() < 0.4:
        return floats(a, rng)
    low = rng.choice((0, d.smallest_normal, d.largest - 3, d.one, rng.getrandbits(d.width - 1)))
    low = min(low + rng.randint(0, 3), d.largest)
    here = d.decode(low).magnitude
    exact = here + d.ulp(here) * Fraction(rng.choice((0, 1, 2, 2, 2, 3)), 4)
    bits = a.round(ieee.number(exact), "rn") + rng.choice((-1, 0, 0, 0, 1))
    return wrap(bits, a.width - 1) | rng.choice((0, a.sign))


def between_floats(book):
    for d, a in product(FORMATS.values(), FORMATS.values()):
        exact = d.fraction_bits >= a.fraction_bits and d.exponent_bits >= a.exponent_bits
        modes = ("",) if exact else ieee.MODES
        flushes = ("", ".ftz") if F32 in (d, a) else ("",)
        for mode, ftz, sat in product(modes, flushes, ("", ".sat")):
            if sat and BF16 in (d, a):
                continue
            dots = (f".{mode}" if mode else "") + ftz + sat
            name = f"cvt{dots}.{d.name}.{a.name}"
            rng = generator(name)
            given = [[ties(d, a, rng)] for _ in range(2 * COUNT)]

            def answer(bits):
                x = a.decode(a.flush(bits) if ftz and a is F32 else bits)
                return finish(d, x, mode or "rn", ftz=bool(ftz) and d is F32, sat=bool(sat))

            book.form(name, [a.name], [d.name], given, answer)
    integral(book)
    for d in (F16, BF16):
        to_halves(book, d)


def integral(book):
    """Floats to floats that are integers."""
    for form, mode in product(FORMATS.values(), ieee.MODES):
        for ftz, sat in product(("", ".ftz") if form is F32 else ("",), ("", ".sat") if form is not BF16 else ("",)):
            name = f"cvt.{mode}i{ftz}{sat}.{form.name}.{form.name}"
            rng = generator(name)

            def answer(bits):
                x = form.decode(form.flush(bits) if ftz else bits)
                if x == NAN or not x.finite:
                    return finish(form, x, sat=bool(sat))
                whole = Fraction(ieee.to_integral(x, mode))
                return finish(form, ieee.Number(x.negative, abs(whole)), sat=bool(sat))

            book.form(name, [form.name], [form.name], [[near_integers(form, "s32", rng)] for _ in range(COUNT)], answer)


def narrowed(d, a, bits, mode, relu, finite):
    """`convert` of the manual's pseudocode, to 16 and 8 bits."""
    x = a.decode(bits)
    if finite and x != NAN and x.magnitude != 0:
        largest = d.decode(d.largest).magnitude
        if not x.finite or x.magnitude > largest:
            x = ieee.Number(x.negative, largest)
    if d in (E4M3, E5M2):
        if x == NAN:
            return digits(d.canonical_nan, "b8")
        found = d.round(x, mode)
        return digits(0, "b8") + ("/80" if found == d.sign else "") if relu and found & d.sign else digits(found, "b8")
    return finish(d, x, mode, relu=bool(relu))


def to_halves(book, d):
    for mode, relu, finite in product(("rn", "rz"), ("", ".relu"), ("", ".satfinite")):
        name = f"cvt.{mode}{relu}{finite}.{d.name}.f32"
        rng = generator(name)
        if relu or finite:
            book.form(name, ["f32"], [d.name], [[ties(d, F32, rng)] for _ in range(2 * COUNT)], lambda a: narrowed(d, F32, a, mode, relu, finite))
        name = f"cvt.{mode}{relu}{finite}.{d.name}x2.f32"
        rng = generator(name)
        book.form(
            name, ["f32"] * 2, [d.name] * 2, [[ties(d, F32, rng), ties(d, F32, rng)] for _ in range(COUNT)],
            lambda a, b: [narrowed(d, F32, b, mode, relu, finite), narrowed(d, F32, a, mode, relu, finite)],
            body=f"{{ .reg .b32 pair; {name} pair, $a0, $a1; mov.b32 {{$d0, $d1}}, pair; }}",
        )  # fmt: skip


def tensor_floats(book):
    """To tf32: the upper 19 bits of a float. What the others are, the manual leaves open."""
    tf32 = ieee.Format("tf32", 8, 10)
    for mode, relu, finite in [("rna", "", ""), ("rna", "", ".satfinite"), *product(("rn", "rz"), ("", ".relu"), ("",))]:
        name = f"cvt.{mode}{relu}{finite}.tf32.f32"
        rng = generator(name)

        def answer(bits):
            x = F32.decode(bits)
            if x == NAN:
                return "0003fc01:0003ffff" + ("" if relu else "/0007fc01:0007ffff")
            if finite and (not x.finite or x.magnitude > tf32.decode(tf32.largest).magnitude):
                return x.negative << 18 | tf32.largest
            found = tf32.round(x, mode)
            return "00000000/00040000" if relu and found & tf32.sign else found

        given = [[ties(tf32, F32, rng)] for _ in range(2 * COUNT)]
        book.form(name, ["f32"], ["b32"], given, answer, body=f"{{ .reg .b32 wide; {name} wide, $a0; shr.u32 $d0, wide, 13; }}")


def eights(book):
    """Pairs of 8 bits. They come out one by one, since a zero may have either sign after .relu."""
    for d, relu in product((E4M3, E5M2), ("", ".relu")):
        split = "and.b16 $d0, pair, 0xff; shr.u16 $d1, pair, 8; }"

        def answer(a, b, form):
            low, high = (narrowed(d, form, x, "rn", relu, True) for x in (b, a))
            return ["/".join("00" + way for way in word.split("/")) for word in (low, high)]

        name = f"cvt.rn.satfinite{relu}.{d.name}x2.f32"
        rng = generator(name)
        book.form(
            name, ["f32"] * 2, ["b16"] * 2, [[ties(d, F32, rng), ties(d, F32, rng)] for _ in range(3 * COUNT)],
            lambda a, b: answer(a, b, F32), body=f"{{ .reg .b16 pair; {name} pair, $a0, $a1; {split}",
        )  # fmt: skip
        name = f"cvt.rn.satfinite{relu}.{d.name}x2.f16x2"
        rng = generator(name)
        book.form(
            name, ["b32"], ["b16"] * 2, [[ties(d, F16, rng) << 16 | ties(d, F16, rng)] for _ in range(3 * COUNT)],
            lambda a: answer(a >> 16, a & 0xFFFF, F16), body=f"{{ .reg .b16 pair; {name} pair, $a0; {split}",
        )  # fmt: skip
        name = f"cvt.rn{relu}.f16x2.{d.name}x2"

        def widened(pair):
            return [finish(F16, d.decode(bits), "rn", relu=bool(relu)) for bits in (pair & 0xFF, pair >> 8)]

        given = [[(37 * i + 11) % 256 << 8 | i] for i in range(256)]  # each value in each place
        book.form(name, ["b16"], ["f16"] * 2, given, widened, body=f"{{ .reg .b32 pair; {name} pair, $a0; mov.b32 {{$d0, $d1}}, pair; }}")


def packing(book):
    """`mov` between a word and its parts."""
    for word, part, count in (("b32", "b16", 2), ("b64", "b32", 2), ("b64", "b16", 4)):
        bits = width(part)
        names = [f"$d{i}" for i in range(count)], [f"$a{i}" for i in range(count)]
        book.form(
            f"mov.{word} pack {count}", [part] * count, [word], rows(f"pack {word} {count}", [part] * count, 16),
            lambda *parts: sum(p << bits * i for i, p in enumerate(parts)), body=f"mov.{word} $d0, {{{', '.join(names[1])}}};",
        )  # fmt: skip
        book.form(
            f"mov.{word} unpack {count}", [word], [part] * count, rows(f"unpack {word} {count}", [word], 16),
            lambda value: [value >> bits * i for i in range(count)], body=f"mov.{word} {{{', '.join(names[0])}}}, $a0;",
        )  # fmt: skip
    book.form("mov.b32 unpack high", ["b32"], ["b16"], rows("high", ["b32"], 16), lambda a: a >> 16, body="mov.b32 {_, $d0}, $a0;")
    for kind in ("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64"):
        bits = f"b{width(kind)}"
        book.form(f"mov.{kind}", [bits], [bits], rows(f"mov {kind}", [kind], 16), lambda a: a)
    book.form("mov.pred", ["pred"], ["pred"], [[0], [1]], lambda a: a)
    constants = {
        "b16": ("0x8001", 0x8001), "b32": ("-2", -2), "b64": ("0X123456789abcdefU", 0x123456789ABCDEF),
        "u16": ("65535", 65535), "u32": ("017", 15), "u64": ("18446744073709551615U", -1), "s32": ("0b101", 5),
        "s16": ("-32768", -32768), "s64": ("-0x10", -16), "f32": ("0fBF800001", 0xBF800001), "f64": ("0d7FF0000000000001", 0x7FF0000000000001),
    }  # fmt: skip
    for kind, (text, bits) in constants.items():
        book.form(f"mov.{kind} {text}", [], [f"b{width(kind)}"], [[]], lambda: bits, body=f"mov.{kind} $d0, {text};")
    book.form("mov.f32 from 64 bits", [], ["b32"], [[]], lambda: F32.one, body="mov.f32 $d0, 0d3FF0000000000000;")


def add_to(book):
    for family in (between_integers, from_integers, to_integers, between_floats, tensor_floats, eights, packing):
        family(book)
