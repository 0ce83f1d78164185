//! The optimizers of Optax's `contrib`: its numbers (`fixtures/optax.json`), and their contracts.

#![allow(clippy::unwrap_used)]

mod contract;

use candle_core::{DType, Tensor};
use contract::{F64, Params, assert_contracts, assert_golden, contrib, extra};
use treex_core::{Leaf, Parameter, path, prelude::*};
use treex_optim::{
    Boxed, Extra, GradientTransformation, InitStep, NewtonSchulz, Optimizer, Preconditioning, Schedule,
    acprop, adam, adamw, ademamix, adopt, chain, cocob, dadapt_adamw, dog, dowg, galore, madgrad, mechanize,
    momo, momo_adam, muon, newton_schulz, normalize, prodigy, reduce_on_plateau, sam, scale_by_galore,
    schedule_free_adamw, schedule_free_sgd, sgd, simplified_ademamix, trace, warmup_constant,
};
use treex_testing::compare::{assert_close, tree_values, values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::{numbers, tensor};

/// Optax's singular vectors are those of a decomposition in f32.
const PROJECTED: f64 = 2e-7;

/// Optax takes the root of a count in f32, in an f64 run too: 6e-8 of each weight.
const COUNTED: f64 = 1e-8;

/// The optimizers under the names of their cases, with tolerances.
fn table() -> Vec<(&'static str, Boxed, f64)> {
    let exact = Schedule::from(warmup_constant(0., 0.1, 2));
    let warm = Schedule::new("warmup_constant in f32", move |count| f64::from(exact.value(count) as f32));
    let schulz = newton_schulz;
    let dion = schulz().coeffs(NewtonSchulz::DION).preconditioning(Preconditioning::Aol);
    let schatten = schulz().preconditioning(Preconditioning::Schatten);
    let spectral = schulz().preconditioning(Preconditioning::Spectral);
    vec![
        ("acprop(.01)", acprop(0.01).boxed(), F64),
        ("ademamix(.01)", ademamix(0.01).boxed(), F64),
        ("simplified_ademamix(.01)", simplified_ademamix(0.01).alpha(0.5).boxed(), F64),
        ("adopt(.01)", adopt(0.01).boxed(), F64),
        ("adopt(.01,nesterov,noclip)", adopt(0.01).nesterov(true).clip(None).boxed(), F64),
        ("cocob()", cocob().boxed(), F64),
        ("dadapt_adamw()", dadapt_adamw().boxed(), F64),
        ("dog()", dog().boxed(), F64),
        ("dog(learning_rate .1)", dog().init_step(InitStep::LearningRate(0.1)).boxed(), F64),
        ("dowg()", dowg().boxed(), F64),
        ("madgrad(.01)", madgrad(0.01).boxed(), COUNTED),
        ("mechanize(sgd(.1))", mechanize(sgd(0.1)).boxed(), F64),
        ("momo()", momo().boxed(), F64),
        ("momo(adapt_lb,wd)", momo().adapt_lower_bound(true).weight_decay(0.01).boxed(), F64),
        ("momo_adam()", momo_adam().boxed(), F64),
        ("momo_adam(adapt_lb,wd)", momo_adam().adapt_lower_bound(true).weight_decay(0.01).boxed(), F64),
        ("muon(.01)", muon(0.01).boxed(), F64),
        ("muon(.01,dion,aol)", muon(0.01).newton_schulz(dion).boxed(), F64),
        (
            "muon(.01,schatten,consistent_rms=.2)",
            muon(0.01).newton_schulz(schatten).consistent_rms(0.2).boxed(),
            F64,
        ),
        (
            "muon(.01,spectral,adaptive,no nesterov)",
            muon(0.01).newton_schulz(spectral).adaptive(true).nesterov(false).boxed(),
            F64,
        ),
        ("prodigy()", prodigy().boxed(), F64),
        ("prodigy(safeguard,wd)", prodigy().safeguard_warmup(true).weight_decay(0.01).boxed(), F64),
        ("schedule_free_sgd(.1,warmup 2,wd)", schedule_free_sgd(warm).weight_decay(0.01).boxed(), F64),
        ("schedule_free_adamw(.1)", schedule_free_adamw(0.1).boxed(), F64),
        ("reduce_on_plateau", chain((sgd(0.1), reduce_on_plateau().factor(0.5).patience(1))).boxed(), F64),
        ("sam(sgd .1, normalize+sgd .05)", sam(sgd(0.1), chain((normalize(), sgd(0.05)))).boxed(), F64),
        ("galore(.01,rank=1)", galore(0.01).rank(1).boxed(), PROJECTED),
    ]
}

/// The same for the cases of `contrib.json`, whose options all differ from the defaults.
fn beyond() -> Vec<(&'static str, Boxed, f64)> {
    let b3 = Schedule::new("1 - 1 / (2 + c)", |count| 1. - 1. / (2. + count as f64));
    let alpha = Schedule::new("2 + c", |count| 2. + count as f64);
    let climb = || sgd(0.05).momentum(0.9);
    let decayed = || adamw(0.1).weight_decay(0.1);
    let cooling = reduce_on_plateau().factor(0.5).patience(1).rtol(0.2).cooldown(1).min_scale(0.3);
    let gathering = reduce_on_plateau().factor(0.5).patience(1).atol(1.).rtol(0.).accumulation_size(2);
    let averaged = schedule_free_adamw(0.1).b1(0.8).b2(0.9).weight_decay(0.1).weight_lr_power(0.);
    let estimated = prodigy().learning_rate(0.5).b3(0.5).estim_lr0(0.1).estim_lr_coef(2.).eps(1e-2);
    let adapted = dadapt_adamw().learning_rate(0.5).estim_lr0(0.1).eps(1e-2).weight_decay(0.1);
    let tuned = mechanize(adam(0.5)).weight_decay(0.1).num_betas(3).s_init(0.01);
    let modelled = momo_adam().learning_rate(0.1).b1(0.5).b2(0.9).lower_bound(2.).adapt_lower_bound(true);
    let orthogonal = muon(0.1).beta(0.5).weight_decay(0.1).adam_weight_decay(0.2).adam_learning_rate(0.05);
    let low = galore(0.1).rank(2).update_proj_gap(2).scale(0.25).weight_decay(0.1);
    vec![
        ("reduce_on_plateau(cooldown)", chain((sgd(0.1), cooling)).boxed(), F64),
        ("reduce_on_plateau(accumulation_size=2)", chain((sgd(0.1), gathering)).boxed(), F64),
        ("schedule_free(adamw(.1,wd=.1),power=0,b1=.8)", averaged.boxed(), F64),
        ("prodigy(estim_lr0=.1,coef=2,beta3=.5)", estimated.boxed(), F64),
        ("dadapt_adamw(estim_lr0=.1,wd)", adapted.boxed(), F64),
        ("dog(distance .1,wd)", dog().init_step(InitStep::Distance(0.1)).weight_decay(0.1).boxed(), F64),
        ("dowg(.5,wd)", dowg().init_estim_sq_dist(0.5).eps(1e-2).weight_decay(0.1).boxed(), F64),
        ("mechanize(adam(.5),wd,num_betas=3,s_init=.01)", tuned.boxed(), F64),
        ("momo(.1,beta=.5,lower_bound=2)", momo().learning_rate(0.1).beta(0.5).lower_bound(2.).boxed(), F64),
        ("momo_adam(.1,lower_bound=2,adapt)", modelled.boxed(), F64),
        (
            "ademamix(.01,schedules,wd)",
            ademamix(0.01).b3(b3).alpha(alpha).eps_root(1e-3).weight_decay(0.1).boxed(),
            F64,
        ),
        ("acprop(.01,wd)", acprop(0.01).b1(0.5).b2(0.9).eps_root(1e-3).weight_decay(0.1).boxed(), F64),
        (
            "cocob(.5,alpha=2,wd)",
            cocob().learning_rate(0.5).alpha(2.).eps(0.1).weight_decay(0.1).boxed(),
            F64,
        ),
        (
            "madgrad(.1,momentum=.5,wd)",
            madgrad(0.1).momentum(0.5).eps(1e-2).weight_decay(0.1).boxed(),
            COUNTED,
        ),
        ("muon(.1,beta=.5,wd)", orthogonal.adam(|adam| adam.b2(0.9)).boxed(), F64),
        (
            "sam(adamw(.1,wd=.1),sgd(.05,.9),3,no reset)",
            sam(decayed(), climb()).sync_period(3).reset_state(false).boxed(),
            F64,
        ),
        ("sam(adamw(.1,wd=.1),sgd(.05,.9),3)", sam(decayed(), climb()).sync_period(3).boxed(), F64),
        ("galore(.1,rank=2,gap=2,scale=.25,wd)", low.boxed(), PROJECTED),
    ]
}

#[test]
fn matches_optax() {
    let fixture = fixture!("optax.json");
    for (name, transformation, tolerance) in table() {
        assert_golden(&fixture["meta"], &fixture["transforms"][name], name, &transformation, tolerance);
    }
    let contrib = contrib();
    for (name, transformation, tolerance) in beyond() {
        assert_golden(&fixture["meta"], &contrib["transforms"][name], name, &transformation, tolerance);
    }
}

#[test]
fn contracts() {
    let fixture = fixture!("optax.json");
    for (name, transformation, _) in table() {
        assert_contracts(&fixture["meta"], name, &transformation);
    }
}

#[test]
fn orthogonalized_as_in_optax() {
    let fixture = &fixture!("optax.json")["newton_schulz"];
    let w = tensor(&fixture["w"]);
    let standard = vec![NewtonSchulz::STANDARD; 5];
    for (name, preconditioning) in [
        ("frobenius", Preconditioning::Frobenius),
        ("spectral", Preconditioning::Spectral),
        ("aol", Preconditioning::Aol),
        ("schatten", Preconditioning::Schatten),
    ] {
        for (preset, coeffs) in [("standard", standard.clone()), ("dion", NewtonSchulz::DION.to_vec())] {
            let schulz = newton_schulz().coeffs(coeffs).preconditioning(preconditioning);
            let case = &fixture["values"][format!("{name}_{preset}")];
            assert_close(&values(&schulz.orthogonalize(&w).unwrap()), &numbers(case), 1e-12, name);
            // The transpose gives the transpose.
            let turned = schulz.orthogonalize(&w.t().unwrap().contiguous().unwrap()).unwrap();
            assert_close(&values(&turned.t().unwrap().contiguous().unwrap()), &numbers(case), 1e-12, name);
        }
    }
    let error = newton_schulz().orthogonalize(&w.flatten_all().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "only a matrix can be orthogonalized: expected [rows, columns], found [12]"
    );
}

/// The parameters to evaluate with are the average of `z`, weighted by the squares of the rates, in whatever type it is
/// kept.
#[test]
fn schedule_free_evaluates_the_average() {
    for dtype in [None, Some(DType::F32), Some(DType::BF16)] {
        average_of_z(dtype);
    }
}

fn average_of_z(dtype: Option<DType>) {
    let fixture = fixture!("optax.json");
    let meta = &fixture["meta"];
    let mut params = Params::read(&meta["params"], DType::F64);
    let mut optimizer = Optimizer::new(schedule_free_sgd(0.1).state_dtype(dtype)).init(&params).unwrap();
    let mut mean = vec![0.; 10];
    for step in 0..6 {
        let grads = Params::read(&meta["grads"][step], DType::F64);
        optimizer.update(&grads, &mut params).unwrap();
        let z = tree_values(&optimizer.state().unwrap().z);
        mean.iter_mut().zip(z).for_each(|(mean, z)| *mean += (z - *mean) / (step + 1) as f64);
        let evaluated = tree_values(&optimizer.eval_model(&params).unwrap());
        assert_close(&evaluated, &mean, 1e-12, "the mean of equal rates");
    }
    assert_eq!(optimizer.learning_rate().unwrap(), Some(0.1));
}

/// A kernel of a convolution is a matrix of all its inputs and its outputs.
#[test]
fn muon_takes_kernels_as_matrices() {
    let flat = Tensor::arange(0f64, 24., device()).unwrap().sin().unwrap();
    let step = |shape: &[usize]| {
        let leaf = |tensor: &Tensor| Leaf::<Parameter>::new(tensor.reshape(shape).unwrap()).unwrap();
        let mut kernel = vec![leaf(&flat)];
        let optimizer = muon(0.1).orthogonalize(path("**")).adam(|adam| adam.b2(0.9));
        let mut optimizer = Optimizer::new(optimizer).init(&kernel).unwrap();
        let grads = vec![leaf(&flat.cos().unwrap())];
        optimizer.update(&grads, &mut kernel).unwrap();
        tree_values(&kernel)
    };
    assert_eq!(step(&[2, 3, 4]), step(&[6, 4]));
    assert_ne!(step(&[2, 3, 4]), step(&[4, 6]));
    let bias = Leaf::<Parameter>::new(Tensor::ones(3, DType::F32, device()).unwrap()).unwrap();
    let mut biases = vec![bias];
    let grads = biases.clone();
    let mut optimizer = Optimizer::new(muon(0.1).orthogonalize(path("**"))).init(&biases).unwrap();
    assert!(optimizer.update(&grads, &mut biases).is_err());
}

/// A whole step by `minimize` equals a pair of updates.
#[test]
fn sam_in_one_step() {
    let loss = |x: &mut Leaf<Parameter>| Ok((x.get()?.sqr()?.sum_all()? + x.get()?.sin()?.sum_all()?)?);
    let start = || Leaf::<Parameter>::new(Tensor::new(&[1., -2., 0.5], device()).unwrap()).unwrap();
    let optimizer = || sam(sgd(0.1).momentum(0.9), chain((normalize(), sgd(0.05))));
    let (mut pairs, mut whole) = (start(), start());
    let mut by_pairs = Optimizer::new(optimizer()).init(&pairs).unwrap();
    let mut at_once = Optimizer::new(optimizer().opaque(true)).init(&whole).unwrap();
    for _ in 0..4 {
        for _ in 0..2 {
            let (_, grads) = pairs.value_and_grad(Parameter, loss).unwrap();
            by_pairs.update(&grads, &mut pairs).unwrap();
        }
        at_once.minimize(&mut whole, loss).unwrap();
        assert_close(&tree_values(&whole), &tree_values(&pairs), 1e-14, "after a step");
    }
    let grads = whole.clone();
    let error = at_once.update(&grads, &mut whole).unwrap_err();
    assert!(error.to_string().starts_with("an opaque `sam` needs the loss"), "{error}");
}

/// A leaf without a gradient in the ascent continues from its value.
#[test]
fn sam_returns_to_its_start() {
    let meta = &fixture!("optax.json")["meta"];
    let mut params = Params::read(&meta["params"], DType::F64);
    let mut optimizer = Optimizer::new(sam(sgd(0.1), sgd(0.05))).init(&params).unwrap();
    for step in 0..2 {
        let grads = Params::read(&meta["grads"][step], DType::F64);
        optimizer.update(&grads, &mut params).unwrap();
    }
    let before = params.clone();
    let grads = Params::read(&meta["grads"][2], DType::F64);
    optimizer.update(&grads.filter(path("a")), &mut params).unwrap();
    assert_ne!(params.a, before.a);
    optimizer.update(&grads, &mut params).unwrap();
    let expected = before.zip_map(&grads, |p, g| Ok((p - (g * 0.1)?)?)).unwrap();
    assert_close(&tree_values(&params), &tree_values(&expected), 1e-15, "a step from the base");
}

#[test]
fn a_plateau_is_left_after_cooling() {
    let mut x = Leaf::<Parameter>::new(Tensor::new(&[0f64], device()).unwrap()).unwrap();
    let plateau = reduce_on_plateau().factor(0.5).patience(2).cooldown(2).min_scale(0.2);
    let mut optimizer = Optimizer::new(plateau).init(&x).unwrap();
    let grads = x.clone();
    let mut scales = Vec::new();
    for _ in 0..12 {
        optimizer.update_with(&grads, &mut x, &Extra::value(1.)).unwrap();
        scales.push(optimizer.state().unwrap().scale.get().unwrap());
    }
    // The first loss is the best; two are no better; two are ignored; two are no better.
    assert_eq!(scales, [1., 1., 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2, 0.2]);
}

#[test]
fn a_missing_loss_value_is_an_error() {
    for transformation in [momo().boxed(), momo_adam().boxed(), reduce_on_plateau().boxed()] {
        let mut params = Params::read(&fixture!("optax.json")["meta"]["params"], DType::F64);
        let grads = params.clone();
        let mut optimizer = Optimizer::new(transformation).init(&params).unwrap();
        let error = optimizer.update(&grads, &mut params).unwrap_err().to_string();
        assert!(error.contains("needs the value of the loss: expected `Extra::value(loss)`"), "{error}");
        optimizer.update_with(&grads, &mut params, &extra(0)).unwrap();
    }
    let refused = |transformation: Boxed| {
        Optimizer::new(transformation)
            .init(&Params::read(&fixture!("optax.json")["meta"]["params"], DType::F64))
            .unwrap_err()
    };
    refused(reduce_on_plateau().factor(1.).boxed());
    refused(galore(0.1).rank(0).boxed());
    refused(sam(sgd(0.1), sgd(0.1)).sync_period(0).boxed());
    refused(prodigy().estim_lr0(0.).boxed());
}

/// What is NaN is seen in the parameters: a gradient in its own leaf, a parameter and a loss in all that they decide.
#[test]
fn nan_is_seen() {
    let meta = &fixture!("optax.json")["meta"];
    let start = || Params::read(&meta["params"], DType::F64);
    let step = |transformation: &Boxed, mut params: Params, grads: &Params, loss: f64| {
        let mut optimizer = Optimizer::new(transformation.clone()).init(&start()).unwrap();
        // An ascent, and a step.
        for _ in 0..2 {
            optimizer.update_with(grads, &mut params, &Extra::value(loss)).unwrap();
        }
        [tree_values(&params.a), tree_values(&params.b)].map(|leaf| leaf.iter().any(|value| value.is_nan()))
    };
    let grads = Params::read(&meta["grads"][0], DType::F64);
    let with_nan = |params: &Params| {
        let mut values = tree_values(&params.a);
        values[1] = f64::NAN;
        let shape = params.a.get().unwrap().shape().clone();
        let a = Leaf::new(Tensor::from_vec(values, shape, device()).unwrap()).unwrap();
        Params { a, ..params.clone() }
    };
    for (name, transformation, _) in table().into_iter().chain(beyond()) {
        assert!(step(&transformation, start(), &with_nan(&grads), 3.)[0], "a gradient in {name}");
    }
    for transformation in [dog().boxed(), dowg().boxed()] {
        assert_eq!(step(&transformation, with_nan(&start()), &grads, 3.), [true; 2], "{transformation:?}");
    }
    for transformation in [momo().boxed(), momo_adam().boxed()] {
        assert_eq!(step(&transformation, start(), &grads, f64::NAN), [true; 2], "{transformation:?}");
    }
}

/// The estimates of the distance survive gradients of zeros.
#[test]
fn zero_gradients_keep_the_estimate() {
    for transformation in [prodigy().boxed(), dadapt_adamw().boxed(), dog().boxed(), dowg().boxed()] {
        let mut params = Params::read(&fixture!("optax.json")["meta"]["params"], DType::F32);
        let zeros = params.map(|leaf| Ok(leaf.zeros_like()?)).unwrap();
        let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
        optimizer.update(&zeros, &mut params).unwrap();
        let all = [tree_values(&params), tree_values(&optimizer)].concat();
        assert!(all.iter().all(|value| value.is_finite()), "{transformation:?}");
    }
}

/// A matrix without elements is not decomposed.
#[test]
fn empty_matrices() {
    let leaf = |shape: (usize, usize)| {
        Leaf::<Parameter>::new(Tensor::zeros(shape, DType::F32, device()).unwrap()).unwrap()
    };
    for shape in [(0, 3), (3, 0), (0, 0)] {
        let spectral = newton_schulz().preconditioning(Preconditioning::Spectral);
        for schulz in [spectral, newton_schulz()] {
            assert_eq!(schulz.orthogonalize(&leaf(shape).get().unwrap()).unwrap().dims(), [shape.0, shape.1]);
            for transformation in [muon(0.1).newton_schulz(schulz.clone()).boxed(), galore(0.1).boxed()] {
                let mut model = vec![leaf(shape), leaf((2, 2))];
                let grads = model.clone();
                let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
                optimizer.update(&grads, &mut model).unwrap();
                assert_eq!(model[0].get().unwrap().dims(), [shape.0, shape.1]);
            }
        }
    }
}

/// The direction of a gradient of rank one is kept from projector to projector, whichever sign a decomposition gives:
/// with the moment of the step before, equal gradients give equal steps.
#[test]
fn projectors_keep_their_signs() {
    let start = Tensor::new(&[[1f64, 2.], [3., 4.], [5., 6.]], device()).unwrap();
    let mut x = Leaf::<Parameter>::new(&start).unwrap();
    let base = scale_by_galore(1).update_proj_gap(1).base(trace(0.5));
    let mut optimizer = Optimizer::new(base).init(&x).unwrap();
    let gradient = Tensor::new(&[[1f64, -1.], [2., -2.], [-2., 2.]], device()).unwrap();
    // The same up to a factor that turns its sign; the trace is 1, 0.5 - 1, and so on.
    let mut expected = start;
    for (sign, trace) in [(1., 1.), (-1., -0.5), (1., 0.75), (1., 1.375)] {
        let grads = Leaf::<Parameter>::new((&gradient * sign).unwrap()).unwrap();
        optimizer.update(&grads, &mut x).unwrap();
        expected = (expected + (&gradient * trace).unwrap()).unwrap();
        assert_close(&tree_values(&x), &values(&expected), 1e-12, "the trace of the whole gradient");
    }
}
