//! Functions with a gradient of their own, of any number of tensors.
//!
//! Candle's custom operations have up to three inputs and one output. Here each tracked input hangs on an
//! `Edge`, each output on an `Out`, and a `Gate` between them, so that in the backward pass all outputs have
//! their cotangents before the gate asks for the inputs' gradients, and all inputs come after it:
//!
//! ```text
//! input 0 -- Edge --\                  /-- Out -- output 0
//!                    Edge -- Gate -----
//! input 1 ----------/                  \-- Out -- output 1
//! ```
//!
//! What runs between the nodes is one number without meaning; tensors go by [`Call`].

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, DType, InplaceOp1, Layout, MetalStorage, Shape, Storage,
    Tensor,
};

use crate::error::{Error, ErrorKind, Result};

/// A function of tensors whose gradient is given, not derived: `jax.custom_vjp`.
///
/// `forward` gets the inputs, detached, and returns the outputs and the function for the backward pass. That
/// gets the cotangent of each output, or `None` for one that the loss does not depend on, and returns the
/// gradient of each input, or `None` for zeros. It may run more than once, and on another thread.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, compute::custom_vjp, value_and_grad};
///
/// /// `exp` and its square root, from one evaluation; and a gradient clipped to at most 2.
/// fn exp_and_root(x: &Tensor) -> treex_core::Result<Vec<Tensor>> {
///     custom_vjp(&[x.clone()], |inputs| {
///         let root = (&inputs[0] * 0.5)?.exp()?;
///         let exp = root.sqr()?;
///         let factors = [exp.clone(), (&root * 0.5)?];
///         let backward = move |cotangents: &[Option<Tensor>]| {
///             let mut gradient = factors[0].zeros_like()?;
///             for (cotangent, factor) in cotangents.iter().zip(&factors) {
///                 if let Some(cotangent) = cotangent {
///                     gradient = (gradient + (cotangent * factor)?)?;
///                 }
///             }
///             Ok(vec![Some(gradient.clamp(-2., 2.)?)])
///         };
///         Ok((vec![exp, root], backward))
///     })
/// }
///
/// let x = Leaf::<Parameter>::new(Tensor::new(3f32, &Device::Cpu)?)?;
/// let (y, dx) = value_and_grad(&x, |x| Ok(exp_and_root(&x.get()?)?.swap_remove(0)))?;
/// assert!((y.to_scalar::<f32>()? - 20.085537).abs() < 1e-4);
/// assert_eq!(dx.get()?.to_scalar::<f32>()?, 2.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// The outputs are copied where an input is tracked. The gradient cannot be differentiated again.
///
/// # Errors
/// What `forward` reports; in the backward pass, what its function reports, or that it returns gradients of
/// another number or other shapes than the inputs have.
pub fn custom_vjp<B>(
    inputs: &[Tensor],
    forward: impl FnOnce(&[Tensor]) -> Result<(Vec<Tensor>, B)>,
) -> Result<Vec<Tensor>>
where
    B: Fn(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
{
    let detached: Vec<_> = inputs.iter().map(Tensor::detach).collect();
    let (outputs, backward) = forward(&detached)?;
    let outputs: Vec<_> = outputs.iter().map(Tensor::detach).collect();
    let call = Arc::new(Call {
        backward: Box::new(backward),
        inputs: inputs.iter().map(|input| input.track_op().then(|| input.shape().clone())).collect(),
        outputs: outputs.len(),
        passes: Mutex::default(),
    });
    let mut token: Option<Tensor> = None;
    for (index, input) in inputs.iter().enumerate().filter(|(_, input)| input.track_op()) {
        let edge = Edge { call: Arc::clone(&call), index };
        token = Some(match token {
            None => input.apply_op1(edge)?,
            Some(token) => token.apply_op2(input, edge)?,
        });
    }
    let Some(token) = token else { return Ok(outputs) };
    let gate = token.apply_op1(Gate { call: Arc::clone(&call) })?;
    let tracked = |(index, output): (usize, &Tensor)| -> Result<Tensor> {
        if !output.dtype().is_float() {
            return Ok(output.clone());
        }
        let value = Taken::from(output)?;
        Ok(gate.apply_op1(Out { call: Arc::clone(&call), index, shape: output.shape().clone(), value })?)
    };
    outputs.iter().enumerate().map(tracked).collect()
}

type Backward = dyn Fn(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + Send + Sync;

/// One call of the function: what its nodes share.
struct Call {
    backward: Box<Backward>,
    /// The shape of each input that is tracked.
    inputs: Vec<Option<Shape>>,
    outputs: usize,
    /// Backward passes under way, at most one on each thread.
    passes: Mutex<HashMap<ThreadId, Pass>>,
}

#[derive(Default)]
struct Pass {
    cotangents: Vec<Option<Tensor>>,
    gradients: Vec<Option<Tensor>>,
}

impl Call {
    fn passes(&self) -> MutexGuard<'_, HashMap<ThreadId, Pass>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, index: usize, cotangent: &Tensor) {
        let mut passes = self.passes();
        let pass = passes.entry(thread::current().id()).or_default();
        pass.cotangents.resize(self.outputs, None);
        pass.cotangents[index] = Some(cotangent.detach());
    }

    fn run(&self) -> Result<()> {
        // Not under the lock: the function may go backward through another call.
        let mut cotangents = self.passes().remove(&thread::current().id()).unwrap_or_default().cotangents;
        cotangents.resize(self.outputs, None);
        let mut gradients = (self.backward)(&cotangents)?;
        if gradients.len() != self.inputs.len() {
            let message = "a backward function returned a wrong number of gradients";
            return Err(Error::new(ErrorKind::Structure, message)
                .expected(format!("{}, one for each input", self.inputs.len()))
                .found(gradients.len()));
        }
        for (index, (gradient, input)) in gradients.iter_mut().zip(&self.inputs).enumerate() {
            match (&gradient, input) {
                (Some(found), Some(shape)) if found.shape() != shape => {
                    let message =
                        format!("a backward function returned a gradient of a wrong shape for input {index}");
                    return Err(Error::shape(message)
                        .expected(format!("{:?}", shape.dims()))
                        .found(format!("{:?}", found.dims())));
                }
                (_, None) => *gradient = None,
                _ => {}
            }
        }
        self.passes().entry(thread::current().id()).or_default().gradients = gradients;
        Ok(())
    }

    /// The gradient of an input. The last to ask ends the pass.
    fn gradient(&self, index: usize) -> Option<Tensor> {
        let mut passes = self.passes();
        let id = thread::current().id();
        let gradient = passes.get_mut(&id).and_then(|pass| pass.gradients.get_mut(index)?.take());
        if passes.get(&id).is_some_and(|pass| pass.gradients.iter().all(Option::is_none)) {
            passes.remove(&id);
        }
        gradient.map(|gradient| gradient.detach())
    }
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
    (1) => {
        fn cpu_fwd(&self, s: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
            token(s)
        }

        fn cuda_fwd(&self, s: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
            token(s)
        }

        fn metal_fwd(&self, s: &MetalStorage, _: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
            token(s)
        }
    };
    (2) => {
        fn cpu_fwd(
            &self,
            s: &CpuStorage,
            _: &Layout,
            _: &CpuStorage,
            _: &Layout,
        ) -> candle_core::Result<(CpuStorage, Shape)> {
            token(s)
        }

        fn cuda_fwd(
            &self,
            s: &CudaStorage,
            _: &Layout,
            _: &CudaStorage,
            _: &Layout,
        ) -> candle_core::Result<(CudaStorage, Shape)> {
            token(s)
        }

        fn metal_fwd(
            &self,
            s: &MetalStorage,
            _: &Layout,
            _: &MetalStorage,
            _: &Layout,
        ) -> candle_core::Result<(MetalStorage, Shape)> {
            token(s)
        }
    };
}

/// Hangs an input below the gate.
struct Edge {
    call: Arc<Call>,
    index: usize,
}

impl CustomOp1 for Edge {
    fn name(&self) -> &'static str {
        "custom_vjp input"
    }

    hands_on_a_token!(1);

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(self.call.gradient(self.index))
    }
}

