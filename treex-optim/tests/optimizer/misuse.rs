//! Misuse is an error that changes nothing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use treex_optim::engine::Updates;

use super::*;

/// The error of `attempt`, after which model and optimizer must be unchanged.
#[track_caller]
fn refused<T: GradientTransformation>(
    optimizer: &mut Optimizer<T>,
    model: &mut Model,
    attempt: impl FnOnce(&mut Optimizer<T>, &mut Model) -> Result<()>,
) -> treex_core::Error {
    let (model_before, state_before) = (model.clone(), optimizer.clone());
    let error = attempt(optimizer, model).unwrap_err();
    assert_eq!(*model, model_before);
    assert_eq!(optimizer.flatten(), state_before.flatten());
    error
}

#[test]
fn another_structure_is_refused() {
    for (name, transformation) in all() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..2);
        let grads = gradient(&model, 2);

        let mut longer = model.clone();
        longer.layers.push(leaf(&[1.], DType::F32));
        let error =
            refused(&mut optimizer, &mut longer, |optimizer, longer| optimizer.update(&grads, longer));
        assert_eq!(error.kind(), ErrorKind::Structure, "{name}");
        let text = "the model has a different structure, from leaf 3 on at `kernel`: expected `kernel` of kind `Parameter`, \
                    found `layers.2` of kind `Parameter`; pass the model that the optimizer was initialized with, or \
                    a filtered tree of it; after surgery, call `optimizer.reconcile(&model)?`";
        assert_eq!(error.to_string(), text);

        let longer_grads = gradient(&longer, 2);
        let error =
            refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&longer_grads, model));
        assert!(
            error
                .to_string()
                .starts_with("the gradient has a different structure, from leaf 3 on at `kernel`"),
            "{error}"
        );

        let mut wider = model.clone();
        wider.layers[1] = leaf(&[1., 2., 3.], DType::F32);
        let error = refused(&mut optimizer, &mut wider, |optimizer, wider| optimizer.update(&grads, wider));
        let text = "a leaf of the model differs in shape from the optimizer's `init` at `layers.1`: expected [2], \
                    found [3]; a changed model needs an optimizer that is initialized with it";
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Shape, text.to_owned()), "{name}");

        let wider_grads = gradient(&wider, 2);
        let error =
            refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&wider_grads, model));
        assert!(error.to_string().starts_with("a leaf of the gradient differs in shape"), "{error}");

        let mut without = model.filter(!path("x"));
        let error =
            refused(&mut optimizer, &mut without, |optimizer, without| optimizer.update(&grads, without));
        let text = "a leaf has a gradient but no value in the model at `x`; update the whole model, or filter \
                    the gradient in the same way";
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::FilteredOut, text.to_owned()), "{name}");
    }
}

#[test]
fn a_filtered_state_is_refused() {
    let mut model = model(DType::F32);
    let mut optimizer = Optimizer::new(adam(0.1)).init(&model).unwrap();
    train(&mut optimizer, &mut model, 0..2);
    let grads = gradient(&model, 2);
    let mut without = optimizer.filter(!path("state.0.nu.x"));
    let error = refused(&mut without, &mut model, |optimizer, model| optimizer.update(&grads, model));
    let text = "the state has no leaf for a parameter that has a gradient at `x`; `init` with the model that is \
                trained, and update with the whole state";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::FilteredOut, text.to_owned()));
}

#[test]
fn the_state_of_another_optimizer_is_not_loaded() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let model = model(DType::F32);
    Optimizer::new(sgd(0.1).momentum(0.9)).init(&model).unwrap().save(file.path()).unwrap();
    let mut optimizer = Optimizer::new(adam(0.1)).init(&model).unwrap();
    let before = optimizer.flatten();
    let error = optimizer.load(file.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.to_string().contains("found `Chain(Trace, ScaleByLearningRate)`"), "{error}");
    assert!(optimizer.load_with(file.path(), &Load::strict().allow_missing(OptState)).is_err());
    assert_eq!(optimizer.flatten(), before);
}

