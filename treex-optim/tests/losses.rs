//! Losses: what Optax computed, by itself in f64 and in other element types; and misuse.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor, Var};
use oracle::{assert_close, numbers, optax, tensor, values};
use serde_json::Value;
use treex_core::{ErrorKind, Result, compute};
use treex_optim::losses::{
    Ctc, Dice, Loss, Over, Ranking, Reduction, TripletMargin, binary_dice_loss, binary_dice_loss_with,
    cosine_distance, cosine_distance_with, cosine_similarity, cosine_similarity_with, ctc_loss,
    ctc_loss_with_forward_probs, dice_loss, dice_loss_with, generalized_kl_divergence,
    generalized_kl_divergence_with, hinge_loss, huber_loss, huber_loss_with, kl_divergence,
    kl_divergence_with, kl_divergence_with_log_targets, kl_divergence_with_log_targets_with, l2_loss,
    log_cosh, make_fenchel_young_loss, mse, multiclass_generalized_dice_loss,
    multiclass_generalized_dice_loss_with, multiclass_hinge_loss, multiclass_perceptron_loss,
    multiclass_sparsemax_loss, ntxent, ntxent_with, perceptron_loss, poly_loss_cross_entropy,
    poly_loss_cross_entropy_with, ranking_softmax_loss, ranking_softmax_loss_with,
    safe_softmax_cross_entropy, sigmoid_binary_cross_entropy, sigmoid_focal_loss, sigmoid_focal_loss_with,
    smooth_labels, smooth_labels_with, softmax_cross_entropy, softmax_cross_entropy_with,
    softmax_cross_entropy_with_integer_labels, softmax_cross_entropy_with_integer_labels_with,
    sparsemax_loss, squared_error, triplet_margin_loss, triplet_margin_loss_with,
};

/// Optax sums in f64 in another order than Candle; nothing else differs. Relative for numbers beyond 1.
const F64: f64 = 1e-10;

/// Each element rounds at 6e-8, sums of a few dozen of them and quotients of those at ten times that.
const F32: f64 = 2e-6;

/// A loss of some tensors; more than one value for what has several.
type Call = fn(&[Tensor]) -> Result<Vec<Tensor>>;

/// A row of the table below: the name of the case, and the call.
macro_rules! cases {
    ($(($name:expr, |$args:ident| $call:expr),)*) => {
        vec![$(($name, (|$args| Ok(vec![$call?])) as Call)),*]
    };
}

/// The rows of a mask of the fixture's script.
fn mask(rows: &[&[u8]]) -> Tensor {
    Tensor::new(rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>(), &Device::Cpu).unwrap()
}

fn mask_of_3() -> Tensor {
    mask(&[&[1, 0, 1, 1], &[1, 1, 1, 1], &[0, 0, 0, 1], &[1, 1, 1, 1], &[0, 0, 1, 1], &[1, 1, 0, 0]])
        .reshape((2, 3, 4))
        .unwrap()
}

fn whole_rows() -> Tensor {
    mask(&[&[1, 0, 1], &[1, 1, 0]])
}

fn items() -> Tensor {
    mask(&[&[1, 1, 0, 1], &[1, 1, 1, 1], &[0, 0, 0, 0]])
}

fn weights() -> Tensor {
    Tensor::new(&[[1f64, 2., 0.5, 1.], [1., 1., 1., 0.1], [2., 2., 2., 2.]], &Device::Cpu).unwrap()
}

