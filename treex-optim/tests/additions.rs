//! DPSGD, Sophia, averages on trees, averages of parameters, measurements, batches in parts and second derivatives, against
//! Optax (`fixtures/additions.json`).
//!
//! A `main` of its own: the thread that keeps the graph is started before any other.

#![allow(clippy::unwrap_used)] // a test says where it failed

mod contract;

use candle_core::{DType, Device, Tensor};
use contract::{F64, Params, assert_contracts, assert_golden, update_values};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use treex_core::{Leaf, Parameter, Result, enable_nested_gradients, hvp, path, prelude::*};
use treex_optim::second_order::{fisher_diag, hessian_diag};
use treex_optim::tree::{
    self, bias_correction, dtype, split_key_like, update_infinity_moment, update_moment,
};
use treex_optim::{
    Accumulator, Boxed, Extra, GradientTransformation, Optimizer, acprop, ademamix, adopt, apply_updates,
    chain, cocob, dog, dowg, dpsgd, hutchinson_estimator_diag_hessian, incremental_update, lbfgs, microbatch,
    muon, periodic_update, scale, sgd, simplified_ademamix, snapshot, sophia,
};
use treex_testing::compare::{assert_close, tree_values, values};
use treex_testing::fixture;
use treex_testing::oracle::numbers;

fn fixture() -> Value {
    fixture!("additions.json")
}

fn params(fixture: &Value) -> Params {
    Params::read(&fixture["meta"]["params"], DType::F64)
}

fn grads(fixture: &Value, step: usize) -> Params {
    Params::read(&fixture["meta"]["grads"][step], DType::F64)
}

/// The loss of the fixture's script.
fn loss(p: &mut Params) -> Result<Tensor> {
    let (a, b) = (p.a.get()?, p.b.get()?);
    let quartic = (a.sqr()?.sqr()?.sum_all()? / 4.)?;
    Ok(((quartic + (a.sum_all()? * b.sqr()?.sum_all()?)?)? + b.sin()?.sum_all()?)?)
}

/// Sophia with a curvature that is a multiple of the gradient.
fn sophia_of_gradients() {
    let fixture = fixture();
    let decayed = sophia(0.1).b1(0.5).b2(0.6).eps(0.1).gamma(2.).clip_threshold(None).weight_decay(0.1);
    let table: [(&str, Boxed); 2] = [
        (
            "sophia(.1,scale 2,interval 2)",
            sophia(0.1).update_interval(2).hessian_diagonal_fn(scale(2.)).boxed(),
        ),
        (
            "sophia(.1,b1=.5,b2=.6,eps=.1,gamma=2,no clipping,wd=.1)",
            decayed.update_interval(3).hessian_diagonal_fn(scale(0.5)).boxed(),
        ),
    ];
    for (name, transformation) in table {
        assert_golden(&fixture["meta"], &fixture["transforms"][name], name, &transformation, F64);
        assert_contracts(&fixture["meta"], name, &transformation);
    }
}

/// Masks of weight decay, learning rates and element types of contributed optimizers.
fn options() {
    let fixture = fixture();
    let a = || path("a");
    // Muon's mask is one of its matrices; the other leaf is AdamW's.
    let muon = muon(0.01).weight_decay(0.1).weight_decay_mask(a()).mu_dtype(DType::F32);
    let similar = simplified_ademamix(0.01).alpha(0.5).weight_decay(0.1).weight_decay_mask(a());
    // In Optax a moment in f32 is multiplied by its decay in f32, in an f64 run too: some 1e-7 of six steps of 0.01.
    let rounded = |name: &str| if name.contains("f32") { 2e-8 } else { F64 };
    let table: [(&str, Boxed); 8] = [
        ("acprop(.01,wd=.1,mask a)", acprop(0.01).weight_decay(0.1).weight_decay_mask(a()).boxed()),
        ("ademamix(.01,wd=.1,mask a)", ademamix(0.01).weight_decay(0.1).weight_decay_mask(a()).boxed()),
        ("adopt(.01,mu_dtype=f32)", adopt(0.01).mu_dtype(DType::F32).boxed()),
        ("cocob(wd=.1,mask a)", cocob().weight_decay(0.1).weight_decay_mask(a()).boxed()),
        ("dog(.5,wd=.1,mask a)", dog().learning_rate(0.5).weight_decay(0.1).weight_decay_mask(a()).boxed()),
        ("dowg(.5,wd=.1,mask a)", dowg().learning_rate(0.5).weight_decay(0.1).weight_decay_mask(a()).boxed()),
        ("muon(.01,wd=.1,mask a,mu_dtype=f32)", muon.boxed()),
        ("simplified_ademamix(.01,wd=.1,mask a)", similar.boxed()),
    ];
    assert_eq!(table.len(), fixture["options"].as_object().unwrap().len());
    for (name, transformation) in table {
        assert_golden(&fixture["meta"], &fixture["options"][name], name, &transformation, rounded(name));
    }
}

