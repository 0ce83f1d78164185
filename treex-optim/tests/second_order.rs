//! The gradient of the gradient of every loss, projection and differentiable function of trees, by finite differences in
//! `f64`.
//!
//! A `main` of its own: the thread that keeps the graph is started before any other.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{DType, Tensor};
use libtest_mimic::{Arguments, Failed, Trial};
use treex_core::autograd::with_reference;
use treex_core::{
    Key, Leaf, Parameter, Result, check_gradients, enable_nested_gradients, hessian, prelude::*,
};
use treex_optim::linear_algebra::*;
use treex_optim::losses::*;
use treex_optim::projections::*;
use treex_optim::tree::{self, Order};
use treex_optim::{Optimizer, global_norm, per_example_global_norm_clip, sgd};
use treex_testing::device;

/// What has no row below, each with the reason.
const EXEMPT: [(&str, &str); 18] = [
    ("allclose", "its result is no number"),
    ("cast", "a cast"),
    ("cast_like", "a cast"),
    ("dtype", "its result is no number"),
    ("full_like", "a constant"),
    ("hungarian_algorithm", "its result is integers"),
    ("matrix_inverse_pth_root", "an error if it is differentiated: `no_silent_constants`"),
    ("matrix_inverse_pth_root_with", "an error if it is differentiated: `no_silent_constants`"),
    ("nnls", "an error if it is differentiated: `no_silent_constants`"),
    ("nnls_with", "an error if it is differentiated: `no_silent_constants`"),
    ("ones_like", "a constant"),
    ("power_iteration", "an error if it is differentiated: `no_silent_constants`"),
    ("power_iteration_with", "an error if it is differentiated: `no_silent_constants`"),
    ("random_like", "a constant"),
    ("scale_gradient", "its gradient is not that of the function that it computes: `scaled_twice`"),
    ("size", "its result is no number"),
    ("split_key_like", "its result is no number"),
    ("zeros_like", "a constant"),
];

