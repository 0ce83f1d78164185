//! Resizing of images, and of arrays of any number of dimensions.

use candle_core::{DType, Device, Shape, Tensor};
use treex_core::constants::constant;
use treex_core::size::check_size;
use treex_core::{Error, Result, matmul};

use crate::dtype::{common_dtype, wide_dtype};

/// How [`resize`] computes an element from its neighbours, along each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResizeMethod {
    /// The nearest element.
    Nearest,
    /// A triangle of two elements, or of more where it shrinks: bilinear for images, JAX's `linear`.
    Linear,
    /// Keys' cubic of four elements, with the parameter -1/2: bicubic for images, JAX's `cubic`.
    Cubic,
}

/// `x` with another size along some of its axes: `jax.image.resize`.
///
/// Elements are samples at the centers of their cells, and the corners of the arrays coincide. Where an array shrinks, the
/// filter is widened by the same factor, so that no element is skipped (JAX's `antialias`); [`resize_with`] can leave
/// this out. Half types are computed in `F32`; integers give `F32`, the nearest ones keep their type. The gradient is
/// exact: where a cell is read several times, its gradients are added.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use treex_nn::{ResizeMethod, resize};
///
/// let image = Tensor::new(&[[0f32, 4.], [2., 6.]], &Device::Cpu)?.unsqueeze(2)?;
/// let y = resize(&image, (2, 4, 1), ResizeMethod::Linear)?.squeeze(2)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0., 1., 3., 4.], [2., 3., 5., 6.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If `shape` has another rank than `x`, or a size above 0 where that of `x` is 0; if memory is missing.
pub fn resize(x: &Tensor, shape: impl Into<Shape>, method: ResizeMethod) -> Result<Tensor> {
    resize_with(x, shape, method, true)
}

/// [`resize`] with a choice of JAX's `antialias`: without it, an array that shrinks is sampled at single points.
///
/// # Errors
/// As [`resize`].
pub fn resize_with(
    x: &Tensor,
    shape: impl Into<Shape>,
    method: ResizeMethod,
    antialias: bool,
) -> Result<Tensor> {
    let shape = shape.into();
    let fits = |(&old, &new): (&usize, &usize)| old > 0 || new == 0;
    if x.rank() != shape.rank() || !x.dims().iter().zip(shape.dims()).all(fits) {
        return Err(Error::shape("`resize` cannot give its input this shape")
            .expected(format!("a size for each of {:?}, 0 for a size of 0", x.dims()))
            .found(format!("{:?}", shape.dims())));
    }
    // The nearest integer is an integer.
    let keeps_type = method == ResizeMethod::Nearest && x.dtype().is_int();
    let dtype = if keeps_type { x.dtype() } else { common_dtype(None, [x]) };
    let mut y = if keeps_type { x.clone() } else { x.to_dtype(wide_dtype(dtype))? };
    for (axis, &size) in shape.dims().iter().enumerate() {
        if y.dims()[axis] != size {
            y = along(&y, axis, size, method, antialias)?;
        }
    }
    Ok(y.to_dtype(dtype)?)
}

/// `x` with `size` elements along `axis`.
fn along(x: &Tensor, axis: usize, size: usize, method: ResizeMethod, antialias: bool) -> Result<Tensor> {
    let old = x.dims()[axis];
    let (before, after) = (&x.dims()[..axis], &x.dims()[axis + 1..]);
    let shape = [before, &[size], after].concat();
    check_size(&shape.as_slice().into(), x.dtype())?;
    let kernel = match method {
        ResizeMethod::Nearest => {
            // In `F32`, as in JAX.
            let source = |at: usize| ((at as f32 + 0.5) * old as f32 / size as f32).floor() as u32;
            let index: Vec<u32> = (0..size).map(|at| source(at).min(old as u32 - 1)).collect();
            let index = constant(&Tensor::new(index, &Device::Cpu)?, x.device())?;
            return Ok(x.contiguous()?.index_select(&index, axis)?);
        }
        ResizeMethod::Linear => triangle,
        ResizeMethod::Cubic => keys_cubic,
    };
    check_size(&(old, size).into(), DType::F64)?;
    let weights = weights([old, size], antialias, kernel);
    let weights = Tensor::from_vec(weights, (old, size), &Device::Cpu)?.to_dtype(x.dtype())?;
    let weights = constant(&weights, x.device())?;
    let count = |dims: &[usize]| dims.iter().product::<usize>();
    let rows = x.reshape((count(before), old, count(after)))?.transpose(1, 2)?;
    let y = matmul(&rows.reshape((count(before) * count(after), old))?, &weights)?;
    let y = y.reshape((count(before), count(after), size))?.transpose(1, 2)?;
    Ok(y.reshape(shape)?)
}

/// The weight of each of the old elements for each of the new ones, row-major.
fn weights([old, size]: [usize; 2], antialias: bool, kernel: fn(f64) -> f64) -> Vec<f64> {
    let step = old as f64 / size as f64;
    let width = if antialias { step.max(1.) } else { 1. };
    let mut weights = vec![0.; old * size];
    for at in 0..size {
        let center = (at as f64 + 0.5) * step - 0.5;
        let weight = |source: usize| kernel((center - source as f64).abs() / width);
        // Near an edge a part of the filter is outside.
        let total: f64 = (0..old).map(weight).sum();
        for source in 0..old {
            weights[source * size + at] = weight(source) / total;
        }
    }
    weights
}

fn triangle(x: f64) -> f64 {
    (1. - x).max(0.)
}

/// R. G. Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981.
fn keys_cubic(x: f64) -> f64 {
    match x {
        x if x >= 2. => 0.,
        x if x >= 1. => ((-0.5 * x + 2.5) * x - 4.) * x + 2.,
        x => (1.5 * x - 2.5) * x * x + 1.,
    }
}
