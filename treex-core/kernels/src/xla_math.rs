//! The floating-point functions behind the samplers, operation by operation as XLA computes them on a CPU
//! with fused multiply-add: a plain multiply and add in their place gives other bits.

/// Horner's rule with fused steps, highest power first.
#[inline(always)]
fn horner<const N: usize>(z: f32, coefficients: [u32; N]) -> f32 {
    coefficients.into_iter().map(f32::from_bits).reduce(|sum, c| sum.mul_add(z, c)).unwrap_or_default()
}

/// The inverse error function, after Giles, "Approximating the erfinv function" (2012).
#[inline(always)]
pub fn erf_inv(x: f32) -> f32 {
    let w = -log1p_inside(x * -x);
    let central = [
        0x32F1_6588,
        0x34B8_4B36,
        0xB66C_7357,
        0xB693_5AC1,
        0x3965_32DB,
        0xBAA4_5408,
        0xBB88_E4EF,
        0x3E7C_8F63,
        0x3FC0_2E2F,
    ];
    let tail = [
        0xB951_F09B,
        0x38D3_B56B,
        0x3AB0_DC72,
        0xBB70_BDE7,
        0x3BBC_127B,
        0xBBF9_C5D7,
        0x3C1A_A57E,
        0x3F80_36DB,
        0x4035_4F7E,
    ];
    let p = if w < 5. { horner(w - 2.5, central) } else { horner(w.sqrt() - 3., tail) };
    let beyond = if x.abs() == 1. { f32::INFINITY } else { -f32::NAN };
    x * if x.abs() < 1. { p } else { beyond }
}

/// log(1 + t): a rational function near 0, the logarithm of the rounded sum elsewhere.
#[inline(always)]
pub fn log1p(t: f32) -> f32 {
    at_ends(t + 1., log1p_inside(t))
}

/// The natural logarithm, after Cephes.
#[inline(always)]
pub fn log(a: f32) -> f32 {
    at_ends(a, log_inside(if a < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { a }))
}

/// The logarithm of `a`, which is `inside` unless `a` is at an end of the domain or beyond.
#[inline(always)]
fn at_ends(a: f32, inside: f32) -> f32 {
    let lower = if a == 0. { f32::NEG_INFINITY } else { f32::NAN };
    let log = if a > 0. { inside } else { lower };
    if a == f32::INFINITY { a } else { log }
}

/// [`log1p`] where 1 + t is a positive normal number.
#[inline(always)]
fn log1p_inside(t: f32) -> f32 {
    let numerator =
        [0x383D_E04B, 0x3EFF_40C5, 0x40D2_84FA, 0x41EF_4B9C, 0x4273_CC76, 0x4264_73AD, 0x41A0_5101];
    let denominator =
        [0x3F80_0000, 0x4171_01AD, 0x42A6_185B, 0x435D_C32D, 0x439A_8CA3, 0x4358_6D8A, 0x4270_7982];
    let quotient = horner(t, numerator) / horner(t, denominator);
    let square = t * t;
    let near = t + square.mul_add(-0.5, (t * square) * quotient);
    if t.abs() < f32::from_bits(0x3ED4_13CD) { near } else { log_inside(t + 1.) }
}

/// [`log`] of a positive normal number.
#[inline(always)]
fn log_inside(a: f32) -> f32 {
    let bits = a.to_bits();
    let mantissa = f32::from_bits(bits & 0x807F_FFFF | 0.5f32.to_bits());
    let small = mantissa < std::f32::consts::FRAC_1_SQRT_2;
    let exponent = ((bits >> 23) as i32 - 127) as f32 + if small { 0. } else { 1. };
    let x = (mantissa - 1.) + if small { mantissa } else { 0. };
    let square = x * x;
    let cube = square * x;
    let high = horner(x, [0x3D90_21BB, 0xBDEB_D1B8, 0x3DEF_251A]);
    let middle = horner(x, [0xBDFE_5D4F, 0x3E11_E9BF, 0xBE2A_AE50]);
    let low = horner(x, [0x3E4C_CEAC, 0xBE7F_FFFC, 0x3EAA_AAAA]);
    let y = high.mul_add(cube, middle).mul_add(cube, low);
    let y = y.mul_add(cube, exponent * f32::from_bits(0xB95E_8083));
    let result = (-square).mul_add(0.5, x) + y;
    exponent.mul_add(f32::from_bits(0x3F31_8000), result)
}

/// The error function, as a quotient of polynomials in x squared.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    if x.abs() >= f32::from_bits(0x4075_47CB) {
        return 1f32.copysign(x);
    }
    let z = x * x;
    let numerator = [0x3970_2D51, 0x3B5F_5DA2, 0x3D50_B6EB, 0x3E3D_A740, 0x3F90_6EBA];
    let denominator =
        [0xB3FD_3906, 0x37C5_88DF, 0x3A85_6D28, 0x3C66_87D4, 0x3DE3_4C21, 0x3EFE_B44A, 0x3F80_0000];
    (x * horner(z, numerator)) / horner(z, denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_ends() {
        assert_eq!(log(0.), f32::NEG_INFINITY);
        assert_eq!(log(f32::INFINITY), f32::INFINITY);
        assert!(log(-1.).is_nan() && log(f32::NAN).is_nan());
        assert_eq!(erf(4.), 1.);
        assert_eq!(erf(-4.), -1.);
    }
}
