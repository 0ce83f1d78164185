//! No bit depends on the number of threads: every operation with a kernel, forward and backward, and every sampler of
//! random numbers, in pools of 1, 2, 3 and 8 threads. Sizes are large enough that threads share the work, and have no
//! common divisor with their number.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use treex_core::random::{Key, SampleMode};
use treex_core::{Leaf, Parameter, Result, prelude::*};
use treex_nn::ops::{Axis, Extent, Source, convolution, linear, local_convolution, normalize, rows_of};
use treex_nn::*;
use treex_testing::contract::{ALL, WIDE};
use treex_testing::gradients::{Outcome, outcome, outcome_of};
use treex_testing::threads::differences;

/// The operations that compute the value and its gradients; the element types of their kernels; value and gradients in
/// an element type.
struct Row {
    names: &'static [&'static str],
    dtypes: &'static [DType],
    run: Box<dyn Fn(DType) -> Result<Outcome> + Send + Sync>,
}

/// More elements than any kernel takes on one thread.
const LARGE: &[usize] = &[67, 2049];

fn row(
    names: &'static [&'static str],
    dtypes: &'static [DType],
    shapes: &[&[usize]],
    f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Row {
    let shapes: Vec<Vec<usize>> = shapes.iter().map(|shape| shape.to_vec()).collect();
    let run = move |dtype| {
        let inputs = shapes
            .iter()
            .zip(1..)
            .map(|(shape, key)| Ok(Key::from(key).normal(shape.as_slice(), DType::F64)?.to_dtype(dtype)?));
        outcome(&inputs.collect::<Result<Vec<_>>>()?, &f)
    };
    Row { names, dtypes, run: Box::new(run) }
}

/// An activation of [`LARGE`] numbers.
fn map(name: &'static [&'static str], f: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static) -> Row {
    row(name, ALL, &[LARGE], move |x| f(&x[0]))
}

/// A recurrent cell over sequences, differentiated by its input and its parameters.
fn cell<C: RnnCell>(name: &'static [&'static str], make: fn() -> C) -> Row {
    let run = move |dtype| {
        let x = Leaf::<Parameter>::new(Key::from(3).normal((19, 41, 17), DType::F32)?)?;
        let both = (Rnn::new(make()).init(0, &Device::Cpu)?, x).into_dtype(dtype)?;
        outcome_of(&both, |(rnn, x)| rnn.call(&x.get()?))
    };
    Row { names: name, dtypes: WIDE, run: Box::new(run) }
}

const fn axis(size: usize, stride: usize, window_dilation: usize, input_dilation: usize) -> Axis {
    Axis { size, stride, padding: (1, 2), window_dilation, input_dilation }
}

/// A convolution over an image of 29 by 31 pixels.
fn convolved(batch: usize, [cin, cout, groups]: [usize; 3], axis: Axis) -> Row {
    let shapes: [&[usize]; 3] = [&[batch, 29, 31, cin], &[axis.size, axis.size, cin / groups, cout], &[cout]];
    row(&["convolution"], ALL, &shapes, move |x| convolution(&x[0], &x[1], Some(&x[2]), &[axis; 2], groups))
}

fn pooled(pool: fn(&Tensor, [usize; 2], [usize; 2]) -> Result<Tensor>) -> [Row; 2] {
    // Windows that overlap, and windows that do not.
    [2, 3].map(|stride| {
        row(&["pooling"], WIDE, &[&[7, 53, 41, 9]], move |x| pool(&x[0], [3, 3], [stride, stride]))
    })
}

fn normalized(extent: Extent, source: Source<'static>) -> Row {
    let Extent { outer, rows, groups, size } = extent;
    let shapes: [&[usize]; 3] = [&[outer, rows, groups, size], &[groups, size], &[groups, size]];
    row(&["normalize"], ALL, &shapes, move |x| {
        Ok(normalize(&x[0], extent, source, 1e-5, [Some(&x[1]), Some(&x[2])])?.expect("a kernel").y)
    })
}

