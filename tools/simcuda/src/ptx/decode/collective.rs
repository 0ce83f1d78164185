//! What the lanes of a warp, or the threads of a block, do together.

use super::form::Form;
use crate::ptx::program::{Barrier, BarrierKind, Op, Reduction};
use crate::ptx::registers::{Compute, Lanes, lanes};
use crate::ptx::types::Type;

pub(super) fn decode(form: &mut Form<'_>, opcode: &str) -> Option<Op> {
    match opcode {
        "activemask" => {
            form.take("b32").then_some(())?;
            form.arity(1)?;
            let d = form.destination(0)?;
            return Some(Op::Compute(Box::new(move |registers, mask| {
                registers.each(d, mask, |_| mask.into())
            })));
        }
        "bar" if form.take("warp") => {
            form.take("sync").then_some(())?;
            form.arity(1)?;
            let members = form.source(0, Type::B32)?;
            return Some(Op::Rendezvous(members, None));
        }
        "bar" | "barrier" => return barrier(form, opcode == "bar").map(Op::Barrier),
        _ => form.take("sync").then_some(())?,
    }
    let members = form.operands.len().checked_sub(1)?;
    let members = form.source(members, Type::B32)?;
    let compute = match opcode {
        "shfl" => shuffle(form),
        "vote" => vote(form),
        "match" => matching(form),
        _ => reduce(form),
    };
    compute.map(|compute| Op::Rendezvous(members, Some(compute)))
}

fn barrier(form: &mut Form<'_>, is_aligned: bool) -> Option<Barrier> {
    form.take("cta");
    let aligned = form.take("aligned") || is_aligned;
    if form.take("red") {
        let with = form.take_by(|word| match word {
            "popc" => Some(Reduction::Count),
            "and" => Some(Reduction::And),
            "or" => Some(Reduction::Or),
            _ => None,
        })?;
        if form.kind()? != (if with == Reduction::Count { Type::U32 } else { Type::Pred }) {
            return None;
        }
        let count = form.operands.len();
        if !matches!(count, 3 | 4) {
            return None;
        }
        let d = form.destination(0)?;
        let number = form.source(1, Type::U32)?;
        let threads = if count == 4 { Some(form.source(2, Type::U32)?) } else { None };
        let (p, negated) = form.predicate(count - 1)?;
        return Some(Barrier { number, threads, kind: BarrierKind::Reduce { d, p, negated, with }, aligned });
    }
    let kind = if form.take("arrive") {
        BarrierKind::Arrive
    } else {
        form.take("sync").then_some(BarrierKind::Sync)?
    };
    let number = form.source(0, Type::U32)?;
    let threads = if form.operands.len() == 2 {
        Some(form.source(1, Type::U32)?)
    } else {
        // Who does not wait must say for how many.
        form.arity(1).filter(|()| kind == BarrierKind::Sync)?;
        None
    };
    Some(Barrier { number, threads, kind, aligned })
}

/// What a lane reads from one that does not take part; the manual leaves it open.
const ABSENT: u64 = u64::MAX;

/// `shfl`, by the manual's rule of the source lane.
fn shuffle(form: &mut Form<'_>) -> Option<Compute> {
    let mode = form.take_by(|word| ["up", "down", "bfly", "idx"].into_iter().find(|&mode| mode == word))?;
    form.take("b32").then_some(())?;
    form.arity(5)?;
    let [d, p] = form.destinations(0)?;
    let [a, b, c]: [_; 3] = form.sources(1, Type::B32)?;
    Some(Box::new(move |registers, mask| {
        let (a, b, c) = (registers[a], registers[b], registers[c]);
        let source = |lane: usize| {
            let (by, clamp, segment) =
                ((b[lane] & 31) as i32, (c[lane] & 31) as i32, (c[lane] >> 8 & 31) as i32);
            let lane = lane as i32;
            let last = lane & segment | clamp & !segment;
            let (from, inside) = match mode {
                "up" => (lane - by, lane - by >= last),
                "down" => (lane + by, lane + by <= last),
                "bfly" => (lane ^ by, lane ^ by <= last),
                _ => {
                    let from = lane & segment | by & !segment;
                    (from, from <= last)
                }
            };
            (if inside { from } else { lane } as usize, inside)
        };
        registers.each(d, mask, |lane| {
            let (from, _) = source(lane);
            if mask >> from & 1 != 0 { a[from] } else { ABSENT }
        });
        registers.each(p, mask, |lane| source(lane).1.into());
    }))
}

fn vote(form: &mut Form<'_>) -> Option<Compute> {
    let mode = form.take_by(|word| ["all", "any", "uni", "ballot"].into_iter().find(|&mode| mode == word))?;
    form.take(if mode == "ballot" { "b32" } else { "pred" }).then_some(())?;
    form.arity(3)?;
    let d = form.destination(0)?;
    let (p, negated) = form.predicate(1)?;
    Some(Box::new(move |registers, mask| {
        let ballot = registers.guarded(mask, p, negated);
        let result = match mode {
            "all" => u64::from(ballot == mask),
            "any" => u64::from(ballot != 0),
            "uni" => u64::from(ballot == 0 || ballot == mask),
            _ => ballot.into(),
        };
        registers.each(d, mask, |_| result);
    }))
}

/// `match`: which lanes have the same value.
fn matching(form: &mut Form<'_>) -> Option<Compute> {
    let all = form.take("all");
    if !all {
        form.take("any").then_some(())?;
    }
    let kind = form.kind()?;
    let bits = match kind {
        Type::B32 => u64::from(u32::MAX),
        Type::B64 => u64::MAX,
        _ => return None,
    };
    form.arity(3)?;
    let [d, p] = if all { form.destinations(0)? } else { [form.destination(0)?, form.decoder.sink] };
    let a = form.source(1, kind)?;
    Some(Box::new(move |registers, mask| {
        let a: Lanes = registers[a];
        let like = |lane: usize| {
            lanes(mask)
                .filter(|&other| a[other] & bits == a[lane] & bits)
                .fold(0, |found, other| found | 1u32 << other)
        };
        registers.each(d, mask, |lane| match like(lane) {
            found if all && found != mask => 0,
            found => found.into(),
        });
        if all {
            registers.each(p, mask, |lane| (like(lane) == mask).into());
        }
    }))
}

/// `redux`: one value of all lanes.
fn reduce(form: &mut Form<'_>) -> Option<Compute> {
    let with = form.take_by(|word| {
        ["add", "min", "max", "and", "or", "xor"].into_iter().find(|&operation| operation == word)
    })?;
    let kind = form.kind()?;
    let logic = matches!(with, "and" | "or" | "xor");
    if logic != (kind == Type::B32) || !logic && !matches!(kind, Type::U32 | Type::S32) {
        return None;
    }
    form.arity(3)?;
    let d = form.destination(0)?;
    let a = form.source(1, kind)?;
    let signed = kind == Type::S32;
    Some(Box::new(move |registers, mask| {
        let values = lanes(mask).map(|lane| registers[a][lane] as u32);
        let result = match with {
            "add" => values.reduce(u32::wrapping_add),
            "min" if signed => values.map(|v| v as i32).min().map(|v| v as u32),
            "max" if signed => values.map(|v| v as i32).max().map(|v| v as u32),
            "min" => values.min(),
            "max" => values.max(),
            "and" => values.reduce(|a, b| a & b),
            "or" => values.reduce(|a, b| a | b),
            _ => values.reduce(|a, b| a ^ b),
        };
        registers.each(d, mask, |_| result.unwrap_or(0).into());
    }))
}
