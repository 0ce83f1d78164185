//! Label smoothing.

use candle_core::Tensor;
use treex_core::Result;

use super::{Over, widened};

/// `(1 - alpha) * labels + alpha / classes`, with the classes in the last axis: `[.., classes]` to the same,
/// in the labels' own element type.
///
/// Szegedy et al., [Rethinking the Inception Architecture](https://arxiv.org/abs/1512.00567), 2015.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let labels = Tensor::new(&[[0f32, 1.], [1., 0.]], &Device::Cpu)?;
/// let smooth = treex_optim::smooth_labels(&labels, 0.5)?;
/// assert_eq!(smooth.to_vec2::<f32>()?, [[0.25, 0.75], [0.75, 0.25]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If labels are not floats, or there is no axis of classes.
pub fn smooth_labels(labels: &Tensor, alpha: f64) -> Result<Tensor> {
    smooth_labels_with(labels, alpha, &Over::default())
}

/// [`smooth_labels`] with the classes in other axes than the last, or with a mask: `classes` is the number
/// of unmasked ones. Without any, labels are only scaled. (In Optax they become infinite.)
///
/// # Errors
/// As `smooth_labels`, and if the axes or the mask do not fit.
pub fn smooth_labels_with(labels: &Tensor, alpha: f64, over: &Over<'_>) -> Result<Tensor> {
    let name = "smooth_labels";
    let wide = widened(name, "labels", labels)?;
    let rows = over.of(name, &wide)?;
    let scaled = (&wide * (1. - alpha))?;
    let smooth = match rows.counts(wide.dtype())? {
        None => {
            let classes: usize = rows.axes.iter().map(|&axis| wide.dims()[axis]).product();
            (scaled + alpha / classes.max(1) as f64)?
        }
        Some(counts) => {
            let mut kept = wide.dims().to_vec();
            rows.axes.iter().for_each(|&axis| kept[axis] = 1);
            let none = counts.eq(&counts.zeros_like()?)?;
            let share = none.where_cond(&counts, &counts.recip()?)?.reshape(kept)?;
            scaled.broadcast_add(&(share * alpha)?)?
        }
    };
    Ok(smooth.to_dtype(labels.dtype())?)
}
