"""Binary floating point by IEEE 754's definition: a number is a sign and an exact fraction, and is rounded once."""

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

NAN = "nan"
INFINITY = "inf"
MODES = ("rn", "rz", "rm", "rp")


@dataclass(frozen=True)
class Number:
    """A number that is not NaN; zeros have a sign too."""

    negative: bool
    magnitude: Fraction | str  # or INFINITY

    @property
    def finite(self):
        return self.magnitude != INFINITY

    @property
    def zero(self):
        return self.magnitude == 0

    @property
    def value(self):
        """As a fraction; only of a finite number."""
        return -self.magnitude if self.negative else self.magnitude

    def __neg__(self):
        return Number(not self.negative, self.magnitude)


def number(value):
    """The number of a fraction that is not zero, or +0."""
    return Number(value < 0, Fraction(abs(value)))


@dataclass(frozen=True)
class Format:
    """An interchange format."""

    name: str
    exponent_bits: int
    fraction_bits: int
    infinite: bool = True  # whether it has infinities; e4m3 has none, and a single NaN

    @property
    def width(self):
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self):
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def sign(self):
        return 1 << (self.width - 1)

    @property
    def infinity(self):
        return ((1 << self.exponent_bits) - 1) << self.fraction_bits

    @property
    def largest(self):
        """The bits of the largest finite number."""
        return self.infinity - 1 if self.infinite else self.sign - 2

    @property
    def smallest_normal(self):
        return 1 << self.fraction_bits

    @property
    def canonical_nan(self):
        return self.sign - 1

    @property
    def one(self):
        return self.bias << self.fraction_bits

    def is_nan(self, bits):
        magnitude = bits & (self.sign - 1)
        return magnitude > self.infinity if self.infinite else magnitude == self.canonical_nan

    def is_subnormal(self, bits):
        return 0 < bits & (self.sign - 1) < self.smallest_normal

    def flush(self, bits):
        """Subnormals become zeros of their sign."""
        return bits & self.sign if self.is_subnormal(bits) else bits

    def decode(self, bits):
        """NAN, or the number of these bits."""
        if self.is_nan(bits):
            return NAN
        negative = bool(bits & self.sign)
        magnitude = bits & (self.sign - 1)
        if self.infinite and magnitude == self.infinity:
            return Number(negative, INFINITY)
        exponent, fraction = divmod(magnitude, 1 << self.fraction_bits)
        if exponent:
            fraction += 1 << self.fraction_bits
        return Number(negative, Fraction(fraction) * self.unit(exponent))

    def unit(self, exponent):
        """What the last digit is worth at an exponent's field."""
        return power(max(exponent, 1) - self.bias - self.fraction_bits)

    def ulp(self, magnitude):
        """What the last digit is worth at a magnitude."""
        return self.unit(self.exponent_field(magnitude))

    def exponent_field(self, magnitude):
        return max(floor_log2(magnitude) + self.bias, 0) if magnitude else 0

    def round(self, exact, mode):
        """The bits of a number that is not NaN, rounded to this format; too large ones by IEEE's rules of overflow."""
        sign = self.sign if exact.negative else 0
        if not exact.finite:
            return sign | self.infinity
        if exact.zero:
            return sign
        unit = self.ulp(exact.magnitude)
        digits, rest = divmod(exact.magnitude, unit)
        digits = int(digits)
        if mode == "rn":
            up = rest * 2 > unit or (rest * 2 == unit and digits & 1)
        elif mode == "rna":
            up = rest * 2 >= unit
        else:
            up = rest > 0 and mode == ("rm" if exact.negative else "rp")
        rounded = (digits + up) * unit
        if rounded > self.decode(self.largest).magnitude:
            to_infinity = mode in ("rn", "rna") or mode == ("rm" if exact.negative else "rp")
            return sign | (self.infinity if to_infinity and self.infinite else self.largest)
        return sign | self.encode(rounded)

    def encode(self, magnitude):
        """The bits of a magnitude that this format has."""
        if not magnitude:
            return 0
        field = self.exponent_field(magnitude)
        digits = magnitude / self.unit(field)
        assert digits.denominator == 1
        hidden = 1 << self.fraction_bits
        return int(digits) if digits < hidden else (max(field, 1) << self.fraction_bits) + int(digits) - hidden


F16 = Format("f16", 5, 10)
BF16 = Format("bf16", 8, 7)
F32 = Format("f32", 8, 23)
F64 = Format("f64", 11, 52)
E4M3 = Format("e4m3", 4, 3, infinite=False)
E5M2 = Format("e5m2", 5, 2)
FORMATS = {f.name: f for f in (F16, BF16, F32, F64)}


def power(exponent):
    """Two to this power."""
    return Fraction(2) ** exponent


def floor_log2(fraction):
    """The exponent of the largest power of two that is not above a positive fraction."""
    guess = fraction.numerator.bit_length() - fraction.denominator.bit_length()
    return guess if power(guess) <= fraction else guess - 1


def add(a, b, mode):
    """The exact sum. A sum of zero is -0 if both are, or if it rounds downwards."""
    if NAN in (a, b):
        return NAN
    if not a.finite or not b.finite:
        if not a.finite and not b.finite and a.negative != b.negative:
            return NAN
        return b if a.finite else a
    total = a.value + b.value
    if total == 0:
        negative = a.negative if a.zero and b.zero and a.negative == b.negative else mode == "rm"
        return Number(negative, Fraction(0))
    return number(total)


def multiply(a, b):
    """The exact product."""
    if NAN in (a, b):
        return NAN
    negative = a.negative != b.negative
    if not a.finite or not b.finite:
        return NAN if a.zero or b.zero else Number(negative, INFINITY)
    return Number(negative, a.magnitude * b.magnitude)


def divide(a, b):
    """The exact quotient."""
    if NAN in (a, b) or (a.zero and b.zero) or (not a.finite and not b.finite):
        return NAN
    negative = a.negative != b.negative
    if not a.finite or b.zero:
        return Number(negative, INFINITY)
    return Number(negative, a.magnitude / b.magnitude if b.finite else Fraction(0))


def square_root(a):
    """The square root, or a fraction so near to it that no format and no half of a last digit lies between."""
    if a == NAN or (a.negative and not a.zero):
        return NAN
    if a.zero or not a.finite:
        return a
    scale = 1 << 256
    squared = a.magnitude.numerator * a.magnitude.denominator * scale * scale
    root = isqrt(squared)
    exact = root * root == squared
    return Number(False, Fraction(root if exact else 2 * root + 1, a.magnitude.denominator * scale * (1 if exact else 2)))


def to_integral(a, mode):
    """A finite number as an integer; `mode` is rn, rz, rm or rp."""
    below, rest = divmod(a.value, 1)
    below = int(below)
    if mode == "rn":
        up = rest * 2 > 1 or (rest * 2 == 1 and below & 1)
    else:
        up = rest > 0 and (mode == "rp" or (mode == "rz" and a.negative))
    return below + up
