//! What leads elsewhere: branches, calls, returns and ends.

use super::FormalPlace;
use super::form::Form;
use crate::ptx::link::Linked;
use crate::ptx::program::{Call, Op, Transfer};
use crate::ptx::syntax::{Body, Operand, Space};
use crate::ptx::types::Type;

pub(super) fn decode(
    form: &mut Form<'_>,
    opcode: &str,
    linked: &Linked,
    body: &Body,
    scope: u32,
) -> Option<Op> {
    // It promises that all lanes go the same way; here they need not.
    form.take("uni");
    let first = form.frame().first;
    let label = |operand: &Operand| match operand {
        Operand::Symbol(name, 0) => body.find(&body.labels, scope, name).map(|at| first + at),
        _ => None,
    };
    match opcode {
        "bra" => {
            form.arity(1)?;
            Some(Op::Branch(label(form.operand(0)?)?))
        }
        "brx" => {
            form.arity(2)?;
            form.take("idx").then_some(())?;
            let Operand::Symbol(list, 0) = form.operand(1)? else { return None };
            let names = body.find(&body.targets, scope, list)?;
            let targets = names
                .iter()
                .map(|name| body.find(&body.labels, scope, name).map(|at| first + at))
                .collect::<Option<_>>()?;
            Some(Op::BranchIndexed(form.source(0, Type::U32)?, targets))
        }
        "ret" => {
            form.arity(0)?;
            Some(form.decoder.leave(form.function))
        }
        "exit" => form.arity(0).map(|()| Op::Exit),
        "trap" => form.arity(0).map(|()| Op::Trap),
        _ => call(form, linked),
    }
}

/// `call (results), function, (arguments)`; results and arguments may be missing.
fn call(form: &mut Form<'_>, linked: &Linked) -> Option<Op> {
    let mut operands = form.operands;
    let list = |operands: &mut &[Operand]| match operands {
        [Operand::List(list), rest @ ..] => {
            let list = list.clone();
            *operands = rest;
            list
        }
        _ => Vec::new(),
    };
    let results = list(&mut operands);
    let [Operand::Symbol(name, 0), rest @ ..] = operands else { return None };
    operands = rest;
    let arguments = list(&mut operands);
    // A list of what may be called stands behind a call by address only.
    if !operands.is_empty() {
        return None;
    }
    let number = linked.function(name)?;
    let function = &linked.syntax.functions[number];
    // Of functions that are only declared, two are known by their names.
    if function.body.is_none() {
        return match (name.as_str(), &arguments[..]) {
            ("__assertfail", [message, file, line, of, _]) => {
                let place = |operand: &Operand| bytes(form, operand);
                Some(Op::AssertFail([place(message)?, place(file)?, place(line)?, place(of)?]))
            }
            ("vprintf", [format, values]) => Some(Op::Print {
                format: bytes(form, format)?,
                values: bytes(form, values)?,
                result: bytes(form, results.first()?)?,
            }),
            _ => None,
        };
    }
    let frame = form.decoder.frames.get(&number)?;
    if frame.recursive || frame.is_kernel {
        return None;
    }
    let (target, back) = (frame.first, frame.back);
    let (to, from) = (frame.parameters.clone(), frame.results.clone());
    if to.len() != arguments.len() || from.len() != results.len() {
        return None;
    }
    let arguments =
        arguments.iter().zip(to).map(|(a, to)| transfer(form, a, to, true)).collect::<Option<_>>()?;
    let results =
        results.iter().zip(from).map(|(r, from)| transfer(form, r, from, false)).collect::<Option<_>>()?;
    Some(Op::Call(Call { target, back, arguments, results }))
}

/// The place of a parameter of a call in local memory.
fn bytes(form: &Form<'_>, operand: &Operand) -> Option<u32> {
    match operand {
        Operand::Symbol(name, 0) => match form.address_of(name)? {
            (Space::Local, at) => u32::try_from(at).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The copy between what a call names and what a function declares, into the function or out of it.
fn transfer(form: &mut Form<'_>, operand: &Operand, formal: FormalPlace, into: bool) -> Option<Transfer> {
    match formal {
        FormalPlace::Bytes { at, len } => Some(match bytes(form, operand) {
            Some(own) if into => Transfer::Bytes { from: own, to: at, len },
            Some(own) => Transfer::Bytes { from: at, to: own, len },
            None if len > 8 => return None,
            None if into => Transfer::Store { from: form.read(operand, Type::B64)?, to: at, len },
            None => Transfer::Load { from: at, to: form.written(operand)?, len },
        }),
        FormalPlace::Slot(slot) if into => {
            Some(Transfer::Slot { from: form.read(operand, Type::B64)?, to: slot })
        }
        FormalPlace::Slot(slot) => Some(Transfer::Slot { from: slot, to: form.written(operand)? }),
    }
}