type Row = (&'static str, Box<dyn Fn() -> Result<()> + Send>);
type Pair = (Leaf<Parameter>, Leaf<Parameter>);

fn normal(seed: u64, shape: &[usize]) -> Result<Tensor> {
    Ok(Key::from(seed).normal(shape, DType::F64)?.to_device(device())?)
}

fn weighted(y: &Tensor) -> Result<Tensor> {
    Ok((y * normal(7, y.dims())?)?.sum_all()?)
}

fn weighted_tree(tree: &impl Tree) -> Result<Tensor> {
    let mut sum = Tensor::zeros((), DType::F64, device())?;
    for leaf in tree.flatten().tensors() {
        sum = (sum + weighted(leaf)?)?;
    }
    Ok(sum)
}

/// The gradients of `f`, multiplied by fixed numbers and differentiated. Of a function that is not linear in `f`, so that
/// the gradient of what is linear in its input is not constant; other numbers for each leaf, since those of a difference
/// would cancel.
fn check<T: Tree>(tree: &T, f: impl Fn(&T) -> Result<Tensor>) -> Result<()> {
    check_gradients(tree, Parameter, |tree| {
        let loss = |tree: &mut T| -> Result<Tensor> {
            let y = f(tree)?;
            weighted(&(y.sqr()? + y)?)
        };
        let (_, gradients) = tree.value_and_grad(Parameter, loss)?;
        let mut sum = Tensor::zeros((), DType::F64, device())?;
        let mut seed = 20;
        gradients.map(|gradient| {
            seed += 1;
            sum = (&sum + (gradient * normal(seed, gradient.dims())?)?.sum_all()?)?;
            Ok(gradient.clone())
        })?;
        Ok(sum)
    })
}

/// A function of `[4, 3]` numbers.
fn one(name: &'static str, f: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static) -> Row {
    (name, Box::new(move || check(&Leaf::<Parameter>::new(normal(5, &[4, 3])?)?, |x| f(&x.get()?))))
}

/// A function of two times `[4, 3]` numbers, both differentiated.
fn two(name: &'static str, f: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + 'static) -> Row {
    let run = move || {
        let pair: Pair = (Leaf::new(normal(5, &[4, 3])?)?, Leaf::new(normal(6, &[4, 3])?)?);
        check(&pair, |(x, y)| f(&x.get()?, &y.get()?))
    };
    (name, Box::new(run))
}

/// A function of a pair of leaves, to such a pair.
fn of_tree(name: &'static str, f: impl Fn(&Pair) -> Result<Pair> + Send + 'static) -> Row {
    let run = move || {
        let pair: Pair = (Leaf::new(normal(5, &[2, 3])?)?, Leaf::new(normal(6, &[4])?)?);
        check(&pair, |pair| weighted_tree(&f(pair)?))
    };
    (name, Box::new(run))
}

/// A function of a pair of leaves, to a number.
fn to_number(name: &'static str, f: impl Fn(&Pair) -> Result<Tensor> + Send + 'static) -> Row {
    of_tree(name, move |pair| {
        Ok((Leaf::new(f(pair)?.sqr()?)?, Leaf::new(Tensor::zeros(1, DType::F64, device())?)?))
    })
}

fn classes() -> Result<Tensor> {
    Ok(Tensor::new(&[2u32, 0, 1, 2], device())?)
}

fn mask() -> Result<Tensor> {
    Ok(Tensor::new(&[[1u8, 0, 1], [1, 1, 1], [0, 1, 1], [1, 1, 0]], device())?)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.exp()?;
    Ok(exp.broadcast_div(&exp.sum_keepdim(1)?)?)
}

fn signs() -> Result<Tensor> {
    Ok(normal(9, &[4, 3])?.ge(0f64)?.to_dtype(DType::F64)?.affine(2., -1.)?)
}

fn elementwise_rows() -> Vec<Row> {
    vec![
        two("squared_error", squared_error),
        two("l2_loss", l2_loss),
        two("mse", mse),
        two("huber_loss", huber_loss),
        two("huber_loss_with", |x, y| huber_loss_with(x, y, 0.7)),
        two("log_cosh", log_cosh),
        two("cosine_similarity", cosine_similarity),
        two("cosine_similarity_with", |x, y| {
            cosine_similarity_with(x, y, 0.1, &Over::default().mask(&mask()?))
        }),
        two("cosine_distance", cosine_distance),
        two("cosine_distance_with", |x, y| cosine_distance_with(x, y, 0.1, &Over::axis(0))),
        two("sigmoid_binary_cross_entropy", sigmoid_binary_cross_entropy),
        one("sigmoid_focal_loss", |x| sigmoid_focal_loss(x, &signs()?.affine(0.5, 0.5)?)),
        one("sigmoid_focal_loss_with", |x| {
            sigmoid_focal_loss_with(x, &signs()?.affine(0.3, 0.5)?, Some(0.3), 1.5)
        }),
        one("hinge_loss", |x| hinge_loss(&x.sqr()?, &signs()?)),
        one("perceptron_loss", |x| perceptron_loss(&x.sqr()?, &signs()?)),
        one("sparsemax_loss", |x| sparsemax_loss(x, &signs()?.affine(0.5, 0.5)?)),
        one("smooth_labels", |x| smooth_labels(&x.sqr()?, 0.2)),
        one("smooth_labels_with", |x| smooth_labels_with(&x.sqr()?, 0.2, &Over::axis(0).mask(&mask()?))),
        two("kl_divergence", |x, y| kl_divergence(x, &y.exp()?)),
        two("kl_divergence_with", |x, y| kl_divergence_with(x, &y.exp()?, &Over::default().mask(&mask()?))),
        two("kl_divergence_with_log_targets", kl_divergence_with_log_targets),
        two("kl_divergence_with_log_targets_with", |x, y| {
            kl_divergence_with_log_targets_with(x, y, &Over::axis(0))
        }),
        two("generalized_kl_divergence", |x, y| generalized_kl_divergence(x, &y.exp()?)),
        two("generalized_kl_divergence_with", |x, y| {
            generalized_kl_divergence_with(x, &y.exp()?, &Over::default().mask(&mask()?))
        }),
    ]
}

fn class_rows() -> Vec<Row> {
    vec![
        two("softmax_cross_entropy", |x, y| softmax_cross_entropy(x, &softmax(y)?)),
        two("softmax_cross_entropy_with", |x, y| {
            softmax_cross_entropy_with(x, &softmax(y)?, &Over::default().mask(&mask()?))
        }),
        one("softmax_cross_entropy_with_integer_labels", |x| {
            softmax_cross_entropy_with_integer_labels(x, &classes()?)
        }),
        one("softmax_cross_entropy_with_integer_labels_with", move |x| {
            softmax_cross_entropy_with_integer_labels_with(x, &classes()?, &Over::default().mask(&mask()?))
        }),
        two("safe_softmax_cross_entropy", |x, y| safe_softmax_cross_entropy(x, &softmax(y)?)),
        two("poly_loss_cross_entropy", |x, y| poly_loss_cross_entropy(x, &softmax(y)?)),
        two("poly_loss_cross_entropy_with", |x, y| {
            poly_loss_cross_entropy_with(x, &softmax(y)?, 0.5, &Over::axis(0))
        }),
        one("multiclass_hinge_loss", |x| multiclass_hinge_loss(&x.sqr()?, &classes()?)),
        one("multiclass_perceptron_loss", |x| multiclass_perceptron_loss(&x.sqr()?, &classes()?)),
        one("multiclass_sparsemax_loss", |x| multiclass_sparsemax_loss(&(x * 0.5)?, &classes()?)),
        two("make_fenchel_young_loss", |x, y| {
            make_fenchel_young_loss(|scores| Ok(scores.exp()?.sum(1)?.log()?))(x, y)
        }),
        two("ranking_softmax_loss", ranking_softmax_loss),
        two("ranking_softmax_loss_with", move |x, y| {
            ranking_softmax_loss_with(x, y, &Ranking::default().mask(&mask()?).reduction(Reduction::None))
        }),
        two("dice_loss", |x, y| dice_loss(x, &softmax(y)?)),
        two("dice_loss_with", |x, y| {
            dice_loss_with(x, &softmax(y)?, &Dice::default().alpha(0.3).smooth(0.5))
        }),
        two("multiclass_generalized_dice_loss", |x, y| multiclass_generalized_dice_loss(x, &softmax(y)?)),
        two("multiclass_generalized_dice_loss_with", |x, y| {
            multiclass_generalized_dice_loss_with(x, &softmax(y)?, &Dice::default().ignore_background(true))
        }),
        two("binary_dice_loss", |x, y| binary_dice_loss(x, &softmax(y)?)),
        two("binary_dice_loss_with", |x, y| {
            binary_dice_loss_with(x, &softmax(y)?, &Dice::default().smooth(0.1))
        }),
        one("ntxent", |x| ntxent(x, &Tensor::new(&[0u32, 1, 0, 1], device())?)),
        one("ntxent_with", |x| ntxent_with(x, &Tensor::new(&[0u32, 1, 0, 1], device())?, 0.9)),
        two("triplet_margin_loss", |x, y| triplet_margin_loss(x, y, &(x + y)?)),
        two("triplet_margin_loss_with", |x, y| {
            triplet_margin_loss_with(
                x,
                y,
                &(x + y)?,
                TripletMargin::default().axis(0).norm_degree(4.).margin(9.),
            )
        }),
        ctc("ctc_loss", |logits, [pads, labels, label_pads]| ctc_loss(logits, pads, labels, label_pads)),
        ctc("ctc_loss_with_forward_probs", |logits, [pads, labels, label_pads]| {
            let options = Ctc::default().blank_id(3).log_epsilon(-40.);
            Ok(ctc_loss_with_forward_probs(logits, pads, labels, label_pads, options)?.loss)
        }),
    ]
}

/// Paddings, labels with repetitions, paddings of labels; the second sequence is shorter, and the third has no label.
fn ctc_constants() -> Result<[Tensor; 3]> {
    Ok([
        Tensor::new(&[[0f64, 0., 0., 0., 0.], [0., 0., 0., 0., 1.], [0.; 5]], device())?,
        Tensor::new(&[[1u32, 1, 2], [2, 1, 0], [0, 0, 0]], device())?,
        Tensor::new(&[[0f64, 0., 0.], [0., 0., 1.], [1., 1., 1.]], device())?,
    ])
}

fn ctc(name: &'static str, f: impl Fn(&Tensor, &[Tensor; 3]) -> Result<Tensor> + Send + 'static) -> Row {
    let run = move || {
        let logits = Leaf::<Parameter>::new(normal(5, &[3, 5, 4])?)?;
        check(&logits, |logits| f(&logits.get()?, &ctc_constants()?))
    };
    (name, Box::new(run))
}

fn projection_rows() -> Vec<Row> {
    let other = || -> Result<Pair> { Ok((Leaf::new(normal(8, &[2, 3])?)?, Leaf::new(normal(9, &[4])?)?)) };
    vec![
        of_tree("projection_non_negative", |x| projection_non_negative(&tree::mul(x, x)?)),
        of_tree("projection_box", |x| projection_box(&tree::mul(x, x)?, 0.1, 0.9)),
        of_tree("projection_hypercube", |x| projection_hypercube(&tree::mul(x, x)?, 0.8)),
        of_tree("projection_linf_ball", |x| projection_linf_ball(&tree::mul(x, x)?, 0.8)),
        of_tree("projection_simplex", |x| projection_simplex(&tree::mul(x, x)?, 1.5)),
        of_tree("projection_l1_sphere", |x| projection_l1_sphere(&tree::mul(x, x)?, 1.5)),
        of_tree("projection_l1_ball", |x| projection_l1_ball(&tree::mul(x, x)?, 1.5)),
        of_tree("projection_l2_sphere", |x| projection_l2_sphere(x, 1.5)),
        of_tree("projection_l2_ball", |x| projection_l2_ball(x, 0.5)),
        of_tree("projection_vector", |x| projection_vector(x, &tree::mul(x, x)?)),
        of_tree("projection_hyperplane", |x| projection_hyperplane(x, &tree::mul(x, x)?, 0.3)),
        of_tree("projection_halfspace", |x| projection_halfspace(x, &tree::mul(x, x)?, -9.)),
        of_tree("add", move |x| tree::add(&tree::mul(x, x)?, &other()?)),
        of_tree("sub", move |x| tree::sub(&other()?, &tree::mul(x, x)?)),
        of_tree("mul", |x| tree::mul(x, x)),
        of_tree("div", move |x| {
            tree::div(&other()?, &tree::full_like(x, 3.).and_then(|y| tree::add(x, &y))?)
        }),
        of_tree("scale", |x| tree::scale(0.3, &tree::mul(x, x)?)),
        of_tree("add_scale", |x| tree::add_scale(x, 0.3, &tree::mul(x, x)?)),
        of_tree("where_cond", move |x| {
            tree::where_cond(&Tensor::new(1u8, device())?, &tree::mul(x, x)?, &other()?)
        }),
        of_tree("clip", |x| tree::clip(&tree::mul(x, x)?, Some(0.1), Some(0.9))),
        of_tree("batch_shape", |x| tree::batch_shape(&tree::mul(x, x)?, &[2])),
        of_tree("update_moment", |x| tree::update_moment(x, &tree::mul(x, x)?, 0.9, 3)),
        of_tree("update_infinity_moment", |x| tree::update_infinity_moment(x, &tree::mul(x, x)?, 0.9, 0.1)),
        of_tree("bias_correction", |x| tree::bias_correction(&tree::mul(x, x)?, 0.9, 3)),
        to_number("sum", tree::sum),
        to_number("max", tree::max),
        to_number("min", tree::min),
        to_number("vdot", |x| tree::vdot(x, x)),
        to_number("norm", |x| tree::norm(x, Order::L2)),
        to_number("norm", |x| tree::norm(x, Order::L1)),
        to_number("norm", |x| tree::norm(x, Order::Inf)),
        one("safe_norm", |x| safe_norm(x, 0.1)),
        one("safe_norm_with", |x| safe_norm_with(x, 0.1, Order::L2, 1, false)),
        one("safe_root_mean_squares", |x| safe_root_mean_squares(x, 0.1)),
    ]
}

/// The public functions of these folders and files.
fn public_names() -> BTreeSet<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = BTreeSet::new();
    for place in ["losses", "losses/ctc", "projections", "linear_algebra", "tree"] {
        for file in fs::read_dir(src.join(place)).unwrap().map(|file| file.unwrap().path()) {
            if file.is_dir() {
                continue;
            }
            let text = fs::read_to_string(file).unwrap();
            let functions = text.lines().filter_map(|line| line.strip_prefix("pub fn "));
            names.extend(functions.map(|line| line[..line.find(['(', '<']).unwrap()].to_owned()));
        }
    }
    names
}

