//! An operation as nodes of Candle's graph.
//!
//! Candle's custom operations have up to three inputs and one output, and its backward pass makes zeros and
//! adds to them at every edge. Here an operation is a gate: below it hang its inputs, above it its outputs, and
//! what runs between them is one number without meaning; tensors go by [`Call`]:
//!
//! ```text
//! input 0 --\             /-- Out -- output 0
//!            Knot -- Knot
//! input 1 --/             \-- Out -- output 1
//! ```
//!
//! In the backward pass all outputs have their cotangents before the gate asks for the inputs' gradients, and
//! all inputs come after it. Where an input is the output of another such operation, and both are made inside
//! of one gradient scope (`tape`), the gate hangs on that operation's gate and hands the gradient over itself:
//! such an edge costs no memory pass at all.

use std::sync::Arc;

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, MetalStorage, Shape, Storage,
    Tensor,
};

use super::call::{Call, Input, Link};
use super::fresh::{Fresh, Taken};
use crate::error::{Error, Result};

/// Ties the tracked inputs together, three at a time. The last knot is the gate.
pub(super) fn hang(call: &Arc<Call>, inputs: &[&Tensor]) -> candle_core::Result<Tensor> {
    let mut loose: Vec<(Tensor, Option<usize>)> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        match &call.inputs[index] {
            Input::Untracked => {}
            Input::Tensor(_) => loose.push(((*input).clone(), Some(index))),
            Input::Output(link) => loose.push((link.gate.clone(), Some(index))),
        }
    }
    loose.reverse();
    let mut tied = None;
    loop {
        let mut ends: [(Option<Tensor>, Option<usize>); 3] = Default::default();
        let mut count = 0;
        for end in &mut ends {
            let Some((tensor, index)) = tied.take().map(|token| (token, None)).or_else(|| loose.pop()) else {
                break;
            };
            *end = (Some(tensor), index);
            count += 1;
        }
        let [(a, i), (b, j), (c, k)] = ends;
        let knot = Knot { call: Arc::clone(call), inputs: [i, j, k], is_gate: loose.is_empty() };
        let token = match (a, b, c) {
            (Some(a), Some(b), Some(c)) => a.apply_op3(&b, &c, knot)?,
            (Some(a), Some(b), None) => a.apply_op2(&b, knot)?,
            (Some(a), None, None) => a.apply_op1(knot)?,
            _ => candle_core::bail!("{} ties {count} tensors", call.name),
        };
        if loose.is_empty() {
            return Ok(token);
        }
        tied = Some(token);
    }
}

/// The output that `link` says, with the memory that was computed for it.
pub(super) fn hand_out(link: &Arc<Link>, Fresh { storage, shape }: Fresh) -> candle_core::Result<Tensor> {
    link.gate.apply_op1(Out { link: Arc::clone(link), shape, value: Taken::holding(storage) })
}

/// One number on the device of `storage`.
fn token<S>(storage: &S) -> candle_core::Result<(S, Shape)>
where
    S: BackendStorage<Device: BackendDevice<Storage = S>>,
{
    Ok((storage.device().zeros_impl(&Shape::from(()), DType::F32)?, Shape::from(())))
}

/// The forward pass of a node that hands on no tensor, for each backend.
macro_rules! hands_on_a_token {
    ($($rest:ident),*) => {
        hands_on_a_token!(cpu_fwd CpuStorage $($rest)*);
        hands_on_a_token!(cuda_fwd CudaStorage $($rest)*);
        hands_on_a_token!(metal_fwd MetalStorage $($rest)*);
    };
    ($name:ident $storage:ident $($rest:ident)*) => {
        fn $name(
            &self,
            storage: &$storage,
            _: &Layout,
            $($rest: &$storage, _: &Layout,)*
        ) -> candle_core::Result<($storage, Shape)> {
            $(let _ = $rest;)*
            token(storage)
        }
    };
}

/// Ties up to three inputs, or two and the knot before it. The last one is the gate.
struct Knot {
    call: Arc<Call>,
    /// Which input each argument is; `None` for the knot before it.
    inputs: [Option<usize>; 3],
    is_gate: bool,
}

impl Knot {
    fn open(&self) -> Result<()> {
        if self.is_gate { self.call.run() } else { Ok(()) }
    }

    fn end(&self, at: usize, tensor: &Tensor, token: &Tensor) -> candle_core::Result<Option<Tensor>> {
        match self.inputs[at] {
            Some(index) => self.call.hand_over(index, tensor, token),
            None => Ok(Some(token.clone())),
        }
    }
}

impl CustomOp1 for Knot {
    fn name(&self) -> &'static str {
        self.call.name
    }

    hands_on_a_token!();

    fn bwd(&self, a: &Tensor, _: &Tensor, token: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.open()?;
        self.end(0, a, token)
    }
}

impl CustomOp2 for Knot {
    fn name(&self) -> &'static str {
        self.call.name
    }

    hands_on_a_token!(b);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        self.open()?;
        Ok((self.end(0, a, token)?, self.end(1, b, token)?))
    }
}

impl CustomOp3 for Knot {
    fn name(&self) -> &'static str {
        self.call.name
    }

    hands_on_a_token!(b, c);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.open()?;
        Ok((self.end(0, a, token)?, self.end(1, b, token)?, self.end(2, c, token)?))
    }
}

/// Hands out an output that was computed before.
struct Out {
    link: Arc<Link>,
    shape: Shape,
    value: Taken,
}

impl CustomOp1 for Out {
    fn name(&self) -> &'static str {
        self.link.call.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Cpu(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(elsewhere()),
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Cuda(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(elsewhere()),
        }
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Metal(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(elsewhere()),
        }
    }

    fn bwd(&self, token: &Tensor, _: &Tensor, cotangent: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.link.call.receive(self.link.index, cotangent.detach())?;
        Ok(Some(token.zeros_like()?))
    }
}

fn elsewhere() -> candle_core::Error {
    Error::argument("an output of an operation is on another device than its inputs").into()
}