/// The leaves of these have the same names and shapes.
#[test]
fn a_state_of_the_same_leaves_is_that_of_its_transformation() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let model = model(DType::F32);
    let saved = Optimizer::new(adam(0.1)).init(&model).unwrap();
    saved.save(file.path()).unwrap();
    let mut belief = Optimizer::new(adabelief(0.1).weight_decay(0.)).init(&model).unwrap();
    let before = belief.flatten();
    let error = belief.load(file.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    let expected = "holds the state of something else: expected at `*` that of `Chain(ScaleByBelief, AddDecayedWeights, \
                    ScaleByLearningRate)`, found `Chain(ScaleByAdam, ScaleByLearningRate)`; load it into what it was \
                    saved from";
    assert!(text.contains(expected), "{text}");
    assert!(belief.load_with(file.path(), &Load::strict().allow_missing(OptState).allow_unused()).is_err());
    assert_eq!(belief.flatten(), before);

    // With other numbers it is the same, type-erased or not, and as a part of another tree.
    Optimizer::new(adam(0.2).b1(0.5).boxed()).init(&model).unwrap().load(file.path()).unwrap();
    let mut parts = (model.clone(), Some(Box::new(saved)));
    parts.save(file.path()).unwrap();
    parts.load(file.path()).unwrap();
    let mut other = (model.clone(), Some(Box::new(belief)));
    assert!(
        other
            .load(file.path())
            .unwrap_err()
            .to_string()
            .contains("expected at `1` that of `Chain(ScaleByBelief")
    );

    // By the leaves alone, where they mean the same.
    let saved = Optimizer::new(adam(0.1)).init(&model).unwrap();
    saved.save(file.path()).unwrap();
    let adamw = Optimizer::new(adamw(0.1)).init(&model).unwrap();
    let mut leaves = adamw.flatten();
    leaves.load(file.path()).unwrap();
    assert_eq!(adamw.unflatten(&leaves).unwrap().flatten(), saved.flatten());
}

/// Of any two optimizers, if one loads the state of the other they are the same but for their numbers.
#[test]
fn no_optimizer_loads_the_state_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(DType::F32);
    let optimizers: Vec<_> = descents()
        .into_iter()
        .map(|(name, transformation, _)| (name, Optimizer::new(transformation).init(&model).unwrap()))
        .collect();
    let structure =
        |optimizer: &Optimizer<Boxed>| optimizer.transformation().structure(optimizer.state().unwrap());
    for (name, optimizer) in &optimizers {
        let file = folder.path().join(name.replace(' ', "_"));
        optimizer.save(&file).unwrap();
        for (other_name, other) in &optimizers {
            let loads = other.clone().load(&file).is_ok();
            assert!(!loads || structure(optimizer) == structure(other), "{other_name} loads {name}");
            assert!(loads || name != other_name, "{name} does not load its own");
        }
    }
}

#[test]
fn an_uninitialized_optimizer_is_refused() {
    let mut model = model(DType::F32);
    let grads = gradient(&model, 0);
    let mut optimizer = Optimizer::new(adam(0.1));
    let error = refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&grads, model));
    let text = "the optimizer has no state yet; call `let mut optimizer = optimizer.init(&model)?` first";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Uninitialized, text.to_owned()));
    assert_eq!(optimizer.step_count().unwrap_err().kind(), ErrorKind::Uninitialized);
    assert_eq!(optimizer.learning_rate().unwrap_err().kind(), ErrorKind::Uninitialized);

    let unfilled = Model {
        x: Leaf::param(|_, shape, dtype| Ok(Tensor::zeros(shape, dtype, device())?), 3, DType::F32),
        ..model
    };
    let error = Optimizer::new(adam(0.1)).init(&unfilled).unwrap_err();
    let text = "a leaf of kind `Parameter` has no value yet, so it cannot be trained at `x`; call `let model = \
                model.init(seed, &device)?` before the optimizer's `init`";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Uninitialized, text.to_owned()));
    assert!(Optimizer::new(adam(0.1)).wrt(path("layers.**")).init(&unfilled).is_ok());
}

#[test]
fn nothing_to_train_is_an_error() {
    let model = model(DType::F32);
    for nothing in [path("nowhere"), path("ids"), path("mean")] {
        let error = Optimizer::new(adam(0.1)).wrt(nothing).init(&model).unwrap_err();
        assert!(error.to_string().starts_with("nothing to train: `path("), "{error}");
    }
}

#[test]
fn non_finite_rates_are_refused() {
    let mut model = model(DType::F32);
    for rate in [f64::NAN, f64::NEG_INFINITY, f64::INFINITY] {
        let error = Optimizer::new(adam(rate)).init(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains("expected a finite number"), "{error}");
        assert!(Optimizer::new(sgd(rate)).init(&model).is_err());
        assert!(Optimizer::new(chain((scale(rate),))).init(&model).is_err());
        assert!(Optimizer::new(adamw(0.1).weight_decay(rate)).init(&model).is_err());
    }
    let broken = Schedule::new("broken", |count| if count < 2 { 0.1 } else { f64::NAN });
    let mut optimizer = Optimizer::new(adam(broken)).init(&model).unwrap();
    train(&mut optimizer, &mut model, 0..2);
    let grads = gradient(&model, 2);
    let error = refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&grads, model));
    let text = "`learning_rate` is `broken`, which is not finite at step 2: expected a finite number, found \
                NaN; correct the schedule; steps are counted from 0";
    assert_eq!(error.to_string(), text);
    assert!(optimizer.learning_rate().is_err());
}

