//! Reading and writing at computed positions, with right gradients of any order; Candle's `gather` and `scatter` have not.
//!
//! All stand on Candle's `index_select` and `index_add`, whose gradients are each other. Sums of half types are computed
//! in `f32`. Indexes that a program gives are checked: on the CPU one that is out of range is an error. On a device, where the check
//! would read it back, floats are NaN instead: what is read there, and all of what is written to.

use std::cmp::Ordering;

use candle_core::{D, DType, Device, Tensor};
use treex_core::constants::arange;
use treex_core::indices::{Checked, all_nan_unless};
use treex_core::transfers::transfer;
use treex_core::{Error, Result, size};

use crate::axes::position;
use crate::dtype::widened;

/// `y[i][j] = x[i][indices[i][j]]` for the last of two axes, and so along any `axis`: `jnp.take_along_axis`, PyTorch's
/// `gather`. `indices` has the shape of `x` but for `axis`, and an integer type.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::take_along_axis;
///
/// let x = Tensor::new(&[[1f32, 2., 3.], [4., 5., 6.]], &Device::Cpu)?;
/// let indices = Tensor::new(&[[2u32, 0], [1, 1]], &Device::Cpu)?;
/// assert_eq!(take_along_axis(&x, &indices, 1)?.to_vec2::<f32>()?, [[3., 1.], [5., 5.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit, or an index is out of range; on a device, floats are NaN there.
pub fn take_along_axis(x: &Tensor, indices: &Tensor, axis: isize) -> Result<Tensor> {
    let (axis, Indices { numbers, checked }) = checked_along("take_along_axis", x, indices, axis)?;
    let y = take(x, &numbers, axis)?;
    checked.map_or_else(|| Ok(y.clone()), |checked| checked.or_nan(&y, 0))
}