fn learning_rate_of_lbfgs() {
    let mut x = Leaf::<Parameter>::new(Tensor::new(&[3f64, -2., 1.5], &Device::Cpu).unwrap()).unwrap();
    let centers = Tensor::arange(0f64, 3., &Device::Cpu).unwrap();
    let mut optimizer = Optimizer::new(lbfgs().learning_rate(0.5)).init(&x).unwrap();
    for (step, expected) in fixture()["lbfgs(.5)"].as_array().unwrap().iter().enumerate() {
        let quartic = |x: &mut Leaf<Parameter>| {
            let x = x.get()?;
            let product = ((x.get(0)? * x.get(1)?)? * x.get(2)?)?;
            Ok(((&x - &centers)?.sqr()?.sqr()?.sum_all()? + (product * 0.5)?)?)
        };
        optimizer.minimize(&mut x, quartic).unwrap();
        assert_close(&tree_values(&x), &numbers(expected), 1e-9, &format!("step {step}"));
    }
}

/// Steps of `minimize`, which gives the estimator products with the Hessian.
fn hutchinson() {
    let fixture = fixture();
    let curved = sophia(0.05).gamma(0.5).eps(0.5).clip_threshold(3.).update_interval(2);
    let estimate = chain((hutchinson_estimator_diag_hessian(7), scale(-0.01)));
    let table: [(&str, Boxed); 2] = [("sophia(.05)", curved.boxed()), ("hutchinson(7)", estimate.boxed())];
    for (name, transformation) in table {
        let case = &fixture["hutchinson"][name];
        let mut model = params(&fixture);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        for step in 0..6 {
            let before = model.flatten().apply(|x| Ok(x.copy()?)).unwrap();
            optimizer.minimize(&mut model, loss).unwrap();
            let updates = model.flatten().combine(&before, |new, old| Ok((new - old)?)).unwrap();
            let expected = numbers(&case["updates"][step]);
            assert_close(&update_values(&updates, &before), &expected, 1e-9, &format!("{name}, step {step}"));
        }
        assert_close(&tree_values(&model), &numbers(&case["final_params"]), 1e-9, name);
    }
}

fn hutchinson_needs_the_loss() {
    let fixture = fixture();
    let mut model = params(&fixture);
    let mut optimizer = Optimizer::new(sophia(0.1)).init(&model).unwrap();
    let error = optimizer.update(&grads(&fixture, 0), &mut model).unwrap_err().to_string();
    assert!(error.contains("products with its Hessian") && error.contains("minimize"), "{error}");
    assert!(Extra::default().hvp_fn.is_none());
}

/// The noise has JAX's bits up to 2 ulp of the normal samples.
fn private_gradients() {
    let fixture = fixture();
    let table: [(&str, Boxed); 2] = [
        ("dpsgd(.1,1.5,.7,42)", dpsgd(0.1, 1.5, 0.7, 42).boxed()),
        (
            "dpsgd(.1,1.5,.7,7,momentum .9,nesterov)",
            dpsgd(0.1, 1.5, 0.7, 7).momentum(0.9).nesterov(true).boxed(),
        ),
    ];
    for (name, transformation) in table {
        let mut model = params(&fixture);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        for step in 0..6 {
            let examples = Params::read(&fixture["examples"][step], DType::F64);
            optimizer.update(&examples, &mut model).unwrap();
        }
        assert_close(&tree_values(&model), &numbers(&fixture["dpsgd"][name]["final_params"]), 1e-9, name);
        let error = optimizer.update(&grads(&fixture, 0), &mut model).unwrap_err().to_string();
        assert!(error.contains("per_example_grads"), "{error}");
    }
    // Not first in its chain, it gets gradients that were refused before.
    let mut model = params(&fixture);
    let mut late = Optimizer::new(chain((scale(1.), dpsgd(0.1, 1., 0., 0)))).init(&model).unwrap();
    assert!(late.update(&Params::read(&fixture["examples"][0], DType::F64), &mut model).is_err());
}

fn trees() {
    let fixture = fixture();
    let (p, g) = (params(&fixture), grads(&fixture, 0));
    let table: [(&str, Result<Params>); 9] = [
        ("update_moment(.9,1)", update_moment(&p, &g, 0.9, 1)),
        ("update_moment(.9,2)", update_moment(&p, &g, 0.9, 2)),
        ("update_moment(.9,3)", update_moment(&p, &g, 0.9, 3)),
        ("update_infinity_moment(.9,.1)", update_infinity_moment(&p, &g, 0.9, 0.1)),
        ("bias_correction(.9,3)", bias_correction(&p, 0.9, 3)),
        ("apply_updates", apply_updates(&p, &g)),
        ("incremental_update(.3)", incremental_update(&p, &g, 0.3)),
        ("periodic_update(6,3)", periodic_update(&p, &g, 6, 3)),
        ("periodic_update(7,3)", periodic_update(&p, &g, 7, 3)),
    ];
    assert_eq!(table.len(), fixture["tree"].as_object().unwrap().len());
    for (name, found) in table {
        assert_close(&tree_values(&found.unwrap()), &numbers(&fixture["tree"][name]), 1e-13, name);
    }
    assert!(periodic_update(&p, &g, 1, 0).is_err());
    assert_eq!(dtype(&p).unwrap(), Some(DType::F64));
    let mixed = Params { a: p.a.clone(), b: Leaf::new(Tensor::new(1f32, &Device::Cpu).unwrap()).unwrap() };
    assert!(dtype(&mixed).unwrap_err().to_string().contains("`b`"));
    assert_eq!(dtype(&mixed.filter(path("b"))).unwrap(), Some(DType::F32));
    assert_eq!(dtype(&()).unwrap(), None);
    assert_eq!(split_key_like(7.into(), &p), treex_core::Key::from(7).split(2));
    // NaN is seen.
    let nan = tree::scale(f64::NAN, &g).unwrap();
    assert!(tree_values(&update_infinity_moment(&nan, &p, 0.9, 0.1).unwrap()).iter().all(|x| x.is_nan()));
}

