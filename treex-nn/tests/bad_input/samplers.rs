//! Random keys and samplers.

use candle_core::{D, DType, Tensor};
use treex_core::Result;
use treex_core::random::{Key, SampleMode};
use treex_testing::bad_input::{AXES, Cases, NUMBERS, Row, SIZES};

const TYPES: [DType; 8] =
    [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64, DType::BF16, DType::F32, DType::F64];

fn key() -> Key {
    Key::from(0)
}

/// Shapes without elements, and with more than there are.
fn shapes() -> Vec<Vec<usize>> {
    let mut shapes: Vec<Vec<usize>> =
        vec![vec![], vec![2, 6], vec![2; 70], vec![0, 1 << 40], vec![usize::MAX, 0, 2]];
    shapes.extend(SIZES.iter().flat_map(|&a| SIZES.iter().map(move |&b| vec![a, b])));
    shapes
}

/// A sampler of every shape and type.
fn drawn(names: &'static str, draw: impl Fn(Vec<usize>, DType) -> Result<Tensor> + Send + 'static) -> Row {
    Row::new(names, move |cases| of_shapes(cases, "", &draw))
}

fn of_shapes(cases: &mut Cases, label: &str, draw: impl Fn(Vec<usize>, DType) -> Result<Tensor>) {
    for shape in shapes() {
        for dtype in TYPES {
            cases.call(&format!("{label} {shape:?} of {dtype:?}"), || draw(shape.clone(), dtype));
        }
    }
}

/// A sampler with a number: of every number and type, and of a tensor of numbers.
fn with_number(
    names: &'static str,
    draw: fn(f64, Vec<usize>, DType) -> Result<Tensor>,
    draw_of: fn(&Tensor, Vec<usize>, DType) -> Result<Tensor>,
) -> Row {
    Row::new(names, move |cases| {
        of_shapes(cases, "1", |shape, dtype| draw(1., shape, dtype));
        for number in NUMBERS.into_iter().chain([0.5, 1e-3, 1e15, f64::from(f32::MAX)]) {
            for dtype in TYPES {
                cases.call(&format!("{number} of {dtype:?}"), || draw(number, vec![2, 6], dtype));
            }
        }
        for dtype in TYPES {
            for shape in [vec![2, 6], vec![2, 4, 6], vec![], vec![0]] {
                cases.tensors(&format!("of {dtype:?}, {shape:?}"), |x| draw_of(x, shape.clone(), dtype));
            }
        }
    })
}

pub(crate) fn rows() -> Vec<Row> {
    [of_keys(), without_numbers(), with_numbers(), of_tensors()].into_iter().flatten().collect()
}

fn of_keys() -> Vec<Row> {
    vec![
        Row::new("random::Key split split2 fold_in", |cases| {
            for n in [0, 1, 1000] {
                cases.call(&format!("{n}"), || Ok(key().split(n)));
            }
            cases.call("the last", || Ok((key().split2(), key().fold_in(u32::MAX))));
        }),
        Row::new("random::Key from_tensor", |cases| {
            cases.tensors("a tensor", |x| Key::from_tensor(x).map(|_| x.clone()));
        }),
        Row::new("random::slice::Key slice", |cases| {
            for start in [0, 1 << 40, u64::MAX - 3, u64::MAX] {
                cases.call(&format!("{start}"), || key().slice(start).normal((2, 6), DType::F32));
            }
        }),
        Row::new(
            "random::slice::KeySlice uniform uniform_between normal truncated_normal bernoulli",
            |cases| {
                for start in [0, u64::MAX] {
                    let part = || key().slice(start);
                    of_shapes(cases, "uniform", |shape, dtype| part().uniform(shape, dtype));
                    of_shapes(cases, "normal", |shape, dtype| part().normal(shape, dtype));
                    of_shapes(cases, "bernoulli", |shape, _| part().bernoulli(0.5, shape));
                    for a in NUMBERS {
                        cases.call(&format!("bernoulli {a}"), || part().bernoulli(a, 6));
                        for b in NUMBERS {
                            for dtype in TYPES {
                                let label = format!("{a} to {b} of {dtype:?}");
                                cases.call(&label, || part().uniform_between(6, dtype, a, b));
                                cases.call(&label, || part().truncated_normal(a, b, 6, dtype));
                            }
                        }
                    }
                }
            },
        ),
    ]
}

