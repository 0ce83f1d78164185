//! Logic, shifts and fields of bits.

use super::form::Form;
use crate::ptx::registers::{Compute, Slot, binary, ternary, unary};
use crate::ptx::types::Type;

pub(super) fn decode(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    match opcode {
        "and" | "or" | "xor" | "not" | "cnot" => logic(form, opcode),
        "shl" | "shr" => shift(form, opcode == "shl"),
        "shf" => funnel(form),
        "lop3" => table(form),
        "popc" | "clz" | "bfind" | "brev" => count(form, opcode),
        "bfe" => extract(form),
        "bfi" => insert(form),
        "bmsk" => mask(form),
        "szext" => extend(form),
        "prmt" => permute(form),
        "fns" => find_set(form),
        _ => None,
    }
}

/// Takes `.clamp` or `.wrap`; whether it is `.wrap`.
fn wraps(form: &mut Form<'_>) -> Option<bool> {
    let wrap = form.take("wrap");
    (wrap || form.take("clamp")).then_some(wrap)
}

fn logic(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    let kind = form.kind()?;
    if !matches!(kind, Type::Pred | Type::B16 | Type::B32 | Type::B64) {
        return None;
    }
    let d = form.destination(0)?;
    if kind == Type::Pred {
        if opcode == "not" {
            form.arity(2)?;
            let a = form.source(1, kind)?;
            return Some(unary(d, a, |a: bool| !a));
        }
        form.arity(3)?;
        let slots = form.sources(1, kind)?;
        return Some(match opcode {
            "and" => binary(d, slots, |a: bool, b: bool| a & b),
            "or" => binary(d, slots, |a: bool, b: bool| a | b),
            "xor" => binary(d, slots, |a: bool, b: bool| a ^ b),
            _ => return None,
        });
    }
    if matches!(opcode, "not" | "cnot") {
        form.arity(2)?;
        let a = form.source(1, kind)?;
        let all = u64::MAX >> (64 - kind.bits());
        return Some(if opcode == "not" {
            unary(d, a, move |a: u64| !a & all)
        } else {
            unary(d, a, move |a: u64| a & all == 0)
        });
    }
    form.arity(3)?;
    let slots = form.sources(1, kind)?;
    Some(match opcode {
        "and" => binary(d, slots, |a: u64, b: u64| a & b),
        "or" => binary(d, slots, |a: u64, b: u64| a | b),
        _ => binary(d, slots, |a: u64, b: u64| a ^ b),
    })
}

/// Amounts beyond the width shift everything out.
fn shift(form: &mut Form<'_>, left: bool) -> Option<Compute> {
    let kind = form.kind()?;
    form.arity(3)?;
    let d = form.destination(0)?;
    let slots = [form.source(1, kind)?, form.source(2, Type::U32)?];
    Some(match (kind, left) {
        (Type::B16, true) => binary(d, slots, |a: u16, b: u32| a.checked_shl(b).unwrap_or(0)),
        (Type::B32, true) => binary(d, slots, |a: u32, b: u32| a.checked_shl(b).unwrap_or(0)),
        (Type::B64, true) => binary(d, slots, |a: u64, b: u32| a.checked_shl(b).unwrap_or(0)),
        (Type::B16 | Type::U16, false) => binary(d, slots, |a: u16, b: u32| a.checked_shr(b).unwrap_or(0)),
        (Type::B32 | Type::U32, false) => binary(d, slots, |a: u32, b: u32| a.checked_shr(b).unwrap_or(0)),
        (Type::B64 | Type::U64, false) => binary(d, slots, |a: u64, b: u32| a.checked_shr(b).unwrap_or(0)),
        (Type::S16, false) => binary(d, slots, |a: i16, b: u32| a >> b.min(15)),
        (Type::S32, false) => binary(d, slots, |a: i32, b: u32| a >> b.min(31)),
        (Type::S64, false) => binary(d, slots, |a: i64, b: u32| a >> b.min(63)),
        _ => return None,
    })
}

/// `shf`: the upper or lower half of two registers that are shifted together.
fn funnel(form: &mut Form<'_>) -> Option<Compute> {
    let left = form.take("l");
    if !left {
        form.take("r").then_some(())?;
    }
    let wrap = wraps(form)?;
    form.take("b32").then_some(())?;
    form.arity(4)?;
    let d = form.destination(0)?;
    let slots = form.sources(1, Type::B32)?;
    Some(ternary(d, slots, move |low: u32, high: u32, by: u32| {
        let both = u64::from(high) << 32 | u64::from(low);
        let by = if wrap { by & 31 } else { by.min(32) };
        if left { (both << by >> 32) as u32 } else { (both >> by) as u32 }
    }))
}

