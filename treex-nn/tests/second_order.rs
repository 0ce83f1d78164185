//! The gradient of the gradient of every activation and every layer, by finite differences in `f64`.
//!
//! A `main` of its own: the thread that keeps the graph is started before any other.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{DType, Tensor};
use libtest_mimic::{Arguments, Failed, Trial};
use treex_core::{Key, Leaf, Parameter, Result, check_gradients, enable_nested_gradients, prelude::*};
use treex_nn::*;
use treex_testing::device;

/// What has no row below, each with the reason.
const EXEMPT: [(&str, &str); 12] = [
    ("one_hot", "its input is integers"),
    ("Axes", "an option"),
    ("AttentionOptions", "an option"),
    ("Carry", "a trait"),
    ("IntoLayers", "a trait"),
    ("IntoModule", "a trait"),
    ("KvCache", "a cache of constants"),
    ("Padding", "an option"),
    ("RnnCell", "a trait"),
    ("Rotary", "a row of attention"),
    ("Sizes", "an option"),
    ("StandardizeOptions", "an option"),
];

/// Layers whose gradient is not that of the function that they compute, each with the reason.
const NOT_DIFFERENTIATED: [(&str, &str); 1] =
    [("SpectralNorm", "power iteration is a constant for the gradient, as in Flax")];

type Row = (&'static str, Box<dyn Fn() -> Result<()> + Send>);

fn x(shape: &[usize]) -> Result<Leaf<Parameter>> {
    Leaf::new(Key::from(5).normal(shape, DType::F64)?.to_device(device())?)
}

fn weighted(y: &Tensor) -> Result<Tensor> {
    Ok((y * Key::from(7).normal(y.shape(), DType::F64)?.to_device(device())?)?.sum_all()?)
}

/// The gradients of `f`, multiplied by fixed numbers and differentiated.
fn check<T: Tree>(tree: &T, f: impl Fn(&mut T) -> Result<Tensor>) -> Result<()> {
    check_gradients(tree, Parameter, |tree| {
        let (_, gradients) = tree.value_and_grad(Parameter, |tree| weighted(&f(tree)?))?;
        let mut sum = Tensor::zeros((), DType::F64, device())?;
        gradients.map(|gradient| {
            sum = (&sum + weighted(gradient)?)?;
            Ok(gradient.clone())
        })?;
        Ok(sum)
    })
}

/// A function of `[4, 6]` numbers.
fn function(name: &'static str, f: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static) -> Row {
    (name, Box::new(move || check(&x(&[4, 6])?, |x| f(&x.get()?))))
}

/// A layer, by its parameters and its input of this shape.
fn layer<M: Module + Tree + 'static>(
    name: &'static str,
    shape: &'static [usize],
    make: impl Fn() -> M + Send + 'static,
) -> Row {
    called(name, shape, make, |layer, x| layer.call(x))
}

fn called<M: Tree + 'static>(
    name: &'static str,
    shape: &'static [usize],
    make: impl Fn() -> M + Send + 'static,
    call: impl Fn(&mut M, &Tensor) -> Result<Tensor> + Send + 'static,
) -> Row {
    let run = move || {
        let tree = (make().init(0, device())?, x(shape)?).into_dtype(DType::F64)?;
        // Biases of zeros and scales of ones would hide terms.
        let (mut layer, x) = tree;
        let noise = Key::from(11);
        let moved = layer.filter(Parameter).map(|value| {
            let noise = noise.normal(value.shape(), DType::F64)?.to_device(device())?;
            Ok(((value * 0.7)? + (noise * 0.3)?)?)
        })?;
        layer.update(&moved)?;
        check(&(layer, x), |(layer, x)| call(layer, &x.get()?))
    };
    (name, Box::new(run))
}