/// `losses.json`: options, masks, ties, infinities and other edges.
fn edges() -> Vec<(&'static str, Call)> {
    let mut cases = cases![
        ("huber_loss(delta=.3)", |a| huber_loss_with(&a[0], &a[1], 0.3)),
        ("huber_loss of infinity", |a| huber_loss(&a[0], &a[1])),
        ("log_cosh far", |a| log_cosh(&a[0], &a[1])),
        ("log_cosh of infinity", |a| log_cosh(&a[0], &a[1])),
        ("cosine_similarity(epsilon=.5,axis=0,where)", |a| cosine_similarity_with(
            &a[0],
            &a[1],
            0.5,
            &Over::axis(0).mask(&mask(&[&[1, 0, 1], &[1, 1, 1]]))
        )),
        ("cosine_similarity(axis=None)", |a| cosine_similarity_with(&a[0], &a[1], 0., &Over::all())),
        ("cosine_similarity(epsilon=1e-6) of zeros", |a| cosine_similarity_with(
            &a[0],
            &a[1],
            1e-6,
            &Over::default()
        )),
        ("cosine_similarity of zeros", |a| cosine_similarity(&a[0], &a[1])),
        ("cosine_distance(axis=(0,2))", |a| cosine_distance_with(&a[0], &a[1], 0., &Over::axes([0, 2]))),
        ("sigmoid_binary_cross_entropy far", |a| sigmoid_binary_cross_entropy(&a[0], &a[1])),
        ("sigmoid_binary_cross_entropy small", |a| sigmoid_binary_cross_entropy(&a[0], &a[1])),
        ("sigmoid_binary_cross_entropy of infinity", |a| sigmoid_binary_cross_entropy(&a[0], &a[1])),
        ("sigmoid_binary_cross_entropy, integers", |a| sigmoid_binary_cross_entropy(&a[0], &a[1])),
        ("sigmoid_focal_loss far", |a| sigmoid_focal_loss(&a[0], &a[1])),
        ("sigmoid_focal_loss soft", |a| sigmoid_focal_loss_with(&a[0], &a[1], Some(0.4), 0.5)),
        ("sigmoid_focal_loss(gamma=0)", |a| sigmoid_focal_loss_with(&a[0], &a[1], None, 0.)),
        ("hinge_loss at the bend", |a| hinge_loss(&a[0], &a[1])),
        ("perceptron_loss at the bend", |a| perceptron_loss(&a[0], &a[1])),
        ("sparsemax_loss at the bends", |a| sparsemax_loss(&a[0], &a[1])),
        ("softmax_cross_entropy(axis=1)", |a| softmax_cross_entropy_with(&a[0], &a[1], &Over::axis(1))),
        ("softmax_cross_entropy(axis=(2,0))", |a| softmax_cross_entropy_with(
            &a[0],
            &a[1],
            &Over::axes([2, 0])
        )),
        ("softmax_cross_entropy(axis=None)", |a| softmax_cross_entropy_with(&a[0], &a[1], &Over::all())),
        ("softmax_cross_entropy(where)", |a| softmax_cross_entropy_with(
            &a[0],
            &a[1],
            &Over::default().mask(&mask_of_3())
        )),
        ("softmax_cross_entropy(axis=0,where)", |a| softmax_cross_entropy_with(
            &a[0],
            &a[1],
            &Over::axis(0).mask(&mask_of_3().narrow(2, 0, 1)?)
        )),
        ("softmax_cross_entropy(where rows)", |a| softmax_cross_entropy_with(
            &a[0],
            &a[1],
            &Over::axis(-1).mask(&whole_rows())
        )),
        ("softmax_cross_entropy with minus infinity", |a| softmax_cross_entropy(&a[0], &a[1])),
        ("softmax_cross_entropy(where) of infinity", |a| softmax_cross_entropy_with(
            &a[0],
            &a[1],
            &Over::default().mask(&mask(&[&[1, 0, 1], &[1, 0, 1]]))
        )),
        ("integer labels far", |a| softmax_cross_entropy_with_integer_labels(&a[0], &a[1])),
        ("integer labels(axis=1)", |a| softmax_cross_entropy_with_integer_labels_with(
            &a[0],
            &a[1],
            &Over::axis(1)
        )),
        ("integer labels(axis=(2,1))", |a| softmax_cross_entropy_with_integer_labels_with(
            &a[0],
            &a[1],
            &Over::axes([2, 1])
        )),
        ("integer labels(where)", |a| softmax_cross_entropy_with_integer_labels_with(
            &a[0],
            &a[1],
            &Over::default().mask(&mask_of_3())
        )),
        ("integer labels(where rows)", |a| softmax_cross_entropy_with_integer_labels_with(
            &a[0],
            &a[1],
            &Over::default().mask(&whole_rows())
        )),
        ("safe_softmax_cross_entropy with minus infinity", |a| safe_softmax_cross_entropy(&a[0], &a[1])),
        ("safe_softmax_cross_entropy, impossible", |a| safe_softmax_cross_entropy(&a[0], &a[1])),
        ("safe_softmax_cross_entropy by labels", |a| safe_softmax_cross_entropy(&a[0], &a[1])),
        ("poly_loss_cross_entropy(epsilon=-1,axis=0)", |a| poly_loss_cross_entropy_with(
            &a[0],
            &a[1],
            -1.,
            &Over::axis(0)
        )),
        ("poly_loss_cross_entropy(where)", |a| poly_loss_cross_entropy_with(
            &a[0],
            &a[1],
            2.,
            &Over::default().mask(&mask_of_3())
        )),
        ("smooth_labels(axis=0)", |a| smooth_labels_with(&a[0], 0.2, &Over::axis(0))),
        ("smooth_labels(axis=(0,2))", |a| smooth_labels_with(&a[0], 0.2, &Over::axes([0, 2]))),
        ("smooth_labels(where)", |a| smooth_labels_with(&a[0], 0.2, &Over::default().mask(&mask_of_3()))),
        ("kl_divergence(axis=1)", |a| kl_divergence_with(&a[0], &a[1], &Over::axis(1))),
        ("kl_divergence(where)", |a| kl_divergence_with(&a[0], &a[1], &Over::default().mask(&mask_of_3()))),
        ("kl_divergence by targets", |a| kl_divergence(&a[0], &a[1])),
        ("kl_divergence_with_log_targets(axis=(0,1))", |a| kl_divergence_with_log_targets_with(
            &a[0],
            &a[1],
            &Over::axes([0, 1])
        )),
        ("kl_divergence_with_log_targets(where)", |a| kl_divergence_with_log_targets_with(
            &a[0],
            &a[1],
            &Over::default().mask(&mask_of_3())
        )),
        ("generalized_kl_divergence(axis=None,where)", |a| generalized_kl_divergence_with(
            &a[0],
            &a[1],
            &Over::all().mask(&mask_of_3())
        )),
        ("generalized_kl_divergence(axis=0)", |a| generalized_kl_divergence_with(
            &a[0],
            &a[1],
            &Over::axis(0)
        )),
        ("multiclass_hinge_loss of ties", |a| multiclass_hinge_loss(&a[0], &a[1])),
        ("multiclass_hinge_loss of three axes", |a| multiclass_hinge_loss(&a[0], &a[1])),
        ("multiclass_perceptron_loss of ties", |a| multiclass_perceptron_loss(&a[0], &a[1])),
        ("multiclass_sparsemax_loss", |a| multiclass_sparsemax_loss(&a[0], &a[1])),
        ("fenchel_young(logsumexp)", |a| make_fenchel_young_loss(|scores| Ok(scores.log_sum_exp(2)?))(
            &a[0], &a[1]
        )),
        ("ctc_loss", |a| ctc_loss(&a[0], &a[1], &a[2], &a[3])),
        ("ctc_loss, too few frames", |a| ctc_loss(&a[0], &a[1], &a[2], &a[3])),
        ("ctc_loss of nothing", |a| ctc_loss(&a[0], &a[1], &a[2], &a[3])),
        ("ctc_loss, long", |a| ctc_loss(&a[0], &a[1], &a[2], &a[3])),
        ("ranking_softmax_loss(weights)", |a| ranking_softmax_loss_with(
            &a[0],
            &a[1],
            &Ranking::default().weights(&weights())
        )),
        ("ranking_softmax_loss(where,weights)", |a| ranking_softmax_loss_with(
            &a[0],
            &a[1],
            &Ranking::default().weights(&weights()).mask(&items())
        )),
        ("ranking_softmax_loss(where,sum)", |a| ranking_softmax_loss_with(
            &a[0],
            &a[1],
            &Ranking::default().mask(&items()).reduction(Reduction::Sum)
        )),
        ("ranking_softmax_loss(where,none)", |a| ranking_softmax_loss_with(
            &a[0],
            &a[1],
            &Ranking::default().mask(&items()).reduction(Reduction::None)
        )),
        ("ranking_softmax_loss(where nothing)", |a| ranking_softmax_loss_with(
            &a[0],
            &a[1],
            &Ranking::default().mask(&items().zeros_like()?)
        )),
        ("ranking_softmax_loss, integers", |a| ranking_softmax_loss(&a[0], &a[1])),
        ("ntxent(.5)", |a| ntxent_with(&a[0], &a[1], 0.5)),
        ("ntxent(.02)", |a| ntxent_with(&a[0], &a[1], 0.02)),
        ("ntxent of zeros", |a| ntxent(&a[0], &a[1])),
        ("triplet_margin_loss(axis=0,degree=4,margin=.5,eps=.1)", |a| triplet_margin_loss_with(
            &a[0],
            &a[1],
            &a[2],
            TripletMargin::default().axis(0).norm_degree(4.).margin(0.5).eps(0.1)
        )),
        ("triplet_margin_loss of equals", |a| triplet_margin_loss(&a[0], &a[1], &a[2])),
        ("dice_loss of images", |a| dice_loss(&a[0], &a[1])),
        ("dice_loss(weights,smooth,alpha,beta,sum)", |a| {
            let weights = Tensor::new(&[0.5f64, 1., 2., 0.1], &Device::Cpu)?;
            let options = Dice::default().class_weights(&weights).smooth(0.1).alpha(0.3).beta(0.7);
            dice_loss_with(&a[0], &a[1], &options.reduction(Reduction::Sum))
        }),
        ("dice_loss(none,ignore_background)", |a| dice_loss_with(
            &a[0],
            &a[1],
            &Dice::default().ignore_background(true).reduction(Reduction::None)
        )),
        ("dice_loss(axis=1)", |a| dice_loss_with(&a[0], &a[1], &Dice::default().axes([1]))),
        ("dice_loss(axis=(0,1,2))", |a| dice_loss_with(&a[0], &a[1], &Dice::default().axes([0, 1, 2]))),
        ("dice_loss(probabilities)", |a| {
            let exp = a[0].exp()?;
            let p = exp.broadcast_div(&exp.sum_keepdim(3)?)?;
            dice_loss_with(&p, &a[1], &Dice::default().apply_softmax(false))
        }),
        ("dice_loss of one class", |a| dice_loss(&a[0], &a[1])),
        ("multiclass_generalized_dice_loss", |a| multiclass_generalized_dice_loss(&a[0], &a[1])),
        ("multiclass_generalized_dice_loss(smooth=.1,ignore_background)", |a| {
            multiclass_generalized_dice_loss_with(
                &a[0],
                &a[1],
                &Dice::default().smooth(0.1).ignore_background(true),
            )
        }),
        ("binary_dice_loss", |a| binary_dice_loss(&a[0], &a[1])),
        ("binary_dice_loss(smooth=.1) of one class", |a| binary_dice_loss_with(
            &a[0],
            &a[1],
            &Dice::default().smooth(0.1)
        )),
    ];
    cases.push(("ctc_loss_with_forward_probs", |a| ctc_forward(a, Ctc::default())));
    cases.push(("ctc_loss(blank_id=3,log_epsilon=-40)", |a| {
        ctc_forward(a, Ctc::default().blank_id(3).log_epsilon(-40.))
    }));
    cases
}

