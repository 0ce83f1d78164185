//! Arithmetic on whole trees: Optax's `tree` module, for any tree and for flat ones.
//!
//! | | |
//! |---|---|
//! | tree by tree | [`add`], [`sub`], [`mul`], [`div`], [`add_scale`], [`where_cond`], [`cast_like`] |
//! | leaf by leaf | [`scale`], [`clip`], [`cast`], [`zeros_like`], [`ones_like`], [`full_like`], [`batch_shape`], [`random_like`] |
//! | averages | [`update_moment`], [`update_infinity_moment`], [`bias_correction`] |
//! | to one number | [`sum`], [`max`], [`min`], [`vdot`], [`norm`], [`size`], [`allclose`] |
//! | to something else | [`dtype`], [`split_key_like`] |
//!
//! More methods of trees are in [`Tree`]: `map` and `zip_map`, on which these are built, `filter` and
//! `update`, `stack` and `unstack`, `flatten`. As in `zip_map`, a leaf without a value in one of two trees
//! stays as it is in the first. Reductions return scalars, in f64 if a leaf is in f64, else in f32, and are
//! differentiable; without any value a sum is 0, a maximum minus infinity, and a minimum infinity.
//!
//! ```
//! # use candle_core::{Device, Tensor};
//! use treex_core::{Leaf, Parameter};
//! use treex_optim::tree;
//!
//! let leaf = |values: &[f32]| Leaf::<Parameter>::new(Tensor::new(values, &Device::Cpu)?);
//! let (x, y) = ((leaf(&[3.])?, leaf(&[4.])?), (leaf(&[1.])?, leaf(&[-1.])?));
//! assert_eq!(tree::vdot(&x, &y)?.to_scalar::<f32>()?, -1.);
//! assert_eq!(tree::norm(&x, tree::Order::L2)?.to_scalar::<f32>()?, 5.);
//! assert_eq!(tree::add_scale(&x, 2., &y)?.1.get()?.to_vec1::<f32>()?, [2.]);
//! # Ok::<(), treex_core::Error>(())
//! ```

use candle_core::{DType, Device, Shape, Tensor};
use treex_core::extrema::{maximum, minimum};
use treex_core::{Error, ErrorKind, Key, Result, Tree, TreePart};

use crate::losses::math::row_max;
use crate::numerics::wide;
use crate::transfer::{constant_like, scalar_on, to_device_of, to_f64, to_vec_f64};

mod moments;

pub use moments::{bias_correction, update_infinity_moment, update_moment};

/// `x + y`.
///
/// # Errors
/// If the trees differ in structure, shapes or element types.
pub fn add<T: Tree>(x: &T, y: &T) -> Result<T> {
    x.zip_map(y, |x, y| Ok((x + y)?))
}

/// `x - y`.
///
/// # Errors
/// As [`add`].
pub fn sub<T: Tree>(x: &T, y: &T) -> Result<T> {
    x.zip_map(y, |x, y| Ok((x - y)?))
}

/// `x * y`, elementwise.
///
/// # Errors
/// As [`add`].
pub fn mul<T: Tree>(x: &T, y: &T) -> Result<T> {
    x.zip_map(y, |x, y| Ok((x * y)?))
}

/// `x / y`, elementwise.
///
/// # Errors
/// As [`add`].
pub fn div<T: Tree>(x: &T, y: &T) -> Result<T> {
    x.zip_map(y, |x, y| Ok((x / y)?))
}

/// `factor * tree`, computed in f32 at least.
///
/// # Errors
/// If a leaf does not hold floats.
pub fn scale<T: Tree>(factor: f64, tree: &T) -> Result<T> {
    tree.map(|x| Ok((x.to_dtype(wide(x.dtype()))? * factor)?.to_dtype(x.dtype())?))
}

