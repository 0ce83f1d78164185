//! Gradient clipping.

use candle_core::DType;
use treex_core::{Leaves, Result};

use crate::engine::{Squares, Updates};
use crate::numerics::{check_not_negative, global_norm_on_device};
use crate::transfer::{scalar_on, to_device_of};
use crate::transform::scale::Times;
use crate::transformation::Stateless;

/// See [`clip_by_global_norm`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClipByGlobalNorm {
    max_norm: f64,
}

/// Shrinks all updates by one factor so that their [`global_norm`](crate::global_norm) is at most `max_norm`:
///
/// ```text
/// n = global_norm(g)
/// u = g                   if n < max_norm, or n = 0
///     g / n * max_norm    otherwise
/// ```
///
/// As in Optax there is no epsilon, and NaN propagates: a NaN makes every update NaN, an infinity becomes
/// NaN and makes everything else zero. Zeros stay zeros with a `max_norm` of 0 too, where Optax divides 0 by 0.
/// PyTorch's `clip_grad_norm_` adds 1e-6 to `n`.
#[must_use]
pub fn clip_by_global_norm(max_norm: f64) -> ClipByGlobalNorm {
    ClipByGlobalNorm { max_norm }
}

impl Stateless for ClipByGlobalNorm {
    fn check(&self, _: &Leaves) -> Result<()> {
        check_not_negative("max_norm", self.max_norm)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        if updates.is_on_cuda() {
            return Ok(updates.tensors(|grads, _| clipped_on_device(&grads, self.max_norm)));
        }
        updates.measure(Squares, [], |squares| {
            let norm = squares.total(0).sqrt();
            Ok(Times(if norm < self.max_norm || norm == 0. { 1. } else { self.max_norm / norm }))
        })
    }
}

/// The same with the norm and the factor where the gradients are.
fn clipped_on_device(grads: &Leaves, max_norm: f64) -> Result<Leaves> {
    let norm = global_norm_on_device(grads)?;
    let max_norm = scalar_on(max_norm, DType::F64, norm.device())?;
    let stays = (norm.lt(&max_norm)? + norm.eq(&norm.zeros_like()?)?)?;
    let factor = stays.where_cond(&norm.ones_like()?, &(max_norm / &norm)?)?;
    grads.apply(|g| Ok(g.broadcast_mul(&to_device_of(&factor.to_dtype(g.dtype())?, g)?)?))
}
