//! Loss scaling, for gradients that half precision would lose.

use candle_core::Tensor;
use treex_core::{Error, Leaves, OptState, Result, TreeObject, prelude::*};

use crate::combinators::is_finite;
use crate::numerics::wide;
use crate::scalar::Count;
use crate::scalar::Scalar;

/// A dynamic loss scale, for training in half precision.
///
/// Gradients of `f16` below 6e-8 are zero, and above 65504 infinite. So the loss is multiplied by a factor,
/// and its gradient divided by it; a gradient that is not finite is skipped and halves the factor, and
/// `growth_interval` consecutive finite ones double it. It is a tree, so it can be saved and loaded. The
/// factor starts at 2^16, as in PyTorch's `GradScaler`. Whether the gradient is finite is one read-back from a device.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// use treex_optim::{DynamicLossScale, Optimizer, master_weights, sgd};
///
/// # let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2.], &Device::Cpu)?.to_dtype(DType::F16)?)?;
/// let mut optimizer = Optimizer::new(master_weights(sgd(0.1))).init(&x)?;
/// let mut scale = DynamicLossScale::new()?;
/// for _ in 0..3 {
///     let (_, grads) = x.value_and_grad(Parameter, |x| {
///         let prediction = x.get()?.to_dtype(DType::F32)?; // compute the loss itself in f32
///         scale.scale(&(prediction.sqr()?.sum_all()? * 1e-3)?)
///     })?;
///     if let Some(grads) = scale.unscale(&grads)? {
///         optimizer.update(&grads, &mut x)?;
///     }
/// }
/// assert_eq!((optimizer.step_count()?, scale.factor()?), (3, 65536.0));
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// Micikevicius et al., [Mixed precision training](https://arxiv.org/abs/1710.03740), 2017.
#[derive(Clone, Debug, TreeObject)]
pub struct DynamicLossScale {
    #[tree(kind = OptState)]
    scale: Scalar,
    #[tree(kind = OptState)]
    good_steps: Count,
    #[tree(kind = OptState)]
    skipped: Count,
    growth_interval: u64,
}

impl DynamicLossScale {
    /// A factor of 2^16, with `growth_interval = 2000`.
    ///
    /// # Errors
    /// If allocation fails.
    pub fn new() -> Result<Self> {
        Ok(Self {
            scale: Scalar::new(65536.)?,
            good_steps: Count::zero()?,
            skipped: Count::zero()?,
            growth_interval: 2000,
        })
    }

    /// The first factor. Default: 2^16.
    ///
    /// # Errors
    /// If it is not finite and above 0.
    pub fn init_scale(mut self, scale: f64) -> Result<Self> {
        if !(scale.is_finite() && scale > 0.) {
            return Err(Error::argument("the loss scale is out of range")
                .expected("a finite number above 0")
                .found(scale));
        }
        self.scale.set(scale)?;
        Ok(self)
    }

    /// The number of consecutive finite gradients that doubles the factor.
    #[must_use]
    pub fn growth_interval(self, growth_interval: u64) -> Self {
        Self { growth_interval, ..self }
    }

    /// The factor on the next loss.
    ///
    /// # Errors
    /// If its leaf was filtered out.
    pub fn factor(&self) -> Result<f64> {
        self.scale.get()
    }

    /// The number of skipped gradients.
    ///
    /// # Errors
    /// If its leaf was filtered out.
    pub fn skipped(&self) -> Result<u64> {
        self.skipped.get()
    }

    /// The loss times the factor, in f32 for narrower types.
    ///
    /// # Errors
    /// If a Candle operation fails.
    pub fn scale(&self, loss: &Tensor) -> Result<Tensor> {
        Ok((loss.to_dtype(wide(loss.dtype()))? * self.factor()?)?)
    }

    /// Divides the gradient by the factor, in f32 for narrower types, and adjusts the factor. Returns
    /// `None` if the gradient is not finite: skip this step.
    ///
    /// # Errors
    /// If a Candle operation fails.
    pub fn unscale<M: TreeObject + Clone>(&mut self, grads: &M) -> Result<Option<M>> {
        let scale = self.factor()?;
        let flat: Leaves = grads.flatten();
        if !is_finite(&flat)? {
            self.skipped.advance()?;
            self.good_steps = Count::zero()?;
            self.scale.set(scale / 2.)?;
            return Ok(None);
        }
        if self.good_steps.advance()? >= self.growth_interval {
            self.good_steps = Count::zero()?;
            // Stays finite.
            self.scale.set((scale * 2.).min(f64::from(f32::MAX)))?;
        }
        let unscaled = flat.apply(|grad| Ok((grad.to_dtype(wide(grad.dtype()))? / scale)?))?;
        grads.unflatten(&unscaled).map(Some)
    }
}