fn ctc_forward(args: &[Tensor], options: Ctc) -> Result<Vec<Tensor>> {
    let found = ctc_loss_with_forward_probs(&args[0], &args[1], &args[2], &args[3], options)?;
    Ok(vec![found.loss, found.logalpha_blank, found.logalpha_nonblank])
}

/// `optax.json`: one plain case of each, of the fixture's `x`.
fn plain() -> Vec<(&'static str, Call)> {
    cases![
        ("sigmoid_binary_cross_entropy", |a| sigmoid_binary_cross_entropy(&a[0], &other("binary"))),
        ("softmax_cross_entropy", |a| softmax_cross_entropy(&a[0], &one_hot(a))),
        ("softmax_cross_entropy_with_integer_labels", |a| softmax_cross_entropy_with_integer_labels(
            &a[0],
            &int_labels()
        )),
        ("safe_softmax_cross_entropy", |a| safe_softmax_cross_entropy(&a[0], &one_hot(a))),
        ("poly_loss_cross_entropy(eps=2)", |a| poly_loss_cross_entropy(&a[0], &one_hot(a))),
        ("hinge_loss", |a| hinge_loss(&a[0], &other("pm"))),
        ("perceptron_loss", |a| perceptron_loss(&a[0], &other("pm"))),
        ("sparsemax_loss", |a| sparsemax_loss(&a[0], &other("binary"))),
        ("multiclass_hinge_loss", |a| multiclass_hinge_loss(&a[0], &int_labels())),
        ("multiclass_perceptron_loss", |a| multiclass_perceptron_loss(&a[0], &int_labels())),
        ("multiclass_sparsemax_loss", |a| multiclass_sparsemax_loss(&a[0], &int_labels())),
        ("kl_divergence(log_softmax x, tg)", |a| kl_divergence(&log_softmax(&a[0]), &other("targets"))),
        ("generalized_kl_divergence", |a| generalized_kl_divergence(&log_softmax(&a[0]), &other("targets"))),
        ("kl_divergence_with_log_targets", |a| {
            let targets = Tensor::new(&[[0.2f64, 0.5, 0.3], [0.1, 0.3, 0.6]], &Device::Cpu)?;
            kl_divergence_with_log_targets(&log_softmax(&a[0]), &targets.log()?)
        }),
        ("sigmoid_focal_loss", |a| sigmoid_focal_loss(&a[0], &other("binary"))),
        ("sigmoid_focal_loss(alpha=.25,gamma=1.5)", |a| sigmoid_focal_loss_with(
            &a[0],
            &other("binary"),
            Some(0.25),
            1.5
        )),
        ("squared_error", |a| squared_error(&a[0], &other("targets"))),
        ("l2_loss", |a| l2_loss(&a[0], &other("targets"))),
        ("huber_loss", |a| huber_loss(&a[0], &other("targets"))),
        ("log_cosh", |a| log_cosh(&a[0], &other("targets"))),
        ("cosine_similarity", |a| cosine_similarity(&a[0], &other("targets"))),
        ("cosine_distance", |a| cosine_distance(&a[0], &other("targets"))),
        ("ranking_softmax_loss", |a| ranking_softmax_loss(&a[0], &other("binary"))),
        ("dice_loss", |a| dice_loss(&a[0], &other("binary"))),
        ("smooth_labels(.1)", |a| Ok::<_, treex_core::Error>(
            (smooth_labels(&one_hot(a), 0.1)? + a[0].sub(&a[0])?)?
        )),
        ("ntxent(labels 0,0)", |a| {
            let (first, second) = (a[0].get(0)?, a[0].get(1)?);
            let more = [first.clone(), second.clone(), first.affine(0.5, 0.1)?, second.affine(1., -0.3)?];
            ntxent(&Tensor::stack(&more, 0)?, &Tensor::new(&[0u32, 1, 0, 1], &Device::Cpu)?)
        }),
        ("triplet_margin_loss", |a| triplet_margin_loss(&a[0], &other("targets"), &other("binary"))),
    ]
}

