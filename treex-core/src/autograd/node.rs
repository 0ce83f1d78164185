//! An operation as nodes of Candle's graph.
//!
//! Candle's custom operations have up to three inputs and one output, and its backward pass creates zeros and adds to
//! them at every edge. Here an operation is an anchor, a scalar tensor without meaning, with input nodes below and
//! output nodes above it. The nodes pass scalar tokens to each other; the real tensors pass through [`OpInstance`]:
//!
//! ```text
//! input 0 --\                          /-- OutputNode -- output 0
//!            InputNode -- InputNode --+
//! input 1 --/              (anchor)    \-- OutputNode -- output 1
//! ```
//!
//! In the backward pass all outputs receive their cotangents before the anchor computes the gradients of the inputs,
//! and all inputs are visited after it. Where an input is the output of another such operation, and both are made
//! inside one gradient scope (`producers`), the anchor is linked to that operation's anchor and propagates the
//! gradient itself: such an edge costs no pass over memory.

use std::sync::Arc;

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, MetalStorage, Shape, Storage,
    Tensor,
};

use super::nested::saved;
use super::op_instance::{Input, OpInstance, Producer};
use super::storage::{OwnedStorage, StorageSlot};
use crate::error::{Error, Result};

/// Links the tracked inputs, three to a node. The last node is the anchor.
pub(super) fn link(instance: &Arc<OpInstance>, inputs: &[&Tensor]) -> candle_core::Result<Tensor> {
    let mut pending: Vec<(Tensor, Option<usize>)> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        match &instance.inputs[index] {
            Input::Untracked => {}
            Input::Tensor(_) => pending.push(((*input).clone(), Some(index))),
            Input::Output(producer) => pending.push((producer.anchor.clone(), Some(index))),
        }
    }
    pending.reverse();
    let mut previous = None;
    loop {
        let mut arguments: [(Option<Tensor>, Option<usize>); 3] = Default::default();
        let mut count = 0;
        for argument in &mut arguments {
            let Some((tensor, index)) = previous.take().map(|token| (token, None)).or_else(|| pending.pop())
            else {
                break;
            };
            *argument = (Some(tensor), index);
            count += 1;
        }
        let [(a, i), (b, j), (c, k)] = arguments;
        let node =
            InputNode { instance: Arc::clone(instance), inputs: [i, j, k], is_anchor: pending.is_empty() };
        let token = match (a, b, c) {
            (Some(a), Some(b), Some(c)) => a.apply_op3(&b, &c, node)?,
            (Some(a), Some(b), None) => a.apply_op2(&b, node)?,
            (Some(a), None, None) => a.apply_op1(node)?,
            _ => candle_core::bail!("{} links {count} tensors", instance.name),
        };
        if pending.is_empty() {
            return Ok(token);
        }
        previous = Some(token);
    }
}

/// The output of `producer`, around the memory that was computed for it.
pub(super) fn output(
    producer: &Arc<Producer>,
    OwnedStorage { storage, shape }: OwnedStorage,
) -> candle_core::Result<Tensor> {
    producer.anchor.apply_op1(OutputNode {
        producer: Arc::clone(producer),
        shape,
        value: StorageSlot::holding(storage),
    })
}

/// One number on the device of `storage`.
fn token<S>(storage: &S) -> candle_core::Result<(S, Shape)>
where
    S: BackendStorage<Device: BackendDevice<Storage = S>>,
{
    Ok((storage.device().zeros_impl(&Shape::from(()), DType::F32)?, Shape::from(())))
}

/// The forward pass of a node that returns a token, for each backend.
macro_rules! returns_a_token {
    ($($rest:ident),*) => {
        returns_a_token!(cpu_fwd CpuStorage $($rest)*);
        returns_a_token!(cuda_fwd CudaStorage $($rest)*);
        returns_a_token!(metal_fwd MetalStorage $($rest)*);
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

/// Links up to three inputs, or the node before it and two inputs. The last node is the anchor.
struct InputNode {
    instance: Arc<OpInstance>,
    /// Which input each argument is; `None` for the node before it.
    inputs: [Option<usize>; 3],
    is_anchor: bool,
}

impl InputNode {
    fn run(&self) -> Result<()> {
        if self.is_anchor { self.instance.run() } else { Ok(()) }
    }

    fn propagate(&self, at: usize, tensor: &Tensor, token: &Tensor) -> candle_core::Result<Option<Tensor>> {
        match self.inputs[at] {
            Some(index) => self.instance.propagate(index, tensor, token),
            None => Ok(Some(token.clone())),
        }
    }
}

impl CustomOp1 for InputNode {
    fn name(&self) -> &'static str {
        self.instance.name
    }

    returns_a_token!();

    fn bwd(&self, a: &Tensor, _: &Tensor, token: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.run()?;
        self.propagate(0, a, token)
    }
}

impl CustomOp2 for InputNode {
    fn name(&self) -> &'static str {
        self.instance.name
    }

    returns_a_token!(b);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        self.run()?;
        Ok((self.propagate(0, a, token)?, self.propagate(1, b, token)?))
    }
}

impl CustomOp3 for InputNode {
    fn name(&self) -> &'static str {
        self.instance.name
    }

    returns_a_token!(b, c);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.run()?;
        Ok((self.propagate(0, a, token)?, self.propagate(1, b, token)?, self.propagate(2, c, token)?))
    }
}

/// Returns an output that was computed before.
struct OutputNode {
    producer: Arc<Producer>,
    shape: Shape,
    value: StorageSlot,
}

impl CustomOp1 for OutputNode {
    fn name(&self) -> &'static str {
        self.producer.instance.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Cpu(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(other_device()),
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Cuda(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(other_device()),
        }
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Metal(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(other_device()),
        }
    }

    fn bwd(&self, token: &Tensor, _: &Tensor, cotangent: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let Producer { instance, index, .. } = &*self.producer;
        instance.receive(*index, saved(cotangent))?;
        Ok(instance.reach(token))
    }
}

fn other_device() -> candle_core::Error {
    Error::argument("an output of an operation is on another device than its inputs").into()
}
