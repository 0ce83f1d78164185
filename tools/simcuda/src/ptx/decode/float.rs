//! Arithmetic of floats.

use super::form::Form;
use crate::ptx::float::{Brain, Double, Float, Half, Single, halves1, halves2, halves3};
use crate::ptx::registers::{Compute, Slot, binary, ternary, unary};
use crate::ptx::soft::Rounding;
use crate::ptx::types::Type;

pub(super) fn decode(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    match opcode {
        "copysign" => return copy_sign(form),
        "testp" => return test(form),
        "div" if !form.words.iter().any(|word| matches!(*word, "rn" | "rz" | "rm" | "rp")) => {
            return super::approximate::divide(form);
        }
        _ => {}
    }
    let modes = Modes::take(form);
    let kind = form.kind()?;
    modes.allowed(opcode, kind)?;
    match (kind, modes.flush) {
        (Type::F32, false) => one::<Single<false>>(form, opcode, kind, modes),
        (Type::F32, true) => one::<Single<true>>(form, opcode, kind, modes),
        (Type::F64, false) => one::<Double>(form, opcode, kind, modes),
        (Type::F16, false) => one::<Half<false>>(form, opcode, kind, modes),
        (Type::F16, true) => one::<Half<true>>(form, opcode, kind, modes),
        (Type::Bf16, false) => one::<Brain<false>>(form, opcode, kind, modes),
        (Type::F16x2, false) => two::<Half<false>>(form, opcode, modes),
        (Type::F16x2, true) => two::<Half<true>>(form, opcode, modes),
        (Type::Bf16x2, false) => two::<Brain<false>>(form, opcode, modes),
        _ => None,
    }
}

/// What a form says beside its type.
#[derive(Clone, Copy, Debug)]
struct Modes {
    rounding: Option<Rounding>,
    flush: bool,
    saturate: bool,
    relu: bool,
    nan: bool,
    xorsign: bool,
}

impl Modes {
    fn take(form: &mut Form<'_>) -> Self {
        Self {
            rounding: form.rounding(),
            flush: form.take("ftz"),
            saturate: form.take("sat"),
            relu: form.take("relu"),
            nan: form.take("NaN"),
            xorsign: form.has("abs") && form.take("xorsign") && form.take("abs"),
        }
    }

    /// Nothing, if an instruction does not have these.
    fn allowed(self, opcode: &str, kind: Type) -> Option<()> {
        let wide = matches!(kind, Type::F32 | Type::F64);
        let extreme = matches!(opcode, "min" | "max");
        let rounds = matches!(opcode, "add" | "sub" | "mul" | "fma" | "mad" | "div");
        let fused = matches!(opcode, "fma" | "mad" | "div");
        let has_kind = wide || !matches!(opcode, "div" | "mad");
        let fine = has_kind
            && match self.rounding {
                None => !fused,
                Some(Rounding::NearestEven) => rounds,
                Some(Rounding::NearestAway) => false,
                Some(_) => rounds && wide,
            }
            && (!self.saturate
                || rounds && opcode != "div" && matches!(kind, Type::F32 | Type::F16 | Type::F16x2))
            && (!self.relu || opcode == "fma" && !wide && !self.saturate)
            && (!self.nan || extreme && kind != Type::F64)
            && (!self.xorsign || extreme && kind != Type::F64);
        fine.then_some(())
    }

    /// What is done to a result before it is written.
    fn finish<F: Float>(self, value: F) -> F {
        let x = value.value();
        if self.saturate {
            // NaN becomes zero.
            F::new(if x > 0.0 { x.min(1.0) } else { 0.0 })
        } else if self.relu && x < 0.0 {
            F::new(0.0)
        } else {
            value
        }
    }
}

/// The functions of a form, by how many values they take.
enum Function<F> {
    Of1(fn(F) -> F),
    Of2(Box<dyn Fn(F, F) -> F + Send + Sync>),
    Of3(Box<dyn Fn(F, F, F) -> F + Send + Sync>),
}

/// A form on one value of a register.
fn one<F: Float>(form: &mut Form<'_>, opcode: &str, kind: Type, modes: Modes) -> Option<Compute> {
    let d = form.destination(0)?;
    let plain = !modes.saturate && modes.rounding.is_none_or(|rounding| rounding == Rounding::NearestEven);
    // The forms that kernels mostly consist of, without a call for each lane.
    if plain && matches!(opcode, "add" | "sub" | "mul") {
        form.arity(3)?;
        let slots = form.sources(1, kind)?;
        return Some(match opcode {
            "add" => binary(d, slots, |a: F, b: F| F::new(a.value() + b.value())),
            "sub" => binary(d, slots, |a: F, b: F| F::new(a.value() - b.value())),
            _ => binary(d, slots, |a: F, b: F| F::new(a.value() * b.value())),
        });
    }
    if plain && !modes.relu && matches!(opcode, "fma" | "mad") {
        form.arity(4)?;
        let slots = form.sources(1, kind)?;
        return Some(ternary(d, slots, F::fma));
    }
    match function::<F>(opcode, modes)? {
        Function::Of1(f) => {
            form.arity(2)?;
            let a = form.source(1, kind)?;
            Some(unary(d, a, f))
        }
        Function::Of2(f) => {
            form.arity(3)?;
            let slots = form.sources(1, kind)?;
            Some(binary(d, slots, f))
        }
        Function::Of3(f) => {
            form.arity(4)?;
            let slots = form.sources(1, kind)?;
            Some(ternary(d, slots, f))
        }
    }
}

