//! Operations with a custom gradient.
//!
//! Forward, an operation is an ordinary function: it fills new memory ([`OwnedStorage`]) and [`attach`]es to it what
//! backward needs. `node` makes it a part of Candle's graph; `op_instance` runs its backward pass.

use std::sync::Arc;

use candle_core::{Shape, Tensor};

use super::node::{link, output};
use super::op_instance::{OpInstance, Producer};
use super::producers;
use super::storage::OwnedStorage;
use crate::error::{Error, ErrorKind, Result};

/// The backward half of an operation: what its forward half saved, and the gradients of its inputs.
pub trait Operation: Send + Sync + 'static {
    /// Its name in errors.
    fn name(&self) -> &'static str;

    /// The gradient of each input, in order, with the input's shape and element type; `None` for zeros and for
    /// inputs that are not [`wanted`](BackwardContext::wanted). It may run more than once, and on another thread.
    ///
    /// # Errors
    /// What the computation reports.
    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>>;

    /// Whether the gradients that [`backward`](Self::backward) returns can be differentiated: it is made of differentiable
    /// operations on the cotangents and on inputs that were [`saved`](super::saved). Elsewhere a gradient of this gradient
    /// is an error.
    fn is_differentiable(&self) -> bool {
        false
    }

    /// Whether [`backward`](Self::backward) reads the outputs, so that they must be saved until then.
    fn saves_outputs(&self) -> bool {
        false
    }
}

/// The input of an operation's backward pass.
#[derive(Debug)]
pub struct BackwardContext {
    pub(super) outputs: Vec<Tensor>,
    pub(super) cotangents: Vec<Option<Tensor>>,
    pub(super) wanted: Vec<bool>,
}

impl BackwardContext {
    /// The outputs, detached; empty unless the operation [saves](Operation::saves_outputs) them.
    #[must_use]
    pub fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

    /// The only output, of an operation that saves it.
    ///
    /// # Errors
    /// If there is none.
    pub fn output(&self) -> Result<&Tensor> {
        let none = || Error::new(ErrorKind::Structure, "an operation did not save its output for backward");
        self.outputs.first().ok_or_else(none)
    }

    /// The gradient of the loss with respect to each output, of any strides; `None` for an output that the loss does
    /// not depend on. At least one is `Some`.
    #[must_use]
    pub fn cotangents(&self) -> &[Option<Tensor>] {
        &self.cotangents
    }

    /// The gradient of the loss with respect to the only output.
    ///
    /// # Errors
    /// If there is none: an operation with one output has it.
    pub fn cotangent(&self) -> Result<&Tensor> {
        let none = || Error::new(ErrorKind::Structure, "an operation has no cotangent");
        self.cotangents.iter().flatten().next().ok_or_else(none)
    }

    /// Whether the gradient of the input at `index` is needed.
    #[must_use]
    pub fn wanted(&self, index: usize) -> bool {
        self.wanted.get(index).copied().unwrap_or(false)
    }
}

/// The one output of an operation on `inputs`, with its gradient; see [`attach_all`].
///
/// # Errors
/// As [`attach_all`].
pub fn attach(operation: impl Operation, inputs: &[&Tensor], output: OwnedStorage) -> Result<Tensor> {
    let mut outputs = attach_all(operation, inputs, vec![output])?;
    outputs.pop().ok_or_else(|| Error::new(ErrorKind::Structure, "an operation lost its output"))
}

/// The outputs of an operation on `inputs`, which `operation` differentiates. If no input is tracked, `operation` is
/// dropped and the outputs are outside any graph.
///
/// # Errors
/// What Candle reports. In the backward pass, what the operation reports, or that it returns gradients of
/// another number or other shapes than the inputs have.
pub fn attach_all(
    operation: impl Operation,
    inputs: &[&Tensor],
    outputs: Vec<OwnedStorage>,
) -> Result<Vec<Tensor>> {
    if !inputs.iter().any(|input| input.track_op()) {
        return Ok(outputs.into_iter().map(OwnedStorage::into_tensor).collect());
    }
    let shapes = outputs.iter().map(|output| output.shape.clone()).collect();
    let instance = Arc::new(OpInstance::new(operation, inputs, shapes));
    let anchor = link(&instance, inputs)?;
    let attached = |(index, storage): (usize, OwnedStorage)| -> Result<Tensor> {
        if !storage.storage.dtype().is_float() {
            return Ok(storage.into_tensor());
        }
        let (anchor, instance) = (anchor.clone(), Arc::clone(&instance));
        let producer = Arc::new(Producer { anchor, instance, index });
        let output = output(&producer, storage)?;
        producers::record(&output, &producer);
        Ok(output)
    };
    let outputs = outputs.into_iter().enumerate().map(attached).collect::<Result<Vec<_>>>()?;
    instance.save_outputs(&outputs);
    Ok(outputs)
}

/// `x.reshape(shape)`, whose gradient is propagated to the [operation](Operation) that produced `x` as directly as the
/// gradient of `x` itself.
///
/// # Errors
/// If the shape has another number of elements.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let y = x.reshape(shape.into())?;
    if let Some(producer) = producers::find(x) {
        producers::record(&y, &producer);
    }
    Ok(y)
}

