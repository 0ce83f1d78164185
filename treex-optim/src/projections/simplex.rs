//! Onto sums of all elements.

use candle_core::{Device, Tensor};
use treex_core::{Result, Tree};

use super::{check_floats, check_scale};
use crate::numerics::wide;
use crate::transfer::{to_device_of, to_f64, to_vec_f64};
use crate::tree::{self, Order, beside, sum_of};

/// The projection of values onto the simplex: `max(0, (values - max) - threshold)`.
#[derive(Clone, Copy)]
pub(crate) struct Simplex {
    /// The largest value. Subtracted first, so that large values keep their differences.
    pub(crate) max: f64,
    /// With `sum(max(0, (values - max) - threshold)) = scale`; NaN if a value is NaN or plus infinity.
    pub(crate) threshold: f64,
}

impl Simplex {
    /// Whether the projection of a value is not 0. All are NaN if one is.
    fn keeps(self, value: f64) -> bool {
        let above = value - self.max - self.threshold;
        above > 0. || above.is_nan()
    }
}

/// Finds the threshold.
///
/// Duchi et al., [Efficient Projections onto the l1-Ball](https://dl.acm.org/doi/10.1145/1390156.1390191),
/// 2008.
pub(crate) fn simplex(mut values: Vec<f64>, scale: f64) -> Simplex {
    let larger = |max: f64, value: f64| if value > max || value.is_nan() { value } else { max };
    let max = values.iter().copied().fold(f64::NEG_INFINITY, larger);
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut threshold) = (0., 0.);
    for (index, value) in values.into_iter().map(|value| value - max).enumerate() {
        sum += value;
        let lowered = (sum - scale) / (index + 1) as f64;
        if index > 0 && value <= lowered {
            break;
        }
        threshold = lowered;
    }
    Simplex { max, threshold }
}

/// Onto the simplex of size `scale`: no element is negative, and the sum of all is `scale`. With scale 1
/// these are the probability distributions.
///
/// ```text
/// max(0, x - t), with t such that they sum to scale
/// ```
///
/// Which elements stay above 0 is found on the CPU, with one transfer of the whole tree. A NaN or an infinity makes
/// every element NaN.
///
/// # Errors
/// If `scale` is not a positive number, or a leaf does not hold floats.
pub fn projection_simplex<T: Tree>(tree: &T, scale: f64) -> Result<T> {
    check_scale("projection_simplex", scale)?;
    check_floats("projection_simplex", tree)?;
    let leaves = tree.flatten();
    let mut values = Vec::with_capacity(leaves.len());
    for x in leaves.tensors() {
        values.push(to_vec_f64(x)?);
    }
    let simplex = simplex(values.concat(), scale);
    let (mut kept, mut masks) = (0, Vec::with_capacity(values.len()));
    for (x, values) in leaves.tensors().zip(values) {
        let mask: Vec<u8> = values.into_iter().map(|value| u8::from(simplex.keeps(value))).collect();
        kept += mask.iter().filter(|&&kept| kept == 1).count();
        masks.push(to_device_of(&Tensor::from_vec(mask, x.shape(), &Device::Cpu)?, x)?);
    }
    // The threshold once more, of the tensors, so that gradients go through it.
    let lowered = |x: &Tensor| -> Result<Tensor> { Ok((x.to_dtype(wide(x.dtype()))? - simplex.max)?) };
    let above = leaves.tensors().zip(&masks).map(|(x, mask)| {
        let x = lowered(x)?;
        Ok(mask.where_cond(&x, &x.zeros_like()?)?)
    });
    let above = sum_of(above.collect::<Result<Vec<_>>>()?)?;
    let threshold = ((above - scale)? / kept.max(1) as f64)?;
    let mut masks = masks.iter();
    tree.map(|x| {
        let lowered = lowered(x)?.broadcast_sub(&beside(&threshold, x)?)?;
        let Some(mask) = masks.next() else { return Ok(x.clone()) };
        Ok(mask.where_cond(&lowered, &lowered.zeros_like()?)?.to_dtype(x.dtype())?)
    })
}

/// Onto the sphere of radius `scale` in the L1 norm: [`projection_simplex`] of the absolute values, with
/// their signs. As in Optax a 0 stays 0, so on a sphere larger than the tree the norm may stay below
/// `scale`.
///
/// # Errors
/// As `projection_simplex`.
pub fn projection_l1_sphere<T: Tree>(tree: &T, scale: f64) -> Result<T> {
    check_floats("projection_l1_sphere", tree)?;
    projection_simplex(&tree.map(|x| Ok(x.abs()?))?, scale)?.zip_map(tree, |x, old| Ok((x * old.sign()?)?))
}

/// Onto the ball of radius `scale` in the L1 norm: the identity inside, else [`projection_l1_sphere`].
///
/// # Errors
/// As `projection_simplex`.
pub fn projection_l1_ball<T: Tree>(tree: &T, scale: f64) -> Result<T> {
    check_scale("projection_l1_ball", scale)?;
    check_floats("projection_l1_ball", tree)?;
    if to_f64(&tree::norm(tree, Order::L1)?)? <= scale {
        tree.map(|x| Ok(x.clone()))
    } else {
        projection_l1_sphere(tree, scale)
    }
}
