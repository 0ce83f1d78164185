//! `setp`, `set`, `selp` and `slct`.

use super::form::Form;
use crate::ptx::float::{Brain, Double, Half, Single};
use crate::ptx::registers::{Compute, Registers, Slot, binary, unary};
use crate::ptx::syntax::Operand;
use crate::ptx::types::{Type, Word};

pub(super) fn decode(form: &mut Form<'_>, opcode: &str) -> Option<Compute> {
    match opcode {
        "setp" => set_predicate(form),
        "set" => set(form),
        "selp" => select(form),
        _ => select_by_sign(form),
    }
}

/// What is asked of two values, and whether a NaN makes it true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// Neither is NaN.
    Ordered,
    /// One is NaN.
    Unordered,
}

/// Takes the relation of a form whose values have this type.
fn relation(form: &mut Form<'_>, kind: Type) -> Option<(Relation, bool)> {
    use Relation::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual, Ordered, Unordered};
    let integer = kind.is_integer() || kind.is_bits();
    let unsigned = kind.is_integer() && !kind.is_signed();
    let word = form.take_by(|word| {
        let found = match word {
            "eq" => (Equal, false),
            "ne" => (NotEqual, false),
            "lt" => (Less, false),
            "le" => (LessEqual, false),
            "gt" => (Greater, false),
            "ge" => (GreaterEqual, false),
            "lo" if unsigned => (Less, false),
            "ls" if unsigned => (LessEqual, false),
            "hi" if unsigned => (Greater, false),
            "hs" if unsigned => (GreaterEqual, false),
            "equ" if !integer => (Equal, true),
            "neu" if !integer => (NotEqual, true),
            "ltu" if !integer => (Less, true),
            "leu" if !integer => (LessEqual, true),
            "gtu" if !integer => (Greater, true),
            "geu" if !integer => (GreaterEqual, true),
            "num" if !integer => (Ordered, false),
            "nan" if !integer => (Unordered, true),
            _ => return None,
        };
        Some(found)
    })?;
    // Bits are equal or not; there is no order.
    let allowed = !kind.is_bits() || matches!(word.0, Equal | NotEqual);
    allowed.then_some(word)
}

/// How a comparison meets another predicate.
#[derive(Clone, Copy, Debug)]
enum Logic {
    And,
    Or,
    Xor,
}

impl Logic {
    fn of(self, a: bool, b: bool) -> bool {
        match self {
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
        }
    }
}

fn logic(form: &mut Form<'_>) -> Option<Logic> {
    form.take_by(|word| match word {
        "and" => Some(Logic::And),
        "or" => Some(Logic::Or),
        "xor" => Some(Logic::Xor),
        _ => None,
    })
}

/// The third predicate of a comparison, how it is met, and whether it is negated.
type Combined = (Logic, Slot, bool);

fn combined(form: &mut Form<'_>, logic: Option<Logic>) -> Option<Option<Combined>> {
    form.arity(if logic.is_some() { 4 } else { 3 })?;
    let Some(logic) = logic else { return Some(None) };
    let (c, negated) = form.predicate(3)?;
    Some(Some((logic, c, negated)))
}

/// The result of a comparison in a lane, after the third predicate.
fn meet(combined: Option<Combined>, registers: &Registers) -> impl Fn(usize, bool) -> bool + use<> {
    let c = combined.map(|(logic, c, negated)| (logic, registers[c], negated));
    move |lane, holds| match &c {
        Some((logic, c, negated)) => logic.of(holds, (c[lane] & 1 != 0) != *negated),
        None => holds,
    }
}

