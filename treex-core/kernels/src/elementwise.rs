//! Functions of one number, element by element: one pass over memory forward, and one backward that computes the
//! derivative again from the input.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::expression::Expression;
use crate::fill::{Fill, collect};
use crate::float::Float;
use crate::number::{Lane, Number};

/// A function of one number. At corners its derivative is JAX's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Elementwise {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` where not negative, else `slope * x`.
    LeakyRelu(f64),
    /// `x` where positive, else `alpha * (exp(x) - 1)`.
    Elu(f64),
    /// `x (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))) / 2`.
    Gelu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `log(1 + exp(x))`.
    Softplus,
}

/// Evaluates `$run` with the function of its own type, for which loops are compiled.
macro_rules! with_type {
    ($function:expr, $name:ident => $run:expr) => {
        match $function {
            Elementwise::Relu => with_type!(@ Relu, $name, $run),
            Elementwise::Relu6 => with_type!(@ Relu6, $name, $run),
            Elementwise::LeakyRelu(slope) => with_type!(@ LeakyRelu(slope), $name, $run),
            Elementwise::Elu(alpha) => with_type!(@ Elu(alpha), $name, $run),
            Elementwise::Gelu => with_type!(@ Gelu, $name, $run),
            Elementwise::Silu => with_type!(@ Silu, $name, $run),
            Elementwise::Sigmoid => with_type!(@ Sigmoid, $name, $run),
            Elementwise::Tanh => with_type!(@ Tanh, $name, $run),
            Elementwise::Softplus => with_type!(@ Softplus, $name, $run),
        }
    };
    (@ $value:expr, $name:ident, $run:expr) => {{
        let $name = $value;
        $run
    }};
}

impl Elementwise {
    /// Its name in errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::LeakyRelu(_) => "leaky_relu",
            Self::Elu(_) => "elu",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
        }
    }

    /// The number that distinguishes functions of one name.
    #[must_use]
    pub fn option(self) -> f64 {
        match self {
            Self::LeakyRelu(option) | Self::Elu(option) => option,
            _ => 0.,
        }
    }

    /// The value at input 0, traced.
    #[must_use]
    pub fn traced(self) -> Expression {
        with_type!(self, function => function.value(Expression::input(0)))
    }

    /// The gradient at input 0 for that of the value, input 1, traced.
    #[must_use]
    pub fn traced_gradient(self) -> Expression {
        with_type!(self, function => function.gradient(Expression::input(0), Expression::input(1)))
    }
}

/// The kernel for devices, of [all elements](crate::dialect::EACH), with `IS_BACKWARD` defined. `CONSTANTS`, `STATEMENTS` and
/// `RESULTS` stand for what is [printed](crate::expression::Source) of the function.
pub const DIALECT: &str = include_str!("elementwise.h");

entry_points! {
    /// Elementwise functions of arrays.
    pub trait ElementwiseKernels: Float for [f32, f64, bf16, f16] {
        /// `function(x)`.
        ///
        /// # Errors
        /// If memory cannot be allocated.
        fn map(function: Elementwise, x: &[Self]) -> Result<Vec<Self>> = map;

        /// `function'(x) * dy`.
        ///
        /// # Errors
        /// If the lengths differ, or memory cannot be allocated.
        fn map_backward(function: Elementwise, x: &[Self], dy: &[Self]) -> Result<Vec<Self>> = map_backward;
    }
}

fn map<T: Float>(function: Elementwise, x: &[T]) -> Result<Vec<T>> {
    with_type!(function, function => collect(x.len(), &Value { function, x }))
}

fn map_backward<T: Float>(function: Elementwise, x: &[T], dy: &[T]) -> Result<Vec<T>> {
    if x.len() != dy.len() {
        return Err(Error::shape("a gradient has as many elements as its input", x.len(), dy.len()));
    }
    with_type!(function, function => collect(x.len(), &Derivative { function, x, dy }))
}

/// A function and its derivative, of any [`Number`]; all `#[inline(always)]`.
trait Derivable: Copy + Sync {
    /// The value at `x`.
    fn value<N: Number>(self, x: N) -> N;
    /// The derivative at `x`: at corners, JAX's.
    fn derivative<N: Number>(self, x: N) -> N;
    /// The derivative times the gradient of the value, as JAX's: what it selects is 0 elsewhere, also if `dy` is infinite.
    #[inline(always)]
    fn gradient<N: Number>(self, x: N, dy: N) -> N {
        self.derivative(x) * dy
    }
}

struct Value<'a, F, T> {
    function: F,
    x: &'a [T],
}

