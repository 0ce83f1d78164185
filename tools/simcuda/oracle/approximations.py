"""Approximations (chapters 9.7.3 and 9.7.4 of the manual): its tables of special values, and its largest errors."""

from decimal import Decimal, getcontext
from fractions import Fraction

import ieee
from book import digits, floats, generator
from floats import in_pairs
from ieee import BF16, F16, F32, F64, NAN, Number

getcontext().prec = 80
COUNT = 96
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651")
LN2 = Decimal(2).ln()


def decimal(x):
    return Decimal(x.numerator) / Decimal(x.denominator)


def exp2(x):
    return Fraction((decimal(x) * LN2).exp())


def log2(x):
    return Fraction(decimal(x).ln() / LN2)


def tanh(x):
    twice = (2 * decimal(abs(x))).exp()
    found = Fraction((twice - 1) / (twice + 1))
    return -found if x < 0 else found


def series(x, first):
    """Taylor's series of the sine (first = 1) or the cosine (first = 0)."""
    x = decimal(x) % (2 * PI)
    term = x if first else Decimal(1)
    total, n = term, first
    while abs(term) > Decimal("1e-70"):
        n += 2
        term *= -x * x / (n * (n - 1))
        total += term
    return Fraction(total)


def relative(exponent):
    """A relative error of two to this power."""
    error = Fraction(2 ** Decimal(str(exponent)))
    return lambda form, exact: abs(exact) * error


def absolute(exponent):
    error = Fraction(2 ** Decimal(str(exponent)))
    return lambda form, exact: error


def ulps(count):
    return lambda form, exact: count * form.ulp(abs(exact))


def within(form, exact, error, ftz=False):
    """The numbers that differ by no more than the error. An error below the last digit of subnormals is that digit."""
    error = max(error(form, exact), form.unit(0))
    low, high = exact - error, exact + error
    largest = form.decode(form.largest).magnitude

    def bits(x, mode):
        if abs(x) > largest:
            return (form.sign if x < 0 else 0) | (form.infinity if (x > 0) == (mode == "rm") or abs(exact) > largest else form.largest)
        return form.round(ieee.number(x), mode)

    word = f"{digits(bits(low, 'rp'), form.name)}:{digits(bits(high, 'rm'), form.name)}"
    tiny = form.decode(form.smallest_normal).magnitude
    if ftz and min(abs(low), abs(high)) < tiny:
        zero = digits(form.sign if exact < 0 else 0, form.name)
        return zero if max(abs(low), abs(high)) < tiny else f"{word}/{zero}"
    return word


def word(form, bits):
    return digits(bits, form.name)


