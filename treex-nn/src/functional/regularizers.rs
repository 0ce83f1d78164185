//! Penalties on the size of parameters, to be added to a loss.
//!
//! They sum over the differentiable leaves of a tree: all parameters of a model, or those that a filter
//! selects, for instance `&model.filter(path("**.kernel"))`. Inside of a gradient scope they are tracked as
//! the leaves are.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use treex_nn::{Linear, prelude::*, regularizers::l2};
//!
//! let mut model = Linear::new(3, 2).init(42, &Device::Cpu)?;
//! let x = Tensor::ones((4, 3), DType::F32, &Device::Cpu)?;
//! let (loss, grads) = model.value_and_grad(Parameter, |model| {
//!     let loss = model.call(&x)?.sqr()?.mean_all()?;
//!     Ok((loss + l2(model, 1e-2)?)?)
//! })?;
//! assert_eq!((loss.dims(), grads.kernel.get()?.dims()), (&[][..], &[3, 2][..]));
//! # Ok::<(), Error>(())
//! ```

use candle_core::{DType, Device, Tensor};
use treex_core::{Result, Tree, by};

/// `l · Σ |p|`, with derivative 0 at 0.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_nn::{prelude::*, regularizers::l1};
/// let w = Leaf::<Parameter>::new(Tensor::new(&[1.5f32, -2.], &Device::Cpu)?)?;
/// assert_eq!(l1(&w, 2.)?.to_scalar::<f32>()?, 7.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`l1_l2`].
pub fn l1(tree: &impl Tree, l: f64) -> Result<Tensor> {
    l1_l2(tree, l, 0.)
}

/// `l · Σ p²`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_nn::{prelude::*, regularizers::l2};
/// let w = Leaf::<Parameter>::new(Tensor::new(&[1.5f32, -2.], &Device::Cpu)?)?;
/// assert_eq!(l2(&w, 2.)?.to_scalar::<f32>()?, 12.5);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`l1_l2`].
pub fn l2(tree: &impl Tree, l: f64) -> Result<Tensor> {
    l1_l2(tree, 0., l)
}

/// `l1 · Σ |p| + l2 · Σ p²`, a scalar of `F32`, or of `F64` if a leaf has that type. Leaves without a value
/// are skipped; without any leaf, the penalty is 0.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_nn::{prelude::*, regularizers::l1_l2};
/// let w = Leaf::<Parameter>::new(Tensor::new(&[1.5f32, -2.], &Device::Cpu)?)?;
/// assert_eq!(l1_l2(&w, 2., 2.)?.to_scalar::<f32>()?, 19.5);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the leaves are on several devices.
pub fn l1_l2(tree: &impl Tree, l1: f64, l2: f64) -> Result<Tensor> {
    let leaves = tree.filter(by(|leaf| leaf.kind().is_differentiable())).flatten();
    let wide = leaves.tensors().any(|p| p.dtype() == DType::F64);
    let dtype = if wide { DType::F64 } else { DType::F32 };
    let device = leaves.tensors().next().map_or(Device::Cpu, |p| p.device().clone());
    let mut penalty = Tensor::zeros((), dtype, &device)?;
    for p in leaves.tensors() {
        let p = p.to_dtype(dtype)?;
        if l1 != 0. {
            // Not `abs`, whose derivative at 0 is 1 in Candle.
            penalty = (penalty + ((&p * p.detach().sign()?)?.sum_all()? * l1)?)?;
        }
        if l2 != 0. {
            penalty = (penalty + (p.sqr()?.sum_all()? * l2)?)?;
        }
    }
    Ok(penalty)
}

#[cfg(test)]
mod tests {
    use treex_core::{BatchStat, Leaf, Parameter, path, prelude::*};

    use super::*;

    #[derive(Clone, Debug, TreeObject)]
    struct Model {
        w: Leaf<Parameter>,
        b: Leaf<Parameter>,
        mean: Leaf<BatchStat>,
    }

    fn model() -> Result<Model> {
        let leaf = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        Ok(Model {
            w: Leaf::new(leaf(&[1.5, -2., 0.])?)?,
            b: Leaf::new(leaf(&[-1.])?.to_dtype(DType::BF16)?)?,
            mean: Leaf::new(leaf(&[100.])?)?,
        })
    }

    #[test]
    fn values_by_their_formulas() -> Result<()> {
        let model = model()?;
        let value = |penalty: Result<Tensor>| penalty?.to_scalar::<f32>().map_err(treex_core::Error::from);
        assert_eq!(value(l1(&model, 2.))?, 9.);
        assert_eq!(value(l2(&model, 2.))?, 14.5);
        assert_eq!(value(l1_l2(&model, 1., 2.))?, 19.);
        assert_eq!(value(l1(&model.filter(path("b")), 0.5))?, 0.5);
        assert_eq!(value(l1(&model.filter(BatchStat), 1.))?, 0.);
        assert_eq!(value(l1_l2(&model, 0., 0.))?, 0.);
        Ok(())
    }

    #[test]
    fn gradients() -> Result<()> {
        let mut model = model()?;
        let (_, grads) = model.value_and_grad(Parameter, |model| l1_l2(model, 2., 3.))?;
        assert_eq!(grads.w.get()?.to_vec1::<f32>()?, [2. + 9., -2. - 12., 0.]);
        assert_eq!(grads.b.get()?.to_dtype(DType::F32)?.to_vec1::<f32>()?, [-8.]);
        let (_, grads) = model.value_and_grad(Parameter, |model| l2(&model.filter(path("w")), 1.))?;
        assert_eq!(grads.w.get()?.to_vec1::<f32>()?, [3., -4., 0.]);
        assert_eq!(grads.b.get()?.to_dtype(DType::F32)?.to_vec1::<f32>()?, [0.]);
        Ok(())
    }
}
