//! The sum of the products of two tensors, as one operation.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use treex_core::Result;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_kernels::fill::{Fill, collect};
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::reduce::{sums2, total2};

/// `Σ x y` over all elements, a scalar: `jnp.vdot(x, y)` of tensors of one shape, in one read of each; half
/// precisions add up in `F32`. With `y` constant, it is a weighted sum of `x`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// let (x, y) = (Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?, Tensor::new(&[4f32, 5., 6.], &Device::Cpu)?);
/// let dot = treex_nn::vdot(&x, &y)?;
/// assert_eq!(dot.dims(), [0; 0]);
/// assert_eq!(dot.to_scalar::<f32>()?, 32.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the shapes or the element types differ.
pub fn vdot(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let has_kernel = x.shape() == y.shape() && x.dtype() == y.dtype() && x.device().is_cpu();
    match x.dtype() {
        _ if is_reference() || !has_kernel => plain(x, y),
        DType::F32 => forward::<f32>(x, y),
        DType::F64 => forward::<f64>(x, y),
        DType::BF16 => forward::<bf16>(x, y),
        DType::F16 => forward::<f16>(x, y),
        _ => plain(x, y),
    }
}

fn plain(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let wide = |x: &Tensor| if x.dtype() == DType::F64 { Ok(x.clone()) } else { x.to_dtype(DType::F32) };
    Ok((wide(x)? * wide(y)?)?.sum_all()?.to_dtype(x.dtype())?)
}

fn forward<T: Element>(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (x_now, y_now) = (x.detach().contiguous()?, y.detach().contiguous()?);
    let sum =
        total2(&elements::<T>(&x_now)?, &elements::<T>(&y_now)?, |x, y| dispatch(Dot { x, y }).to_f64());
    let output = OwnedStorage::new(vec![T::narrow(T::Wide::of(sum))], ())?;
    attach(Vdot { x: x_now, y: y_now, element: PhantomData::<fn() -> T> }, &[x, y], output)
}

struct Vdot<T> {
    x: Tensor,
    y: Tensor,
    element: PhantomData<fn() -> T>,
}

impl<T: Element> Operation for Vdot<T> {
    fn name(&self) -> &'static str {
        "vdot"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let factor =
            elements::<T>(cx.cotangent()?)?.iter().map(|x| x.widen()).next().unwrap_or(T::Wide::of(0.));
        let gradient = |index: usize, other: &Tensor| -> Result<Option<Tensor>> {
            if !cx.wanted(index) {
                return Ok(None);
            }
            let other_now = elements::<T>(other)?;
            let scaled = collect(other_now.len(), &Scaled { x: &other_now, factor })?;
            Ok(Some(OwnedStorage::new(scaled, other.shape())?.into_tensor()))
        };
        Ok(vec![gradient(0, &self.y)?, gradient(1, &self.x)?])
    }
}

struct Dot<'a, T> {
    x: &'a [T],
    y: &'a [T],
}

impl<T: Element> Kernel for Dot<'_, T> {
    type Output = T::Wide;

    #[inline(always)]
    fn run(self) -> T::Wide {
        let [sum] = sums2(self.x, self.y, |x, y| [x.widen() * y.widen()]);
        sum
    }
}

struct Scaled<'a, T: Element> {
    x: &'a [T],
    factor: T::Wide,
}

// SAFETY: `x` has an element for every one of the piece.
unsafe impl<T: Element> Fill<T> for Scaled<'_, T> {
    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let x = &self.x[first..first + piece.len()];
        for (scaled, x) in piece.iter_mut().zip(x) {
            scaled.write(T::narrow(x.widen() * self.factor));
        }
    }
}