def approximate(book, name, form, function, error, special, more=(), ftz=False, spread=20, count=COUNT, scalar_only=False):
    """A form of one operand. `special` gives the answer to what the manual's table has, and None to all else."""

    def answer(bits):
        bits = form.flush(bits) if ftz else bits
        x = form.decode(bits)
        found = special(x, bits)
        if found is not None:
            return found
        return within(form, function(x.value), error(x) if not hasattr(error, "__code__") or error.__code__.co_argcount == 1 else error, ftz)

    rng = generator(name)
    given = [[bits] for bits in more]
    given += [[form.sign | 1], [1], [0], [form.sign], [form.infinity], [form.sign | form.infinity], [form.canonical_nan]]
    for i in range(count):
        number = Fraction(rng.randint(-spread << 20, spread << 20), 1 << rng.randint(18, 30))
        given.append([floats(form, rng) if i % 3 == 0 else form.round(ieee.number(number), "rn")])
    given = given[: len(given) // 2 * 2]
    book.form(name, [form.name], [form.name], given, answer)
    if form in (F16, BF16) and not scalar_only:
        in_pairs(book, f"{name}x2", form, given, answer)


def exponential(book):
    def special(form):
        def answer(x, bits):
            if x == NAN:
                return "nan"
            if not x.finite:
                return word(form, 0 if x.negative else form.infinity)
            if x.zero:
                return word(form, form.one)
            if x.magnitude > 3 * form.bias:  # far beyond the largest, and the smallest subnormal
                return word(form, 0) + ":" + word(form, 1) if x.negative else word(form, form.largest) + ":" + word(form, form.infinity)

        return answer

    ends = [F32.round(ieee.number(Fraction(n, 16)), "rn") for n in (-127 * 16, -126 * 16, -126 * 16 - 1, 128 * 16, 128 * 16 - 1, -149 * 16, -150 * 16 - 8)]
    # The manual measures from the correctly rounded result, which is half a digit off at most.
    approximate(book, "ex2.approx.f32", F32, exp2, ulps(Fraction(5, 2)), special(F32), ends, spread=140)
    approximate(book, "ex2.approx.ftz.f32", F32, exp2, ulps(Fraction(5, 2)), special(F32), ends, ftz=True, spread=140)
    approximate(book, "ex2.approx.f16", F16, exp2, relative(-9.9), special(F16), spread=16)
    approximate(book, "ex2.approx.ftz.bf16", BF16, exp2, relative(-7), special(BF16), ftz=True, spread=120)


def logarithm(book):
    def special(x, bits):
        if x == NAN or (x.negative and not x.zero):
            return "nan"
        if x.zero:
            return word(F32, F32.sign | F32.infinity)
        if not x.finite:
            return word(F32, F32.infinity)

    def error(form, exact):
        return (absolute(-22) if abs(exact) < 1 else relative(-22))(form, exact)

    near_one = [F32.one + n for n in (-3, -1, 0, 1, 2, 1 << 10, 1 << 20, 1 << 22, -(1 << 22))]
    for dot in ("", ".ftz"):
        approximate(book, f"lg2.approx{dot}.f32", F32, log2, error, special, near_one, ftz=bool(dot))


def circle(book):
    def special(sine, ftz):
        def answer(x, bits):
            if x == NAN or not x.finite:
                return "nan"
            if x.zero:
                return word(F32, bits if sine else F32.one)
            if x.magnitude > Fraction(100 * PI):
                return "?"  # "There are no defined error guarantees."
            exact = series(x.value, 1 if sine else 0)
            return within(F32, exact, absolute(-20.5 if x.magnitude <= Fraction(2 * PI) else -14.7), ftz)

        return answer

    for dot in ("", ".ftz"):
        for op in ("sin", "cos"):
            approximate(book, f"{op}.approx{dot}.f32", F32, None, ulps(0), special(op == "sin", bool(dot)), ftz=bool(dot), spread=12)


def hyperbolic(book):
    def special(form):
        def answer(x, bits):
            if x == NAN:
                return "nan"
            if not x.finite:
                return word(form, form.one | (form.sign if x.negative else 0))
            if x.zero or (form is F32 and form.is_subnormal(bits)):
                return word(form, bits)
            if x.magnitude > 100:
                return within(form, Fraction(-1 if x.negative else 1), relative(-11) if form is F32 else absolute(-8 if form is BF16 else -10.987))

        return answer

    approximate(book, "tanh.approx.f32", F32, tanh, relative(-11), special(F32), spread=6)
    approximate(book, "tanh.approx.f16", F16, tanh, absolute(-10.987), special(F16), spread=6)
    approximate(book, "tanh.approx.bf16", BF16, tanh, absolute(-8), special(BF16), spread=6)


def roots(book):
    def inverse(x, bits):
        if x == NAN:
            return "nan"
        sign = F32.sign if x.negative else 0
        if x.zero:
            return word(F32, sign | F32.infinity)
        if not x.finite:
            return word(F32, sign)

    def root(x, bits):
        if x == NAN or (x.negative and not x.zero):
            return "nan"
        if x.zero or not x.finite:
            return word(F32, bits)

    def inverse_root(x, bits):
        if x == NAN or (x.negative and not x.zero):
            return "nan"
        return inverse(x, bits)

    def square_root(x):
        return ieee.square_root(ieee.number(x)).magnitude

    for dot in ("", ".ftz"):
        ftz = bool(dot)
        ends = [1, 2, F32.smallest_normal - 1, F32.smallest_normal, F32.largest, (F32.bias + 126) << 23, (F32.bias + 126) << 23 | 1, F32.one]
        approximate(book, f"rcp.approx{dot}.f32", F32, lambda x: 1 / x, ulps(1), inverse, ends, ftz)
        approximate(book, f"sqrt.approx{dot}.f32", F32, square_root, relative(-23), root, ends, ftz)
        approximate(book, f"rsqrt.approx{dot}.f32", F32, lambda x: 1 / square_root(x), relative(-22.9), inverse_root, ends, ftz)
        quotients(book, dot)

    def wide(x, bits):
        if x == NAN or (x.negative and not x.zero):
            return "nan"
        if x.zero or not x.finite:
            return word(F64, bits ^ F64.infinity if x.zero else 0)

    # The manual states no error of this one; single precision is the least that it can mean.
    approximate(book, "rsqrt.approx.f64", F64, lambda x: 1 / square_root(x), relative(-22), wide, spread=1000)
    gross(book, "rcp.approx.ftz.f64", lambda x: 1 / x, inverse_sign=True)
    gross(book, "rsqrt.approx.ftz.f64", lambda x: 1 / square_root(x), inverse_sign=False)


def quotients(book, dot):
    low, high = ieee.power(-126), ieee.power(126)

    def answer(op):
        def quotient(a, b):
            x, y = (F32.decode(F32.flush(bits) if dot else bits) for bits in (a, b))
            exact = ieee.divide(x, y)
            sign = F32.sign if NAN not in (x, y) and x.negative != y.negative else 0
            if op == "approx" and NAN not in (x, y) and y.finite and not y.zero:
                if y.magnitude > high:
                    return word(F32, sign) if x.finite else "nan"
                if y.magnitude < low:
                    return "?"
            if exact == NAN:
                return "nan"
            if exact.zero or not exact.finite:
                return word(F32, sign | (0 if exact.zero else F32.infinity))
            return within(F32, exact.value, ulps(2), bool(dot))

        return quotient

    for op in ("approx", "full"):
        name = f"div.{op}{dot}.f32"
        rng = generator(name)
        book.form(name, ["f32"] * 2, ["f32"], [[floats(F32, rng), floats(F32, rng)] for _ in range(COUNT)], answer(op))


def gross(book, name, function, inverse_sign):
    """Only the upper words count, as floats of 20 digits. The manual gives no error: 2^-19 is of its 20 digits."""
    upper = ieee.Format("upper", 11, 20)

    def answer(bits):
        top = upper.flush(bits >> 32)
        x = upper.decode(top)
        sign = upper.sign if x != NAN and x.negative else 0
        if x == NAN:
            return [0, 0x7FFFFFFF]  # "Input NaNs map to a canonical NaN with encoding 0x7fffffff00000000."
        if sign and not x.zero and not inverse_sign:
            return [0, "7ff00001:7fffffff/fff00001:ffffffff"]
        if x.zero:
            return [0, sign | upper.infinity]
        if not x.finite:
            return [0, sign]
        exact = function(x.magnitude)
        ends = [sign | upper.flush(upper.round(Number(False, exact * (1 + e)), "rn")) for e in (-ieee.power(-19), ieee.power(-19))]
        return [0, f"{ends[0]:08x}:{ends[1]:08x}"]

    rng = generator(name)
    given = [[F64.canonical_nan], [F64.infinity], [F64.sign | F64.infinity], [0], [F64.sign], [1], [F64.sign | 1 << 40]]
    given += [[floats(F64, rng)] for _ in range(COUNT)]
    book.form(name, ["f64"], ["b32"] * 2, given, answer, body=f"{{ .reg .b64 wide; {name} wide, $a0; mov.b64 {{$d0, $d1}}, wide; }}")


def add_to(book):
    for family in (exponential, logarithm, circle, hyperbolic, roots):
        family(book)