fn every_name_has_a_row(rows: &BTreeSet<&str>) -> std::result::Result<(), Failed> {
    let exempt: BTreeSet<_> = EXEMPT.iter().map(|(name, _)| *name).collect();
    let names = public_names();
    assert!(names.len() > 80, "the parse found {names:?}");
    assert!(
        exempt.iter().all(|name| names.contains(*name) && !rows.contains(name)),
        "an exemption is left over"
    );
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !rows.contains(name.as_str()) && !exempt.contains(name.as_str()))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("without a row: {missing:?}").into()) }
}

/// The Hessian of `huber` is 1 inside and 0 outside; at an infinity the gradient is a number.
fn huber_by_hand() -> Result<()> {
    let x = Leaf::<Parameter>::new(Tensor::new(&[0.5f64, 3., f64::INFINITY], device())?)?;
    let loss = |x: &mut Leaf<Parameter>| {
        let x = x.get()?;
        Ok(huber_loss(&x, &x.zeros_like()?)?.sum_all()?)
    };
    let hessian = hessian(&x, Parameter, loss)?.matrix()?.to_vec2::<f64>()?;
    assert_eq!(hessian, [[1., 0., 0.], [0.; 3], [0.; 3]]);
    Ok(())
}

/// The Hessian of the sparsemax loss is the Jacobian of sparsemax, `diag(s) - s sᵀ / |s|` with `s` the support (Martins and
/// Astudillo, 2016, equation 9): here the first two of three classes.
fn sparsemax_by_hand() -> Result<()> {
    let x = Leaf::<Parameter>::new(Tensor::new(&[[0.4f64, 0.1, -2.]], device())?)?;
    let loss = |x: &mut Leaf<Parameter>| {
        Ok(multiclass_sparsemax_loss(&x.get()?, &Tensor::new(&[2u32], device())?)?.sum_all()?)
    };
    let hessian = hessian(&x, Parameter, loss)?.matrix()?.to_vec2::<f64>()?;
    assert_eq!(hessian, [[0.5, -0.5, 0.], [-0.5, 0.5, 0.], [0.; 3]]);
    Ok(())
}

