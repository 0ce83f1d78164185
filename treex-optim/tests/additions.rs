//! DPSGD, Sophia, averages on trees, averages of parameters, measurements, batches in parts and second derivatives, against
//! Optax (`fixtures/additions.json`).
//!
//! A `main` of its own: the thread that keeps the graph is started before any other.

#![allow(clippy::unwrap_used)] // a test says where it failed

mod contract;

use candle_core::{DType, Tensor};
use contract::{F64, Params, assert_contracts, assert_golden, update_values};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use treex_core::{Leaf, Leaves, Parameter, Result, enable_nested_gradients, hvp, path, prelude::*};
use treex_optim::second_order::{fisher_diag, hessian_diag};
use treex_optim::tree::{
    self, bias_correction, dtype, split_key_like, update_infinity_moment, update_moment,
};
use treex_optim::{
    Accumulator, Boxed, DimensionNumbers, Extra, GradientTransformation, Muon, Optimizer, acprop, adam,
    ademamix, adopt, apply_updates, chain, cocob, dog, dowg, dpsgd, galore, gauss_newton_bartlett,
    global_norm, hutchinson_estimator_diag_hessian, incremental_update, lbfgs, micro_grad, microbatch,
    multi_steps, muon, periodic_update, scale, scale_by_ademamix, scale_by_galore, schedule_free_adamw,
    schedule_free_sgd, sgd, simplified_ademamix, snapshot, sophia, trace,
};
use treex_testing::compare::{assert_close, tree_values, values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::{numbers, tensor};

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

/// The type of each moment, and Optax's numbers with it.
fn element_types() {
    let fixture = fixture();
    let too_short = |grads: &Leaves, step: u64, params: &Leaves| {
        Ok(global_norm(grads)? < 2.05 + 0.07 * step as f64 * global_norm(params)?)
    };
    let decayed = schedule_free_sgd(0.1).weight_decay(0.1).state_dtype(DType::F32);
    let table: [(&str, Boxed, f64); 5] = [
        ("ademamix(.01,mu_dtype=f32)", ademamix(0.01).mu_dtype(DType::F32).boxed(), 2e-8),
        // In Optax a product with `z` in f32 is one in f32: 6e-8 of numbers below 5, a tenth of that in a step.
        (
            "schedule_free_adamw(.1,state_dtype=f32)",
            schedule_free_adamw(0.1).state_dtype(DType::F32).boxed(),
            1e-7,
        ),
        ("schedule_free_sgd(.1,wd=.1,state_dtype=f32)", decayed.boxed(), 1e-7),
        (
            "MultiSteps(adam(.1),3,accumulator_dtype=bf16)",
            multi_steps(adam(0.1), 3).accumulator_dtype(DType::BF16).boxed(),
            F64,
        ),
        (
            "MultiSteps(adam(.1),2,too_short)",
            multi_steps(adam(0.1), 2).should_skip_update_fn(too_short).boxed(),
            F64,
        ),
    ];
    assert_eq!(table.len(), fixture["dtypes"].as_object().unwrap().len());
    for (name, transformation, tolerance) in table {
        assert_golden(&fixture["meta"], &fixture["dtypes"][name], name, &transformation, tolerance);
        assert_contracts(&fixture["meta"], name, &transformation);
    }
    let params = params(&fixture).flatten();
    let dtypes = |leaves: &Leaves| leaves.tensors().map(Tensor::dtype).collect::<Vec<_>>();
    let state = scale_by_ademamix().mu_dtype(DType::BF16).init(&params).unwrap();
    assert_eq!(
        [&state.m1, &state.m2, &state.nu].map(dtypes),
        [DType::BF16, DType::BF16, DType::F64].map(|d| vec![d; 2])
    );
    let state = schedule_free_sgd(0.1).state_dtype(DType::BF16).init(&params).unwrap();
    assert_eq!(dtypes(&state.z), [DType::BF16; 2]);
    let state = multi_steps(sgd(0.1), 2).accumulator_dtype(DType::F16).init(&params).unwrap();
    assert_eq!(dtypes(&state.acc_grads), [DType::F16; 2]);
    for refused in [
        ademamix(0.1).mu_dtype(DType::U32).boxed(),
        schedule_free_sgd(0.1).state_dtype(DType::I64).boxed(),
        multi_steps(sgd(0.1), 2).accumulator_dtype(DType::U8).boxed(),
    ] {
        let error = refused.init(&params).unwrap_err().to_string();
        assert!(error.contains("dtype` is out of range: expected `f64`, `f32`, `bf16` or `f16`"), "{error}");
    }
}

/// Leaves of three axes as matrices.
fn dimension_numbers() {
    let fixture = fixture();
    let tree = |step: usize| -> Vec<Leaf<Parameter>> {
        fixture["waves"][step].as_array().unwrap().iter().map(|x| Leaf::new(tensor(x)).unwrap()).collect()
    };
    let axes = |rows: &[isize], columns: &[isize]| DimensionNumbers::new(rows, columns);
    let by_axes = |muon: Muon, stack: DimensionNumbers| {
        let muon = muon.weight_dimension_numbers(path("0"), axes(&[0], &[1, 2]));
        muon.weight_dimension_numbers(path("1"), axes(&[0, 1], &[-1]))
            .weight_dimension_numbers(path("2"), stack)
    };
    macro_rules! projected {
        ($galore:expr) => {
            $galore
                .weight_dimension_numbers(path("0"), axes(&[0], &[1, 2]))
                .weight_dimension_numbers(path("1"), axes(&[0, 1], &[-1]))
                .weight_dimension_numbers(path("2"), axes(&[2], &[0, 1]))
                .boxed()
        };
    }
    let low = scale_by_galore(2).scale(0.5).base(trace(0.9));
    let replaced = galore(0.1).rank(2).scale(0.5).base(trace(0.9));
    let steady = muon(0.1).consistent_rms(0.2).adaptive(true);
    // Singular vectors in Optax are those of f32, one of them with a second that is not much smaller.
    let table: [(&str, Boxed, f64); 5] = [
        ("muon(.1,wd=.1)", by_axes(muon(0.1).weight_decay(0.1), axes(&[-2], &[2])).boxed(), F64),
        ("muon(.1,consistent_rms=.2,adaptive)", by_axes(steady, axes(&[2], &[1])).boxed(), F64),
        ("galore(.1,rank=1,wd=.1)", projected!(galore(0.1).rank(1).weight_decay(0.1)), 1e-6),
        ("galore(.1,rank=2,scale=.5,trace(.9))", chain((projected!(low), scale(-0.1))).boxed(), 1e-6),
        ("galore(.1,rank=2,scale=.5,trace(.9))", projected!(replaced), 1e-6),
    ];
    for (name, transformation, tolerance) in table {
        let mut model = tree(0);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        for step in 0..6 {
            let before = model.flatten().apply(|x| Ok(x.copy()?)).unwrap();
            optimizer.update(&tree(step + 1), &mut model).unwrap();
            let updates = model.flatten().combine(&before, |new, old| Ok((new - old)?)).unwrap();
            let expected = numbers(&fixture["axes"][name]["updates"][step]);
            assert_close(
                &update_values(&updates, &before),
                &expected,
                tolerance,
                &format!("{name}, step {step}"),
            );
        }
    }
    let model = tree(0);
    let error = |transformation: Boxed| Optimizer::new(transformation).init(&model).unwrap_err().to_string();
    for (found, wrong) in [("0", axes(&[0], &[0])), ("0", axes(&[0, 1], &[-2])), ("0", axes(&[3], &[0]))] {
        for text in [
            error(muon(0.1).weight_dimension_numbers(path(found), wrong.clone()).boxed()),
            error(galore(0.1).weight_dimension_numbers(path(found), wrong.clone()).boxed()),
        ] {
            assert!(text.contains("`0`: expected different axes of 3 for rows and columns"), "{text}");
        }
    }
    let stack = error(galore(0.1).weight_dimension_numbers(path("2"), axes(&[1], &[2])).boxed());
    assert!(stack.contains("GaLore projects leaves of one matrix") && stack.contains("all axes"), "{stack}");
    let typo = error(muon(0.1).weight_dimension_numbers(path("quer"), axes(&[0], &[1])).boxed());
    assert!(typo.contains("does nothing: `path(\"quer\")` selects no leaf"), "{typo}");
    // They are added to a choice; a choice after them is anew.
    let heads = || axes(&[0], &[1, 2]);
    let both = muon(0.1).orthogonalize(path("3")).weight_dimension_numbers(path("0"), heads());
    let state = both.init(&model.flatten()).unwrap();
    let has_mu: Vec<_> = (0..5).map(|index| state.0.0.mu.get(index).is_some()).collect();
    assert_eq!(has_mu, [true, false, false, true, false]);
    let anew = muon(0.1).weight_dimension_numbers(path("0"), heads()).orthogonalize(path("3"));
    assert!(error(anew.boxed()).contains("`weight_dimension_numbers` does nothing"));
}

/// Sophia's other estimator, of gradients that are made when they are needed.
fn curvature_of_sampled_labels() {
    let fixture = fixture();
    let case = &fixture["sampled"];
    let estimated = sophia(0.1).gamma(0.5).update_interval(2).hessian_diagonal_fn(gauss_newton_bartlett(3));
    let mut model = params(&fixture);
    let mut optimizer = Optimizer::new(estimated).init(&model).unwrap();
    let calls = std::cell::Cell::new(0);
    for step in 0..6 {
        let sampled = || {
            calls.set(calls.get() + 1);
            Ok(grads(&fixture, (step + 1) % 6).flatten())
        };
        let extra = Extra::default().with_sampled_gradient(&sampled);
        optimizer.update_with(&grads(&fixture, step), &mut model, &extra).unwrap();
    }
    assert_eq!(calls.get(), 3);
    assert_close(&tree_values(&model), &numbers(&case["final_params"]), F64, "sophia");
    let error = optimizer.update(&grads(&fixture, 0), &mut model).unwrap_err().to_string();
    assert!(error.contains("needs a gradient at sampled labels") && error.contains("update_with"), "{error}");
    assert!(Optimizer::new(gauss_newton_bartlett(0)).init(&model).is_err());
}

fn gradients_one_by_one() {
    let fixture = fixture();
    let x = Tensor::arange(0f64, 12., device()).unwrap().reshape((6, 2)).unwrap();
    let w = Leaf::<Parameter>::new(Tensor::new(&[0.3f64, -1.2], device()).unwrap()).unwrap();
    for (name, accumulator) in
        [("sum", Accumulator::Sum), ("mean", Accumulator::Mean), ("concat", Accumulator::Concat)]
    {
        let loss = |w: &mut Leaf<Parameter>, batch: &[Tensor]| {
            Ok(batch[0].broadcast_mul(&w.get()?)?.sin()?.sqr()?.sum_all()?)
        };
        let squares = |g: Leaf<Parameter>| g.map(|g| Ok(g.sqr()?));
        let batch = std::slice::from_ref(&x);
        let (losses, squares) = micro_grad(&w, Parameter, batch, accumulator, loss, squares).unwrap();
        let expected = &fixture["micro_grad"][name];
        assert_close(&values(&losses), &numbers(&expected["losses"]), 1e-12, name);
        let found = squares.get().unwrap();
        assert_eq!(found.dims(), tensor(&expected["squares"]).dims(), "{name}");
        assert_close(&values(&found), &numbers(&expected["squares"]), 1e-12, name);
    }
    let none = micro_grad(&w, Parameter, &[], Accumulator::Sum, |w, _| w.get(), Ok);
    assert!(none.unwrap_err().to_string().contains("at least one tensor"));
}

fn learning_rate_of_lbfgs() {
    let mut x = Leaf::<Parameter>::new(Tensor::new(&[3f64, -2., 1.5], device()).unwrap()).unwrap();
    let centers = Tensor::arange(0f64, 3., device()).unwrap();
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
    let mixed = Params { a: p.a.clone(), b: Leaf::new(Tensor::new(1f32, device()).unwrap()).unwrap() };
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
        let values = Tensor::arange(next + 1., next + count + 1., device())?.reshape(x.shape())?;
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
    let norm = snapshot("norm", global_norm);
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
    let x = Tensor::arange(0f64, 12., device()).unwrap().reshape((6, 2)).unwrap();
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

    // A sum of ones in half precision stalls at 256 or 2048.
    for dtype in [DType::BF16, DType::F16] {
        let ones = Tensor::ones(5000, dtype, device()).unwrap();
        let sum = microbatch(&[ones], 1, Accumulator::Sum, |part| Leaf::<Parameter>::new(part[0].clone()));
        let sum = sum.unwrap().get().unwrap();
        assert_eq!(sum.dtype(), dtype);
        let wanted = Tensor::new(&[5000f64], device()).unwrap().to_dtype(dtype).unwrap();
        assert_eq!(values(&sum), values(&wanted));
    }
}

fn main() {
    enable_nested_gradients().unwrap();
    let tests: [(&str, fn()); 14] = [
        ("options", options),
        ("element_types", element_types),
        ("dimension_numbers", dimension_numbers),
        ("curvature_of_sampled_labels", curvature_of_sampled_labels),
        ("gradients_one_by_one", gradients_one_by_one),
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
