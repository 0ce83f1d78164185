//! Rules that need no loop of their own.

/// All that some rules do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fusable {
    /// `u * factor`.
    Scale(f64),
    /// `u + p * factor`.
    Decay(f64),
}

impl Fusable {
    pub(crate) fn scale(self) -> Option<f64> {
        if let Self::Scale(factor) = self { Some(factor) } else { None }
    }

    pub(crate) fn decay(self) -> Option<f64> {
        if let Self::Decay(factor) = self { Some(factor) } else { None }
    }
}

/// What a loop does to each element beside its rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fused {
    /// A factor of `u` before the rule.
    pub(crate) before: f64,
    /// The part of `p` that is added to `u` after it.
    pub(crate) decay: Option<f64>,
    /// A factor of `u` after that.
    pub(crate) after: f64,
}