fn activation_rows() -> Vec<Row> {
    let mask = || Tensor::new(&[[1u8, 0, 1, 1, 0, 1]], device()).and_then(|mask| mask.broadcast_as((4, 6)));
    vec![
        function("identity", activations::identity),
        function("soft_sign", soft_sign),
        function("squareplus", squareplus),
        function("squareplus_with", |x| squareplus_with(x, 4.)),
        function("sparse_plus", sparse_plus),
        function("sparse_sigmoid", sparse_sigmoid),
        function("elu", elu),
        function("elu_with", |x| elu_with(x, 1.3)),
        function("celu", celu),
        function("celu_with", |x| celu_with(x, 1.3)),
        function("selu", selu),
        function("gelu", gelu),
        function("gelu_with", |x| gelu_with(x, false)),
        function("glu", |x| glu(x, 1)),
        function("resize", |x| resize(x, (6, 5), ResizeMethod::Cubic)),
        function("resize_with", |x| resize_with(x, (7, 3), ResizeMethod::Nearest, false)),
        function("logsumexp", |x| logsumexp(x, 1)),
        function("logsumexp_with", |x| Ok(logsumexp_with(x, 1, Some(&x.affine(0.2, 0.9)?.sqr()?), None)?.0)),
        function("logmeanexp", |x| logmeanexp(x, 1)),
        function("logmeanexp_where", move |x| logmeanexp_where(x, 1, &mask()?)),
        function("relu", relu),
        function("relu6", relu6),
        function("leaky_relu", leaky_relu),
        function("leaky_relu_with", |x| leaky_relu_with(x, 0.1)),
        function("hard_tanh", hard_tanh),
        function("hard_sigmoid", hard_sigmoid),
        function("hard_silu", hard_silu),
        function("sigmoid", sigmoid),
        function("log_sigmoid", log_sigmoid),
        function("silu", silu),
        function("softplus", softplus),
        function("log1mexp", |x| log1mexp(&(x.sqr()? + 0.1)?)),
        function("mish", mish),
        function("tanh", tanh),
        function("softmax", |x| softmax(x, 1)),
        function("softmax_where", move |x| softmax_where(x, 1, &mask()?)),
        function("log_softmax", |x| log_softmax(x, 1)),
        function("log_softmax_where", move |x| {
            let y = log_softmax_where(x, 1, &mask()?)?;
            Ok(mask()?.where_cond(&y, &y.zeros_like()?)?)
        }),
        function("standardize", |x| standardize(x, 1, 1e-5)),
        function("standardize_with", |x| standardize_with(x, 1, &StandardizeOptions::default())),
    ]
}