/// A comparison that is made into something by `Build`.
trait Build {
    fn build<T: Word>(self, f: impl Fn(T, T) -> bool + Send + Sync + 'static) -> Compute;
}

fn related<T: Word + PartialOrd, B: Build>(build: B, (relation, unordered): (Relation, bool)) -> Compute {
    use Relation::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual, Ordered, Unordered};
    fn ordered<T: PartialOrd>(a: T, b: T) -> bool {
        a.partial_cmp(&b).is_some()
    }
    match (relation, unordered) {
        (Equal, false) => build.build(|a: T, b: T| a == b),
        (NotEqual, false) => build.build(|a: T, b: T| a != b && ordered(a, b)),
        (Less, false) => build.build(|a: T, b: T| a < b),
        (LessEqual, false) => build.build(|a: T, b: T| a <= b),
        (Greater, false) => build.build(|a: T, b: T| a > b),
        (GreaterEqual, false) => build.build(|a: T, b: T| a >= b),
        (Equal, true) => build.build(|a: T, b: T| a == b || !ordered(a, b)),
        (NotEqual, true) => build.build(|a: T, b: T| a != b),
        (Less, true) => build.build(|a: T, b: T| a < b || !ordered(a, b)),
        (LessEqual, true) => build.build(|a: T, b: T| a <= b || !ordered(a, b)),
        (Greater, true) => build.build(|a: T, b: T| a > b || !ordered(a, b)),
        (GreaterEqual, true) => build.build(|a: T, b: T| a >= b || !ordered(a, b)),
        (Ordered, _) => build.build(|a: T, b: T| ordered(a, b)),
        (Unordered, _) => build.build(|a: T, b: T| !ordered(a, b)),
    }
}

/// The comparison of two values of this type.
fn compare<B: Build>(build: B, kind: Type, flush: bool, relation: (Relation, bool)) -> Option<Compute> {
    if flush && !matches!(kind, Type::F32 | Type::F16) {
        return None;
    }
    Some(match kind {
        Type::B16 | Type::U16 => related::<u16, _>(build, relation),
        Type::S16 => related::<i16, _>(build, relation),
        Type::B32 | Type::U32 => related::<u32, _>(build, relation),
        Type::S32 => related::<i32, _>(build, relation),
        Type::B64 | Type::U64 => related::<u64, _>(build, relation),
        Type::S64 => related::<i64, _>(build, relation),
        Type::F32 if flush => related::<Single<true>, _>(build, relation),
        Type::F32 => related::<Single<false>, _>(build, relation),
        Type::F64 => related::<Double, _>(build, relation),
        Type::F16 if flush => related::<Half<true>, _>(build, relation),
        Type::F16 => related::<Half<false>, _>(build, relation),
        Type::Bf16 => related::<Brain<false>, _>(build, relation),
        _ => return None,
    })
}

/// The type of a half, of types that are two of them.
fn half_of(kind: Type) -> Option<Type> {
    match kind {
        Type::F16x2 => Some(Type::F16),
        Type::Bf16x2 => Some(Type::Bf16),
        _ => None,
    }
}

/// A comparison into predicates: `p` of it, `q` of its opposite, each after the third predicate.
struct Predicates {
    d: [Slot; 2],
    slots: [Slot; 2],
    combined: Option<Combined>,
    sink: Slot,
    /// Whether `q` is the comparison of the upper halves.
    halves: bool,
}

impl Build for Predicates {
    fn build<T: Word>(self, f: impl Fn(T, T) -> bool + Send + Sync + 'static) -> Compute {
        let Self { d: [p, q], slots: [a, b], combined, sink, halves } = self;
        if combined.is_none() && q == sink && !halves {
            return binary(p, [a, b], f);
        }
        Box::new(move |registers, mask| {
            let (a, b) = (registers[a], registers[b]);
            let with = meet(combined, registers);
            let holds = |i: usize| f(T::read(a[i]), T::read(b[i]));
            let other =
                |i: usize| if halves { f(T::read(a[i] >> 16), T::read(b[i] >> 16)) } else { !holds(i) };
            registers.each(p, mask, |i| with(i, holds(i)).write());
            registers.each(q, mask, |i| with(i, other(i)).write());
        })
    }
}

fn set_predicate(form: &mut Form<'_>) -> Option<Compute> {
    let flush = form.take("ftz");
    let kind = form.kind()?;
    let (one, halves) = half_of(kind).map_or((kind, false), |half| (half, true));
    let relation = relation(form, one)?;
    let logic = logic(form);
    // Two comparisons have two results.
    if halves && !matches!(form.operand(0)?, Operand::Pair(..)) {
        return None;
    }
    let d = form.destinations(0)?;
    let slots = form.sources(1, kind)?;
    let combined = combined(form, logic)?;
    let build = Predicates { d, slots, combined, sink: form.decoder.sink, halves };
    compare(build, one, flush, relation)
}

