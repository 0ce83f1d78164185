//! `cvt`.

use super::float::reader;
use super::form::Form;
use crate::ptx::float::{Double, Single};
use crate::ptx::registers::{Compute, Slot, binary, unary};
use crate::ptx::soft::{BF16, E4M3, E5M2, Exact, F16, F32, F64, Format, Rounding, TF32};
use crate::ptx::types::{Type, Word};

/// What a form says beside its types.
#[derive(Clone, Copy, Debug)]
struct Modes {
    rounding: Option<Rounding>,
    /// To an integer.
    integer: Option<Rounding>,
    flush: bool,
    saturate: bool,
    /// What is too large becomes the largest value.
    finite: bool,
    relu: bool,
}

impl Modes {
    /// Nothing, if a conversion between single values does not have these.
    fn allowed(self, to: Type, from: Type) -> Option<()> {
        let brain = [to, from].contains(&Type::Bf16);
        let to_half = from == Type::F32 && matches!(to, Type::F16 | Type::Bf16);
        let nearest_or_zero = matches!(self.rounding, Some(Rounding::NearestEven | Rounding::Zero));
        let alone = !self.saturate && !self.flush;
        let fine = (self.rounding != Some(Rounding::NearestAway) || to == Type::Tf32 && !self.relu)
            && (!self.saturate || !brain)
            && (!self.flush || [to, from].contains(&Type::F32))
            && (!self.finite
                || to_half && nearest_or_zero && alone
                || self.rounding == Some(Rounding::NearestAway))
            && (!self.relu || (to_half || to == Type::Tf32) && nearest_or_zero && alone)
            && (!brain || [to, from].iter().all(|kind| kind.bits() > 8));
        fine.then_some(())
    }
}

pub(super) fn decode(form: &mut Form<'_>) -> Option<Compute> {
    let modes = Modes {
        rounding: form.rounding(),
        integer: form.take_by(|word| {
            Some(match word {
                "rni" => Rounding::NearestEven,
                "rzi" => Rounding::Zero,
                "rmi" => Rounding::Down,
                "rpi" => Rounding::Up,
                _ => return None,
            })
        }),
        flush: form.take("ftz"),
        saturate: form.take("sat"),
        finite: form.take("satfinite"),
        relu: form.take("relu"),
    };
    let to = form.kind()?;
    let from = form.kind()?;
    let d = form.destination(0)?;
    let is_pair = |kind| matches!(kind, Type::F16x2 | Type::Bf16x2 | Type::E4m3x2 | Type::E5m2x2);
    if is_pair(to) || is_pair(from) {
        return pair(form, d, to, from, modes);
    }
    form.arity(2)?;
    modes.allowed(to, from)?;
    let plain_integer = |kind: Type| kind.is_integer();
    let a = form.source(1, if plain_integer(from) { from } else { bits_of(from) })?;
    match (plain_integer(to), plain_integer(from)) {
        (true, true) => between_integers(d, a, to, from, modes),
        (true, false) => to_integer(d, a, to, from, modes),
        (false, true) => from_integer(d, a, to, from, modes),
        (false, false) => between_floats(d, a, to, from, modes),
    }
}

/// The type that an operand is read as: a literal of 32 or 64 bits may be a float.
fn bits_of(kind: Type) -> Type {
    match kind {
        Type::F32 | Type::F64 => kind,
        _ => Type::B16,
    }
}

fn format(kind: Type) -> Option<Format> {
    Some(match kind {
        Type::F16 | Type::F16x2 => F16,
        Type::Bf16 | Type::Bf16x2 => BF16,
        Type::F32 => F32,
        Type::F64 => F64,
        Type::E4m3x2 => E4M3,
        Type::E5m2x2 => E5M2,
        _ => return None,
    })
}

fn is_float(kind: Type) -> bool {
    matches!(kind, Type::F16 | Type::Bf16 | Type::F32 | Type::F64)
}