fn attended(shapes: [&[usize]; 3], causal: bool) -> Row {
    row(&["attention"], ALL, &shapes, move |x| {
        dot_product_attention(&x[0], &x[1], &x[2], &AttentionOptions::default().causal(causal))
    })
}

/// Indices along the second axis of [`LARGE`].
fn indices() -> Result<Tensor> {
    let all = (0..LARGE[0] * 300).map(|at| (at * 7 % LARGE[1]) as u32);
    Ok(Tensor::from_iter(all, &Device::Cpu)?.reshape((LARGE[0], 300))?)
}

fn rows() -> Vec<Row> {
    let exact = Source::Input { use_fast_variance: false };
    let fast = Source::Input { use_fast_variance: true };
    let mut rows = vec![
        row(&["linear"], WIDE, &[&[131, 259], &[259, 67], &[67]], |x| linear(&x[0], &x[1], Some(&x[2]), 1)),
        row(&["linear"], WIDE, &[&[1, 4099], &[4099, 131]], |x| linear(&x[0], &x[1], None, 1)),
        row(&["linear"], WIDE, &[&[4099, 131], &[131, 1]], |x| linear(&x[0], &x[1], None, 1)),
        row(&["linear"], WIDE, &[&[3, 5001], &[5001, 67]], |x| linear(&x[0], &x[1], None, 1)),
        row(&[], WIDE, &[&[3, 65, 129], &[3, 129, 33]], |x| einsum("bij,bjk->bik", &x[0], &x[1])),
        row(&[], WIDE, &[&[65, 1025], &[33, 1025]], |x| einsum("ij,kj->ki", &x[0], &x[1])),
        row(&["add"], ALL, &[LARGE, &LARGE[1..]], |x| add(&x[0], &x[1])),
        row(&["vdot"], ALL, &[&[200_003], &[200_003]], |x| vdot(&x[0], &x[1])),
        row(&["dropout"], ALL, &[LARGE], |x| dropout(&x[0], 0.3, Key::from(1), &[])),
        row(&["embed"], ALL, &[&[301, 129]], |x| {
            rows_of(&x[0], (0..2003u32).map(|at| at * at % 301).collect(), &[2003])
        }),
        row(&[], ALL, &[LARGE], |x| take_along_axis(&x[0], &indices()?, 1)),
        row(&[], ALL, &[LARGE, &[67, 300]], |x| scatter_add(&x[0], &indices()?, &x[1], 1)),
        row(&[], ALL, &[LARGE, &[67, 300]], |x| scatter(&x[0], &indices()?, &x[1], 1)),
        row(&[], ALL, &[&[2049, 67]], |x| {
            let numbers = (0..2049u32).map(|at| at * at % 31);
            segment_sum(&x[0], &Tensor::from_iter(numbers, &Device::Cpu)?, 31)
        }),
        row(&[], ALL, &[LARGE], |x| Ok(sort(&x[0], true)?.0)),
        row(&[], ALL, &[LARGE], |x| Ok(top_k(&x[0], 100)?.0)),
        map(&["relu"], relu),
        map(&["relu6"], relu6),
        map(&["leaky_relu"], |x| leaky_relu_with(x, 0.1)),
        map(&["elu"], |x| elu_with(x, 1.3)),
        map(&["gelu"], |x| gelu_with(x, true)),
        map(&["with-derivative"], |x| gelu_with(x, false)),
        map(&["silu"], silu),
        map(&["sigmoid"], sigmoid),
        map(&["tanh"], tanh),
        map(&["softplus"], softplus),
        map(&["softmax"], |x| softmax(x, 1)),
        map(&["softmax"], |x| softmax(x, vec![0, 1])),
        map(&["log_softmax"], |x| log_softmax(x, 1)),
        map(&["log_softmax"], |x| log_softmax(x, vec![0, 1])),
        normalized(Extent { outer: 2049, rows: 1, groups: 1, size: 67 }, exact),
        normalized(Extent { outer: 3, rows: 1, groups: 1, size: 70_001 }, fast),
        normalized(Extent { outer: 1, rows: 5003, groups: 29, size: 1 }, fast),
        normalized(Extent { outer: 7, rows: 301, groups: 11, size: 9 }, exact),
        convolved(3, [5, 7, 1], axis(3, 1, 1, 1)),
        convolved(1, [17, 70, 1], axis(3, 2, 2, 1)),
        convolved(3, [19, 19, 19], axis(3, 1, 1, 1)),
        convolved(3, [19, 19, 19], axis(3, 1, 1, 2)),
        convolved(2, [6, 10, 2], axis(2, 1, 1, 3)),
        row(&["im2col", "col2im"], WIDE, &[&[5, 31, 17], &[32, 51, 13]], |x| {
            local_convolution(&x[0], &x[1], &[axis(3, 1, 1, 1)])
        }),
        attended([&[2, 257, 4, 33]; 3], true),
        attended([&[1, 257, 6, 17], &[1, 301, 2, 17], &[1, 301, 2, 5]], false),
        cell(&["simple_cell"], || SimpleCell::new(17, 33)),
        cell(&["lstm"], || LstmCell::new(17, 33)),
        cell(&["gru"], || GruCell::new(17, 33)),
        cell(&["mgu"], || MguCell::new(17, 33)),
        cell(&["mgu"], || MguCell::new(17, 33).reset_gate(false)),
    ];
    rows.extend(pooled(|x, size, strides| avg_pool(x, size, strides, Padding::Same, false)));
    rows.extend(pooled(|x, size, strides| max_pool(x, size, strides, Padding::Same)));
    rows.extend(pooled(|x, size, strides| min_pool(x, size, strides, Padding::Same)));
    rows
}

