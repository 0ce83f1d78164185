//! Whether a captured step makes a step of an optimizer: decided on the device, where its number is.

use candle_core::Tensor;

use crate::error::Result;

/// Words of a condition's counts: steps in a row, those left out, those made, the address of rows of words, and their width.
pub(crate) const COUNTS: usize = 5;

/// A condition's numbers: 1 if the step is made, and the scale of a loss.
pub(crate) const NUMBERS: usize = 2;

/// What is decided by, and where the decision goes.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "kernels have it"))]
pub(crate) struct Decision<'d> {
    /// An `F64` number, 1 where the step is to be made.
    pub(crate) finite: &'d Tensor,
    /// [`COUNTS`] words in `I64`, which it writes.
    pub(crate) counts: &'d Tensor,
    /// [`NUMBERS`] in `F64`, which it writes.
    pub(crate) numbers: &'d Tensor,
    /// The address of the words of this step, which it writes.
    pub(crate) columns: u64,
    pub(crate) limit: u64,
    pub(crate) has_scale: bool,
}

/// One launch, which decides.
pub(crate) fn decide(decision: Decision<'_>) -> Result<()> {
    #[cfg(feature = "cuda")]
    return cuda::decide(decision);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = decision;
        Err(super::without_cuda::no_kernels())
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::DType;
    use treex_kernels::dialect::{DECIDE, TABLE};

    use super::{COUNTS, Decision, NUMBERS};
    use crate::device::launch::{address, launch};
    use crate::device::{GROUP_SIZE, compile};
    use crate::error::{Error, Result};

    /// Words of the table.
    const WORDS: usize = 6;

    pub(super) fn decide(decision: Decision<'_>) -> Result<()> {
        let Decision { finite, counts, numbers, columns, limit, has_scale } = decision;
        let sizes = [(finite, DType::F64, 1), (counts, DType::I64, COUNTS), (numbers, DType::F64, NUMBERS)];
        if let Some((x, dtype, size)) =
            sizes.into_iter().find(|(x, dtype, size)| x.dtype() != *dtype || x.elem_count() != *size)
        {
            return Err(Error::shape("a condition has other memory than its kernel writes")
                .expected(format!("{size} of `{}`", dtype.as_str()))
                .found(format!("{:?} of `{}`", x.dims(), x.dtype().as_str())));
        }
        let device = finite.device().as_cuda_device()?;
        let head = format!("#define WORDS {WORDS}\n#define GROUP_SIZE {GROUP_SIZE}\n");
        let function = compile::kernel(device, "decide", &[&head, TABLE, DECIDE].concat())?;
        let words =
            vec![address(finite)?, address(counts)?, address(numbers)?, columns, limit, u64::from(has_scale)];
        // SAFETY: the number, the counts and the numbers have the sizes that the kernel reads and writes; the words of this step and
        // the rows, whose address and width are in the counts, are memory of the recording, which has room for them and lives as long.
        #[expect(unsafe_code, reason = "a launch")]
        unsafe {
            launch::<WORDS>(device, &function, 1, words)
        }
    }
}
