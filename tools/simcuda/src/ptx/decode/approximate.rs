//! Reciprocals, roots and transcendental functions. What a device approximates is computed as `f64` and rounded, which
//! lies inside of any error that the manual allows; it is not a device's last digit.

use super::form::Form;
use crate::ptx::float::{Brain, Double, Float, Half, Single, halves1};
use crate::ptx::registers::{Compute, binary, unary};
use crate::ptx::soft::{F32, Rounding};
use crate::ptx::types::Type;

pub(super) fn decode(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    if !form.take("approx") {
        return rounded(form, opcode);
    }
    let flush = form.take("ftz");
    let kind = form.kind()?;
    form.arity(2)?;
    let d = form.destination(0)?;
    let a = form.source(1, kind)?;
    let f: fn(f64) -> f64 = match opcode {
        "rcp" => |x| 1.0 / x,
        "sqrt" => f64::sqrt,
        // Of -0 it is -infinity.
        "rsqrt" => |x| 1.0 / x.sqrt(),
        "sin" => f64::sin,
        "cos" => f64::cos,
        "lg2" => f64::log2,
        "ex2" => f64::exp2,
        "tanh" => f64::tanh,
        _ => return None,
    };
    match (opcode, kind, flush) {
        ("tanh", Type::F32, false) => Some(apply::<Single<false>>(d, a, f)),
        ("tanh", Type::F32, true) => None,
        (_, Type::F32, false) => Some(apply::<Single<false>>(d, a, f)),
        (_, Type::F32, true) => Some(apply::<Single<true>>(d, a, f)),
        ("ex2" | "tanh", Type::F16, false) => Some(apply::<Half<false>>(d, a, f)),
        ("ex2" | "tanh", Type::F16x2, false) => Some(unary(d, a, halves1(of::<Half<false>>(f)))),
        ("ex2", Type::Bf16, true) => Some(apply::<Brain<true>>(d, a, f)),
        ("ex2", Type::Bf16x2, true) => Some(unary(d, a, halves1(of::<Brain<true>>(f)))),
        ("tanh", Type::Bf16, false) => Some(apply::<Brain<false>>(d, a, f)),
        ("tanh", Type::Bf16x2, false) => Some(unary(d, a, halves1(of::<Brain<false>>(f)))),
        ("rcp" | "rsqrt", Type::F64, true) => Some(unary(d, a, move |a: f64| gross(a, f))),
        ("rsqrt", Type::F64, false) => Some(apply::<Double>(d, a, f)),
        _ => None,
    }
}

fn of<F: Float>(f: fn(f64) -> f64) -> impl Fn(F) -> F {
    move |a| F::new(f(a.value()))
}

fn apply<F: Float>(d: usize, a: usize, f: fn(f64) -> f64) -> Compute {
    unary(d, a, of::<F>(f))
}

/// The upper 32 bits of a function of the upper 32 bits; subnormals are zeros.
fn gross(a: f64, f: fn(f64) -> f64) -> f64 {
    let upper = |x: f64| {
        if x.is_subnormal() { 0f64.copysign(x) } else { f64::from_bits(x.to_bits() & 0xffff_ffff_0000_0000) }
    };
    let result = f(upper(a));
    if result.is_nan() { f64::from_bits(F32.nan << 32) } else { upper(result) }
}

/// `rcp` and `sqrt`, rounded as the form says.
fn rounded(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    let rounding = form.rounding().filter(|&rounding| rounding != Rounding::NearestAway)?;
    let flush = form.take("ftz");
    let kind = form.kind()?;
    form.arity(2)?;
    let d = form.destination(0)?;
    let a = form.source(1, kind)?;
    match (kind, flush) {
        (Type::F32, false) => exact::<Single<false>>(d, a, opcode, rounding),
        (Type::F32, true) => exact::<Single<true>>(d, a, opcode, rounding),
        (Type::F64, false) => exact::<Double>(d, a, opcode, rounding),
        _ => None,
    }
}

fn exact<F: Float>(d: usize, a: usize, opcode: &str, rounding: Rounding) -> Option<Compute> {
    match opcode {
        "rcp" => Some(unary(d, a, move |a: F| F::read(F::FORMAT.div(1.0, a.value(), rounding)))),
        "sqrt" => Some(unary(d, a, move |a: F| F::read(F::FORMAT.sqrt(a.value(), rounding)))),
        _ => None,
    }
}

/// `div.approx` and `div.full`.
pub(super) fn divide(form: &mut Form<'_>) -> Option<Compute> {
    let full = form.take("full");
    if !full {
        form.take("approx").then_some(())?;
    }
    let flush = form.take("ftz");
    form.take("f32").then_some(())?;
    form.arity(3)?;
    let d = form.destination(0)?;
    let slots = form.sources(1, Type::F32)?;
    Some(match (full, flush) {
        (true, false) => binary(d, slots, |a: Single<false>, b: Single<false>| quotient(a, b)),
        (true, true) => binary(d, slots, |a: Single<true>, b: Single<true>| quotient(a, b)),
        (false, false) => binary(d, slots, |a: Single<false>, b: Single<false>| by_reciprocal(a, b)),
        (false, true) => binary(d, slots, |a: Single<true>, b: Single<true>| by_reciprocal(a, b)),
    })
}

fn quotient<F: Float>(a: F, b: F) -> F {
    F::new(a.value() / b.value())
}

/// Of a divisor beyond `2^126` the reciprocal is a zero.
fn by_reciprocal<F: Float>(a: F, b: F) -> F {
    let limit = 126f64.exp2();
    if b.value().abs() > limit { F::new(a.value() * 0f64.copysign(b.value())) } else { quotient(a, b) }
}