/// A form on both halves of a register.
fn two<F: Float>(form: &mut Form<'_>, opcode: &str, modes: Modes) -> Option<Compute> {
    let d = form.destination(0)?;
    match function::<F>(opcode, modes)? {
        Function::Of1(f) => {
            form.arity(2)?;
            let a: Slot = form.source(1, Type::B32)?;
            Some(unary(d, a, halves1(f)))
        }
        Function::Of2(f) => {
            form.arity(3)?;
            let slots = form.sources(1, Type::B32)?;
            Some(binary(d, slots, halves2(f)))
        }
        Function::Of3(f) => {
            form.arity(4)?;
            let slots = form.sources(1, Type::B32)?;
            Some(ternary(d, slots, halves3(f)))
        }
    }
}

fn function<F: Float>(opcode: &str, modes: Modes) -> Option<Function<F>> {
    let rounding = modes.rounding.unwrap_or(Rounding::NearestEven);
    let rounded = |f: fn(f64, f64, Rounding) -> u64| -> Option<Function<F>> {
        Some(Function::Of2(Box::new(move |a: F, b: F| {
            modes.finish(F::read(f(a.value(), b.value(), rounding)))
        })))
    };
    match opcode {
        "abs" => Some(Function::Of1(|a| F::new(a.value().abs()))),
        "neg" => Some(Function::Of1(|a| F::new(-a.value()))),
        "add" => rounded(|a, b, rounding| F::FORMAT.add(a, b, rounding)),
        "sub" => rounded(|a, b, rounding| F::FORMAT.add(a, -b, rounding)),
        "mul" => rounded(|a, b, rounding| F::FORMAT.mul(a, b, rounding)),
        "div" => rounded(|a, b, rounding| F::FORMAT.div(a, b, rounding)),
        "fma" | "mad" => Some(Function::Of3(Box::new(move |a: F, b: F, c: F| {
            let exact = F::FORMAT.fma(a.value(), b.value(), c.value(), rounding);
            modes.finish(F::read(exact))
        }))),
        "min" | "max" => {
            let largest = opcode == "max";
            Some(Function::Of2(Box::new(move |a: F, b: F| extreme(a, b, largest, modes))))
        }
        _ => None,
    }
}

/// The smaller or the larger. A NaN gives way, unless `.NaN` says that it does not; -0 is below +0. `.xorsign.abs` compares
/// magnitudes and gives the result the product of the signs, a NaN's too.
fn extreme<F: Float>(a: F, b: F, largest: bool, modes: Modes) -> F {
    let [mut x, mut y] = [a.value(), b.value()];
    let negative = x.is_sign_negative() != y.is_sign_negative();
    if modes.xorsign {
        [x, y] = [x.abs(), y.abs()];
    }
    let below = x < y || x == y && x.is_sign_negative();
    let found = match (x.is_nan(), y.is_nan()) {
        (true, true) => f64::NAN,
        (true, _) | (_, true) if modes.nan => f64::NAN,
        (true, _) => y,
        (_, true) => x,
        _ if below == largest => y,
        _ => x,
    };
    F::new(if modes.xorsign && negative { -found } else { found })
}

/// `copysign`: the sign of `a` on `b`.
fn copy_sign(form: &mut Form<'_>) -> Option<Compute> {
    let kind = form.kind()?;
    form.arity(3)?;
    let d = form.destination(0)?;
    let slots = form.sources(1, kind)?;
    Some(match kind {
        Type::F32 => binary(d, slots, |a: f32, b: f32| b.copysign(a)),
        Type::F64 => binary(d, slots, |a: f64, b: f64| b.copysign(a)),
        _ => return None,
    })
}

/// `testp`: of which class a value is.
fn test(form: &mut Form<'_>) -> Option<Compute> {
    let names = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
    let class = form.take_by(|word| names.into_iter().find(|&name| name == word))?;
    let kind = form.kind()?;
    form.arity(2)?;
    let d = form.destination(0)?;
    let a = form.source(1, kind)?;
    macro_rules! tests {
        ($t:ty) => {
            match class {
                "finite" => unary(d, a, <$t>::is_finite),
                "infinite" => unary(d, a, <$t>::is_infinite),
                "number" => unary(d, a, |a: $t| !a.is_nan()),
                "notanumber" => unary(d, a, <$t>::is_nan),
                // Zeros count as normal.
                "normal" => unary(d, a, |a: $t| a.is_normal() || a == 0.0),
                _ => unary(d, a, <$t>::is_subnormal),
            }
        };
    }
    match kind {
        Type::F32 => Some(tests!(f32)),
        Type::F64 => Some(tests!(f64)),
        _ => None,
    }
}

/// Reads a value of a type as `f64`.
pub(super) fn reader(kind: Type, flush: bool) -> Option<fn(u64) -> f64> {
    fn read<F: Float>(register: u64) -> f64 {
        F::read(register).value()
    }
    Some(match (kind, flush) {
        (Type::F32, false) => read::<Single<false>>,
        (Type::F32, true) => read::<Single<true>>,
        (Type::F64, _) => read::<Double>,
        (Type::F16, false) => read::<Half<false>>,
        (Type::F16, true) => read::<Half<true>>,
        (Type::Bf16, false) => read::<Brain<false>>,
        (Type::Bf16, true) => read::<Brain<true>>,
        _ => return None,
    })
}