impl CustomOp2 for Edge {
    fn name(&self) -> &'static str {
        "custom_vjp input"
    }

    hands_on_a_token!(2);

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(token.clone()), self.call.gradient(self.index)))
    }
}

/// Runs the backward function once all cotangents are there.
struct Gate {
    call: Arc<Call>,
}

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "custom_vjp"
    }

    hands_on_a_token!(1);

    fn bwd(&self, _: &Tensor, _: &Tensor, token: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.call.run()?;
        Ok(Some(token.clone()))
    }
}

/// Hands out an output that was computed before.
struct Out {
    call: Arc<Call>,
    index: usize,
    shape: Shape,
    value: Taken,
}

impl CustomOp1 for Out {
    fn name(&self) -> &'static str {
        "custom_vjp output"
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
        self.call.receive(self.index, cotangent);
        Ok(Some(token.zeros_like()?))
    }
}

fn elsewhere() -> candle_core::Error {
    Error::argument("an output of a function with its own gradient is on another device than its inputs")
        .into()
}

/// The storage of a copy, on its way from one tensor into another.
struct Taken(Mutex<Option<Storage>>);

impl Taken {
    fn from(tensor: &Tensor) -> Result<Self> {
        let taken = Self(Mutex::new(None));
        tensor.force_contiguous()?.inplace_op1(&taken)?;
        Ok(taken)
    }

