//! The memory of CPU tensors, for kernels to read.

use std::marker::PhantomData;
use std::ops::{Deref, Range};

use candle_core::{Storage, Tensor, WithDType};
use treex_kernels::float::Float;

use crate::error::{Error, ErrorKind, Result};

/// An element type that both kernels and Candle know: `f32`, `f64`, `bf16` and `f16`.
pub trait Element: Float + WithDType {}

impl<T: Float + WithDType> Element for T {}

/// The elements of a contiguous tensor on the CPU, row-major. They are locked for reading while this lives.
///
/// # Errors
/// If the tensor is on another device, not contiguous, or of another element type.
pub fn elements<T: WithDType>(tensor: &Tensor) -> Result<impl Deref<Target = [T]> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::new(ErrorKind::Shape, "a kernel needs a contiguous tensor")
            .found(format!("strides {:?}", layout.stride()))
            .remedy("call `contiguous()` first"));
    };
    // A view of nothing may begin beyond its memory.
    let range = if start == end { 0..0 } else { start..end };
    let elements = Elements { storage, range, element: PhantomData::<T> };
    elements.checked()?;
    Ok(elements)
}

struct Elements<S, T> {
    storage: S,
    range: Range<usize>,
    element: PhantomData<T>,
}

impl<S: Deref<Target = Storage>, T: WithDType> Elements<S, T> {
    fn checked(&self) -> Result<&[T]> {
        let Storage::Cpu(storage) = &*self.storage else {
            let device = self.storage.device();
            return Err(Error::argument("tensors of one operation are on different devices")
                .expected("all on the CPU, as the first one")
                .found(format!("one on {:?}", device.location()))
                .remedy(
                    "move the input to the model's device, or the model to the input's with `into_device`",
                ));
        };
        let elements = storage.as_slice::<T>()?;
        elements.get(self.range.clone()).ok_or_else(|| Error::shape("a tensor is larger than its memory"))
    }
}

impl<S: Deref<Target = Storage>, T: WithDType> Deref for Elements<S, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // It was checked when this was made, and the lock has been held since.
        self.checked().unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn of_views() -> Result<()> {
        let x = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
        assert_eq!(*elements::<f32>(&x.narrow(0, 1, 1)?)?, [3., 4., 5.]);
        assert!(elements::<f32>(&x.t()?).is_err() && elements::<f64>(&x).is_err());
        // An empty view that begins beyond the memory.
        let nothing = Tensor::zeros((2, 0, 5), DType::F32, &Device::Cpu)?.narrow(2, 3, 2)?;
        assert!(elements::<f32>(&nothing)?.is_empty());
        Ok(())
    }
}
