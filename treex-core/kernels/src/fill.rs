//! Buffers that a kernel fills, on all cores.

use std::mem::MaybeUninit;

use super::isa::{Kernel, dispatch};
use super::parallel::pieces;
use crate::error::{Error, Result};

/// A kernel that writes a buffer, piece by piece.
///
/// # Safety
/// [`write`](Self::write) gives every element of its piece a value, and does nothing else to the piece.
pub unsafe trait Fill<T>: Sync {
    /// Fewer elements than this are not worth sharing among threads: for a kernel that does little more than read
    /// and write.
    const PARALLEL: usize = 1 << 17;

    /// Writes `piece`, which begins at the element `first` of the buffer. What it writes must not depend on
    /// where pieces begin and end. `#[inline(always)]`, as everything in a [`Kernel`].
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]);
}

/// Elements of a piece: few enough that the last piece keeps nobody waiting, and enough that handing it over
/// costs nothing beside it.
const PIECE: usize = 1 << 13;

/// A new buffer of `len` elements. Its memory is written once.
///
/// # Errors
/// If there is no memory for it.
pub fn collect<T: Send>(len: usize, kernel: &impl Fill<T>) -> Result<Vec<T>> {
    // SAFETY: the pieces make up the buffer, and the kernel gives every element of each a value.
    unsafe { filled(len, |buffer| write(buffer, kernel)) }
}

/// A new buffer of `len` elements, as `write` makes it.
///
/// # Errors
/// If there is no memory for it.
///
/// # Safety
/// `write` gives every element a value.
pub unsafe fn filled<T>(len: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Result<Vec<T>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { elements: len })?;
    write(&mut buffer.spare_capacity_mut()[..len]);
    // SAFETY: there is room for `len` elements, and `write` has given them values.
    unsafe { buffer.set_len(len) };
    Ok(buffer)
}

/// Writes a buffer that is there already.
pub fn overwrite<T: Copy + Send>(buffer: &mut [T], kernel: &impl Fill<T>) {
    // SAFETY: both have one layout, and all that the kernel does to its piece is to give each element a value.
    let buffer = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<T>]) };
    write(buffer, kernel);
}

fn write<T: Send, F: Fill<T>>(buffer: &mut [MaybeUninit<T>], kernel: &F) {
    let parallel = buffer.len() >= F::PARALLEL;
    pieces(buffer, PIECE, parallel, |index, piece| dispatch(Piece { first: index * PIECE, piece, kernel }));
}

/// One piece and the kernel that writes it.
#[derive(Debug)]
pub struct Piece<'a, T, F> {
    /// Where it begins in the buffer.
    pub first: usize,
    /// Its elements.
    pub piece: &'a mut [MaybeUninit<T>],
    /// Writes it.
    pub kernel: &'a F,
}

impl<T, F: Fill<T>> Kernel for Piece<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.kernel.write(self.first, self.piece);
    }
}
