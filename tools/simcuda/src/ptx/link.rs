//! Where things are: variables of a module in the device's memory, those of a kernel in shared and local memory.

use std::collections::{HashMap, HashSet};

use super::LoadError;
use super::syntax::{Formal, Function, Operand, Space, Syntax, Value, Variable};
use crate::memory::Memory;

/// The address of what belongs to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Shared(u32),
    Local(u32),
    /// The parameters of a kernel.
    Param(u32),
}

/// A module whose variables have their places.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) syntax: Syntax,
    /// Variables in global memory: address and length.
    pub(crate) variables: HashMap<String, (u64, u64)>,
}

impl Linked {
    /// Places the variables of a module.
    pub(crate) fn new(syntax: Syntax, memory: &mut Memory) -> Result<Self, LoadError> {
        let mut variables = HashMap::new();
        let in_memory = || {
            let own =
                syntax.functions.iter().filter_map(|f| f.body.as_ref()).flat_map(|body| &body.variables);
            own.chain(&syntax.variables).filter(|v| matches!(v.space, Space::Global | Space::Const))
        };
        for variable in in_memory().filter(|v| !v.external) {
            let len = variable.len.unwrap_or(0) as u64;
            let address = memory
                .allocate(len.max(1))
                .ok_or_else(|| LoadError(format!("no memory for `{}`, {len} bytes", variable.name)))?;
            variables.insert(variable.name.clone(), (address, len));
        }
        for variable in in_memory() {
            let Some(&(address, len)) = variables.get(&variable.name) else {
                return Err(LoadError(format!("`{}` is declared, but not there", variable.name)));
            };
            if !variable.external {
                let bytes = initial(variable, &variables)?;
                if let Ok(there) = memory.get_mut(address, len as usize) {
                    there.copy_from_slice(&bytes);
                }
            }
        }
        Ok(Self { syntax, variables })
    }

    pub(crate) fn function(&self, name: &str) -> Option<usize> {
        self.syntax.functions.iter().position(|function| function.name == name)
    }
}

/// The bytes that a variable starts with.
fn initial(variable: &Variable, addresses: &HashMap<String, (u64, u64)>) -> Result<Vec<u8>, LoadError> {
    let mut bytes = vec![0; variable.len.unwrap_or(0)];
    let element = variable.element.min(8);
    if variable.init.len() * element > bytes.len() {
        return Err(LoadError(format!("`{}` has more values than room", variable.name)));
    }
    for (value, place) in variable.init.iter().zip(bytes.chunks_exact_mut(element)) {
        let bits = match value {
            Value::Bits(bits) => *bits,
            Value::Float(value) if element == 4 => (*value as f32).to_bits().into(),
            Value::Float(value) => value.to_bits(),
            Value::Address(name, offset) => match addresses.get(name) {
                Some(&(address, _)) => address.wrapping_add_signed(*offset),
                None => return Err(LoadError(format!("`{name}` has no address in global memory"))),
            },
        };
        place.copy_from_slice(&bits.to_le_bytes()[..element]);
    }
    Ok(bytes)
}

/// A multiple of `align`, not less than `offset`.
pub(crate) fn aligned(offset: usize, align: usize) -> usize {
    offset.next_multiple_of(align.max(1))
}

/// Offset and length of each parameter, one after the other, as the launch passes them.
pub(crate) fn parameters(function: &Function) -> Vec<(&Variable, usize)> {
    let mut end = 0;
    let mut all = Vec::new();
    for formal in &function.parameters {
        if let Formal::Memory(variable) = formal {
            let offset = aligned(end, variable.align);
            end = offset + variable.len.unwrap_or(0);
            all.push((variable, offset));
        }
    }
    all
}

/// What a kernel consists of.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The functions that it reaches, each after those it calls; itself is the last.
    pub(crate) functions: Vec<usize>,
    /// Functions that call themselves, by whatever way.
    pub(crate) recursive: HashSet<usize>,
    /// Shared variables by name; those of a function by its number too.
    pub(crate) shared: HashMap<(Option<usize>, String), u32>,
    /// Bytes of shared memory before the dynamic part.
    pub(crate) static_shared: u32,
}

impl Layout {
    pub(crate) fn new(linked: &Linked, kernel: usize) -> Self {
        let mut layout = Self {
            functions: Vec::new(),
            recursive: HashSet::new(),
            shared: HashMap::new(),
            static_shared: 0,
        };
        layout.visit(linked, kernel, &mut Vec::new());
        let named: HashSet<&str> =
            layout.functions.iter().flat_map(|&f| &linked.syntax.functions[f].body).flat_map(names).collect();
        let of_module =
            linked.syntax.variables.iter().filter(|v| named.contains(v.name.as_str())).map(|v| (None, v));
        let functions = layout.functions.clone();
        let of_functions = functions
            .iter()
            .flat_map(|&f| linked.syntax.functions[f].body.iter().map(move |body| (f, body)))
            .flat_map(|(f, body)| body.variables.iter().map(move |v| (Some(f), v)));
        let shared: Vec<(Option<usize>, &Variable)> =
            of_module.chain(of_functions).filter(|(_, v)| v.space == Space::Shared).collect();
        let mut end = 0;
        for (owner, variable) in &shared {
            if let Some(len) = variable.len {
                let offset = aligned(end, variable.align);
                layout.shared.insert((*owner, variable.name.clone()), offset as u32);
                end = offset + len;
            }
        }
        let dynamic = shared.iter().filter(|(_, v)| v.len.is_none());
        end = aligned(end, dynamic.clone().map(|(_, v)| v.align).max().unwrap_or(1));
        for (owner, variable) in dynamic {
            layout.shared.insert((*owner, variable.name.clone()), end as u32);
        }
        layout.static_shared = end as u32;
        layout
    }

    fn visit(&mut self, linked: &Linked, function: usize, path: &mut Vec<usize>) {
        if let Some(at) = path.iter().position(|&caller| caller == function) {
            self.recursive.extend(&path[at..]);
            return;
        }
        if self.functions.contains(&function) {
            return;
        }
        path.push(function);
        if let Some(body) = &linked.syntax.functions[function].body {
            for instruction in body.instructions.iter().filter(|i| i.name.starts_with("call")) {
                for operand in &instruction.operands {
                    if let Operand::Symbol(name, _) = operand
                        && let Some(callee) = linked.function(name)
                    {
                        self.visit(linked, callee, path);
                    }
                }
            }
        }
        path.pop();
        self.functions.push(function);
    }
}

/// The names in the operands of a body.
fn names(body: &super::syntax::Body) -> impl Iterator<Item = &str> {
    body.instructions.iter().flat_map(|instruction| &instruction.operands).filter_map(|operand| match operand
    {
        Operand::Symbol(name, _) => Some(name.as_str()),
        Operand::Address(base, _) => match &**base {
            Operand::Symbol(name, _) => Some(name.as_str()),
            _ => None,
        },
        _ => None,
    })
}
