//! The contract of the layers: one table of cases that Flax computed (`fixtures/layers.json`, written by
//! `layers.py` beside it), and one body that holds for every layer.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde_json::Value;
use treex_core::{
    BatchStat, Filter, KindTag, Leaf, Module, Parameter, Result, TreePart, compute::with_plain, prelude::*,
};
use treex_nn::*;

/// What the fixture has and this crate not yet: pooling comes with the rest of Flax Linen.
const LATER: &[&str] = &["pool"];

struct Case {
    layer: String,
    name: String,
    all: Value,
}

impl Case {
    fn config(&self, key: &str) -> &Value {
        &self.all["config"][key]
    }

    fn usize(&self, key: &str) -> usize {
        usize_of(self.config(key))
    }

    fn sizes(&self, key: &str) -> Vec<usize> {
        self.config(key).as_array().unwrap().iter().map(usize_of).collect()
    }

    fn f64(&self, key: &str) -> f64 {
        self.config(key).as_f64().unwrap()
    }

    fn bool(&self, key: &str) -> bool {
        self.config(key).as_bool().unwrap()
    }

    fn isize(&self, key: &str) -> isize {
        self.config(key).as_i64().unwrap() as isize
    }

    fn tensor(&self, key: &str) -> Option<Tensor> {
        self.all.get(key).map(tensor)
    }

    fn x(&self) -> Tensor {
        self.tensor("x").unwrap()
    }

    fn tensors(&self, key: &str) -> BTreeMap<String, Tensor> {
        let tensors = self.all.get(key).and_then(Value::as_object);
        tensors.into_iter().flatten().map(|(path, value)| (path.clone(), tensor(value))).collect()
    }
}

