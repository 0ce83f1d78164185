//! Losses against Optax's values, in f64 and in other element types.

#![allow(clippy::unwrap_used)]

mod misuse;
mod table;

use std::collections::BTreeSet;

use candle_core::{DType, Tensor, Var};
use serde_json::Value;
use table::*;
use treex_core::{ErrorKind, Result, autograd};
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
use treex_testing::compare::{assert_close, assert_each_close, values};
use treex_testing::fixture;
use treex_testing::oracle::{numbers, tensor};
use treex_testing::{device, skip};

/// Optax sums in f64 in another order than Candle; nothing else differs. Relative for numbers beyond 1.
const F64: f64 = 1e-10;

/// Each element rounds at 6e-8, sums of a few dozen of them and quotients of those at ten times that.
const F32: f64 = 2e-6;

/// A loss of some tensors; more than one value for what has several.
type Call = fn(&[Tensor]) -> Result<Vec<Tensor>>;

fn fixture() -> Value {
    fixture!("losses.json")
}

/// The sum of the first value's elements times 1, 2, 3 and so on, so that a gradient that mixes up the batch
/// shows.
fn weighted(value: &Tensor) -> Tensor {
    let weights = Tensor::arange(1f64, 1. + value.elem_count() as f64, device()).unwrap();
    (value.flatten_all().unwrap() * weights.to_dtype(value.dtype()).unwrap()).unwrap().sum_all().unwrap()
}

/// The arguments of a case of `losses.json`, floats in `dtype` and as variables.
fn arguments(case: &Value, dtype: DType) -> Vec<Tensor> {
    let argument = |argument: &Value| {
        let dims: Vec<usize> = numbers(&argument["shape"]).iter().map(|&n| n as usize).collect();
        let of = |dtype, values| {
            Tensor::from_vec(numbers(values), dims, device()).unwrap().to_dtype(dtype).unwrap()
        };
        match argument.get("float") {
            Some(values) => Var::from_tensor(&of(dtype, values)).unwrap().as_tensor().clone(),
            None => of(DType::I64, &argument["int"]),
        }
    };
    case["args"].as_array().unwrap().iter().map(argument).collect()
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
            assert_each_close(&values(found), &numbers(expected), tolerance, name);
        }
        let grads = weighted(&found[0]).backward().unwrap();
        for (by, expected) in numbers(&case["by"]).iter().zip(case["grad"].as_array().unwrap()) {
            let what = format!("{name}, gradient by {by}");
            let found = grads.get(&args[*by as usize]).expect(&what);
            assert_each_close(&values(found), &numbers(expected), tolerance, &what);
        }
    }
}

#[test]
fn edges_in_f64() {
    check_edges(DType::F64, F64, &[]);
}

/// Excludes cases with numbers beyond f32, or at the epsilon of their type.
#[test]
fn edges_in_f32() {
    check_edges(DType::F32, F32, &["huber_loss of infinity", "ntxent of zeros"]);
}

/// The path of devices without a kernel.
#[test]
fn edge_cases_of_the_reference() {
    autograd::with_reference(|| check_edges(DType::F64, F64, &[]));
}

