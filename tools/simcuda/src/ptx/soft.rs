//! Floats by integers: exact products, sums, quotients and roots, rounded once into any format in any direction.

/// How a result is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    NearestEven,
    /// To the nearest, halves away from zero.
    NearestAway,
    Zero,
    Down,
    Up,
}

/// A binary format: sign, exponent, fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits of the fraction.
    fraction: u32,
    /// Bits of the exponent.
    exponent: u32,
    /// The largest finite value, as it is encoded.
    largest: u64,
    /// The NaN that instructions make.
    pub(crate) nan: u64,
}

pub(crate) const F16: Format = Format { fraction: 10, exponent: 5, largest: 0x7bff, nan: 0x7fff };
pub(crate) const BF16: Format = Format { fraction: 7, exponent: 8, largest: 0x7f7f, nan: 0x7fff };
pub(crate) const F32: Format = Format { fraction: 23, exponent: 8, largest: 0x7f7f_ffff, nan: 0x7fff_ffff };
pub(crate) const F64: Format =
    Format { fraction: 52, exponent: 11, largest: 0x7fef_ffff_ffff_ffff, nan: 0x7ff8_0000_0000_0000 };
/// The 19 upper bits of an `.f32`.
pub(crate) const TF32: Format = Format { fraction: 10, exponent: 8, largest: 0x3_fbff, nan: 0x3_ffff };
/// No infinities: the largest code but one is finite.
pub(crate) const E4M3: Format = Format { fraction: 3, exponent: 4, largest: 0x7e, nan: 0x7f };
pub(crate) const E5M2: Format = Format { fraction: 2, exponent: 5, largest: 0x7b, nan: 0x7f };

/// `mantissa * 2^exponent`, negated or not. A lost rest is kept as a one in the lowest bit, far below what is rounded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact {
    pub(crate) negative: bool,
    pub(crate) mantissa: u128,
    pub(crate) exponent: i32,
}

impl Exact {
    /// A finite value.
    pub(crate) fn of(value: f64) -> Self {
        let bits = value.to_bits();
        let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
        let mantissa = if field == 0 { fraction } else { fraction | 1 << 52 };
        Self { negative: value.is_sign_negative(), mantissa: mantissa.into(), exponent: field.max(1) - 1075 }
    }

    fn product(self, other: Self) -> Self {
        Self {
            negative: self.negative != other.negative,
            mantissa: self.mantissa * other.mantissa,
            exponent: self.exponent + other.exponent,
        }
    }

    /// With its highest bit at place 125, so that two of them can be added.
    fn raised(self) -> Self {
        let by = self.mantissa.leading_zeros() - 2;
        Self { mantissa: self.mantissa << by, exponent: self.exponent - by as i32, ..self }
    }

    /// The sum of values with at most 107 bits. A zero of two signs is negative only if rounded down.
    fn sum(self, other: Self, rounding: Rounding) -> Self {
        let zero = |negative| Self { negative, mantissa: 0, exponent: 0 };
        match (self.mantissa, other.mantissa) {
            (0, 0) if self.negative == other.negative => return self,
            (0, 0) => return zero(rounding == Rounding::Down),
            (0, _) => return other,
            (_, 0) => return self,
            _ => {}
        }
        let (a, b) = (self.raised(), other.raised());
        let (high, low) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
        let by = (high.exponent - low.exponent) as u32;
        let kept = low.mantissa.checked_shr(by).unwrap_or(0);
        let lost = by >= 128 || kept << by != low.mantissa;
        let small = kept | u128::from(lost);
        if high.negative == low.negative {
            return Self { mantissa: high.mantissa + small, ..high };
        }
        match high.mantissa.cmp(&small) {
            std::cmp::Ordering::Equal => zero(rounding == Rounding::Down),
            std::cmp::Ordering::Greater => Self { mantissa: high.mantissa - small, ..high },
            std::cmp::Ordering::Less => {
                Self { negative: low.negative, mantissa: small - high.mantissa, exponent: high.exponent }
            }
        }
    }

    fn quotient(self, other: Self) -> Self {
        let up = self.mantissa.leading_zeros() - 1;
        let mantissa = self.mantissa << up;
        let rest = !mantissa.is_multiple_of(other.mantissa);
        Self {
            negative: self.negative != other.negative,
            mantissa: (mantissa / other.mantissa) | u128::from(rest),
            exponent: self.exponent - up as i32 - other.exponent,
        }
    }

    fn root(self) -> Self {
        let mut up = self.mantissa.leading_zeros() - 2;
        // Half of the exponent is the root's.
        if (self.exponent - up as i32) % 2 != 0 {
            up += 1;
        }
        let mantissa = self.mantissa << up;
        let root = mantissa.isqrt();
        Self {
            negative: false,
            mantissa: root | u128::from(root * root != mantissa),
            exponent: (self.exponent - up as i32) / 2,
        }
    }
}

