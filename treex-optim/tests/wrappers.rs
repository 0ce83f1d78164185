//! What a wrapper must pass on from the transformation inside: the parameters to evaluate with, the learning rate, and
//! its name in state files. One table, with a row for every wrapper of the crate.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{DType, Tensor};
use treex_core::{Leaf, Parameter, Result, TreePart, by, path, prelude::*};
use treex_optim::*;
use treex_testing::compare::{assert_close, tree_values};
use treex_testing::device;

/// What a wrapper does to an average inside of it.
#[derive(Clone, Copy, PartialEq)]
enum Average {
    /// It is the one to evaluate with.
    Found,
    /// It is not of the model's parameters, which is an error.
    Refused,
    /// The wrapper has parameters of its own to evaluate with.
    Own,
}

/// The name of the type, the wrapper around a transformation, what it does to an average, and whether the learning
/// rate is that of the transformation.
type Row = (&'static str, fn(Boxed) -> Boxed, Average, bool);

fn wrappers() -> Vec<Row> {
    use Average::{Found, Own, Refused};
    vec![
        ("ApplyIfFinite", |inner| apply_if_finite(inner, 2).boxed(), Found, true),
        ("Boxed", |inner| inner.boxed().boxed(), Found, true),
        ("Chain", |inner| chain((identity(), inner)).boxed(), Found, true),
        ("Conditionally", |inner| conditionally_transform(inner, |_, _| true).boxed(), Found, false),
        ("Conditionally", |inner| conditionally_mask(inner, |_, _| true).boxed(), Found, false),
        ("Flatten", |inner| flatten(inner).boxed(), Found, true),
        (
            "InjectHyperparams",
            |inner| inject_hyperparams(Vec::<(String, Schedule)>::new(), move |_| Ok(inner.clone())).boxed(),
            Found,
            true,
        ),
        ("Lookahead", |inner| lookahead(inner, 2, 0.5).boxed(), Own, true),
        ("Masked", |inner| masked(inner, TreePart).boxed(), Found, true),
        ("MasterWeights", |inner| master_weights(inner).boxed(), Found, true),
        ("Mechanize", |inner| mechanize(inner).boxed(), Refused, false),
        ("MultiSteps", |inner| multi_steps(inner, 1).boxed(), Found, true),
        ("NamedChain", |inner| named_chain([("inner", inner)]).boxed(), Found, true),
        ("Only", |inner| only(inner, TreePart).boxed(), Found, true),
        ("Option", |inner| Some(inner).boxed(), Found, true),
        ("Partition", |inner| partition().group("all", TreePart, inner).boxed(), Found, true),
        ("Sam", |inner| sam(inner, sgd(0.1)).sync_period(1).boxed(), Found, true),
        ("ScaleByGalore", |inner| scale_by_galore(1).base(inner).boxed(), Refused, true),
        ("ScheduleFree", |inner| schedule_free(inner, 0.1).boxed(), Own, true),
    ]
}

fn model() -> Vec<Leaf<Parameter>> {
    let leaf = |values: &[f32]| Leaf::new(Tensor::new(values, device()).unwrap()).unwrap();
    vec![leaf(&[1., -2.]), leaf(&[0.5])]
}

/// Trains with gradients that change from step to step.
fn train(transformation: Boxed) -> (Optimizer<Boxed>, Vec<Leaf<Parameter>>) {
    let mut model = model();
    let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
    for step in 0..3 {
        let grads = model.map(|leaf| Ok((leaf.ones_like()? * f64::from(step + 1))?)).unwrap();
        optimizer.update_with(&grads, &mut model, &Extra::value(1.)).unwrap();
    }
    (optimizer, model)
}

/// The types in the sources that run another transformation: those that have members.
fn wrappers_of_the_crate() -> BTreeSet<String> {
    fn collect(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, names);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                for block in text.split(" GradientTransformation for ").skip(1) {
                    let body = block.split("\n}\n").next().unwrap();
                    let name = body.split(['<', ' ']).next().unwrap();
                    let has_members = body
                        .split("fn members")
                        .nth(1)
                        .is_some_and(|after| !after.lines().nth(1).unwrap().trim().starts_with("Vec::new()"));
                    // `T` is the blanket implementation for what has no state.
                    if has_members && name != "T" {
                        names.insert(name.to_owned());
                    }
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names
}

#[test]
fn every_wrapper_has_a_row() {
    let rows: BTreeSet<_> = wrappers().into_iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(rows, wrappers_of_the_crate());
}

/// A wrapper of this kind does not change the steps, so the average is that of the transformation alone.
#[test]
fn the_parameters_to_evaluate_with() {
    let average = || chain((sgd(0.1), params_ema(0.5))).boxed();
    let (optimizer, model) = train(average());
    let expected = tree_values(&optimizer.eval_model(&model).unwrap());
    for (name, wrap, what, _) in wrappers() {
        let (optimizer, model) = train(wrap(average()));
        let found = optimizer.eval_model(&model);
        match what {
            Average::Found => assert_close(&tree_values(&found.unwrap()), &expected, 1e-6, name),
            Average::Own => assert_ne!(tree_values(&found.unwrap()), tree_values(&model), "{name}"),
            Average::Refused => {
                let text = found.unwrap_err().to_string();
                assert!(text.contains("is not one of the model's parameters; average behind it"), "{text}");
                // Without an average there is nothing to refuse.
                let (optimizer, model) = train(wrap(sgd(0.1).boxed()));
                assert_eq!(optimizer.eval_model(&model).unwrap(), model, "{name}");
            }
        }
    }
}

#[test]
fn the_learning_rate_of_the_transformation_inside() {
    for (name, wrap, _, passes) in wrappers() {
        let (optimizer, _) = train(wrap(sgd(linear(0.4, 0.1, 3)).boxed()));
        assert_eq!(optimizer.learning_rate().unwrap(), passes.then_some(0.1), "{name}");
    }
}

/// The names of the inner transformations are in that of the wrapper, so a state of another is not loaded.
#[test]
fn the_structure_has_the_transformation_inside() {
    for (name, wrap, _, _) in wrappers() {
        let [adam, belief] = [scale_by_adam().boxed(), scale_by_belief().boxed()].map(|inner| {
            let transformation = wrap(inner);
            let optimizer = Optimizer::new(transformation).init(&model()).unwrap();
            optimizer.transformation().structure(optimizer.state().unwrap())
        });
        assert!(adam.contains("ScaleByAdam") && belief.contains("ScaleByBelief"), "{name}: {adam}, {belief}");
    }
}

/// During an ascent the model is at the adversarial point.
#[test]
fn sam_evaluates_before_its_ascent() {
    let mut model = model();
    let before = model.clone();
    let mut optimizer = Optimizer::new(sam(sgd(0.1), sgd(0.05))).init(&model).unwrap();
    assert_eq!(optimizer.learning_rate().unwrap(), Some(0.05));
    let grads = model.clone();
    optimizer.update(&grads, &mut model).unwrap();
    assert_ne!(tree_values(&model), tree_values(&before));
    assert_eq!(tree_values(&optimizer.eval_model(&model).unwrap()), tree_values(&before));
    assert_eq!(optimizer.learning_rate().unwrap(), Some(0.1));
    optimizer.update(&grads, &mut model).unwrap();
    assert_eq!(tree_values(&optimizer.eval_model(&model).unwrap()), tree_values(&model));
}

/// The numbers to evaluate with are those that were loaded, not those of the program that loads.
#[test]
fn injected_numbers_are_those_of_the_state() {
    let transformation = || {
        inject_hyperparams([("b1", 0.9.into())], |now| Ok(schedule_free(sgd(0.1), 0.1).b1(now.get("b1")?)))
    };
    let mut model = model();
    let mut optimizer = Optimizer::new(transformation()).init(&model).unwrap();
    optimizer.set_hyperparam("b1", 0.5).unwrap();
    let grads = model.clone();
    for _ in 0..3 {
        optimizer.update(&grads, &mut model).unwrap();
    }
    let expected = tree_values(&optimizer.eval_model(&model).unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    optimizer.save(file.path()).unwrap();
    let mut loaded = Optimizer::new(transformation()).init(&model).unwrap();
    loaded.load(file.path()).unwrap();
    assert_eq!(tree_values(&loaded.eval_model(&model).unwrap()), expected);
}

/// The rate that is reported, if one is, is that of the next step: the gradients are ones, and there is nothing
/// between gradient and step but factors.
#[test]
fn the_reported_rate_is_the_next_step() {
    let falling = || linear(0.4, 0.1, 3);
    let same = partition().group("first", path("0"), sgd(falling())).group("rest", TreePart, sgd(falling()));
    let different = partition().group("first", path("0"), sgd(0.1)).group("rest", TreePart, sgd(0.2));
    let frozen = partition().group("first", path("0"), sgd(0.1)).group("rest", TreePart, set_to_zero());
    let masks = chain((masked(sgd(0.1), path("0")), masked(sgd(falling()), path("1"))));
    let injected = inject_hyperparams([("rate", falling().into())], |now| Ok(sgd(now.get("rate")?)));
    let patient = || reduce_on_plateau().factor(0.5).patience(2).cooldown(1);
    // Whether a rate is reported before each of five steps.
    let cases: Vec<(&str, Boxed, [bool; 5])> = vec![
        ("sgd", sgd(falling()).boxed(), [true; 5]),
        ("ascent", scale_by_learning_rate(0.1).flip_sign(false).boxed(), [true; 5]),
        ("scaled", chain((sgd(falling()), scale(0.5))).boxed(), [true; 5]),
        ("scaled before", chain((scale(0.5), sgd(falling()))).boxed(), [true; 5]),
        ("two schedules", chain((scale_by_schedule(falling()), sgd(falling()))).boxed(), [true; 5]),
        ("two rates", chain((sgd(0.5), scale_by_learning_rate(0.1).flip_sign(false))).boxed(), [true; 5]),
        ("no rate", chain((scale_by_schedule(falling()), scale(-1.))).boxed(), [false; 5]),
        ("the same groups", same.boxed(), [true; 5]),
        ("different groups", different.boxed(), [false; 5]),
        ("a group that stands still", frozen.boxed(), [true; 5]),
        ("different masks", masks.boxed(), [false, false, false, true, true]),
        ("one mask", chain((masked(scale(0.5), path("0")), sgd(0.1))).boxed(), [false; 5]),
        ("frozen", chain((freeze(path("0")), sgd(falling()))).boxed(), [true; 5]),
        ("injected", injected.boxed(), [true; 5]),
        // The first loss is the best; the third of the same value lowers the rate, then one is ignored.
        ("plateau", chain((sgd(0.4), patient())).boxed(), [true, true, false, true, true]),
        ("plateau before", chain((patient(), sgd(0.4))).boxed(), [true, true, false, true, true]),
        (
            "conditionally",
            chain((sgd(0.1), conditionally_transform(scale(0.5), |step, _| step < 2))).boxed(),
            [false; 5],
        ),
        ("mechanize", mechanize(sgd(0.1)).boxed(), [false; 5]),
        ("dog", dog().boxed(), [false; 5]),
        ("dowg", dowg().boxed(), [false; 5]),
        ("polyak_sgd", polyak_sgd().boxed(), [false; 5]),
        ("momo", momo().boxed(), [false; 5]),
        ("momo_adam", momo_adam().boxed(), [false; 5]),
        ("cocob", cocob().boxed(), [false; 5]),
        ("muon, two rates", muon(0.02).orthogonalize(path("0")).adam_learning_rate(0.1).boxed(), [false; 5]),
    ];
    for (name, transformation, known) in cases {
        let mut model = vec![
            Leaf::<Parameter>::new(Tensor::new(&[[1f64, -2.]], device()).unwrap()).unwrap(),
            Leaf::new(Tensor::new(&[[0.5f64]], device()).unwrap()).unwrap(),
        ];
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        let grads = model.map(|leaf| Ok(leaf.ones_like()?)).unwrap();
        for (step, known) in known.into_iter().enumerate() {
            let rate = optimizer.learning_rate().unwrap();
            assert_eq!(rate.is_some(), known, "{name}, step {step}: {rate:?}");
            let before = tree_values(&model);
            optimizer.update_with(&grads, &mut model, &Extra::value(3.)).unwrap();
            let moved = before.iter().zip(tree_values(&model)).map(|(before, after)| (before - after).abs());
            if let Some(rate) = rate {
                let moved: Vec<_> = moved.filter(|moved| *moved > 0.).collect();
                assert_close(&moved, &vec![rate; moved.len()], 1e-12, &format!("{name}, step {step}"));
            }
        }
    }
    // Line searches need the loss, and find the rate by it.
    let lines = [lbfgs().boxed(), chain((sgd(1.), scale_by_backtracking_linesearch(15))).boxed()];
    for line in lines {
        let mut x = model().remove(0);
        let mut optimizer = Optimizer::new(line).init(&x).unwrap();
        for _ in 0..2 {
            assert_eq!(optimizer.learning_rate().unwrap(), None);
            optimizer.minimize(&mut x, |x| Ok(x.get()?.sqr()?.sum_all()?)).unwrap();
        }
    }
}

/// By [`GradientTransformation::members`], which has no default, a wrapper of a user forwards everything.
#[test]
fn a_wrapper_of_a_user_forwards_by_its_members() {
    #[derive(Clone, Debug)]
    struct Twice<T>(T);

    impl<T: GradientTransformation> GradientTransformation for Twice<T> {
        type State = T::State;

        fn init(&self, params: &treex_core::Leaves) -> Result<T::State> {
            self.0.init(params)
        }

        fn update<'a>(
            &'a self,
            updates: engine::Updates<'a>,
            state: &'a mut T::State,
        ) -> Result<engine::Updates<'a>> {
            self.0.update(updates, state)
        }

        fn members<'s>(&'s self, state: &'s T::State) -> Vec<Member<'s>> {
            vec![Member::new(&self.0, state)]
        }
    }

    let (optimizer, model) = train(Twice(chain((sgd(0.1), params_ema(0.5)))).boxed());
    assert_eq!(optimizer.learning_rate().unwrap(), Some(0.1));
    assert_ne!(tree_values(&optimizer.eval_model(&model).unwrap()), tree_values(&model));
    let structure = optimizer.transformation().structure(optimizer.state().unwrap());
    assert_eq!(structure, "Twice(Chain(Chain(Identity, ScaleByLearningRate), ParamsEma))");
}

/// A parameter that was written by hand is trained from its new value; the others from their masters.
#[test]
fn masters_follow_what_is_written_to_the_model() {
    let leaf = |values: &[f32]| {
        let values = Tensor::new(values, device()).unwrap().to_dtype(DType::BF16).unwrap();
        Leaf::<Parameter>::new(values).unwrap()
    };
    for wrap in [|inner| inner, |inner: Boxed| apply_if_finite(inner, 2).boxed()] {
        let mut x = leaf(&[1., 1., 1.]);
        let mut optimizer = Optimizer::new(wrap(master_weights(sgd(1.)).boxed())).init(&x).unwrap();
        // A hundredth of the spacing of bf16 at 1, which only a master keeps.
        let little = leaf(&[2f32.powi(-14); 3]);
        optimizer.update(&little, &mut x).unwrap();
        x.set(Tensor::new(&[1f32, 4., f32::NAN], device()).unwrap().to_dtype(DType::BF16).unwrap()).unwrap();
        let evaluated = tree_values(&optimizer.eval_model(&x).unwrap());
        assert_eq!(evaluated[..2], [1., 4.]);
        optimizer.update(&leaf(&[2f32.powi(-14), 1., 1.]), &mut x).unwrap();
        let values = tree_values(&x);
        assert_eq!(values[..2], [1., 3.], "{values:?}");
        assert!(values[2].is_nan());
        let master = optimizer.filter(path("**.master") | path("**.master.**"));
        assert_eq!(tree_values(&master)[..2], [1. - 2f64.powi(-13), 3.]);
    }
}

/// A leaf that is frozen keeps its moments in an optimizer for the changed model, and goes on from them.
#[test]
fn reconciled_while_leaves_are_frozen() {
    let mut model = model();
    let mut optimizer = Optimizer::new(adam(0.1)).init(&model).unwrap();
    let grads = model.clone();
    optimizer.update(&grads, &mut model).unwrap();
    model.freeze(path("1")).unwrap();
    let (mut next, report) = optimizer.reconcile(&model).unwrap();
    assert!(report.dropped.is_empty() && report.initialized.is_empty(), "{report:?}");
    assert_eq!(next.flatten(), optimizer.flatten());

    let before = model.clone();
    next.update(&grads, &mut model).unwrap();
    assert_eq!(tree_values(&model[1]), tree_values(&before[1]));
    model.unfreeze(path("1")).unwrap();
    next.update(&grads, &mut model).unwrap();
    assert_ne!(tree_values(&model[1]), tree_values(&before[1]));

    // One that was frozen from the start has no state until it is unfrozen.
    let mut frozen = before;
    frozen.unfreeze(by(|_| true)).unwrap();
    frozen.freeze(path("1")).unwrap();
    let optimizer = Optimizer::new(adam(0.1)).init(&frozen).unwrap();
    let (_, report) = optimizer.reconcile(&frozen).unwrap();
    assert!(report.kept.iter().all(|path| !path.to_string().ends_with(".1")), "{report:?}");
}
