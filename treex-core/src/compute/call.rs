//! A backward pass through one use of an operation: cotangents come together, the operation turns them into
//! gradients, and each goes where its input came from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::{Shape, Tensor};

use super::operation::{Operation, Pass};
use super::sum::sum_of_gradients;
use super::{accumulate, tape};
use crate::error::{Error, ErrorKind, Result};

/// One use of an operation: what its nodes share.
pub(super) struct Call {
    pub(super) name: &'static str,
    /// Let go by a backward pass that is the last one.
    kept: Mutex<Option<Arc<Kept>>>,
    pub(super) inputs: Vec<Input>,
    outputs: Vec<Shape>,
    /// Backward passes under way, at most one on each thread.
    passes: Mutex<Vec<(ThreadId, Flow)>>,
}

struct Kept {
    operation: Box<dyn Operation>,
    outputs: Mutex<Vec<Tensor>>,
}

/// Where the gradient of an input goes.
pub(super) enum Input {
    Untracked,
    /// Through Candle's graph.
    Tensor(Shape),
    /// Straight to the operation that it is an output of.
    Output(Arc<Link>),
}

impl Input {
    fn of(input: &Tensor) -> Self {
        if !input.track_op() {
            return Self::Untracked;
        }
        tape::find(input).map_or_else(|| Self::Tensor(input.shape().clone()), Self::Output)
    }
}

/// An output, as the operations that take it see it.
pub(super) struct Link {
    pub(super) gate: Tensor,
    pub(super) call: Arc<Call>,
    pub(super) index: usize,
}

/// What is on its way through one call in one backward pass.
#[derive(Default)]
struct Flow {
    cotangents: Vec<Option<Tensor>>,
    gradients: Vec<Option<Tensor>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Call {
    pub(super) fn new(operation: impl Operation, inputs: &[&Tensor], outputs: Vec<Shape>) -> Self {
        let name = operation.name();
        let kept = Kept { operation: Box::new(operation), outputs: Mutex::default() };
        let inputs = inputs.iter().map(|input| Input::of(input)).collect();
        Self { name, kept: Mutex::new(Some(Arc::new(kept))), inputs, outputs, passes: Mutex::default() }
    }

    /// Keeps the outputs for backward, if the operation asks for them.
    pub(super) fn keep_outputs(&self, outputs: &[Tensor]) {
        if let Some(kept) = lock(&self.kept).as_ref().filter(|kept| kept.operation.keeps_outputs()) {
            *lock(&kept.outputs) = outputs.iter().map(Tensor::detach).collect();
        }
    }

    /// Works on this thread's flow.
    fn flow<R>(&self, f: impl FnOnce(&mut Flow) -> R) -> R {
        let mut passes = lock(&self.passes);
        let id = thread::current().id();
        let at = passes.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
            passes.push((id, Flow::default()));
            passes.len() - 1
        });
        f(&mut passes[at].1)
    }

    fn take_flow(&self) -> Flow {
        let mut passes = lock(&self.passes);
        let id = thread::current().id();
        let at = passes.iter().position(|(other, _)| *other == id);
        at.map(|at| passes.swap_remove(at).1).unwrap_or_default()
    }

    pub(super) fn receive(&self, index: usize, cotangent: Tensor) -> candle_core::Result<()> {
        let before = self.flow(|flow| {
            flow.cotangents.resize(self.outputs.len(), None);
            flow.cotangents[index].take()
        });
        // The consumer may have seen another shape of the same elements.
        let shape = &self.outputs[index];
        let cotangent = if cotangent.shape() == shape { cotangent } else { cotangent.reshape(shape)? };
        let sum = match before {
            Some(before) => sum_of_gradients(&before, &cotangent)?,
            None => cotangent,
        };
        self.flow(|flow| flow.cotangents[index] = Some(sum));
        Ok(())
    }

    pub(super) fn run(&self) -> Result<()> {
        // Not under a lock: the operation may go backward through another call.
        let mut cotangents = self.take_flow().cotangents;
        cotangents.resize(self.outputs.len(), None);
        let gradients = if cotangents.iter().all(Option::is_none) {
            vec![None; self.inputs.len()]
        } else {
            self.gradients(cotangents)?
        };
        self.flow(|flow| flow.gradients = gradients);
        Ok(())
    }

    fn gradients(&self, cotangents: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
        let kept =
            if accumulate::is_last_pass() { lock(&self.kept).take() } else { lock(&self.kept).clone() };
        let Some(kept) = kept else {
            let message = format!("`{}` was differentiated before, and let go what it had kept", self.name);
            return Err(Error::new(ErrorKind::Structure, message)
                .remedy("differentiate once: return what you need from the closure of `value_and_grad`"));
        };
        let outputs = lock(&kept.outputs).clone();
        let wanted = self.inputs.iter().map(|input| !matches!(input, Input::Untracked)).collect();
        let pass = Pass { outputs, cotangents, wanted };
        let mut gradients = kept.operation.backward(&pass)?;
        drop((pass, kept));
        if gradients.len() != self.inputs.len() {
            let message = format!("the gradient of `{}` has a wrong number of parts", self.name);
            return Err(Error::new(ErrorKind::Structure, message)
                .expected(format!("{}, one for each input", self.inputs.len()))
                .found(gradients.len()));
        }
        for (index, (gradient, input)) in gradients.iter_mut().zip(&self.inputs).enumerate() {
            match (&gradient, input) {
                (_, Input::Untracked) => *gradient = None,
                (Some(found), Input::Tensor(shape)) if found.shape() != shape => {
                    let message =
                        format!("the gradient of `{}` has a wrong shape for input {index}", self.name);
                    return Err(Error::shape(message)
                        .expected(format!("{:?}", shape.dims()))
                        .found(format!("{:?}", found.dims())));
                }
                _ => {}
            }
        }
        Ok(gradients)
    }

    /// The gradient of an input. The last to ask ends the pass.
    fn gradient(&self, index: usize) -> Option<Tensor> {
        let (gradient, is_done) = self.flow(|flow| {
            let gradient = flow.gradients.get_mut(index).and_then(Option::take);
            (gradient, flow.gradients.iter().all(Option::is_none))
        });
        if is_done {
            self.take_flow();
        }
        gradient.map(|gradient| gradient.detach())
    }

    /// What Candle is to add to the gradient of `tensor`, the input at `index`.
    pub(super) fn hand_over(
        &self,
        index: usize,
        tensor: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let gradient = self.gradient(index);
        if let Input::Output(link) = &self.inputs[index] {
            if let Some(gradient) = gradient {
                link.call.receive(link.index, gradient)?;
            }
            return Ok(Some(token.clone()));
        }
        match gradient {
            Some(gradient) if tensor.is_variable() => accumulate::deposit(tensor, gradient),
            // Candle needs a gradient for whatever is not a variable.
            None if !tensor.is_variable() => Ok(Some(tensor.zeros_like()?)),
            gradient => Ok(gradient),
        }
    }
}
