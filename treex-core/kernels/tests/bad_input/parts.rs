//! What kernels are made of: memory, threads, windows, reductions, numbers.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use treex_kernels::expression::{Expression, Source};
use treex_kernels::fill;
use treex_kernels::float::{Float as _, bf16, f16};
use treex_kernels::gather_gemm::{Offsets as _, Strided, max_width};
use treex_kernels::isa;
use treex_kernels::log_sum_exp::LogSumExp;
use treex_kernels::math::Real;
use treex_kernels::number::{Lane, Number};
use treex_kernels::output::Output;
use treex_kernels::parallel::{self, Shared};
use treex_kernels::random::bernoulli::Bernoulli;
use treex_kernels::random::sampler::Samples;
use treex_kernels::random::threefry;
use treex_kernels::reduce;
use treex_kernels::window::Axis;
use treex_kernels::xla_math;

use crate::{ABSURD, HALF, Row, refused, too_large};

const MAX: usize = usize::MAX;

/// A function of one number that no number makes panic, and that is NaN for NaN.
fn keeps_nan(f: impl Fn(Lane<f64>) -> Lane<f64>) {
    for x in SPECIAL {
        let y = f(Lane(x)).0;
        assert!(!x.is_nan() || y.is_nan(), "{x} {y}");
    }
}

