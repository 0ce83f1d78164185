//! Losses over the overlap of regions.

use candle_core::{D, Tensor};
use treex_core::size::check_size;
use treex_core::{Error, Result};

use super::math::sigmoid;
use super::{Over, Reduction, aligned};
use crate::transfer::to_vec_f64;

/// The options of [`dice_loss_with`] and of the other Dice losses.
#[derive(Clone, Debug)]
pub struct Dice<'a> {
    class_weights: Option<&'a Tensor>,
    smooth: f64,
    alpha: f64,
    beta: f64,
    apply_softmax: bool,
    reduction: Reduction,
    ignore_background: bool,
    axes: Option<Vec<i64>>,
}

impl Default for Dice<'_> {
    /// `smooth = 1`, `alpha = beta = 0.5`, of logits, the mean over the classes, for each batch element.
    fn default() -> Self {
        Self {
            class_weights: None,
            smooth: 1.,
            alpha: 0.5,
            beta: 0.5,
            apply_softmax: true,
            reduction: Reduction::Mean,
            ignore_background: false,
            axes: None,
        }
    }
}

impl<'a> Dice<'a> {
    /// The weight of each class; `[classes]`.
    #[must_use]
    pub fn class_weights(self, class_weights: &'a Tensor) -> Self {
        Self { class_weights: Some(class_weights), ..self }
    }

    /// Added to numerator and denominator.
    #[must_use]
    pub fn smooth(self, smooth: f64) -> Self {
        Self { smooth, ..self }
    }

    /// The weight of false positives.
    #[must_use]
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// The weight of false negatives.
    #[must_use]
    pub fn beta(self, beta: f64) -> Self {
        Self { beta, ..self }
    }

    /// Whether predictions are logits; else they are probabilities. Of a single class the softmax is a
    /// sigmoid: this is also `apply_sigmoid` of Optax.
    #[must_use]
    pub fn apply_softmax(self, apply_softmax: bool) -> Self {
        Self { apply_softmax, ..self }
    }

    /// The reduction over classes.
    #[must_use]
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Whether to ignore the first class, if there are more.
    #[must_use]
    pub fn ignore_background(self, ignore_background: bool) -> Self {
        Self { ignore_background, ..self }
    }

    /// The axes of a region. Default: all but the first and the last.
    #[must_use]
    pub fn axes(self, axes: impl IntoIterator<Item = i64>) -> Self {
        Self { axes: Some(axes.into_iter().collect()), ..self }
    }
}

/// [`dice_loss_with`] the default options: `[batch, .., classes]` twice to `[batch]`.
///
/// # Errors
/// As `dice_loss_with`.
pub fn dice_loss(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    dice_loss_with(predictions, targets, &Dice::default())
}

/// One minus the overlap of the predicted and the target region of a class:
///
/// ```text
/// i = sum(p * t)
/// 1 - (i + smooth) / (i + alpha * (sum(p) - i) + beta * (sum(t) - i) + smooth)
/// ```
///
/// with sums over a region and `p` the softmax of the predictions over the classes in the last axis, or the
/// sigmoid if there is one class. Then the classes are reduced, over the last axis. If one of the two has one
/// axis less, an axis of one class is added.
///
/// Milletari et al., [V-Net](https://arxiv.org/abs/1606.04797), 2016; with other `alpha` and `beta`, Salehi
/// et al., [Tversky loss](https://arxiv.org/abs/1706.05721), 2017.
///
/// # Errors
/// If shapes or element types differ or are not floats, class weights or axes do not fit, or (on the CPU,
/// where the check is free) probabilities of more than one class do not sum to 1.
pub fn dice_loss_with(predictions: &Tensor, targets: &Tensor, options: &Dice<'_>) -> Result<Tensor> {
    let name = "dice_loss";
    let (mut predictions, mut targets) = (predictions.clone(), targets.clone());
    if predictions.rank() + 1 == targets.rank() {
        predictions = predictions.unsqueeze(D::Minus1)?;
    } else if targets.rank() + 1 == predictions.rank() {
        targets = targets.unsqueeze(D::Minus1)?;
    }
    let (predictions, targets) = aligned(name, ("predictions", &predictions), ("targets", &targets))?;
    let p = probabilities(name, &predictions, options.apply_softmax)?;
    let axes = options.axes.clone().unwrap_or_else(|| (1..(p.rank() as i64 - 1).max(1)).collect());
    let region = Over::axes(axes).of(name, &p)?;
    let sum = |x: &Tensor| region.sum(&region.arrange(x)?);
    let (overlap, p, t) = (sum(&(&p * &targets)?)?, sum(&p)?, sum(&targets)?);
    let wrong = (((p - &overlap)? * options.alpha)? + ((t - &overlap)? * options.beta)?)?;
    let overlap = (overlap + options.smooth)?;
    let mut losses = (&overlap / (&overlap + wrong)?)?.affine(-1., 1.)?;
    let classes = losses.dim(D::Minus1)?;
    if let Some(weights) = options.class_weights {
        if weights.dims() != [classes] {
            return Err(Error::shape(format!("`{name}` got class weights that do not fit"))
                .expected(format!("shape [{classes}]: one for each class"))
                .found(format!("{:?}", weights.dims())));
        }
        losses = losses.broadcast_mul(&weights.to_dtype(losses.dtype())?)?;
    }
    if options.ignore_background && classes > 1 {
        let others = losses.narrow(D::Minus1, 1, classes - 1)?;
        // Candle panics where it reads a part of nothing.
        losses = if others.elem_count() == 0 { others.zeros_like()? } else { others };
    }
    Ok(match options.reduction {
        Reduction::None => losses,
        Reduction::Sum => losses.sum(D::Minus1)?,
        Reduction::Mean => losses.mean(D::Minus1)?,
    })
}

