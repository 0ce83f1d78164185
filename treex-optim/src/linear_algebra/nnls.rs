//! Non-negative least squares.

use candle_core::Tensor;
use treex_core::extrema::maximum;
use treex_core::size::check_size;
use treex_core::{Error, Result};

use super::floats;
use crate::constant::check_constant;
use crate::transfer::{to_f64, to_vec_f64};

/// The `x` that minimizes `norm(a x - b)` and has no negative element: `[m, n]`, `[m]` or `[m, k]` to `[n]`
/// or `[n, k]`, by so many iterations of Nesterov's accelerated gradient, projected.
///
/// Polyak, [Projected gradient method for non-negative least
/// square](https://www.ams.org/books/conm/636/), 2015.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let a = Tensor::new(&[[1f64, 2.], [3., 4.]], &Device::Cpu)?;
/// let b = Tensor::new(&[5f64, 6.], &Device::Cpu)?;
/// let x = treex_optim::linear_algebra::nnls(&a, &b, 1000)?.to_vec1::<f64>()?;
/// assert!(x[0] == 0. && (x[1] - 1.7).abs() < 1e-6);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If shapes do not fit, or tensors do not hold floats or are differentiated.
pub fn nnls(a: &Tensor, b: &Tensor, iters: usize) -> Result<Tensor> {
    nnls_with(a, b, iters, None)
}

/// [`nnls`] with an upper bound of the largest eigenvalue of `a^T a`; without one, the smaller of the
/// Frobenius norm and the largest sum of the absolute values of a column.
///
/// # Errors
/// As `nnls`.
pub fn nnls_with(a: &Tensor, b: &Tensor, iters: usize, bound: Option<f64>) -> Result<Tensor> {
    [a, b].into_iter().try_for_each(|x| check_constant("nnls", x))?;
    let wide = floats("nnls", "a matrix", a, 2)?;
    let (rows, n) = wide.dims2()?;
    let columns = floats("nnls", "a right side", b, b.rank())?.to_dtype(wide.dtype())?;
    let columns = match *b.dims() {
        [m] if m == rows => columns.unsqueeze(1)?,
        [m, _] if m == rows => columns,
        _ => {
            return Err(Error::shape("`nnls` got a right side that does not fit")
                .expected(format!("shape [{rows}] or [{rows}, k], as the matrix has rows"))
                .found(format!("{:?}", b.dims())));
        }
    };
    check_size(&(n, n.max(columns.dim(1)?)).into(), wide.dtype())?;
    let transposed = wide.t()?.contiguous()?;
    let (q, right) = (transposed.matmul(&wide)?, transposed.matmul(&columns.contiguous()?)?);
    let bound = match bound {
        Some(bound) if bound >= 0. => bound,
        Some(bound) => {
            return Err(Error::argument("the bound of `nnls` is out of range")
                .expected("at least 0")
                .found(bound));
        }
        None => {
            let frobenius = to_f64(&q.sqr()?.sum_all()?.sqrt()?)?;
            to_vec_f64(&q.abs()?.sum(0)?)?.into_iter().fold(0., f64::max).min(frobenius)
        }
    };
    let step = if bound == 0. { 1. } else { 1. / bound };
    let mut x = Tensor::zeros((n, columns.dim(1)?), wide.dtype(), wide.device())?;
    let (mut ahead, mut c) = (x.clone(), 0.);
    for _ in 0..iters {
        let next_c = (1. + f64::sqrt(1. + 4. * c * c)) / 2.;
        let next = (&ahead - ((q.matmul(&ahead)? - &right)? * step)?)?;
        let next = maximum(&next, 0.)?;
        ahead = (&next + ((&next - &x)? * ((c - 1.) / next_c))?)?;
        (x, c) = (next, next_c);
    }
    let x = if b.rank() == 1 { x.squeeze(1)? } else { x };
    Ok(x.to_dtype(a.dtype())?)
}
