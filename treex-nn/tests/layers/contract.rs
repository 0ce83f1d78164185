//! The contract of every layer: Flax's numbers, and the laws of trees.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use treex_core::autograd::with_reference;
use treex_core::{ErrorKind, Filter, KindTag, Leaf, Parameter, Result, Rng, TreePart, by, prelude::*};
use treex_nn::load_var_builder;
use treex_testing::device;

use crate::case::{Case, Subject, assert_close};

/// The tolerances of a family; in half precision, rounding of sums dominates.
#[derive(Clone, Copy)]
pub(crate) struct Tolerances {
    pub(crate) f32: f64,
    pub(crate) f16: Option<f64>,
    pub(crate) bf16: Option<f64>,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { f32: 1e-5, f16: Some(1e-2), bf16: Some(5e-2) }
    }
}

/// All checks of a case.
pub(crate) fn check(
    case: &Case,
    build: impl Fn(&Case) -> Box<dyn Subject>,
    tolerances: Tolerances,
) -> Result<()> {
    check_numbers(case, build(case), DType::F32, tolerances.f32)?;
    check_numbers(case, build(case), DType::F64, 1e-12)?;
    with_reference(|| check_numbers(case, build(case), DType::F32, tolerances.f32))?;
    for (dtype, tolerance) in [(DType::F16, tolerances.f16), (DType::BF16, tolerances.bf16)] {
        if let Some(tolerance) = tolerance {
            check_numbers(case, build(case), dtype, tolerance)?;
        }
    }
    check_laws(case, build(case))
}

/// All leaves but parameters and random keys.
fn state() -> impl Filter {
    !(Parameter | Rng)
}

/// The layer with the case's parameters and state.
fn filled(case: &Case, mut layer: Box<dyn Subject>, dtype: DType) -> Result<Box<dyn Subject>> {
    let tensors: HashMap<_, _> = case.map("params").into_iter().chain(case.map("state")).collect();
    load_var_builder(&mut layer, &VarBuilder::from_tensors(tensors, DType::F32, device()))?;
    layer = layer.into_dtype(dtype)?;
    layer.init(0, device())
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

fn assert_each_close(got: &[Tensor], want: &[Tensor], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert_close(got, want, tolerance, &format!("{what} {index}"));
    }
}

/// Outputs, gradients and state of one call, against Flax.
fn check_numbers(case: &Case, layer: Box<dyn Subject>, dtype: DType, tolerance: f64) -> Result<()> {
    let name = format!("{} in {}", case.name, dtype.as_str());
    let inputs = case.tensors("inputs", dtype);
    let cotangents = case.tensors("cotangents", dtype);
    let dinputs = case.list("dinputs", DType::F64);
    let leaf =
        |(x, dx): (&Tensor, &Option<Tensor>)| dx.is_some().then(|| Leaf::<Parameter>::new(x)).transpose();
    let leaves = inputs.iter().zip(&dinputs).map(leaf).collect::<Result<Vec<_>>>()?;
    let mut both = (filled(case, layer, dtype)?, leaves);

    let nothing_to_differentiate =
        both.leaves().iter().all(|(_, kind, _)| !kind.is(KindTag::of::<Parameter>()));
    let run = |(layer, leaves): &mut (Box<dyn Subject>, Vec<Option<Leaf<Parameter>>>)| {
        let inputs =
            leaves.iter().zip(&inputs).map(|(leaf, x)| leaf.as_ref().map_or(Ok(x.clone()), Leaf::get));
        let outputs = layer.run(&inputs.collect::<Result<Vec<_>>>()?)?;
        assert_eq!(outputs.len(), cotangents.len(), "{name}");
        let terms = outputs.iter().zip(&cotangents).map(|(y, cotangent)| -> Result<Tensor> {
            assert_eq!(y.dims(), cotangent.dims(), "{name}: shape");
            assert_eq!(y.dtype(), dtype, "{name}");
            Ok((y * cotangent)?.sum_all()?)
        });
        let sum = terms.reduce(|a, b| Ok((a? + b?)?)).unwrap()?;
        Ok((sum, outputs))
    };
    let outputs = if nothing_to_differentiate {
        run(&mut both)?.1
    } else {
        let ((_, outputs), (grads, dinputs_found)) = both.value_and_grad_aux(Parameter, run)?;
        let what = format!("{name}: gradient of");
        assert_all_close(&values(&grads, Parameter), &case.map("dparams"), tolerance, &what);
        for (index, (dx, want)) in dinputs_found.iter().zip(&dinputs).enumerate() {
            if let (Some(dx), Some(want)) = (dx, want) {
                assert_close(&dx.get()?, want, tolerance, &format!("{what} input {index}"));
            }
        }
        outputs
    };
    assert_each_close(&outputs, &case.tensors("outputs", DType::F64), tolerance, &format!("{name}: output"));
    let after = case.map(if case.has("state_after") { "state_after" } else { "state" });
    assert_all_close(&values(&both.0, state()), &after, tolerance, &format!("{name}: after the call"));
    if case.has("outputs_eval") {
        let mut layer = both.0.into_eval();
        let want = case.tensors("outputs_eval", DType::F64);
        assert_each_close(&layer.run(&inputs)?, &want, tolerance, &format!("{name}: in evaluation, output"));
    }
    Ok(())
}

