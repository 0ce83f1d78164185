//! Arithmetic of integers.

use super::form::Form;
use crate::ptx::float::halves2;
use crate::ptx::registers::{Compute, binary, ternary, unary};
use crate::ptx::types::Type;

/// An expression for each type of integers, with `$t` as its name.
macro_rules! each_integer {
    ($kind:expr, $t:ident => $compute:expr) => {
        each_integer!($kind, $t => $compute;
            U16 u16, S16 i16, U32 u32, S32 i32, U64 u64, S64 i64)
    };
    ($kind:expr, $t:ident => $compute:expr; $($name:ident $of:ty),*) => {
        match $kind {
            $(Type::$name => {
                type $t = $of;
                Some($compute)
            })*
            _ => None,
        }
    };
}

pub(super) fn decode(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    match opcode {
        "mul24" | "mad24" => return multiply_24(form, opcode == "mad24"),
        "dp4a" => return dot(form, 4),
        "dp2a" => return dot(form, 2),
        "mul" | "mad" => return multiply(form, opcode == "mad"),
        _ => {}
    }
    let saturate = form.take("sat");
    let relu = form.take("relu");
    let kind = form.kind()?;
    if saturate && !(kind == Type::S32 && matches!(opcode, "add" | "sub")) {
        return None;
    }
    if relu && !matches!((opcode, kind), ("min" | "max", Type::S32 | Type::S16x2)) {
        return None;
    }
    let d = form.destination(0)?;
    if matches!(kind, Type::U16x2 | Type::S16x2) {
        return pairs(form, opcode, kind == Type::S16x2, relu);
    }
    match opcode {
        "abs" | "neg" => {
            form.arity(2)?;
            let a = form.source(1, kind)?;
            let negate = opcode == "neg";
            if !kind.is_signed() {
                return None;
            }
            each_integer!(kind, T => unary(d, a, move |a: T| {
                if negate || i128::from(a) < 0 { (0 as T).wrapping_sub(a) } else { a }
            }))
        }
        "sad" => {
            form.arity(4)?;
            let slots = form.sources(1, kind)?;
            each_integer!(kind, T => ternary(d, slots, |a: T, b: T, c: T| {
                c.wrapping_add(if a < b { b.wrapping_sub(a) } else { a.wrapping_sub(b) })
            }))
        }
        _ => {
            form.arity(3)?;
            let slots = form.sources(1, kind)?;
            match opcode {
                "add" if saturate => Some(binary(d, slots, i32::saturating_add)),
                "sub" if saturate => Some(binary(d, slots, i32::saturating_sub)),
                "add" => each_integer!(kind, T => binary(d, slots, T::wrapping_add)),
                "sub" => each_integer!(kind, T => binary(d, slots, T::wrapping_sub)),
                "min" if relu => Some(binary(d, slots, |a: i32, b: i32| a.min(b).max(0))),
                "max" if relu => Some(binary(d, slots, |a: i32, b: i32| a.max(b).max(0))),
                "min" => each_integer!(kind, T => binary(d, slots, |a: T, b: T| a.min(b))),
                "max" => each_integer!(kind, T => binary(d, slots, |a: T, b: T| a.max(b))),
                // The manual leaves division by zero open; a device gives all ones, and the dividend as the rest.
                "div" => each_integer!(kind, T => binary(d, slots, |a: T, b: T| {
                    if b == 0 { (0 as T).wrapping_sub(1) } else { a.wrapping_div(b) }
                })),
                "rem" => each_integer!(kind, T => binary(d, slots, |a: T, b: T| {
                    if b == 0 { a } else { a.wrapping_rem(b) }
                })),
                _ => None,
            }
        }
    }
}

/// Two integers of 16 bits in one register.
fn pairs(form: &mut Form<'_>, opcode: &str, signed: bool, relu: bool) -> Option<Compute> {
    let d = form.destination(0)?;
    form.arity(3)?;
    let slots = form.sources(1, Type::B32)?;
    let at_least = if relu { 0 } else { i16::MIN };
    Some(match (opcode, signed) {
        ("add", _) => binary(d, slots, halves2(u16::wrapping_add)),
        ("min", false) => binary(d, slots, halves2(|a: u16, b| a.min(b))),
        ("max", false) => binary(d, slots, halves2(|a: u16, b| a.max(b))),
        ("min", true) => binary(d, slots, halves2(move |a: i16, b| a.min(b).max(at_least))),
        ("max", true) => binary(d, slots, halves2(move |a: i16, b| a.max(b).max(at_least))),
        _ => return None,
    })
}