fn layer_rows() -> Vec<Row> {
    const SEQUENCE: &[usize] = &[2, 3, 4];
    const IMAGE: &[usize] = &[2, 4, 4, 2];
    let of_heads = || MultiHeadDotProductAttention::new(2, 4);
    let ids = || Tensor::new(&[[0u32, 3, 3], [1, 0, 2]], device());
    vec![
        layer("Dense", SEQUENCE, || Dense::new(4, 3)),
        layer("Linear", SEQUENCE, || Linear::new(4, 3)),
        layer("DenseGeneral", SEQUENCE, || DenseGeneral::new(4, (2, 3))),
        layer("Einsum", SEQUENCE, || Einsum::new((4, 2, 3), "...f,fhd->...hd")),
        called(
            "Embed",
            &[4],
            || Embed::new(4, 3),
            move |embed, x| Ok(embed.call(&ids()?)?.broadcast_mul(&x.narrow(0, 0, 3)?)?),
        ),
        layer("Mlp", SEQUENCE, || Mlp::new([4, 5, 3])),
        layer("Conv", IMAGE, || Conv::new(2, 3, [3, 3])),
        layer("ConvLocal", IMAGE, || ConvLocal::new([4, 4, 2], 3, [2, 2])),
        layer("ConvTranspose", IMAGE, || ConvTranspose::new(2, 3, [3, 3]).strides([2, 2])),
        layer("BatchNorm", SEQUENCE, || BatchNorm::new(4)),
        layer("GroupNorm", SEQUENCE, || GroupNorm::new(4).num_groups(2)),
        layer("InstanceNorm", SEQUENCE, || InstanceNorm::new(4)),
        layer("LayerNorm", SEQUENCE, || LayerNorm::new(4)),
        layer("RmsNorm", SEQUENCE, || RmsNorm::new(4)),
        layer("WeightNorm", SEQUENCE, || WeightNorm::new(Linear::new(4, 3))),
        layer("MultiHeadDotProductAttention", SEQUENCE, of_heads),
        layer("MultiHeadAttention", SEQUENCE, || MultiHeadAttention::new(2, 4)),
        layer("SelfAttention", SEQUENCE, || SelfAttention::new(2, 4)),
        layer("SimpleCell", SEQUENCE, || Rnn::new(SimpleCell::new(4, 3))),
        layer("LstmCell", SEQUENCE, || Rnn::new(LstmCell::new(4, 3))),
        layer("OptimizedLstmCell", SEQUENCE, || Rnn::new(OptimizedLstmCell::new(4, 3))),
        layer("GruCell", SEQUENCE, || Rnn::new(GruCell::new(4, 3))),
        layer("MguCell", SEQUENCE, || Rnn::new(MguCell::new(4, 3))),
        layer("ConvLstmCell", &[2, 3, 4, 4, 2], || Rnn::new(ConvLstmCell::new(2, 3, [3, 3]))),
        layer("Rnn", SEQUENCE, || Rnn::new(GruCell::new(4, 3)).reverse(true)),
        layer("Bidirectional", SEQUENCE, || {
            Bidirectional::new(Rnn::new(GruCell::new(4, 3)), Rnn::new(GruCell::new(4, 3)))
        }),
        layer("BatchApply", SEQUENCE, || BatchApply::new(Linear::new(4, 3))),
        layer("Dropout", SEQUENCE, || Dropout::new(0.4)),
        layer("Flatten", SEQUENCE, Flatten::default),
        layer("Lambda", SEQUENCE, || Lambda::new("tanh", tanh)),
        layer("PRelu", SEQUENCE, PRelu::new),
        layer("Remat", SEQUENCE, || Remat::new(Linear::new(4, 3))),
        layer("ScanBlocks", SEQUENCE, || ScanBlocks::new(Linear::new(4, 4), 3)),
        layer("Sequential", SEQUENCE, || sequential((Linear::new(4, 3), tanh, Linear::new(3, 2)))),
        function("avg_pool", |x| avg_pool(&x.reshape((1, 4, 6, 1))?, [2, 2], [2, 1], Padding::Same, true)),
        function("max_pool", |x| max_pool(&x.reshape((1, 4, 6, 1))?, [2, 2], [2, 1], Padding::Same)),
        function("min_pool", |x| min_pool(&x.reshape((1, 4, 6, 1))?, [2, 2], [2, 1], Padding::Same)),
    ]
}

/// The public activations, and the public layers: every name of `pub use layers::{..}`, without Flax's spellings.
fn public_names() -> BTreeSet<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = BTreeSet::new();
    for file in fs::read_dir(src.join("functional/activations")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let functions = text.lines().filter_map(|line| line.strip_prefix("pub fn "));
        names.extend(functions.map(|line| line[..line.find(['(', '<']).unwrap()].to_owned()));
    }
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    for list in lib.split("pub use layers::{").skip(1) {
        let list = &list[..list.find('}').unwrap()];
        let words = list.split(',').map(str::trim).filter(|word| !word.is_empty() && !word.contains(" as "));
        names.extend(words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_owned));
    }
    names
}

fn every_name_has_a_row(rows: &BTreeSet<&str>) -> std::result::Result<(), Failed> {
    let exempt: BTreeSet<_> = EXEMPT.iter().chain(&NOT_DIFFERENTIATED).map(|(name, _)| *name).collect();
    let names = public_names();
    assert!(names.len() > 60, "the parse found {names:?}");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !rows.contains(name.as_str()) && !exempt.contains(name.as_str()))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("without a row: {missing:?}").into()) }
}

fn main() {
    enable_nested_gradients().unwrap();
    let rows: Vec<_> = activation_rows().into_iter().chain(layer_rows()).collect();
    let names: BTreeSet<_> = rows.iter().map(|(name, _)| *name).collect();
    let complete = Trial::test("every_name_has_a_row", move || every_name_has_a_row(&names));
    let check = |(name, run): Row| Trial::test(name, move || run().map_err(|error| error.to_string().into()));
    let tests = rows.into_iter().map(check).chain([complete]).collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}