/// The composition that is differentiated twice computes what the loops compute.
fn ctc_agrees_with_its_reference() -> Result<()> {
    let mut logits = Leaf::<Parameter>::new(normal(5, &[3, 5, 4])?)?;
    let [pads, labels, label_pads] = ctc_constants()?;
    let mut both = || -> Result<(f64, Vec<f64>)> {
        let (value, gradient) = logits.value_and_grad(Parameter, |logits| {
            weighted(&ctc_loss(&logits.get()?, &pads, &labels, &label_pads)?)
        })?;
        Ok((value.to_scalar::<f64>()?, gradient.get()?.flatten_all()?.to_vec1::<f64>()?))
    };
    let (value, gradient) = both()?;
    let (expected, gradients) = with_reference(&mut both)?;
    assert!((value - expected).abs() < 1e-12 * expected.abs(), "{value} {expected}");
    for (a, b) in gradient.iter().zip(&gradients) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }
    Ok(())
}

/// `scale_gradient` is linear in the gradient: at `y = x`, of `y²`, a second derivative of `scale² 2`.
fn scaled_twice() -> Result<()> {
    let x = Leaf::<Parameter>::new(Tensor::new(&[3f64], device())?)?;
    let hessian = hessian(&x, Parameter, |x| Ok(scale_gradient(&x.get()?, -0.5)?.sqr()?.sum_all()?))?;
    assert_eq!(hessian.matrix()?.to_vec2::<f64>()?, [[0.5]]);
    Ok(())
}

