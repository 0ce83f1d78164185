//! L-BFGS and the line searches against Optax (`fixtures/optax.json`), on Rosenbrock's function in three
//! dimensions.

#![allow(clippy::unwrap_used)]

mod contract;

use candle_core::{DType, Tensor};
use contract::{F64, assert_as_plain, assert_golden, assert_resumes, contrib};
use serde_json::Value;
use treex_core::{Leaf, Parameter, Result, path, prelude::*};
use treex_optim::{
    GradientTransformation, InitialGuess, Optimizer, chain, lbfgs, scale, scale_by_backtracking_linesearch,
    scale_by_lbfgs, scale_by_learning_rate, scale_by_zoom_linesearch, sgd,
};
use treex_testing::compare::{assert_close, tree_values, values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::numbers;

fn rosenbrock(x: &mut Leaf<Parameter>) -> Result<Tensor> {
    let x = x.get()?;
    let last = x.dims1()? - 1;
    let (here, next) = (x.narrow(0, 0, last)?, x.narrow(0, 1, last)?);
    let valley = ((next - here.sqr()?)?.sqr()? * 100.)?;
    Ok((valley + (1. - here)?.sqr()?)?.sum_all()?)
}

fn start() -> Leaf<Parameter> {
    Leaf::new(Tensor::new(&[-1.2, 1., 0.5], device()).unwrap()).unwrap()
}

/// Runs the steps of the case; `search` returns the step size and the number of trials.
fn assert_goes<T: GradientTransformation>(
    name: &str,
    transformation: T,
    tolerance: f64,
    search: impl Fn(&T::State) -> Option<(f64, u64)>,
) {
    let fixture = fixture!("optax.json");
    let mut x = start();
    let mut optimizer = Optimizer::new(transformation).init(&x).unwrap();
    for (step, expected) in fixture["lbfgs"][name].as_array().unwrap().iter().enumerate() {
        let what = format!("{name}, step {step}");
        optimizer.minimize(&mut x, rosenbrock).unwrap();
        assert_close(&values(&x.get().unwrap()), &numbers(&expected["x"]), tolerance, &what);
        let value = rosenbrock(&mut x).unwrap().to_scalar::<f64>().unwrap();
        assert_close(
            &[value],
            &numbers(&expected["f"]),
            tolerance * expected["f"].as_f64().unwrap().max(1.),
            &what,
        );
        match search(optimizer.state().unwrap()) {
            Some((rate, trials)) => {
                assert_close(&[rate], &numbers(&expected["lr"]), tolerance, &what);
                assert_eq!(Some(trials), expected["ls_steps"].as_u64(), "{what}");
            }
            None => assert_eq!(expected["lr"], Value::Null),
        }
    }
}

#[test]
fn line_searches_match_optax() {
    // 25 steps through a valley: Optax itself differs by 5e-9 for a start that differs in the last bit.
    assert_goes("lbfgs()", lbfgs(), 1e-9, |(_, _, zoom)| {
        Some((zoom.learning_rate.get().unwrap(), zoom.num_linesearch_steps.get().unwrap()))
    });
    let without = chain((scale_by_lbfgs().memory_size(5), scale_by_learning_rate(1e-3)));
    assert_goes("lbfgs(lr=1e-3,no linesearch,memory 5)", without, F64, |_| None);
    let backtracking = chain((sgd(1.), scale_by_backtracking_linesearch(20)));
    assert_goes("chain(sgd(1),backtracking(20))", backtracking, F64, |(_, search)| {
        Some((search.learning_rate.get().unwrap(), search.num_linesearch_steps.get().unwrap()))
    });
    let zoom = chain((sgd(1.), scale_by_zoom_linesearch(20)));
    assert_goes("chain(sgd(1),zoom(20))", zoom, F64, |(_, zoom)| {
        Some((zoom.learning_rate.get().unwrap(), zoom.num_linesearch_steps.get().unwrap()))
    });
}

/// A different minimum, where each option matters.
fn quartic(x: &mut Leaf<Parameter>) -> Result<Tensor> {
    let x = x.get()?;
    let middle = Tensor::new(&[0., 1., 2.], device())?;
    let product = ((x.get(0)? * x.get(1)?)? * x.get(2)?)?;
    let valley = (x - middle)?.sqr()?.sqr()?.sum_all()?;
    Ok((valley + (product * 0.5)?)?)
}

#[test]
fn line_search_options_match_optax() {
    let zoom = scale_by_zoom_linesearch;
    let flat = zoom(3).curv_rtol(0.01).initial_guess(InitialGuess::One);
    let strict = zoom(20).approx_dec_rtol(None).tol(1e-3).increase_factor(3.).slope_rtol(0.1).curv_rtol(0.2);
    let loose = scale_by_backtracking_linesearch(30)
        .slope_rtol(0.3)
        .decrease_factor(0.5)
        .increase_factor(2.)
        .max_learning_rate(2.)
        .atol(1e-3)
        .rtol(0.1);
    let cases = [
        ("lbfgs(memory 2)", lbfgs().memory_size(2).boxed()),
        ("zoom(max_learning_rate=.02)", chain((sgd(1.), zoom(15).max_learning_rate(0.02))).boxed()),
        ("zoom(3 steps, flat)", chain((sgd(1.), flat)).boxed()),
        ("zoom(no approximation, tol)", chain((sgd(1.), strict)).boxed()),
        ("backtracking(rtol)", chain((sgd(1.), loose)).boxed()),
        ("backtracking(2 steps)", chain((sgd(0.1), scale_by_backtracking_linesearch(2))).boxed()),
    ];
    let fixture = contrib();
    for (name, transformation) in cases {
        let mut x = Leaf::new(Tensor::new(&[3., -2., 1.5], device()).unwrap()).unwrap();
        let mut optimizer = Optimizer::new(transformation).init(&x).unwrap();
        for (step, expected) in fixture["quartic"][name].as_array().unwrap().iter().enumerate() {
            let what = format!("{name}, step {step}");
            optimizer.minimize(&mut x, quartic).unwrap();
            let state = |name: &str| tree_values(&optimizer.filter(path(format!("**.{name}"))))[0];
            assert_eq!(Some(state("num_linesearch_steps") as u64), expected["ls_steps"].as_u64(), "{what}");
            assert_close(&[state("learning_rate")], &numbers(&expected["lr"]), F64, &what);
            // A failed search may end far away.
            let far = numbers(&expected["x"]).iter().fold(1., |far: f64, x| far.max(x.abs()));
            assert_close(&values(&x.get().unwrap()), &numbers(&expected["x"]), F64 * far, &what);
        }
    }
}

#[test]
fn preconditioned_updates_match_optax() {
    let fixture = fixture!("optax.json");
    let (name, transformation) = ("scale_by_lbfgs(memory_size=3)", scale_by_lbfgs().memory_size(3).boxed());
    assert_golden(&fixture["meta"], &fixture["transforms"][name], name, &transformation, F64);
    let downhill = chain((scale_by_lbfgs().memory_size(3), scale(-0.1))).boxed();
    assert_as_plain(&fixture["meta"], name, &downhill, DType::F64, 1e-12);
    assert_resumes(&fixture["meta"], name, &downhill);
}

#[test]
fn finds_the_minimum() {
    let mut x = start();
    let mut optimizer = Optimizer::new(lbfgs()).init(&x).unwrap();
    for _ in 0..60 {
        optimizer.minimize(&mut x, rosenbrock).unwrap();
    }
    assert_close(&values(&x.get().unwrap()), &[1., 1., 1.], 1e-8, "the minimum");
}

#[test]
fn resuming_from_a_saved_state_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let mut x = start();
    let mut optimizer = Optimizer::new(lbfgs()).init(&x).unwrap();
    for _ in 0..7 {
        optimizer.minimize(&mut x, rosenbrock).unwrap();
    }
    optimizer.save(folder.path().join("optimizer")).unwrap();
    let mut resumed = x.clone();
    let mut loaded = Optimizer::new(lbfgs()).init(&resumed).unwrap();
    loaded.load(folder.path().join("optimizer")).unwrap();
    for _ in 0..5 {
        optimizer.minimize(&mut x, rosenbrock).unwrap();
        loaded.minimize(&mut resumed, rosenbrock).unwrap();
    }
    assert_eq!(x, resumed);
    assert_eq!(optimizer.flatten(), loaded.flatten());
}

