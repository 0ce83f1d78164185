//! What a transformation does to the size of a step, from which the learning rate follows.

/// What a transformation does to the size of a leaf's next step, as far as this is known before it; see
/// [`GradientTransformation::step_size`](crate::GradientTransformation::step_size).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSize {
    /// The factor, if it is known before the step.
    factor: Option<f64>,
    /// Whether a learning rate is among the factors.
    has_rate: bool,
    /// Whether the size of the updates that come in is lost.
    absorbs: bool,
    /// Whether the leaf is not part of the step.
    dropped: bool,
}

impl StepSize {
    /// A direction of its own, in which a factor on the incoming updates is not found again: Adam's.
    #[must_use]
    pub fn direction() -> Self {
        Self { absorbs: true, ..Self::times(1.) }
    }

    /// Updates times a number that is no learning rate; 1 for those that pass, and for sums and averages of them.
    /// The sign does not count.
    #[must_use]
    pub fn times(factor: f64) -> Self {
        Self { factor: Some(factor.abs()), has_rate: false, absorbs: false, dropped: false }
    }

    /// Updates times the learning rate, whichever sign they get.
    #[must_use]
    pub fn learning_rate(rate: f64) -> Self {
        Self { factor: Some(rate), has_rate: true, absorbs: false, dropped: false }
    }

    /// Updates times a number that only the step finds: from the gradient, or the value of the loss.
    #[must_use]
    pub fn unknown() -> Self {
        Self { factor: None, ..Self::times(1.) }
    }

    /// No step: the leaf stays as it is.
    #[must_use]
    pub fn dropped() -> Self {
        Self { dropped: true, ..Self::times(1.) }
    }

    /// This, and `next` behind it in a chain.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        if next.absorbs && !self.has_rate && !self.dropped {
            return next;
        }
        Self {
            factor: self.factor.zip(next.factor).map(|(factor, next)| factor * next),
            has_rate: self.has_rate || next.has_rate,
            absorbs: self.absorbs || next.absorbs,
            dropped: self.dropped || next.dropped,
        }
    }

    /// The learning rate, if there is one and it is known.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        self.factor.filter(|_| self.has_rate)
    }

    pub(crate) fn is_dropped(self) -> bool {
        self.dropped
    }

    /// Whether this is a known factor other than 1, or a learning rate: what a condition on the step would change.
    pub(crate) fn changes_size(self) -> bool {
        self.has_rate || self.factor != Some(1.)
    }
}
