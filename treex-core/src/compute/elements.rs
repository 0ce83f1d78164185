//! What a tensor holds, read where it lies.

use std::fmt;
use std::ops::{Deref, Range};

use candle_core::{Storage, Tensor, WithDType};

use crate::error::{Error, ErrorKind, Result};

/// The elements of a tensor on the host, row-major, without a copy. The tensor cannot be written meanwhile.
pub struct Elements<'t> {
    /// Candle's lock, of which it does not hand out the type's name.
    storage: Box<dyn Deref<Target = Storage> + 't>,
    range: Range<usize>,
}

impl<'t> Elements<'t> {
    /// Those of `tensor`.
    ///
    /// # Errors
    /// If the tensor is a view with gaps: `contiguous` makes a copy without.
    pub fn of(tensor: &'t Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let (start, end) = layout.contiguous_offsets().ok_or_else(|| {
            Error::shape("a kernel got a tensor with gaps between its elements")
                .expected("contiguous memory")
                .found(format!("{layout:?}"))
        })?;
        Ok(Self { storage: Box::new(storage), range: start..end })
    }

    /// As a slice.
    ///
    /// # Errors
    /// If they are not on the host, or of another type.
    pub fn as_slice<T: WithDType>(&self) -> Result<&[T]> {
        match &**self.storage {
            Storage::Cpu(storage) => Ok(&storage.as_slice::<T>()?[self.range.clone()]),
            _ => Err(Error::new(ErrorKind::Argument, "a kernel for the host got a tensor of another device")),
        }
    }
}

impl fmt::Debug for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elements").field("range", &self.range).finish_non_exhaustive()
    }
}
