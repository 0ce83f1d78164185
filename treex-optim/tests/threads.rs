//! No bit depends on the number of threads: losses with a kernel, forward and backward, and steps of every optimizer, in
//! pools of 1, 2, 3 and 8 threads.

#![allow(clippy::unwrap_used)] // a test says where it failed

#[path = "table/mod.rs"]
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use treex_core::{Key, Leaf, Parameter, Result, prelude::*};
use treex_optim::losses::{mse, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels};
use treex_optim::*;
use treex_testing::contract::{ALL, WIDE};
use treex_testing::gradients::outcome;
use treex_testing::threads::differences;

type Loss = fn(&[Tensor]) -> Result<Tensor>;

/// Losses that are one operation, by its name, of matrices of logits.
const LOSSES: [(&str, &[DType], usize, Loss); 3] = [
    ("softmax_cross_entropy_with_integer_labels", ALL, 1, |x| {
        let labels = (0..x[0].dim(0)? as u32).map(|row| row * 7 % 257);
        softmax_cross_entropy_with_integer_labels(&x[0], &Tensor::from_iter(labels, &Device::Cpu)?)
    }),
    ("softmax_cross_entropy", WIDE, 2, |x| softmax_cross_entropy(&x[0], &x[1])),
    ("mse", ALL, 2, |x| mse(&x[0], &x[1])),
];

#[test]
fn losses() {
    let mut wrong = Vec::new();
    for (name, dtypes, count, loss) in LOSSES {
        for &dtype in dtypes {
            let x: Vec<Tensor> = (0..count as u64)
                .map(|key| Key::from(key).normal((601, 257), DType::F64).unwrap().to_dtype(dtype).unwrap())
                .collect();
            assert_eq!(outcome(&x, loss).unwrap().operation, Some(name), "the operation in {dtype:?}");
            let found = differences(|| Ok(outcome(&x, loss)?.tensors)).unwrap();
            wrong.extend(found.into_iter().map(|difference| format!("{name} {dtype:?}: {difference}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The contributed optimizers, which the table lacks.
fn contributed() -> Vec<table::Row> {
    vec![
        ("acprop", acprop(0.01).boxed()),
        ("ademamix", ademamix(0.01).boxed()),
        ("ademamix in bf16", ademamix(0.01).mu_dtype(DType::BF16).boxed()),
        ("simplified_ademamix", simplified_ademamix(0.01).boxed()),
        ("adopt", adopt(0.01).boxed()),
        ("cocob", cocob().boxed()),
        ("dadapt_adamw", dadapt_adamw().boxed()),
        ("dog", dog().boxed()),
        ("dowg", dowg().boxed()),
        ("madgrad", madgrad(0.01).boxed()),
        ("mechanize", mechanize(sgd(0.1)).boxed()),
        ("momo", momo().boxed()),
        ("momo_adam", momo_adam().boxed()),
        ("muon", muon(0.01).boxed()),
        ("muon by newton_schulz", muon(0.01).newton_schulz(newton_schulz()).boxed()),
        ("prodigy", prodigy().boxed()),
        ("schedule_free_sgd", schedule_free_sgd(0.1).boxed()),
        ("schedule_free_sgd in bf16", schedule_free_sgd(0.1).state_dtype(DType::BF16).boxed()),
        ("schedule_free_adamw", schedule_free_adamw(0.1).boxed()),
        ("schedule_free of sgd", schedule_free(sgd(0.1), 0.1).boxed()),
        ("reduce_on_plateau", chain((sgd(0.1), reduce_on_plateau())).boxed()),
        ("sam of normalize", sam(sgd(0.1), chain((normalize(), sgd(0.05)))).boxed()),
        ("galore", galore(0.01).rank(3).boxed()),
        ("galore, projected anew", galore(0.01).rank(2).update_proj_gap(1).boxed()),
    ]
}

/// Two matrices and a vector: the larger ones are split among threads, and a decomposition of the small one is quick.
fn model() -> Vec<Leaf<Parameter>> {
    [vec![301, 257], vec![9, 17], vec![70_001]]
        .into_iter()
        .zip(1..)
        .map(|(shape, key)| Leaf::new(Key::from(key).normal(shape, DType::F32).unwrap()).unwrap())
        .collect()
}

/// The model and the optimizer's state after three steps.
fn steps(transformation: &Boxed) -> Result<Vec<Tensor>> {
    let mut model = model();
    let mut optimizer = Optimizer::new(transformation.clone()).init(&model)?;
    for step in 0..3 {
        let key = Key::from(100 + step);
        let grads = model.map(|leaf| key.normal(leaf.shape(), leaf.dtype()))?;
        optimizer.update_with(&grads, &mut model, &Extra::value(3. - 0.3 * step as f64))?;
    }
    let all = [model.flatten(), optimizer.flatten()];
    Ok(all.iter().flat_map(|leaves| leaves.tensors().cloned()).collect())
}

fn transformations() -> Vec<table::Row> {
    table::all().into_iter().chain(contributed()).collect()
}

#[test]
fn optimizers() {
    let mut wrong = Vec::new();
    for (name, transformation) in transformations() {
        let found = differences(|| steps(&transformation));
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        wrong.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The functions of the files of a folder of `src/`.
fn functions(folder: &str) -> BTreeSet<String> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder)).unwrap();
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let names = texts.flat_map(|text| {
        let lines = text.lines().filter_map(|line| line.strip_prefix("pub fn "));
        lines.map(|line| line[..line.find(['(', '<']).unwrap()].to_owned()).collect::<Vec<_>>()
    });
    names.collect()
}

/// These ask for more than a gradient, per-example gradients, those of sampled labels or products with the Hessian, and compute with it by rules that
/// other rows have.
const WITHOUT_ROW: [&str; 5] = [
    "differentially_private_aggregate",
    "dpsgd",
    "gauss_newton_bartlett",
    "hutchinson_estimator_diag_hessian",
    "sophia",
];

#[test]
fn every_loss_and_every_optimizer_has_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/losses");
    let files = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap());
    let names: BTreeSet<String> = texts
        .filter(|text| text.contains(" Operation for "))
        .flat_map(|text| {
            let bodies = text.split(" Operation for ").skip(1);
            bodies.map(|body| body.split('"').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(names, LOSSES.iter().map(|row| row.0.to_owned()).collect());

    let rows: Vec<&str> = transformations().into_iter().map(|(name, _)| name).collect();
    let words: BTreeSet<&str> =
        rows.iter().flat_map(|name| name.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
    let public = ["alias", "contrib"].into_iter().flat_map(functions);
    // A contributed `scale_by_x` is the first part of `x`.
    let public = public.filter(|name| !name.starts_with("scale_by_"));
    let has_row = |name: &String| words.contains(name.as_str()) || WITHOUT_ROW.contains(&name.as_str());
    let missing: Vec<String> = public.filter(|name| !has_row(name)).collect();
    assert!(missing.is_empty(), "optimizers without a row: {missing:?}");
}