/// What computes with numbers outside of the graph refuses an argument that is differentiated.
fn no_silent_constants() -> Result<()> {
    let mut x = Leaf::<Parameter>::new(Tensor::new(&[[2f64, 1.], [1., 2.]], device())?)?;
    let refused = |name: &str, result: Result<Tensor>| -> Result<()> {
        let error = result.expect_err(name).to_string();
        let has_remedy = error.contains("detach") || error.contains("stop_gradient");
        assert!(error.contains("differentiated") && has_remedy, "{name}: {error}");
        Ok(())
    };
    x.value_and_grad(Parameter, |x| {
        let matrix = x.get()?;
        refused("nnls", nnls(&matrix, &matrix.detach(), 3))?;
        refused("nnls", nnls(&matrix.detach(), &matrix, 3))?;
        refused("power_iteration", power_iteration(&matrix).map(|(_, vector)| vector))?;
        refused("matrix_inverse_pth_root", matrix_inverse_pth_root(&matrix, 2).map(|(root, _)| root))?;
        refused(
            "per_example_global_norm_clip",
            per_example_global_norm_clip(x, 0.1).and_then(|(x, _)| x.get()),
        )?;
        refused("global_norm", global_norm(x).and_then(|norm| Ok(Tensor::new(norm, device())?)))?;
        let mut inner = x.clone();
        let mut optimizer = Optimizer::new(sgd(0.1)).init(&inner)?;
        let (_, gradient) = inner.value_and_grad(Parameter, |x| Ok(x.get()?.powf(3.)?.sum_all()?))?;
        // The step of MAML: neither zero nor first order.
        refused("update", optimizer.update(&gradient, &mut inner).and_then(|()| inner.get()))?;
        Ok(matrix.sum_all()?)
    })?;
    Ok(())
}

fn main() {
    enable_nested_gradients().unwrap();
    let rows: Vec<_> = [elementwise_rows(), class_rows(), projection_rows()].into_iter().flatten().collect();
    let names: BTreeSet<_> = rows.iter().map(|(name, _)| *name).collect();
    let complete = Trial::test("every_name_has_a_row", move || every_name_has_a_row(&names));
    let by_hand: [Row; 5] = [
        ("huber_by_hand", Box::new(huber_by_hand)),
        ("sparsemax_by_hand", Box::new(sparsemax_by_hand)),
        ("ctc_agrees_with_its_reference", Box::new(ctc_agrees_with_its_reference)),
        ("scaled_twice", Box::new(scaled_twice)),
        ("no_silent_constants", Box::new(no_silent_constants)),
    ];
    let check = |(name, run): Row| Trial::test(name, move || run().map_err(|error| error.to_string().into()));
    let tests = rows.into_iter().chain(by_hand).map(check).chain([complete]).collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}
