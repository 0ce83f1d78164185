//! Functions that losses share, with correct gradients everywhere.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result as CandleResult, Shape, Tensor};
use treex_core::{Result, autograd};

/// `log(1 + exp(x))`, without overflow, and accurate for very negative `x`, in f32 and f64.
pub(crate) fn softplus(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && !autograd::is_reference() {
        return Ok(x.apply_op1(Softplus)?);
    }
    // At 0 Candle's derivatives are 1 for `relu` and for `abs`; combined they give 1/2, which is correct.
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.)?.log()?)?)
}

/// `log(sigmoid(x))`.
pub(crate) fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(softplus(&x.neg()?)?.neg()?)
}

/// `1 / (1 + exp(-x))`.
pub(crate) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(log_sigmoid(x)?.exp()?)
}

/// Candle has no `log1p`: with `log(1 + u)` a loss below 1e-8 would be 0 in f32.
struct Softplus;

impl CustomOp1 for Softplus {
    fn name(&self) -> &'static str {
        "softplus"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        use candle_core::cpu_backend::unary_map;
        let result = match storage {
            CpuStorage::F32(x) => {
                CpuStorage::F32(unary_map(x, layout, |x| x.max(0.) + (-x.abs()).exp().ln_1p()))
            }
            CpuStorage::F64(x) => {
                CpuStorage::F64(unary_map(x, layout, |x| x.max(0.) + (-x.abs()).exp().ln_1p()))
            }
            _ => candle_core::bail!("softplus computes in f32 and f64"),
        };
        Ok((result, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> CandleResult<Option<Tensor>> {
        let sigmoid = (x.neg()?.exp()? + 1.)?.recip()?;
        Ok(Some((grad * sigmoid)?))
    }
}

/// The maximum of each row, NaN if one of its elements is, wherever it stands: Candle's own misses some. Tied elements
/// share the gradient, as in JAX; with Candle's own maximum each gets all of it, so that equal scores, such as those
/// of a last layer of zeros, would get a multiple.
pub(crate) fn row_max(rows: &Tensor) -> Result<Tensor> {
    if rows.elem_count() == 0 {
        return Ok(rows.sum(D::Minus1)?);
    }
    let is_max = rows.broadcast_eq(&rows.detach().max_keepdim(D::Minus1)?)?;
    let is_max = (is_max + rows.ne(rows)?)?;
    let ties = is_max.to_dtype(rows.dtype())?.sum(D::Minus1)?;
    Ok((is_max.where_cond(rows, &rows.zeros_like()?)?.sum(D::Minus1)? / ties)?)
}
