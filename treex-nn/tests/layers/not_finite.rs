//! NaN and infinities: every activation and every normalization shows them, or has the right limit.
//!
//! The functions are read from the sources: one without a row fails the test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{D, DType, Tensor};
use treex_core::autograd::with_reference;
use treex_core::{Leaf, Result, prelude::*};
use treex_nn::*;
use treex_testing::device;

/// The result at an infinite element.
#[derive(Clone, Copy)]
enum At {
    /// NaN or infinite.
    Shown,
    /// The limit, which is finite.
    Limit(f64),
}

use At::{Limit, Shown};

/// The name, the function of `[3, 4]`, and its first element where that of the input is negative or positive infinity: by
/// JAX 0.10.2, but for the exact GELU, which is 0 at negative infinity where JAX has NaN.
type Row = (&'static str, fn(&Tensor) -> Result<Tensor>, At, At);

const ACTIVATIONS: &[Row] = &[
    ("identity", identity, Shown, Shown),
    ("soft_sign", soft_sign, Shown, Shown),
    ("squareplus", squareplus, Shown, Shown),
    ("squareplus_with", |x| squareplus_with(x, 1.), Shown, Shown),
    ("sparse_plus", sparse_plus, Limit(0.), Shown),
    ("sparse_sigmoid", sparse_sigmoid, Limit(0.), Limit(1.)),
    ("elu", elu, Limit(-1.), Shown),
    ("elu_with", |x| elu_with(x, 2.), Limit(-2.), Shown),
    ("celu", celu, Limit(-1.), Shown),
    ("celu_with", |x| celu_with(x, 2.), Limit(-2.), Shown),
    ("selu", selu, Limit(-1.758_099_32), Shown),
    ("gelu", gelu, Shown, Shown),
    ("gelu_with", |x| gelu_with(x, false), Limit(0.), Shown),
    ("glu", |x| glu(x, 1), Shown, Shown),
    ("relu", relu, Limit(0.), Shown),
    ("relu6", relu6, Limit(0.), Limit(6.)),
    ("leaky_relu", leaky_relu, Shown, Shown),
    ("leaky_relu_with", |x| leaky_relu_with(x, 0.2), Shown, Shown),
    ("hard_tanh", hard_tanh, Limit(-1.), Limit(1.)),
    ("hard_sigmoid", hard_sigmoid, Limit(0.), Limit(1.)),
    ("hard_silu", hard_silu, Shown, Shown),
    ("sigmoid", sigmoid, Limit(0.), Limit(1.)),
    ("log_sigmoid", log_sigmoid, Shown, Limit(0.)),
    ("silu", silu, Shown, Shown),
    ("softplus", softplus, Limit(0.), Shown),
    ("log1mexp", log1mexp, Shown, Limit(0.)),
    ("mish", mish, Shown, Shown),
    ("tanh", tanh, Limit(-1.), Limit(1.)),
    ("softmax", |x| softmax(x, 1), Limit(0.), Shown),
    ("softmax_where", |x| softmax_where(x, 1, &all(x)?), Limit(0.), Shown),
    ("log_softmax", |x| log_softmax(x, D::Minus1), Shown, Shown),
    ("log_softmax_where", |x| log_softmax_where(x, 1, &all(x)?), Shown, Shown),
    // log(1 + e + e²), less log(4) for the mean.
    ("logsumexp", |x| logsumexp(x, 1), Limit(2.407_605_964_444_380_5), Shown),
    ("logsumexp_with", |x| Ok(logsumexp_with(x, 1, None, None)?.0), Limit(2.407_605_964_444_380_5), Shown),
    ("logmeanexp", |x| logmeanexp(x, 1), Limit(1.021_311_603_324_49), Shown),
    ("logmeanexp_where", |x| logmeanexp_where(x, 1, &all(x)?), Limit(1.021_311_603_324_49), Shown),
    ("one_hot", |x| one_hot(x, 3, -1), Shown, Shown),
    ("standardize", |x| standardize(x, 1, 1e-5), Shown, Shown),
    (
        "standardize_with",
        |x| standardize_with(x, 1, &StandardizeOptions::default().stable(true)),
        Shown,
        Shown,
    ),
];

/// With more than one row where a layer has several inputs or modes.
const NORMS: &[Row] = &[
    ("BatchNorm", |x| of(BatchNorm::new(4), x), Shown, Shown),
    ("BatchNorm, exact", |x| of(BatchNorm::new(4).use_fast_variance(false), x), Shown, Shown),
    ("BatchNorm, evaluation", |x| of(BatchNorm::new(4).into_eval(), x), Shown, Shown),
    ("BatchNorm, statistics", |x| statistics(x, false), Shown, Shown),
    // An infinite variance makes the result 0, in Flax too.
    ("BatchNorm, variance", |x| statistics(x, true), Shown, Limit(0.)),
    ("GroupNorm", |x| of(GroupNorm::new(4).num_groups(2), x), Shown, Shown),
    ("InstanceNorm", |x| of(InstanceNorm::new(4), &x.unsqueeze(0)?), Shown, Shown),
    ("LayerNorm", |x| of(LayerNorm::new(4), x), Shown, Shown),
    ("LayerNorm, exact", |x| of(LayerNorm::new(4).use_fast_variance(false), x), Shown, Shown),
    (
        "LayerNorm, scale",
        |x| {
            let mut norm = LayerNorm::new(4).init(0, device())?;
            norm.scale = Some(Leaf::new(x.narrow(0, 0, 1)?.squeeze(0)?)?);
            norm.call(&small(x)?)
        },
        Shown,
        Shown,
    ),
    ("RmsNorm", |x| of(RmsNorm::new(4), x), Shown, Shown),
    ("SpectralNorm", |x| of(SpectralNorm::new(Linear::new(4, 2)), x), Shown, Shown),
    (
        "SpectralNorm, kernel",
        |x| {
            let mut norm = SpectralNorm::new(Linear::new(3, 4)).init(0, device())?.into_dtype(x.dtype())?;
            norm.layer_instance.kernel = Leaf::new(x)?;
            norm.call(&x.narrow(1, 1, 3)?)
        },
        Shown,
        Shown,
    ),
    ("WeightNorm", |x| of(WeightNorm::new(Linear::new(4, 2)), x), Shown, Shown),
    (
        "WeightNorm, kernel",
        |x| {
            let mut norm = WeightNorm::new(Linear::new(3, 4)).init(0, device())?.into_dtype(x.dtype())?;
            norm.layer_instance.kernel = Leaf::new(x)?;
            norm.call(&x.narrow(1, 1, 3)?)
        },
        Shown,
        Shown,
    ),
];

fn all(x: &Tensor) -> candle_core::Result<Tensor> {
    Tensor::ones(x.shape(), DType::U8, x.device())
}

/// Finite numbers in the type of `x`.
fn small(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor::arange(1f32, 13., x.device())?.reshape((3, 4))?.to_dtype(x.dtype())?)
}

