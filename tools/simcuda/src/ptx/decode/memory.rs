//! Loads and stores, and what orders them.

use super::form::Form;
use crate::ptx::program::{Access, Op};
use crate::ptx::registers::Slot;
use crate::ptx::syntax::{Operand, Space};
use crate::ptx::types::Type;

/// Among which threads an order holds. Here it holds among all.
const SCOPES: [&str; 4] = ["cta", "cluster", "gpu", "sys"];

/// `ld`, `ldu` and `st`.
pub(super) fn access(form: &mut Form<'_>, opcode: &str) -> Option<Op> {
    form.arity(2)?;
    let is_load = opcode != "st";
    let space = form.space().unwrap_or(Space::Generic);
    let volatile = form.take("volatile");
    let ordered = ordered(form, &["relaxed", if is_load { "acquire" } else { "release" }])?;
    hints(form, opcode, space)?;
    let allowed = match space {
        Space::Generic | Space::Global => true,
        Space::Shared => opcode != "ldu",
        Space::Local | Space::Param => !ordered && opcode != "ldu",
        Space::Const => is_load && !ordered && !volatile && opcode != "ldu",
    };
    if !allowed {
        return None;
    }
    let count = form.take_by(|word| match word {
        "v2" => Some(2),
        "v4" => Some(4),
        "v8" => Some(8),
        _ => None,
    });
    let kind = form.kind().filter(|kind| kind.is_plain() && kind.bytes() <= 8)?;
    let (space, address, offset) = address(form, usize::from(is_load), space)?;
    let operands = form.operands;
    let values = &operands[usize::from(!is_load)];
    let values = match (values, count) {
        (Operand::Vector(parts), count)
            if count == Some(parts.len()) || count.is_none() && parts.len() == 1 =>
        {
            parts
        }
        (single, None) => std::slice::from_ref(single),
        _ => return None,
    };
    let elements: Vec<Slot> = if is_load {
        values.iter().map(|value| form.written(value)).collect::<Option<_>>()?
    } else {
        values.iter().map(|value| form.read(value, kind)).collect::<Option<_>>()?
    };
    let size = kind.bytes();
    if elements.len() * size > 16 {
        return None;
    }
    let access = Access {
        space,
        address,
        offset,
        elements,
        size,
        signed: kind.is_signed(),
        strong: volatile || ordered,
    };
    Some(if is_load { Op::Load(access) } else { Op::Store(access) })
}

/// Takes one of these words and its scope; whether one was there. A word without a scope is no form.
pub(super) fn ordered(form: &mut Form<'_>, words: &[&str]) -> Option<bool> {
    if !words.iter().any(|word| form.take(word)) {
        return Some(false);
    }
    scope(form).then_some(true)
}

/// Takes a scope; whether there was one.
pub(super) fn scope(form: &mut Form<'_>) -> bool {
    SCOPES.iter().any(|scope| form.take(scope))
}

/// Takes what changes no value: which caches are used, and what they keep.
fn hints(form: &mut Form<'_>, opcode: &str, space: Space) -> Option<()> {
    form.take("weak");
    if form.take("nc") && (opcode != "ld" || space != Space::Global) {
        return None;
    }
    let caches: &[&str] =
        if opcode == "st" { &["wb", "cg", "cs", "wt"] } else { &["ca", "cg", "cs", "lu", "cv"] };
    let _ = caches.iter().any(|cache| form.take(cache));
    let mut keeps = false;
    while form.take_by(|word| eviction(word).then_some(())).is_some() {
        keeps = true;
    }
    (!keeps || matches!(space, Space::Generic | Space::Global)).then_some(())
}

/// Whether a word says what a cache keeps.
fn eviction(word: &str) -> bool {
    let keeps = ["::evict_normal", "::evict_unchanged", "::evict_first", "::evict_last", "::no_allocate"];
    match word.get(..2) {
        Some("L1") => keeps.contains(&&word[2..]),
        Some("L2") => keeps.contains(&&word[2..]) || ["::64B", "::128B", "::256B"].contains(&&word[2..]),
        _ => false,
    }
}

/// The address of an operand: its space, the slot of its base, its offset.
pub(super) fn address(form: &mut Form<'_>, index: usize, space: Space) -> Option<(Space, Slot, i64)> {
    let operands = form.operands;
    let Operand::Address(base, offset) = operands.get(index)? else { return None };
    let space = match &**base {
        Operand::Symbol(name, _) => {
            let (found, _) = form.address_of(name)?;
            let agree = match (space, found) {
                // Constants lie in global memory.
                (Space::Generic, _) | (Space::Const, Space::Global) => true,
                // Parameters of calls lie in local memory.
                (Space::Param, Space::Local) => true,
                _ => space == found,
            };
            match space {
                Space::Const => Space::Const,
                _ if agree => found,
                _ => return None,
            }
        }
        _ if space == Space::Param && !form.frame().is_kernel => Space::Local,
        _ => space,
    };
    Some((space, form.read(base, Type::B64)?, *offset))
}

/// Fences and prefetches: memory here is in order.
pub(super) fn order(form: &mut Form<'_>, opcode: &str) -> Option<Op> {
    if opcode.starts_with("prefetch") {
        form.arity(1)?;
        let space = form.space().unwrap_or(Space::Generic);
        let known = match opcode {
            "prefetchu" => space == Space::Generic,
            _ => matches!(space, Space::Generic | Space::Global | Space::Local),
        };
        let levels = if opcode == "prefetchu" { &["L1"][..] } else { &["L1", "L2"] };
        (known && levels.iter().any(|level| form.take(level))).then_some(())?;
    } else if opcode == "nanosleep" {
        form.arity(1)?;
        form.take("u32").then_some(())?;
    } else {
        form.arity(0)?;
        let _ = ["sc", "acq_rel", "acquire", "release"].iter().any(|word| form.take(word));
        (scope(form) || form.take("gl")).then_some(())?;
    }
    Some(Op::Nothing)
}
