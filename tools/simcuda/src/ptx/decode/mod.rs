//! From instructions as they are written to steps that run.

mod approximate;
mod atomic;
mod bits;
mod calls;
mod carry;
mod collective;
mod compare;
mod convert;
mod float;
mod form;
mod integer;
mod memory;
mod moves;

use std::collections::HashMap;

use self::form::Form;
use super::link::{Layout, Linked, Place, aligned, parameters};
use super::program::{Op, Program, Special, Step};
use super::registers::Slot;
use super::syntax::{Body, Formal, Instruction, Space, Variable};

/// Decodes a kernel.
pub(crate) fn program(linked: &Linked, layout: &Layout) -> Program {
    let mut decoder = Decoder::new(linked);
    for &function in &layout.functions {
        decoder.frame(linked, layout, function);
    }
    let mut steps = Vec::new();
    let mut entry = 0;
    for &function in &layout.functions {
        let Some(body) = &linked.syntax.functions[function].body else { continue };
        entry = decoder.frames[&function].first;
        for instruction in &body.instructions {
            let frame = &decoder.frames[&function];
            let guard = instruction.guard.map(|(register, negated)| (frame.slot(register.0), negated));
            let text = text(&linked.syntax.text[instruction.span.clone()]);
            let op = decoder.decode(linked, function, body, instruction).unwrap_or(Op::Unknown);
            steps.push(Step { guard, op, text });
        }
        // The end of a body is a return.
        let op = decoder.leave(function);
        steps.push(Step { guard: None, op, text: "}".to_owned() });
    }
    Program {
        steps,
        entry,
        slots: decoder.slots,
        constants: decoder.constants.into_iter().map(|(bits, slot)| (slot, bits)).collect(),
        specials: decoder.specials.into_iter().map(|(special, slot)| (slot, special)).collect(),
        local: aligned(decoder.local, 16),
    }
}

