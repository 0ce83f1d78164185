//! The axes and elements that a loss sums over.

use candle_core::{D, DType, Tensor};
use treex_core::size::check_size;
use treex_core::{Error, Result};

use crate::transfer::constant_like;

/// The axes and elements that a loss sums over: `axis` and `where` in Optax. Default: the last axis, all elements.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use treex_optim::losses::{Over, softmax_cross_entropy, softmax_cross_entropy_with};
///
/// let logits = Tensor::new(&[[0f32, 3.], [1., 5.], [9., 9.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[[1f32, 0.], [0., 1.], [0., 0.]], &Device::Cpu)?;
/// assert_eq!(softmax_cross_entropy(&logits, &labels)?.dims(), [3]);
///
/// // Classes are rows here, and the mask excludes the last one.
/// let classes = Tensor::new(&[[1u8, 1], [1, 1], [0, 0]], &Device::Cpu)?;
/// let loss = softmax_cross_entropy_with(&logits, &labels, &Over::axis(0).mask(&classes))?;
/// assert_eq!(loss.to_vec1::<f32>()?, [(1. + 1f32.exp()).ln(), (1. + (-2f32).exp()).ln()]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Over<'a> {
    axes: Axes,
    mask: Option<&'a Tensor>,
}

#[derive(Clone, Debug, Default)]
enum Axes {
    #[default]
    Last,
    These(Vec<i64>),
    All,
}

impl<'a> Over<'a> {
    /// One axis; -1 is the last.
    #[must_use]
    pub fn axis(axis: i64) -> Self {
        Self::axes([axis])
    }

    /// Several axes, flattened in this order.
    #[must_use]
    pub fn axes(axes: impl IntoIterator<Item = i64>) -> Self {
        Self { axes: Axes::These(axes.into_iter().collect()), mask: None }
    }

    /// All axes.
    #[must_use]
    pub fn all() -> Self {
        Self { axes: Axes::All, mask: None }
    }

    /// Only elements where `mask`, of any element type, is not 0. Its shape is that of the summed tensor, or 1 in some
    /// dimensions, where it broadcasts; or that of the result, to select whole rows.
    #[must_use]
    pub fn mask(self, mask: &'a Tensor) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// The axes and the mask resolved for tensors of the shape of `x`.
    pub(super) fn of(&self, loss: &str, x: &Tensor) -> Result<Rows> {
        let rank = x.rank();
        let axes = match &self.axes {
            Axes::Last => vec![-1],
            Axes::These(axes) => axes.clone(),
            Axes::All => (0..rank as i64).collect(),
        };
        let mut resolved = Vec::with_capacity(axes.len());
        for &axis in &axes {
            let from_left = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis });
            match from_left {
                Ok(index) if index < rank && !resolved.contains(&index) => resolved.push(index),
                _ => {
                    return Err(Error::argument(format!("`{loss}` cannot sum over the axes {axes:?}"))
                        .expected(format!("different axes of shape {:?}", x.dims()))
                        .found(axis)
                        .remedy("negative axes count from the end"));
                }
            }
        }
        // Rows without elements have sums too, perhaps more of them than any memory holds.
        let sums: Vec<usize> =
            (0..rank).filter(|axis| !resolved.contains(axis)).map(|axis| x.dims()[axis]).collect();
        check_size(&sums.into(), DType::F64)?;
        let mut rows = Rows { axes: resolved, mask: None };
        if let Some(mask) = self.mask {
            let mask = aligned_mask(loss, mask, x, &rows.axes)?;
            rows.mask = Some(rows.arrange(&mask)?.contiguous()?);
        }
        Ok(rows)
    }
}

/// The mask as `u8` in the shape of `x`.
fn aligned_mask(loss: &str, mask: &Tensor, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let result: Vec<usize> =
        (0..x.rank()).filter(|axis| !axes.contains(axis)).map(|axis| x.dims()[axis]).collect();
    let fits = mask.rank() == x.rank() && mask.dims().iter().zip(x.dims()).all(|(m, n)| m == n || *m == 1);
    let mut whole = mask.clone();
    if !fits && mask.dims() == result {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        for axis in sorted {
            whole = whole.unsqueeze(axis)?;
        }
    } else if !fits {
        return Err(Error::shape(format!("`{loss}` got a mask that does not fit"))
            .expected(format!("shape {:?}, or {result:?} for whole rows", x.dims()))
            .found(format!("{:?}", mask.dims()))
            .remedy("`unsqueeze` it; a mask broadcasts only along lengths of 1"));
    }
    Ok(whole.ne(&whole.zeros_like()?)?.broadcast_as(x.shape())?)
}