/// [`take_along_axis`] at indexes that are in range, in `I64`.
fn take(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Tensor> {
    let y = wide(x)?.flatten_all()?.index_select(&flat_indices(x, indices, axis)?, 0)?;
    Ok(y.reshape(indices.shape())?.to_dtype(x.dtype())?)
}

/// `x` with `values` added at `indices` along `axis`, again for each that occurs more than once: `x.at[..].add(values)`,
/// PyTorch's `scatter_add`. `indices` has the shape of `values`, which is that of `x` but for `axis`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::scatter_add;
///
/// let x = Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu)?;
/// let (indices, values) = (Tensor::new(&[[2u32, 2]], &Device::Cpu)?, Tensor::new(&[[10f32, 20.]], &Device::Cpu)?);
/// assert_eq!(scatter_add(&x, &indices, &values, 1)?.to_vec2::<f32>()?, [[1., 2., 33.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit, an index is out of range, or a sum of integers overflows. On a device, floats are all NaN where an index
/// is out of range.
pub fn scatter_add(x: &Tensor, indices: &Tensor, values: &Tensor, axis: isize) -> Result<Tensor> {
    let (axis, checked) = checked_along("scatter_add", x, indices, axis)?;
    let flat = flat_indices(x, &checked.numbers, axis)?;
    let values = flat_values("scatter_add", indices, &checked.values(values)?)?;
    let sums = added("scatter_add", &wide(x)?.flatten_all()?, &flat, &wide(&values)?)?;
    checked.written(&sums.reshape(x.shape())?.to_dtype(x.dtype())?)
}

/// `x` with `values` written at `indices` along `axis`: `x.at[..].set(values)`, PyTorch's `scatter`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::scatter;
///
/// let x = Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu)?;
/// let (indices, values) = (Tensor::new(&[[2u32, 0]], &Device::Cpu)?, Tensor::new(&[[10f32, 20.]], &Device::Cpu)?);
/// assert_eq!(scatter(&x, &indices, &values, 1)?.to_vec2::<f32>()?, [[20., 2., 10.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit, an index is out of range, or two values are written to one place. On a device, floats are all NaN then.
pub fn scatter(x: &Tensor, indices: &Tensor, values: &Tensor, axis: isize) -> Result<Tensor> {
    let (axis, checked) = checked_along("scatter", x, indices, axis)?;
    let flat = flat_indices(x, &checked.numbers, axis)?;
    let values = flat_values("scatter", indices, &checked.values(values)?)?;
    let none = wide(x)?.detach().flatten_all()?.zeros_like()?;
    let ones = Tensor::ones(values.shape(), DType::F32, x.device())?;
    let count = none.to_dtype(DType::F32)?.index_add(&flat, &ones, 0)?;
    let is_written = checked.checked.is_none() && count.elem_count() > 0;
    if is_written && to_host(&count.max_all()?)?.to_scalar::<f32>()? > 1. {
        return Err(Error::argument("`scatter` writes two values to one place")
            .expected("different indexes")
            .remedy("for sums call `scatter_add`"));
    }
    let written = none.index_add(&flat, &wide(&values)?, 0)?;
    let y = count.gt(0f64)?.where_cond(&written, &wide(x)?.flatten_all()?)?;
    let y = y.reshape(x.shape())?.to_dtype(x.dtype())?;
    if checked.checked.is_none() || count.elem_count() == 0 {
        return Ok(y);
    }
    checked.written(&all_nan_unless(&count.max_all()?.le(1f64)?, &y)?)
}

/// The sums of the slices of `x` along its first axis that have the same of `segments` segment numbers: `[segments, ..]`,
/// `jax.ops.segment_sum`. A segment without slices is 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::segment_sum;
///
/// let x = Tensor::new(&[1f32, 2., 4.], &Device::Cpu)?;
/// let numbers = Tensor::new(&[2u32, 0, 2], &Device::Cpu)?;
/// assert_eq!(segment_sum(&x, &numbers, 4)?.to_vec1::<f32>()?, [2., 0., 5., 0.]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If there is not one number for each slice, or a number is not below `segments`; if a sum of integers overflows. On a device, floats
/// are all NaN where a number is out of range.
pub fn segment_sum(x: &Tensor, segment_numbers: &Tensor, segments: usize) -> Result<Tensor> {
    if x.rank() == 0 || segment_numbers.dims() != &x.dims()[..1] {
        return Err(Error::shape("`segment_sum` needs a number for each slice along the first axis")
            .expected(format!("numbers of shape {:?}", &x.dims()[..x.rank().min(1)]))
            .found(format!("{:?}", segment_numbers.dims())));
    }
    let checked = checked("segment_sum", segment_numbers, segments, x)?;
    let shape = [&[segments], &x.dims()[1..]].concat();
    let values = wide(&checked.values(x)?)?;
    let zeros = size::zeros(shape, values.dtype(), x.device())?;
    let sums = added("segment_sum", &zeros, &checked.numbers, &values)?;
    checked.written(&sums.to_dtype(x.dtype())?)
}

/// `x` sorted along its last axis, and the indexes from which its elements come: `jnp.sort`. NaN is above all
/// numbers.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::sort;
///
/// let (y, indices) = sort(&Tensor::new(&[3f32, 1., 2.], &Device::Cpu)?, true)?;
/// assert_eq!((y.to_vec1::<f32>()?, indices.to_vec1::<u32>()?), (vec![1., 2., 3.], vec![1, 2, 0]));
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is a scalar.
pub fn sort(x: &Tensor, ascending: bool) -> Result<(Tensor, Tensor)> {
    if x.rank() == 0 {
        return Err(Error::shape("`sort` needs an axis").expected("at least one axis").found("a scalar"));
    }
    let indices = arg_sort(x, ascending)?;
    Ok((take(x, &indices.to_dtype(DType::I64)?, x.rank() - 1)?, indices))
}

/// The `k` largest elements along the last axis, from the largest on, and their indexes: `jax.lax.top_k`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::top_k;
///
/// let (y, indices) = top_k(&Tensor::new(&[3f32, 1., 2.], &Device::Cpu)?, 2)?;
/// assert_eq!((y.to_vec1::<f32>()?, indices.to_vec1::<u32>()?), (vec![3., 2.], vec![0, 2]));
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is a scalar, or its last axis has less than `k` elements.
pub fn top_k(x: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    let Some(&len) = x.dims().last() else {
        return Err(Error::shape("`top_k` needs an axis").expected("at least one axis").found("a scalar"));
    };
    if k > len {
        return Err(Error::argument("`top_k` asks for more elements than the last axis has")
            .expected(format!("at most {len}"))
            .found(k));
    }
    let indices = arg_sort(x, false)?.narrow(D::Minus1, 0, k)?.contiguous()?;
    Ok((take(x, &indices.to_dtype(DType::I64)?, x.rank() - 1)?, indices))
}

fn arg_sort(x: &Tensor, ascending: bool) -> candle_core::Result<Tensor> {
    if x.elem_count() == 0 {
        return Tensor::zeros(x.shape(), DType::U32, x.device()); // Candle panics
    }
    if !x.dtype().is_float() {
        return x.detach().contiguous()?.arg_sort_last_dim(ascending);
    }
    if !x.device().is_cpu() {
        return above_all_numbers(&x.detach())?.contiguous()?.arg_sort_last_dim(ascending);
    }
    // Candle panics where NaN is among many numbers. As in JAX, NaN is above all others; equals keep their order.
    let order =
        |a: &f64, b: &f64| a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let values = x.detach().flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let mut indices = Vec::with_capacity(values.len());
    for row in values.chunks(x.dim(D::Minus1)?) {
        let mut row_indices: Vec<u32> = (0..row.len() as u32).collect();
        row_indices.sort_by(|&a, &b| {
            let ascends = order(&row[a as usize], &row[b as usize]);
            if ascending { ascends } else { ascends.reverse() }
        });
        indices.extend(row_indices);
    }
    Tensor::from_vec(indices, x.shape(), &Device::Cpu)
}

/// `x` in `F64` with infinity in the place of NaN, and the largest finite number in that of infinity: Candle's kernel for
/// devices loses the order of a row with NaN. In `F64` the largest finite number and infinity count as equal.
fn above_all_numbers(x: &Tensor) -> candle_core::Result<Tensor> {
    let x = x.to_dtype(DType::F64)?;
    let full = |value: f64| x.zeros_like()?.affine(1., value);
    let finite = x.gt(f64::MAX)?.where_cond(&full(f64::MAX)?, &x)?;
    x.eq(&x)?.where_cond(&finite, &full(f64::INFINITY)?)
}

/// A number that a check needs.
#[track_caller]
fn to_host(x: &Tensor) -> Result<Tensor> {
    let instead = "call functions that check indexes outside of the step: a check reads the largest one back";
    transfer(x, &Device::Cpu, instead)
}

/// `x`, contiguous; half types in `f32`, in which they are summed.
fn wide(x: &Tensor) -> candle_core::Result<Tensor> {
    widened(x)?.contiguous()
}

/// `x` with `values` added at `indices` along the first axis.
fn added(name: &str, x: &Tensor, indices: &Tensor, values: &Tensor) -> Result<Tensor> {
    // Where integers overflow, Candle wraps or panics.
    let largest = match x.dtype() {
        DType::U8 => u8::MAX.into(),
        DType::I16 => i16::MAX.into(),
        DType::I32 => i32::MAX.into(),
        DType::U32 => u32::MAX.into(),
        DType::I64 => (1i64 << 62) as f64,
        _ => f64::INFINITY,
    };
    if largest.is_finite() && x.elem_count() > 0 {
        let magnitude = |x: &Tensor| x.to_dtype(DType::F64)?.abs();
        let sums = magnitude(x)?.index_add(indices, &magnitude(values)?, 0)?;
        if to_host(&sums.max_all()?)?.to_scalar::<f64>()? > largest {
            return Err(Error::argument(format!("a sum of `{name}` does not fit into its integers"))
                .expected(format!("magnitudes whose sum is at most {largest}"))
                .found(format!("`{}`", x.dtype().as_str()))
                .remedy("call `to_dtype` for a wider type before"));
        }
    }
    // Candle 0.11.1 on CUDA reads a view from its offset, also in the copy that it makes of it.
    let whole = if x.device().is_cpu() { x.clone() } else { x.force_contiguous()? };
    Ok(whole.index_add(indices, values, 0)?)
}

/// Indexes that are in range.
struct Indices {
    /// In `I64`.
    numbers: Tensor,
    /// Which of them were, if they stayed on a device.
    checked: Option<Checked>,
}

impl Indices {
    /// What is written: nothing at an index that is out of range.
    fn values(&self, values: &Tensor) -> Result<Tensor> {
        match &self.checked {
            Some(checked) if values.dims().starts_with(self.numbers.dims()) => checked.or_zero(values, 0),
            _ => Ok(values.clone()),
        }
    }

    /// What was written to: NaN if an index is out of range.
    fn written(&self, y: &Tensor) -> Result<Tensor> {
        self.checked.as_ref().map_or_else(|| Ok(y.clone()), |checked| checked.or_all_nan(y))
    }
}

/// `indices` into `len` elements of `x`, each checked to be from 0 to `len - 1`.
fn checked(name: &str, indices: &Tensor, len: usize, x: &Tensor) -> Result<Indices> {
    if !indices.dtype().is_int() {
        return Err(Error::argument(format!("`{name}` got indexes that are no integers"))
            .expected("an integer type, such as `u32`")
            .found(format!("`{}`", indices.dtype().as_str())));
    }
    if !indices.device().is_cpu() && x.dtype().is_float() && indices.elem_count() > 0 && len > 0 {
        let checked = Checked::new(indices, len, false)?;
        return Ok(Indices { numbers: checked.indices.clone(), checked: Some(checked) });
    }
    let indices = indices.to_dtype(DType::I64)?.contiguous()?;
    if indices.elem_count() > 0 {
        let [smallest, largest] = [indices.min_all()?, indices.max_all()?];
        let [smallest, largest] =
            [to_host(&smallest)?.to_scalar::<i64>()?, to_host(&largest)?.to_scalar::<i64>()?];
        if smallest < 0 || usize::try_from(largest).is_ok_and(|largest| largest >= len) {
            return Err(Error::argument(format!("`{name}` got an index that is out of range"))
                .expected(format!("0 to {}", len as i64 - 1))
                .found(if smallest < 0 { smallest } else { largest }));
        }
    }
    Ok(Indices { numbers: indices, checked: None })
}

/// The position of `axis`, and `indices` along it as `I64`, checked.
fn checked_along(name: &str, x: &Tensor, indices: &Tensor, axis: isize) -> Result<(usize, Indices)> {
    let misfit = |expected: String| {
        Error::shape(format!("`{name}` got indexes that do not fit"))
            .expected(expected)
            .found(format!("{:?}", indices.dims()))
    };
    let axis = position(axis, x.rank()).ok_or_else(|| misfit(format!("an axis {axis} in {:?}", x.dims())))?;
    let mut fitting = x.dims().to_vec();
    if let (Some(size), Some(own)) = (indices.dims().get(axis), fitting.get_mut(axis)) {
        *own = *size;
    }
    if indices.dims() != fitting {
        return Err(misfit(format!("the shape {:?} but for axis {axis}", x.dims())));
    }
    Ok((axis, checked(name, indices, x.dims()[axis], x)?))
}

/// The positions in the flat `x` of what `indices` along `axis` select.
fn flat_indices(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Tensor> {
    let count = |dims: &[usize]| dims.iter().product::<usize>();
    let (outer, inner) = (count(&x.dims()[..axis]), count(&x.dims()[axis + 1..]));
    let (len, device) = (x.dims()[axis], x.device());
    let rows = (arange(outer, device)? * (len * inner) as f64)?.reshape((outer, 1, 1))?;
    let columns = arange(inner, device)?.reshape((1, 1, inner))?;
    let start = rows.broadcast_add(&columns)?;
    let steps = (indices.reshape((outer, indices.dims()[axis], inner))? * inner as f64)?;
    Ok(steps.broadcast_add(&start)?.flatten_all()?)
}

fn flat_values(name: &str, indices: &Tensor, values: &Tensor) -> Result<Tensor> {
    if values.dims() != indices.dims() {
        return Err(Error::shape(format!("`{name}` needs an index for each value"))
            .expected(format!("indexes of shape {:?}", values.dims()))
            .found(format!("{:?}", indices.dims())));
    }
    Ok(values.flatten_all()?)
}

#[cfg(test)]
mod tests {
    use treex_core::autograd::bf16;

    use super::*;
    use crate::ops::testing::value_and_gradients;

    #[test]
    fn bad_indexes_are_errors() -> Result<()> {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let ids = |rows: &[[i64; 2]; 2]| Tensor::new(rows, &Device::Cpu);
        for (indices, axis) in [
            (ids(&[[0, 3], [0, 0]])?, 1),
            (ids(&[[0, -1], [0, 0]])?, 1),
            (ids(&[[0, 1], [0, 0]])?, 0),
            (ids(&[[0, 1], [0, 0]])?, 2),
            (ids(&[[0, 1], [0, 0]])?.to_dtype(DType::F32)?, 1),
        ] {
            assert!(take_along_axis(&x, &indices, axis).is_err(), "{indices} {axis}");
            let values = indices.to_dtype(DType::F32)?;
            assert!(scatter_add(&x, &indices, &values, axis).is_err(), "{indices} {axis}");
            assert!(scatter(&x, &indices, &values, axis).is_err(), "{indices} {axis}");
        }
        let same = ids(&[[1, 1], [0, 2]])?;
        assert!(
            scatter(&x, &same, &same.to_dtype(DType::F32)?, 1).unwrap_err().to_string().contains("one place")
        );
        assert!(segment_sum(&x, &Tensor::new(&[0u32, 4], &Device::Cpu)?, 4).is_err());
        assert!(top_k(&x, 4).is_err() && sort(&Tensor::new(1f32, &Device::Cpu)?, true).is_err());
        Ok(())
    }

    /// 5,000 ones, which bf16 cannot count one by one.
    #[test]
    fn half_types_are_summed_wide() -> Result<()> {
        let (n, one) = (5000, bf16::from_f32(1.));
        let indices = Tensor::zeros(n, DType::U32, &Device::Cpu)?;
        let ones = Tensor::full(one, n, &Device::Cpu)?;
        let exact = bf16::from_f32(5000.);
        assert_eq!(segment_sum(&ones, &indices, 1)?.to_vec1::<bf16>()?, [exact]);
        let zero = ones.narrow(0, 0, 1)?.zeros_like()?;
        assert_eq!(scatter_add(&zero, &indices, &ones, 0)?.to_vec1::<bf16>()?, [exact]);
        let gradients = value_and_gradients([&zero], |[x]| {
            let y = take_along_axis(x, &indices, 0)?;
            Ok(y.to_dtype(DType::F32)?.sum_all()?)
        })?;
        let of_one = value_and_gradients([&zero], |[x]| Ok(x.to_dtype(DType::F32)?.sum_all()?))?;
        assert!((gradients[1][0] / of_one[1][0] / 5000. - 1.).abs() < 4e-3, "{gradients:?} {of_one:?}");
        Ok(())
    }
}