/// `mul` and `mad`: the low half, the high half, or all of the product.
fn multiply(form: &mut Form<'_>, adds: bool) -> Option<Compute> {
    let part = form.take_by(|word| ["lo", "hi", "wide"].into_iter().find(|&part| part == word))?;
    let saturate = form.take("sat");
    let kind = form.kind()?;
    if saturate && !(adds && part == "hi" && kind == Type::S32) {
        return None;
    }
    form.arity(if adds { 4 } else { 3 })?;
    let d = form.destination(0)?;
    let [a, b]: [_; 2] = form.sources(1, kind)?;
    let c = if adds { form.source(3, wider(kind, part == "wide")?)? } else { form.decoder.constant(0) };
    let slots = [a, b, c];
    match part {
        "lo" => {
            each_integer!(kind, T => ternary(d, slots, |a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)))
        }
        "hi" if saturate => {
            Some(ternary(d, slots, |a: i32, b: i32, c: i32| high(a.into(), b.into(), 32).saturating_add(c)))
        }
        "hi" => each_integer!(kind, T => ternary(d, slots, |a: T, b: T, c: T| {
            ((i128::from(a).wrapping_mul(i128::from(b)) >> T::BITS) as T).wrapping_add(c)
        })),
        _ => match kind {
            Type::U16 => Some(ternary(d, slots, |a: u16, b: u16, c: u32| {
                (u32::from(a) * u32::from(b)).wrapping_add(c)
            })),
            Type::S16 => Some(ternary(d, slots, |a: i16, b: i16, c: i32| {
                (i32::from(a) * i32::from(b)).wrapping_add(c)
            })),
            Type::U32 => Some(ternary(d, slots, |a: u32, b: u32, c: u64| {
                (u64::from(a) * u64::from(b)).wrapping_add(c)
            })),
            Type::S32 => Some(ternary(d, slots, |a: i32, b: i32, c: i64| {
                (i64::from(a) * i64::from(b)).wrapping_add(c)
            })),
            _ => None,
        },
    }
}

fn high(a: i64, b: i64, bits: u32) -> i32 {
    ((a * b) >> bits) as i32
}

/// The type of twice as many bits, if `wide`.
fn wider(kind: Type, wide: bool) -> Option<Type> {
    Some(match (kind, wide) {
        (kind, false) => kind,
        (Type::U16, _) => Type::U32,
        (Type::S16, _) => Type::S32,
        (Type::U32, _) => Type::U64,
        (Type::S32, _) => Type::S64,
        _ => return None,
    })
}

/// `mul24` and `mad24`: the low 32 bits of a product of 24 bits each, or the bits from 16 on.
fn multiply_24(form: &mut Form<'_>, adds: bool) -> Option<Compute> {
    let is_high = form.take("hi");
    if !is_high {
        form.take("lo").then_some(())?;
    }
    let saturate = form.take("sat");
    let kind = form.kind()?;
    if !matches!(kind, Type::U32 | Type::S32) || saturate && !(adds && is_high && kind == Type::S32) {
        return None;
    }
    form.arity(if adds { 4 } else { 3 })?;
    let d = form.destination(0)?;
    let [a, b]: [_; 2] = form.sources(1, kind)?;
    let c = if adds { form.source(3, kind)? } else { form.decoder.constant(0) };
    let by = if is_high { 16 } else { 0 };
    let signed = kind.is_signed();
    let cut = move |value: u32| {
        if signed { i64::from((value << 8) as i32 >> 8) } else { i64::from(value & 0xff_ffff) }
    };
    Some(ternary(d, [a, b, c], move |a: u32, b: u32, c: u32| {
        let part = ((cut(a) * cut(b)) >> by) as u32;
        if saturate { (part as i32).saturating_add(c as i32) as u32 } else { part.wrapping_add(c) }
    }))
}

/// `dp4a` and `dp2a`: a product of vectors of bytes, added to an integer.
fn dot(form: &mut Form<'_>, count: u32) -> Option<Compute> {
    // The half of `b` that two elements of 16 bits meet.
    let upper = count == 2 && form.take("hi");
    if count == 2 && !upper {
        form.take("lo").then_some(())?;
    }
    let kinds = [form.kind()?, form.kind()?];
    if kinds.iter().any(|kind| !matches!(kind, Type::U32 | Type::S32)) {
        return None;
    }
    form.arity(4)?;
    let d = form.destination(0)?;
    let slots = form.sources(1, Type::B32)?;
    let [a_signed, b_signed] = kinds.map(Type::is_signed);
    let element = |value: u32, i: u32, bits: u32, signed: bool| {
        let up = value << (32 - bits * (i + 1));
        if signed { i64::from(up as i32 >> (32 - bits)) } else { i64::from(up >> (32 - bits)) }
    };
    Some(ternary(d, slots, move |a: u32, b: u32, c: u32| {
        let sum: i64 = (0..count)
            .map(|i| {
                let of_a = element(a, i, 32 / count, a_signed);
                of_a * element(b, if upper { i + 2 } else { i }, 8, b_signed)
            })
            .sum();
        (c as i32 as i64).wrapping_add(sum) as u32
    }))
}
