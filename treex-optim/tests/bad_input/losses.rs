//! Losses, and their gradients.

use candle_core::{DType, Device, Tensor};
use treex_core::{Leaf, Parameter, Result, prelude::*};
use treex_optim::losses::*;
use treex_testing::bad_input::{AXES, Cases, NUMBERS, Row, SIZES, huge, some, tensors};

type OfTwo = fn(&Tensor, &Tensor) -> Result<Tensor>;
type Over2 = fn(&Tensor, &Tensor, &Over<'_>) -> Result<Tensor>;
type WithNumber = fn(&Tensor, &Tensor, f64) -> Result<Tensor>;

const REDUCTIONS: [Reduction; 3] = [Reduction::None, Reduction::Sum, Reduction::Mean];

/// The value of `f`, and of floats its gradient.
fn with_gradient(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    f(x)?;
    if x.dtype().is_float() {
        Leaf::<Parameter>::new(x)?.value_and_grad(Parameter, |x| Ok(f(&x.get()?)?.sum_all()?))?;
    }
    Ok(())
}

fn pairs(cases: &mut Cases, label: &str, f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) {
    cases.pairs(label, |x, y| with_gradient(x, |x| f(x, y)));
    for (name, x) in huge() {
        cases.call(&format!("{label} of {name}"), || with_gradient(&x, |y| f(y, &x)));
    }
}

/// Functions of two tensors.
fn of_two(names: &'static str, functions: &'static [OfTwo]) -> Row {
    Row::new(names, |cases| {
        for (function, number) in functions.iter().zip(0..) {
            pairs(cases, &format!("function {number}"), function);
        }
    })
}

/// Functions over axes and a mask.
fn over(names: &'static str, functions: &'static [Over2]) -> Row {
    Row::new(names, |cases| {
        for (function, number) in functions.iter().zip(0..) {
            let overs = AXES.map(|axis| Over::axis(axis as i64)).into_iter();
            let overs = overs.chain([Over::all(), Over::axes([]), Over::axes([0, 0]), Over::axes([1, -2])]);
            for over in overs {
                pairs(cases, &format!("function {number}, {over:?}"), |x, y| function(x, y, &over));
            }
            for (name, mask) in tensors() {
                for (other, x) in some() {
                    let over = Over::default().mask(&mask);
                    let label = format!("function {number} of {other}, mask {name}");
                    cases.call(&label, || with_gradient(&x, |y| function(y, &x, &over)));
                }
            }
        }
    })
}

/// A function with a number.
fn with_number(names: &'static str, functions: &'static [WithNumber]) -> Row {
    Row::new(names, |cases| {
        for (function, number) in functions.iter().zip(0..) {
            for option in NUMBERS {
                pairs(cases, &format!("function {number}, {option}"), |x, y| function(x, y, option));
            }
        }
    })
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        of_two(
            "losses::binary sigmoid_binary_cross_entropy sigmoid_focal_loss hinge_loss perceptron_loss sparsemax_loss",
            &[sigmoid_binary_cross_entropy, sigmoid_focal_loss, hinge_loss, perceptron_loss, sparsemax_loss],
        ),
        with_number(
            "losses::binary sigmoid_focal_loss_with",
            &[
                |x, y, number| sigmoid_focal_loss_with(x, y, Some(number), 2.),
                |x, y, number| sigmoid_focal_loss_with(x, y, None, number),
            ],
        ),
        of_two(
            "losses::classification softmax_cross_entropy softmax_cross_entropy_with_integer_labels safe_softmax_cross_entropy \
             poly_loss_cross_entropy",
            &[
                softmax_cross_entropy,
                softmax_cross_entropy_with_integer_labels,
                safe_softmax_cross_entropy,
                poly_loss_cross_entropy,
            ],
        ),
        over(
            "losses::classification softmax_cross_entropy_with softmax_cross_entropy_with_integer_labels_with",
            &[softmax_cross_entropy_with, softmax_cross_entropy_with_integer_labels_with],
        ),
        with_number(
            "losses::classification poly_loss_cross_entropy_with",
            &[|x, y, number| poly_loss_cross_entropy_with(x, y, number, &Over::all())],
        ),
        Row::new("losses::ctc ctc_loss ctc_loss_with_forward_probs", |cases| {
            let logits = Tensor::ones((2, 4, 6), DType::F32, &Device::Cpu).unwrap();
            let paddings = Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
            let labels = Tensor::ones((2, 4), DType::U32, &Device::Cpu).unwrap();
            for (name, x) in tensors().into_iter().chain(huge()) {
                let call = |at: usize, of: &Tensor| {
                    let of =
                        |place: usize, right: &Tensor| if place == at { of.clone() } else { right.clone() };
                    ctc_loss(&of(0, &logits), &of(1, &paddings), &of(2, &labels), &of(3, &paddings))
                };
                for at in 0..4 {
                    cases.call(&format!("argument {at}: {name}"), || with_gradient(&x, |x| call(at, x)));
                }
            }
            for blank in SIZES {
                for number in NUMBERS {
                    let options = Ctc::default().blank_id(blank).log_epsilon(number);
                    cases.call(&format!("{options:?}"), || {
                        ctc_loss_with_forward_probs(&logits, &paddings, &labels, &paddings, options)
                    });
                }
            }
        }),
        Row::new("losses::ctc::options Ctc::blank_id Ctc::log_epsilon", |_| ()),
        of_two(
            "losses::divergence kl_divergence kl_divergence_with_log_targets generalized_kl_divergence",
            &[kl_divergence, kl_divergence_with_log_targets, generalized_kl_divergence],
        ),
        over(
            "losses::divergence kl_divergence_with kl_divergence_with_log_targets_with generalized_kl_divergence_with",
            &[kl_divergence_with, kl_divergence_with_log_targets_with, generalized_kl_divergence_with],
        ),
        of_two(
            "losses::fenchel_young make_fenchel_young_loss",
            &[|x, y| make_fenchel_young_loss(|x| Ok(x.sqr()?.sum(x.rank().saturating_sub(1))?))(x, y)],
        ),
        of_two("losses::mse mse", &[mse]),
        of_two(
            "losses::multiclass multiclass_hinge_loss multiclass_perceptron_loss multiclass_sparsemax_loss",
            &[multiclass_hinge_loss, multiclass_perceptron_loss, multiclass_sparsemax_loss],
        ),
        of_two("losses::ranking ranking_softmax_loss", &[ranking_softmax_loss]),
        Row::new(
            "losses::ranking Ranking::mask Ranking::weights Ranking::reduction ranking_softmax_loss_with",
            |cases| {
                for (name, option) in tensors() {
                    for (other, x) in some() {
                        for options in [Ranking::default().mask(&option), Ranking::default().weights(&option)]
                        {
                            for reduction in REDUCTIONS {
                                let options = options.clone().reduction(reduction);
                                let label = format!("{reduction:?} of {other}, with {name}");
                                cases.call(&label, || {
                                    with_gradient(&x, |y| ranking_softmax_loss_with(y, &x, &options))
                                });
                            }
                        }
                    }
                }
            },
        ),
        Row::new("losses::reduction Reduction::reduce", |cases| {
            for reduction in REDUCTIONS {
                cases.tensors(&format!("{reduction:?}"), |x| reduction.reduce(x));
            }
        }),
        of_two(
            "losses::regression squared_error l2_loss huber_loss log_cosh cosine_similarity cosine_distance",
            &[squared_error, l2_loss, huber_loss, log_cosh, cosine_similarity, cosine_distance],
        ),
        with_number(
            "losses::regression huber_loss_with cosine_similarity_with cosine_distance_with",
            &[
                huber_loss_with,
                |x, y, number| cosine_similarity_with(x, y, number, &Over::default()),
                |x, y, number| cosine_distance_with(x, y, number, &Over::default()),
            ],
        ),
        over(
            "losses::rows Over::axis Over::axes Over::all Over::mask",
            &[
                |x, y, over| cosine_similarity_with(x, y, 0., over),
                |x, y, over| cosine_distance_with(x, y, 0., over),
                |x, y, over| poly_loss_cross_entropy_with(x, y, 1., over),
            ],
        ),
        of_two(
            "losses::segmentation dice_loss multiclass_generalized_dice_loss binary_dice_loss",
            &[dice_loss, multiclass_generalized_dice_loss, binary_dice_loss],
        ),
        Row::new(
            "losses::segmentation Dice::class_weights Dice::smooth Dice::alpha Dice::beta Dice::apply_softmax Dice::reduction \
             Dice::ignore_background Dice::axes dice_loss_with multiclass_generalized_dice_loss_with binary_dice_loss_with",
            |cases| {
                let weights = tensors();
                let mut options: Vec<Dice<'_>> = NUMBERS
                    .iter()
                    .flat_map(|&x| {
                        [Dice::default().smooth(x), Dice::default().alpha(x), Dice::default().beta(x)]
                    })
                    .collect();
                options.extend(weights.iter().map(|(_, x)| Dice::default().class_weights(x)));
                options.extend(REDUCTIONS.map(|x| Dice::default().reduction(x)));
                options.extend(AXES.map(|x| Dice::default().axes([x as i64])));
                options.extend([
                    Dice::default().axes([]),
                    Dice::default().axes([0, 0]),
                    Dice::default().axes([1, -2]),
                ]);
                options.extend([
                    Dice::default().apply_softmax(false),
                    Dice::default().ignore_background(true),
                    Dice::default().apply_softmax(false).ignore_background(true),
                ]);
                type Function = fn(&Tensor, &Tensor, &Dice<'_>) -> Result<Tensor>;
                let functions: [Function; 3] =
                    [dice_loss_with, multiclass_generalized_dice_loss_with, binary_dice_loss_with];
                for options in &options {
                    for (function, number) in functions.iter().zip(0..) {
                        for (name, x) in some() {
                            let label =
                                format!("function {number} of {name}, {options:?}").replace('\n', " ");
                            cases.call(&label, || with_gradient(&x, |y| function(y, &x, options)));
                        }
                    }
                }
            },
        ),
        of_two("losses::self_supervised ntxent", &[ntxent]),
        with_number("losses::self_supervised ntxent_with", &[ntxent_with]),
        Row::new(
            "losses::self_supervised TripletMargin::axis TripletMargin::norm_degree TripletMargin::margin TripletMargin::eps \
             triplet_margin_loss triplet_margin_loss_with",
            |cases| {
                for (name, x) in some() {
                    for (other, y) in some() {
                        cases.call(&format!("{name} and {other}"), || {
                            with_gradient(&x, |x| triplet_margin_loss(x, &y, x))?;
                            with_gradient(&y, |y| triplet_margin_loss(&x, &x, y))
                        });
                    }
                }
                let of = |number: f64| {
                    let options = TripletMargin::default();
                    [options.norm_degree(number), options.margin(number), options.eps(number)]
                };
                let numbers = NUMBERS.into_iter().flat_map(of);
                for options in numbers.chain(AXES.map(|axis| TripletMargin::default().axis(axis as i64))) {
                    for (name, x) in tensors() {
                        cases.call(&format!("{name}, {options:?}"), || {
                            with_gradient(&x, |y| triplet_margin_loss_with(y, &x, &x, options))
                        });
                    }
                }
            },
        ),
        Row::new("losses::smoothing smooth_labels smooth_labels_with", |cases| {
            for number in NUMBERS {
                cases.tensors(&format!("{number}"), |x| smooth_labels(x, number));
                for over in AXES.map(|axis| Over::axis(axis as i64)).into_iter().chain([Over::all()]) {
                    cases.tensors(&format!("{number}, {over:?}"), |x| smooth_labels_with(x, number, &over));
                }
            }
        }),
        Row::new(
            "losses::tree Loss::new Loss::reduction Loss::weight Loss::on Loss::call Loss::call_weighted",
            |cases| {
                for reduction in REDUCTIONS {
                    let loss = Loss::new(squared_error).reduction(reduction);
                    pairs(cases, &format!("{reduction:?}"), |x, y| loss.call(x, y));
                    for (name, weights) in tensors() {
                        for (other, x) in some() {
                            cases.call(&format!("{reduction:?} of {other}, weights {name}"), || {
                                with_gradient(&x, |y| loss.call_weighted(y, &x, &weights))
                            });
                        }
                    }
                }
                for number in NUMBERS {
                    cases.tensors(&format!("{number}"), |x| {
                        Loss::new(squared_error).weight(number).call(x, x)
                    });
                }
                for path in ["", ".", "0", "heads.0", "..", "18446744073709551616"] {
                    cases.tensors(&format!("`{path}`"), |x| Loss::new(squared_error).on(path).call(x, x));
                }
            },
        ),
    ]
}
