//! Misuse, and its error messages.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::collections::{BTreeMap, HashMap};
use std::fs;

use candle_core::{DType, Tensor};
use treex_core::{
    Error, ErrorKind, Initializer, Leaf, Load, Parameter, Result, Rng, State, path, prelude::*,
    value_and_grad,
};
use treex_testing::device;

#[derive(Clone, Debug, PartialEq, TreeObject)]
struct Linear {
    kernel: Leaf<Parameter>,
    key: Leaf<Rng>,
}

#[derive(Clone, Debug, PartialEq, TreeObject)]
struct Model {
    layers: Vec<Linear>,
    count: Leaf<State>,
}

impl Linear {
    fn new() -> Self {
        let kernel =
            Initializer::new(|key| key.normal((2, 3), DType::F32)).with_shape((2, 3)).with_dtype(DType::F32);
        Self { kernel: kernel.into(), key: Leaf::key() }
    }
}

impl Module for Model {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.count.set((self.count.get()? + 1.)?)?;
        self.layers.iter().try_fold(x.clone(), |x, layer| Ok(x.matmul(&layer.kernel.get()?)?))
    }
}

fn model(layers: usize) -> Model {
    let count = Leaf::new(Tensor::new(0f32, device()).unwrap()).unwrap();
    Model { layers: vec![Linear::new(); layers], count }
}

fn trained(layers: usize) -> Model {
    model(layers).init(0, device()).unwrap()
}

fn x() -> Tensor {
    Tensor::zeros((1, 2), DType::F32, device()).unwrap()
}

fn assert_error<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, parts: &[&str]) -> Error {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    error
}

#[test]
fn a_call_before_init() {
    assert_error(
        model(1).call(&x()),
        ErrorKind::Uninitialized,
        &["`Parameter`", "[2, 3]", "init(seed, &device)"],
    );
    let mut model = model(2);
    let error =
        model.value_and_grad(Parameter & path("layers.1.**"), |model| Ok(model.call(&x())?.sum_all()?));
    assert_error(error, ErrorKind::Uninitialized, &["`layers.1.kernel`"]);
    let error = model.tabulate_with(&x());
    assert_error(error, ErrorKind::Uninitialized, &["`layers.0.kernel`"]);
    assert_error(model.save("unused.safetensors"), ErrorKind::Uninitialized, &["`layers.0.kernel`"]);
}

#[test]
fn a_call_of_a_filtered_tree() {
    let mut filtered = trained(1).filter(Parameter);
    assert_error(filtered.call(&x()), ErrorKind::FilteredOut, &["`State`", "model.updated(&filtered)?"]);
    let error = filtered.value_and_grad(Parameter, |model| Ok(model.call(&x())?.sum_all()?));
    assert_error(error, ErrorKind::FilteredOut, &["`count`"]);
    let error = value_and_grad(&filtered, |model| Ok(model.clone().call(&x())?.sum_all()?));
    assert_error(error, ErrorKind::FilteredOut, &["`State`"]);
}

#[test]
fn an_update_with_a_different_structure() {
    let mut one = trained(1);
    let before = one.clone();
    assert_error(
        one.update(&trained(2)),
        ErrorKind::Structure,
        &["from leaf 2 on", "`layers.1.kernel`", "`count`", "`Vec` lengths"],
    );
    assert_error(one.updated(&trained(0)), ErrorKind::Structure, &["from leaf 0 on"]);
    assert_error(one.zip_map(&trained(2), |a, _| Ok(a.clone())), ErrorKind::Structure, &[]);
    assert_error(one.unflatten(&trained(2).flatten()), ErrorKind::Structure, &[]);
    assert_error(Model::stack(&[trained(1), trained(2)]), ErrorKind::Structure, &["tree 1 of the stack"]);
    assert_error(Model::stack(&[]), ErrorKind::Argument, &["at least one"]);
    assert_error(trained(1).unstack(), ErrorKind::Shape, &["`count`", "leading axis"]);
    assert_eq!(one, before);
}

