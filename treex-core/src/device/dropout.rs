//! Dropout on a device, whose mask is drawn where it is used.

use candle_core::Tensor;
use treex_kernels::dialect::{EACH, ELEMENT, THREEFRY};
use treex_kernels::dropout::DIALECT;
use treex_kernels::random::bernoulli::Bernoulli;

use super::groups;
use super::kernel::{Kernel, Launch, Value, is_captured};
use crate::autograd::OwnedStorage;
use crate::capture::plan;
use crate::error::Result;
use crate::random::Key;

static DROPOUT: Kernel = Kernel { name: "dropout", texts: &[ELEMENT, THREEFRY, EACH, DIALECT] };

/// `x * scale` where [`Key::bernoulli`] of this probability is 1, otherwise 0; of a tensor with elements.
///
/// # Errors
/// If the launch fails.
pub fn dropout(x: &Tensor, key: Key, kept: Bernoulli, scale: f64) -> Result<OwnedStorage> {
    let len = x.elem_count();
    let launch = Launch {
        kernel: &DROPOUT,
        element: x.dtype(),
        defines: &[is_captured()],
        groups: groups(len),
        reads: &[(x, x.dtype())],
        writes: [(x.shape(), x.dtype())],
        values: &[
            Value::Index(len),
            Value::Index(plan::key_word(key) as usize),
            Value::Index(kept.below() as usize),
            Value::Real(scale),
        ],
    };
    // SAFETY: `x` and what is written have `len` elements.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run() }?;
    Ok(written)
}