pub(crate) const ROWS: &[Row] = &[
    ("fill::Fill::check", || {
        use treex_kernels::fill::Fill as _;
        assert!(samples(&[(); 3]).check(3).is_ok());
        refused(samples(&[(); 3]).check(4));
        refused(samples(&[]).check(MAX));
    }),
    ("fill::collect", || {
        refused(fill::collect(4, &samples(&[(); 3])));
        refused(fill::collect(MAX, &samples(&[(); 3])));
        too_large(fill::collect(MAX, &samples(&[(); MAX])));
        too_large(fill::collect(ABSURD, &samples(&[(); MAX])));
        assert!(fill::collect(0, &samples(&[])).is_ok_and(|all| all.is_empty()));
        let past_the_end = Samples { start: u64::MAX, ..samples(&[(); 3]) };
        assert_eq!(
            fill::collect(3, &past_the_end).unwrap()[1..],
            fill::collect(2, &samples(&[(); 2])).unwrap()
        );
    }),
    ("fill::overwrite", || {
        let mut buffer = [7; 4];
        refused(fill::overwrite(&mut buffer, &samples(&[(); 3])));
        refused(fill::overwrite(&mut buffer, &samples(&[])));
        assert_eq!(buffer, [7; 4]);
    }),
    ("float::Float::narrow", || {
        for x in SPECIAL {
            let _ = (bf16::narrow(x as f32), f16::narrow(x as f32), f32::narrow(x as f32), f64::narrow(x));
        }
    }),
    ("float::Float::widen", || {
        for bits in [0, 1, 0x7C00, 0x7F80, 0x7FFF, 0x8000, 0xFC00, 0xFFFF] {
            let _ = (bf16::from_bits(bits).widen(), f16::from_bits(bits).widen());
        }
    }),
    ("gather_gemm::Offsets::count", || {
        assert_eq!(Strided { count: MAX, step: MAX }.count(), MAX);
        assert_eq!((&[MAX; 3][..]).count(), 3);
    }),
    ("gather_gemm::max_width", || assert!(max_width::<f32>(true) > 0 && max_width::<f64>(false) > 0)),
    ("isa::prefetch", || isa::prefetch(ptr::null::<f32>())),
    ("log_sum_exp::LogSumExp::log_softmax", || {
        assert!(LogSumExp { largest: f32::NAN, log_sum: f32::INFINITY }.log_softmax(1.).is_nan());
    }),
    ("log_sum_exp::LogSumExp::of", || {
        let LogSumExp { largest, log_sum } = LogSumExp::<f32>::of::<f32>(&[]);
        assert_eq!([largest, log_sum], [f32::NEG_INFINITY; 2]);
    }),
    ("math::Real::abs", || of_specials(f32::abs, f64::abs)),
    ("math::Real::exp", || of_specials(Real::exp, Real::exp)),
    ("math::Real::exp_m1", || of_specials(Real::exp_m1, Real::exp_m1)),
    ("math::Real::ln", || of_specials(Real::ln, Real::ln)),
    ("math::Real::ln_1p", || of_specials(Real::ln_1p, Real::ln_1p)),
    ("math::Real::max", || of_specials(|x| Real::max(x, -x), |x| Real::max(x, -x))),
    ("math::Real::mul_add", || of_specials(|x| Real::mul_add(x, x, x), |x| Real::mul_add(x, x, x))),
    ("math::Real::of", || {
        for x in SPECIAL {
            let _ = (<f32 as Real>::of(x), <f64 as Real>::of(x));
        }
    }),
    ("math::Real::powf", || of_specials(|x| x.powf(0.5), |x| x.powf(0.5))),
    ("math::Real::sigmoid", || of_specials(Real::sigmoid, Real::sigmoid)),
    ("math::Real::sqrt", || of_specials(Real::sqrt, Real::sqrt)),
    ("math::Real::tanh", || of_specials(Real::tanh, Real::tanh)),
    ("math::Real::to_f64", || of_specials(|x| x.to_f64() as f32, Real::to_f64)),
    ("output::Output::new", || {
        [MAX, HALF, ABSURD].into_iter().for_each(|len| too_large(Output::<f32>::new(len)))
    }),
    ("parallel::Shared::at", || {
        // An address, which is not read.
        let _ = Shared::new(ptr::null_mut::<f64>()).at(MAX);
    }),
    ("parallel::Shared::new", || {
        let _ = Shared::new(ptr::null_mut::<f64>());
    }),
    ("parallel::for_each", || parallel::for_each(0, true, &|_| unreachable!("no index"))),
    ("parallel::map", || {
        for parallel in [false, true] {
            [MAX, HALF, ABSURD]
                .into_iter()
                .for_each(|count| too_large(parallel::map(count, parallel, |index| index)));
            assert_eq!(parallel::map(0, parallel, |index| index), Ok(vec![]));
        }
    }),
    ("parallel::pieces", || {
        for len in [0, MAX] {
            let calls = AtomicUsize::new(0);
            let count = |_: usize, _: &mut [u8]| {
                calls.fetch_add(1, Ordering::Relaxed);
            };
            parallel::pieces(&mut [], len, true, count);
            parallel::pieces(&mut [0; 3], len, true, count);
            // Documented: a length of 0 is 1.
            assert_eq!(calls.into_inner(), if len == 0 { 3 } else { 1 });
        }
    }),
    ("parallel::pieces2", || {
        let calls = AtomicUsize::new(0);
        let count = |_: usize, _: &mut [u8], _: &mut [u16]| {
            calls.fetch_add(1, Ordering::Relaxed);
        };
        parallel::pieces2((&mut [0; 3], 0), (&mut [0; 5], 2), true, count);
        parallel::pieces2((&mut [0; 3], 1), (&mut [], MAX), true, count);
        assert_eq!(calls.into_inner(), 3);
    }),
    ("parallel::share", || {
        // Each thread takes one of more indices than there is time for.
        for parallel in [false, true] {
            parallel::share(MAX, parallel, &|mut range| {
                range.next();
            });
        }
    }),
    ("expression::Expression::as_multiple_of", || {
        assert_eq!(Expression::input(usize::MAX).as_multiple_of(usize::MAX), None);
    }),
    ("expression::Expression::as_sum_with", || {
        assert!(Expression::input(0).as_sum_with(usize::MAX).is_none());
    }),
    ("expression::Expression::input", || {
        assert_eq!(Source::of(&[Expression::input(usize::MAX)]).values, [format!("x{}", usize::MAX)]);
    }),
    ("expression::Expression::scalar", || {
        assert_eq!(Source::of(&[Expression::scalar(usize::MAX)]).values, [format!("s{}", usize::MAX)]);
    }),
    ("expression::Source::of", || {
        assert_eq!(Source::of(&[]), Source::default());
        let source = Source::of(&SPECIAL.map(Expression::constant));
        assert!(source.statements.is_empty() && source.constants.len() == SPECIAL.len());
    }),
    ("number::Number::abs", || keeps_nan(Number::abs)),
    ("number::Number::exp_m1", || keeps_nan(Number::exp_m1)),
    ("number::Number::ln_1p", || keeps_nan(Number::ln_1p)),
    ("number::Number::sigmoid", || keeps_nan(Number::sigmoid)),
    ("number::Number::mul_add", || keeps_nan(|x| x.mul_add(Lane(1.), Lane(f64::INFINITY)))),
    ("number::Number::if_at_most", || {
        assert_eq!(Lane(f64::NAN).if_at_most(Lane(0.), Lane(1.), Lane(2.)).0, 2.);
    }),
    ("number::Number::exp", || keeps_nan(Number::exp)),
    ("number::Number::ln", || keeps_nan(Number::ln)),
    ("number::Number::sqr", || keeps_nan(Number::sqr)),
    ("number::Number::sqrt", || keeps_nan(Number::sqrt)),
    ("number::Number::tanh", || keeps_nan(Number::tanh)),
    ("number::Number::sign", || keeps_nan(Number::sign)),
    ("number::Number::at_least", || SPECIAL.iter().for_each(|least| keeps_nan(|x| x.at_least(*least)))),
    ("number::Number::powf", || {
        SPECIAL.iter().filter(|power| **power != 0.).for_each(|power| keeps_nan(|x| x.powf(*power)));
    }),
    ("number::Number::max", || SPECIAL.iter().for_each(|other| keeps_nan(|x| x.max(Lane(*other))))),
    ("number::Number::min", || SPECIAL.iter().for_each(|other| keeps_nan(|x| x.min(Lane(*other))))),
    ("number::Number::constant", || {
        assert!(SPECIAL.iter().all(|x| <Lane<f64> as Number>::constant(*x).0.to_bits() == x.to_bits()));
    }),
    ("number::Number::if_less", || {
        assert_eq!(Lane(f64::NAN).if_less(Lane(0.), Lane(1.), Lane(2.)).0, 2.);
    }),
    ("number::Number::if_nan", || {
        for x in SPECIAL {
            assert_eq!(Lane(x).if_nan(Lane(1.), Lane(2.)).0, if x.is_nan() { 1. } else { 2. });
        }
    }),
    ("random::bernoulli::Bernoulli::below", || {
        assert_eq!((Bernoulli::new(f32::NAN).below(), Bernoulli::new(f32::INFINITY).below()), (0, u32::MAX));
    }),
    ("random::bernoulli::Bernoulli::new", || {
        for p in SPECIAL {
            let _ = Bernoulli::new(p as f32);
        }
    }),
    ("random::bernoulli::Bernoulli::sample", || {
        assert!(
            !Bernoulli::new(f32::NAN).sample([0; 2]) && Bernoulli::new(f32::INFINITY).sample([u32::MAX, 0])
        );
    }),
    ("random::threefry::block", || {
        let _ = threefry::block([u32::MAX; 2], u64::MAX);
    }),
    ("random::threefry::threefry2x32", || {
        let _ = threefry::threefry2x32([u32::MAX; 2], [u32::MAX; 2]);
    }),
    ("reduce::largest", || assert_eq!(reduce::largest(&[], |x: f32| x), f32::NEG_INFINITY)),
    ("reduce::sums", || assert_eq!(reduce::sums(&[], |x: f32| [x, x]), [0., 0.])),
    ("reduce::sums2", || {
        for (x, y) in [(3, 0), (70, 3), (64, 200), (2, 70)] {
            assert_eq!(reduce::sums2(&vec![1f32; x], &vec![1.; y], |x, y| [x * y]), [x.min(y) as f32]);
        }
    }),
    ("reduce::sums3", || {
        for (x, y, z) in [(3, 0, 1), (70, 3, 70), (64, 200, 65), (130, 70, 131)] {
            let sum = reduce::sums3(&vec![1f64; x], &vec![1.; y], &vec![1.; z], |x: f64, y: f64, z: f64| {
                [x * y * z]
            });
            assert_eq!(sum, [x.min(y).min(z) as f64]);
        }
    }),
    ("reduce::total2", || {
        assert_eq!(reduce::total2(&[1f32; 3], &[1f32; 2], |x, y| (x.len() + y.len()) as f64), 4.)
    }),
    ("window::Axis::check", || {
        assert!(AXIS.check(0).is_ok() && AXIS.check(MAX >> 2).is_ok());
        refused(AXIS.check(MAX));
        for axis in [
            NONE,
            FULL,
            Axis { size: 0, ..AXIS },
            Axis { stride: 0, ..AXIS },
            Axis { padding: (MAX, 1), ..AXIS },
        ] {
            [0, 1, MAX].into_iter().for_each(|n| refused(axis.check(n)));
        }
    }),
    ("window::Axis::elements", || {
        for n in [0, 1, MAX] {
            for position in [0, 1, MAX] {
                for axis in [NONE, AXIS, FULL] {
                    let covered = axis.elements(n, position);
                    assert!(covered.start <= covered.end && covered.end <= n);
                }
            }
        }
    }),
    ("window::Axis::positions", || {
        assert_eq!(NONE.positions(3), 0);
        assert_eq!(Axis { input_dilation: 0, ..AXIS }.positions(3), 0);
        assert_eq!(Axis { size: MAX, ..AXIS }.positions(3), 0);
        assert_eq!(FULL.positions(0), 0);
        assert_eq!(Axis { stride: 1, size: 1, ..FULL }.positions(MAX), MAX);
        assert_eq!(Axis { padding: (MAX, 0), ..AXIS }.positions(1), MAX);
        assert_eq!(Axis { padding: (MAX, MAX), stride: 1 << 2, ..AXIS }.positions(0), HALF);
    }),
    ("window::Axis::source", || {
        for (n, position, tap) in [(3, MAX, 0), (3, 0, MAX), (MAX, MAX, MAX), (0, 0, 0)] {
            assert!(FULL.source(n, position, tap).is_none_or(|index| index < n));
            assert!(AXIS.source(n, position, tap).is_none_or(|index| index < n));
            assert_eq!(Axis { input_dilation: 0, ..AXIS }.source(n, position, tap), None);
        }
    }),
    ("xla_math::erf", || of_specials(xla_math::erf, |x| x)),
    ("xla_math::erf_inv", || of_specials(xla_math::erf_inv, |x| x)),
    ("xla_math::log", || of_specials(xla_math::log, |x| x)),
    ("xla_math::log1p", || of_specials(xla_math::log1p, |x| x)),
];

