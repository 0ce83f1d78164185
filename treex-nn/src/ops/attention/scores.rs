//! What is done to scores before their softmax and to weights after it, one row of a tile at a time.

use treex_core::autograd::Element;
use treex_kernels::math::Real;

use super::memory::View;

/// Sums and maxima are taken over so many elements side by side: the order of a sum is the same on every machine.
pub(super) const LANES: usize = 16;

/// Where a row lies: `[item, head, query, first key]`.
pub(super) type Place = [usize; 4];

/// How scores become weights.
pub(super) struct Scores<'a, T: Element> {
    pub(super) bias: Option<View<'a, T>>,
    pub(super) mask: Option<View<'a, u8>>,
    pub(super) causal: bool,
    /// Where weights are kept, and the factor of those.
    pub(super) kept: Option<(View<'a, u8>, T::Wide)>,
    /// The score of a hidden key: the lowest number, not minus infinity, so that all weigh the same where all are hidden.
    pub(super) hidden: T::Wide,
}

impl<T: Element> Scores<'_, T> {
    /// How many of the keys the queries up to `last` see, by their positions.
    pub(super) fn seen(&self, last: usize, keys: usize) -> usize {
        if self.causal { keys.min(last + 1) } else { keys }
    }

    /// Bias and masks on a row of scores, and minus infinity behind the first `len`.
    #[inline(always)]
    pub(super) fn adjust(&self, row: &mut [T::Wide], len: usize, [item, head, query, key]: Place) {
        let (row, rest) = row.split_at_mut(len);
        rest.fill(T::Wide::of(f64::NEG_INFINITY));
        if let Some(bias) = &self.bias {
            zip(row, bias.row(item, [head, query, key], len), |score, bias: T| score + bias.widen());
        }
        if let Some(mask) = &self.mask {
            let hide = |score, seen| if seen == 0 { self.hidden } else { score };
            zip(row, mask.row(item, [head, query, key], len), hide);
        }
        if self.causal {
            row[(query + 1).saturating_sub(key).min(len)..].fill(self.hidden);
        }
    }

    /// Dropout on the first `len` weights of a row, or on their gradients.
    #[inline(always)]
    pub(super) fn drop(&self, row: &mut [T::Wide], len: usize, [item, head, query, key]: Place) {
        if let Some((kept, scale)) = &self.kept {
            let drop = |weight: T::Wide, kept| if kept == 0 { T::Wide::of(0.) } else { weight * *scale };
            zip(&mut row[..len], kept.row(item, [head, query, key], len), drop);
        }
    }
}

/// `a = f(a, b)`, where one `b` may stand for all.
#[inline(always)]
fn zip<A: Copy, B: Copy>(a: &mut [A], b: &[B], f: impl Fn(A, B) -> A) {
    if let [b] = b {
        a.iter_mut().for_each(|a| *a = f(*a, *b));
    } else {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = f(*a, *b));
    }
}

/// The exponential of what a score is below the largest one of its row. What is less than the smallest normal `f32`
/// counts as nothing: processors take a hundred times as long for subnormal numbers.
#[inline(always)]
pub(super) fn weight<R: Real>(below: R) -> R {
    let least = R::of(-87.);
    let weight = (if below < least { least } else { below }).exp();
    if below < least { R::of(0.) } else { weight }
}