/// The [name](Operation::name) of the operation that produced `x`; `None` for what Candle computed, and outside a
/// gradient scope.
#[must_use]
pub fn name_of(x: &Tensor) -> Option<&'static str> {
    producers::find(x).map(|producer| producer.instance.name)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::transform::grad::grad;
    use crate::tree::kind::Parameter;
    use crate::tree::leaf::Leaf;

    struct Square {
        x: Tensor,
    }

    impl Operation for Square {
        fn name(&self) -> &'static str {
            "square"
        }

        fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
            Ok(vec![Some(((&self.x * cx.cotangent()?)? * 2.)?)])
        }
    }

    fn square(x: &Tensor) -> Result<Tensor> {
        let detached = x.detach();
        attach(Square { x: detached.clone() }, &[x], OwnedStorage::take(detached.sqr()?)?)
    }

    fn leaf() -> Result<Leaf<Parameter>> {
        Leaf::new(Tensor::new(&[1f64, -2., 3., 0.5], &Device::Cpu)?)
    }

    type Function = fn(&Tensor, &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor>;

    /// Operations on each other, on what Candle computed, by several consumers, and seen in another shape.
    #[test]
    fn gradients_are_candles() -> Result<()> {
        let functions: [Function; 5] = [
            |x, f| f(&f(x)?),
            |x, f| {
                let y = f(x)?;
                Ok((((&y * 3.)? + f(&y)?)? * f(x)?)?)
            },
            |x, f| f(&(f(x)?.exp()? + x)?),
            |x, f| {
                let y = reshape(&f(x)?, (2, 2))?;
                Ok((f(&y)?.flatten_all()? + f(&reshape(&y, 4)?)?)?)
            },
            |x, f| f(&f(x)?.reshape((2, 2))?.t()?)?.flatten_all().map_err(Error::from),
        ];
        for (index, function) in functions.into_iter().enumerate() {
            let of = |f: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<Vec<f64>> {
                let weights = Tensor::new(&[1f64, 0.5, -1., 2.], &Device::Cpu)?;
                let gradient = grad(&leaf()?, |x| Ok((function(&x.get()?, f)? * &weights)?.sum_all()?))?;
                Ok(gradient.get()?.to_vec1()?)
            };
            let (ours, candle) = (of(&square)?, of(&|x| Ok(x.sqr()?))?);
            for (ours, candle) in ours.iter().zip(&candle) {
                assert!((ours - candle).abs() <= 1e-12 * candle.abs(), "{index}: {ours} {candle}");
            }
        }
        Ok(())
    }

    #[test]
    fn inside_of_another_gradient() -> Result<()> {
        let (outer, inner) = (leaf()?, leaf()?);
        // The inner gradient is 2 b a, a constant for the outer one: 2 a · 2 a².
        let gradient = grad(&outer, |a| {
            let a = a.get()?;
            let of_inner = grad(&inner, |b| Ok((square(&b.get()?)? * a.detach())?.sum_all()?))?;
            Ok((square(&a)? * of_inner.get()?.detach())?.sum_all()?)
        })?;
        let values = leaf()?.get()?.to_vec1::<f64>()?;
        let wanted: Vec<_> = values.iter().map(|x| 2. * x * (2. * x * x)).collect();
        assert_eq!(gradient.get()?.to_vec1::<f64>()?, wanted);
        Ok(())
    }

    #[test]
    fn a_second_backward_is_an_error() -> Result<()> {
        let again = || -> Result<Option<String>> {
            let mut smuggled = None;
            grad(&leaf()?, |x| {
                let y = square(&x.get()?)?.sum_all()?;
                smuggled = Some(y.clone());
                Ok(y)
            })?;
            let again = smuggled.map(|y| y.backward()).transpose();
            Ok(again.err().map(|error| Error::from(error).to_string()))
        };
        // While another test differentiates, nothing is freed.
        for _ in 0..10_000 {
            if let Some(error) = again()? {
                assert!(error.contains("backward called twice through `square`"), "{error}");
                return Ok(());
            }
        }
        panic!("saved tensors were never freed");
    }

    #[test]
    fn only_whole_storage_is_taken() -> Result<()> {
        let x = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
        let part = x.narrow(0, 1, 1)?;
        assert_eq!(OwnedStorage::take(part)?.into_tensor().to_vec2::<f32>()?, [[3., 4., 5.]]);
        assert_eq!(
            OwnedStorage::take(x.t()?)?.into_tensor().to_vec2::<f32>()?,
            [[0., 3.], [1., 4.], [2., 5.]]
        );
        assert_eq!(x.to_vec2::<f32>()?, [[0., 1., 2.], [3., 4., 5.]]);
        assert!(OwnedStorage::new(vec![1f32], (2, 2)).is_err());
        let nothing = Tensor::zeros((2, 0, 2), DType::F32, &Device::Cpu)?;
        assert_eq!(OwnedStorage::take(nothing)?.into_tensor().dims(), [2, 0, 2]);
        Ok(())
    }
}