/// `lop3`: any function of three bits, by its table; its result can be reduced to a predicate.
fn table(form: &mut Form<'_>) -> Option<Compute> {
    let reduces = form.take_by(|word| match word {
        "or" => Some(true),
        "and" => Some(false),
        _ => None,
    });
    form.take("b32").then_some(())?;
    form.arity(if reduces.is_some() { 6 } else { 5 })?;
    let [d, p] = form.destinations(0)?;
    let slots: [Slot; 3] = form.sources(1, Type::B32)?;
    let table = match form.operand(4)? {
        crate::ptx::syntax::Operand::Integer(table @ 0..=255) => *table as u32,
        _ => return None,
    };
    let look_up = move |a: u32, b: u32, c: u32| {
        (0..8).filter(|row| table >> row & 1 != 0).fold(0, |bits, row: u32| {
            let of = |value: u32, bit: u32| if row & bit != 0 { value } else { !value };
            bits | of(a, 4) & of(b, 2) & of(c, 1)
        })
    };
    let Some(or) = reduces else { return Some(ternary(d, slots, look_up)) };
    let (q, negated) = form.predicate(5)?;
    Some(Box::new(move |registers, mask| {
        let [a, b, c] = slots.map(|slot| registers[slot]);
        let q = registers[q];
        let result = |i: usize| look_up(a[i] as u32, b[i] as u32, c[i] as u32);
        registers.each(d, mask, |i| result(i).into());
        registers.each(p, mask, |i| {
            let (any, q) = (result(i) != 0, (q[i] & 1 != 0) != negated);
            u64::from(if or { any | q } else { any & q })
        });
    }))
}

fn count(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    let distance = opcode == "bfind" && form.take("shiftamt");
    let kind = form.kind()?;
    if (if opcode == "bfind" { !kind.is_integer() } else { !kind.is_bits() })
        || !matches!(kind.bytes(), 4 | 8)
    {
        return None;
    }
    form.arity(2)?;
    let d = form.destination(0)?;
    let a = form.source(1, kind)?;
    let wide = kind.bytes() == 8;
    Some(match (opcode, wide) {
        ("popc", false) => unary(d, a, u32::count_ones),
        ("popc", true) => unary(d, a, u64::count_ones),
        ("clz", false) => unary(d, a, u32::leading_zeros),
        ("clz", true) => unary(d, a, u64::leading_zeros),
        ("brev", false) => unary(d, a, u32::reverse_bits),
        ("brev", true) => unary(d, a, u64::reverse_bits),
        _ => {
            let signed = kind.is_signed();
            let bits = kind.bits();
            unary(d, a, move |a: u64| {
                // Of a negative number, the highest bit that is not its sign.
                let up = a << (64 - bits);
                let up = if signed && up >> 63 != 0 { !up & u64::MAX << (64 - bits) } else { up };
                match up {
                    0 => u32::MAX,
                    up if distance => up.leading_zeros(),
                    up => bits - 1 - up.leading_zeros(),
                }
            })
        }
    })
}

/// `bfe`: a field, extended by its sign or by zeros.
fn extract(form: &mut Form<'_>) -> Option<Compute> {
    let kind = form.kind().filter(|kind| kind.is_integer() && kind.bytes() >= 4)?;
    form.arity(4)?;
    let d = form.destination(0)?;
    let slots = [form.source(1, kind)?, form.source(2, Type::U32)?, form.source(3, Type::U32)?];
    let bits = kind.bits();
    let all = u64::MAX >> (64 - bits);
    let signed = kind.is_signed();
    Some(ternary(d, slots, move |a: u64, from: u8, len: u8| {
        let (a, from, len) = (a & all, u32::from(from), u32::from(len));
        let last = (from + len).saturating_sub(1).min(bits - 1);
        let sign = signed && len > 0 && a >> last & 1 != 0;
        let there = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
        // What lies above the highest bit is the sign too.
        let known = all.checked_shr(from).unwrap_or(0) & there;
        let field = a.checked_shr(from).unwrap_or(0) & known;
        if sign { (field | !known) & all } else { field }
    }))
}

