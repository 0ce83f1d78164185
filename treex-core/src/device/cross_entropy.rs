//! The softmax cross entropy of rows on a device, a launch forward and one backward.

use candle_core::{DType, Tensor};
use treex_kernels::cross_entropy::DIALECT;
use treex_kernels::dialect::{ELEMENT, ROWS};

use super::kernel::{Kernel, Launch, Value, real};
use super::rows::Rows;
use crate::autograd::OwnedStorage;
use crate::error::{Error, Result};

const TEXTS: &[&str] = &[ELEMENT, ROWS, DIALECT];
static FORWARD: Kernel = Kernel { name: "integer_cross_entropy", texts: TEXTS };
static BACKWARD: Kernel = Kernel { name: "integer_cross_entropy_backward", texts: TEXTS };

/// `-log_softmax(logits)[label]` of each row of `[.., classes]`, in the type that it is computed in, and what backward needs of the
/// rows. Labels are in `U32` or `I64`; for one that is no class the loss is NaN.
///
/// # Errors
/// If sizes or types do not fit, or the launch fails.
pub fn integer_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<(OwnedStorage, Tensor)> {
    let (rows, defines) = check(logits, labels)?;
    let wide = real(logits.dtype());
    let shape = logits.dims()[..logits.rank() - 1].into();
    let launch = Launch {
        kernel: &FORWARD,
        element: logits.dtype(),
        defines: &defines,
        groups: rows.groups(),
        reads: &[(logits, logits.dtype()), (labels, labels.dtype())],
        writes: [(&shape, wide), (&(rows.rows, 2).into(), wide)],
        values: &[rows.rows, rows.columns].map(Value::Index),
    };
    // SAFETY: there are a row and a label for each loss, and two numbers are saved of each.
    #[expect(unsafe_code, reason = "a launch")]
    let [losses, saved] = unsafe { launch.run() }?;
    Ok((losses, saved.into_tensor()))
}

/// The gradient of the logits, from that of the losses.
///
/// # Errors
/// As [`integer_cross_entropy`].
pub fn integer_cross_entropy_backward(
    logits: &Tensor,
    labels: &Tensor,
    saved: &Tensor,
    dlosses: &Tensor,
) -> Result<OwnedStorage> {
    let (rows, defines) = check(logits, labels)?;
    let wide = real(logits.dtype());
    if saved.elem_count() != 2 * rows.rows || dlosses.elem_count() != rows.rows {
        return Err(Error::shape("there is not a gradient for each row of logits")
            .expected(rows.rows)
            .found(format!("{:?}", dlosses.dims())));
    }
    let launch = Launch {
        kernel: &BACKWARD,
        element: logits.dtype(),
        defines: &defines,
        groups: rows.groups(),
        reads: &[(logits, logits.dtype()), (labels, labels.dtype()), (saved, wide), (dlosses, wide)],
        writes: [(logits.shape(), logits.dtype())],
        values: &[rows.rows, rows.columns].map(Value::Index),
    };
    // SAFETY: there are a label, two numbers that were saved, and a gradient for each row.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run() }?;
    Ok(written)
}

fn check(logits: &Tensor, labels: &Tensor) -> Result<(Rows, [(&'static str, usize); 3])> {
    let rows = Rows::of(&[logits], logits.dims().last().copied().unwrap_or(0))?;
    if labels.elem_count() != rows.rows || !matches!(labels.dtype(), DType::U32 | DType::I64) {
        return Err(Error::shape("there is not a label for each row of logits")
            .expected(format!("{} labels in `u32` or `i64`", rows.rows))
            .found(format!("{:?} in `{}`", labels.dims(), labels.dtype().as_str())));
    }
    let [lanes, each] = rows.defines();
    Ok((rows, [lanes, each, ("IS_LONG", (labels.dtype() == DType::I64).into())]))
}
