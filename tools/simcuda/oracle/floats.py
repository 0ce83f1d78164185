"""Arithmetic of floats (chapters 9.7.3 and 9.7.4 of the manual): exact, then rounded once."""

from fractions import Fraction
from itertools import product

import ieee
from book import digits, floats, generator, rows
from ieee import BF16, F16, F32, F64, NAN, Number

COUNT = 48


def finish(form, exact, mode="rn", ftz=False, sat=False, relu=False):
    """An exact result as a word of the fixture."""
    if exact == NAN:
        if sat:
            return digits(0, form.name)
        return digits(form.canonical_nan, form.name) if relu else "nan"
    bits = form.round(exact, mode)
    if ftz and form.is_subnormal(bits):
        bits = form.flush(bits)
    if sat and bits & form.sign:
        # The manual says that results are clamped to [0, 1]; whether -0 is one of them, it does not.
        return digits(0, form.name) + ("/" + digits(form.sign, form.name) if bits == form.sign else "")
    if sat and bits > form.one:
        bits = form.one
    if relu and bits & form.sign:
        return digits(0, form.name) + ("/" + digits(form.sign, form.name) if bits == form.sign else "")
    if ftz and exact.finite and 0 < exact.magnitude < form.decode(form.smallest_normal).magnitude and bits & ~form.sign:
        # Whether a result is subnormal before it is rounded or after, the manual leaves open.
        return f"{digits(bits, form.name)}/{digits(bits & form.sign, form.name)}"
    return digits(bits, form.name)


def operand(form, bits, ftz=False):
    return form.decode(form.flush(bits) if ftz else bits)


def negate(x):
    return x if x == NAN else -x


EXACT = {
    "add": lambda mode, a, b: ieee.add(a, b, mode),
    "sub": lambda mode, a, b: ieee.add(a, negate(b), mode),
    "mul": lambda mode, a, b: ieee.multiply(a, b),
    "div": lambda mode, a, b: ieee.divide(a, b),
    "fma": lambda mode, a, b, c: ieee.add(ieee.multiply(a, b), c, mode),
    "mad": lambda mode, a, b, c: ieee.add(ieee.multiply(a, b), c, mode),
    "rcp": lambda mode, a: ieee.divide(Number(False, Fraction(1)), a),
    "sqrt": lambda mode, a: ieee.square_root(a),
}
OPERANDS = {op: exact.__code__.co_argcount - 1 for op, exact in EXACT.items()}


