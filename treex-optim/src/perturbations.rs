//! Smoothed functions, whose derivatives are estimated.

use candle_core::{D, DType, Shape, Tensor};
use treex_core::{Error, Key, Result, Tree};

use crate::numerics::wide;
use crate::transfer::to_device_of;
use crate::tree::random_like;

/// The noise that is added to the inputs of a [`Perturbed`] function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Noise {
    /// The Gumbel distribution, under which a maximum is a softmax.
    #[default]
    Gumbel,
    /// The normal distribution.
    Normal,
}

impl Noise {
    fn sample(self, key: Key, shape: Shape, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Gumbel => key.gumbel(shape, dtype),
            Self::Normal => key.normal(shape, dtype),
        }
    }

    /// The logarithm of the density, up to a constant.
    fn log_prob(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Gumbel => (x + x.neg()?.exp()?)?.neg()?,
            Self::Normal => (x.sqr()? * -0.5)?,
        })
    }
}

/// The type of [`make_perturbed_fun`].
#[derive(Clone, Debug)]
pub struct Perturbed<F> {
    fun: F,
    num_samples: usize,
    sigma: f64,
    noise: Noise,
    use_baseline: bool,
}

/// A smooth version of a function of trees, which is the expectation of `fun(x + sigma * noise)`, estimated
/// by the mean over samples:
///
/// ```text
/// mean(fun(x + sigma * z))
/// ```
///
/// Its gradient is estimated from the values of `fun` alone, which may be a sort, a choice or a shortest
/// path:
///
/// ```text
/// mean((fun(x + sigma * z) - fun(x)) * -gradient(log_prob)(z) / sigma)
/// ```
///
/// By default it takes 1,000 samples, a `sigma` of 0.1 and Gumbel noise. Without a baseline `fun(x)` is not
/// subtracted, which changes the variance and not the mean.
///
/// Berthet et al., [Learning with Differentiable Perturbed Optimizers](https://arxiv.org/abs/2002.08676),
/// 2020.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use treex_core::{Key, Leaf, Parameter, State, prelude::*};
/// use treex_optim::perturbations::make_perturbed_fun;
///
/// // How many numbers are positive: a function of steps.
/// let count = |x: &Leaf<Parameter>| Leaf::<State>::new(x.get()?.gt(0f32)?.to_dtype(candle_core::DType::F32)?.sum_all()?);
/// let smooth = make_perturbed_fun(count).num_samples(100).sigma(1.);
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[0f32, 0.5, -9.], &Device::Cpu)?)?;
/// let (_, gradient) = x.value_and_grad(Parameter, |x| smooth.call(Key::from(0), x)?.get())?;
/// let gradient = gradient.get()?.to_vec1::<f32>()?;
/// assert!(gradient[0] > 0.1 && gradient[1] > 0.1 && gradient[2].abs() < 0.1);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn make_perturbed_fun<F>(fun: F) -> Perturbed<F> {
    Perturbed { fun, num_samples: 1000, sigma: 0.1, noise: Noise::Gumbel, use_baseline: true }
}

impl<F> Perturbed<F> {
    /// The number of samples.
    #[must_use]
    pub fn num_samples(self, num_samples: usize) -> Self {
        Self { num_samples, ..self }
    }

    /// The scale of the noise.
    #[must_use]
    pub fn sigma(self, sigma: f64) -> Self {
        Self { sigma, ..self }
    }

    /// The distribution of the noise.
    #[must_use]
    pub fn noise(self, noise: Noise) -> Self {
        Self { noise, ..self }
    }

    /// Whether the gradient is that of the difference to the value at `x` itself.
    #[must_use]
    pub fn use_baseline(self, use_baseline: bool) -> Self {
        Self { use_baseline, ..self }
    }

    /// The estimate at `x`. The same key gives the same noise.
    ///
    /// # Errors
    /// The errors of the function; if there are no samples, or a leaf of `x` does not hold floats.
    pub fn call<T: Tree, O: Tree>(&self, key: impl Into<Key>, x: &T) -> Result<O>
    where
        F: Fn(&T) -> Result<O>,
    {
        if self.num_samples == 0 {
            return Err(Error::argument("`num_samples` of `make_perturbed_fun` is 0").expected("at least 1"));
        }
        let still = x.map(|x| Ok(x.detach()))?;
        let (mut shifted, mut outputs) = (Vec::new(), Vec::new());
        for key in key.into().split(self.num_samples) {
            let noise = random_like(key, &still, |key, shape, dtype| self.noise.sample(key, shape, dtype))?;
            let at = crate::tree::add_scale(&still, self.sigma, &noise)?;
            outputs.push((self.fun)(&at)?);
            shifted.push(at);
        }
        let log_prob = self.log_prob(x, &T::stack(&shifted)?)?;
        // Of value 1, and with the derivative of the logarithm.
        let magic = (&log_prob - log_prob.detach())?.exp()?;
        let mean = |values: &Tensor, baseline: Option<&Tensor>| -> Result<Tensor> {
            let rows = values.to_dtype(wide(values.dtype()))?.reshape((self.num_samples, ()))?;
            let magic = magic.to_dtype(rows.dtype())?.unsqueeze(D::Minus1)?;
            let mut mean = rows.broadcast_mul(&magic)?;
            if let Some(baseline) = baseline {
                let baseline = baseline.to_dtype(rows.dtype())?.flatten_all()?;
                mean = (mean + magic.affine(-1., 1.)?.broadcast_mul(&baseline.unsqueeze(0)?)?)?;
            }
            Ok(mean.mean(0)?.reshape(&values.dims()[1..])?.to_dtype(values.dtype())?)
        };
        let outputs = O::stack(&outputs)?;
        if self.use_baseline {
            return outputs.zip_map(&(self.fun)(&still)?, |values, baseline| mean(values, Some(baseline)));
        }
        outputs.map(|values| mean(values, None))
    }

    /// The logarithm of the density of each sample, as a function of `x`: `[num_samples]`.
    fn log_prob<T: Tree>(&self, x: &T, shifted: &T) -> Result<Tensor> {
        let (x, shifted) = (x.flatten(), shifted.flatten());
        let mut sum: Option<Tensor> = None;
        for (x, shifted) in x.tensors().zip(shifted.tensors()) {
            let dtype = wide(x.dtype());
            let noise = shifted.detach().to_dtype(dtype)?.broadcast_sub(&x.to_dtype(dtype)?)?;
            let noise = (noise / self.sigma)?.reshape((self.num_samples, x.elem_count()))?;
            let part = self.noise.log_prob(&noise)?.sum(1)?;
            sum = Some(match sum {
                Some(sum) => (to_device_of(&part.to_dtype(sum.dtype())?, &sum)? + sum)?,
                None => part,
            });
        }
        sum.ok_or_else(|| Error::argument("the tree to perturb has no values").expected("a tree with values"))
    }
}