/// What else stands in the fixture.
fn other(name: &str) -> Tensor {
    tensor(&optax()["losses"][name])
}

fn int_labels() -> Tensor {
    other("int_labels").to_dtype(DType::U32).unwrap()
}

fn one_hot(args: &[Tensor]) -> Tensor {
    Tensor::new(&[[0f64, 0., 1.], [0., 1., 0.]], &Device::Cpu).unwrap().to_dtype(args[0].dtype()).unwrap()
}

fn log_softmax(x: &Tensor) -> Tensor {
    x.broadcast_sub(&x.log_sum_exp(1).unwrap().unsqueeze(1).unwrap()).unwrap()
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/losses.json")).unwrap()
}

/// The sum of the first value's elements times 1, 2, 3 and so on, so that a gradient that mixes up the batch
/// shows.
fn weighted(value: &Tensor) -> Tensor {
    let weights = Tensor::arange(1f64, 1. + value.elem_count() as f64, &Device::Cpu).unwrap();
    (value.flatten_all().unwrap() * weights.to_dtype(value.dtype()).unwrap()).unwrap().sum_all().unwrap()
}

/// The arguments of a case of `losses.json`, floats in `dtype` and as variables.
fn arguments(case: &Value, dtype: DType) -> Vec<Tensor> {
    let argument = |argument: &Value| {
        let dims: Vec<usize> = numbers(&argument["shape"]).iter().map(|&n| n as usize).collect();
        let of = |dtype, values| {
            Tensor::from_vec(numbers(values), dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
        };
        match argument.get("float") {
            Some(values) => Var::from_tensor(&of(dtype, values)).unwrap().as_tensor().clone(),
            None => of(DType::I64, &argument["int"]),
        }
    };
    case["args"].as_array().unwrap().iter().map(argument).collect()
}

/// Both divided by what is expected, where that is more than 1.
fn assert_near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let scale = |values: &[f64]| -> Vec<f64> {
        let of = |expected: f64| if expected.is_finite() { expected.abs().max(1.) } else { 1. };
        values.iter().zip(expected).map(|(value, &expected)| value / of(expected)).collect()
    };
    assert_eq!(found.len(), expected.len(), "{what}");
    assert_close(&scale(found), &scale(expected), tolerance, what);
}

