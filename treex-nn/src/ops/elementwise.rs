//! Functions of one number, element by element, as one operation: one pass over memory forward, and one backward
//! that computes the derivative again from the input.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use treex_core::Result;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_kernels::fill::{Fill, collect};
use treex_kernels::math::Real;

/// A function and its derivative; both `#[inline(always)]`.
pub(crate) trait Function: Copy + Send + Sync + 'static {
    /// How errors call it.
    const NAME: &'static str;

    /// The value at `x`.
    fn value<R: Real>(self, x: R) -> R;
    /// The derivative at `x`: at corners, JAX's.
    fn derivative<R: Real>(self, x: R) -> R;
}

/// `function` of each element. `plain` is the same by Candle's operations.
pub(crate) fn map<F: Function>(
    function: F,
    x: &Tensor,
    plain: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    match x.dtype() {
        _ if is_reference() || !x.device().is_cpu() => plain(x),
        DType::F32 => forward::<f32, F>(function, x),
        DType::F64 => forward::<f64, F>(function, x),
        DType::BF16 => forward::<bf16, F>(function, x),
        DType::F16 => forward::<f16, F>(function, x),
        _ => plain(x),
    }
}

fn forward<T: Element, F: Function>(function: F, x: &Tensor) -> Result<Tensor> {
    let now = x.detach().contiguous()?;
    let y = {
        let x = elements::<T>(&now)?;
        collect(x.len(), &Value { function, x: &x })?
    };
    attach(
        Map { function, x: now, element: PhantomData::<fn() -> T> },
        &[x],
        OwnedStorage::new(y, x.shape())?,
    )
}

struct Map<F, T> {
    function: F,
    x: Tensor,
    element: PhantomData<fn() -> T>,
}

impl<F: Function, T: Element> Operation for Map<F, T> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let gradient = cx.cotangent()?.contiguous()?;
        let dx = {
            let (x, dy) = (elements::<T>(&self.x)?, elements::<T>(&gradient)?);
            collect(x.len(), &Derivative { function: self.function, x: &x, dy: &dy })?
        };
        Ok(vec![Some(OwnedStorage::new(dx, self.x.shape())?.into_tensor())])
    }
}

struct Value<'a, F, T> {
    function: F,
    x: &'a [T],
}

// SAFETY: `x` has an element for every one of the piece.
unsafe impl<F: Function, T: Element> Fill<T> for Value<'_, F, T> {
    const PARALLEL: usize = 1 << 15;

    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let x = &self.x[first..first + piece.len()];
        for (y, x) in piece.iter_mut().zip(x) {
            y.write(T::narrow(self.function.value(x.widen())));
        }
    }
}

struct Derivative<'a, F, T> {
    function: F,
    x: &'a [T],
    dy: &'a [T],
}

// SAFETY: `x` and `dy` have an element for every one of the piece.
unsafe impl<F: Function, T: Element> Fill<T> for Derivative<'_, F, T> {
    const PARALLEL: usize = 1 << 15;

    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let range = first..first + piece.len();
        for ((dx, x), dy) in piece.iter_mut().zip(&self.x[range.clone()]).zip(&self.dy[range]) {
            dx.write(T::narrow(self.function.derivative(x.widen()) * dy.widen()));
        }
    }
}

/// `max(x, 0)`.
#[derive(Clone, Copy)]
pub(crate) struct Relu;

impl Function for Relu {
    const NAME: &'static str = "relu";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        // What is not a number stays so.
        if x <= R::of(0.) { R::of(0.) } else { x }
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        R::of(if x > R::of(0.) { 1. } else { 0. })
    }
}

/// `min(max(x, 0), 6)`.
#[derive(Clone, Copy)]
pub(crate) struct Relu6;

impl Function for Relu6 {
    const NAME: &'static str = "relu6";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        let y = Relu.value(x);
        if y >= R::of(6.) { R::of(6.) } else { y }
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        R::of(if x > R::of(0.) && x < R::of(6.) { 1. } else { 0. })
    }
}

/// `x` where not negative, else `slope x`.
#[derive(Clone, Copy)]
pub(crate) struct LeakyRelu(pub(crate) f64);

impl Function for LeakyRelu {
    const NAME: &'static str = "leaky_relu";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        if x >= R::of(0.) { x } else { x * R::of(self.0) }
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        R::of(if x >= R::of(0.) { 1. } else { self.0 })
    }
}

/// `x` where positive, else `alpha (exp(x) - 1)`.
#[derive(Clone, Copy)]
pub(crate) struct Elu(pub(crate) f64);

impl Function for Elu {
    const NAME: &'static str = "elu";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        let below = x.exp_m1() * R::of(self.0);
        if x > R::of(0.) { x } else { below }
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        let below = x.exp() * R::of(self.0);
        if x > R::of(0.) { R::of(1.) } else { below }
    }
}

/// `x (1 + tanh(c (x + 0.044715 x³))) / 2` with `c = sqrt(2 / π)`, which is `x sigmoid(2 c (x + 0.044715 x³))`.
#[derive(Clone, Copy)]
pub(crate) struct Gelu;

impl Gelu {
    const SCALE: f64 = 1.595_769_121_605_730_8;
    const CUBE: f64 = 0.044_715;
}