#[test]
fn a_closure_that_changes_the_structure() {
    let mut model = trained(2);
    let before = model.clone();
    let error = model.value_and_grad(Parameter, |model| {
        model.layers.pop();
        Ok(model.layers[0].kernel.get()?.sum_all()?)
    });
    assert_error(error, ErrorKind::Structure, &["the model after the closure", "`layers.1.kernel`"]);
    assert_eq!(model, before);
}

#[test]
fn a_loss_that_is_not_a_scalar_and_a_filter_that_selects_nothing() {
    let mut model = trained(1);
    let error = model.value_and_grad(Parameter, |model| model.call(&x()));
    assert_error(error, ErrorKind::Shape, &["[1, 3]", "mean_all"]);
    let error = model.value_and_grad(Parameter, |_| Ok(Tensor::new(1u32, device())?));
    assert_error(error, ErrorKind::DType, &["u32"]);
    let error =
        model.value_and_grad(Parameter & path("heads.**"), |model| Ok(model.call(&x())?.sum_all()?));
    assert_error(error, ErrorKind::Argument, &["`Parameter & path(\"heads.**\")`"]);
    let error = model.value_and_grad(State, |model| Ok(model.call(&x())?.sum_all()?));
    assert_error(error, ErrorKind::Argument, &["`State`", "`Parameter`"]);
}

#[test]
fn a_batch_of_the_wrong_shape() {
    let error = trained(1).call(&Tensor::zeros((1, 7), DType::F32, device()).unwrap());
    assert_error(error, ErrorKind::Candle, &["[1, 7]", "[2, 3]"]);
}

/// A checkpoint of `Model` with its tensors changed.
fn altered(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    trained(2).save(&file).unwrap();
    let mut tensors = candle_core::safetensors::load(&file, device()).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    (folder, file)
}

#[test]
fn a_checkpoint_that_does_not_match() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, device()).unwrap();
    let mut model = trained(2);
    let before = model.clone();

    let (_folder, missing) = altered(|tensors| {
        let kernel = tensors.remove("layers.1.kernel").unwrap();
        tensors.insert("layers.1.weight".into(), kernel);
    });
    assert_error(
        model.load(&missing),
        ErrorKind::Checkpoint,
        &["at `layers.1.kernel`", "`layers.1.weight`", "allow_missing"],
    );
    let options = Load::strict().rename(|name| name.replace("weight", "kernel"));
    let report = model.clone().load_with(&missing, &options).unwrap();
    assert_eq!((report.missing, report.unused), (Vec::<String>::new(), Vec::<String>::new()));
    let options = Load::strict().allow_missing(path("layers.1.*")).allow_unused();
    let report = model.clone().load_with(&missing, &options).unwrap();
    assert_eq!(
        (report.missing, report.unused),
        (vec!["layers.1.kernel".into()], vec!["layers.1.weight".into()])
    );

    assert_error(
        model.clone().load_with(&missing, &Load::strict().allow_missing(path("layer.1.*"))),
        ErrorKind::Argument,
        &["`path(\"layer.1.*\")` selects no leaf", "nearest: `layers.1.kernel`"],
    );

    let (_folder, extra) =
        altered(|tensors| drop(tensors.insert("layers.1.kernels".into(), zeros(&[1], DType::F32))));
    assert_error(
        model.load(&extra),
        ErrorKind::Checkpoint,
        &["1 unused", "`layers.1.kernels`", "`layers.1.kernel`", "allow_unused"],
    );

    let (_folder, misshaped) =
        altered(|tensors| drop(tensors.insert("layers.0.kernel".into(), zeros(&[3, 2], DType::F32))));
    assert_error(
        model.load(&misshaped),
        ErrorKind::Shape,
        &["`layers.0.kernel`", "[2, 3]", "[3, 2]", "model.safetensors`"],
    );

    let (_folder, mistyped) =
        altered(|tensors| drop(tensors.insert("layers.0.kernel".into(), zeros(&[2, 3], DType::F64))));
    assert_error(
        model.load(&mistyped),
        ErrorKind::DType,
        &["`layers.0.kernel`", "`f32`", "`f64`", "model.safetensors`"],
    );

    let (_folder, truncated) = altered(|_| {});
    let bytes = fs::read(&truncated).unwrap();
    for length in [0, 4, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&truncated, &bytes[..length]).unwrap();
        assert_error(model.load(&truncated), ErrorKind::Checkpoint, &["not a valid checkpoint"]);
    }
    assert_error(model.load("no/such/file"), ErrorKind::Io, &["`no/such/file`"]);
    assert_error(model.save("no/such/folder/file"), ErrorKind::Io, &["`no/such/folder/file`"]);
    assert_eq!(model, before);
}