fn without_numbers() -> Vec<Row> {
    vec![
        drawn("random::discrete::Key bits", |shape, _| key().bits(shape)),
        drawn("random::discrete::Key bits_of", |shape, dtype| key().bits_of(shape, dtype)),
        drawn("random::discrete::Key rademacher", |shape, dtype| key().rademacher(shape, dtype)),
        drawn("random::continuous::Key uniform", |shape, dtype| key().uniform(shape, dtype)),
        drawn("random::continuous::Key normal", |shape, dtype| key().normal(shape, dtype)),
        drawn("random::continuous::Key gumbel", |shape, dtype| key().gumbel(shape, dtype)),
        drawn("random::mode::Key gumbel_with", |shape, dtype| {
            key().gumbel_with(shape, dtype, SampleMode::High)
        }),
        drawn("random::continuous::Key exponential", |shape, dtype| key().exponential(shape, dtype)),
        drawn("random::continuous::Key laplace", |shape, dtype| key().laplace(shape, dtype)),
        drawn("random::continuous::Key logistic", |shape, dtype| key().logistic(shape, dtype)),
        drawn("random::continuous::Key cauchy", |shape, dtype| key().cauchy(shape, dtype)),
        drawn("random::transformed::Key maxwell", |shape, dtype| key().maxwell(shape, dtype)),
        Row::new("random::transformed::Key double_sided_maxwell", |cases| {
            of_shapes(cases, "", |shape, dtype| key().double_sided_maxwell(0., 1., shape, dtype));
            for a in NUMBERS {
                for b in NUMBERS {
                    cases.call(&format!("{a}, {b}"), || key().double_sided_maxwell(a, b, 6, DType::F32));
                }
            }
        }),
        Row::new("random::continuous::Key uniform_between truncated_normal", |cases| {
            of_shapes(cases, "uniform", |shape, dtype| key().uniform_between(shape, dtype, 0., 1.));
            of_shapes(cases, "normal", |shape, dtype| key().truncated_normal(0., 1., shape, dtype));
            for a in NUMBERS {
                for b in NUMBERS {
                    for dtype in TYPES {
                        let label = format!("{a} to {b} of {dtype:?}");
                        cases.call(&label, || key().uniform_between(6, dtype, a, b));
                        cases.call(&label, || key().truncated_normal(a, b, 6, dtype));
                    }
                }
            }
        }),
        Row::new("random::discrete::Key randint", |cases| {
            of_shapes(cases, "", |shape, dtype| key().randint(shape, 0, 7, dtype));
            let bounds = [0, 1, -1, 255, 256, i64::from(i32::MIN), 1 << 40, i64::MIN, i64::MAX];
            for a in bounds {
                for b in bounds {
                    for dtype in TYPES {
                        cases.call(&format!("{a} to {b} of {dtype:?}"), || key().randint(6, a, b, dtype));
                    }
                }
            }
        }),
        Row::new("random::permutation::Key permutation", |cases| {
            for n in SIZES.into_iter().chain([1 << 33]) {
                cases.call(&format!("{n}"), || key().permutation(n));
            }
        }),
        Row::new("random::choice::Key choice", |cases| {
            let nothing = [f32::NAN, -1., f32::INFINITY, 0.];
            for n in SIZES.into_iter().chain([4]) {
                for replace in [false, true] {
                    for p in [None, Some(&nothing[..]), Some(&[]), Some(&[0.; 4]), Some(&[f32::MAX; 4])] {
                        for shape in [vec![], vec![0], vec![2, 2], vec![1 << 40], vec![usize::MAX, 2]] {
                            let label = format!("{shape:?} of {n}, {replace}, {p:?}");
                            cases.call(&label, || key().choice(n, shape, replace, p));
                        }
                    }
                }
            }
        }),
        Row::new("random::orthogonal::Key orthogonal", |cases| {
            of_shapes(cases, "", |shape, dtype| key().orthogonal(2, shape, dtype, None));
            for n in SIZES {
                for m in SIZES.into_iter().map(Some).chain([None]) {
                    cases.call(&format!("{n} by {m:?}"), || key().orthogonal(n, 2, DType::F32, m));
                    cases.call(&format!("no {n} by {m:?}"), || key().orthogonal(n, 0, DType::F32, m));
                }
            }
        }),
        Row::new("random::gamma::Key generalized_normal", |cases| {
            of_shapes(cases, "", |shape, dtype| key().generalized_normal(2., shape, dtype));
            for p in NUMBERS {
                for dtype in TYPES {
                    cases.call(&format!("{p} {dtype:?}"), || key().generalized_normal(p, 6, dtype));
                }
            }
        }),
        Row::new("random::gamma::Key ball", |cases| {
            of_shapes(cases, "", |shape, dtype| key().ball(2, 2., shape, dtype));
            for d in SIZES {
                for p in NUMBERS {
                    cases.call(&format!("{d}, {p}"), || key().ball(d, p, 6, DType::F32));
                }
            }
        }),
    ]
}

