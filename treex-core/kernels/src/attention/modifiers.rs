//! What is done to scores before their softmax and to weights after it, one row of a tile at a time.

use super::sizes::Sizes;
use super::view::StridedView;
use crate::error::Result;
use crate::float::Float;
use crate::math::Real;

/// Partial maxima and sums of a row: a fixed number, so that the order of a sum is the same on every machine.
pub(super) const LANES: usize = 16;

/// The first score of a row of a tile: `[item, head, query, key]`.
pub(super) type Position = [usize; 4];

/// What modifies scores and weights. Views are `[batch, heads, queries, keys]`, and their last stride may be 0.
#[derive(Clone, Debug)]
pub struct Modifiers<'a, T: Float> {
    /// Added to scores.
    pub bias: Option<StridedView<'a, T>>,
    /// Where it is 0, the score becomes the lowest finite number: not minus infinity, so that a row that is masked
    /// altogether has equal weights.
    pub mask: Option<StridedView<'a, u8>>,
    /// Masks keys with a larger index than the query's.
    pub causal: bool,
    /// 0 where a weight is dropped, and the factor of the others, rounded to the element type.
    pub dropout: Option<(StridedView<'a, u8>, f32)>,
}

impl<T: Float> Modifiers<'_, T> {
    pub(super) fn check(&self, s: &Sizes) -> Result<()> {
        let sizes = [s.heads, s.queries, s.keys];
        self.bias.as_ref().map_or(Ok(()), |bias| bias.check(s.batch, sizes, true))?;
        self.mask.as_ref().map_or(Ok(()), |mask| mask.check(s.batch, sizes, true))?;
        self.dropout.as_ref().map_or(Ok(()), |(kept, _)| kept.check(s.batch, sizes, true))
    }

    /// The score of a masked key.
    #[inline(always)]
    pub(super) fn masked(&self) -> T::Wide {
        let is_f64 = size_of::<T::Wide>() == size_of::<f64>();
        T::Wide::of(if is_f64 { f64::MIN } else { f32::MIN.into() })
    }

    /// How many keys, from the first on, queries up to `last` attend to, unless a row is masked altogether.
    pub(super) fn visible_keys(&self, last: usize, keys: usize) -> usize {
        if self.causal { keys.min(last + 1) } else { keys }
    }

    /// Applies bias and masks to the first `len` scores of a row, and sets the rest to minus infinity.
    #[inline(always)]
    pub(super) fn adjust_scores(&self, row: &mut [T::Wide], len: usize, [item, head, query, key]: Position) {
        let (row, rest) = row.split_at_mut(len);
        rest.fill(T::Wide::of(f64::NEG_INFINITY));
        if let Some(bias) = &self.bias {
            zip(row, bias.row(item, [head, query, key], len), |score, bias: T| score + bias.widen());
        }
        if let Some(mask) = &self.mask {
            let hide = |score, visible| if visible == 0 { self.masked() } else { score };
            zip(row, mask.row(item, [head, query, key], len), hide);
        }
        if self.causal {
            row[(query + 1).saturating_sub(key).min(len)..].fill(self.masked());
        }
    }

    /// Sets the gradients of masked scores, which are constants, to 0, also where those of the weights are NaN.
    #[inline(always)]
    pub(super) fn hide_gradients(&self, row: &mut [T::Wide], len: usize, [item, head, query, key]: Position) {
        let zero = T::Wide::of(0.);
        let row = &mut row[..len];
        if let Some(mask) = &self.mask {
            let hide = |gradient, visible| if visible == 0 { zero } else { gradient };
            zip(row, mask.row(item, [head, query, key], len), hide);
        }
        if self.causal {
            row[(query + 1).saturating_sub(key).min(len)..].fill(zero);
        }
    }

    /// Applies dropout to the first `len` weights of a row, or to their gradients.
    #[inline(always)]
    pub(super) fn drop_weights(&self, row: &mut [T::Wide], len: usize, [item, head, query, key]: Position) {
        if let Some((kept, scale)) = &self.dropout {
            let scale = T::narrow(T::Wide::of(f64::from(*scale))).widen();
            let drop = |weight: T::Wide, kept| if kept == 0 { T::Wide::of(0.) } else { weight * scale };
            zip(&mut row[..len], kept.row(item, [head, query, key], len), drop);
        }
    }
}

/// `a = f(a, b)`, where a single `b` is broadcast.
#[inline(always)]
fn zip<A: Copy, B: Copy>(a: &mut [A], b: &[B], f: impl Fn(A, B) -> A) {
    if let [b] = b {
        a.iter_mut().for_each(|a| *a = f(*a, *b));
    } else {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = f(*a, *b));
    }
}

/// The exponential of a score's difference from the maximum of its row, flushed to 0 where it is below the smallest
/// normal `f32`: processors take a hundred times as long for subnormal numbers.
#[inline(always)]
pub(super) fn exp_flushed<R: Real>(difference: R) -> R {
    let least = R::of(-87.);
    let weight = (if difference < least { least } else { difference }).exp();
    if difference < least { R::of(0.) } else { weight }
}