/// A comparison into a number.
struct Number {
    d: Slot,
    slots: [Slot; 2],
    combined: Option<Combined>,
    one: u64,
    halves: bool,
}

impl Build for Number {
    fn build<T: Word>(self, f: impl Fn(T, T) -> bool + Send + Sync + 'static) -> Compute {
        let Self { d, slots: [a, b], combined, one, halves } = self;
        Box::new(move |registers, mask| {
            let (a, b) = (registers[a], registers[b]);
            let with = meet(combined, registers);
            let value = |i: usize, by: u32| {
                if with(i, f(T::read(a[i] >> by), T::read(b[i] >> by))) { one << by } else { 0 }
            };
            registers.each(d, mask, |i| if halves { value(i, 0) | value(i, 16) } else { value(i, 0) });
        })
    }
}

/// `set`: all ones of an integer, or the number one.
fn set(form: &mut Form<'_>) -> Option<Compute> {
    let flush = form.take("ftz");
    let to = form.kind()?;
    let kind = form.kind()?;
    let (one, halves) = half_of(kind).map_or((kind, false), |half| (half, true));
    if flush && to == Type::Bf16 {
        return None;
    }
    let relation = relation(form, one)?;
    let logic = logic(form);
    let value = match (to, kind) {
        (Type::U16 | Type::S16, Type::F16 | Type::Bf16) => 0xffff,
        (Type::U32 | Type::S32, _) if !halves => 0xffff_ffff,
        (Type::F32, _) if !halves && !matches!(kind, Type::F16 | Type::Bf16) => 0x3f80_0000,
        (Type::F16x2, Type::F16x2) => 0x3c00,
        (Type::F16, _) if !halves && kind != Type::Bf16 => 0x3c00,
        (Type::Bf16x2, Type::Bf16x2) => 0x3f80,
        (Type::Bf16, _) if !halves => 0x3f80,
        _ => return None,
    };
    let d = form.destination(0)?;
    let slots = form.sources(1, kind)?;
    let combined = combined(form, logic)?;
    compare(Number { d, slots, combined, one: value, halves }, one, flush, relation)
}

fn select(form: &mut Form<'_>) -> Option<Compute> {
    let kind = form.kind().filter(|kind| kind.is_plain() && matches!(kind.bytes(), 2 | 4 | 8))?;
    form.arity(4)?;
    let d = form.destination(0)?;
    let [a, b]: [_; 2] = form.sources(1, kind)?;
    let (p, negated) = form.predicate(3)?;
    Some(Box::new(move |registers, mask| {
        let (a, b, p) = (registers[a], registers[b], registers[p]);
        registers.each(d, mask, |i| if (p[i] & 1 != 0) != negated { a[i] } else { b[i] });
    }))
}

/// `slct`: `a` if `c` is at least zero, otherwise `b`.
fn select_by_sign(form: &mut Form<'_>) -> Option<Compute> {
    let flush = form.take("ftz");
    let kind = form.kind().filter(|kind| kind.is_plain() && matches!(kind.bytes(), 2 | 4 | 8))?;
    let by = form.kind()?;
    form.arity(4)?;
    let d = form.destination(0)?;
    let [a, b]: [_; 2] = form.sources(1, kind)?;
    let c = form.source(3, by)?;
    let sink = form.decoder.new_slots(1);
    let test = match by {
        Type::S32 if !flush => unary(sink, c, |c: i32| c >= 0),
        // A subnormal below zero is a zero if flushed.
        Type::F32 if flush => unary(sink, c, |c: Single<true>| c.0 >= 0.0),
        Type::F32 => unary(sink, c, |c: f32| c >= 0.0),
        _ => return None,
    };
    Some(Box::new(move |registers, mask| {
        test(registers, mask);
        let (a, b, p) = (registers[a], registers[b], registers[sink]);
        registers.each(d, mask, |i| if p[i] != 0 { a[i] } else { b[i] });
    }))
}