/// A row of [`with_number`]: the sampler of `$number`, which is a number and a tensor.
macro_rules! number {
    ($names:literal, |$number:ident, $shape:ident, $dtype:ident| $draw:expr) => {
        with_number($names, |$number, $shape, $dtype| $draw, |$number, $shape, $dtype| $draw)
    };
}

fn with_numbers() -> Vec<Row> {
    vec![
        number!("random::discrete::Key bernoulli", |p, shape, _dtype| key().bernoulli(p, shape)),
        number!("random::mode::Key bernoulli_with", |p, shape, _dtype| {
            key().bernoulli_with(p, shape, SampleMode::High)
        }),
        number!("random::counts::Key poisson", |lam, shape, dtype| key().poisson(lam, shape, dtype)),
        number!("random::counts::Key binomial", |n, shape, dtype| key().binomial(n, 0.5, shape, dtype)),
        number!("random::counts::Key binomial binomial", |p, shape, dtype| key()
            .binomial(9., p, shape, dtype)),
        number!("random::gamma::Key gamma", |a, shape, dtype| key().gamma(a, shape, dtype)),
        number!("random::gamma::Key loggamma", |a, shape, dtype| key().loggamma(a, shape, dtype)),
        number!("random::gamma::Key beta", |a, shape, dtype| key().beta(a, a, shape, dtype)),
        number!("random::gamma::Key chisquare", |df, shape, dtype| key().chisquare(df, shape, dtype)),
        number!("random::gamma::Key f", |df, shape, dtype| key().f(df, df, shape, dtype)),
        number!("random::gamma::Key t", |df, shape, dtype| key().t(df, shape, dtype)),
        number!("random::transformed::Key lognormal", |x, shape, dtype| key().lognormal(x, shape, dtype)),
        number!("random::transformed::Key pareto", |b, shape, dtype| key().pareto(b, shape, dtype)),
        number!("random::transformed::Key rayleigh", |x, shape, dtype| key().rayleigh(x, shape, dtype)),
        number!("random::transformed::Key weibull_min", |x, shape, dtype| {
            key().weibull_min(x, x, shape, dtype)
        }),
        number!("random::transformed::Key triangular", |x, shape, dtype| {
            key().triangular(x, 0.5, x, shape, dtype)
        }),
        number!("random::transformed::Key triangular triangular", |x, shape, dtype| {
            key().triangular(-1., x, 1., shape, dtype)
        }),
        number!("random::transformed::Key wald", |x, shape, dtype| key().wald(x, shape, dtype)),
        number!("random::transformed::Key geometric", |p, shape, dtype| key().geometric(p, shape, dtype)),
    ]
}

