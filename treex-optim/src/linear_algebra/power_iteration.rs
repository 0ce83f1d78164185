//! The dominant eigenvalue.

use candle_core::{DType, Tensor};
use treex_core::{Key, Leaf, Parameter, Result, Tree};

use super::square;
use crate::constant::check_constant;
use crate::numerics::global_norm;
use crate::transfer::{to_device_of, to_f64};
use crate::tree::{add_scale, scale, vdot};

/// The options of [`power_iteration_with`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerIteration {
    num_iters: usize,
    error_tolerance: f64,
}

impl Default for PowerIteration {
    /// After 100 iterations, or when the relative error is below 1e-6.
    fn default() -> Self {
        Self { num_iters: 100, error_tolerance: 1e-6 }
    }
}

impl PowerIteration {
    /// The largest number of iterations.
    #[must_use]
    pub fn num_iters(self, num_iters: usize) -> Self {
        Self { num_iters, ..self }
    }

    /// The relative error tolerance.
    #[must_use]
    pub fn error_tolerance(self, error_tolerance: f64) -> Self {
        Self { error_tolerance, ..self }
    }
}

/// The eigenvalue of largest absolute value of a square matrix, and its eigenvector, of norm 1:
/// [`power_iteration_with`] the default options from a vector that is uniform between -1 and 1, by
/// `Key::from(0)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let matrix = Tensor::new(&[[2f64, 1.], [1., 2.]], &Device::Cpu)?;
/// let (eigenvalue, eigenvector) = treex_optim::linear_algebra::power_iteration(&matrix)?;
/// assert!((eigenvalue - 3.).abs() < 1e-6);
/// assert_eq!(eigenvector.dims(), [2]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the matrix is not square, does not hold floats, or is differentiated.
pub fn power_iteration(matrix: &Tensor) -> Result<(f64, Tensor)> {
    check_constant("power_iteration", matrix)?;
    let (matrix, n) = square("power_iteration", matrix)?;
    let start = to_device_of(&Key::from(0).uniform_between(n, matrix.dtype(), -1., 1.)?, &matrix)?;
    let product = |v: &Leaf<Parameter>| Leaf::new(matrix.matmul(&v.get()?.unsqueeze(1)?)?.squeeze(1)?);
    let (value, vector) = power_iteration_with(product, &Leaf::new(start)?, PowerIteration::default())?;
    Ok((value, vector.get()?))
}

/// [`power_iteration`] of any linear function of trees, such as the product of a Hessian and a vector, from
/// `v0`: applied again and again, and brought to norm 1 in between. The error is the distance of the image of
/// the vector from its multiple, relative to the eigenvalue. A function that gives zeros has the eigenvalue
/// 0.
///
/// # Errors
/// The errors of `product`, or if a leaf does not hold floats, or the product is differentiated.
pub fn power_iteration_with<T: Tree>(
    mut product: impl FnMut(&T) -> Result<T>,
    v0: &T,
    options: PowerIteration,
) -> Result<(f64, T)> {
    let mut vector = normalized(v0)?;
    let mut image = product(&vector)?;
    image.flatten().tensors().try_for_each(|image| check_constant("power_iteration", image))?;
    let mut value = 0.;
    for _ in 0..options.num_iters {
        if value != 0. {
            let error = length(&add_scale(&image, -value, &vector)?)? / value;
            if error.abs() < options.error_tolerance {
                break;
            }
        }
        vector = normalized(&image)?;
        image = product(&vector)?;
        value = to_f64(&vdot(&vector, &image)?)?;
    }
    Ok((value, normalized(&image)?))
}

/// `tree` divided by its norm; zeros stay.
fn normalized<T: Tree>(tree: &T) -> Result<T> {
    let whole = global_norm(tree)?;
    if whole.is_normal() {
        return scale(1. / whole, tree);
    }
    let largest = largest(tree)?;
    if largest == 0. {
        return Ok(tree.clone());
    }
    let unit = scale(1. / largest, tree)?;
    scale(1. / global_norm(&unit)?, &unit)
}

/// The norm, also of numbers whose squares overflow or vanish.
fn length<T: Tree>(tree: &T) -> Result<f64> {
    let whole = global_norm(tree)?;
    let largest = if whole.is_normal() { 0. } else { largest(tree)? };
    if largest == 0. || !largest.is_finite() {
        return Ok(whole);
    }
    Ok(largest * global_norm(&scale(1. / largest, tree)?)?)
}

/// The largest magnitude; 0 without elements.
fn largest<T: Tree>(tree: &T) -> Result<f64> {
    let leaves = tree.flatten();
    let some = leaves.tensors().filter(|leaf| leaf.elem_count() > 0);
    some.map(|leaf| to_f64(&leaf.to_dtype(DType::F64)?.abs()?.max_all()?))
        .try_fold(0., |largest: f64, leaf| {
            leaf.map(|leaf| if leaf > largest || leaf.is_nan() { leaf } else { largest })
        })
}
