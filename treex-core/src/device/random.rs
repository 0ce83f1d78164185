//! Random samples that are drawn on a device, with the bits of the CPU.

use candle_core::{Device, Shape, Tensor};
use treex_kernels::random::bernoulli::Bernoulli;

use crate::error::Result;
use crate::random::Key;

/// The samples of [`Key::bernoulli`] with this probability, drawn where they are used: 0 or 1, in `U8`. `None` if there is no
/// kernel for the device, or no element.
///
/// # Errors
/// If memory cannot be allocated, or the kernel not be compiled.
pub fn bernoulli(key: Key, p: Bernoulli, shape: &Shape, device: &Device) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if let (Device::Cuda(device), true) = (device, shape.elem_count() > 0) {
        return cuda::bernoulli(key, p, shape, device).map(Some);
    }
    let _ = (key, p, shape, device);
    Ok(None)
}

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::{CudaDevice, DType, Shape, Tensor};
    use treex_kernels::dialect::{BERNOULLI, TABLE, THREEFRY};
    use treex_kernels::random::bernoulli::Bernoulli;

    use crate::capture::plan;
    use crate::device::kernel::is_captured;
    use crate::device::launch::{address, launch, uninitialized};
    use crate::device::{EACH, GROUP_SIZE, compile, groups};
    use crate::error::Result;
    use crate::random::Key;

    /// Words of the table.
    const WORDS: usize = 4;

    pub(super) fn bernoulli(key: Key, p: Bernoulli, shape: &Shape, device: &CudaDevice) -> Result<Tensor> {
        let (name, value) = is_captured();
        let head = format!(
            "#define WORDS {WORDS}\n#define GROUP_SIZE {GROUP_SIZE}\n#define EACH {EACH}\n#define {name} {value}\n"
        );
        let function = compile::kernel(device, "bernoulli", &[&head, TABLE, THREEFRY, BERNOULLI].concat())?;
        let samples = uninitialized(shape, DType::U8, device)?.into_tensor();
        let len = shape.elem_count();
        let words = vec![address(&samples)?, len as u64, plan::key_word(key), p.below().into()];
        // SAFETY: the kernel writes the first `len` elements of the samples, which are new.
        #[expect(unsafe_code, reason = "a launch")]
        unsafe {
            launch::<WORDS>(device, &function, groups(len), words)?;
        }
        Ok(samples)
    }
}