#[test]
fn out_of_range_options_are_refused() {
    let model = model(DType::F32);
    let nan = f64::NAN;
    let wrong = [
        adam(0.1).b1(1.).boxed(),
        adam(0.1).mu_dtype(DType::I64).boxed(),
        adabelief(0.1).eps(-1.).boxed(),
        adabelief(0.1).eps_root(nan).boxed(),
        adabelief(0.1).weight_decay(nan).boxed(),
        adadelta(0.1).rho(1.).boxed(),
        adadelta(0.1).eps(-1.).boxed(),
        adafactor(0.1).decay_rate(nan).boxed(),
        adafactor(0.1).eps(-1.).boxed(),
        adafactor(0.1).clipping_threshold(0.).boxed(),
        adafactor(0.1).momentum(-0.1).boxed(),
        adafactor(0.1).dtype_momentum(Some(DType::U8)).boxed(),
        adafactor(0.1).weight_decay_rate(nan).boxed(),
        adagrad(0.1).initial_accumulator_value(-1.).boxed(),
        adagrad(0.1).eps(nan).boxed(),
        adamax(0.1).b1(-0.1).boxed(),
        adamax(0.1).b2(nan).boxed(),
        adamaxw(0.1).eps(-1.).boxed(),
        adan(0.1).b1(1.).boxed(),
        adan(0.1).b2(1.).boxed(),
        adan(0.1).b3(1.).boxed(),
        adan(0.1).eps(nan).boxed(),
        adan(0.1).eps_root(-1.).boxed(),
        amsgrad(0.1).b2(1.).boxed(),
        amsgrad(0.1).eps(-1.).boxed(),
        amsgrad(0.1).mu_dtype(DType::U32).boxed(),
        fromage(0.1).min_norm(-1.).boxed(),
        fromage(nan).boxed(),
        lamb(0.1).b1(2.).boxed(),
        lars(0.1).trust_coefficient(nan).boxed(),
        lars(0.1).eps(-1.).boxed(),
        lars(0.1).momentum(nan).boxed(),
        lion(0.1).b1(1.).boxed(),
        lion(0.1).b2(-0.1).boxed(),
        lion(0.1).smooth_beta(nan).boxed(),
        lion(0.1).mu_dtype(DType::I64).boxed(),
        noisy_sgd(0.1, 0).eta(-1.).boxed(),
        noisy_sgd(0.1, 0).gamma(nan).boxed(),
        novograd(0.1).b1(1.).boxed(),
        novograd(0.1).b2(nan).boxed(),
        novograd(0.1).weight_decay(nan).boxed(),
        optimistic_adam(nan).boxed(),
        optimistic_gradient_descent(0.1).beta(nan).boxed(),
        polyak_sgd().f_min(nan).boxed(),
        polyak_sgd().max_learning_rate(f64::INFINITY).boxed(),
        polyak_sgd().eps(-1.).boxed(),
        radam(0.1).b1(1.).boxed(),
        radam(0.1).threshold(3.9).boxed(),
        rmsprop(0.1).decay(1.).boxed(),
        rmsprop(0.1).initial_scale(-1.).boxed(),
        rmsprop(0.1).eps(nan).boxed(),
        rprop(-0.1).boxed(),
        rprop(0.1).eta_minus(nan).boxed(),
        rprop(0.1).eta_plus(-1.).boxed(),
        rprop(0.1).min_step_size(-1.).boxed(),
        rprop(0.1).min_step_size(2.).max_step_size(1.).boxed(),
        sgd(0.1).momentum(0.9).accumulator_dtype(DType::I64).boxed(),
        sign_sgd(nan).boxed(),
        signum(0.1).beta(1.).boxed(),
        sm3(0.1).momentum(1.).boxed(),
        scale_by_sm3().b2(1.1).boxed(),
        scale_by_sm3().eps(nan).boxed(),
        yogi(0.1).b1(1.).boxed(),
        yogi(0.1).initial_accumulator_value(nan).boxed(),
        adaptive_grad_clip(-1.).boxed(),
        adaptive_grad_clip(0.1).eps(nan).boxed(),
        apply_every(0).boxed(),
        clip(-1.).boxed(),
        clip_by_block_rms(nan).boxed(),
        normalize_by_update_norm().scale_factor(nan).boxed(),
        normalize_by_update_norm().eps(-1.).boxed(),
        scale_by_distance_over_gradients().reps_rel(-1.).boxed(),
        scale_by_distance_over_gradients().global_scale(nan).boxed(),
        scale_by_distance_over_gradients().param_dtype(DType::I64).boxed(),
        scale_by_factored_rms().decay_rate_fn(nan).boxed(),
        scale_by_param_block_norm().min_scale(-1.).boxed(),
        scale_by_param_block_rms().min_scale(nan).boxed(),
        adam(0.1).b2(-0.1).boxed(),
        adam(0.1).eps(f64::NAN).boxed(),
        adam(0.1).eps_root(-1.).boxed(),
        sgd(0.1).momentum(f64::NAN).boxed(),
        clip_by_global_norm(-1.).boxed(),
        sgd(cosine_decay(0.1, 0)).boxed(),
    ];
    for transformation in wrong {
        assert_eq!(Optimizer::new(transformation).init(&model).unwrap_err().kind(), ErrorKind::Argument);
    }
    let error = Optimizer::new(adamw(warmup_cosine(1e-3, 100, 100))).init(&model).unwrap_err();
    let text = "`decay_steps` of `warmup_cosine(0.001, 100, 100)` is too small: expected more than 100, found 100; \
                `decay_steps` counts every step up to the end, those of the warm-up too";
    assert_eq!(error.to_string(), text);
}

