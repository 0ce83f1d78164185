//! The options of the CTC loss.

/// The options of [`ctc_loss_with_forward_probs`](super::ctc_loss_with_forward_probs).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ctc {
    pub(super) blank_id: usize,
    pub(super) log_epsilon: f64,
}

impl Default for Ctc {
    /// `blank_id = 0`, `log_epsilon = -1e5`.
    fn default() -> Self {
        Self { blank_id: 0, log_epsilon: -1e5 }
    }
}

impl Ctc {
    /// The blank class.
    #[must_use]
    pub fn blank_id(self, blank_id: usize) -> Self {
        Self { blank_id, ..self }
    }

    /// The value used for the logarithm of 0.
    #[must_use]
    pub fn log_epsilon(self, log_epsilon: f64) -> Self {
        Self { log_epsilon, ..self }
    }
}
