//! Losses, on tensors, one file for each family.
//!
//! They have Optax's names and take its arguments in its order. Optax's keyword arguments are arguments of a
//! second function, whose name ends in `_with`: `axis` and `where` together are [`Over`], and a function with
//! more than two has a struct of options.
//!
//! | | |
//! |---|---|
//! | real numbers | [`squared_error`], [`l2_loss`], [`mse`], [`huber_loss`], [`log_cosh`], [`cosine_similarity`], [`cosine_distance`] |
//! | two classes | [`sigmoid_binary_cross_entropy`], [`sigmoid_focal_loss`], [`hinge_loss`], [`perceptron_loss`], [`sparsemax_loss`] |
//! | classes, as probabilities | [`softmax_cross_entropy`], [`softmax_cross_entropy_with_integer_labels`], [`safe_softmax_cross_entropy`], [`poly_loss_cross_entropy`], [`smooth_labels`] |
//! | classes, as scores | [`multiclass_hinge_loss`], [`multiclass_perceptron_loss`], [`multiclass_sparsemax_loss`], [`make_fenchel_young_loss`] |
//! | distributions | [`kl_divergence`], [`kl_divergence_with_log_targets`], [`generalized_kl_divergence`] |
//! | sequences and lists | [`ctc_loss`], [`ctc_loss_with_forward_probs`], [`ranking_softmax_loss`] |
//! | embeddings | [`ntxent`], [`triplet_margin_loss`] |
//! | regions | [`dice_loss`], [`multiclass_generalized_dice_loss`], [`binary_dice_loss`] |
//!
//! Most do not reduce over the batch: call `mean_all` on the result, or use them in a [`Loss`]. The docs of
//! those that reduce say so. Half-precision inputs give f32 losses, since a sum in half precision stops
//! growing early.

use candle_core::Tensor;
use treex_core::size::check_elements;
use treex_core::{Error, ErrorKind, Result};

use crate::numerics::wide;

mod binary;
mod classification;
mod cross_entropy;
mod ctc;
mod divergence;
mod fenchel_young;
mod labels;
pub(crate) mod math;
mod mse;
mod multiclass;
mod ranking;
mod reduction;
mod regression;
mod rows;
mod segmentation;
mod self_supervised;
mod smoothing;
mod tree;

pub use binary::{
    hinge_loss, perceptron_loss, sigmoid_binary_cross_entropy, sigmoid_focal_loss, sigmoid_focal_loss_with,
    sparsemax_loss,
};
pub use classification::{
    poly_loss_cross_entropy, poly_loss_cross_entropy_with, safe_softmax_cross_entropy, softmax_cross_entropy,
    softmax_cross_entropy_with, softmax_cross_entropy_with_integer_labels,
    softmax_cross_entropy_with_integer_labels_with,
};
pub use ctc::{Ctc, CtcForward, ctc_loss, ctc_loss_with_forward_probs};
pub use divergence::{
    generalized_kl_divergence, generalized_kl_divergence_with, kl_divergence, kl_divergence_with,
    kl_divergence_with_log_targets, kl_divergence_with_log_targets_with,
};
pub use fenchel_young::make_fenchel_young_loss;
pub use mse::mse;
pub use multiclass::{multiclass_hinge_loss, multiclass_perceptron_loss, multiclass_sparsemax_loss};
pub use ranking::{Ranking, ranking_softmax_loss, ranking_softmax_loss_with};
pub use reduction::Reduction;
pub use regression::{
    cosine_distance, cosine_distance_with, cosine_similarity, cosine_similarity_with, huber_loss,
    huber_loss_with, l2_loss, log_cosh, squared_error,
};
pub use rows::Over;
pub use segmentation::{
    Dice, binary_dice_loss, binary_dice_loss_with, dice_loss, dice_loss_with,
    multiclass_generalized_dice_loss, multiclass_generalized_dice_loss_with,
};
pub use self_supervised::{
    TripletMargin, ntxent, ntxent_with, triplet_margin_loss, triplet_margin_loss_with,
};
pub use smoothing::{smooth_labels, smooth_labels_with};
pub use tree::{Loss, Outputs};

/// Both in the compute type; an error unless they have the same shape and element type.
fn aligned(loss: &str, first: (&str, &Tensor), second: (&str, &Tensor)) -> Result<(Tensor, Tensor)> {
    check_shapes(loss, first, second)?;
    let ((name, first), (other, second)) = (first, second);
    if first.dtype() != second.dtype() {
        return Err(Error::new(
            ErrorKind::DType,
            format!("`{loss}` got {name} and {other} of different types"),
        )
        .expected(format!("{other} in `{}`, as the {name}", first.dtype().as_str()))
        .found(format!("`{}`", second.dtype().as_str()))
        .remedy("cast one of them with `to_dtype`"));
    }
    Ok((widened(loss, name, first)?, second.to_dtype(wide(second.dtype()))?))
}

/// Both in the compute type, with labels of any element type; an error unless they have the same shape.
fn labeled(loss: &str, first: (&str, &Tensor), labels: &Tensor) -> Result<(Tensor, Tensor)> {
    check_shapes(loss, first, ("labels", labels))?;
    let wide = widened(loss, first.0, first.1)?;
    let labels = labels.to_dtype(wide.dtype())?;
    Ok((wide, labels))
}

fn check_shapes(loss: &str, (name, first): (&str, &Tensor), (other, second): (&str, &Tensor)) -> Result<()> {
    if first.shape() == second.shape() {
        return Ok(());
    }
    Err(Error::shape(format!("`{loss}` got {name} and {other} of different shapes"))
        .expected(format!("{other} of shape {:?}, as the {name}", first.dims()))
        .found(format!("{:?}", second.dims()))
        .remedy("`reshape` or `unsqueeze` one of them; losses do not broadcast"))
}

/// In the compute type; an error unless these are floats.
fn widened(loss: &str, name: &str, tensor: &Tensor) -> Result<Tensor> {
    check_floats(loss, name, tensor)?;
    Ok(tensor.to_dtype(wide(tensor.dtype()))?)
}

fn check_floats(loss: &str, name: &str, tensor: &Tensor) -> Result<()> {
    check_elements(loss, tensor)?;
    if !tensor.dtype().is_float() {
        return Err(Error::new(ErrorKind::DType, format!("`{loss}` got {name} that are not floats"))
            .expected("a float type")
            .found(format!("`{}`", tensor.dtype().as_str()))
            .remedy("cast them with `to_dtype(DType::F32)?`"));
    }
    Ok(())
}
