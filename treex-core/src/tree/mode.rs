//! The switch of modules that behave differently in training.

/// A field without leaves that [`train`](crate::Tree::train), [`eval`](crate::Tree::eval),
/// [`freeze`](crate::Tree::freeze) and [`unfreeze`](crate::Tree::unfreeze) write throughout a tree.
///
/// A module with a field `mode: Mode` asks [`is_training`](Self::is_training).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    pub(crate) training: bool,
    pub(crate) frozen: bool,
}

impl Mode {
    /// Whether to behave as in training: switched to training, and not frozen.
    #[must_use]
    pub fn is_training(self) -> bool {
        self.training && !self.frozen
    }

    /// Whether this module's own state, or without state its leaves, are all frozen, as of the last `freeze` or
    /// `unfreeze`.
    #[must_use]
    pub fn is_frozen(self) -> bool {
        self.frozen
    }
}

/// A new module trains.
impl Default for Mode {
    fn default() -> Self {
        Self { training: true, frozen: false }
    }
}
