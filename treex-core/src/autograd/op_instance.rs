//! A backward pass through one instance of an operation: it sums the cotangents of each output, the operation turns
//! them into gradients, and each gradient is propagated to where its input came from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::{Shape, Tensor};

use super::nested::{self, Origin, saved};
use super::operation::{BackwardContext, Operation};
use super::sum::sum_of_gradients;
use super::{accumulate, producers};
use crate::error::{Error, ErrorKind, Result};

/// One instance of an operation in a graph: what its nodes share.
pub(super) struct OpInstance {
    pub(super) name: &'static str,
    /// See [`nested::origin`].
    number: u64,
    /// Freed by the last backward pass.
    saved: Mutex<Option<Arc<Saved>>>,
    pub(super) inputs: Vec<Input>,
    outputs: Vec<Shape>,
    /// The backward passes that are running, at most one on each thread.
    passes: Mutex<Vec<(ThreadId, BackwardState)>>,
}

struct Saved {
    operation: Box<dyn Operation>,
    outputs: Mutex<Vec<Tensor>>,
}

/// Where the gradient of an input goes.
pub(super) enum Input {
    Untracked,
    /// Through Candle's graph.
    Tensor(Shape),
    /// Directly to the operation that produced it.
    Output(Arc<Producer>),
}

impl Input {
    fn of(input: &Tensor) -> Self {
        if !input.track_op() {
            return Self::Untracked;
        }
        producers::find(input).map_or_else(|| Self::Tensor(input.shape().clone()), Self::Output)
    }
}

/// Where a tensor comes from: the output number `index` of an operation.
pub(super) struct Producer {
    pub(super) anchor: Tensor,
    pub(super) instance: Arc<OpInstance>,
    pub(super) index: usize,
}

/// The cotangents and gradients of one backward pass.
#[derive(Default)]
struct BackwardState {
    /// Whether the anchor has a gradient in Candle's graph: one token is enough.
    is_reached: bool,
    cotangents: Vec<Option<Tensor>>,
    gradients: Vec<Option<Tensor>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpInstance {
    pub(super) fn new(operation: impl Operation, inputs: &[&Tensor], outputs: Vec<Shape>) -> Self {
        let name = operation.name();
        let saved = Saved { operation: Box::new(operation), outputs: Mutex::default() };
        let inputs = inputs.iter().map(|input| Input::of(input)).collect();
        Self {
            name,
            number: nested::next_instance(),
            saved: Mutex::new(Some(Arc::new(saved))),
            inputs,
            outputs,
            passes: Mutex::default(),
        }
    }

    /// Saves the outputs for backward, if the operation asks for them.
    pub(super) fn save_outputs(&self, outputs: &[Tensor]) {
        if let Some(saved) = lock(&self.saved).as_ref().filter(|saved| saved.operation.saves_outputs()) {
            *lock(&saved.outputs) = outputs.iter().map(Tensor::detach).collect();
        }
    }

    /// Runs `f` on this thread's backward state.
    fn state<R>(&self, f: impl FnOnce(&mut BackwardState) -> R) -> R {
        let mut passes = lock(&self.passes);
        let id = thread::current().id();
        let at = passes.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
            passes.push((id, BackwardState::default()));
            passes.len() - 1
        });
        f(&mut passes[at].1)
    }

    fn take_state(&self) -> BackwardState {
        let mut passes = lock(&self.passes);
        let id = thread::current().id();
        let at = passes.iter().position(|(other, _)| *other == id);
        at.map(|at| passes.swap_remove(at).1).unwrap_or_default()
    }

    pub(super) fn receive(&self, index: usize, cotangent: Tensor) -> candle_core::Result<()> {
        let before = self.state(|state| {
            state.cotangents.resize(self.outputs.len(), None);
            state.cotangents[index].take()
        });
        // The consumer may have used another shape of the same elements.
        let shape = &self.outputs[index];
        let cotangent = if cotangent.shape() == shape { cotangent } else { cotangent.reshape(shape)? };
        let sum = match before {
            Some(before) => sum_of_gradients(&before, &cotangent)?,
            None => cotangent,
        };
        self.state(|state| state.cotangents[index] = Some(sum));
        Ok(())
    }

    /// `token`, a scalar without meaning, as the anchor's gradient in Candle's graph, unless it has one. Candle adds up what a
    /// tensor gets, at the cost of two allocations and a launch each.
    pub(super) fn reach(&self, token: &Tensor) -> Option<Tensor> {
        let was_reached = self.state(|state| std::mem::replace(&mut state.is_reached, true));
        (!was_reached).then(|| token.detach())
    }

    pub(super) fn run(&self) -> Result<()> {
        // Not under a lock: the operation may start a backward pass through another instance.
        let mut cotangents = self.take_state().cotangents;
        cotangents.resize(self.outputs.len(), None);
        let is_constant = nested::origin(self.number) == Some(Origin::Before);
        let gradients = if is_constant || cotangents.iter().all(Option::is_none) {
            vec![None; self.inputs.len()]
        } else {
            self.gradients(cotangents)?
        };
        self.state(|state| state.gradients = gradients);
        Ok(())
    }

    fn gradients(&self, cotangents: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
        let saved =
            if accumulate::is_last_pass() { lock(&self.saved).take() } else { lock(&self.saved).clone() };
        let Some(saved) = saved else {
            let message =
                format!("backward called twice through `{}`; its saved tensors were freed", self.name);
            return Err(Error::new(ErrorKind::Structure, message)
                .remedy("differentiate once: return what you need from the closure of `value_and_grad`"));
        };
        if nested::origin(self.number) == Some(Origin::Inside) && !saved.operation.is_differentiable() {
            let message =
                format!("the gradient of `{}` is differentiated, which it does not support", self.name);
            return Err(Error::new(ErrorKind::Gradient, message).remedy(
                "call the inner `value_and_grad` and the model in its closure on the thread of the outer closure; for a \
                 gradient that is a constant, pass `stop_gradient(&x)` of the model and of what it is called on",
            ));
        }
        let outputs = lock(&saved.outputs).clone();
        let wanted = self.inputs.iter().map(|input| !matches!(input, Input::Untracked)).collect();
        let cx = BackwardContext { outputs, cotangents, wanted };
        let mut gradients = saved.operation.backward(&cx)?;
        drop((cx, saved));
        if gradients.len() != self.inputs.len() {
            let message =
                format!("the backward pass of `{}` returned a wrong number of gradients", self.name);
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

    /// Takes the gradient of an input. Taking the last one ends the pass.
    fn gradient(&self, index: usize) -> Option<Tensor> {
        let (gradient, is_done) = self.state(|state| {
            let gradient = state.gradients.get_mut(index).and_then(Option::take);
            (gradient, state.gradients.iter().all(Option::is_none))
        });
        if is_done {
            self.take_state();
        }
        gradient.map(|gradient| saved(&gradient))
    }

    /// Propagates the gradient of `tensor`, the input at `index`. Returns what Candle is to add to it.
    pub(super) fn propagate(
        &self,
        index: usize,
        tensor: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let gradient = self.gradient(index);
        if let Input::Output(producer) = &self.inputs[index] {
            if let Some(gradient) = gradient {
                producer.instance.receive(producer.index, gradient)?;
            }
            return Ok(producer.instance.reach(token));
        }
        match gradient {
            Some(gradient) if tensor.is_variable() => accumulate::accumulate(tensor, gradient),
            // Candle needs a gradient for each tensor that is not a variable.
            None if !tensor.is_variable() => Ok(Some(tensor.zeros_like()?)),
            gradient => Ok(gradient),
        }
    }
}