fn of<M: Module + Tree>(layer: M, x: &Tensor) -> Result<Tensor> {
    layer.init(0, device())?.into_dtype(x.dtype())?.call(x)
}

/// In evaluation, with the first row of `x` as mean or variance.
fn statistics(x: &Tensor, is_variance: bool) -> Result<Tensor> {
    let mut norm = BatchNorm::new(4).init(0, device())?.into_dtype(x.dtype())?.into_eval();
    let row = Leaf::new(x.narrow(0, 0, 1)?.squeeze(0)?)?;
    *if is_variance { &mut norm.var } else { &mut norm.mean } = row;
    norm.call(&small(x)?)
}

/// What `search` finds after a line's beginning, in the files of a folder of the sources.
fn declared(folder: &str, search: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let mut names = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let declarations = text.lines().filter_map(|line| line.strip_prefix(search));
        let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        names.extend(declarations.map(name));
    }
    names
}

#[test]
fn every_function_has_a_row() {
    let rows = |rows: &[Row]| -> BTreeSet<String> {
        rows.iter().map(|(name, ..)| name.split(',').next().unwrap().to_owned()).collect()
    };
    let activations = declared("functional/activations", "pub fn ");
    assert!(activations.len() > 30, "{activations:?}");
    assert_eq!(activations, rows(ACTIVATIONS));
    assert_eq!(declared("layers/norm", "pub struct "), rows(NORMS));
}

#[test]
fn nan_and_infinities_are_seen() -> Result<()> {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        for &(name, f, below, above) in ACTIVATIONS.iter().chain(NORMS) {
            for (value, at) in [(f32::NAN, Shown), (f32::NEG_INFINITY, below), (f32::INFINITY, above)] {
                let rows = [[value, 0., 1., 2.], [1., 2., 3., 4.], [0., 0., 0., 0.5]];
                let x = Tensor::new(&rows, device())?.to_dtype(dtype)?;
                for result in [f(&x), with_reference(|| f(&x))] {
                    // An error tells too.
                    let Ok(y) = result else { continue };
                    let y = y.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?[0];
                    let is_right = match at {
                        Shown if value.is_nan() => y.is_nan(),
                        Shown => !y.is_finite(),
                        Limit(limit) => {
                            (y - limit).abs() <= if dtype.size_in_bytes() == 2 { 2e-2 } else { 1e-5 }
                        }
                    };
                    assert!(is_right, "`{name}` at {value} in {dtype:?}: {y}");
                }
            }
        }
    }
    Ok(())
}

/// By JAX 0.10.2: 0 and 1, since the derivative of the ReLU in it is selected, not multiplied.
#[test]
fn the_gradient_of_hard_silu_at_infinities() -> Result<()> {
    let x = [f32::NEG_INFINITY, -1e20, -5., -3., 0., 3., 5., 1e20, f32::INFINITY];
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let leaf = Leaf::<treex_core::Parameter>::new(Tensor::new(&x, device())?.to_dtype(dtype)?)?;
        let gradient = || -> Result<Vec<f32>> {
            let gradient = treex_core::grad(&leaf, |x| Ok(hard_silu(&x.get()?)?.sum_all()?))?;
            Ok(gradient.get()?.to_dtype(DType::F32)?.to_vec1()?)
        };
        for found in [gradient()?, with_reference(gradient)?] {
            assert_eq!(found, [0., 0., 0., 0., 0.5, 1., 1., 1., 1.], "{dtype:?}");
        }
    }
    Ok(())
}