/// Where the loss is NaN a step is shortened, or is 0.
#[test]
fn steps_stay_in_the_domain_of_the_loss() {
    let root = |x: &mut Leaf<Parameter>| Ok(x.get()?.sqrt()?.sum_all()?);
    for transformation in [
        chain((sgd(10.), scale_by_backtracking_linesearch(30))).boxed(),
        chain((sgd(10.), scale_by_zoom_linesearch(30).initial_guess(InitialGuess::One))).boxed(),
        chain((sgd(10.), scale_by_backtracking_linesearch(2))).boxed(),
    ] {
        let mut x = Leaf::<Parameter>::new(Tensor::new(&[0.25, 1.], device()).unwrap()).unwrap();
        let mut optimizer = Optimizer::new(transformation.clone()).init(&x).unwrap();
        let before = optimizer.minimize(&mut x, root).unwrap();
        let after = root(&mut x).unwrap().to_scalar::<f64>().unwrap();
        assert!(after <= before, "{transformation:?}: {before} {after}");
    }
}

#[test]
fn misuse_is_an_error() {
    let mut x = start();
    let mut optimizer = Optimizer::new(lbfgs()).init(&x).unwrap();
    let grads = x.clone();
    let error = optimizer.update(&grads, &mut x).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a line search needs the loss: expected its value, its gradient, and both at other parameters; \
         step with `optimizer.minimize(&mut model, |model| ...)`"
    );
    assert_eq!((x, optimizer.step_count().unwrap()), (start(), 0));
    assert!(Optimizer::new(scale_by_lbfgs().memory_size(0)).init(&start()).is_err());
}