/// `bfi`: a field of `b` replaced by the low bits of `a`.
fn insert(form: &mut Form<'_>) -> Option<Compute> {
    let kind = form.kind().filter(|kind| kind.is_bits() && matches!(kind.bytes(), 4 | 8))?;
    form.arity(5)?;
    let f = form.destination(0)?;
    let [a, b]: [_; 2] = form.sources(1, kind)?;
    let [from, len]: [_; 2] = form.sources(3, Type::U32)?;
    let all = u64::MAX >> (64 - kind.bits());
    Some(Box::new(move |registers, mask| {
        let (a, b, from, len) = (registers[a], registers[b], registers[from], registers[len]);
        registers.each(f, mask, |i| {
            let (from, len) = ((from[i] & 0xff) as u32, (len[i] & 0xff) as u32);
            let there = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
            let field = there.checked_shl(from).unwrap_or(0) & all;
            let value = a[i].checked_shl(from).unwrap_or(0);
            b[i] & all & !field | value & field
        });
    }))
}

/// `bmsk`: ones from a place on.
fn mask(form: &mut Form<'_>) -> Option<Compute> {
    let wrap = wraps(form)?;
    form.take("b32").then_some(())?;
    form.arity(3)?;
    let d = form.destination(0)?;
    let slots = form.sources(1, Type::B32)?;
    Some(binary(d, slots, move |from: u32, len: u32| {
        if !wrap && from >= 32 {
            return 0;
        }
        let end = (from & 31) + (len & 31);
        let above = if end >= 32 || !wrap && len >= 32 { 0 } else { u32::MAX << end };
        u32::MAX << (from & 31) & !above
    }))
}

/// `szext`: the low bits, extended by their sign or by zeros.
fn extend(form: &mut Form<'_>) -> Option<Compute> {
    let wrap = wraps(form)?;
    let kind = form.kind().filter(|kind| matches!(kind, Type::U32 | Type::S32))?;
    form.arity(3)?;
    let d = form.destination(0)?;
    let slots = form.sources(1, kind)?;
    let signed = kind.is_signed();
    Some(binary(d, slots, move |a: u32, count: u32| {
        let all = !wrap && count >= 32;
        let above = if all { 0 } else { u32::MAX << (count & 31) };
        let sign = signed && !all && count & 31 != 0 && a >> ((count & 31) - 1) & 1 != 0;
        if sign { a | above } else { a & !above }
    }))
}

/// `prmt`: four of the eight bytes of two registers.
fn permute(form: &mut Form<'_>) -> Option<Compute> {
    form.take("b32").then_some(())?;
    let mode = form
        .take_by(|word| ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"].into_iter().find(|&mode| mode == word));
    form.arity(4)?;
    let d = form.destination(0)?;
    let slots = form.sources(1, Type::B32)?;
    Some(ternary(d, slots, move |a: u32, b: u32, c: u32| {
        let both = u64::from(b) << 32 | u64::from(a);
        let s = c & 3;
        (0..4).fold(0, |bytes, i: u32| {
            // The byte, and whether its sign fills the place instead.
            let (from, fill) = match mode {
                None => (c >> (4 * i) & 7, c >> (4 * i + 3) & 1 != 0),
                Some("f4e") => (s + i, false),
                Some("b4e") => ((s + 8 - i) & 7, false),
                Some("rc8") => (s, false),
                Some("ecl") => (s.max(i), false),
                Some("ecr") => (s.min(i), false),
                _ => ((s & 1) * 2 + (i & 1), false),
            };
            let byte = (both >> (8 * from)) as u8;
            let byte = if fill { (byte as i8 >> 7) as u8 } else { byte };
            bytes | u32::from(byte) << (8 * i)
        })
    }))
}

/// `fns`: the place of the n-th one, from a place on upward or downward.
fn find_set(form: &mut Form<'_>) -> Option<Compute> {
    form.take("b32").then_some(())?;
    form.arity(4)?;
    let d = form.destination(0)?;
    let slots = form.sources(1, Type::B32)?;
    Some(ternary(d, slots, |bits: u32, base: u32, nth: i32| {
        let is_set = |place: &u32| bits >> place & 1 != 0;
        let found = match (base, nth) {
            (32.., _) => None,
            (_, 0) => Some(base).filter(is_set),
            (_, 1..) => (base..32).filter(is_set).nth(nth as usize - 1),
            _ => (0..=base).rev().filter(is_set).nth(nth.unsigned_abs() as usize - 1),
        };
        found.unwrap_or(u32::MAX)
    }))
}