/// [`multiclass_generalized_dice_loss_with`] the default options: `[batch, .., classes]` twice to a scalar.
///
/// # Errors
/// As [`dice_loss_with`].
pub fn multiclass_generalized_dice_loss(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    multiclass_generalized_dice_loss_with(predictions, targets, &Dice::default())
}

/// The mean over batch and classes of [`dice_loss_with`] the class weights `1 / (sum(targets)^2 + 1e-7)`,
/// with sums over everything but the classes, scaled to a mean of 1: rare classes have the weight of
/// frequent ones. The options for class weights and reduction are ignored.
///
/// Sudre et al., [Generalised Dice overlap](https://arxiv.org/abs/1707.03237), 2017.
///
/// # Errors
/// As `dice_loss_with`.
pub fn multiclass_generalized_dice_loss_with(
    predictions: &Tensor,
    targets: &Tensor,
    options: &Dice<'_>,
) -> Result<Tensor> {
    let name = "multiclass_generalized_dice_loss";
    let (_, wide) = aligned(name, ("predictions", predictions), ("targets", targets))?;
    check_size(&wide.dims().last().copied().unwrap_or(1).into(), wide.dtype())?;
    let all_but_classes: Vec<usize> = (0..wide.rank().saturating_sub(1)).collect();
    let weights = (wide.sum(all_but_classes)?.sqr()? + 1e-7)?.recip()?;
    let weights = weights.broadcast_div(&weights.mean_all()?)?;
    let options = Dice { class_weights: Some(&weights), reduction: Reduction::None, ..options.clone() };
    Ok(dice_loss_with(predictions, targets, &options)?.mean_all()?)
}

/// [`binary_dice_loss_with`] the default options: `[batch, ..]` or `[batch, .., 1]` twice to `[batch]`.
///
/// # Errors
/// As [`dice_loss_with`].
pub fn binary_dice_loss(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    binary_dice_loss_with(predictions, targets, &Dice::default())
}

/// [`dice_loss_with`] of one class, whose axis may be omitted.
///
/// # Errors
/// As `dice_loss_with`.
pub fn binary_dice_loss_with(predictions: &Tensor, targets: &Tensor, options: &Dice<'_>) -> Result<Tensor> {
    if predictions.rank() == targets.rank() && predictions.dims().last() != Some(&1) {
        return dice_loss_with(&predictions.unsqueeze(D::Minus1)?, &targets.unsqueeze(D::Minus1)?, options);
    }
    dice_loss_with(predictions, targets, options)
}

/// Probabilities of the classes in the last axis.
fn probabilities(loss: &str, predictions: &Tensor, apply_softmax: bool) -> Result<Tensor> {
    let rows = Over::default().of(loss, predictions)?;
    let single = predictions.dims().last() == Some(&1);
    match (apply_softmax, single) {
        (true, true) => sigmoid(predictions),
        (true, false) => Ok(rows.log_softmax(predictions)?.exp()?),
        (false, false) if predictions.device().is_cpu() => {
            match to_vec_f64(&rows.sum(predictions)?)?.into_iter().find(|sum| (sum - 1.).abs() > 1e-5) {
                None => Ok(predictions.clone()),
                Some(sum) => Err(Error::argument(format!("`{loss}` got probabilities that do not sum to 1"))
                    .expected("a sum of 1 over the last axis")
                    .found(sum)
                    .remedy("leave `apply_softmax` on for logits")),
            }
        }
        (false, _) => Ok(predictions.clone()),
    }
}
