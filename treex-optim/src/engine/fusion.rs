//! Rules that are fused into the loop of the rule before or after them.

/// A rule simple enough to fuse.
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