fn of_tensors() -> Vec<Row> {
    vec![
        Row::new("random::categorical::Key categorical", |cases| {
            for axis in [D::Minus1, D::Minus2, D::Minus(usize::MAX)] {
                for shape in shapes() {
                    let label = format!("{axis:?}, {shape:?}");
                    cases.tensors(&label, |x| key().categorical(x, axis, shape.clone()));
                }
            }
        }),
        Row::new("random::categorical::Key categorical_with", |cases| {
            for axis in [0, 1, 7, usize::MAX] {
                for replace in [false, true] {
                    for shape in shapes() {
                        for mode in [SampleMode::Low, SampleMode::High] {
                            let label = format!("{axis}, {shape:?}, {replace}, {mode:?}");
                            let draw =
                                |x: &Tensor| key().categorical_with(x, axis, shape.clone(), replace, mode);
                            cases.tensors(&label, draw);
                        }
                    }
                }
            }
        }),
        Row::new("random::choice::Key choice_of", |cases| {
            for axis in [0, 1, 7, usize::MAX] {
                for shape in [vec![], vec![0], vec![2, 2], vec![1 << 40], vec![usize::MAX, 2]] {
                    for p in [None, Some(&[0.5f32; 2][..])] {
                        let label = format!("{axis}, {shape:?}");
                        cases.tensors(&label, |x| key().choice_of(x, shape.clone(), true, p, axis));
                        cases.tensors(&label, |x| key().choice_of(x, shape.clone(), false, p, axis));
                    }
                }
            }
        }),
        Row::new("random::permutation::Key permutation_of", |cases| {
            for axis in AXES {
                // An axis of Candle is no negative number.
                let Ok(axis) = usize::try_from(axis) else { continue };
                cases.tensors(&format!("{axis}"), |x| key().permutation_of(x, axis, false));
                cases.tensors(&format!("{axis}, independent"), |x| key().permutation_of(x, axis, true));
            }
        }),
        Row::new("random::counts::Key multinomial", |cases| {
            for dtype in TYPES {
                for n in NUMBERS.into_iter().chain([9., 1e15]) {
                    for shape in [vec![6], vec![2, 6], vec![0, 6], vec![1 << 40, 6], vec![]] {
                        let label = format!("{n}, {shape:?}, {dtype:?}");
                        cases.tensors(&label, |p| key().multinomial(n, p, shape.clone(), dtype));
                    }
                }
            }
        }),
        Row::new("random::gamma::Key dirichlet", |cases| {
            for dtype in TYPES {
                for shape in shapes() {
                    let label = format!("{shape:?}, {dtype:?}");
                    cases.tensors(&label, |alpha| key().dirichlet(alpha, shape.clone(), dtype));
                }
            }
        }),
        Row::new("random::multivariate_normal::Key multivariate_normal", |cases| {
            for dtype in [DType::F32, DType::BF16, DType::F64, DType::I64] {
                for shape in [vec![], vec![0], vec![2], vec![1 << 40], vec![usize::MAX, 2]] {
                    cases.pairs(&format!("{shape:?}, {dtype:?}"), |mean, cov| {
                        key().multivariate_normal(mean, cov, shape.clone(), dtype)
                    });
                }
            }
        }),
        Row::new("random::seed::Key from_seed_x64", |cases| {
            for seed in [i64::MIN, i64::MAX] {
                cases.call(&format!("{seed}"), || Ok(Key::from_seed_x64(seed)));
            }
            for seed in [i128::MIN, -1, 0, i128::MAX] {
                cases.call(&format!("{seed}"), || Key::try_from(seed));
            }
        }),
    ]
}
