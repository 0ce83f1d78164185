//! The switch of modules that behave differently in training.

/// A constant without leaves that [`train`](crate::Tree::train), [`eval`](crate::Tree::eval),
/// [`freeze`](crate::Tree::freeze) and [`unfreeze`](crate::Tree::unfreeze) write through a whole tree.
///
/// A module with a field `mode: Mode` asks [`is_training`](Self::is_training).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    pub(crate) training: bool,
    pub(crate) frozen: bool,
}

impl Mode {
    /// Whether to behave as in training: set to train, and not frozen.
    #[must_use]
    pub fn is_training(self) -> bool {
        self.training && !self.frozen
    }

    /// Whether `freeze` stopped this module's state and noise.
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
