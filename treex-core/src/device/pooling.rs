//! Poolings on a device, a launch forward and one backward.

use candle_core::{DType, Shape, Tensor};
use treex_kernels::dialect::{EACH, ELEMENT};
use treex_kernels::pooling::{DIALECT, Reduction};
use treex_kernels::window;

use super::groups;
use super::kernel::{Kernel, Launch, Value};
pub use super::window::Windows;
use crate::autograd::OwnedStorage;
use crate::error::{Error, Result};

const TEXTS: &[&str] = &[ELEMENT, EACH, window::DIALECT, DIALECT];
static POOL: Kernel = Kernel { name: "pool", texts: TEXTS };
static POOL_BACKWARD: Kernel = Kernel { name: "pool_backward", texts: TEXTS };

/// The reduction of each window of `x`, `[batch, *spatial, channels]`, as `[batch, *positions, channels]` in one dimension, and the
/// taps that were chosen.
///
/// # Errors
/// If `x` has another size, or the launch fails.
pub fn pool(windows: &Windows, x: &Tensor, reduction: Reduction) -> Result<(OwnedStorage, Tensor)> {
    check(x, windows.input_len())?;
    let len = output_len(windows);
    // An average chooses none.
    let taps = Shape::from(if is_average(reduction) { 1 } else { len });
    let launch = Launch {
        kernel: &POOL,
        element: x.dtype(),
        defines: &defines(reduction),
        groups: groups(len),
        reads: &[(x, x.dtype())],
        writes: [(&len.into(), x.dtype()), (&taps, DType::U32)],
        values: &values(windows, len),
    };
    // SAFETY: `x` and what is written have the sizes of these windows, whose sources are inside of the input; the taps of an average
    // are not read.
    #[expect(unsafe_code, reason = "a launch")]
    let [y, taps] = unsafe { launch.run() }?;
    Ok((y, taps.into_tensor()))
}

/// The gradient of the input, in one dimension.
///
/// # Errors
/// If `dy` or the taps have another size, or the launch fails.
pub fn pool_backward(
    windows: &Windows,
    dy: &Tensor,
    taps: &Tensor,
    reduction: Reduction,
) -> Result<OwnedStorage> {
    let (len, input) = (output_len(windows), windows.input_len());
    check(dy, len)?;
    if !is_average(reduction) {
        check(taps, len)?;
    }
    let launch = Launch {
        kernel: &POOL_BACKWARD,
        element: dy.dtype(),
        defines: &defines(reduction),
        groups: groups(input),
        reads: &[(dy, dy.dtype()), (taps, DType::U32)],
        writes: [(&input.into(), dy.dtype())],
        values: &values(windows, input),
    };
    // SAFETY: `dy` and what is written have the sizes of these windows, and so have the taps where they are read.
    #[expect(unsafe_code, reason = "a launch")]
    let [dx] = unsafe { launch.run() }?;
    Ok(dx)
}

fn output_len(windows: &Windows) -> usize {
    windows.batch * windows.positions() * windows.channels
}

fn is_average(reduction: Reduction) -> bool {
    matches!(reduction, Reduction::Average { .. })
}

fn defines(reduction: Reduction) -> [(&'static str, usize); 2] {
    let (reduction, counts_padding) = match reduction {
        Reduction::Average { counts_padding } => (0, counts_padding),
        Reduction::Max => (1, false),
        Reduction::Min => (2, false),
    };
    [("REDUCTION", reduction), ("COUNTS_PADDING", counts_padding.into())]
}

fn values(windows: &Windows, len: usize) -> Vec<Value> {
    [len, windows.channels].map(Value::Index).into_iter().chain(windows.values()).collect()
}

fn check(x: &Tensor, len: usize) -> Result<()> {
    if x.elem_count() == len {
        return Ok(());
    }
    Err(Error::shape("a tensor is not what a pooling reads")
        .expected(format!("{len} elements"))
        .found(format!("{:?}", x.dims())))
}
