//! Clipping of each unit in proportion to its weights.

use candle_core::Tensor;
use treex_core::extrema::maximum;
use treex_core::{Error, Leaves, Result};

use crate::engine::Updates;
use crate::numerics::{check_not_negative, each_update, leaf_at};
use crate::transformation::Stateless;

/// See [`adaptive_grad_clip`].
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveGradClip {
    clipping: f64,
    eps: f64,
    axes: Option<Vec<usize>>,
}

/// Shrinks the gradient of each unit to at most `clipping` times the norm of its weights:
///
/// ```text
/// most = clipping * max(norm(p), eps)
/// u    = g                                    where norm(g) < most
///        g * most / max(norm(g), 1e-6)        elsewhere
/// ```
///
/// with `eps = 1e-3`. A unit is the weights of one output in Flax's layouts: norms are over the inputs of a
/// kernel. For a matrix, and for three dimensions as in an attention's projections, that is axis 0; for four
/// and five, as in convolutions, all but the last; a leaf with one dimension or none, those of size 1 apart,
/// is one unit. Leaves with more dimensions need [`axis`](AdaptiveGradClip::axis).
///
/// Brock et al., [High-performance large-scale image recognition without
/// normalization](https://arxiv.org/abs/2102.06171), 2021.
#[must_use]
pub fn adaptive_grad_clip(clipping: f64) -> AdaptiveGradClip {
    AdaptiveGradClip { clipping, eps: 1e-3, axes: None }
}

builder!(AdaptiveGradClip {
    /// The smallest norm of weights, so that zeros can be trained.
    eps: f64,
});

impl Stateless for AdaptiveGradClip {
    fn check(&self, params: &Leaves) -> Result<()> {
        check_not_negative("clipping", self.clipping)?;
        check_not_negative("eps", self.eps)?;
        for (index, param) in params.iter().enumerate() {
            let dims = params.get(index).map(Tensor::dims).unwrap_or_default();
            self.reduced(dims).map_err(|error| error.at(param.segments()))?;
        }
        Ok(())
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        Ok(updates.each_step(|updates, params| {
            each_update(&updates, |index, g| self.clipped(g, leaf_at(params, index)?))
        }))
    }
}

impl AdaptiveGradClip {
    /// The axes of every norm, instead of those chosen by the rank.
    #[must_use]
    pub fn axis(self, axis: impl Into<Vec<usize>>) -> Self {
        Self { axes: Some(axis.into()), ..self }
    }

    fn reduced(&self, dims: &[usize]) -> Result<Vec<usize>> {
        let rank = dims.len();
        match &self.axes {
            _ if rank == 0 => Ok(Vec::new()),
            Some(axes) if axes.iter().all(|&axis| axis < rank) => Ok(axes.clone()),
            Some(axes) => Err(Error::argument("`axis` is out of range for a parameter")
                .expected(format!("axes of a parameter with shape {dims:?}"))
                .found(format!("{axes:?}"))),
            None if dims.iter().filter(|&&dim| dim != 1).count() <= 1 => Ok((0..rank).collect()),
            None if rank <= 3 => Ok(vec![0]),
            None if rank <= 5 => Ok((0..rank - 1).collect()),
            None => Err(Error::shape("the unit axes of a parameter are ambiguous")
                .expected("at most 5 dimensions")
                .found(format!("{dims:?}"))
                .remedy("name the axes of one unit: `adaptive_grad_clip(0.01).axis([0, 1])`")),
        }
    }

    fn clipped(&self, g: &Tensor, p: &Tensor) -> Result<Tensor> {
        let axes = self.reduced(g.dims())?;
        let norm = |x: &Tensor| -> Result<Tensor> { Ok(x.sqr()?.sum_keepdim(axes.as_slice())?.sqrt()?) };
        let norm_g = norm(g)?;
        let most = (maximum(&norm(p)?, self.eps)? * self.clipping)?;
        let factor = (&most / maximum(&norm_g, 1e-6)?)?;
        let factor = norm_g.lt(&most)?.where_cond(&factor.ones_like()?, &factor)?;
        Ok(g.broadcast_mul(&factor)?)
    }
}
