//! New memory whose size comes from a caller: an error, not an abort, where it cannot be allocated.

use std::alloc::{Layout, alloc_zeroed};

use crate::error::{Error, Result};
use crate::math::Real;

/// The number of elements of an array with these sizes. `None` if a product of some of those above 0 overflows: where
/// there is a number, the products of a part of the sizes are numbers too, also in an array without elements.
pub(crate) fn product(sizes: impl IntoIterator<Item = usize>) -> Option<usize> {
    let mut is_empty = false;
    let product = sizes.into_iter().try_fold(1usize, |product, size| {
        is_empty |= size == 0;
        product.checked_mul(size.max(1))
    })?;
    Some(if is_empty { 0 } else { product })
}

/// An empty array with memory for `len` elements.
pub(crate) fn with_capacity<T>(len: usize) -> Result<Vec<T>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { elements: len })?;
    Ok(memory)
}

/// The items of an iterator, which are at most `len`.
pub(crate) fn collected<T>(len: usize, items: impl Iterator<Item = T>) -> Result<Vec<T>> {
    let mut memory = with_capacity(len)?;
    memory.extend(items);
    Ok(memory)
}

/// `len` zeros. As with `vec![0.; len]`, the system's zeroed pages are not written.
pub(crate) fn zeros<T: Real>(len: usize) -> Result<Vec<T>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let error = Error::OutOfMemory { elements: len };
    let Ok(layout) = Layout::array::<T>(len) else { return Err(error) };
    // SAFETY: the size is not 0.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<T>();
    if memory.is_null() {
        return Err(error);
    }
    // SAFETY: the global allocator made the memory for `len` elements, and zero bytes are an `f32` or `f64`, the only
    // types that are `Real`.
    Ok(unsafe { Vec::from_raw_parts(memory, len, len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_sizes() {
        assert_eq!(product([]), Some(1));
        assert_eq!(product([3, 4, 5]), Some(60));
        assert_eq!(product([3, 0, 5]), Some(0));
        assert_eq!(product([0, usize::MAX, 1]), Some(0));
        assert_eq!(product([0, usize::MAX, 2]), None);
        assert_eq!(product([usize::MAX, 2, 0]), None);
    }

    #[test]
    fn zeros_or_an_error() {
        assert_eq!(zeros::<f32>(0), Ok(vec![]));
        assert_eq!(zeros::<f64>(3), Ok(vec![0.; 3]));
        for len in [usize::MAX, isize::MAX as usize] {
            let error = Error::OutOfMemory { elements: len };
            assert_eq!(zeros::<f32>(len), Err(error.clone()));
            assert_eq!(with_capacity::<u16>(len), Err(error));
        }
    }
}
