//! Mixed precision: the element types of a whole model.

use candle_core::{DType, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::tree::kind::Parameter;
use crate::tree::object::TreeObject;
use crate::tree::verbs::Tree;

/// The element types in which a model stores its parameters, computes, and gives its results: what `jmp.Policy` is for Haiku.
///
/// A model that computes in `BF16` with parameters in `F32` moves half of the memory and uses the fast products of a GPU, and an
/// update that is smaller than the spacing of `BF16` is not lost: the parameters are master weights. Gradients have the type
/// of the parameters. For `F16`, whose range is small, scale the loss too (`DynamicLossScale` in treex-optim).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_core::{Leaf, MixedPrecision, Parameter, prelude::*};
///
/// let mut w = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let x = Tensor::new(&[0.1f32, 0.2, 0.3], &Device::Cpu)?;
/// let precision = MixedPrecision::new(DType::BF16);
/// let (loss, grad) = w.value_and_grad(Parameter, |w| {
///     let x = precision.input(&x)?;
///     let y = precision.call(w, |w| Ok((w.get()? * x)?))?; // in `BF16`, and its result in `F32`
///     Ok(y.sum_all()?)
/// })?;
/// assert_eq!((loss.dtype(), grad.get()?.dtype()), (DType::F32, DType::F32));
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// Layers compute in the types of their parameters and inputs: sums, statistics and softmaxes in `F32`, also of half types. A layer
/// with a `dtype` of its own keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedPrecision {
    parameters: DType,
    compute: DType,
    output: DType,
}

impl MixedPrecision {
    /// Parameters and results in `F32`, computed in `compute`.
    #[must_use]
    pub fn new(compute: DType) -> Self {
        Self { parameters: DType::F32, compute, output: DType::F32 }
    }

    /// With parameters of this type; default: `F32`.
    #[must_use]
    pub fn parameters(self, dtype: DType) -> Self {
        Self { parameters: dtype, ..self }
    }

    /// With results of this type; default: `F32`.
    #[must_use]
    pub fn output(self, dtype: DType) -> Self {
        Self { output: dtype, ..self }
    }

    /// A model that was initialized, with its parameters in their type.
    ///
    /// # Errors
    /// If it has no parameter, the type is no float, or a cast fails.
    pub fn store<M: TreeObject + Clone>(&self, model: M) -> Result<M> {
        model.into_dtype_where(Parameter, self.parameters)
    }

    /// `x` in the type to compute in; integers stay as they are.
    ///
    /// # Errors
    /// If the type to compute in is no float, or the cast fails.
    pub fn input(&self, x: &Tensor) -> Result<Tensor> {
        cast(x, self.compute)
    }

    /// `f` of the model with its parameters in the type to compute in, and its result in its own type. What `f` writes to other
    /// leaves, statistics and keys, is written to the model; where `f` fails, the model is as it was.
    ///
    /// # Errors
    /// The error of `f`; if the model has no parameter or `f` changes its structure.
    pub fn call<M: TreeObject + Clone>(
        &self,
        model: &mut M,
        f: impl FnOnce(&mut M) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut computing = model.clone().into_dtype_where(Parameter, self.compute)?;
        let y = f(&mut computing)?;
        model.update(&computing.filter(!Parameter))?;
        cast(&y, self.output)
    }
}

/// A float in this type.
fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if !dtype.is_float() {
        return Err(Error::new(ErrorKind::DType, "mixed precision needs floating types")
            .expected("`bf16`, `f16`, `f32` or `f64`")
            .found(format!("`{}`", dtype.as_str())));
    }
    Ok(if x.dtype().is_float() { x.to_dtype(dtype)? } else { x.clone() })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::tree::kind::BatchStat;
    use crate::tree::leaf::Leaf;

    type Model = (Leaf<Parameter>, Leaf<BatchStat>);

    fn model() -> Result<Model> {
        let numbers = Tensor::new(&[1f32, 0.3, -2.7], &Device::Cpu)?;
        Ok((Leaf::new(numbers.clone())?, Leaf::new(numbers)?))
    }

    #[test]
    fn types_gradients_and_state() -> Result<()> {
        let mut model = model()?;
        let precision = MixedPrecision::new(DType::BF16).output(DType::F64);
        let mut inside = None;
        let (loss, grads) = model.value_and_grad(Parameter, |model| {
            let y = precision.call(model, |(w, state)| {
                let (w, old) = (w.get()?, state.get()?);
                inside = Some((w.dtype(), old.dtype()));
                state.set(&(old + 1.)?)?;
                Ok((&w * &w)?)
            })?;
            assert_eq!(y.dtype(), DType::F64);
            Ok(y.sum_all()?)
        })?;
        assert_eq!((inside, loss.dtype()), (Some((DType::BF16, DType::F32)), DType::F64));
        // 2 w, of the rounded parameter.
        let rounded = model.0.get()?.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
        assert_eq!(grads.0.get()?.to_vec1::<f32>()?, (rounded * 2.)?.to_vec1::<f32>()?);
        assert_eq!(model.1.get()?.to_vec1::<f32>()?, [2f32, 1.3, -1.7]);
        assert_eq!(model.0.get()?.to_vec1::<f32>()?, [1f32, 0.3, -2.7]);
        Ok(())
    }

    #[test]
    fn an_error_leaves_the_model() -> Result<()> {
        let mut model = model()?;
        let failed = MixedPrecision::new(DType::BF16).call(&mut model, |(_, state)| {
            state.set(&state.get()?.zeros_like()?)?;
            Err(Error::argument("an error"))
        });
        assert!(failed.is_err() && model.1.get()?.to_vec1::<f32>()? == [1f32, 0.3, -2.7]);
        for wrong in [MixedPrecision::new(DType::U8), MixedPrecision::new(DType::F32).output(DType::I64)] {
            let error = wrong.call(&mut model, |(w, _)| w.get()).expect_err("no float").to_string();
            assert!(error.contains("float"), "{error}");
        }
        let whole = Tensor::new(&[1u32], &Device::Cpu)?;
        assert_eq!(MixedPrecision::new(DType::F16).input(&whole)?.dtype(), DType::U32);
        let stored = MixedPrecision::new(DType::F32).parameters(DType::BF16).store(model)?;
        assert_eq!((stored.0.get()?.dtype(), stored.1.get()?.dtype()), (DType::BF16, DType::F32));
        Ok(())
    }
}
