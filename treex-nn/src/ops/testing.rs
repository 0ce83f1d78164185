//! What the unit tests of the operations share.

use candle_core::{DType, Tensor, Var};
use treex_core::{Key, Result};

/// `y = f(inputs)` and the gradient of `Σ y · weights` with respect to each input, flat, in `F64`; zeros where `y` does
/// not depend on the input. The weights are the same numbers in every float type.
pub(crate) fn value_and_gradients<const N: usize>(
    inputs: [&Tensor; N],
    f: impl FnOnce([&Tensor; N]) -> Result<Tensor>,
) -> Result<Vec<Vec<f64>>> {
    let vars = inputs.into_iter().map(Var::from_tensor).collect::<candle_core::Result<Vec<_>>>()?;
    let y = f(std::array::from_fn(|at| vars[at].as_tensor()))?;
    let weights = Key::from(9).normal(y.shape(), DType::F32)?.to_dtype(DType::BF16)?.to_dtype(y.dtype())?;
    let gradients = (&y * weights)?.sum_all()?.backward()?;
    let mut all = vec![flat(&y)?];
    for var in &vars {
        all.push(gradients.get(var).map_or_else(|| Ok(vec![0.; var.elem_count()]), flat)?);
    }
    Ok(all)
}

fn flat(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}
