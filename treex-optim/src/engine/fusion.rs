//! Rules that are fused into the loop of the rule before or after them.

use treex_kernels::expression::Expression;

/// A rule simple enough to fuse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fusable {
    /// `u * factor`.
    Scale(f64),
    /// `u + p * factor`.
    Decay(f64),
}

impl Fusable {
    /// The form of a rule's next update, where `u` is input 0 and `p` input 1.
    pub(crate) fn of(next: &Expression) -> Option<Self> {
        let decay = || next.as_sum_with(0)?.as_multiple_of(1).map(Self::Decay);
        next.as_multiple_of(0).map(Self::Scale).or_else(decay)
    }

    pub(crate) fn scale(self) -> Option<f64> {
        if let Self::Scale(factor) = self { Some(factor) } else { None }
    }

    pub(crate) fn decay(self) -> Option<f64> {
        if let Self::Decay(factor) = self { Some(factor) } else { None }
    }
}

/// The rules that were fused into a loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fused {
    /// A factor of `u` before the rule.
    pub(crate) before: f64,
    /// The multiple of `p` that is added to `u` after it.
    pub(crate) decay: Option<f64>,
    /// A factor of `u` after that.
    pub(crate) after: f64,
}
