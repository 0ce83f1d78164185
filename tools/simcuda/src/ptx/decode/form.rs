//! An instruction while it is decoded: words are taken from its name, slots from its operands.

use super::{Decoder, Frame};
use crate::ptx::link::Place;
use crate::ptx::program::Special;
use crate::ptx::registers::Slot;
use crate::ptx::soft::Rounding;
use crate::ptx::syntax::{Operand, Space};
use crate::ptx::types::Type;

/// An instruction that is decoded. A word that is not taken makes the form unknown.
#[derive(Debug)]
pub(super) struct Form<'a> {
    pub(super) words: Vec<&'a str>,
    pub(super) operands: &'a [Operand],
    pub(super) function: usize,
    pub(super) decoder: &'a mut Decoder,
}

impl Form<'_> {
    pub(super) fn frame(&self) -> &Frame {
        &self.decoder.frames[&self.function]
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// Whether a word is there; it is taken.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let at = self.words.iter().position(|&w| w == word);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// Takes the first word for which `f` has something.
    pub(super) fn take_by<T>(&mut self, f: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, found) = self.words.iter().enumerate().find_map(|(at, word)| Some((at, f(word)?)))?;
        self.words.remove(at);
        Some(found)
    }

    /// Takes the first type.
    pub(super) fn kind(&mut self) -> Option<Type> {
        self.take_by(Type::parse)
    }

    /// Whether the last type is one of integers.
    pub(super) fn is_integer(&self) -> bool {
        let last = self.words.iter().rev().find_map(|word| Type::parse(word));
        last.is_some_and(|kind| kind.is_integer() || matches!(kind, Type::U16x2 | Type::S16x2))
    }

    pub(super) fn rounding(&mut self) -> Option<Rounding> {
        self.take_by(|word| {
            Some(match word {
                "rn" => Rounding::NearestEven,
                "rna" => Rounding::NearestAway,
                "rz" => Rounding::Zero,
                "rm" => Rounding::Down,
                "rp" => Rounding::Up,
                _ => return None,
            })
        })
    }

    /// Takes a space. Threads of other blocks have none of their shared memory here, so `::cluster` is not known.
    pub(super) fn space(&mut self) -> Option<Space> {
        self.take_by(|word| {
            Some(match word {
                "global" => Space::Global,
                "const" => Space::Const,
                "shared" | "shared::cta" => Space::Shared,
                "local" => Space::Local,
                "param" | "param::entry" | "param::func" => Space::Param,
                _ => return None,
            })
        })
    }

    pub(super) fn operand(&self, index: usize) -> Option<&Operand> {
        self.operands.get(index)
    }

    /// Nothing, unless there are as many operands.
    pub(super) fn arity(&self, count: usize) -> Option<()> {
        (self.operands.len() == count).then_some(())
    }

    /// The slot that an operand writes to.
    pub(super) fn destination(&self, index: usize) -> Option<Slot> {
        self.written(self.operands.get(index)?)
    }

    pub(super) fn written(&self, operand: &Operand) -> Option<Slot> {
        match operand {
            Operand::Register(register) => Some(self.frame().slot(register.0)),
            Operand::Sink => Some(self.decoder.sink),
            _ => None,
        }
    }

    /// The slots of `d|p`; the second is the sink where it is not given.
    pub(super) fn destinations(&self, index: usize) -> Option<[Slot; 2]> {
        match self.operands.get(index)? {
            Operand::Pair(d, p) => Some([self.written(d)?, self.written(p)?]),
            single => Some([self.written(single)?, self.decoder.sink]),
        }
    }

    /// The slot of an operand that is read as this type.
    pub(super) fn source(&mut self, index: usize, kind: Type) -> Option<Slot> {
        let operands = self.operands;
        self.read(operands.get(index)?, kind)
    }

    /// The slots of the operands from this one on.
    pub(super) fn sources<const N: usize>(&mut self, first: usize, kind: Type) -> Option<[Slot; N]> {
        let mut slots = [0; N];
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = self.source(first + i, kind)?;
        }
        Some(slots)
    }

    pub(super) fn read(&mut self, operand: &Operand, kind: Type) -> Option<Slot> {
        let bits = match operand {
            Operand::Register(register) => return Some(self.frame().slot(register.0)),
            Operand::Special(name) => {
                let special = special(name)?;
                return Some(self.decoder.special(special));
            }
            Operand::Symbol(name, offset) => self.address_of(name)?.1.wrapping_add_signed(*offset),
            Operand::Integer(value) => match kind {
                Type::F32 | Type::F64 => return None,
                // As a predicate, any number but zero is true.
                Type::Pred => u64::from(*value != 0),
                _ => *value,
            },
            Operand::Single(value) => match kind {
                Type::F32 | Type::B32 | Type::Tf32 => value.to_bits().into(),
                Type::F64 => f64::from(*value).to_bits(),
                _ => return None,
            },
            Operand::Double(value) => match kind {
                Type::F64 | Type::B64 => value.to_bits(),
                Type::F32 => (*value as f32).to_bits().into(),
                _ => return None,
            },
            _ => return None,
        };
        Some(self.decoder.constant(bits))
    }

    /// A predicate, and whether it is negated.
    pub(super) fn predicate(&mut self, index: usize) -> Option<(Slot, bool)> {
        let operands = self.operands;
        match operands.get(index)? {
            Operand::Not(inner) => Some((self.read(inner, Type::Pred)?, true)),
            plain => Some((self.read(plain, Type::Pred)?, false)),
        }
    }

    /// The space of a variable, and its address there.
    pub(super) fn address_of(&self, name: &str) -> Option<(Space, u64)> {
        match self.frame().places.get(name) {
            Some(&Place::Shared(offset)) => Some((Space::Shared, offset.into())),
            Some(&Place::Local(offset)) => Some((Space::Local, offset.into())),
            Some(&Place::Param(offset)) => Some((Space::Param, offset.into())),
            None => self.decoder.globals.get(name).map(|&address| (Space::Global, address)),
        }
    }
}

/// The special register of this name.
fn special(name: &str) -> Option<Special> {
    let (name, axis) =
        match name.strip_suffix(|c| matches!(c, 'x' | 'y' | 'z')).and_then(|n| n.strip_suffix('.')) {
            Some(base) => (base, name.bytes().last().map_or(0, |b| usize::from(b - b'x'))),
            None => (name, 0),
        };
    Some(match name {
        "%tid" => Special::Thread(axis),
        "%ntid" => Special::Threads(axis),
        "%ctaid" => Special::Block(axis),
        "%nctaid" => Special::Blocks(axis),
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%lanemask_eq" => Special::LanesEqual,
        "%lanemask_lt" => Special::LanesLess,
        "%lanemask_le" => Special::LanesLessEqual,
        "%lanemask_gt" => Special::LanesGreater,
        "%lanemask_ge" => Special::LanesGreaterEqual,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        "%smid" | "%gridid" => Special::Zero,
        "%nsmid" => Special::One,
        _ => return None,
    })
}
