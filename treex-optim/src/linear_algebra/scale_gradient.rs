//! Gradient scaling.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result as CandleResult, Shape, Tensor,
};
use treex_core::Result;

/// `x`, with its gradient multiplied by `scale`: -1 reverses it, as in adversarial training. Of a tree:
/// `tree.map(|x| scale_gradient(x, scale))`.
///
/// ```
/// # use candle_core::{Device, Var};
/// let x = Var::new(3f32, &Device::Cpu)?;
/// let y = treex_optim::linear_algebra::scale_gradient(&x, -0.5)?.sqr()?;
/// assert_eq!(y.to_scalar::<f32>()?, 9.);
/// assert_eq!(y.backward()?.get(&x).expect("x is in y").to_scalar::<f32>()?, -3.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If `x` does not hold floats.
pub fn scale_gradient(x: &Tensor, scale: f64) -> Result<Tensor> {
    Ok(x.apply_op1(ScaleGradient(scale))?)
}

struct ScaleGradient(f64);

/// A copy, on every device.
fn copy<S: BackendStorage>(storage: &S, layout: &Layout) -> CandleResult<(S, Shape)> {
    Ok((storage.affine(layout, 1., 0.)?, layout.shape().clone()))
}

impl CustomOp1 for ScaleGradient {
    fn name(&self) -> &'static str {
        "scale-gradient"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        copy(storage, layout)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> CandleResult<(CudaStorage, Shape)> {
        copy(storage, layout)
    }

    fn metal_fwd(&self, storage: &MetalStorage, layout: &Layout) -> CandleResult<(MetalStorage, Shape)> {
        copy(storage, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> CandleResult<Option<Tensor>> {
        Ok(Some((grad * self.0)?))
    }
}
