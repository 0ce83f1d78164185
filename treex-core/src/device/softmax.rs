//! Softmax of rows on a device, a launch forward and one backward.

use candle_core::Tensor;
use treex_kernels::dialect::{ELEMENT, ROWS};
use treex_kernels::softmax::DIALECT;

use super::kernel::{Kernel, Launch, Value};
use super::rows::Rows;
use crate::autograd::OwnedStorage;
use crate::error::Result;

const TEXTS: &[&str] = &[ELEMENT, ROWS, DIALECT];
static SOFTMAX: Kernel = Kernel { name: "softmax", texts: TEXTS };
static SOFTMAX_BACKWARD: Kernel = Kernel { name: "softmax_backward", texts: TEXTS };
static LOG_SOFTMAX_BACKWARD: Kernel = Kernel { name: "log_softmax_backward", texts: TEXTS };

/// `softmax(x)` of each row of `columns` elements, or its logarithm.
///
/// # Errors
/// If `x` is not whole rows, or a launch fails.
pub fn softmax(x: &Tensor, columns: usize, is_log: bool) -> Result<OwnedStorage> {
    launch(&SOFTMAX, &[x], columns, is_log)
}

/// `y (dy - sum(y dy))`, from the output `y` of a softmax.
///
/// # Errors
/// As [`softmax`].
pub fn softmax_backward(y: &Tensor, dy: &Tensor, columns: usize) -> Result<OwnedStorage> {
    launch(&SOFTMAX_BACKWARD, &[y, dy], columns, false)
}

/// `dy - softmax(x) sum(dy)`, from the input `x` of a log-softmax.
///
/// # Errors
/// As [`softmax`].
pub fn log_softmax_backward(x: &Tensor, dy: &Tensor, columns: usize) -> Result<OwnedStorage> {
    launch(&LOG_SOFTMAX_BACKWARD, &[x, dy], columns, true)
}

fn launch(kernel: &'static Kernel, all: &[&Tensor], columns: usize, is_log: bool) -> Result<OwnedStorage> {
    let rows = Rows::of(all, columns)?;
    let [lanes, each] = rows.defines();
    let (shape, element) = (all[0].shape(), all[0].dtype());
    let launch = Launch {
        kernel,
        element,
        defines: &[lanes, each, ("IS_LOG", is_log.into())],
        groups: rows.groups(),
        reads: &all.iter().map(|x| (*x, element)).collect::<Vec<_>>(),
        writes: [(shape, element)],
        values: &[Value::Index(rows.rows), Value::Index(rows.columns)],
    };
    // SAFETY: what is read and what is written are these rows.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run() }?;
    Ok(written)
}