/// Without one nothing is written.
#[test]
fn polyak_needs_the_value_of_the_loss() {
    let mut model = model(DType::F32);
    let mut optimizer = Optimizer::new(polyak_sgd()).init(&model).unwrap();
    let grads = gradient(&model, 0);
    let error = refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&grads, model));
    let text = "`scale_by_polyak` needs the value of the loss: expected `Extra::value(loss)`; step with \
                `optimizer.update_with(&grads, &mut model, &Extra::value(loss))` or `minimize`";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Argument, text.to_owned()));
}

/// A file is followed through `rename`: by prefix, and from one key of a map to another.
#[test]
fn the_state_of_another_optimizer_is_refused_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pair.safetensors");
    let model = model(DType::F32);
    let right = Optimizer::new(adam(0.1)).init(&model).unwrap();
    let wrong = Optimizer::new(adabelief(0.1)).init(&model).unwrap();
    (model.clone(), right.clone()).save(&file).unwrap();
    let second = |name: &str| name.strip_prefix("1.").unwrap_or(name).to_owned();
    let options = || Load::strict().allow_unused().rename(second);
    right.clone().load_with(&file, &options()).unwrap();
    let error = wrong.clone().load_with(&file, &options()).unwrap_err().to_string();
    assert!(error.contains("holds the state of something else"), "{error}");
    // The model of the pair is none of the optimizer's parts.
    let first = |name: &str| name.strip_prefix("0.").unwrap_or(name).to_owned();
    model.clone().load_with(&file, &Load::strict().allow_unused().rename(first)).unwrap();

    let keyed = |key: &str| BTreeMap::from([(key.to_owned(), right.clone())]);
    keyed("a").save(&file).unwrap();
    let options = Load::strict().rename(|name| name.replacen("a.", "b.", 1));
    keyed("b").load_with(&file, &options).unwrap();
    let mut wrong = BTreeMap::from([("b".to_owned(), wrong)]);
    let error = wrong.load_with(&file, &options).unwrap_err().to_string();
    assert!(error.contains("at `b` that of"), "{error}");
}

/// A panic of a user's closure in the middle of a step, before and after the state was written.
#[test]
fn a_panic_leaves_a_state() {
    #[derive(Clone, Debug)]
    struct Panics;

    impl Stateless for Panics {
        fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
            Ok(updates.tensors(|_, _| panic!("of a user's closure")))
        }
    }

    let mut model = model(DType::F32);
    let mut optimizer = Optimizer::new(chain((adam(0.1), Panics))).init(&model).unwrap();
    let (before, grads) = (optimizer.clone(), gradient(&model, 0));
    let panic = catch_unwind(AssertUnwindSafe(|| optimizer.update(&grads, &mut model)));
    assert!(panic.is_err());
    assert_eq!(optimizer.step_count().unwrap(), 0);
    assert_eq!(optimizer.flatten(), before.flatten());
}
