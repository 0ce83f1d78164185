//! NaN and infinities are seen: no loss and no projection makes a healthy number of them. And large numbers keep
//! their differences.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use candle_core::{D, DType, Tensor, Var};
use treex_core::{Leaf, Parameter, Result};
use treex_optim::losses::*;
use treex_optim::projections::*;
use treex_testing::compare::{assert_close, tree_values, values};
use treex_testing::device;

/// The function, its value at a matrix `[2, 3]` that has one bad element, and the infinities whose value is right
/// as a finite number, with the reason.
type Row = (&'static str, fn(&Tensor) -> Result<Tensor>, &'static [f64], &'static str);

const INF: f64 = f64::INFINITY;
const SEEN: &[f64] = &[];

fn tensor(rows: [[f64; 3]; 2]) -> Tensor {
    Tensor::new(&rows, device()).unwrap()
}

/// Probabilities.
fn soft() -> Tensor {
    tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
}

/// Numbers of both signs.
fn numbers() -> Tensor {
    tensor([[0.2, -0.3, 0.4], [0.1, 0.5, -0.2]])
}

fn classes() -> Tensor {
    Tensor::new(&[2u32, 0], device()).unwrap()
}

fn signs() -> Tensor {
    tensor([[1., -1., 1.], [-1., 1., -1.]])
}

fn none() -> Tensor {
    Tensor::zeros((1, 2), DType::F64, device()).unwrap()
}

/// A leaf of the shape of its tensor.
fn leaf(x: &Tensor) -> Leaf<Parameter> {
    Leaf::new(x.clone()).unwrap()
}

fn ctc(logits: &Tensor) -> [Tensor; 4] {
    let labels = Tensor::new(&[[1f64, 2.]], device()).unwrap();
    [logits.unsqueeze(0).unwrap(), none(), labels, none()]
}

fn losses() -> Vec<Row> {
    let margin = "a score on the right side of the margin by infinity has no loss, as in Optax";
    let chosen = "a class that is infinitely far below the others has no part in the maximum, as in Optax";
    let absent = "a class with a label of 0 and a score of minus infinity has no loss";
    let bounded = "the loss of a score is bounded";
    vec![
        ("sigmoid_binary_cross_entropy", |x| sigmoid_binary_cross_entropy(x, &soft()), SEEN, ""),
        ("sigmoid_binary_cross_entropy", |x| sigmoid_binary_cross_entropy(&numbers(), x), SEEN, ""),
        ("sigmoid_focal_loss", |x| sigmoid_focal_loss(x, &soft()), SEEN, ""),
        ("sigmoid_focal_loss", |x| sigmoid_focal_loss(&numbers(), x), SEEN, ""),
        ("sigmoid_focal_loss_with", |x| sigmoid_focal_loss_with(x, &soft(), Some(0.3), 2.), SEEN, ""),
        ("hinge_loss", |x| hinge_loss(x, &signs()), &[INF, -INF], margin),
        ("hinge_loss", |x| hinge_loss(&numbers(), x), &[INF, -INF], margin),
        ("perceptron_loss", |x| perceptron_loss(x, &signs()), &[INF, -INF], margin),
        ("perceptron_loss", |x| perceptron_loss(&numbers(), x), &[INF, -INF], margin),
        ("sparsemax_loss", |x| sparsemax_loss(x, &soft()), &[INF, -INF], margin),
        ("sparsemax_loss", |x| sparsemax_loss(&numbers(), x), SEEN, ""),
        ("softmax_cross_entropy", |x| softmax_cross_entropy(x, &soft()), SEEN, ""),
        ("softmax_cross_entropy", |x| softmax_cross_entropy(&numbers(), x), SEEN, ""),
        ("softmax_cross_entropy_with", |x| softmax_cross_entropy_with(x, &soft(), &Over::axis(0)), SEEN, ""),
        (
            "softmax_cross_entropy_with_integer_labels",
            |x| softmax_cross_entropy_with_integer_labels(x, &classes()),
            &[-INF],
            chosen,
        ),
        (
            "softmax_cross_entropy_with_integer_labels_with",
            |x| softmax_cross_entropy_with_integer_labels_with(x, &classes(), &Over::axis(-1)),
            &[-INF],
            chosen,
        ),
        ("safe_softmax_cross_entropy", |x| safe_softmax_cross_entropy(x, &soft()), SEEN, ""),
        ("safe_softmax_cross_entropy", |x| safe_softmax_cross_entropy(&numbers(), x), SEEN, ""),
        ("poly_loss_cross_entropy", |x| poly_loss_cross_entropy(x, &soft()), SEEN, ""),
        ("poly_loss_cross_entropy", |x| poly_loss_cross_entropy(&numbers(), x), SEEN, ""),
        (
            "poly_loss_cross_entropy_with",
            |x| poly_loss_cross_entropy_with(x, &soft(), 2., &Over::axis(-1)),
            SEEN,
            "",
        ),
        ("multiclass_hinge_loss", |x| multiclass_hinge_loss(x, &classes()), &[INF, -INF], margin),
        ("multiclass_perceptron_loss", |x| multiclass_perceptron_loss(x, &classes()), &[-INF], chosen),
        ("multiclass_sparsemax_loss", |x| multiclass_sparsemax_loss(x, &classes()), &[-INF], chosen),
        (
            "make_fenchel_young_loss",
            |x| make_fenchel_young_loss(|scores| Ok(scores.log_sum_exp(D::Minus1)?))(x, &soft()),
            SEEN,
            "",
        ),
        (
            "make_fenchel_young_loss",
            |x| make_fenchel_young_loss(|scores| Ok(scores.log_sum_exp(D::Minus1)?))(&numbers(), x),
            SEEN,
            "",
        ),
        ("kl_divergence", |x| kl_divergence(x, &soft()), SEEN, ""),
        ("kl_divergence", |x| kl_divergence(&numbers(), x), SEEN, ""),
        ("kl_divergence_with", |x| kl_divergence_with(x, &soft(), &Over::axis(0)), SEEN, ""),
        ("kl_divergence_with_log_targets", |x| kl_divergence_with_log_targets(x, &numbers()), SEEN, ""),
        ("kl_divergence_with_log_targets", |x| kl_divergence_with_log_targets(&numbers(), x), SEEN, ""),
        (
            "kl_divergence_with_log_targets_with",
            |x| kl_divergence_with_log_targets_with(x, &numbers(), &Over::axis(0)),
            SEEN,
            "",
        ),
        ("generalized_kl_divergence", |x| generalized_kl_divergence(x, &soft()), SEEN, ""),
        ("generalized_kl_divergence", |x| generalized_kl_divergence(&numbers(), x), SEEN, ""),
        (
            "generalized_kl_divergence_with",
            |x| generalized_kl_divergence_with(x, &soft(), &Over::axis(0)),
            SEEN,
            "",
        ),
        (
            "ctc_loss",
            |x| {
                let [logits, frames, labels, pads] = ctc(x);
                ctc_loss(&logits, &frames, &labels, &pads)
            },
            &[-INF],
            chosen,
        ),
        (
            "ctc_loss_with_forward_probs",
            |x| {
                let [logits, frames, labels, pads] = ctc(x);
                Ok(ctc_loss_with_forward_probs(&logits, &frames, &labels, &pads, Ctc::default())?.loss)
            },
            &[-INF],
            chosen,
        ),
        ("ranking_softmax_loss", |x| ranking_softmax_loss(x, &soft()), SEEN, ""),
        ("ranking_softmax_loss", |x| ranking_softmax_loss(&numbers(), x), SEEN, ""),
        (
            "ranking_softmax_loss_with",
            |x| ranking_softmax_loss_with(x, &soft(), &Ranking::default()),
            SEEN,
            "",
        ),
        ("ntxent", |x| ntxent(x, &Tensor::new(&[1u32, 1], device())?), SEEN, ""),
        ("ntxent_with", |x| ntxent_with(x, &Tensor::new(&[1u32, 1], device())?, 0.5), SEEN, ""),
        ("triplet_margin_loss", |x| triplet_margin_loss(x, &soft(), &numbers()), SEEN, ""),
        ("triplet_margin_loss", |x| triplet_margin_loss(&soft(), x, &numbers()), SEEN, ""),
        ("triplet_margin_loss", |x| triplet_margin_loss(&soft(), &numbers(), x), &[INF, -INF], margin),
        (
            "triplet_margin_loss_with",
            |x| triplet_margin_loss_with(x, &soft(), &numbers(), TripletMargin::default()),
            SEEN,
            "",
        ),
        ("dice_loss", |x| dice_loss(x, &soft()), &[-INF], chosen),
        ("dice_loss", |x| dice_loss(&numbers(), x), SEEN, ""),
        ("dice_loss_with", |x| dice_loss_with(x, &soft(), &Dice::default()), &[-INF], chosen),
        (
            "multiclass_generalized_dice_loss",
            |x| multiclass_generalized_dice_loss(x, &soft()),
            &[-INF],
            chosen,
        ),
        ("multiclass_generalized_dice_loss", |x| multiclass_generalized_dice_loss(&numbers(), x), SEEN, ""),
        (
            "multiclass_generalized_dice_loss_with",
            |x| multiclass_generalized_dice_loss_with(x, &soft(), &Dice::default()),
            &[-INF],
            chosen,
        ),
        ("binary_dice_loss", |x| binary_dice_loss(x, &soft()), &[INF, -INF], bounded),
        ("binary_dice_loss", |x| binary_dice_loss(&numbers(), x), SEEN, ""),
        (
            "binary_dice_loss_with",
            |x| binary_dice_loss_with(x, &soft(), &Dice::default()),
            &[INF, -INF],
            bounded,
        ),
        ("mse", |x| mse(x, &soft()), SEEN, ""),
        ("mse", |x| mse(&numbers(), x), SEEN, ""),
        ("squared_error", |x| squared_error(x, &soft()), SEEN, ""),
        ("squared_error", |x| squared_error(&numbers(), x), SEEN, ""),
        ("l2_loss", |x| l2_loss(x, &soft()), SEEN, ""),
        ("l2_loss", |x| l2_loss(&numbers(), x), SEEN, ""),
        ("huber_loss", |x| huber_loss(x, &soft()), SEEN, ""),
        ("huber_loss", |x| huber_loss(&numbers(), x), SEEN, ""),
        ("huber_loss_with", |x| huber_loss_with(x, &soft(), 0.3), SEEN, ""),
        ("log_cosh", |x| log_cosh(x, &soft()), SEEN, ""),
        ("log_cosh", |x| log_cosh(&numbers(), x), SEEN, ""),
        ("cosine_similarity", |x| cosine_similarity(x, &soft()), SEEN, ""),
        ("cosine_similarity", |x| cosine_similarity(&numbers(), x), SEEN, ""),
        ("cosine_similarity_with", |x| cosine_similarity_with(x, &soft(), 0.1, &Over::all()), SEEN, ""),
        ("cosine_distance", |x| cosine_distance(x, &soft()), SEEN, ""),
        ("cosine_distance", |x| cosine_distance(&numbers(), x), SEEN, ""),
        ("cosine_distance_with", |x| cosine_distance_with(x, &soft(), 0.1, &Over::all()), SEEN, ""),
        ("smooth_labels", |x| smooth_labels(x, 0.1), SEEN, ""),
        ("smooth_labels_with", |x| smooth_labels_with(x, 0.1, &Over::axis(0)), SEEN, ""),
        ("safe_softmax_cross_entropy", |x| safe_softmax_cross_entropy(x, &one_hot()), &[-INF], absent),
    ]
}

fn one_hot() -> Tensor {
    tensor([[0., 0., 1.], [1., 0., 0.]])
}

fn projections() -> Vec<Row> {
    let nearest = "the nearest point of a box to an infinity is its bound";
    let outside = "minus infinity is infinitely far outside, so its element is 0";
    vec![
        ("projection_non_negative", |x| projection_non_negative(&leaf(x))?.get(), &[-INF], nearest),
        ("projection_box", |x| projection_box(&leaf(x), -1., 1.)?.get(), &[INF, -INF], nearest),
        ("projection_box", |x| projection_box(&leaf(x), &leaf(&numbers()), 9.)?.get(), &[INF, -INF], nearest),
        ("projection_box", |x| projection_box(&leaf(&numbers()), &leaf(x), INF)?.get(), &[-INF], nearest),
        ("projection_box", |x| projection_box(&leaf(&numbers()), -INF, &leaf(x))?.get(), &[INF], nearest),
        ("projection_hypercube", |x| projection_hypercube(&leaf(x), 1.)?.get(), &[INF, -INF], nearest),
        ("projection_linf_ball", |x| projection_linf_ball(&leaf(x), 1.)?.get(), &[INF, -INF], nearest),
        ("projection_simplex", |x| projection_simplex(&leaf(x), 1.)?.get(), &[-INF], outside),
        ("projection_l1_sphere", |x| projection_l1_sphere(&leaf(x), 1.)?.get(), SEEN, ""),
        ("projection_l1_ball", |x| projection_l1_ball(&leaf(x), 1.)?.get(), SEEN, ""),
        ("projection_l2_sphere", |x| projection_l2_sphere(&leaf(x), 1.)?.get(), SEEN, ""),
        ("projection_l2_ball", |x| projection_l2_ball(&leaf(x), 1.)?.get(), SEEN, ""),
        ("projection_vector", |x| projection_vector(&leaf(x), &leaf(&soft()))?.get(), SEEN, ""),
        ("projection_vector", |x| projection_vector(&leaf(&soft()), &leaf(x))?.get(), SEEN, ""),
        ("projection_hyperplane", |x| projection_hyperplane(&leaf(x), &leaf(&soft()), 0.1)?.get(), SEEN, ""),
        ("projection_hyperplane", |x| projection_hyperplane(&leaf(&soft()), &leaf(x), 0.1)?.get(), SEEN, ""),
        ("projection_halfspace", |x| projection_halfspace(&leaf(x), &leaf(&soft()), 0.1)?.get(), SEEN, ""),
        ("projection_halfspace", |x| projection_halfspace(&leaf(&soft()), &leaf(x), 0.1)?.get(), SEEN, ""),
    ]
}

/// [`numbers`], for a function of probabilities too, with one bad element.
fn with(bad: f64, at: usize, dtype: DType) -> Tensor {
    let mut elements = values(&soft());
    elements[at] = bad;
    Tensor::from_vec(elements, (2, 3), device()).unwrap().to_dtype(dtype).unwrap()
}

#[test]
fn nan_and_infinities_are_seen() {
    let mut wrong = Vec::new();
    for (name, function, finite, _) in losses().into_iter().chain(projections()) {
        for bad in [f64::NAN, INF, -INF].into_iter().filter(|bad| !finite.contains(bad)) {
            for at in 0..6 {
                let Ok(value) = function(&with(bad, at, DType::F64)) else { continue };
                if values(&value).iter().all(|value| value.is_finite()) {
                    wrong.push(format!("{name} of {bad} at {at} is {:?}", values(&value)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The names of the functions that a `mod.rs` exports.
fn exported(source: &str) -> BTreeSet<String> {
    let names = source.split("pub use ").skip(1).flat_map(|text| {
        let (list, _) = text.split_once(';').unwrap();
        let names = list.split_once('{').map_or_else(|| list.rsplit("::").next().unwrap(), |list| list.1);
        names.split(['}', ',']).map(|name| name.trim().to_owned()).collect::<Vec<_>>()
    });
    names.filter(|name| name.chars().next().is_some_and(char::is_lowercase)).collect()
}

#[test]
fn every_loss_and_projection_has_a_row() {
    let rows = |rows: Vec<Row>| rows.into_iter().map(|row| row.0.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(rows(losses()), exported(include_str!("../src/losses/mod.rs")));
    assert_eq!(rows(projections()), exported(include_str!("../src/projections/mod.rs")));
    assert!(losses().into_iter().chain(projections()).all(|row| row.2.is_empty() == row.3.is_empty()));
}

/// The gradient of a diverged model is not 0.
#[test]
fn a_sparsemax_of_nan_has_a_gradient_of_nan() {
    for bad in [f64::NAN, INF] {
        let scores = Var::from_tensor(&with(bad, 0, DType::F32)).unwrap();
        let loss = multiclass_sparsemax_loss(&scores, &classes()).unwrap().sum_all().unwrap();
        let gradient = loss.backward().unwrap().get(&scores).unwrap().clone();
        assert!(values(&gradient)[..3].iter().any(|value| value.is_nan()), "{bad}");
        assert!(values(&gradient)[3..].iter().all(|value| value.is_finite()), "the other row");
    }
}

/// By hand: the difference of two elements by more than the scale leaves one; three equal ones share it.
#[test]
fn large_numbers_keep_their_differences() {
    let project = |function: fn(&Leaf<Parameter>) -> Result<Leaf<Parameter>>, x: &[f32]| {
        tree_values(&function(&leaf(&Tensor::new(x, device()).unwrap())).unwrap())
    };
    let simplex = |x: &Leaf<Parameter>| projection_simplex(x, 1.);
    assert_eq!(project(simplex, &[3e7, 0.]), [1., 0.]);
    assert_eq!(project(simplex, &[3e38, -3e38, f32::NEG_INFINITY]), [1., 0., 0.]);
    assert_close(&project(simplex, &[1e7, 1e7, 1e7]), &[1. / 3.; 3], 1e-7, "equal elements");
    assert_eq!(project(|x| projection_l1_ball(x, 1.), &[-3e7, 5.]), [-1., 0.]);
    assert_eq!(project(|x| projection_l1_sphere(x, 2.), &[-3e7, 5.]), [-2., 0.]);
    // Squares of these overflow in f32, those of the last vanish.
    let line = leaf(&Tensor::new(&[3e30f32, 4e30], device()).unwrap());
    for (found, expected) in [
        (projection_l2_ball(&line, 1.), [0.6, 0.8]),
        (projection_l2_sphere(&line, 5.), [3., 4.]),
        (projection_l2_sphere(&leaf(&Tensor::new(&[3e-30f32, 4e-30], device()).unwrap()), 5.), [3., 4.]),
        (projection_vector(&leaf(&Tensor::new(&[3f32, 4.], device()).unwrap()), &line), [3., 4.]),
        (projection_hyperplane(&leaf(&Tensor::new(&[3f32, 4.], device()).unwrap()), &line, 0.), [0., 0.]),
        (projection_halfspace(&leaf(&Tensor::new(&[3f32, 4.], device()).unwrap()), &line, 0.), [0., 0.]),
    ] {
        assert_close(&tree_values(&found.unwrap()), &expected, 2e-6, "a Euclidean projection");
    }

    let refused = projection_box(&line, f64::NAN, 1.).unwrap_err();
    assert!(refused.to_string().starts_with("a bound of a projection is NaN"), "{refused}");

    // These scores are the same number in f32: `(1 - 1/3) / 2`.
    let scores = Tensor::new(&[[1e7f32, 1e7 + 0.25, 1e7 - 0.5]], device()).unwrap();
    let label = Tensor::new(&[0u32], device()).unwrap();
    let loss = multiclass_sparsemax_loss(&scores, &label).unwrap();
    assert_close(&values(&loss), &[1. / 3.], 1e-7, "sparsemax of equal scores");
}
