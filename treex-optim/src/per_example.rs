//! Per-example gradient clipping, for differential privacy.

use candle_core::{Device, Tensor};
use treex_core::{Error, Leaves, Result, Tree};

use crate::constant::check_constant;
use crate::numerics::wide;
use crate::transfer::{to_device_of, to_vec_f64};

/// The sum of the gradients of all examples, each shrunk to a [`global_norm`](crate::global_norm) of at
/// most `l2_norm_clip`, and the number of clipped examples. Every leaf has the examples on its first axis;
/// the sums do not.
///
/// ```text
/// sum over i of g_i * min(1, l2_norm_clip / norm(g_i))
/// ```
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter};
/// # use treex_optim::per_example_global_norm_clip;
/// let grads = Tensor::new(&[[0f32, 0., 0.], [0., 3., 4.], [4., 0., 3.], [3., 4., 0.]], &Device::Cpu)?;
/// let (sum, clipped) = per_example_global_norm_clip(&Leaf::<Parameter>::new(grads)?, 1.25)?;
/// assert_eq!((sum.get()?.to_vec1::<f32>()?, clipped), (vec![1.75, 1.75, 1.75], 3));
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// Abadi et al., [Deep learning with differential privacy](https://arxiv.org/abs/1607.00133), 2016.
///
/// # Errors
/// If the leaves have different numbers of examples, or `l2_norm_clip` is negative or NaN.
pub fn per_example_global_norm_clip<T: Tree>(grads: &T, l2_norm_clip: f64) -> Result<(T, usize)> {
    check(l2_norm_clip)?;
    let leaves = grads.flatten();
    let mut squares = vec![0.; examples(&leaves)?];
    for leaf in leaves.tensors() {
        squares.iter_mut().zip(squared_norms(leaf)?).for_each(|(sum, more)| *sum += more);
    }
    let factors = factors(&squares, l2_norm_clip);
    Ok((grads.map(|g| weighted_sum(g, &factors))?, shrunk(&factors)))
}

/// [`per_example_global_norm_clip`] for each leaf separately, and the number of clipped examples for each
/// leaf with a value. The bounds of the leaves add up to `global_l2_norm_clip`:
///
/// ```text
/// global_l2_norm_clip / sqrt(number of leaves)                if uniform
/// global_l2_norm_clip * sqrt(size / size of all leaves)       elsewhere
/// ```
///
/// McMahan et al., [Learning differentially private recurrent language
/// models](https://arxiv.org/abs/1710.06963), 2018.
///
/// # Errors
/// As [`per_example_global_norm_clip`].
pub fn per_example_layer_norm_clip<T: Tree>(
    grads: &T,
    global_l2_norm_clip: f64,
    uniform: bool,
) -> Result<(T, Vec<usize>)> {
    check(global_l2_norm_clip)?;
    let leaves = grads.flatten();
    examples(&leaves)?;
    let (count, size) =
        leaves.tensors().fold((0., 0.), |(count, size), g| (count + 1., size + g.elem_count() as f64));
    let mut counts = Vec::new();
    let sums = grads.map(|g| {
        let part = if uniform { 1. / count } else { g.elem_count() as f64 / size };
        let factors = factors(&squared_norms(g)?, global_l2_norm_clip * f64::sqrt(part));
        counts.push(shrunk(&factors));
        weighted_sum(g, &factors)
    })?;
    Ok((sums, counts))
}

fn check(clip: f64) -> Result<()> {
    if clip >= 0. {
        return Ok(());
    }
    Err(Error::argument("`l2_norm_clip` is out of range").expected("0 or more").found(clip))
}

/// The number of examples, which all leaves have.
fn examples(leaves: &Leaves) -> Result<usize> {
    let mut known = None;
    for (index, leaf) in leaves.iter().enumerate() {
        let Some(g) = leaves.get(index) else { continue };
        check_constant("per-example clipping", g)?;
        match (known, g.dims().first()) {
            (Some(known), Some(&found)) if known == found => {}
            (None, Some(&found)) => known = Some(found),
            (known, _) => {
                let expected = known.map_or("examples".to_owned(), |known| format!("{known} examples"));
                return Err(Error::shape("the gradients differ in the number of examples")
                    .at(leaf.segments())
                    .expected(format!("{expected} on the first axis"))
                    .found(format!("shape {:?}", g.dims())));
            }
        }
    }
    Ok(known.unwrap_or_default())
}

/// The gradients of all examples, one in a row, in the compute type.
fn rows(g: &Tensor) -> Result<Tensor> {
    let size = g.dims().iter().skip(1).product::<usize>();
    Ok(g.to_dtype(wide(g.dtype()))?.reshape((g.dim(0)?, size))?)
}

fn squared_norms(g: &Tensor) -> Result<Vec<f64>> {
    to_vec_f64(&rows(g)?.sqr()?.sum(1)?)
}

/// The factor of each example; 1 where the norm is NaN.
fn factors(squares: &[f64], clip: f64) -> Vec<f64> {
    squares.iter().map(|square| (clip / square.sqrt()).min(1.)).collect()
}

fn shrunk(factors: &[f64]) -> usize {
    factors.iter().filter(|&&factor| factor < 1.).count()
}

fn weighted_sum(g: &Tensor, factors: &[f64]) -> Result<Tensor> {
    let rows = rows(g)?;
    let factors = Tensor::from_slice(factors, (factors.len(), 1), &Device::Cpu)?;
    let factors = to_device_of(&factors.to_dtype(rows.dtype())?, g)?;
    let sum = rows.broadcast_mul(&factors)?.sum(0)?;
    Ok(sum.reshape(g.dims().get(1..).unwrap_or_default())?.to_dtype(g.dtype())?)
}