const AXIS: Axis = Axis { size: 2, stride: 1, padding: (0, 0), window_dilation: 1, input_dilation: 1 };

/// All of its numbers are 0.
const NONE: Axis = Axis { size: 0, stride: 0, padding: (0, 0), window_dilation: 0, input_dilation: 0 };

/// All of its numbers are the largest.
const FULL: Axis =
    Axis { size: MAX, stride: MAX, padding: (MAX, MAX), window_dilation: MAX, input_dilation: MAX };

/// Zeros, the smallest and the largest numbers of both types, infinities and NaN.
const SPECIAL: [f64; 14] = [
    0.,
    -0.,
    1.,
    -1.,
    f32::MIN_POSITIVE as f64,
    f64::MIN_POSITIVE,
    5e-324,
    -1e-45,
    f32::MAX as f64,
    f32::MIN as f64,
    f64::MAX,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

/// A number, whatever it is, for each of [`SPECIAL`]; NaN stays NaN.
fn of_specials(narrow: impl Fn(f32) -> f32, wide: impl Fn(f64) -> f64) {
    for x in SPECIAL {
        let (narrow, wide) = (narrow(x as f32), wide(x));
        assert!(!x.is_nan() || narrow.is_nan() && wide.is_nan());
    }
}

fn word([a, _]: [u32; 2]) -> u32 {
    a
}

fn samples(x: &[()]) -> Samples<'_, (), impl Fn([u32; 2]) -> u32 + Copy + Send + Sync> {
    Samples { key: [1, 2], start: 0, x, sampler: word }
}