fn check_edges(dtype: DType, tolerance: f64, skip: &[&str]) {
    let fixture = fixture();
    for (name, call) in edges().into_iter().filter(|(name, _)| !skip.contains(name)) {
        let case = &fixture["cases"][name];
        let args = arguments(case, dtype);
        let found = call(&args).unwrap();
        let expected = case["value"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.dtype(), dtype, "{name}");
            assert_near(&values(found), &numbers(expected), tolerance, name);
        }
        let grads = weighted(&found[0]).backward().unwrap();
        for (by, expected) in numbers(&case["by"]).iter().zip(case["grad"].as_array().unwrap()) {
            let what = format!("{name}, gradient by {by}");
            let found = grads.get(&args[*by as usize]).expect(&what);
            assert_near(&values(found), &numbers(expected), tolerance, &what);
        }
    }
}

#[test]
fn edges_in_f64() {
    check_edges(DType::F64, F64, &[]);
}

/// Not what has numbers beyond f32, or stands on the epsilon of its type.
#[test]
fn edges_in_f32() {
    check_edges(DType::F32, F32, &["huber_loss of infinity", "ntxent of zeros"]);
}

/// The way of devices without a kernel.
#[test]
fn edges_without_kernels() {
    compute::with_plain(|| check_edges(DType::F64, F64, &[]));
}

#[test]
fn plain_cases() {
    let fixture = optax();
    for (name, call) in plain() {
        let case = &fixture["losses"]["values"][name];
        let x = Var::from_tensor(&tensor(&fixture["losses"]["x"])).unwrap();
        let value = call(&[x.as_tensor().clone()]).unwrap().remove(0);
        assert_eq!(values(&value).len(), numbers(&case["value"]).len(), "{name}");
        assert_close(&values(&value), &numbers(&case["value"]), F64, name);
        let grads = value.sum_all().unwrap().backward().unwrap();
        assert_close(&values(grads.get(&x).expect(name)), &numbers(&case["grad_of_sum"]), F64, name);
    }
}

