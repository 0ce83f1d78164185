//! The sum of two tensors on a device, one of them repeated.

use candle_core::Tensor;
use treex_kernels::add::DIALECT;
use treex_kernels::dialect::{EACH, ELEMENT};

use super::groups;
use super::kernel::{Kernel, Launch, Value};
use crate::autograd::OwnedStorage;
use crate::error::{Error, Result};

static ADD: Kernel = Kernel { name: "add", texts: &[ELEMENT, EACH, DIALECT] };

/// `x + y`, where `y` is repeated along the first dimensions of `x`.
///
/// # Errors
/// If `x` is empty or not a multiple of `y`, their types differ, or the launch fails.
pub fn add(x: &Tensor, y: &Tensor) -> Result<OwnedStorage> {
    let (len, period) = (x.elem_count(), y.elem_count());
    if len == 0 || period == 0 || !len.is_multiple_of(period) {
        return Err(Error::shape("two tensors cannot be added: the second cannot be repeated")
            .expected(format!("a part of {:?}", x.dims()))
            .found(format!("{:?}", y.dims())));
    }
    let launch = Launch {
        kernel: &ADD,
        element: x.dtype(),
        defines: &[],
        groups: groups(len),
        reads: &[(x, x.dtype()), (y, x.dtype())],
        writes: [(x.shape(), x.dtype())],
        values: &[len, period].map(Value::Index),
    };
    // SAFETY: `x` and what is written have `len` elements, `y` has `period`.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run() }?;
    Ok(written)
}
