//! Sums with a carry: `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc` and `madc`.

use super::form::Form;
use crate::ptx::registers::Compute;
use crate::ptx::types::Type;

pub(super) fn decode(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    let takes = opcode.ends_with('c');
    let gives = form.take("cc");
    let product = opcode.starts_with("mad");
    let high = product && form.take("hi");
    if product && !high {
        form.take("lo").then_some(())?;
    }
    let kind = form.kind()?;
    if !matches!(kind, Type::U32 | Type::S32 | Type::U64 | Type::S64) {
        return None;
    }
    form.arity(if product { 4 } else { 3 })?;
    let d = form.destination(0)?;
    let [a, b]: [_; 2] = form.sources(1, kind)?;
    let c = if product { form.source(3, kind)? } else { b };
    let carry = form.decoder.carry;
    let bits = kind.bits();
    let signed = kind.is_signed();
    let subtracts = opcode.starts_with("sub");
    // Without its bits above the type.
    let low = move |value: u64| u128::from(value) & ((1 << bits) - 1);
    let wide = move |value: u64| {
        if signed { (value << (64 - bits)) as i64 as i128 >> (64 - bits) } else { low(value) as i128 }
    };
    Some(Box::new(move |registers, mask| {
        let (a, b, c, carried) = (registers[a], registers[b], registers[c], registers[carry]);
        let mut next = carried;
        registers.each(d, mask, |i| {
            let carry_in = if takes { u128::from(carried[i] & 1) } else { 0 };
            let (x, y) = if product {
                let product = wide(a[i]).wrapping_mul(wide(b[i]));
                let part = if high { product >> bits } else { product };
                (part as u128 & ((1 << bits) - 1), low(c[i]))
            } else {
                (low(a[i]), low(b[i]))
            };
            let sum = if subtracts { x.wrapping_sub(y).wrapping_sub(carry_in) } else { x + y + carry_in };
            next[i] = (sum >> bits) as u64 & 1;
            (sum & ((1 << bits) - 1)) as u64
        });
        if gives {
            registers.each(carry, mask, |i| next[i]);
        }
    }))
}