fn second_derivatives() {
    let fixture = fixture();
    let expected = &fixture["second_order"];
    let p = params(&fixture);
    let diagonal = hessian_diag(&p, Parameter, loss).unwrap();
    assert_close(&tree_values(&diagonal), &numbers(&expected["hessian_diag"]), 1e-12, "hessian_diag");
    let fisher = fisher_diag(&p, Parameter, loss).unwrap();
    assert_close(&tree_values(&fisher), &numbers(&expected["fisher_diag"]), 1e-12, "fisher_diag");
    let mut next = 0.;
    let counted = p.map(|x| {
        let count = x.elem_count() as f64;
        let values = Tensor::arange(next + 1., next + count + 1., &Device::Cpu)?.reshape(x.shape())?;
        next += count;
        Ok(values)
    });
    let (_, _, product) = hvp(&p, Parameter, loss, &counted.unwrap()).unwrap();
    assert_close(&tree_values(&product), &numbers(&expected["hvp"]), 1e-12, "hvp");
    // Leaves that are not selected have no diagonal.
    let part = hessian_diag(&p, path("b"), loss).unwrap();
    assert!(part.a.get().is_err() && tree_values(&part) == values(&diagonal.b.get().unwrap()));
}

fn measurements() {
    let fixture = fixture();
    let max = |name| snapshot(name, |u| Ok(tree::max(u)?.to_scalar::<f64>()?)).ema(0.9);
    let norm = snapshot("norm", treex_optim::global_norm);
    let all = chain((norm, max("max_ema"), max("raw").debias(false), sgd(0.1)));
    let mut model = params(&fixture);
    let mut optimizer = Optimizer::new(all).init(&model).unwrap();
    assert!(optimizer.measurement("norm").unwrap().is_nan());
    for step in 0..4 {
        optimizer.update(&grads(&fixture, step), &mut model).unwrap();
        for name in ["norm", "max_ema", "raw"] {
            let expected = numbers(&fixture["monitor"][step][name]);
            assert_close(&[optimizer.measurement(name).unwrap()], &expected, 1e-12, name);
        }
    }
    assert_eq!(optimizer.learning_rate().unwrap(), Some(0.1));
}

fn parts_of_a_batch() {
    let expected = &fixture()["microbatch"];
    let x = Tensor::arange(0f64, 12., &Device::Cpu).unwrap().reshape((6, 2)).unwrap();
    let run = |size, accumulator, f: fn(&Tensor) -> candle_core::Result<Tensor>| {
        let leaf = |part: &[Tensor]| Leaf::<Parameter>::new(f(&part[0])?);
        microbatch(std::slice::from_ref(&x), size, accumulator, leaf)
    };
    let whole = |result: Result<Leaf<Parameter>>| values(&result.unwrap().get().unwrap());
    assert_eq!(whole(run(2, Accumulator::Sum, |x| x.sqr()?.sum_all())), numbers(&expected["sum"]));
    assert_eq!(whole(run(2, Accumulator::Mean, Tensor::mean_all)), numbers(&expected["mean"]));
    assert_eq!(whole(run(2, Accumulator::Concat, |x| x * 2.)), numbers(&expected["concat"]));
    for size in [0, 4] {
        let error = run(size, Accumulator::Sum, Tensor::mean_all).unwrap_err().to_string();
        assert!(error.contains("a divisor of 6"), "{error}");
    }
    assert!(microbatch(&[], 1, Accumulator::Sum, |_| Ok(())).is_err());
}

fn main() {
    enable_nested_gradients().unwrap();
    let tests: [(&str, fn()); 10] = [
        ("options", options),
        ("learning_rate_of_lbfgs", learning_rate_of_lbfgs),
        ("sophia_of_gradients", sophia_of_gradients),
        ("hutchinson", hutchinson),
        ("hutchinson_needs_the_loss", hutchinson_needs_the_loss),
        ("private_gradients", private_gradients),
        ("trees", trees),
        ("second_derivatives", second_derivatives),
        ("measurements", measurements),
        ("parts_of_a_batch", parts_of_a_batch),
    ];
    let run = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    libtest_mimic::run(&Arguments::from_args(), tests.map(run).into()).exit();
}