def hard(form, op, rng):
    """Operands whose result is at a tie or next to one, cancels, is subnormal, or is too large."""
    precision = form.fraction_bits + 1

    def near(low, high, length=precision):
        mantissa = rng.getrandbits(length) | 1 << (length - 1) | 1
        return Fraction(mantissa) * ieee.power(rng.randint(low, high) - length) * rng.choice((1, -1))

    def bits(x):
        return form.round(ieee.number(Fraction(x)), "rn")

    edge = form.bias - 2
    spread = rng.choice(((-3, 3), (-3, 3), (-edge // 2 - precision, -edge // 2), (edge // 2 - 2, edge // 2 + 3)))
    a = near(*spread)
    if op in ("add", "sub"):
        tie = form.ulp(abs(a)) / 2
        return [bits(a), bits(rng.choice((tie, -tie, tie * 3, -a, -a + 2 * tie, a, tie * (1 + ieee.power(-precision + 1)))))]
    if op == "mul":
        return [bits(near(*spread, precision // 2 + 1)), bits(near(*spread, precision - precision // 2))]
    if op in ("fma", "mad"):
        b = near(-3, 3)
        c = rng.choice((-a * b, -a * b, a * b * 4, near(*spread)))
        if rng.random() < 0.4:
            c, a, b = near(*spread), near(-2, 2, 2), 0
            b = form.ulp(abs(c)) / 2 * rng.choice((1, -1, 3)) / a if rng.random() < 0.5 else form.ulp(abs(c)) / 4
        return [bits(a), bits(b), bits(c)]
    if op == "div":
        b = near(-3, 3, precision // 2)
        return [bits(a), bits(rng.choice((b, near(edge - 3, edge), a / b, near(-edge, -edge + 3))))]
    if op == "rcp":
        return [bits(rng.choice((a, near(edge - 2, edge + 1), ieee.power(rng.randint(-edge - 2, edge)))))]
    root = Fraction(rng.getrandbits(precision // 2) | 1) * ieee.power(rng.randint(-edge // 2, edge // 2 - precision))
    return [bits(rng.choice((root * root, abs(a))))]


def given(name, form, op, count=COUNT):
    rng = generator(name)
    return [
        hard(form, op, rng) if i % 3 == 0 else [floats(form, rng) for _ in range(OPERANDS[op])] for i in range(count)
    ]


def rounded(book, name, form, op, mode, ftz=False, sat=False, relu=False, count=COUNT):
    def answer(*bits):
        exact = EXACT[op](mode, *(operand(form, b, ftz) for b in bits))
        return finish(form, exact, mode, ftz, sat, relu)

    book.form(name, [form.name] * OPERANDS[op], [form.name], given(name, form, op, count), answer)


def single_and_double(book):
    for mode, ftz, sat in product(("", "rn", "rz", "rm", "rp"), (False, True), (False, True)):
        dots = (f".{mode}" if mode else "") + (".ftz" if ftz else "") + (".sat" if sat else "")
        for op in ("add", "sub", "mul", "fma", "mad"):
            if mode or op not in ("fma", "mad"):
                rounded(book, f"{op}{dots}.f32", F32, op, mode or "rn", ftz, sat)
                if not ftz and not sat:
                    rounded(book, f"{op}{dots}.f64", F64, op, mode or "rn")
        if mode and not sat:
            for op in ("div", "rcp", "sqrt"):
                rounded(book, f"{op}{dots}.f32", F32, op, mode, ftz)
                if not ftz:
                    rounded(book, f"{op}{dots}.f64", F64, op, mode)
    for form, dot in ((F32, ""), (F32, ".ftz"), (F64, "")):
        signs(book, form, dot)
        extremes(book, form, dot, ("", ".NaN", ".xorsign.abs", ".NaN.xorsign.abs") if form is F32 else ("",))
    for form in (F32, F64):
        name = f"copysign.{form.name}"
        low = form.sign - 1
        book.form(name, [form.name] * 2, [f"b{form.width}"], rows(name, [form.name] * 2, COUNT), lambda a, b: a & form.sign | b & low)
        properties(book, form)


def signs(book, form, dot):
    """`abs` and `neg`; what they make of a NaN is a NaN."""
    for op, change in (("abs", lambda bits: bits & ~form.sign), ("neg", lambda bits: bits ^ form.sign)):

        def answer(bits):
            if form.is_nan(bits):
                return "nan"
            return change(form.flush(bits) if dot else bits)

        name = f"{op}{dot}.{form.name}"
        book.form(name, [form.name], [form.name], rows(name, [form.name], 32), answer)


def extreme(form, op, dots):
    """`min` and `max` by their pseudocode: one NaN loses against a number, but with .NaN wins."""

    def answer(a, b):
        if ".ftz" in dots:
            a, b = form.flush(a), form.flush(b)
        sign = (a ^ b) & form.sign
        if ".abs" in dots:
            a, b = a & ~form.sign, b & ~form.sign
        nans = form.is_nan(a) + form.is_nan(b)
        if ".NaN" in dots and nans:
            return digits(form.canonical_nan, form.name)
        if nans == 2:
            return "nan"
        if nans:
            found = b if form.is_nan(a) else a
        else:
            # As integers by sign and magnitude, floats are in order, -0 below +0.
            order = lambda bits: -(bits & ~form.sign) - 1 if bits & form.sign else bits
            found = (min if op == "min" else max)(a, b, key=order)
        return digits(found | sign if ".xorsign" in dots else found, form.name)

    return answer


def extremes(book, form, dot, choices):
    for op in ("min", "max"):
        for more in choices:
            name = f"{op}{dot}{more}.{form.name}"
            book.form(name, [form.name] * 2, [form.name], rows(name, [form.name] * 2, COUNT), extreme(form, op, dot + more))


def properties(book, form):
    """`testp`, for which zeros are normal."""
    for op in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):

        def answer(bits):
            magnitude = bits & ~form.sign
            return {
                "finite": magnitude < form.infinity,
                "infinite": magnitude == form.infinity,
                "number": magnitude <= form.infinity,
                "notanumber": magnitude > form.infinity,
                "normal": magnitude == 0 or form.smallest_normal <= magnitude < form.infinity,
                "subnormal": 0 < magnitude < form.smallest_normal,
            }[op]

        name = f"testp.{op}.{form.name}"
        book.form(name, [form.name], ["pred"], rows(name, [form.name], 32), answer)


def in_pairs(book, name, form, given_halves, answer):
    """A form of two halves side by side: the rows of the scalar form, two in one."""
    kind, count = f"{form.name}x2", len(given_halves[0])
    both = [[h << 16 | l for h, l in zip(high, low)] for low, high in zip(given_halves[::2], given_halves[1::2])]
    operands = ", ".join(f"$a{i}" for i in range(count))
    book.form(
        name, [kind] * count, [form.name] * 2, both,
        lambda *packed: [answer(*(p & 0xFFFF for p in packed)), answer(*(p >> 16 for p in packed))],
        body=f"{{ .reg .b32 pair; {name} pair, {operands}; mov.b32 {{$d0, $d1}}, pair; }}",
    )  # fmt: skip


def half(book):
    for form in (F16, BF16):
        two = f"{form.name}x2"
        arithmetic = [("add", m, f, s, "") for m, f, s in product(("", ".rn"), ("", ".ftz"), ("", ".sat"))]
        arithmetic += [(op, *rest) for op in ("sub", "mul") for _, *rest in arithmetic]
        arithmetic += [("fma", ".rn", f, s, "") for f, s in product(("", ".ftz"), ("", ".sat"))]
        arithmetic += [("fma", ".rn", f, "", ".relu") for f in ("", ".ftz")]
        for op, mode, ftz, sat, relu in arithmetic:
            if form is BF16 and (ftz or sat):
                continue
            dots = mode + ftz + sat + relu

            def answer(*bits):
                exact = EXACT[op]("rn", *(operand(form, b, ftz) for b in bits))
                return finish(form, exact, "rn", bool(ftz), bool(sat), bool(relu))

            name = f"{op}{dots}.{form.name}"
            book.form(name, [form.name] * OPERANDS[op], [form.name], given(name, form, op), answer)
            in_pairs(book, f"{op}{dots}.{two}", form, given(f"{op}{dots}.{two}", form, op, 2 * COUNT), answer)
        for dot in ("", ".ftz") if form is F16 else ("",):
            signs(book, form, dot)
            for op in ("abs", "neg"):
                name = f"{op}{dot}.{two}"
                change = (lambda bits: bits & 0x7FFF) if op == "abs" else (lambda bits: bits ^ 0x8000)
                in_pairs(
                    book, name, form, rows(name, [form.name], 48),
                    lambda bits: "nan" if form.is_nan(bits) else digits(change(form.flush(bits) if dot else bits), "b16"),
                )  # fmt: skip
            choices = ("", ".NaN", ".xorsign.abs", ".NaN.xorsign.abs")
            extremes(book, form, dot, choices)
            for op, more in product(("min", "max"), choices):
                name = f"{op}{dot}{more}.{two}"
                scalar = extreme(form, op, dot + more)

                def answer(a, b):
                    found = scalar(a, b)
                    if ".xorsign" in more and ".NaN" not in more and form.is_nan(a) and not form.is_nan(b):
                        # The pseudocode leaves the sign alone here, its text does not.
                        plain = digits((form.flush(b) if dot else b) & 0x7FFF, "b16")
                        return f"{found}/{plain}"
                    return found

                in_pairs(book, name, form, rows(name, [form.name] * 2, 2 * COUNT), answer)


def add_to(book):
    single_and_double(book)
    half(book)
