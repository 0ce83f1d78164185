//! The normalization of queries and keys.

use candle_core::{D, DType, Tensor};
use treex_core::{Leaf, Parameter, Result, TreeObject};

use crate::dtype::common_dtype;
use crate::initializers::ones;

/// What Flax puts before the scores if `normalize_qk` is set: a layer normalization over each head, with a
/// scale and without a bias, `y = (x - mean) / sqrt(var + 1e-6) · scale`, in `F32` at least.
#[derive(Clone, Debug, TreeObject)]
pub struct QkNorm {
    /// `[head_dim]`; ones.
    pub scale: Leaf<Parameter>,
}

impl QkNorm {
    pub(super) fn new(dtype: DType) -> Self {
        Self { scale: Leaf::unshaped(ones, dtype) }
    }

    pub(super) fn apply(&self, x: &Tensor, dtype: Option<DType>) -> Result<Tensor> {
        let scale = self.scale.infer(x.dim(D::Minus1)?)?;
        let dtype = common_dtype(dtype, [x, &scale]);
        let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let x = x.to_dtype(wide)?;
        let mean = x.mean_keepdim(D::Minus1)?;
        let var = (x.sqr()?.mean_keepdim(D::Minus1)? - mean.sqr()?)?.maximum(0.)?;
        let factor = (var + 1e-6)?.sqrt()?.recip()?.broadcast_mul(&scale.to_dtype(wide)?)?;
        Ok(x.broadcast_sub(&mean)?.mul(&factor)?.to_dtype(dtype)?)
    }
}
