//! New buffers, filled by a kernel on all cores.

use std::mem::MaybeUninit;

use super::isa::{Kernel, dispatch};
use super::parallel::pieces;
use crate::error::Result;
use crate::memory::with_capacity;

/// A kernel that fills a buffer piece by piece.
///
/// # Safety
/// [`write`](Self::write) initializes every element of its piece, and does nothing else to the piece.
pub unsafe trait Fill<T>: Sync {
    /// The least number of elements for which several threads are faster. The default is for a kernel bound by memory.
    const PARALLEL: usize = 1 << 17;

    /// Checks that it can fill a buffer of `len` elements. The default is for a kernel that can fill any.
    ///
    /// # Errors
    /// If it reads arrays that are shorter.
    fn check(&self, len: usize) -> Result<()> {
        let _ = len;
        Ok(())
    }

    /// Writes `piece`, which starts at the element `first` of the buffer. The values must not depend on the boundaries
    /// of the pieces. Must be `#[inline(always)]`, like everything in a [`Kernel`].
    ///
    /// # Panics
    /// If the piece is not inside of a buffer that [`check`](Self::check) accepts.
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]);
}

/// Elements of a piece: small enough for load balancing, large enough that scheduling costs are negligible.
const PIECE: usize = 1 << 13;

/// A new buffer of `len` elements. Its memory is written only once.
///
/// # Errors
/// If it cannot be allocated, or is larger than what the kernel can fill.
pub fn collect<T: Send>(len: usize, kernel: &impl Fill<T>) -> Result<Vec<T>> {
    kernel.check(len)?;
    // SAFETY: the pieces cover the buffer, and the kernel initializes every element of each.
    unsafe { filled(len, |buffer| write(buffer, kernel)) }
}

/// A new buffer of `len` elements, filled by `write`.
///
/// # Errors
/// If it cannot be allocated.
///
/// # Safety
/// `write` initializes every element.
pub unsafe fn filled<T>(len: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Result<Vec<T>> {
    let write = |buffer: &mut [MaybeUninit<T>]| {
        write(buffer);
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { try_filled(len, write) }
}

/// [`filled`] by a `write` that may fail.
///
/// # Errors
/// If the buffer cannot be allocated, or that of `write`.
///
/// # Safety
/// `write` initializes every element, unless it fails.
pub(crate) unsafe fn try_filled<T>(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<T>]) -> Result<()>,
) -> Result<Vec<T>> {
    let mut buffer = with_capacity(len)?;
    write(&mut buffer.spare_capacity_mut()[..len])?;
    // SAFETY: the capacity is at least `len`, and `write` has initialized the elements.
    unsafe { buffer.set_len(len) };
    Ok(buffer)
}

/// Overwrites an existing buffer.
///
/// # Errors
/// If it is larger than what the kernel can fill.
pub fn overwrite<T: Copy + Send>(buffer: &mut [T], kernel: &impl Fill<T>) -> Result<()> {
    kernel.check(buffer.len())?;
    // SAFETY: both types have the same layout, and the kernel only initializes the elements of its piece.
    let buffer = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<T>]) };
    write(buffer, kernel);
    Ok(())
}

fn write<T: Send, F: Fill<T>>(buffer: &mut [MaybeUninit<T>], kernel: &F) {
    let parallel = buffer.len() >= F::PARALLEL;
    pieces(buffer, PIECE, parallel, |index, piece| dispatch(Piece { first: index * PIECE, piece, kernel }));
}

/// One piece and the kernel that writes it.
#[derive(Debug)]
pub struct Piece<'a, T, F> {
    /// The index of its first element in the buffer.
    pub first: usize,
    /// Its elements.
    pub piece: &'a mut [MaybeUninit<T>],
    /// The kernel.
    pub kernel: &'a F,
}

impl<T, F: Fill<T>> Kernel for Piece<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.kernel.write(self.first, self.piece);
    }
}