#[test]
fn no_case_of_the_fixtures_is_left_out() {
    let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let ours = |cases: Vec<(&str, Call)>| cases.iter().map(|case| case.0.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ours(edges()), names(&fixture()["cases"]));
    assert_eq!(ours(plain()), names(&optax()["losses"]["values"]));
}

/// Of numbers in half precision the losses are those of the same numbers in f32, and the gradients those of
/// f32 in half precision.
#[test]
fn half_precision_is_computed_in_f32() {
    let fixture = fixture();
    // Of these the rounded arguments are no distributions any more, or beyond the type.
    let skipped = ["dice_loss(probabilities)", "huber_loss of infinity"];
    for (name, call) in edges().into_iter().filter(|(name, _)| !skipped.contains(name)) {
        let half = arguments(&fixture["cases"][name], DType::BF16);
        let float = |arg: &Tensor| {
            if arg.dtype() == DType::BF16 { arg.to_dtype(DType::F32) } else { Ok(arg.clone()) }
        };
        let in_f32: Vec<_> = half.iter().map(|arg| float(arg).unwrap()).collect();
        let (found, expected) = (call(&half).unwrap().remove(0), call(&in_f32).unwrap().remove(0));
        if name.starts_with("smooth_labels") {
            assert_eq!(found.dtype(), DType::BF16);
            continue;
        }
        assert_eq!(found.dtype(), DType::F32, "{name}");
        assert_close(&values(&found), &values(&expected), 0., name);
        let grads = weighted(&found).backward().unwrap();
        assert_eq!(grads.get(&half[0]).expect(name).dtype(), DType::BF16, "{name}");
    }
}

/// `mse` is not in Optax, which leaves the mean to its user.
#[test]
fn mse_is_the_mean_of_the_squared_error() {
    let (x, targets) = (other("x"), other("targets"));
    let errors = numbers(&optax()["losses"]["values"]["squared_error"]["value"]);
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert_close(&values(&mse(&x, &targets).unwrap()), &[mean], F64, "mse");
}

/// In Optax, exponentials of the pairs with itself overflow here, and the gradient is NaN.
#[test]
fn ntxent_of_a_small_temperature_has_a_gradient() {
    let embeddings = Var::new(&[[1f32, 2.], [2., -1.], [-2., 0.5], [0.1, 3.]], &Device::Cpu).unwrap();
    let labels = Tensor::new(&[0u32, 1, 0, 1], &Device::Cpu).unwrap();
    let grads = ntxent_with(&embeddings, &labels, 1e-3).unwrap().backward().unwrap();
    assert!(values(grads.get(&embeddings).unwrap()).iter().all(|grad| grad.is_finite()));
}

/// Graphs are walked recursively, so a loss over many frames must not be a deep one.
#[test]
fn ctc_of_a_long_sequence() {
    let (frames, classes) = (20_000, 3);
    let logits = Var::zeros((1, frames, classes), DType::F32, &Device::Cpu).unwrap();
    let zeros = |n| Tensor::zeros((1, n), DType::U8, &Device::Cpu).unwrap();
    let labels = Tensor::new(&[[1u32, 2, 2]], &Device::Cpu).unwrap();
    let loss = ctc_loss(&logits, &zeros(frames), &labels, &zeros(3)).unwrap();
    let grads = loss.sum_all().unwrap().backward().unwrap();
    assert!(values(&loss)[0].is_finite());
    assert!(values(grads.get(&logits).unwrap()).iter().all(|grad| grad.is_finite()));
}

#[test]
fn a_loss_is_a_function_with_a_reduction_and_a_weight() {
    use std::collections::{BTreeMap, HashMap};

    let preds = Tensor::new(&[[1f64, 2.], [3., 4.]], &Device::Cpu).unwrap();
    let target = Tensor::new(&[[0f64, 0.], [0., 1.]], &Device::Cpu).unwrap();
    let loss = Loss::new(squared_error).weight(0.5);
    let sample_weight = Tensor::new(&[1f32, 10.], &Device::Cpu).unwrap();
    for (reduction, expected, weighted) in [
        (Reduction::None, vec![0.5, 2., 4.5, 4.5], vec![0.5, 2., 45., 45.]),
        (Reduction::Sum, vec![11.5], vec![92.5]),
        (Reduction::Mean, vec![2.875], vec![23.125]),
    ] {
        let loss = loss.clone().reduction(reduction);
        assert_eq!(values(&loss.call(&preds, &target).unwrap()), expected);
        assert_eq!(values(&loss.call_weighted(&preds, &target, &sample_weight).unwrap()), weighted);
    }

    let heads = |tensor: &Tensor| HashMap::from([("heads".to_owned(), vec![tensor.clone(), tensor.clone()])]);
    let on_head = loss.clone().on("heads.1");
    assert_eq!(values(&on_head.call(&heads(&preds), &heads(&target)).unwrap()), [2.875]);
    let error = on_head.call(&heads(&preds), &BTreeMap::from([("tail", target.clone())])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the targets of `Loss::new(squared_error).weight(0.5).on(\"heads.1\")` have no tensor at `heads.1`; `on` says \
         where it stands: keys and indices with points between them"
    );
    let short = Tensor::new(&[1f32], &Device::Cpu).unwrap();
    assert!(loss.call_weighted(&preds, &target, &short).is_err());
}