// SAFETY: `x` has an element for each one of the piece.
unsafe impl<F: Derivable, T: Float> Fill<T> for Value<'_, F, T> {
    const PARALLEL: usize = 1 << 15;

    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let x = &self.x[first..first + piece.len()];
        for (y, x) in piece.iter_mut().zip(x) {
            y.write(T::narrow(self.function.value(Lane(x.widen())).0));
        }
    }
}

struct Derivative<'a, F, T> {
    function: F,
    x: &'a [T],
    dy: &'a [T],
}

// SAFETY: `x` and `dy` have an element for each one of the piece.
unsafe impl<F: Derivable, T: Float> Fill<T> for Derivative<'_, F, T> {
    const PARALLEL: usize = 1 << 15;

    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let range = first..first + piece.len();
        for ((dx, x), dy) in piece.iter_mut().zip(&self.x[range.clone()]).zip(&self.dy[range]) {
            dx.write(T::narrow(self.function.gradient(Lane(x.widen()), Lane(dy.widen())).0));
        }
    }
}

/// `max(x, 0)`.
#[derive(Clone, Copy)]
struct Relu;

impl Derivable for Relu {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        // NaN stays NaN.
        x.clone().if_at_most(N::constant(0.), N::constant(0.), x)
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        self.gradient(x, N::constant(1.))
    }

    #[inline(always)]
    fn gradient<N: Number>(self, x: N, dy: N) -> N {
        N::constant(0.).if_less(x, dy, N::constant(0.))
    }
}

/// `min(max(x, 0), 6)`.
#[derive(Clone, Copy)]
struct Relu6;

impl Derivable for Relu6 {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        let y = Relu.value(x);
        N::constant(6.).if_at_most(y.clone(), N::constant(6.), y)
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        self.gradient(x, N::constant(1.))
    }

    #[inline(always)]
    fn gradient<N: Number>(self, x: N, dy: N) -> N {
        let above = N::constant(0.).if_less(x.clone(), dy, N::constant(0.));
        x.if_less(N::constant(6.), above, N::constant(0.))
    }
}

/// `x` where not negative, else `slope x`.
#[derive(Clone, Copy)]
struct LeakyRelu(f64);

impl Derivable for LeakyRelu {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        N::constant(0.).if_at_most(x.clone(), x.clone(), x * self.0)
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        N::constant(0.).if_at_most(x, N::constant(1.), N::constant(self.0))
    }
}

/// `x` where positive, else `alpha (exp(x) - 1)`.
#[derive(Clone, Copy)]
struct Elu(f64);

impl Derivable for Elu {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        let below = x.clone().exp_m1() * self.0;
        N::constant(0.).if_less(x.clone(), x, below)
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        let below = x.clone().exp() * self.0;
        N::constant(0.).if_less(x, N::constant(1.), below)
    }
}

/// `x (1 + tanh(c (x + 0.044715 x³))) / 2` with `c = sqrt(2 / π)`, which is `x sigmoid(2 c (x + 0.044715 x³))`.
#[derive(Clone, Copy)]
struct Gelu;

impl Gelu {
    const SCALE: f64 = 1.595_769_121_605_730_8;
    const CUBE: f64 = 0.044_715;

    /// `2 c x (1 + factor x²)`, if `x` is given, otherwise without it.
    #[inline(always)]
    fn polynomial<N: Number>(start: N, square: N, factor: f64) -> N {
        start * square.mul_add(N::constant(factor), N::constant(1.))
    }
}

impl Derivable for Gelu {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        let inner = Self::polynomial(x.clone() * Self::SCALE, x.clone().sqr(), Self::CUBE);
        x * inner.sigmoid()
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        let square = x.clone().sqr();
        let inner = Self::polynomial(x.clone() * Self::SCALE, square.clone(), Self::CUBE);
        let slope = Self::polynomial(N::constant(Self::SCALE), square, 3. * Self::CUBE);
        let s = inner.sigmoid();
        s.clone() + bend(s, x * slope)
    }
}

/// `factor s (1 - s)`; far out, where the rest is 0, not 0 times what is infinite.
#[inline(always)]
fn bend<N: Number>(s: N, factor: N) -> N {
    let bend = s.clone() * (N::constant(1.) - s);
    N::constant(0.).if_less(bend.clone(), factor * bend.clone(), bend)
}

/// `x sigmoid(x)`.
#[derive(Clone, Copy)]
struct Silu;

impl Derivable for Silu {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        x.clone() * x.sigmoid()
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        let s = x.clone().sigmoid();
        s.clone() + bend(s, x)
    }
}

/// `1 / (1 + exp(-x))`.
#[derive(Clone, Copy)]
struct Sigmoid;

impl Derivable for Sigmoid {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        x.sigmoid()
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        x.clone().sigmoid() * (-x).sigmoid()
    }
}