fn usize_of(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn tensor(value: &Value) -> Tensor {
    let data: Vec<f32> =
        value["data"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect();
    let shape: Vec<usize> = value["shape"].as_array().unwrap().iter().map(usize_of).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn cases() -> Vec<Case> {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/layers.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let case =
        |case: &Value| Case { layer: text(&case["layer"]), name: text(&case["name"]), all: case.clone() };
    fixture["cases"].as_array().unwrap().iter().map(case).collect()
}

/// The largest difference over the largest magnitude, so that digits count the same everywhere.
fn assert_close(got: &Tensor, want: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(got.dims(), want.dims(), "{what}: shape");
    let largest = |x: &Tensor| {
        let x = x.to_dtype(DType::F64).unwrap().abs().unwrap().flatten_all().unwrap();
        x.to_vec1::<f64>().unwrap().into_iter().fold(0., f64::max)
    };
    let difference = (got.to_dtype(DType::F64).unwrap() - want.to_dtype(DType::F64).unwrap()).unwrap();
    let (difference, magnitude) = (largest(&difference), largest(want));
    assert!(
        difference <= tolerance * magnitude.max(1e-3),
        "{what}: {difference:e} of {magnitude:e}\n{got}\n{want}"
    );
}

/// The layer that a case describes, with the mode that it asks for.
fn build(case: &Case) -> Box<dyn Module> {
    match case.layer.as_str() {
        "Linear" => {
            Box::new(Linear::new(case.usize("in"), case.usize("features")).use_bias(case.bool("use_bias")))
        }
        "Conv" => Box::new(conv(case)),
        "BatchNorm" => {
            let mut norm = BatchNorm::new(case.usize("features"))
                .axis(case.isize("axis"))
                .momentum(case.f64("momentum"))
                .epsilon(case.f64("epsilon"))
                .use_scale(case.bool("use_scale"))
                .use_bias(case.bool("use_bias"))
                .use_fast_variance(case.bool("use_fast_variance"));
            if !case.bool("train") {
                norm.eval();
            }
            Box::new(norm)
        }
        "Mlp" => {
            assert_eq!(case.config("activation"), "relu");
            Box::new(Mlp::new(case.sizes("features")))
        }
        "Sequential" => {
            let layers = case.config("layers").as_array().unwrap();
            let model = layers.iter().fold(Sequential::new(), |model, layer| {
                match layer["layer"].as_str().unwrap() {
                    "Linear" => model.add(Linear::new(usize_of(&layer["in"]), usize_of(&layer["features"]))),
                    "tanh" => model.add_fn(tanh),
                    other => panic!("no layer {other}"),
                }
            });
            Box::new(model)
        }
        other => panic!("no layer {other}"),
    }
}

fn conv(case: &Case) -> Conv {
    let padding = match case.config("padding") {
        Value::String(name) => match name.as_str() {
            "SAME" => Padding::Same,
            "VALID" => Padding::Valid,
            "CIRCULAR" => Padding::Circular,
            "REFLECT" => Padding::Reflect,
            "CAUSAL" => Padding::Causal,
            other => panic!("no padding {other}"),
        },
        Value::Number(zeros) => zeros.as_u64().map(|zeros| zeros as usize).unwrap().into(),
        pairs => {
            let pair = |pair: &Value| (usize_of(&pair[0]), usize_of(&pair[1]));
            pairs.as_array().unwrap().iter().map(pair).collect::<Vec<_>>().into()
        }
    };
    let conv = Conv::new(case.usize("in"), case.usize("features"), case.sizes("kernel_size"))
        .strides(case.sizes("strides"))
        .padding(padding)
        .input_dilation(case.sizes("input_dilation"))
        .kernel_dilation(case.sizes("kernel_dilation"))
        .feature_group_count(case.usize("feature_group_count"))
        .use_bias(case.bool("use_bias"));
    match case.config("mask") {
        Value::Null => conv,
        mask => conv.mask(tensor(mask)),
    }
}

/// The layer with the case's parameters and statistics.
fn filled(case: &Case, dtype: DType) -> Result<Box<dyn Module>> {
    let mut model = build(case);
    let tensors: HashMap<_, _> = case.tensors("params").into_iter().chain(case.tensors("stats")).collect();
    load_var_builder(&mut model, &VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))?;
    model.to_dtype(dtype)?;
    Ok(model)
}

fn values(tree: &impl Tree, filter: impl Filter) -> BTreeMap<String, Tensor> {
    let tree = tree.filter(filter);
    tree.leaves()
        .into_iter()
        .map(|(path, _, leaf)| (path.to_string(), leaf.value().unwrap().clone()))
        .collect()
}

fn assert_all_close(
    got: &BTreeMap<String, Tensor>,
    want: &BTreeMap<String, Tensor>,
    tolerance: f64,
    what: &str,
) {
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{what}");
    for (path, got) in got {
        assert_close(got, &want[path], tolerance, &format!("{what} `{path}`"));
    }
}

/// Output, gradients and state of one call, against Flax.
fn check_numbers(case: &Case, dtype: DType, tolerance: f64) -> Result<()> {
    let name = format!("{} in {}", case.name, dtype.as_str());
    let x = case.x().to_dtype(dtype)?;
    let cotangent = case.tensor("cotangent").unwrap().to_dtype(dtype)?;
    let mut both = (filled(case, dtype)?, Leaf::<Parameter>::new(&x)?);
    let ((_, y), (grads, dx)) = both.value_and_grad_aux(Parameter, |(model, x)| {
        let y = model.call(&x.get()?)?;
        Ok(((&y * &cotangent)?.sum_all()?, y))
    })?;
    let (mut model, _) = both;
    assert_eq!(y.dtype(), dtype, "{name}");
    assert_close(&y, &case.tensor("y").unwrap(), tolerance, &format!("{name}: y"));
    assert_close(&dx.get()?, &case.tensor("dx").unwrap(), tolerance, &format!("{name}: dx"));
    assert_all_close(
        &values(&grads, Parameter),
        &case.tensors("dparams"),
        tolerance,
        &format!("{name}: gradient of"),
    );
    let stats = if case.all.get("stats_after").is_some() { "stats_after" } else { "stats" };
    assert_all_close(
        &values(&model, BatchStat),
        &case.tensors(stats),
        tolerance,
        &format!("{name}: after the call"),
    );
    if let Some(y) = case.tensor("y_eval") {
        model.eval();
        assert_close(&model.call(&x)?, &y, tolerance, &format!("{name}: y in evaluation"));
    }
    Ok(())
}

fn bits(tree: &impl Tree) -> Vec<String> {
    // `Debug` of a leaf abbreviates, so the values go beside it.
    let leaf = |(path, kind, leaf): (treex_core::Path, KindTag, &treex_core::Handle)| {
        let values = leaf.value().map(|value| value.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>());
        format!("{path} {kind} {leaf:?} {:?}", values.transpose().unwrap())
    };
    tree.leaves().into_iter().map(leaf).collect()
}

/// What every tree owes: the laws, a file and back, an error before `init`.
fn check_laws(case: &Case) -> Result<()> {
    let fresh = build(case);
    let announced = |filter: KindTag| -> BTreeMap<String, Vec<usize>> {
        let leaves = fresh.leaves();
        let leaves = leaves.iter().filter(|(_, kind, _)| kind.is(filter));
        leaves.map(|(path, _, leaf)| (path.to_string(), leaf.shape().unwrap().dims().to_vec())).collect()
    };
    for (kind, key) in [(KindTag::of::<Parameter>(), "params"), (KindTag::of::<BatchStat>(), "stats")] {
        let flax: BTreeMap<_, _> =
            case.tensors(key).into_iter().map(|(path, x)| (path, x.dims().to_vec())).collect();
        assert_eq!(announced(kind), flax, "{}: {key}", case.name);
    }
    if !fresh.initialized() {
        let error = fresh.clone().call(&case.x()).unwrap_err();
        assert_eq!(error.kind(), treex_core::ErrorKind::Uninitialized, "{}", case.name);
        assert!(error.to_string().contains("has no value yet; call `let model = model.init"), "{error}");
        let error = fresh.clone().init(0, &Device::Cpu)?.filter(!TreePart).call(&case.x()).unwrap_err();
        assert_eq!(error.kind(), treex_core::ErrorKind::FilteredOut, "{}", case.name);
    }

    let model = filled(case, DType::F32)?;
    assert!(model.initialized(), "{}", case.name);
    for kept in
        [model.filter(Parameter), model.filter(BatchStat), model.filter(TreePart), model.filter(!TreePart)]
    {
        assert_eq!(bits(&model.updated(&kept)?), bits(&model), "{}: updated(filter)", case.name);
    }

    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layers-{}.safetensors", std::process::id()));
    model.save(&file)?;
    let mut loaded = build(case);
    loaded.load(&file)?;
    std::fs::remove_file(&file)?;
    assert_eq!(bits(&loaded), bits(&model), "{}: saved and loaded", case.name);
    Ok(())
}

#[test]
fn layers_as_in_flax() -> Result<()> {
    let mut checked = BTreeMap::<String, usize>::new();
    for case in cases() {
        if matches!(case.layer.as_str(), "Dropout" | "activation") || LATER.contains(&case.layer.as_str()) {
            continue;
        }
        check_numbers(&case, DType::F32, 1e-5)?;
        check_numbers(&case, DType::F64, 1e-5)?;
        with_plain(|| check_numbers(&case, DType::F32, 1e-5))?;
        // A normalized batch of one is a difference of equal numbers: in half precision, noise.
        if case.layer != "BatchNorm" {
            check_numbers(&case, DType::F16, 1e-2)?;
            check_numbers(&case, DType::BF16, 5e-2)?;
        }
        check_laws(&case)?;
        *checked.entry(case.layer).or_default() += 1;
    }
    assert_eq!(checked.keys().collect::<Vec<_>>(), ["BatchNorm", "Conv", "Linear", "Mlp", "Sequential"]);
    Ok(())
}

#[test]
fn layers_go_to_other_threads() {
    fn send_sync<T: Send + Sync + Clone + std::fmt::Debug>() {}
    send_sync::<Linear>();
    send_sync::<Conv>();
    send_sync::<BatchNorm>();
    send_sync::<Dropout>();
    send_sync::<Mlp>();
    send_sync::<Sequential>();
    send_sync::<Lambda>();
}

#[test]
fn dropout_as_in_flax() -> Result<()> {
    for case in cases().iter().filter(|case| case.layer == "Dropout") {
        let words: Vec<u32> = case.sizes("key").into_iter().map(|word| word as u32).collect();
        let key = treex_core::Key::from_words([words[0], words[1]]);
        let dims: Vec<isize> = case.sizes("broadcast_dims").into_iter().map(|dim| dim as isize).collect();
        let (x, cotangent) = (Leaf::<Parameter>::new(case.x())?, case.tensor("cotangent").unwrap());
        let ((_, y), dx) = treex_core::value_and_grad_aux(&x, |x| {
            let y = dropout(&x.get()?, case.f64("rate"), key, &dims)?;
            Ok(((&y * &cotangent)?.sum_all()?, y))
        })?;
        // Masks and products are the same numbers, not nearly so.
        assert_close(&y, &case.tensor("y").unwrap(), 0., &case.name);
        assert_close(&dx.get()?, &case.tensor("dx").unwrap(), 0., &case.name);

        let mut layer =
            Dropout::new(case.f64("rate")).broadcast_dims(dims).init(0, &Device::Cpu)?.into_eval();
        assert_close(&layer.call(&case.x())?, &case.tensor("y_eval").unwrap(), 0., &case.name);
    }
    Ok(())
}

fn activation(case: &Case, x: &Tensor) -> Result<Tensor> {
    let option = |key: &str, default: f64| {
        case.config("kwargs").get(key).map_or(default, |value| value.as_f64().unwrap())
    };
    let dim = || {
        let axis = case.config("kwargs")["axis"].as_i64().unwrap();
        if axis < 0 { (x.rank() as i64 + axis) as usize } else { axis as usize }
    };
    match case.config("fn").as_str().unwrap() {
        "relu" => relu(x),
        "relu6" => relu6(x),
        "elu" => elu(x, option("alpha", 1.)),
        "celu" => celu(x, option("alpha", 1.)),
        "selu" => selu(x),
        "gelu" => gelu(x, case.config("kwargs")["approximate"].as_bool().unwrap()),
        "silu" => silu(x),
        "swish" => swish(x),
        "sigmoid" => sigmoid(x),
        "log_sigmoid" => log_sigmoid(x),
        "softplus" => softplus(x),
        "soft_sign" => soft_sign(x),
        "leaky_relu" => leaky_relu(x, option("negative_slope", 0.01)),
        "hard_tanh" => hard_tanh(x),
        "hard_sigmoid" => hard_sigmoid(x),
        "hard_silu" => hard_silu(x),
        "hard_swish" => hard_swish(x),
        "tanh" => tanh(x),
        "mish" => mish(x),
        "squareplus" => squareplus(x, option("b", 4.)),
        "sparse_plus" => sparse_plus(x),
        "sparse_sigmoid" => sparse_sigmoid(x),
        "glu" => glu(x, dim()),
        "softmax" => softmax(x, dim()),
        "log_softmax" => log_softmax(x, dim()),
        "logsumexp" => logsumexp(x, dim()),
        "logmeanexp" => logmeanexp(x, dim()),
        "standardize" => standardize(x, dim(), option("epsilon", 1e-5)),
        other => panic!("no activation {other}"),
    }
}

/// Functions whose formula, or whose derivative's formula, subtracts nearly equal numbers somewhere: there JAX
/// does not have the digits either, and the absolute difference counts.
const CANCELLING: &[&str] =
    &["celu", "elu", "gelu", "selu", "soft_sign", "squareplus", "standardize", "tanh"];

/// Element by element, unlike layers, since the inputs reach from 1e-30 to 100.
#[test]
fn activations_as_in_flax() -> Result<()> {
    for case in cases().iter().filter(|case| case.layer == "activation") {
        if case.config("fn") == "one_hot" {
            let axis = case.config("kwargs")["axis"].as_i64().unwrap() as isize;
            let y = one_hot(
                &case.x().to_dtype(DType::I64)?,
                usize_of(&case.config("kwargs")["num_classes"]),
                axis,
            )?;
            assert_close(&y, &case.tensor("y").unwrap(), 0., &case.name);
            continue;
        }
        let (x, cotangent) = (Leaf::<Parameter>::new(case.x())?, case.tensor("cotangent").unwrap());
        let ((_, y), dx) = treex_core::value_and_grad_aux(&x, |x| {
            let y = activation(case, &x.get()?)?;
            Ok(((&y * &cotangent)?.sum_all()?, y))
        })?;
        let absolute = if CANCELLING.contains(&case.config("fn").as_str().unwrap()) { 1e-6 } else { 1e-30 };
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (what, got, want) in
            [("y", y, case.tensor("y").unwrap()), ("dx", dx.get()?, case.tensor("dx").unwrap())]
        {
            assert_eq!(got.dims(), want.dims(), "{}: {what}", case.name);
            for (index, (got, want)) in flat(&got).into_iter().zip(flat(&want)).enumerate() {
                let close = (got - want).abs() <= 1e-6 * want.abs() + absolute;
                assert!(close, "{}: {what}[{index}] = {got:e}, not {want:e}", case.name);
            }
        }
    }
    Ok(())
}