#[test]
fn logits_of_any_size_are_safe() {
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        let large = Tensor::new(&[[1e4f32, -1e4], [0., 6e4]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let large = Var::from_tensor(&large).unwrap();
        let label = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
        let loss = softmax_cross_entropy_with_integer_labels(&large, &label).unwrap();
        assert_eq!(loss.to_vec1::<f32>().unwrap(), [0., 0.]);
        let grads = loss.sum_all().unwrap().backward().unwrap();
        let grad = grads.get(&large).unwrap();
        assert_eq!(grad.dtype(), dtype);
        assert_eq!(grad.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap(), [[0., 0.], [0., 0.]]);
    }
}

/// 4,096 ones in bf16 sum to 256 there.
#[test]
fn half_precision_is_summed_in_f32() {
    let ones = Tensor::ones(4096, DType::BF16, &Device::Cpu).unwrap();
    let loss = mse(&ones, &ones.zeros_like().unwrap()).unwrap();
    assert_eq!((loss.dtype(), loss.to_scalar::<f32>().unwrap()), (DType::F32, 1.));
}

#[test]
fn an_empty_batch_has_empty_losses() {
    type Two = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let none = zeros(&[0, 3], DType::F32);
    let by_element: [Two; 9] = [
        squared_error,
        l2_loss,
        huber_loss,
        log_cosh,
        sigmoid_binary_cross_entropy,
        sigmoid_focal_loss,
        hinge_loss,
        perceptron_loss,
        sparsemax_loss,
    ];
    for loss in by_element {
        assert_eq!(loss(&none, &none).unwrap().dims(), [0, 3]);
    }
    let by_row: [Two; 10] = [
        softmax_cross_entropy,
        safe_softmax_cross_entropy,
        poly_loss_cross_entropy,
        kl_divergence,
        kl_divergence_with_log_targets,
        generalized_kl_divergence,
        cosine_similarity,
        cosine_distance,
        dice_loss,
        |x, y| triplet_margin_loss(x, y, y),
    ];
    for loss in by_row {
        assert_eq!(loss(&none, &none).unwrap().dims(), [0]);
    }
    let by_label: [Two; 4] = [
        softmax_cross_entropy_with_integer_labels,
        multiclass_hinge_loss,
        multiclass_perceptron_loss,
        multiclass_sparsemax_loss,
    ];
    for loss in by_label {
        assert_eq!(loss(&none, &zeros(&[0], DType::U32)).unwrap().dims(), [0]);
    }
    let frames = zeros(&[0, 2], DType::F32);
    assert_eq!(ctc_loss(&zeros(&[0, 2, 4], DType::F32), &frames, &frames, &frames).unwrap().dims(), [0]);
    let reduced = Ranking::default().reduction(Reduction::Sum);
    assert_eq!(values(&ranking_softmax_loss_with(&none, &none, &reduced).unwrap()), [0.]);
    assert!(ntxent(&none, &zeros(&[0], DType::U32)).is_err());

    // Scalars are vectors of one element where all axes are summed over, and of none where the last is.
    let one = Tensor::new(0.5f32, &Device::Cpu).unwrap();
    assert_eq!(kl_divergence_with(&one, &one, &Over::all()).unwrap().dims(), [0usize; 0]);
    assert!(kl_divergence(&one, &one).is_err());
}

#[test]
fn misuse_is_told() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let cases = [
        (
            mse(&zeros(&[8, 1], DType::F32), &zeros(&[8], DType::F32)),
            "`mse` got predictions and targets of different shapes: expected targets of shape [8, 1], as the \
             predictions, found [8]; `reshape` or `unsqueeze` one of them; losses do not broadcast",
        ),
        (
            softmax_cross_entropy(&zeros(&[8, 3], DType::F32), &zeros(&[8, 3], DType::F64)),
            "`softmax_cross_entropy` got logits and labels of different types: expected labels in `f32`, as the logits, \
             found `f64`; cast one of them with `to_dtype`",
        ),
        (
            squared_error(&zeros(&[8], DType::U32), &zeros(&[8], DType::U32)),
            "`squared_error` got predictions that are not floats: expected a float type, found `u32`; cast them with \
             `to_dtype(DType::F32)?`",
        ),
        (
            softmax_cross_entropy_with_integer_labels(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::U32),
            ),
            "`softmax_cross_entropy_with_integer_labels` got logits of shape [8, 3] and labels that do not fit: expected \
             labels of shape [8]: one class for each row, found [8, 3]; for one-hot or soft labels use \
             `softmax_cross_entropy`",
        ),
        (
            softmax_cross_entropy_with_integer_labels(&zeros(&[8, 3], DType::F32), &zeros(&[8], DType::F32)),
            "`softmax_cross_entropy_with_integer_labels` got labels that do not number classes: expected `u8`, `u32` or \
             `i64`, found `f32`; cast them with `to_dtype(DType::U32)?`",
        ),
        (
            softmax_cross_entropy(&zeros(&[], DType::F32), &zeros(&[], DType::F32)),
            "`softmax_cross_entropy` got logits without classes: expected shape [.., classes], found []",
        ),
        (
            kl_divergence_with(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
                &Over::axes([1, -1]),
            ),
            "`kl_divergence` cannot sum over the axes [1, -1]: expected different axes of shape [8, 3], found -1; \
             negative axes count from the end",
        ),
        (
            kl_divergence_with(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
                &Over::default().mask(&zeros(&[3], DType::U8)),
            ),
            "`kl_divergence` got a mask that does not fit: expected shape [8, 3], or [8] for whole rows, found [3]; \
             `unsqueeze` it; a mask broadcasts only along lengths of 1",
        ),
        (
            sigmoid_binary_cross_entropy(&zeros(&[8], DType::F32), &zeros(&[8, 1], DType::U8)),
            "`sigmoid_binary_cross_entropy` got logits and labels of different shapes: expected labels of shape [8], \
             as the logits, found [8, 1]; `reshape` or `unsqueeze` one of them; losses do not broadcast",
        ),
        (
            make_fenchel_young_loss(|scores| Ok(scores.sum_all()?))(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
            ),
            "the maximum of `fenchel_young_loss` has the wrong shape: expected [8]: one number for each row, found []; \
             reduce over the last axis, `D::Minus1`, and do not keep it",
        ),
        (
            ntxent(&zeros(&[8, 3], DType::F32), &zeros(&[7], DType::U8)),
            "`ntxent` got embeddings and labels that do not fit: expected embeddings of shape [batch, features], at \
             least one, and labels of shape [batch], found [8, 3] and [7]; `flatten` the features into one axis",
        ),
        (
            dice_loss_with(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
                &Dice::default().apply_softmax(false),
            ),
            "`dice_loss` got probabilities that do not sum to 1: expected a sum of 1 over the last axis, found 0; leave \
             `apply_softmax` on for logits",
        ),
        (
            dice_loss_with(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
                &Dice::default().class_weights(&zeros(&[2], DType::F32)),
            ),
            "`dice_loss` got class weights that do not fit: expected shape [3]: one for each class, found [2]",
        ),
    ];
    for (result, text) in cases {
        assert_eq!(result.unwrap_err().to_string(), text);
    }
}

