//! The flag of modules that behave differently in training.

/// A field without leaves, which [`train`](crate::Tree::train), [`eval`](crate::Tree::eval),
/// [`freeze`](crate::Tree::freeze) and [`unfreeze`](crate::Tree::unfreeze) set throughout a tree.
///
/// A module has a field `mode: Mode` and reads [`is_training`](Self::is_training).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    pub(crate) training: bool,
    pub(crate) frozen: bool,
}

impl Mode {
    /// Whether to behave as in training: in training mode and not frozen.
    #[must_use]
    pub fn is_training(self) -> bool {
        self.training && !self.frozen
    }

    /// Whether all own state of this module (without state: all its leaves) was frozen at the last `freeze` or
    /// `unfreeze`.
    #[must_use]
    pub fn is_frozen(self) -> bool {
        self.frozen
    }
}

/// Training mode.
impl Default for Mode {
    fn default() -> Self {
        Self { training: true, frozen: false }
    }
}