impl Function for Gelu {
    const NAME: &'static str = "gelu";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        let inner = x * R::of(Self::SCALE) * (x * x).mul_add(R::of(Self::CUBE), R::of(1.));
        x * inner.sigmoid()
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        let square = x * x;
        let inner = x * R::of(Self::SCALE) * square.mul_add(R::of(Self::CUBE), R::of(1.));
        let slope = R::of(Self::SCALE) * square.mul_add(R::of(3. * Self::CUBE), R::of(1.));
        let s = inner.sigmoid();
        // Far out, 0 times what is infinite would not be a number.
        let bend = s * (R::of(1.) - s);
        let bend = if bend > R::of(0.) { x * slope * bend } else { bend };
        s + bend
    }
}

/// `x sigmoid(x)`.
#[derive(Clone, Copy)]
pub(crate) struct Silu;

impl Function for Silu {
    const NAME: &'static str = "silu";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        x * x.sigmoid()
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        let s = x.sigmoid();
        let bend = s * (R::of(1.) - s);
        let bend = if bend > R::of(0.) { x * bend } else { bend };
        s + bend
    }
}

/// `1 / (1 + exp(-x))`.
#[derive(Clone, Copy)]
pub(crate) struct Sigmoid;

impl Function for Sigmoid {
    const NAME: &'static str = "sigmoid";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        x.sigmoid()
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        x.sigmoid() * (-x).sigmoid()
    }
}

/// The hyperbolic tangent.
#[derive(Clone, Copy)]
pub(crate) struct Tanh;

impl Function for Tanh {
    const NAME: &'static str = "tanh";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        x.tanh()
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        // 1 - tanh² loses its digits where tanh is near 1.
        let twice = x + x;
        R::of(4.) * twice.sigmoid() * (-twice).sigmoid()
    }
}

/// `log(1 + exp(x))`.
#[derive(Clone, Copy)]
pub(crate) struct Softplus;

impl Function for Softplus {
    const NAME: &'static str = "softplus";

    #[inline(always)]
    fn value<R: Real>(self, x: R) -> R {
        let positive = if x < R::of(0.) { R::of(0.) } else { x };
        positive + (-x.abs()).exp().ln_1p()
    }

    #[inline(always)]
    fn derivative<R: Real>(self, x: R) -> R {
        x.sigmoid()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Every function at many places: derivatives by central differences in f64, and f32 against f64.
    #[test]
    fn derivatives_are_slopes_and_types_agree() -> Result<()> {
        fn check<F: Function>(f: F) -> Result<()> {
            let places: Vec<f64> = (-400..400).map(|i| f64::from(i) * 0.0413 + 0.007).collect();
            let slopes = places.iter().map(|&x| (f.value(x + 1e-6) - f.value(x - 1e-6)) / 2e-6);
            let both = |dtype: DType| -> Result<[Vec<f64>; 2]> {
                let x = Var::from_tensor(&Tensor::new(places.as_slice(), &Device::Cpu)?.to_dtype(dtype)?)?;
                let y = map(f, &x, |_| unreachable!("it has a kernel"))?;
                let dx = y.sum_all()?.backward()?.remove(&x).ok_or(candle_core::Error::msg("no gradient"))?;
                let numbers = |x: &Tensor| x.to_dtype(DType::F64)?.to_vec1::<f64>();
                Ok([numbers(&y)?, numbers(&dx)?])
            };
            let [_, dx] = both(DType::F64)?;
            for ((x, slope), dx) in places.iter().zip(slopes).zip(&dx) {
                assert!((slope - dx).abs() < 1e-8, "{}'({x}) is {slope}, not {dx}", F::NAME);
            }
            for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F16, 2e-3), (DType::BF16, 1e-2)] {
                // At the places that the type has.
                let rounded = Tensor::new(places.as_slice(), &Device::Cpu)?.to_dtype(dtype)?;
                let rounded = rounded.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                let exact =
                    rounded.iter().map(|&x| f.value(x)).chain(rounded.iter().map(|&x| f.derivative(x)));
                for (ours, exact) in both(dtype)?.iter().flatten().zip(exact) {
                    let bound = tolerance * exact.abs().max(1.);
                    assert!((ours - exact).abs() < bound, "{} in {dtype:?}: {ours} {exact}", F::NAME);
                }
            }
            Ok(())
        }
        check(Relu)?;
        check(Relu6)?;
        check(LeakyRelu(0.1))?;
        check(Elu(1.3))?;
        check(Gelu)?;
        check(Silu)?;
        check(Sigmoid)?;
        check(Tanh)?;
        check(Softplus)
    }

    /// At the ends of the numbers there are limits, not what is not a number.
    #[test]
    fn limits() {
        let ends = [f64::NEG_INFINITY, f64::INFINITY];
        assert_eq!(ends.map(|x| Gelu.derivative(x)), [0., 1.]);
        assert_eq!(ends.map(|x| Silu.derivative(x)), [0., 1.]);
        assert_eq!(ends.map(|x| Tanh.derivative(x as f32)), [0., 0.]);
        assert_eq!(ends.map(|x| Softplus.value(x as f32)), [0., f32::INFINITY]);
        assert_eq!(ends.map(|x| Elu(2.).value(x as f32)), [-2., f32::INFINITY]);
        assert!(Relu.value(f32::NAN).is_nan() && Elu(1.).value(f32::NAN).is_nan());
    }
}