/// The least and the largest value of an integer type.
fn limits(kind: Type) -> (i128, i128) {
    let bits = kind.bits();
    if kind.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// Reads an integer.
fn integer_reader(kind: Type) -> fn(u64) -> i128 {
    fn read<T: Word + Into<i128>>(register: u64) -> i128 {
        T::read(register).into()
    }
    match kind {
        Type::U8 => read::<u8>,
        Type::S8 => read::<i8>,
        Type::U16 => read::<u16>,
        Type::S16 => read::<i16>,
        Type::U32 => read::<u32>,
        Type::S32 => read::<i32>,
        Type::S64 => read::<i64>,
        _ => read::<u64>,
    }
}

/// As a register holds an integer of this type, extended as the type says.
fn written(value: i128, kind: Type) -> u64 {
    let up = 64 - kind.bits();
    let bits = (value as u64) << up;
    if kind.is_signed() { (bits as i64 >> up) as u64 } else { bits >> up }
}

fn between_integers(d: Slot, a: Slot, to: Type, from: Type, modes: Modes) -> Option<Compute> {
    if modes.rounding.is_some() || modes.integer.is_some() || modes.flush || modes.finite || modes.relu {
        return None;
    }
    if modes.saturate {
        let read = integer_reader(from);
        let (least, most) = limits(to);
        // Where nothing can be cut, nothing may be asked for.
        if limits(from).0 >= least && limits(from).1 <= most {
            return None;
        }
        return Some(unary(d, a, move |a: u64| written(read(a).clamp(least, most), to)));
    }
    // The two extensions of an address or an index, and the two cuts, are most of what kernels convert.
    let extend = move |bits: u64, kind: Type| written(bits.into(), kind);
    Some(match (to, from) {
        (Type::U64 | Type::S64, Type::U32) => unary(d, a, |a: u32| a),
        (Type::U64 | Type::S64, Type::S32) => unary(d, a, |a: i32| a),
        (Type::U32 | Type::S32, Type::U64 | Type::S64) => unary(d, a, |a: u32| a),
        _ => unary(d, a, move |a: u64| extend(extend(a, from), to)),
    })
}

/// Rounds to an integer.
fn integral(value: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::NearestEven => value.round_ties_even(),
        Rounding::NearestAway => value.round(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

/// Too large and too small values become the limits. NaN becomes zero, or the upper bit alone where 64 bits are involved.
fn to_integer(d: Slot, a: Slot, to: Type, from: Type, modes: Modes) -> Option<Compute> {
    if !is_float(from) || modes.rounding.is_some() || modes.finite || modes.flush && from != Type::F32 {
        return None;
    }
    let rounding = modes.integer?;
    let read = reader(from, modes.flush)?;
    let (least, most) = limits(to);
    let wide = from == Type::F64 || to.bits() == 64;
    let nan = if wide { 1u64 << (to.bits() - 1) } else { 0 };
    Some(unary(d, a, move |a: u64| {
        let value = integral(read(a), rounding);
        // A cast clamps as well, to limits that are wider than any type's.
        if value.is_nan() { written(nan.into(), to) } else { written((value as i128).clamp(least, most), to) }
    }))
}

fn from_integer(d: Slot, a: Slot, to: Type, from: Type, modes: Modes) -> Option<Compute> {
    // No integer becomes a subnormal, so `.ftz` says nothing, where it may stand.
    if !is_float(to)
        || modes.integer.is_some()
        || modes.finite
        || modes.relu
        || modes.flush && to != Type::F32
    {
        return None;
    }
    let rounding = modes.rounding?;
    let format = format(to)?;
    let (least, most) = if modes.saturate { (0, 1) } else { (i128::MIN, i128::MAX) };
    Some(match (to, from, rounding) {
        (Type::F32, Type::S32, Rounding::NearestEven) if !modes.saturate => unary(d, a, |a: i32| a as f32),
        (Type::F32, Type::U32, Rounding::NearestEven) if !modes.saturate => unary(d, a, |a: u32| a as f32),
        _ => {
            let read = integer_reader(from);
            unary(d, a, move |a: u64| {
                let value = read(a).clamp(least, most);
                let exact = Exact { negative: value < 0, mantissa: value.unsigned_abs(), exponent: 0 };
                format.round(exact, rounding, false)
            })
        }
    })
}

fn between_floats(d: Slot, a: Slot, to: Type, from: Type, modes: Modes) -> Option<Compute> {
    if !is_float(from) {
        return None;
    }
    if to == Type::Tf32 {
        return to_tf32(d, a, from, modes);
    }
    if !is_float(to) || modes.finite && !matches!(to, Type::F16 | Type::Bf16) {
        return None;
    }
    // Only where `.f32` is involved are subnormals zeros.
    if modes.flush && to != Type::F32 && from != Type::F32 {
        return None;
    }
    let narrower =
        to.bits() < from.bits() || (to == Type::F16) != (from == Type::F16) && to.bits() == from.bits();
    let rounding = match (modes.rounding, modes.integer) {
        (Some(rounding), None) if narrower || to == Type::Bf16 && from == Type::F16 => rounding,
        // Wider: nothing is lost.
        (None, None) if !narrower => Rounding::NearestEven,
        (None, Some(_)) if to == from => Rounding::NearestEven,
        _ => return None,
    };
    match (to, from, modes.flush, modes.saturate, modes.integer) {
        (Type::F32, Type::F32, false, false, None) => return Some(unary(d, a, |a: Single<false>| a)),
        (Type::F64, Type::F64, false, false, None) => return Some(unary(d, a, |a: Double| a)),
        _ => {}
    }
    let read = reader(from, modes.flush && from == Type::F32)?;
    let format = format(to)?;
    let flush = modes.flush && to == Type::F32;
    Some(unary(d, a, move |a: u64| {
        let value = read(a);
        let value = modes.integer.map_or(value, |rounding| integral(value, rounding));
        narrowed(value, format, rounding, modes, flush)
    }))
}

/// A value in a format, after what the modes say.
fn narrowed(value: f64, format: Format, rounding: Rounding, modes: Modes, flush: bool) -> u64 {
    let value = if modes.saturate {
        if value > 0.0 { value.min(1.0) } else { 0.0 }
    } else if modes.relu && value < 0.0 {
        0.0
    } else {
        value
    };
    let bits = format.encode(value, rounding, modes.finite);
    if flush { Single::<true>::read(bits).write() } else { bits }
}

/// The upper 19 bits of an `.f32`, the rest zero.
fn to_tf32(d: Slot, a: Slot, from: Type, modes: Modes) -> Option<Compute> {
    let rounding = modes.rounding?;
    let known = matches!(rounding, Rounding::NearestAway | Rounding::NearestEven | Rounding::Zero);
    if from != Type::F32 || !known || modes.flush || modes.saturate || modes.integer.is_some() {
        return None;
    }
    Some(unary(d, a, move |a: f32| narrowed(a.into(), TF32, rounding, modes, false) << 13))
}

/// Two values in one register, from two registers or from another pair.
fn pair(form: &mut Form<'_>, d: Slot, to: Type, from: Type, modes: Modes) -> Option<Compute> {
    if modes.integer.is_some() || modes.flush || modes.saturate {
        return None;
    }
    let rounding = modes.rounding?;
    let half = format(to)?;
    let small = matches!(to, Type::E4m3x2 | Type::E5m2x2);
    let known = match rounding {
        Rounding::NearestEven => true,
        Rounding::Zero => !small && from == Type::F32,
        _ => false,
    };
    if !known || small && !modes.finite {
        return None;
    }
    let bits = if small { 8 } else { 16 };
    let value = move |value: f64| narrowed(value, half, rounding, modes, false);
    match from {
        // The first is the upper one.
        Type::F32 if matches!(to, Type::F16x2 | Type::Bf16x2) || small => {
            form.arity(3)?;
            let slots = form.sources(1, from)?;
            Some(binary(d, slots, move |a: f32, b: f32| value(a.into()) << bits | value(b.into())))
        }
        Type::F16x2 | Type::Bf16x2 if small => {
            form.arity(2)?;
            let a = form.source(1, Type::B32)?;
            let source = format(from)?;
            Some(unary(d, a, move |a: u32| {
                let half = |by: u32| value(source.decode((a >> by & 0xffff).into()));
                half(16) << 8 | half(0)
            }))
        }
        Type::E4m3x2 | Type::E5m2x2 if to == Type::F16x2 && !modes.finite => {
            form.arity(2)?;
            let a = form.source(1, Type::B16)?;
            let source = format(from)?;
            Some(unary(d, a, move |a: u16| {
                let half = |by: u32| value(source.decode((a >> by & 0xff).into()));
                half(8) << 16 | half(0)
            }))
        }
        _ => None,
    }
}