/// An instruction on one line.
fn text(written: &str) -> String {
    written.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a function has in a kernel.
#[derive(Debug)]
struct Frame {
    is_kernel: bool,
    /// The first of its registers.
    base: Slot,
    /// The first of its steps.
    first: u32,
    /// Where its caller's place is kept.
    back: Slot,
    places: HashMap<String, Place>,
    results: Vec<FormalPlace>,
    parameters: Vec<FormalPlace>,
    recursive: bool,
}

/// Where a function takes or leaves a value.
#[derive(Clone, Copy, Debug)]
enum FormalPlace {
    Bytes { at: u32, len: u32 },
    Slot(Slot),
}

impl Frame {
    fn slot(&self, register: u32) -> Slot {
        self.base + register as Slot
    }
}

#[derive(Debug)]
struct Decoder {
    slots: usize,
    steps: u32,
    local: usize,
    constants: HashMap<u64, Slot>,
    specials: HashMap<Special, Slot>,
    frames: HashMap<usize, Frame>,
    globals: HashMap<String, u64>,
    /// The carry of `add.cc` and its like.
    carry: Slot,
    /// Where unused results go.
    sink: Slot,
}

impl Decoder {
    fn new(linked: &Linked) -> Self {
        let globals = linked.variables.iter().map(|(name, &(address, _))| (name.clone(), address)).collect();
        Self {
            slots: 2,
            steps: 0,
            local: 0,
            constants: HashMap::new(),
            specials: HashMap::new(),
            frames: HashMap::new(),
            globals,
            carry: 0,
            sink: 1,
        }
    }

    fn new_slots(&mut self, count: usize) -> Slot {
        self.slots += count;
        self.slots - count
    }

    /// Room in local memory.
    fn room(&mut self, variable: &Variable) -> u32 {
        let at = aligned(self.local, variable.align);
        self.local = at + variable.len.unwrap_or(0);
        at as u32
    }

    /// Gives a function its registers, its steps and the places of its variables.
    fn frame(&mut self, linked: &Linked, layout: &Layout, number: usize) {
        let function = &linked.syntax.functions[number];
        let base = self.new_slots(function.body.as_ref().map_or(0, |body| body.registers as usize));
        let back = self.new_slots(1);
        let mut places: HashMap<String, Place> = layout
            .shared
            .iter()
            .filter(|((owner, _), _)| owner.is_none_or(|owner| owner == number))
            .map(|((_, name), &offset)| (name.clone(), Place::Shared(offset)))
            .collect();
        if function.is_kernel {
            for (variable, offset) in parameters(function) {
                places.insert(variable.name.clone(), Place::Param(offset as u32));
            }
        }
        let results = self.formals(&function.results, base, &mut places);
        let formals = if function.is_kernel { &[][..] } else { &function.parameters };
        let parameters = self.formals(formals, base, &mut places);
        let first = self.steps;
        if let Some(body) = &function.body {
            for variable in body.variables.iter().filter(|v| matches!(v.space, Space::Local | Space::Param)) {
                let at = self.room(variable);
                places.insert(variable.name.clone(), Place::Local(at));
            }
            self.steps += body.instructions.len() as u32 + 1;
        }
        let recursive = layout.recursive.contains(&number);
        let is_kernel = function.is_kernel;
        let frame = Frame { is_kernel, base, first, back, places, results, parameters, recursive };
        self.frames.insert(number, frame);
    }

    fn formals(
        &mut self,
        formals: &[Formal],
        base: Slot,
        places: &mut HashMap<String, Place>,
    ) -> Vec<FormalPlace> {
        let place = |formal: &Formal| match formal {
            Formal::Memory(variable) => {
                let at = self.room(variable);
                places.insert(variable.name.clone(), Place::Local(at));
                FormalPlace::Bytes { at, len: variable.len.unwrap_or(0) as u32 }
            }
            Formal::Register(register) => FormalPlace::Slot(base + register.0 as Slot),
        };
        formals.iter().map(place).collect()
    }

    /// The slot of a constant.
    fn constant(&mut self, bits: u64) -> Slot {
        if let Some(&slot) = self.constants.get(&bits) {
            return slot;
        }
        let slot = self.new_slots(1);
        self.constants.insert(bits, slot);
        slot
    }

    /// The slot of a special register.
    fn special(&mut self, special: Special) -> Slot {
        if let Some(&slot) = self.specials.get(&special) {
            return slot;
        }
        let slot = self.new_slots(1);
        self.specials.insert(special, slot);
        slot
    }

    /// What `ret` does.
    fn leave(&self, function: usize) -> Op {
        let frame = &self.frames[&function];
        if frame.is_kernel { Op::Exit } else { Op::Return(frame.back) }
    }

    fn decode(&mut self, linked: &Linked, function: usize, body: &Body, written: &Instruction) -> Option<Op> {
        let mut words = written.name.split('.');
        let opcode = words.next()?;
        let mut form = Form { words: words.collect(), operands: &written.operands, function, decoder: self };
        let op = match opcode {
            "bra" | "brx" | "call" | "ret" | "exit" | "trap" => {
                calls::decode(&mut form, opcode, linked, body, written.scope)
            }
            _ => operation(&mut form, opcode),
        }?;
        form.words.is_empty().then_some(op)
    }
}

/// An instruction that does not lead elsewhere.
fn operation(form: &mut Form<'_>, opcode: &str) -> Option<Op> {
    match opcode {
        "ld" | "ldu" | "st" => return memory::access(form, opcode),
        "atom" | "red" => return atomic::decode(form, opcode == "atom"),
        "membar" | "fence" | "prefetch" | "prefetchu" | "nanosleep" => return memory::order(form, opcode),
        "bar" | "barrier" | "shfl" | "vote" | "match" | "redux" | "activemask" => {
            return collective::decode(form, opcode);
        }
        "mov" => return moves::mov(form),
        _ => {}
    }
    let compute = match opcode {
        "add" | "sub" | "mul" | "mad" | "min" | "max" | "abs" | "neg" | "div" | "rem"
            if form.is_integer() =>
        {
            if form.has("cc") && matches!(opcode, "add" | "sub" | "mad") {
                carry::decode(form, opcode)
            } else {
                integer::decode(form, opcode)
            }
        }
        "addc" | "subc" | "madc" => carry::decode(form, opcode),
        "mul24" | "mad24" | "sad" | "dp4a" | "dp2a" => integer::decode(form, opcode),
        "add" | "sub" | "mul" | "fma" | "mad" | "div" | "abs" | "neg" | "min" | "max" => {
            float::decode(form, opcode)
        }
        "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => {
            approximate::decode(form, opcode)
        }
        "copysign" | "testp" => float::decode(form, opcode),
        "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "popc" | "clz" | "bfind"
        | "fns" | "brev" | "bfe" | "bfi" | "bmsk" | "szext" | "prmt" => bits::decode(form, opcode),
        "setp" | "set" | "selp" | "slct" => compare::decode(form, opcode),
        "cvt" => convert::decode(form),
        "cvta" | "isspacep" => moves::window_of(form, opcode),
        _ => None,
    };
    compute.map(Op::Compute)
}
