//! The channels of a convolution.

/// The channels of a convolution's input and output, and the groups into which both are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Of the input.
    pub cin: usize,
    /// Of the output.
    pub cout: usize,
    /// A divisor of both: each group of output channels reads the input channels of its own group.
    pub groups: usize,
}

impl Channels {
    pub(super) fn transposed(self) -> Self {
        Self { cin: self.cout, cout: self.cin, ..self }
    }

    /// Whether each channel is convolved by itself.
    pub(super) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.cin == self.groups && self.cout == self.groups
    }

    /// Input channels of a group.
    pub(super) fn per_group(&self) -> usize {
        self.cin / self.groups
    }
}