    fn take(&self) -> Option<Storage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep<S>(&self, storage: &mut S, wrap: impl FnOnce(S) -> Storage) -> candle_core::Result<()>
    where
        S: BackendStorage<Device: BackendDevice<Storage = S>>,
    {
        let empty = storage.device().zeros_impl(&Shape::from(0), storage.dtype())?;
        let storage = wrap(mem::replace(storage, empty));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(storage);
        Ok(())
    }
}

impl InplaceOp1 for Taken {
    fn name(&self) -> &'static str {
        "take storage"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Cpu)
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Cuda)
    }

    fn metal_fwd(&self, storage: &mut MetalStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Metal)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn var(values: &[f64]) -> Var {
        Var::new(values, &Device::Cpu).unwrap()
    }

    /// The products of each two neighbours in a ring, and the sum of all.
    fn ring(inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        custom_vjp(inputs, |x| {
            let n = x.len();
            let next = |i: usize| (i + 1) % n;
            let mut outputs = (0..n).map(|i| Ok((&x[i] * &x[next(i)])?)).collect::<Result<Vec<_>>>()?;
            outputs.push(Tensor::stack(x, 0)?.sum(0)?);
            let x = x.to_vec();
            let backward = move |cotangents: &[Option<Tensor>]| {
                let of = |i: usize, factor: &Tensor| match &cotangents[i] {
                    Some(cotangent) => cotangent * factor,
                    None => factor.zeros_like(),
                };
                let ones = x[0].ones_like()?;
                let gradient = |i: usize| {
                    let previous = (i + x.len() - 1) % x.len();
                    let both = (of(i, &x[next_of(i, x.len())])? + of(previous, &x[previous])?)?;
                    Ok(Some((both + of(x.len(), &ones)?)?))
                };
                (0..x.len()).map(gradient).collect()
            };
            Ok((outputs, backward))
        })
    }

    fn next_of(i: usize, n: usize) -> usize {
        (i + 1) % n
    }

    fn plain_ring(x: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut outputs =
            (0..x.len()).map(|i| Ok((&x[i] * &x[next_of(i, x.len())])?)).collect::<Result<Vec<_>>>()?;
        outputs.push(Tensor::stack(x, 0)?.sum(0)?);
        Ok(outputs)
    }

    /// Weighs some of the outputs, and uses one twice.
    fn loss(outputs: &[Tensor], used: &[usize]) -> Tensor {
        let terms = used.iter().map(|&i| (&outputs[i] * (i + 1) as f64).unwrap().sum_all().unwrap());
        let sum = terms.reduce(|a, b| (a + b).unwrap()).unwrap();
        (sum.sqr().unwrap() + outputs[used[0]].sum_all().unwrap()).unwrap()
    }

    #[test]
    fn gradients_are_those_of_the_composition() -> Result<()> {
        let vars: Vec<_> = (0..7).map(|i| var(&[f64::from(i) - 2.5, 0.25 * f64::from(i)])).collect();
        let mut inputs: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        inputs[3] = inputs[3].detach();
        for used in [&[0, 1, 2, 3, 4, 5, 6, 7][..], &[7], &[2, 3], &[6]] {
            let (ours, theirs) = (loss(&ring(&inputs)?, used), loss(&plain_ring(&inputs)?, used));
            assert_eq!(ours.to_scalar::<f64>()?, theirs.to_scalar::<f64>()?);
            // Twice over one graph: a pass leaves nothing behind.
            for _ in 0..2 {
                let (ours, theirs) = (ours.backward()?, theirs.backward()?);
                for (index, var) in vars.iter().enumerate() {
                    let values = |grads: &candle_core::backprop::GradStore| {
                        grads.get(var).map(|grad| grad.to_vec1::<f64>().unwrap()).unwrap_or(vec![0.; 2])
                    };
                    assert_eq!(values(&ours), values(&theirs), "outputs {used:?}, input {index}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_tracked_is_nothing_recorded() -> Result<()> {
        let x = var(&[1., 2.]).as_tensor().detach();
        assert!(ring(&[x.clone(), x]).unwrap().iter().all(|output| !output.track_op()));
        Ok(())
    }

    #[test]
    fn integers_come_out_untracked() -> Result<()> {
        let x = var(&[1., 3., 2.]);
        let outputs = custom_vjp(&[x.as_tensor().clone()], |x| {
            let backward = |cotangents: &[Option<Tensor>]| Ok(vec![cotangents[0].clone()]);
            Ok((vec![x[0].clone(), x[0].argmax(0)?], backward))
        })?;
        assert!(outputs[0].track_op() && !outputs[1].track_op());
        assert_eq!(outputs[1].to_scalar::<u32>()?, 1);
        Ok(())
    }

    #[test]
    fn wrong_gradients_are_errors() {
        let x = var(&[1., 2.]);
        let backward_of = |gradients: Vec<Option<Tensor>>| {
            let outputs = custom_vjp(&[x.as_tensor().clone()], |x| {
                Ok((vec![x[0].clone()], move |_: &[Option<Tensor>]| Ok(gradients.clone())))
            });
            Error::from(outputs.unwrap()[0].backward().unwrap_err()).to_string()
        };
        let error = backward_of(Vec::new());
        assert!(
            error.contains("wrong number of gradients: expected 1, one for each input, found 0"),
            "{error}"
        );
        let error = backward_of(vec![Some(Tensor::new(1f64, &Device::Cpu).unwrap())]);
        assert!(error.contains("wrong shape for input 0: expected [2], found []"), "{error}");
    }

    #[test]
    fn passes_on_two_threads_do_not_meet() -> Result<()> {
        let vars: Vec<_> = (0..4).map(|i| var(&[f64::from(i), 1.])).collect();
        let inputs: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let outputs = ring(&inputs)?;
        let losses: Vec<_> = (0..4).map(|i| loss(&outputs, &[i])).collect();
        let gradient = |loss: &Tensor| {
            let grads = loss.backward().unwrap();
            vars.iter().map(|var| grads.get(var).unwrap().to_vec1::<f64>().unwrap()).collect::<Vec<_>>()
        };
        let alone: Vec<_> = losses.iter().map(gradient).collect();
        thread::scope(|scope| {
            for (loss, alone) in losses.iter().zip(&alone) {
                scope.spawn(move || (0..50).for_each(|_| assert_eq!(gradient(loss), *alone)));
            }
        });
        Ok(())
    }
}