/// The hyperbolic tangent.
#[derive(Clone, Copy)]
struct Tanh;

impl Derivable for Tanh {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        x.tanh()
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        // 1 - tanh² loses its digits where tanh is near 1.
        let twice = x.clone() + x;
        twice.clone().sigmoid() * (-twice).sigmoid() * 4.
    }
}

/// `log(1 + exp(x))`.
#[derive(Clone, Copy)]
struct Softplus;

impl Derivable for Softplus {
    #[inline(always)]
    fn value<N: Number>(self, x: N) -> N {
        let positive = x.clone().if_less(N::constant(0.), N::constant(0.), x.clone());
        positive + (-x.abs()).exp().ln_1p()
    }

    #[inline(always)]
    fn derivative<N: Number>(self, x: N) -> N {
        x.sigmoid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Real;

    /// As by JAX's selections, an infinite gradient meets no 0.
    #[test]
    fn a_gradient_that_is_not_selected_is_0() -> Result<()> {
        let x = [f32::NEG_INFINITY, -1., 0., 1., 7., f32::INFINITY, f32::NAN];
        let dy = [f32::INFINITY; 7];
        let inf = f32::INFINITY;
        assert_eq!(f32::map_backward(Elementwise::Relu, &x, &dy)?, [0., 0., 0., inf, inf, inf, 0.]);
        assert_eq!(f32::map_backward(Elementwise::Relu6, &x, &dy)?, [0., 0., 0., inf, 0., 0., 0.]);
        Ok(())
    }

    const ALL: [Elementwise; 9] = [
        Elementwise::Relu,
        Elementwise::Relu6,
        Elementwise::LeakyRelu(0.1),
        Elementwise::Elu(1.3),
        Elementwise::Gelu,
        Elementwise::Silu,
        Elementwise::Sigmoid,
        Elementwise::Tanh,
        Elementwise::Softplus,
    ];

    fn points() -> Vec<f64> {
        (-400..400).map(|i| f64::from(i) * 0.0413 + 0.007).collect()
    }

    #[test]
    fn derivatives_are_central_differences() -> Result<()> {
        for function in ALL {
            let at =
                |offset: f64| f64::map(function, &points().iter().map(|x| x + offset).collect::<Vec<_>>());
            let dx = f64::map_backward(function, &points(), &vec![1.; points().len()])?;
            for (((above, below), dx), x) in at(1e-6)?.iter().zip(at(-1e-6)?).zip(dx).zip(points()) {
                let slope = (above - below) / 2e-6;
                assert!((slope - dx).abs() < 1e-8, "{}'({x}) is {slope}, not {dx}", function.name());
            }
        }
        Ok(())
    }

    /// Against `f64`, at points that the type can represent.
    #[test]
    fn element_types_agree() -> Result<()> {
        fn check<T: ElementwiseKernels>(tolerance: f64) -> Result<()> {
            let x: Vec<T> = points().iter().map(|&x| T::narrow(T::Wide::of(x))).collect();
            let exact: Vec<f64> = x.iter().map(|x| x.widen().to_f64()).collect();
            let ones = (vec![T::narrow(T::Wide::of(1.)); x.len()], vec![1.; x.len()]);
            for function in ALL {
                let found = [T::map(function, &x)?, T::map_backward(function, &x, &ones.0)?].concat();
                let expected =
                    [f64::map(function, &exact)?, f64::map_backward(function, &exact, &ones.1)?].concat();
                for (found, expected) in found.iter().zip(expected) {
                    let found = found.widen().to_f64();
                    let bound = tolerance * expected.abs().max(1.);
                    assert!((found - expected).abs() < bound, "{}: {found} {expected}", function.name());
                }
            }
            Ok(())
        }
        check::<f32>(2e-6)?;
        check::<f16>(2e-3)?;
        check::<bf16>(1e-2)
    }

    /// At infinite inputs there are limits, not NaN.
    #[test]
    fn limits() {
        let ends = [f64::NEG_INFINITY, f64::INFINITY];
        assert_eq!(ends.map(|x| Gelu.derivative(Lane(x)).0), [0., 1.]);
        assert_eq!(ends.map(|x| Silu.derivative(Lane(x)).0), [0., 1.]);
        assert_eq!(ends.map(|x| Tanh.derivative(Lane(x as f32)).0), [0., 0.]);
        assert_eq!(ends.map(|x| Softplus.value(Lane(x as f32)).0), [0., f32::INFINITY]);
        assert_eq!(ends.map(|x| Elu(2.).value(Lane(x as f32)).0), [-2., f32::INFINITY]);
        assert!(Relu.value(Lane(f32::NAN)).0.is_nan() && Elu(1.).value(Lane(f32::NAN)).0.is_nan());
    }
}