/// `x + factor * y`, computed in f32 at least, in the element types of `x`.
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn add_scale<T: Tree>(x: &T, factor: f64, y: &T) -> Result<T> {
    add_times(x, &Tensor::new(factor, &Device::Cpu)?, y)
}

/// `factor * tree` for a scalar.
pub(crate) fn times<T: Tree>(factor: &Tensor, tree: &T) -> Result<T> {
    tree.map(|x| {
        let product = x.to_dtype(wide(x.dtype()))?.broadcast_mul(&beside(factor, x)?)?;
        Ok(product.to_dtype(x.dtype())?)
    })
}

/// `x + factor * y` for a scalar.
pub(crate) fn add_times<T: Tree>(x: &T, factor: &Tensor, y: &T) -> Result<T> {
    x.zip_map(y, |x, y| {
        let dtype = wide(x.dtype());
        let sum = (x.to_dtype(dtype)? + y.to_dtype(dtype)?.broadcast_mul(&beside(factor, x)?)?)?;
        Ok(sum.to_dtype(x.dtype())?)
    })
}

/// A scalar in the compute type with `x`, on its device.
pub(crate) fn beside(scalar: &Tensor, x: &Tensor) -> Result<Tensor> {
    let scalar = scalar.to_dtype(wide(x.dtype()))?;
    let is_number = scalar.device().is_cpu() && scalar.rank() == 0 && !scalar.track_op();
    if is_number && !x.device().is_cpu() {
        return scalar_on(to_f64(&scalar)?, scalar.dtype(), x.device());
    }
    to_device_of(&scalar, x)
}

/// `x` where `condition`, which must broadcast to each leaf, is not 0, and `y` elsewhere.
///
/// # Errors
/// If the trees differ in structure, shapes or element types, or the condition does not broadcast.
pub fn where_cond<T: Tree>(condition: &Tensor, x: &T, y: &T) -> Result<T> {
    let condition = condition.ne(&condition.zeros_like()?)?;
    x.zip_map(y, |x, y| {
        let condition = to_device_of(&condition, x)?.broadcast_as(x.shape())?;
        Ok(condition.where_cond(x, y)?)
    })
}

/// The tree between `min` and `max`, where given.
///
/// # Errors
/// If a Candle operation fails.
pub fn clip<T: Tree>(tree: &T, min: Option<f64>, max: Option<f64>) -> Result<T> {
    tree.map(|x| {
        let x = min.map_or_else(|| Ok(x.clone()), |min| maximum(x, min))?;
        Ok(max.map_or_else(|| Ok(x.clone()), |max| minimum(&x, max))?)
    })
}

/// Zeros of the same shapes and element types.
///
/// # Errors
/// If allocation fails.
pub fn zeros_like<T: Tree>(tree: &T) -> Result<T> {
    tree.map(|x| Ok(x.zeros_like()?))
}

/// Ones of the same shapes and element types.
///
/// # Errors
/// If allocation fails.
pub fn ones_like<T: Tree>(tree: &T) -> Result<T> {
    tree.map(|x| Ok(x.ones_like()?))
}

/// `value` everywhere, in the same shapes and element types.
///
/// # Errors
/// If allocation fails.
pub fn full_like<T: Tree>(tree: &T, value: f64) -> Result<T> {
    tree.map(|x| constant_like(value, x))
}

/// Every value in another element type, whatever its kind; [`Tree::into_dtype`] leaves keys and counts alone.
///
/// # Errors
/// If a cast fails.
pub fn cast<T: Tree>(tree: &T, dtype: DType) -> Result<T> {
    tree.map(|x| Ok(x.to_dtype(dtype)?))
}

/// Every value in the element type that it has in `other`.
///
/// # Errors
/// If the trees differ in structure, or a cast fails.
pub fn cast_like<T: Tree>(tree: &T, other: &T) -> Result<T> {
    tree.zip_map(other, |x, other| Ok(x.to_dtype(other.dtype())?))
}