/// [`Over`] for one shape: tensors of that shape become `[.., n]`, with the summed axes flattened at the end.
pub(super) struct Rows {
    pub(super) axes: Vec<usize>,
    /// Arranged as rows, in `u8`.
    mask: Option<Tensor>,
}

impl Rows {
    /// `x` with the summed axes flattened at the end.
    pub(super) fn arrange(&self, x: &Tensor) -> Result<Tensor> {
        if let [axis] = self.axes[..]
            && axis + 1 == x.rank()
        {
            return Ok(x.clone());
        }
        let mut order: Vec<usize> = (0..x.rank()).filter(|axis| !self.axes.contains(axis)).collect();
        let mut dims: Vec<usize> = order.iter().map(|&axis| x.dims()[axis]).collect();
        dims.push(self.axes.iter().map(|&axis| x.dims()[axis]).product());
        order.extend(&self.axes);
        Ok(x.permute(order)?.reshape(dims)?)
    }

    /// Whether there is no mask.
    pub(super) fn is_whole(&self) -> bool {
        self.mask.is_none()
    }

    /// The rows, with 0 where the mask is 0.
    pub(super) fn only(&self, rows: &Tensor) -> Result<Tensor> {
        match &self.mask {
            Some(mask) => Ok(mask.where_cond(rows, &rows.zeros_like()?)?),
            None => Ok(rows.clone()),
        }
    }

    /// The sum of each row.
    pub(super) fn sum(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(self.only(rows)?.sum(D::Minus1)?)
    }

    /// The number of selected elements of each row, `[.., 1]`; `None` without a mask.
    pub(super) fn counts(&self, dtype: DType) -> Result<Option<Tensor>> {
        let count = |mask: &Tensor| Ok(mask.to_dtype(dtype)?.sum_keepdim(D::Minus1)?);
        self.mask.as_ref().map(count).transpose()
    }

    /// `sums`, with 0 for rows without a selected element.
    pub(super) fn or_zero(&self, sums: &Tensor) -> Result<Tensor> {
        match self.counts(DType::F32)? {
            Some(counts) => {
                let any = counts.squeeze(D::Minus1)?.gt(0f32)?;
                Ok(any.where_cond(sums, &sums.zeros_like()?)?)
            }
            None => Ok(sums.clone()),
        }
    }

    /// The rows minus their maximum, so that no exponential overflows, and the logarithm of the sum of their
    /// exponentials, `[.., 1]`. The maximum cancels in every loss, so it is not differentiated. An empty batch has no
    /// maximum; for a row without a selected element the two are the row and 0.
    pub(super) fn shifted(&self, rows: &Tensor) -> Result<(Tensor, Tensor)> {
        if rows.elem_count() == 0 {
            return Ok((rows.clone(), rows.sum_keepdim(D::Minus1)?));
        }
        let Some(mask) = &self.mask else {
            let shifted = rows.broadcast_sub(&rows.detach().max_keepdim(D::Minus1)?)?;
            let normalizer = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
            return Ok((shifted, normalizer));
        };
        let never = constant_like(f64::NEG_INFINITY, rows)?;
        let largest = mask.where_cond(&rows.detach(), &never)?.max_keepdim(D::Minus1)?;
        let none = mask.to_dtype(rows.dtype())?.max_keepdim(D::Minus1)?.affine(-1., 1.)?;
        let largest = none.gt(0f64)?.where_cond(&largest.zeros_like()?, &largest)?;
        let shifted = rows.broadcast_sub(&largest)?;
        let sum = mask.where_cond(&shifted, &never)?.exp()?.sum_keepdim(D::Minus1)?;
        Ok((shifted, (sum + none)?.log()?))
    }

    /// `log(softmax(rows))`, some finite number where the mask is 0.
    pub(super) fn log_softmax(&self, rows: &Tensor) -> Result<Tensor> {
        let (shifted, normalizer) = self.shifted(rows)?;
        Ok(self.only(&shifted)?.broadcast_sub(&normalizer)?)
    }
}