#[test]
fn what_ctc_does_not_understand_is_told() {
    let tensor = |rows: &[[f64; 2]; 1]| Tensor::new(rows, &Device::Cpu).unwrap();
    let logits = Tensor::zeros((1, 2, 3), DType::F32, &Device::Cpu).unwrap();
    let (zeros, labels) = (tensor(&[[0., 0.]]), tensor(&[[1., 2.]]));
    let call = |frames: &Tensor, labels: &Tensor, pads: &Tensor, options| {
        ctc_loss_with_forward_probs(&logits, frames, labels, pads, options)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let cases = [
        (call(&tensor(&[[0., 0.5]]), &labels, &zeros, Ctc::default()), "a padding that is neither 0 nor 1"),
        (call(&zeros, &labels, &tensor(&[[1., 0.]]), Ctc::default()), "a padding before a label"),
        (call(&zeros, &tensor(&[[1., 3.]]), &zeros, Ctc::default()), "expected labels from 0 to 2, found 3"),
        (call(&zeros, &labels, &zeros, Ctc::default().blank_id(3)), "expected less than 3, found 3"),
        (call(&zeros.t().unwrap(), &labels, &zeros, Ctc::default()), "[[1, 2, 3], [2, 1], [1, 2], [1, 2]]"),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "{found}");
    }
}

/// Candle's `gather` takes the largest number of a type for padding.
#[test]
fn labels_that_are_no_class_are_told() {
    let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    for wrong in [3, -1, i64::MAX, i64::from(u32::MAX)] {
        let labels = Tensor::new(&[0, wrong], &Device::Cpu).unwrap();
        let error = softmax_cross_entropy_with_integer_labels(&logits, &labels).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains("expected labels from 0 to 2"), "{error}");
    }
    let labels = Tensor::new(&[0u8, 255], &Device::Cpu).unwrap();
    assert!(softmax_cross_entropy_with_integer_labels(&logits, &labels).is_err());
}
