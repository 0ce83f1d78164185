//! `mov`, `cvta` and `isspacep`.

use super::form::Form;
use crate::ptx::program::Op;
use crate::ptx::registers::{Compute, Slot, unary};
use crate::ptx::space::{locate, window};
use crate::ptx::syntax::{Operand, Space};
use crate::ptx::types::Type;

/// `mov`: a value, an address, or several values in one.
pub(super) fn mov(form: &mut Form<'_>) -> Option<Op> {
    let kind = form.kind()?;
    form.arity(2)?;
    let operands = form.operands;
    match (&operands[0], &operands[1]) {
        (Operand::Vector(parts), _) => unpack(form, parts, kind).map(Op::Compute),
        (_, Operand::Vector(parts)) => pack(form, parts, kind).map(Op::Compute),
        (_, Operand::Special(name))
            if matches!(name.as_str(), "%clock" | "%clock64" | "%globaltimer" | "%globaltimer_lo") =>
        {
            Some(Op::Clock(form.destination(0)?))
        }
        _ => {
            let (d, a) = (form.destination(0)?, form.source(1, kind)?);
            Some(Op::Compute(match kind.bytes() {
                1 => unary(d, a, |a: bool| a),
                2 => unary(d, a, |a: u16| a),
                4 => unary(d, a, |a: u32| a),
                8 => unary(d, a, |a: u64| a),
                _ => return None,
            }))
        }
    }
}

/// How many bits each of so many parts of a type has.
fn part(kind: Type, count: usize) -> Option<u32> {
    let fits = kind.is_bits() && matches!(count, 2 | 4) && kind.bits() <= 64;
    fits.then(|| kind.bits() / count as u32).filter(|&bits| bits >= 8)
}

fn unpack(form: &mut Form<'_>, parts: &[Operand], kind: Type) -> Option<Compute> {
    let bits = part(kind, parts.len())?;
    let a = form.source(1, kind)?;
    let slots: Vec<Slot> = parts.iter().map(|part| form.written(part)).collect::<Option<_>>()?;
    Some(Box::new(move |registers, mask| {
        let a = registers[a];
        for (i, &d) in slots.iter().enumerate() {
            registers.each(d, mask, |lane| a[lane] >> (i as u32 * bits) & ((1 << bits) - 1));
        }
    }))
}

fn pack(form: &mut Form<'_>, parts: &[Operand], kind: Type) -> Option<Compute> {
    let bits = part(kind, parts.len())?;
    let d = form.destination(0)?;
    let slots: Vec<Slot> = parts.iter().map(|part| form.read(part, Type::B32)).collect::<Option<_>>()?;
    Some(Box::new(move |registers, mask| {
        let mut packed = [0; 32];
        for (i, &a) in slots.iter().enumerate() {
            for (lane, value) in packed.iter_mut().enumerate() {
                *value |= (registers[a][lane] & ((1 << bits) - 1)) << (i as u32 * bits);
            }
        }
        registers.each(d, mask, |lane| packed[lane]);
    }))
}

/// `cvta`, `cvta.to` and `isspacep`.
pub(super) fn window_of(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    form.arity(2)?;
    let d = form.destination(0)?;
    let space = form.space()?;
    if opcode == "isspacep" {
        let a = form.source(1, Type::B64)?;
        // Constants lie in global memory here; a generic address does not tell them apart.
        if space == Space::Const {
            return None;
        }
        return Some(unary(d, a, move |a: u64| locate(a).0 == space));
    }
    let to = form.take("to");
    // Addresses have 64 bits.
    form.take("u64").then_some(())?;
    let a = form.source(1, Type::B64)?;
    // What a function takes is in local memory.
    let space = if space == Space::Param && !form.frame().is_kernel { Space::Local } else { space };
    let base = window(space);
    Some(unary(d, a, move |a: u64| if to { a.wrapping_sub(base) } else { a.wrapping_add(base) }))
}
