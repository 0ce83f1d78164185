//! Operations with a gradient of their own.
//!
//! Forward, an operation is an ordinary function: it fills new memory ([`Fresh`]) and [`attach`]es to it what
//! backward needs. How that becomes a part of Candle's graph is told in `node`, and what happens in a backward pass
//! in `call`.

use std::sync::Arc;

use candle_core::{Shape, Tensor};

use super::call::{Call, Link};
use super::fresh::Fresh;
use super::node::{hand_out, hang};
use super::tape;
use crate::error::{Error, ErrorKind, Result};

/// The backward half of an operation: what its forward half kept, and how gradients come from it.
pub trait Operation: Send + Sync + 'static {
    /// How errors call it.
    fn name(&self) -> &'static str;

    /// The gradient of each input, in order, of the shape and the element type of the input; `None` for zeros,
    /// and for those that are not [`wanted`](Pass::wanted). It may run more than once, and on another thread.
    ///
    /// # Errors
    /// What the computation reports.
    fn backward(&self, pass: &Pass) -> Result<Vec<Option<Tensor>>>;

    /// Whether [`backward`](Self::backward) reads the outputs, so that their memory must stay until then.
    fn keeps_outputs(&self) -> bool {
        false
    }
}

/// What a backward pass brings to an operation.
#[derive(Debug)]
pub struct Pass {
    pub(super) outputs: Vec<Tensor>,
    pub(super) cotangents: Vec<Option<Tensor>>,
    pub(super) wanted: Vec<bool>,
}

impl Pass {
    /// The outputs, detached; empty unless the operation [keeps](Operation::keeps_outputs) them.
    #[must_use]
    pub fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

    /// The only output, of an operation that keeps it.
    ///
    /// # Errors
    /// If there is none.
    pub fn output(&self) -> Result<&Tensor> {
        let none = || Error::new(ErrorKind::Structure, "an operation did not keep its output for backward");
        self.outputs.first().ok_or_else(none)
    }

    /// The gradient of the loss with respect to each output, of any strides; `None` for one that the loss does
    /// not depend on. At least one is there.
    #[must_use]
    pub fn cotangents(&self) -> &[Option<Tensor>] {
        &self.cotangents
    }

    /// The gradient of the loss with respect to the only output.
    ///
    /// # Errors
    /// If there is none: an operation with one output has it.
    pub fn cotangent(&self) -> Result<&Tensor> {
        let none = || Error::new(ErrorKind::Structure, "a backward pass brings nothing to an operation");
        self.cotangents.iter().flatten().next().ok_or_else(none)
    }

    /// Whether the gradient of the input at `index` is asked for.
    #[must_use]
    pub fn wanted(&self, index: usize) -> bool {
        self.wanted.get(index).copied().unwrap_or(false)
    }
}

/// The one output of an operation on `inputs`, with its gradient; see [`attach_all`].
///
/// # Errors
/// As [`attach_all`].
pub fn attach(operation: impl Operation, inputs: &[&Tensor], output: Fresh) -> Result<Tensor> {
    let mut outputs = attach_all(operation, inputs, vec![output])?;
    outputs.pop().ok_or_else(|| Error::new(ErrorKind::Structure, "an operation lost its output"))
}

/// The outputs of an operation on `inputs`, which `operation` differentiates. Where no input is tracked,
/// `operation` is dropped and the outputs stand alone.
///
/// # Errors
/// What Candle reports. In the backward pass, what the operation reports, or that it returns gradients of
/// another number or other shapes than the inputs have.
pub fn attach_all(operation: impl Operation, inputs: &[&Tensor], outputs: Vec<Fresh>) -> Result<Vec<Tensor>> {
    if !inputs.iter().any(|input| input.track_op()) {
        return Ok(outputs.into_iter().map(Fresh::into_tensor).collect());
    }
    let shapes = outputs.iter().map(|fresh| fresh.shape.clone()).collect();
    let call = Arc::new(Call::new(operation, inputs, shapes));
    let gate = hang(&call, inputs)?;
    let output = |(index, fresh): (usize, Fresh)| -> Result<Tensor> {
        if !fresh.storage.dtype().is_float() {
            return Ok(fresh.into_tensor());
        }
        let link = Arc::new(Link { gate: gate.clone(), call: Arc::clone(&call), index });
        let output = hand_out(&link, fresh)?;
        tape::enter(&output, &link);
        Ok(output)
    };
    let outputs = outputs.into_iter().enumerate().map(output).collect::<Result<Vec<_>>>()?;
    call.keep_outputs(&outputs);
    Ok(outputs)
}

/// `x.reshape(shape)`, whose gradient goes to the [operation](Operation) that `x` is an output of as directly as that
/// of `x` itself.
///
/// # Errors
/// If the shape has another number of elements.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let y = x.reshape(shape.into())?;
    if let Some(link) = tape::find(x) {
        tape::enter(&y, &link);
    }
    Ok(y)
}

/// The [name](Operation::name) of the operation that `x` is an output of; `None` for what Candle computed, and outside
/// of a differentiation.
#[must_use]
pub fn name_of(x: &Tensor) -> Option<&'static str> {
    tape::find(x).map(|link| link.call.name)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::grad::{grad, value_and_grad_aux};
    use crate::kind::Parameter;
    use crate::leaf::Leaf;

    struct Square {
        x: Tensor,
    }

    impl Operation for Square {
        fn name(&self) -> &'static str {
            "square"
        }

        fn backward(&self, pass: &Pass) -> Result<Vec<Option<Tensor>>> {
            Ok(vec![Some(((&self.x * pass.cotangent()?)? * 2.)?)])
        }
    }

    fn square(x: &Tensor) -> Result<Tensor> {
        let detached = x.detach();
        attach(Square { x: detached.clone() }, &[x], Fresh::take(detached.sqr()?)?)
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
    fn inside_of_another_differentiation() -> Result<()> {
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
    fn what_was_let_go_is_told() -> Result<()> {
        let again = || -> Result<Option<String>> {
            let ((_, y), _) = value_and_grad_aux(&leaf()?, |x| {
                let y = square(&x.get()?)?.sum_all()?;
                Ok((y.clone(), y))
            })?;
            Ok(y.backward().err().map(|error| Error::from(error).to_string()))
        };
        // While another test differentiates, nothing is let go.
        for _ in 0..10_000 {
            if let Some(error) = again()? {
                assert!(error.contains("`square` was differentiated before"), "{error}");
                return Ok(());
            }
        }
        panic!("nothing was ever let go");
    }

    #[test]
    fn memory_is_taken_only_where_it_is_whole() -> Result<()> {
        let x = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
        let part = x.narrow(0, 1, 1)?;
        assert_eq!(Fresh::take(part)?.into_tensor().to_vec2::<f32>()?, [[3., 4., 5.]]);
        assert_eq!(Fresh::take(x.t()?)?.into_tensor().to_vec2::<f32>()?, [[0., 3.], [1., 4.], [2., 5.]]);
        assert_eq!(x.to_vec2::<f32>()?, [[0., 1., 2.], [3., 4., 5.]]);
        assert!(Fresh::new(vec![1f32], (2, 2)).is_err());
        let nothing = Tensor::zeros((2, 0, 2), DType::F32, &Device::Cpu)?;
        assert_eq!(Fresh::take(nothing)?.into_tensor().dims(), [2, 0, 2]);
        Ok(())
    }
}