/// Every value with the axes `shape` in front, along which it repeats.
///
/// # Errors
/// If a Candle operation fails.
pub fn batch_shape<T: Tree>(tree: &T, shape: &[usize]) -> Result<T> {
    tree.map(|x| Ok(x.broadcast_left(shape)?))
}

/// A key for each value, in field order: `key.split(n)` for the `n` values there are.
#[must_use]
pub fn split_key_like(key: Key, tree: &impl Tree) -> Vec<Key> {
    key.split(tree.flatten().tensors().count())
}

/// The element type that all values have; `None` without any value.
///
/// # Errors
/// If they differ.
pub fn dtype(tree: &impl Tree) -> Result<Option<DType>> {
    let leaves = tree.flatten();
    let mut common = None;
    for (index, _) in leaves.iter().enumerate() {
        let Some(found) = leaves.get(index).map(Tensor::dtype) else { continue };
        let expected = *common.get_or_insert(found);
        if found != expected {
            return Err(Error::new(ErrorKind::DType, "the leaves of a tree differ in their element types")
                .at(leaves.path(index))
                .expected(format!("`{}`, as those before", expected.as_str()))
                .found(format!("`{}`", found.as_str()))
                .remedy("`cast` the tree, or ask one of its leaves"));
        }
    }
    Ok(common)
}

/// A sample for each value, in its shape and element type and on its device. Each has its own key, one of
/// `key.split(n)` for the `n` values there are, in field order.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// # use treex_core::{Key, Leaf, Parameter};
/// # let model = Leaf::<Parameter>::new(Tensor::zeros(3, DType::F32, &Device::Cpu)?)?;
/// let noise = treex_optim::tree::random_like(Key::from(0), &model, |key, shape, dtype| key.normal(shape, dtype))?;
/// # assert_eq!(noise.get()?.dims(), [3]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// The errors of `sampler`, with the path.
pub fn random_like<T: Tree>(
    key: Key,
    tree: &T,
    mut sampler: impl FnMut(Key, Shape, DType) -> Result<Tensor>,
) -> Result<T> {
    let mut keys = split_key_like(key, tree).into_iter();
    tree.map(|x| match keys.next() {
        Some(key) => to_device_of(&sampler(key, x.shape().clone(), x.dtype())?, x),
        None => Ok(x.clone()),
    })
}

/// The sum of all elements.
///
/// # Errors
/// If a leaf does not hold numbers.
pub fn sum(tree: &impl Tree) -> Result<Tensor> {
    sum_of(tree.flatten().tensors().cloned())
}

/// The largest of all elements. Elements that tie share the gradient.
///
/// # Errors
/// If a leaf does not hold numbers.
pub fn max(tree: &impl Tree) -> Result<Tensor> {
    max_of(tree.flatten().tensors().cloned())
}

/// The least of all elements. Elements that tie share the gradient.
///
/// # Errors
/// If a leaf does not hold numbers.
pub fn min(tree: &impl Tree) -> Result<Tensor> {
    let negative = tree.flatten().tensors().map(Tensor::neg).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(max_of(negative)?.neg()?)
}

/// The sum of the products of all elements.
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn vdot<T: Tree>(x: &T, y: &T) -> Result<Tensor> {
    let (x, y) = (x.flatten(), y.flatten());
    x.check_aligned(&y, "the other tree of a product")?;
    let pairs = (0..x.len()).filter_map(|index| Some((x.get(index)?, y.get(index)?)));
    let products = pairs.map(|(x, y)| {
        let dtype = common([x, y]);
        Ok((x.to_dtype(dtype)? * y.to_dtype(dtype)?)?)
    });
    sum_of(products.collect::<Result<Vec<_>>>()?)
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The sum of the absolute values.
    L1,
    /// The root of the sum of the squares, whose gradient at 0 is NaN as in Optax.
    L2,
    /// The largest absolute value.
    Inf,
}

