//! `atom` and `red`.

use super::form::Form;
use super::memory::{address, ordered, scope};
use crate::ptx::float::{Brain, Double, Float, Half, Single, halves2};
use crate::ptx::program::{Atomic, Op, Update};
use crate::ptx::syntax::Space;
use crate::ptx::types::{Type, Word};

/// `atom` gives the old value, `red` does not.
pub(super) fn decode(form: &mut Form<'_>, gives: bool) -> Option<Op> {
    let has_scope = ordered(form, &["relaxed", "acquire", "release", "acq_rel"])?;
    // A scope without an order is that of `.relaxed`.
    let _ = has_scope || scope(form);
    let space = form.space().unwrap_or(Space::Generic);
    if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
        return None;
    }
    let kind = form.kind()?;
    let opcode = form.take_by(|word| {
        ["and", "or", "xor", "cas", "exch", "add", "inc", "dec", "min", "max"]
            .into_iter()
            .find(|&op| op == word)
    })?;
    if !gives && matches!(opcode, "cas" | "exch") {
        return None;
    }
    let small = matches!(kind, Type::F16 | Type::Bf16 | Type::F16x2 | Type::Bf16x2);
    if form.take("noftz") != (small && opcode == "add") {
        return None;
    }
    let first = usize::from(gives);
    let count = if opcode == "cas" { 2 } else { 1 };
    form.arity(first + 1 + count)?;
    let (space, base, offset) = address(form, first, space)?;
    let b = form.source(first + 1, kind)?;
    let c = if count == 2 { form.source(first + 2, kind)? } else { b };
    let old = if gives { Some(form.destination(0)?) } else { None };
    Some(Op::Atomic(Atomic {
        space,
        address: base,
        offset,
        size: kind.bytes(),
        old,
        operands: [b, c],
        update: update(opcode, kind)?,
        // Global memory adds `.f32` with subnormals as zeros, shared memory does not.
        global: if (opcode, kind) == ("add", Type::F32) { Some(sum::<Single<true>>()) } else { None },
    }))
}

fn sum<F: Float>() -> Update {
    Box::new(|old, b, _| F::new(F::read(old).value() + F::read(b).value()).write())
}

fn pair_sum<F: Float>() -> Update {
    let add = halves2(|a: F, b: F| F::new(a.value() + b.value()));
    Box::new(move |old, b, _| add(old as u32, b as u32).into())
}

fn of<T: Word>(f: impl Fn(T, T) -> T + Send + Sync + 'static) -> Option<Update> {
    Some(Box::new(move |old, b, _| f(T::read(old), T::read(b)).write()))
}

fn update(opcode: &str, kind: Type) -> Option<Update> {
    use Type::{B16, B32, B64, Bf16, Bf16x2, F16, F16x2, F32, F64, S32, S64, U32, U64};
    match (opcode, kind) {
        ("add", F32) => Some(sum::<Single<false>>()),
        ("add", F64) => Some(sum::<Double>()),
        ("add", F16) => Some(sum::<Half<false>>()),
        ("add", Bf16) => Some(sum::<Brain<false>>()),
        ("add", F16x2) => Some(pair_sum::<Half<false>>()),
        ("add", Bf16x2) => Some(pair_sum::<Brain<false>>()),
        ("add", U32 | S32) => of(u32::wrapping_add),
        ("add", U64) => of(u64::wrapping_add),
        ("and", B32 | B64) => of(|a: u64, b| a & b),
        ("or", B32 | B64) => of(|a: u64, b| a | b),
        ("xor", B32 | B64) => of(|a: u64, b| a ^ b),
        ("exch", B32 | B64) => of(|_: u64, b| b),
        ("cas", B16) => Some(Box::new(|old, b, c| if old as u16 == b as u16 { c } else { old })),
        ("cas", B32) => Some(Box::new(|old, b, c| if old as u32 == b as u32 { c } else { old })),
        ("cas", B64) => Some(Box::new(|old, b, c| if old == b { c } else { old })),
        ("inc", U32) => of(|old: u32, b| if old >= b { 0 } else { old + 1 }),
        ("dec", U32) => of(|old: u32, b| if old == 0 || old > b { b } else { old - 1 }),
        ("min", U32) => of(u32::min),
        ("min", S32) => of(i32::min),
        ("min", U64) => of(u64::min),
        ("min", S64) => of(i64::min),
        ("max", U32) => of(u32::max),
        ("max", S32) => of(i32::max),
        ("max", U64) => of(u64::max),
        ("max", S64) => of(i64::max),
        _ => None,
    }
}
