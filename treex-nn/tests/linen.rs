//! Keys, weights and masks as Flax Linen derives them: `fixtures/linen.json`, written by `linen.py` beside it,
//! and treex-core's `flax.json`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use treex_core::{ErrorKind, KindTag, Path, Rngs, path};
use treex_nn::{
    BatchNorm, Conv, Dropout, GruCell, Linear, MultiHeadDotProductAttention, Rnn, Sequential, initializers,
    prelude::*, relu,
};
use treex_testing::device;
use treex_testing::fixture;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../treex-core/tests/fixtures/flax.json")).unwrap()
}

fn linen() -> Value {
    fixture!("linen.json")
}

fn hex(x: &Tensor) -> Vec<String> {
    let x: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    x.into_iter().map(|x| format!("{:08x}", x.to_bits())).collect()
}

/// Every leaf of a model from `init_linen(42)` against Flax's of the same name.
fn check(model: impl Tree, name: &str, flax_name: impl Fn(&Path, KindTag) -> String) -> Result<()> {
    let model = model.init_linen(42, device())?.filter(!Rng);
    let golden = golden();
    let flax = golden["flax_models_PRNGKey42"][name].as_object().unwrap();
    let ours: BTreeMap<_, _> = model
        .leaves()
        .into_iter()
        .map(|(path, kind, leaf)| (flax_name(&path, kind), leaf.value().unwrap()))
        .collect();
    assert_eq!(ours.keys().collect::<Vec<_>>(), flax.keys().collect::<Vec<_>>(), "{name}");
    for (path, value) in ours {
        assert_eq!(json!(value.dims()), flax[&path]["shape"], "{name}: {path}");
        if is_orthogonal(&path) {
            // Through a factorization.
            let want: Vec<String> = serde_json::from_value(flax[&path]["bits"].clone()).unwrap();
            let want = want.iter().map(|bits| f32::from_bits(u32::from_str_radix(bits, 16).unwrap()));
            let got = value.flatten_all()?.to_vec1::<f32>()?;
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{name}: {path}");
        } else {
            assert_eq!(json!(hex(value)), flax[&path]["bits"], "{name}: {path}");
        }
    }
    Ok(())
}

/// Whether Flax makes this parameter of a recurrent cell by `orthogonal`.
fn is_orthogonal(path: &str) -> bool {
    path.starts_with("params/cell/h") && path.ends_with("/kernel")
}

fn params(path: &Path, _: KindTag) -> String {
    format!("params/{}", path.to_string().replace("layers.", "layers_").replace('.', "/"))
}

#[derive(Clone, Debug, TreeObject)]
enum Entry {
    One(Linear),
    Many(Vec<Linear>),
}

#[derive(Clone, Debug, TreeObject)]
struct Mlp {
    dense1: Linear,
    layers: Vec<Linear>,
    d: BTreeMap<&'static str, Entry>,
}

#[derive(Clone, Debug, TreeObject)]
struct Cnn {
    #[tree(rename = "Conv_0")]
    conv: Conv,
    #[tree(rename = "BatchNorm_0")]
    norm: BatchNorm,
    head: Linear,
}

#[test]
fn a_single_layer() -> Result<()> {
    check(Linear::new(3, 4), "dense_top", params)
}

#[test]
fn attributes_lists_and_dictionaries() -> Result<()> {
    let mlp = Mlp {
        dense1: Linear::new(3, 4),
        layers: vec![Linear::new(4, 5), Linear::new(5, 2)],
        d: [("b", Entry::One(Linear::new(2, 3))), ("a", Entry::Many(vec![Linear::new(3, 2)]))].into(),
    };
    check(mlp, "setup_mlp", |path, kind| params(path, kind).replace("d/a/0", "d_a_0").replace("d/b", "d_b"))
}

#[test]
fn names_of_compact_modules() -> Result<()> {
    let cnn = Cnn { conv: Conv::new(2, 3, [3, 3]), norm: BatchNorm::new(3), head: Linear::new(48, 4) };
    check(cnn, "compact_cnn", |path, kind| {
        let name = params(path, kind);
        if kind.is(KindTag::of::<BatchStat>()) { name.replace("params/", "batch_stats/") } else { name }
    })
}

#[test]
fn functions_of_a_sequence_take_an_index() -> Result<()> {
    let model = Sequential::new().add(Linear::new(3, 4)).add_fn(relu).add(Linear::new(4, 2));
    check(model, "sequential_top", params)
}

#[test]
fn attention_and_recurrence() -> Result<()> {
    check(MultiHeadDotProductAttention::new(2, 4), "mha", params)?;
    check(Rnn::new(GruCell::new(3, 3)), "rnn_gru", params)
}

#[test]
fn initialized_leaves_keep_their_values() -> Result<()> {
    let new = || vec![Linear::new(3, 4), Linear::new(4, 2)];
    let whole = new().init_linen(42, device())?;
    let mut mixed = new();
    mixed[0] = Linear::new(3, 4).init(7, device())?;
    let trained = mixed[0].clone();
    let mixed = mixed.init_linen(42, device())?;
    assert_eq!(mixed[0].kernel, trained.kernel);
    assert_eq!(mixed[1].kernel, whole[1].kernel);
    Ok(())
}

/// Draws like `Noise` in the script: twice from one leaf and once from another.
#[derive(Clone, Debug, TreeObject)]
struct Noise {
    noise: Leaf<Rng>,
    key: Leaf<Rng>,
    scale: Leaf<Parameter>,
}