fn bits(tree: &impl Tree) -> Vec<String> {
    // `Debug` of a leaf abbreviates, so values are compared separately.
    let leaf = |(path, kind, leaf): (treex_core::Path, KindTag, &treex_core::Handle)| {
        let values = leaf.value().map(|value| value.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>());
        format!("{path} {kind} {leaf:?} {:?}", values.transpose().unwrap())
    };
    tree.leaves().into_iter().map(leaf).collect()
}

/// The laws of trees: Flax's names and shapes, filter and update, save and load, an error before `init`.
fn check_laws(case: &Case, fresh: Box<dyn Subject>) -> Result<()> {
    let announced = |filter: &dyn Filter| -> BTreeMap<String, Vec<usize>> {
        let tree = fresh.filter(by(|leaf| filter.selects(leaf)));
        let leaves = tree.leaves();
        leaves
            .iter()
            .map(|(path, _, leaf)| (path.to_string(), leaf.shape().unwrap().dims().to_vec()))
            .collect()
    };
    for (filter, key) in [(&Parameter as &dyn Filter, "params"), (&state(), "state")] {
        let flax: BTreeMap<_, _> =
            case.map(key).into_iter().map(|(path, x)| (path, x.dims().to_vec())).collect();
        assert_eq!(announced(filter), flax, "{}: {key}", case.name);
    }
    let inputs = case.tensors("inputs", DType::F32);
    if fresh.filter(Parameter).leaves().iter().any(|(_, _, leaf)| leaf.value().is_none()) {
        let error = fresh.clone().run(&inputs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Uninitialized, "{}", case.name);
        assert!(error.to_string().contains("has no value yet; call `let model = model.init"), "{error}");
        let error = fresh.clone().init(0, device())?.filter(!TreePart).run(&inputs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FilteredOut, "{}", case.name);
    }

    let layer = filled(case, fresh.clone(), DType::F32)?;
    assert!(layer.initialized(), "{}", case.name);
    for kept in
        [layer.filter(Parameter), layer.filter(state()), layer.filter(TreePart), layer.filter(!TreePart)]
    {
        assert_eq!(bits(&layer.updated(&kept)?), bits(&layer), "{}: updated(filter)", case.name);
    }

    // Families are tested in parallel.
    let unique = format!("layers-{}-{:?}.safetensors", std::process::id(), std::thread::current().id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
    layer.save(&file)?;
    let mut loaded = fresh;
    loaded.load(&file)?;
    std::fs::remove_file(&file)?;
    assert_eq!(bits(&loaded), bits(&layer), "{}: saved and loaded", case.name);
    Ok(())
}
