//! What a module says, as it was written: declarations, statements and operands, with names of registers resolved.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A memory, as instructions and declarations name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    /// Any of them, by the address.
    Generic,
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// A variable, or a parameter in memory.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) space: Space,
    pub(crate) align: usize,
    /// How many bytes it has; none if only the launch says it (`.extern .shared x[]`).
    pub(crate) len: Option<usize>,
    /// How many bytes an element has.
    pub(crate) element: usize,
    /// The values of its first elements; the rest is zero.
    pub(crate) init: Vec<Value>,
    pub(crate) external: bool,
}

/// An element of an initializer.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bits(u64),
    /// A float, whose width is the element's.
    Float(f64),
    /// The address of a variable, plus a distance.
    Address(String, i64),
}

/// A register of a function, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Register(pub(crate) u32);

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Register(Register),
    /// `%tid.x` and such.
    Special(String),
    Integer(u64),
    Single(f32),
    Double(f64),
    /// A variable, parameter, function or label, plus a distance.
    Symbol(String, i64),
    /// `[base+offset]`.
    Address(Box<Operand>, i64),
    /// `{a, b}`.
    Vector(Vec<Operand>),
    /// `(a, b)`.
    List(Vec<Operand>),
    /// `!p`.
    Not(Box<Operand>),
    /// `p|q`.
    Pair(Box<Operand>, Box<Operand>),
    /// `_`.
    Sink,
}

/// An instruction.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    /// The predicate that guards it, and whether it is negated.
    pub(crate) guard: Option<(Register, bool)>,
    /// `ld.global.f32`.
    pub(crate) name: String,
    pub(crate) operands: Vec<Operand>,
    /// Its place in the text of the module.
    pub(crate) span: Range<usize>,
    /// The scope that it stands in, for its labels.
    pub(crate) scope: u32,
}

/// What a function takes or gives.
#[derive(Clone, Debug)]
pub(crate) enum Formal {
    Memory(Variable),
    Register(Register),
}

/// A `.func` or an `.entry`.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) is_kernel: bool,
    pub(crate) results: Vec<Formal>,
    pub(crate) parameters: Vec<Formal>,
    /// None for what is only declared.
    pub(crate) body: Option<Body>,
    /// The product of `.maxntid`, or of `.reqntid`.
    pub(crate) max_threads: Option<u32>,
    /// From `.reqntid`.
    pub(crate) required_threads: Option<[u32; 3]>,
}

/// The body of a function.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) registers: u32,
    pub(crate) instructions: Vec<Instruction>,
    /// Variables of the function, those in `.param` too.
    pub(crate) variables: Vec<Variable>,
    /// For each scope the one around it; the first is its own.
    pub(crate) parents: Vec<u32>,
    /// Labels by scope and name: the instruction that follows.
    pub(crate) labels: HashMap<(u32, String), u32>,
    /// Lists of labels by the name of the list.
    pub(crate) targets: HashMap<(u32, String), Vec<String>>,
}

impl Body {
    /// What `table` has for this name, seen from a scope.
    pub(crate) fn find<'a, T>(
        &self,
        table: &'a HashMap<(u32, String), T>,
        mut scope: u32,
        name: &str,
    ) -> Option<&'a T> {
        loop {
            if let Some(found) = table.get(&(scope, name.to_owned())) {
                return Some(found);
            }
            let parent = self.parents[scope as usize];
            if parent == scope {
                return None;
            }
            scope = parent;
        }
    }
}

/// A module as it was written.
#[derive(Debug)]
pub(crate) struct Syntax {
    pub(crate) text: Arc<str>,
    pub(crate) functions: Vec<Function>,
    pub(crate) variables: Vec<Variable>,
}