/// A norm of all elements as one vector, 0 without any value. [`global_norm`](crate::global_norm) is the
/// second one as a number on the CPU.
///
/// # Errors
/// If a leaf does not hold numbers.
pub fn norm<T: Tree>(tree: &T, order: Order) -> Result<Tensor> {
    let absolute = || tree.flatten().tensors().map(Tensor::abs).collect::<candle_core::Result<Vec<_>>>();
    match order {
        Order::L1 => sum_of(absolute()?),
        Order::L2 => Ok(vdot(tree, tree)?.sqrt()?),
        Order::Inf => Ok(maximum(&max_of(absolute()?)?, 0.)?),
    }
}

/// The number of elements, as far as shapes are known.
pub fn size(tree: &impl Tree) -> usize {
    tree.count(TreePart)
}

/// Whether each pair of elements is closer than `atol + rtol * |b|`. NaN is not close to anything. A leaf
/// without a value in one of the trees is ignored.
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn allclose<T: Tree>(a: &T, b: &T, rtol: f64, atol: f64) -> Result<bool> {
    let mut all = true;
    a.flatten().combine(&b.flatten(), |a, b| {
        check_same_shape(a, b)?;
        // Infinities of one sign are equal, and their difference is NaN.
        let close = |(a, b): (f64, f64)| a == b || (a - b).abs() <= atol + rtol * b.abs();
        all &= to_vec_f64(a)?.into_iter().zip(to_vec_f64(b)?).all(close);
        Ok(a.clone())
    })?;
    Ok(all)
}

fn check_same_shape(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.shape() == b.shape() {
        return Ok(());
    }
    Err(Error::shape("two trees differ in the shape of a leaf")
        .expected(format!("{:?}", a.dims()))
        .found(format!("{:?}", b.dims())))
}

/// f64 if one of the tensors is, else f32.
fn common<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> DType {
    let any = tensors.into_iter().any(|x| x.dtype() == DType::F64);
    if any { DType::F64 } else { DType::F32 }
}

pub(crate) fn sum_of(leaves: impl IntoIterator<Item = Tensor>) -> Result<Tensor> {
    reduce(leaves, 0., total, |sums| Ok(sums.sum_all()?))
}

fn max_of(leaves: impl IntoIterator<Item = Tensor>) -> Result<Tensor> {
    reduce(leaves, f64::NEG_INFINITY, |x| row_max(&x.flatten_all()?), row_max)
}

/// `all` over the results of `each`, for the leaves that have elements.
fn reduce(
    leaves: impl IntoIterator<Item = Tensor>,
    none: f64,
    each: impl Fn(&Tensor) -> Result<Tensor>,
    all: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let leaves: Vec<_> = leaves.into_iter().collect();
    let dtype = common(&leaves);
    let mut parts: Vec<Tensor> = Vec::new();
    for x in leaves.iter().filter(|x| x.elem_count() > 0) {
        let part = each(&x.to_dtype(dtype)?)?;
        let part = if let Some(first) = parts.first() { to_device_of(&part, first)? } else { part };
        parts.push(part);
    }
    match parts.len() {
        0 => Ok(Tensor::new(none, &Device::Cpu)?.to_dtype(dtype)?),
        1 => Ok(parts.remove(0)),
        _ => all(&Tensor::stack(&parts, 0)?),
    }
}

/// Elements of one partial sum. A single sum of many small numbers stops growing in f32.
const CHUNK: usize = 4096;

fn total(x: &Tensor) -> Result<Tensor> {
    let flat = x.flatten_all()?;
    let (whole, rest) = (flat.elem_count() / CHUNK, flat.elem_count() % CHUNK);
    if whole < 2 {
        return Ok(flat.sum_all()?);
    }
    let chunks = flat.narrow(0, 0, whole * CHUNK)?.reshape((whole, CHUNK))?;
    Ok((chunks.sum(1)?.sum_all()? + flat.narrow(0, whole * CHUNK, rest)?.sum_all()?)?)
}
