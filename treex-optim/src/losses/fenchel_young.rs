//! Fenchel-Young losses.

use candle_core::Tensor;
use treex_core::{Error, Result};

use super::{Over, aligned};

/// The Fenchel-Young loss of `max_fun`: `max_fun(scores) - sum(targets * scores)` over the last axis:
/// `[.., n]`, `[.., n]` to `[..]`. `max_fun` takes `[.., n]` to `[..]`.
///
/// With `log(sum(exp(..)))` it is the cross entropy up to a constant of the targets; with the expected
/// maximum of perturbed scores it learns rankings, matchings and shortest paths.
///
/// Blondel et al., [Learning with Fenchel-Young Losses](https://arxiv.org/abs/1901.02324), 2020.
///
/// ```
/// # use candle_core::{D, Device, Tensor};
/// use treex_optim::losses::make_fenchel_young_loss;
///
/// let loss = make_fenchel_young_loss(|scores| Ok(scores.log_sum_exp(D::Minus1)?));
/// let scores = Tensor::new(&[[0f32, 0.], [3., 3.]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[0f32, 1.], [1., 0.]], &Device::Cpu)?;
/// assert_eq!(loss(&scores, &targets)?.to_vec1::<f32>()?, [2f32.ln(), 2f32.ln()]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Of the loss: if shapes or element types differ or are not floats, if there is no last axis, if the maximum
/// has another shape, and the errors of `max_fun`.
pub fn make_fenchel_young_loss(
    max_fun: impl Fn(&Tensor) -> Result<Tensor>,
) -> impl Fn(&Tensor, &Tensor) -> Result<Tensor> {
    move |scores, targets| {
        let name = "fenchel_young_loss";
        let (scores, targets) = aligned(name, ("scores", scores), ("targets", targets))?;
        let rows = Over::default().of(name, &scores)?;
        let products = rows.sum(&(&scores * targets)?)?;
        let maximum = max_fun(&scores)?;
        if maximum.dims() != products.dims() {
            return Err(Error::shape(format!("the maximum of `{name}` has the wrong shape"))
                .expected(format!("{:?}: one number for each row", products.dims()))
                .found(format!("{:?}", maximum.dims()))
                .remedy("reduce over the last axis, `D::Minus1`, without keeping it"));
        }
        Ok((maximum - products)?)
    }
}
