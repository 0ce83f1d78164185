//! Loss scaling, for gradients that half precision would lose.

use candle_core::Tensor;
use treex_core::capture::condition::{NotFinite, if_finite, scale};
use treex_core::capture::plan::refuse;
use treex_core::{Error, Leaves, OptState, Result, TreeObject, prelude::*};

use crate::combinators::{is_finite, is_finite_on_device};
use crate::engine::times_scalar;
use crate::numerics::wide;
use crate::optimizer::Optimizer;
use crate::scalar::{Count, Scalar};
use crate::transformation::GradientTransformation;

/// A dynamic loss scale, for training in half precision.
///
/// Gradients of `f16` below 6e-8 are zero, and above 65504 infinite. So the loss is multiplied by a factor,
/// and its gradient divided by it; a gradient that is not finite is skipped and halves the factor, and
/// `growth_interval` consecutive finite ones double it. It is a tree, so it can be saved and loaded. The
/// factor starts at 2^16, as in PyTorch's `GradScaler`. Whether the gradient is finite is one read-back from a device; in a
/// [captured step](treex_core::capture()) the device decides and counts, and nothing is read back.
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
///     scale.update(&grads, &mut optimizer, &mut x)?;
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
    /// If its leaf was filtered out; in a captured step, where the device alone knows it.
    pub fn factor(&self) -> Result<f64> {
        refuse("the factor of a loss scale is read", "read it behind the step")?;
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
        if let Some(factor) = scale(&self.counts())? {
            let loss = loss.to_dtype(wide(loss.dtype()))?;
            return Ok(loss.broadcast_mul(&factor.to_dtype(loss.dtype())?.reshape(())?)?);
        }
        Ok((loss.to_dtype(wide(loss.dtype()))? * self.factor()?)?)
    }

    /// What is counted: finite gradients in a row, those that were skipped, and the factor.
    fn counts(&self) -> (Count, Count, Scalar) {
        (self.good_steps.clone(), self.skipped.clone(), self.scale.clone())
    }

    /// [`unscale`](Self::unscale)s the gradient and, if it is finite, makes a step of the optimizer.
    ///
    /// # Errors
    /// Those of the optimizer.
    pub fn update<M: TreeObject + Clone, T: GradientTransformation>(
        &mut self,
        grads: &M,
        optimizer: &mut Optimizer<T>,
        model: &mut M,
    ) -> Result<()> {
        let counts = self.counts();
        let Some(factor) = scale(&counts)? else {
            let unscaled = self.unscale(grads)?;
            return unscaled.map_or(Ok(()), |grads| optimizer.update(&grads, model));
        };
        let flat: Leaves = grads.flatten();
        let finite = is_finite_on_device(&flat)?;
        let unscaled = times_scalar(&flat, &factor.recip()?)?;
        let grads = grads.unflatten(&unscaled)?;
        let otherwise = NotFinite::Scale(self.growth_interval);
        if_finite(&finite, otherwise, &counts, || optimizer.update(&grads, model)).map(drop)
    }

    /// Divides the gradient by the factor, in f32 for narrower types, and adjusts the factor. Returns
    /// `None` if the gradient is not finite: skip this step. [`update`](Self::update) is both in one, on a device without a wait.
    ///
    /// # Errors
    /// If a Candle operation fails; in a captured step, where the program cannot decide.
    pub fn unscale<M: TreeObject + Clone>(&mut self, grads: &M) -> Result<Option<M>> {
        refuse("a program decides by a gradient", "call `DynamicLossScale::update`")?;
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
