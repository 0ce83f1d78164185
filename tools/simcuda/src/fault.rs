//! What a kernel did wrong.

use std::fmt;

/// Why a kernel was stopped. As on a device, the context is lost with it: each later call of the driver answers with the
/// same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which rule was broken.
    pub kind: FaultKind,
    /// What happened, in words: address, size, what is there.
    pub message: String,
    /// Where: kernel, block, thread and instruction, as far as they are known.
    pub place: String,
}

/// The rule that a kernel broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An access outside of any allocation, or to one that was freed.
    IllegalAddress,
    /// An address that is no multiple of the size of the access.
    Misaligned,
    /// An instruction that this device does not have; it is named.
    IllegalInstruction,
    /// `__assertfail`, or `trap`.
    Assert,
    /// A read of shared memory that no thread has written.
    UninitializedShared,
    /// A use of global memory that nothing has written: no kernel, copy or fill.
    UninitializedGlobal,
    /// Two threads of a block at one place in memory, one of which writes, without a barrier between them.
    Race,
    /// A barrier, shuffle or vote that some of the lanes it names never reach.
    Deadlock,
    /// More instructions than a launch may run.
    TimeOut,
}

impl FaultKind {
    /// The `CUresult` that the driver answers with.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::IllegalAddress => 700,
            Self::TimeOut => 702,
            Self::Assert => 710,
            Self::IllegalInstruction => 715,
            Self::Misaligned => 716,
            // A device does not notice these; here they stop it.
            Self::UninitializedShared | Self::UninitializedGlobal | Self::Race | Self::Deadlock => 719,
        }
    }
}

impl Fault {
    /// A fault at a place that the caller adds.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), place: String::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        if self.place.is_empty() { Ok(()) } else { write!(f, ", at {}", self.place) }
    }
}

impl std::error::Error for Fault {}
