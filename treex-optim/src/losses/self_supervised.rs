//! Losses over embeddings.

use candle_core::{DType, Tensor};
use treex_core::extrema::maximum;
use treex_core::{Error, Result};

use super::{Over, aligned, widened};

/// [`ntxent_with`] a temperature of 0.07.
///
/// # Errors
/// As `ntxent_with`.
pub fn ntxent(embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
    ntxent_with(embeddings, labels, 0.07)
}

/// The normalized temperature-scaled cross entropy: `[batch, features]`, `[batch]` to a scalar.
///
/// ```text
/// s[i, j] = cosine_similarity(embeddings[i], embeddings[j]) / temperature
/// -log(exp(s[i, j]) / (exp(s[i, j]) + sum(exp(s[i, k]) for labels[k] != labels[i])))
/// ```
///
/// averaged over all pairs `i != j` of the same label. Labels are of any element type. It is NaN without
/// such a pair. The mean square of an embedding is at least the epsilon of its element type.
///
/// Chen et al., [A Simple Framework for Contrastive Learning](https://arxiv.org/abs/2002.05709), 2020.
///
/// # Errors
/// If there are no embeddings or not one label for each, or embeddings are not floats.
pub fn ntxent_with(embeddings: &Tensor, labels: &Tensor, temperature: f64) -> Result<Tensor> {
    let wide = widened("ntxent", "embeddings", embeddings)?;
    let batch = match *wide.dims() {
        [batch, _] if batch > 0 && labels.dims() == [batch] => batch,
        _ => {
            return Err(Error::shape("`ntxent` got embeddings and labels that do not fit")
                .expected("embeddings of shape [batch, features], at least one, and labels of shape [batch]")
                .found(format!("{:?} and {:?}", embeddings.dims(), labels.dims()))
                .remedy("`flatten` the features into one axis"));
        }
    };
    let epsilon = if wide.dtype() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let norm = maximum(&wide.sqr()?.sum_keepdim(1)?, epsilon)?.sqrt()?;
    let unit = wide.broadcast_div(&norm)?;
    let similarities = (unit.matmul(&unit.t()?)? / temperature)?;

    let same = labels.unsqueeze(1)?.broadcast_eq(&labels.unsqueeze(0)?)?.to_dtype(wide.dtype())?;
    let itself = Tensor::eye(batch, wide.dtype(), wide.device())?;
    let (matches, differs) = ((&same - &itself)?, same.affine(-1., 1.)?);
    // Pairs of an embedding with itself are in neither set, and not part of the maximum, which prevents
    // overflow.
    let apart = (similarities.detach() - (itself * f64::from(f32::MAX))?)?;
    let shifted = similarities.broadcast_sub(&apart.max_keepdim(1)?)?;
    let zeros = shifted.zeros_like()?;
    let of = |pairs: &Tensor| pairs.gt(&zeros)?.where_cond(&shifted, &zeros);
    let (positive, negative) = (of(&matches)?, of(&differs)?);
    let denominator = positive.exp()?.broadcast_add(&(negative.exp()? * &differs)?.sum_keepdim(1)?)?;
    let log_softmax = (positive - denominator.log()?)?;
    Ok(((log_softmax * &matches)?.sum_all()?.neg()? / matches.sum_all()?)?)
}

/// The options of [`triplet_margin_loss_with`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TripletMargin {
    axis: i64,
    norm_degree: f64,
    margin: f64,
    eps: f64,
}

impl Default for TripletMargin {
    /// Over the last axis, `norm_degree = 2`, `margin = 1`, `eps = 1e-6`.
    fn default() -> Self {
        Self { axis: -1, norm_degree: 2., margin: 1., eps: 1e-6 }
    }
}

impl TripletMargin {
    /// The axis of the features; -1 is the last.
    #[must_use]
    pub fn axis(self, axis: i64) -> Self {
        Self { axis, ..self }
    }

    /// The power of the distance. As in Optax, differences may be negative under it, so it should be even.
    #[must_use]
    pub fn norm_degree(self, norm_degree: f64) -> Self {
        Self { norm_degree, ..self }
    }

    /// The margin between the distances of negatives and positives.
    #[must_use]
    pub fn margin(self, margin: f64) -> Self {
        Self { margin, ..self }
    }

    /// Added inside the root, so that the distance of equal vectors has a gradient.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }
}

/// [`triplet_margin_loss_with`] the default options: `[.., features]` thrice to `[..]`.
///
/// # Errors
/// As `triplet_margin_loss_with`.
pub fn triplet_margin_loss(anchors: &Tensor, positives: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    triplet_margin_loss_with(anchors, positives, negatives, TripletMargin::default())
}

/// The amount by which positives are not closer to the anchors than negatives by `margin`:
///
/// ```text
/// d(x) = (sum((anchors - x)^norm_degree) + eps)^(1 / norm_degree)
/// max(0, d(positives) - d(negatives) + margin)
/// ```
///
/// Balntas et al., [Learning shallow convolutional feature descriptors with triplet
/// losses](https://bmva-archive.org.uk/bmvc/2016/papers/paper119/abstract119.pdf), 2016.
///
/// # Errors
/// If shapes or element types differ or are not floats, or the axis does not exist.
pub fn triplet_margin_loss_with(
    anchors: &Tensor,
    positives: &Tensor,
    negatives: &Tensor,
    options: TripletMargin,
) -> Result<Tensor> {
    let name = "triplet_margin_loss";
    let TripletMargin { axis, norm_degree, margin, eps } = options;
    let distance = |what: &str, other: &Tensor| -> Result<Tensor> {
        let (anchors, other) = aligned(name, ("anchors", anchors), (what, other))?;
        let rows = Over::axis(axis).of(name, &anchors)?;
        let power = rows.arrange(&(anchors - other)?)?.powf(norm_degree)?;
        Ok((rows.sum(&power)? + eps)?.powf(1. / norm_degree)?)
    };
    let difference = (distance("positives", positives)? - distance("negatives", negatives)?)?;
    Ok(maximum(&(difference + margin)?, 0.)?)
}
