//! Reductions of losses.

use candle_core::Tensor;
use treex_core::Result;

use super::check_floats;
use crate::numerics::wide;

/// The reduction of the losses of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// No reduction.
    None,
    /// Their sum.
    Sum,
    /// Their sum divided by their number, which treex in Python calls `SUM_OVER_BATCH_SIZE`.
    #[default]
    #[doc(alias = "SumOverBatchSize")]
    Mean,
}

impl Reduction {
    /// Reduces over everything; half types are summed in `F32`.
    ///
    /// # Errors
    /// If the losses are not floats.
    pub fn reduce(self, losses: &Tensor) -> Result<Tensor> {
        check_floats("reduce", "losses", losses)?;
        // Half types are summed in `F32` and rounded once.
        let wide = losses.to_dtype(wide(losses.dtype()))?;
        let reduced = match self {
            Self::None => return Ok(losses.clone()),
            Self::Sum => wide.sum_all()?,
            Self::Mean => wide.mean_all()?,
        };
        Ok(reduced.to_dtype(losses.dtype())?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    /// 5,000 ones, which no half type counts one by one; the numbers are those of `jnp.sum` and `jnp.mean`.
    #[test]
    fn half_types_are_summed_wide() -> Result<()> {
        for (dtype, sum) in [(DType::BF16, 4992.), (DType::F16, 5000.)] {
            let ones = Var::ones((50, 100), dtype, &Device::Cpu)?;
            for losses in
                [ones.as_tensor().clone(), ones.t()?, ones.narrow(1, 0, 1)?.broadcast_as((50, 100))?]
            {
                let of = |reduction: Reduction| {
                    reduction.reduce(&losses)?.to_dtype(DType::F64)?.to_scalar::<f64>()
                };
                assert_eq!((of(Reduction::Sum)?, of(Reduction::Mean)?), (sum, 1.), "{dtype:?}");
            }
            let grads = Reduction::Sum.reduce(&ones)?.backward()?;
            let grad = grads.get(&ones).expect("it depends on all").to_dtype(DType::F64)?;
            assert_eq!(grad.sum_all()?.to_scalar::<f64>()?, 5000.);
        }
        Ok(())
    }
}