#[derive(Clone, Debug, TreeObject)]
struct Model {
    noises: [Noise; 2],
    dropout: Dropout,
    other: Dropout,
}

impl Model {
    fn new() -> Self {
        let noise = || Noise {
            noise: Leaf::stream("noise"),
            key: Leaf::key(),
            scale: Leaf::param(initializers::normal(1e-2), 3, DType::F32),
        };
        Self {
            noises: [noise(), noise()],
            dropout: Dropout::new(0.5),
            other: Dropout::new(0.5).rng_collection("noise"),
        }
    }

    fn apply(&mut self) -> Result<Value> {
        let mut keys = Vec::new();
        for Noise { noise, key, .. } in &mut self.noises {
            keys.extend([noise.next_key()?.words(), noise.next_key()?.words(), key.next_key()?.words()]);
        }
        let x = Tensor::ones(12, DType::F32, device())?;
        let kept = [self.dropout.call(&x)?, self.dropout.call(&x)?, self.other.call(&x)?];
        Ok(json!({ "keys": keys, "kept": kept.map(|y| ones(&y)) }))
    }
}

/// 1 for each element that a Dropout kept.
fn ones(y: &Tensor) -> Vec<u8> {
    y.to_vec1::<f32>().unwrap().into_iter().map(|y| u8::from(y != 0.)).collect()
}

#[test]
fn streams_as_in_flax() -> Result<()> {
    let flax = linen();
    let model = Model::new().init_linen(0, device())?;
    assert_eq!(json!(model.noises.each_ref().map(|noise| hex(&noise.scale.get().unwrap()))), flax["scales"]);

    let start = |rngs: Rngs| model.updated(&Model::new().init_linen(rngs, device())?.filter(Rng));
    let mut all = start(Rngs::new(1).stream("dropout", 2).stream("noise", 3))?;
    assert_eq!(all.apply()?, flax["all streams"]);
    assert_ne!(all.apply()?, flax["all streams"]); // the counters went on
    all.set_rngs("params", 1)?;
    all.set_rngs("noise", 3)?;
    all.set_rngs("dropout", 2)?;
    assert_eq!(all.apply()?, flax["all streams"]);
    for (stream, seed) in [("params", 1), ("noise", 3), ("dropout", 5)] {
        all.set_rngs(stream, seed)?;
    }
    assert_eq!(all.apply()?, flax["other keys"]);

    let mut some = start(Rngs::new(1).stream("noise", 3))?;
    assert_eq!(some.apply()?, flax["dropout alone is missing"]);
    for (stream, seed) in [("params", 1), ("noise", 3)] {
        some.set_rngs(stream, seed)?;
    }
    assert_eq!(some.apply()?, flax["dropout alone is missing"]);
    Ok(())
}

/// Where Flax shares a counter between leaves, each leaf here has its own.
#[test]
fn leaves_of_one_root_have_different_keys() -> Result<()> {
    let flax = linen();
    let mut model = Model::new().init_linen(1, device())?;
    let got = model.apply()?;
    assert_eq!(got["kept"], flax["params alone"]["kept"]);
    let keys: Vec<[u32; 2]> = serde_json::from_value(got["keys"].clone()).unwrap();
    let of_flax: Vec<[u32; 2]> = serde_json::from_value(flax["params alone"]["keys"].clone()).unwrap();
    assert_eq!([&keys[..2], &keys[3..5]].concat(), [&of_flax[..2], &of_flax[3..5]].concat());
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    Ok(())
}

#[test]
fn dropout_as_the_root() -> Result<()> {
    let x = Tensor::ones(12, DType::F32, device())?;
    for (rngs, kept) in
        [Rngs::new(0).stream("dropout", 2), Rngs::from(2)].into_iter().zip(linen()["top"].as_array().unwrap())
    {
        let mut dropout = Dropout::new(0.3).init_linen(rngs, device())?;
        assert_eq!(json!(ones(&dropout.call(&x)?)), *kept);
    }
    let flax = golden();
    #[derive(Clone, TreeObject)]
    struct Named {
        #[tree(rename = "Dropout_0")]
        dropout: Dropout,
    }
    let rngs = Rngs::new(0).stream("dropout", 7);
    let mut model = Named { dropout: Dropout::new(0.4) }.init_linen(rngs, device())?;
    let x = Tensor::ones(20, DType::F32, device())?;
    for mask in flax["dropout_0.4_key7_Dropout_0"].as_array().unwrap() {
        assert_eq!(json!(ones(&model.dropout.call(&x)?)), *mask);
    }
    Ok(())
}

#[test]
fn positions_are_saved() -> Result<()> {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("positions.safetensors");
    let mut model = Model::new().init_linen(1, device())?;
    model.apply()?;
    model.save(&file)?;
    let next = model.apply()?;
    for mut loaded in [Model::new(), Model::new().init_linen(2, device())?] {
        loaded.load(&file)?;
        assert_eq!(loaded.apply()?, next);
    }
    Ok(())
}

#[test]
fn an_unused_stream() -> Result<()> {
    let rngs = Rngs::new(1).stream("dropout", 2);
    let mut model = Model::new().init_linen(rngs, device())?.filter(path("dropout.**"));
    let error = model.set_rngs("noise", 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    let text = "no random leaf of this tree is in the stream `noise`: expected one of {\"dropout\"}";
    assert!(error.to_string().starts_with(text), "{error}");
    let mut model = Model::new().init(1, device())?;
    assert!(model.set_rngs("dropout", 0).unwrap_err().to_string().contains("`init_linen`"));
    Ok(())
}