impl Format {
    /// The bits of a value.
    fn width(self) -> u32 {
        1 + self.exponent + self.fraction
    }

    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    fn infinity(self, negative: bool) -> u64 {
        // E4M3 has none; NaN stands for it.
        let code = if self == E4M3 { self.nan } else { self.largest + 1 };
        code | u64::from(negative) << (self.width() - 1)
    }

    /// The largest finite value.
    fn limit(self, negative: bool) -> u64 {
        self.largest | u64::from(negative) << (self.width() - 1)
    }

    /// Whether a code is that of a subnormal or of zero.
    pub(crate) fn is_subnormal(self, code: u64) -> bool {
        code >> self.fraction & ((1 << self.exponent) - 1) == 0
    }

    /// The value of an encoding, exact.
    pub(crate) fn decode(self, bits: u64) -> f64 {
        let magnitude = bits & ((1 << (self.width() - 1)) - 1);
        let negative = bits >> (self.width() - 1) & 1 != 0;
        let (field, fraction) = (magnitude >> self.fraction, magnitude & ((1 << self.fraction) - 1));
        let value = if magnitude > self.largest {
            if self != E4M3 && magnitude == self.largest + 1 { f64::INFINITY } else { f64::NAN }
        } else if field == 0 {
            // Of a format whose smallest value is a normal `f64`, or of `f64` itself.
            if self == F64 {
                f64::from_bits(magnitude)
            } else {
                fraction as f64 * power(1 - self.bias() - self.fraction as i32)
            }
        } else {
            f64::from_bits(
                (((field as i64) - i64::from(self.bias()) + 1023) as u64) << 52
                    | fraction << (52 - self.fraction),
            )
        };
        if negative { -value } else { value }
    }

    /// Rounds an exact value. What is too large becomes infinite, or the largest value where the rounding says so or
    /// `finite` does.
    pub(crate) fn round(self, exact: Exact, rounding: Rounding, finite: bool) -> u64 {
        let sign = u64::from(exact.negative) << (self.width() - 1);
        if exact.mantissa == 0 {
            return sign;
        }
        let leading = 127 - exact.mantissa.leading_zeros() as i32 + exact.exponent;
        let scale = leading.max(1 - self.bias());
        let drop = scale - self.fraction as i32 - exact.exponent;
        let (kept, rest, half) = match drop {
            ..=0 => (exact.mantissa << -drop, 0, 1),
            1..=127 => (exact.mantissa >> drop, exact.mantissa & ((1 << drop) - 1), 1u128 << (drop - 1)),
            // All of it is less than half of the smallest value.
            _ => (0, 1, 2),
        };
        let up = match rounding {
            Rounding::NearestEven => rest > half || rest == half && kept & 1 != 0,
            Rounding::NearestAway => rest >= half,
            Rounding::Zero => false,
            Rounding::Down => rest != 0 && exact.negative,
            Rounding::Up => rest != 0 && !exact.negative,
        };
        // A carry runs from the fraction into the exponent, as it should.
        let code = u128::try_from(scale + self.bias() - 1).unwrap_or(0) << self.fraction;
        let code = code + kept + u128::from(up);
        if code <= self.largest.into() {
            return sign | code as u64;
        }
        let toward_zero = match rounding {
            Rounding::NearestEven | Rounding::NearestAway => false,
            Rounding::Zero => true,
            Rounding::Down => !exact.negative,
            Rounding::Up => exact.negative,
        };
        if finite || toward_zero { self.limit(exact.negative) } else { self.infinity(exact.negative) }
    }

    /// A value in this format.
    pub(crate) fn encode(self, value: f64, rounding: Rounding, finite: bool) -> u64 {
        if value.is_nan() {
            self.nan
        } else if value.is_infinite() {
            if finite { self.limit(value < 0.0) } else { self.infinity(value < 0.0) }
        } else {
            self.round(Exact::of(value), rounding, finite)
        }
    }

    /// `a + b`, rounded once.
    pub(crate) fn add(self, a: f64, b: f64, rounding: Rounding) -> u64 {
        if !a.is_finite() || !b.is_finite() {
            return self.encode(a + b, rounding, false);
        }
        self.round(Exact::of(a).sum(Exact::of(b), rounding), rounding, false)
    }

    /// `a * b`, rounded once.
    pub(crate) fn mul(self, a: f64, b: f64, rounding: Rounding) -> u64 {
        if !a.is_finite() || !b.is_finite() {
            return self.encode(a * b, rounding, false);
        }
        self.round(Exact::of(a).product(Exact::of(b)), rounding, false)
    }

    /// `a * b + c`, rounded once.
    pub(crate) fn fma(self, a: f64, b: f64, c: f64, rounding: Rounding) -> u64 {
        if !a.is_finite() || !b.is_finite() || !c.is_finite() {
            return self.encode(a.mul_add(b, c), rounding, false);
        }
        let product = Exact::of(a).product(Exact::of(b));
        self.round(product.sum(Exact::of(c), rounding), rounding, false)
    }