#[test]
fn plain_cases() {
    let fixture = fixture!("optax.json");
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
fn every_fixture_case_is_tested() {
    let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let ours = |cases: Vec<(&str, Call)>| cases.iter().map(|case| case.0.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ours(edges()), names(&fixture()["cases"]));
    assert_eq!(ours(plain()), names(&fixture!("optax.json")["losses"]["values"]));
}

/// Of numbers in half precision the losses are those of the same numbers in f32, and the gradients those of
/// f32 in half precision.
#[test]
fn half_precision_is_computed_in_f32() {
    let fixture = fixture();
    // Here the rounded arguments are not distributions any more, or overflow.
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
    let errors = numbers(&fixture!("optax.json")["losses"]["values"]["squared_error"]["value"]);
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert_close(&values(&mse(&x, &targets).unwrap()), &[mean], F64, "mse");
}

/// In Optax, exponentials of the pairs with itself overflow here, and the gradient is NaN.
#[test]
fn ntxent_of_a_small_temperature_has_a_gradient() {
    let embeddings = Var::new(&[[1f32, 2.], [2., -1.], [-2., 0.5], [0.1, 3.]], device()).unwrap();
    let labels = Tensor::new(&[0u32, 1, 0, 1], device()).unwrap();
    let grads = ntxent_with(&embeddings, &labels, 1e-3).unwrap().backward().unwrap();
    assert!(values(grads.get(&embeddings).unwrap()).iter().all(|grad| grad.is_finite()));
}

/// Graphs are traversed recursively, so the graph of a loss over many frames must not be deep.
#[test]
fn ctc_of_a_long_sequence() {
    let (frames, classes) = (20_000, 3);
    let logits = Var::zeros((1, frames, classes), DType::F32, device()).unwrap();
    let zeros = |n| Tensor::zeros((1, n), DType::U8, device()).unwrap();
    let labels = Tensor::new(&[[1u32, 2, 2]], device()).unwrap();
    let loss = ctc_loss(&logits, &zeros(frames), &labels, &zeros(3)).unwrap();
    let grads = loss.sum_all().unwrap().backward().unwrap();
    assert!(values(&loss)[0].is_finite());
    assert!(values(grads.get(&logits).unwrap()).iter().all(|grad| grad.is_finite()));
}

#[test]
fn a_loss_is_a_function_with_a_reduction_and_a_weight() {
    use std::collections::{BTreeMap, HashMap};

    let preds = Tensor::new(&[[1f64, 2.], [3., 4.]], device()).unwrap();
    let target = Tensor::new(&[[0f64, 0.], [0., 1.]], device()).unwrap();
    let loss = Loss::new(squared_error).weight(0.5);
    let sample_weight = Tensor::new(&[1f32, 10.], device()).unwrap();
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
        "the targets of `Loss::new(squared_error).weight(0.5).on(\"heads.1\")` have no tensor at `heads.1`; `on` takes \
         a path: keys and indices separated by points"
    );
    let short = Tensor::new(&[1f32], device()).unwrap();
    assert!(loss.call_weighted(&preds, &target, &short).is_err());
}

#[test]
fn logits_of_any_size_are_safe() {
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        let large = Tensor::new(&[[1e4f32, -1e4], [0., 6e4]], device()).unwrap().to_dtype(dtype).unwrap();
        let large = Var::from_tensor(&large).unwrap();
        let label = Tensor::new(&[0u32, 1], device()).unwrap();
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
    let ones = Tensor::ones(4096, DType::BF16, device()).unwrap();
    let loss = mse(&ones, &ones.zeros_like().unwrap()).unwrap();
    assert_eq!((loss.dtype(), loss.to_scalar::<f32>().unwrap()), (DType::F32, 1.));
}

#[test]
fn an_empty_batch_has_empty_losses() {
    type Two = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, device()).unwrap();
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
    // On a device, an error.
    let assert_empty = |loss: Result<Tensor>, dims: &[usize]| match loss {
        Ok(loss) => assert!(device().is_cpu() && loss.dims() == dims, "{loss:?}"),
        Err(error) => {
            assert!(!device().is_cpu() && error.to_string().contains("without elements"), "{error}")
        }
    };
    for loss in by_element {
        assert_empty(loss(&none, &none), &[0, 3]);
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
        assert_empty(loss(&none, &none), &[0]);
    }
    let by_label: [Two; 4] = [
        softmax_cross_entropy_with_integer_labels,
        multiclass_hinge_loss,
        multiclass_perceptron_loss,
        multiclass_sparsemax_loss,
    ];
    for loss in by_label {
        assert_empty(loss(&none, &zeros(&[0], DType::U32)), &[0]);
    }
    let frames = zeros(&[0, 2], DType::F32);
    assert_empty(ctc_loss(&zeros(&[0, 2, 4], DType::F32), &frames, &frames, &frames), &[0]);
    let reduced = Ranking::default().reduction(Reduction::Sum);
    assert_empty(ranking_softmax_loss_with(&none, &none, &reduced), &[]);
    if device().is_cpu() {
        assert_eq!(values(&ranking_softmax_loss_with(&none, &none, &reduced).unwrap()), [0.]);
    }
    assert!(ntxent(&none, &zeros(&[0], DType::U32)).is_err());

    // Scalars are vectors of one element where all axes are summed over, and of none where the last is.
    let one = Tensor::new(0.5f32, device()).unwrap();
    assert_eq!(kl_divergence_with(&one, &one, &Over::all()).unwrap().dims(), [0usize; 0]);
    assert!(kl_divergence(&one, &one).is_err());
}
