//! Which losses are compared with Optax: a row for each case.

use super::*;

/// A row of the table below: the name of the case, and the call.
macro_rules! cases {
    ($(($name:expr, |$args:ident| $call:expr),)*) => {
        vec![$(($name, (|$args| Ok(vec![$call?])) as Call)),*]
    };
}

/// The rows of a mask of the fixture's script.
pub(super) fn mask(rows: &[&[u8]]) -> Tensor {
    Tensor::new(rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>(), device()).unwrap()
}

pub(super) fn mask_of_3() -> Tensor {
    mask(&[&[1, 0, 1, 1], &[1, 1, 1, 1], &[0, 0, 0, 1], &[1, 1, 1, 1], &[0, 0, 1, 1], &[1, 1, 0, 0]])
        .reshape((2, 3, 4))
        .unwrap()
}

pub(super) fn whole_rows() -> Tensor {
    mask(&[&[1, 0, 1], &[1, 1, 0]])
}

pub(super) fn items() -> Tensor {
    mask(&[&[1, 1, 0, 1], &[1, 1, 1, 1], &[0, 0, 0, 0]])
}

pub(super) fn weights() -> Tensor {
    Tensor::new(&[[1f64, 2., 0.5, 1.], [1., 1., 1., 0.1], [2., 2., 2., 2.]], device()).unwrap()
}

/// `losses.json`: options, masks, ties, infinities and other edges.
pub(super) fn edges() -> Vec<(&'static str, Call)> {
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
            let weights = Tensor::new(&[0.5f64, 1., 2., 0.1], device())?;
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

/// `optax.json`: one basic case of each, of the fixture's `x`.
pub(super) fn plain() -> Vec<(&'static str, Call)> {
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
            let targets = Tensor::new(&[[0.2f64, 0.5, 0.3], [0.1, 0.3, 0.6]], device())?;
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
            ntxent(&Tensor::stack(&more, 0)?, &Tensor::new(&[0u32, 1, 0, 1], device())?)
        }),
        ("triplet_margin_loss", |a| triplet_margin_loss(&a[0], &other("targets"), &other("binary"))),
    ]
}

/// The remaining cases of the fixture.
pub(super) fn other(name: &str) -> Tensor {
    tensor(&fixture!("optax.json")["losses"][name])
}

pub(super) fn int_labels() -> Tensor {
    other("int_labels").to_dtype(DType::U32).unwrap()
}

pub(super) fn one_hot(args: &[Tensor]) -> Tensor {
    Tensor::new(&[[0f64, 0., 1.], [0., 1., 0.]], device()).unwrap().to_dtype(args[0].dtype()).unwrap()
}

pub(super) fn log_softmax(x: &Tensor) -> Tensor {
    x.broadcast_sub(&x.log_sum_exp(1).unwrap().unsqueeze(1).unwrap()).unwrap()
}