    /// `a / b`, rounded once.
    pub(crate) fn div(self, a: f64, b: f64, rounding: Rounding) -> u64 {
        if !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0 {
            return self.encode(a / b, rounding, false);
        }
        self.round(Exact::of(a).quotient(Exact::of(b)), rounding, false)
    }

    /// The square root, rounded once.
    pub(crate) fn sqrt(self, a: f64, rounding: Rounding) -> u64 {
        if a > 0.0 && a.is_finite() {
            self.round(Exact::of(a).root(), rounding, false)
        } else {
            self.encode(a.sqrt(), rounding, false)
        }
    }
}

/// `2^exponent` of a normal `f64`.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits that look like floats: all exponents, and fractions of few bits as well as of many.
    fn samples() -> Vec<u64> {
        let mut state = 1u64;
        (0..400)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mixed = state ^ state >> 29;
                if i % 3 == 0 { mixed & 0xfff0_0000_0000_0000 } else { mixed }
            })
            .collect()
    }

    #[test]
    fn to_the_nearest_is_what_the_host_computes() {
        let same = |soft: u64, host: f64| {
            assert!(
                soft == host.to_bits() || host.is_nan() && soft == F64.nan,
                "{soft:#x} {:#x}",
                host.to_bits()
            );
        };
        let all = samples();
        for (i, &x) in all.iter().enumerate() {
            for &y in &all[..60] {
                let (a, b, c) =
                    (f64::from_bits(x), f64::from_bits(y), f64::from_bits(all[(i * 7 + 3) % all.len()]));
                same(F64.add(a, b, Rounding::NearestEven), a + b);
                same(F64.mul(a, b, Rounding::NearestEven), a * b);
                same(F64.fma(a, b, c, Rounding::NearestEven), a.mul_add(b, c));
                same(F64.fma(a, b, -(a * b), Rounding::NearestEven), a.mul_add(b, -(a * b)));
                same(F64.div(a, b, Rounding::NearestEven), a / b);
                same(F64.sqrt(a, Rounding::NearestEven), a.sqrt());
                same(F64.decode(x).to_bits(), a);
                let (p, q) = (f32::from_bits(x as u32), f32::from_bits(y as u32));
                let host = p / q;
                let soft = F32.div(p.into(), q.into(), Rounding::NearestEven) as u32;
                assert!(soft == host.to_bits() || host.is_nan());
                let host = a as f32;
                assert!(
                    F32.encode(a, Rounding::NearestEven, false) as u32 == host.to_bits() || host.is_nan()
                );
            }
        }
    }

    #[test]
    fn directed_roundings_enclose_the_value() {
        for &x in &samples() {
            for &y in &samples()[..40] {
                let (a, b) = (f64::from_bits(x), f64::from_bits(y));
                if !a.is_finite() || !b.is_finite() {
                    continue;
                }
                let [down, near, up, zero] =
                    [Rounding::Down, Rounding::NearestEven, Rounding::Up, Rounding::Zero]
                        .map(|rounding| f64::from_bits(F64.add(a, b, rounding)));
                assert!(down <= near && near <= up && (near == down || near == up), "{down} {near} {up}");
                assert!(down == up || down.next_up() == up);
                assert!(zero == if near < 0.0 { up } else { down } || near == 0.0);
            }
        }
    }

    #[test]
    fn narrow_formats_have_their_values() {
        for (format, code, value) in [
            (F16, 0x3c00, 1.0),
            (F16, 0x7bff, 65504.0),
            (F16, 0x0001, 2f64.powi(-24)),
            (BF16, 0x3f80, 1.0),
            (BF16, 0x0001, 2f64.powi(-133)),
            (E4M3, 0x7e, 448.0),
            (E4M3, 0x01, 2f64.powi(-9)),
            (E5M2, 0x7b, 57344.0),
            (E5M2, 0xfc, f64::NEG_INFINITY),
        ] {
            assert_eq!(format.decode(code), value);
            assert_eq!(format.encode(value, Rounding::NearestEven, false), code);
        }
        assert_eq!(E4M3.encode(1e9, Rounding::NearestEven, true), 0x7e);
        assert_eq!(E4M3.encode(465.0, Rounding::NearestEven, false), 0x7f);
        assert_eq!(F16.encode(65520.0, Rounding::NearestEven, false), 0x7c00);
        assert_eq!(F16.encode(65519.0, Rounding::NearestEven, false), 0x7bff);
        for code in 0..1 << 16 {
            for format in [F16, BF16] {
                let value = format.decode(code);
                assert!(value.is_nan() || format.encode(value, Rounding::Zero, false) == code);
            }
        }
    }
}