#[test]
fn operations() {
    let mut wrong = Vec::new();
    for Row { names, dtypes, run } in rows() {
        for &dtype in dtypes {
            let outcome = run(dtype).unwrap();
            if let [name] = names {
                assert_eq!(outcome.operation, Some(*name), "the operation in {dtype:?}");
            }
            let found = differences(|| Ok(run(dtype)?.tensors)).unwrap();
            wrong.extend(found.into_iter().map(|difference| format!("{names:?} {dtype:?}: {difference}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

type Sampler = fn(Key) -> Result<Tensor>;

fn samplers() -> Vec<(&'static str, Sampler)> {
    const N: usize = 100_003;
    const F32: DType = DType::F32;
    fn numbers(n: usize) -> Result<Tensor> {
        Ok(Tensor::arange(1f32, n as f32 + 1., &Device::Cpu)?)
    }
    vec![
        ("bits", |key| key.bits(N)),
        ("bits_of", |key| key.bits_of(N, DType::I64)),
        ("uniform", |key| key.uniform(N, DType::BF16)),
        ("uniform_between", |key| key.uniform_between(N, DType::F64, -1., 3.)),
        ("normal", |key| key.normal(N, F32)),
        ("normal", |key| key.normal(N, DType::F64)),
        ("truncated_normal", |key| key.truncated_normal(-1., 2., N, F32)),
        ("gumbel", |key| key.gumbel(N, F32)),
        ("gumbel_with", |key| key.gumbel_with(N, F32, SampleMode::High)),
        ("exponential", |key| key.exponential(N, F32)),
        ("laplace", |key| key.laplace(N, F32)),
        ("logistic", |key| key.logistic(N, F32)),
        ("cauchy", |key| key.cauchy(N, F32)),
        ("bernoulli", |key| key.bernoulli(0.3, N)),
        ("bernoulli_with", |key| key.bernoulli_with(0.3, N, SampleMode::High)),
        ("rademacher", |key| key.rademacher(N, F32)),
        ("randint", |key| key.randint(N, -7, 1000, DType::I64)),
        ("categorical", |key| key.categorical(&numbers(17)?, 0, 10_007)),
        ("categorical_with", |key| key.categorical_with(&numbers(17)?, 0, 10_007, true, SampleMode::High)),
        ("choice", |key| key.choice(N, 1001, false, None)),
        ("choice_of", |key| key.choice_of(&numbers(N)?, 1001, true, None, 0)),
        ("permutation", |key| key.permutation(N)),
        ("permutation_of", |key| key.permutation_of(&numbers(N)?, 0, false)),
        ("poisson", |key| key.poisson(20., N, DType::I64)),
        ("binomial", |key| key.binomial(50., 0.4, N, F32)),
        ("multinomial", |key| key.multinomial(100., &(numbers(9)? / 45.)?, vec![5003, 9], F32)),
        ("gamma", |key| key.gamma(0.7, N, F32)),
        ("loggamma", |key| key.loggamma(1.7, N, F32)),
        ("beta", |key| key.beta(1.7, 0.7, N, F32)),
        ("dirichlet", |key| key.dirichlet(&numbers(9)?, 5003, F32)),
        ("chisquare", |key| key.chisquare(3., N, F32)),
        ("f", |key| key.f(3., 5., N, F32)),
        ("t", |key| key.t(3., N, F32)),
        ("generalized_normal", |key| key.generalized_normal(1.5, N, F32)),
        ("ball", |key| key.ball(5, 1.5, 20_011, F32)),
        ("multivariate_normal", |key| {
            let cov = Tensor::eye(33, F32, &Device::Cpu)?;
            key.multivariate_normal(&numbers(33)?, &(cov * 2.)?, 3001, F32)
        }),
        ("orthogonal", |key| key.orthogonal(65, 3, F32, None)),
        ("lognormal", |key| key.lognormal(0.5, N, F32)),
        ("pareto", |key| key.pareto(2., N, F32)),
        ("rayleigh", |key| key.rayleigh(2., N, F32)),
        ("weibull_min", |key| key.weibull_min(2., 0.5, N, F32)),
        ("triangular", |key| key.triangular(0., 1., 3., N, F32)),
        ("wald", |key| key.wald(2., N, F32)),
        ("maxwell", |key| key.maxwell(N, F32)),
        ("double_sided_maxwell", |key| key.double_sided_maxwell(1., 2., N, F32)),
        ("geometric", |key| key.geometric(0.2, N, DType::I64)),
        // Of a part of a tensor: the names are those of `Key`.
        ("normal", |key| key.slice(12_345).normal(N, F32)),
        ("bernoulli", |key| key.slice(12_345).bernoulli(0.3, N)),
    ]
}

#[test]
fn random_numbers() {
    let mut wrong = Vec::new();
    for (name, draw) in samplers() {
        let found = differences(|| Ok(vec![draw(Key::from(7))?]));
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        wrong.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The texts of all files of a folder, and of its folders.
fn texts(folder: &Path) -> Vec<String> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: std::path::PathBuf| {
        if path.is_dir() { texts(&path) } else { vec![fs::read_to_string(&path).unwrap()] }
    };
    paths.flat_map(of).collect()
}

/// The names in the bodies of `fn name`, and those of recurrent cells.
fn operation_names() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kernels = root.join("../treex-core/kernels/src");
    let mut texts = [texts(&root.join("src/ops")), texts(&kernels.join("recurrent"))].concat();
    texts.push(fs::read_to_string(kernels.join("elementwise.rs")).unwrap());
    let mut names = BTreeSet::new();
    for text in texts {
        let bodies = text.split(" fn name(").skip(1).map(|text| text.split("\n    }").next().unwrap());
        let constants =
            text.split("const NAME: &'static str =").skip(1).map(|text| text.split(';').next().unwrap());
        for part in bodies.chain(constants) {
            names.extend(part.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

/// The methods of `Key` that return a tensor of samples.
fn sampler_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for text in texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../treex-core/src/random")) {
        for item in text.split("    pub fn ").skip(1) {
            let signature = item.split(" {\n").next().unwrap();
            let (name, arguments) = signature.split_once('(').unwrap();
            if arguments.trim_start().starts_with("self") && signature.ends_with("-> Result<Tensor>") {
                names.insert(name.split('<').next().unwrap().to_owned());
            }
        }
    }
    names
}

#[test]
fn every_operation_and_every_sampler_has_a_row() {
    let names: BTreeSet<String> =
        rows().iter().flat_map(|row| row.names).map(|name| (*name).to_owned()).collect();
    assert_eq!(names, operation_names());
    let names: BTreeSet<String> = samplers().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, sampler_names());
}