#[test]
fn a_checkpoint_of_a_different_kind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leaf.safetensors");
    let value = Tensor::new(&[1f32], device()).unwrap();
    vec![Leaf::<Parameter>::new(&value).unwrap()].save(&file).unwrap();
    let mut state = vec![Leaf::<State>::new(&value).unwrap()];
    assert_error(
        state.load(&file),
        ErrorKind::Checkpoint,
        &["`0`", "`State`", "`Parameter`", "leaf.safetensors`"],
    );
}

/// A file of raw bytes: a header, and zeros for the tensors.
fn raw(folder: &std::path::Path, header: &str, data: usize) -> std::path::PathBuf {
    let file = folder.join("raw.safetensors");
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat();
    fs::write(&file, bytes).unwrap();
    file
}

/// Headers that most parsers would read one way or another.
#[test]
fn a_header_that_is_not_clear() {
    const ZERO: &str = r#""0":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let folder = tempfile::tempdir().unwrap();
    let mut tree = vec![Leaf::<Parameter>::new(Tensor::new(&[1f32], device()).unwrap()).unwrap()];
    let metadata =
        |json: &str| format!(r#"{{"__metadata__":{{"treex":{}}},{ZERO}}}"#, serde_json::json!(json));
    for (header, data, parts) in [
        (format!("{{{ZERO},{ZERO}}}"), 4, &["two entries of the name `0`"][..]),
        (
            metadata(r#"{"format":2,"kinds":[]}"#),
            4,
            &["unknown format version", "expected 1, found 2", "later one"],
        ),
        (metadata(r#"{"format":1,"kinds":{}}"#), 4, &["at `0`", "expected `Parameter`, found no kind"]),
        (
            metadata(r#"{"format":1,"kinds":{"0":"Parameter","0":"State"}}"#),
            4,
            &["two entries of the name `0`"],
        ),
        (metadata(r#"{"format":1,"kinds":{"0":"Parameter","1":"State"}}"#), 4, &["a kind for `1`"]),
        (metadata(r#"{"kinds":{}}"#), 4, &["missing field `format`"]),
        (format!(r#"{{"__metadata__":{{"a":"","a":""}},{ZERO}}}"#), 4, &["not a valid checkpoint"]),
        (ZERO.replace("\"0\"", "{\"__metadata__\"") + "}", 4, &["entry `__metadata__` of the wrong type"]),
        (r#"{"0":{"a":"b"}}"#.into(), 0, &["entry `0` of the wrong type"]),
        (format!("{{{ZERO}}}"), 3, &["expected 4 bytes", "found 3"]),
        (format!("{{{ZERO}}}"), 5, &["expected 4 bytes", "found 5"]),
        ("[]".into(), 0, &["expected an object"]),
    ] {
        let file = raw(folder.path(), &header, data);
        let error = assert_error(tree.load(&file), ErrorKind::Checkpoint, parts);
        assert!(error.remedy_text().is_some() && error.to_string().contains("raw.safetensors"), "{error}");
    }
    // A length that is no length, of a header or of a shape.
    let file = folder.path().join("long.safetensors");
    fs::write(&file, [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    assert_error(tree.load(&file), ErrorKind::Checkpoint, &["at most 2 bytes", "found 18446744073709551615"]);
    let header = r#"{"0":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#;
    assert_error(tree.load(raw(folder.path(), header, 0)), ErrorKind::Checkpoint, &["overflow"]);
    // A type that Candle lacks.
    let file = raw(folder.path(), &format!("{{{}}}", ZERO.replace("F32", "BOOL").replace('4', "1")), 1);
    assert_error(tree.load(file), ErrorKind::DType, &["at `0`", "`BOOL`", "raw.safetensors"]);
    // Another program's file is loaded, and the report tells what was not checked.
    let file = raw(folder.path(), &format!("{{{ZERO}}}"), 4);
    let report = tree.load_with(file, &Load::strict()).unwrap();
    assert_eq!(report.without_kind, ["0"]);
    assert_eq!(tree[0].get().unwrap().to_vec1::<f32>().unwrap(), [0.]);
}

#[test]
fn a_checkpoint_of_a_leaf_that_was_filtered_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let whole = trained(1);
    whole.save(&file).unwrap();
    let mut filtered = whole.filter(Parameter);
    let parts = &["2 unused", "`count`, a leaf that was filtered out", "the whole tree", "allow_unused"];
    let error = assert_error(filtered.load(&file), ErrorKind::Checkpoint, parts);
    assert!(!error.to_string().contains("nearest"), "{error}");
}

/// The name under which safetensors keeps its metadata; the file that was there stays.
#[test]
fn a_leaf_with_the_name_of_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("map.safetensors");
    let leaf = || Leaf::<Parameter>::new(Tensor::new(&[1f32], device()).unwrap()).unwrap();
    let good = BTreeMap::from([("a".to_owned(), leaf())]);
    good.save(&file).unwrap();
    let bad = BTreeMap::from([("__metadata__".to_owned(), leaf())]);
    assert_error(bad.save(&file), ErrorKind::Checkpoint, &["at `__metadata__`", "rename"]);
    good.clone().load(&file).unwrap();
}

#[test]
fn two_leaves_with_one_name() {
    #[derive(Clone, Debug, TreeObject)]
    enum Node {
        Leaf(Leaf<Parameter>),
        Map(BTreeMap<String, Node>),
    }
    let leaf = || Node::Leaf(Leaf::new(Tensor::new(&[1f32], device()).unwrap()).unwrap());
    let below = Node::Map(BTreeMap::from([("b".to_owned(), leaf())]));
    let tree = BTreeMap::from([("a".to_owned(), below), ("a.b".to_owned(), leaf())]);
    let parts = &["at `a.b`", "same name", "key a, key b and key a.b", "rename"];
    assert_error(tree.save("unused.safetensors"), ErrorKind::Checkpoint, parts);
}

#[test]
fn an_uninitialized_model_can_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let saved = trained(2);
    saved.save(&file).unwrap();
    let mut fresh = model(2);
    fresh.load(&file).unwrap();
    assert_eq!(fresh, saved);
}

#[test]
fn a_module_init_that_leaves_a_leaf_without_a_value() {
    #[derive(Clone, Debug, TreeObject)]
    #[tree(module_init)]
    struct Forgetful {
        a: Leaf<Parameter>,
        b: Leaf<Parameter>,
    }
    impl Forgetful {
        fn module_init(&mut self, key: &mut treex_core::ModuleKey) -> Result<()> {
            self.a.set(key.make_rng().normal(2, DType::F32)?)
        }
    }
    let module = Forgetful { a: Leaf::uninitialized(), b: Leaf::uninitialized() };
    assert_eq!(format!("{module:?}"), "Forgetful { a: Uninitialized, b: Uninitialized }");
    let error = (module, Leaf::<State>::nothing()).init(0, device());
    assert_error(error, ErrorKind::Uninitialized, &["`0.b`", "module_init"]);
}

/// A tensor of very many rows, all of them empty, is printed by its shape.
#[test]
fn debug_of_rows_without_elements() {
    for (shape, text) in [([1 << 40, 0], "array[1099511627776, 0] f32"), ([0, 1 << 40], "array([], f32)")] {
        let leaf = Leaf::<Parameter>::new(Tensor::zeros(&shape[..], DType::F32, device()).unwrap()).unwrap();
        assert_eq!(format!("{leaf:?}"), text);
    }
}
