//! What windows read as rows of matrices, and the transpose, on a device: a launch each.

use candle_core::{Shape, Tensor};
use treex_kernels::dialect::{EACH, ELEMENT};
use treex_kernels::im2col::DIALECT;
use treex_kernels::window;

use super::groups;
use super::kernel::{Kernel, Launch, Value};
pub use super::window::Windows;
use crate::autograd::OwnedStorage;
use crate::error::{Error, Result};

const TEXTS: &[&str] = &[ELEMENT, EACH, window::DIALECT, DIALECT];
static IM2COL: Kernel = Kernel { name: "im2col", texts: TEXTS };
static COL2IM: Kernel = Kernel { name: "col2im", texts: TEXTS };

/// From `[batch, *spatial, channels]` to `[groups, batch * positions, taps * channels / groups]`.
///
/// # Errors
/// If `x` has another size, `groups` do not divide the channels, or the launch fails.
pub fn im2col(windows: &Windows, x: &Tensor, groups: usize) -> Result<Tensor> {
    Ok(launch(&IM2COL, windows, x, groups)?.into_tensor())
}

/// From these columns to the sums for each element, `[batch, *spatial, channels]` in one dimension.
///
/// # Errors
/// As [`im2col`].
pub fn col2im(windows: &Windows, columns: &Tensor, groups: usize) -> Result<OwnedStorage> {
    launch(&COL2IM, windows, columns, groups)
}

fn launch(
    kernel: &'static Kernel,
    windows: &Windows,
    from: &Tensor,
    groups_of: usize,
) -> Result<OwnedStorage> {
    let Windows { batch, channels, .. } = *windows;
    let each = channels.checked_div(groups_of).filter(|each| each * groups_of == channels).unwrap_or(0);
    let (rows, row) = (batch * windows.positions(), windows.taps() * each);
    let (input, columns) = (windows.input_len(), groups_of * rows * row);
    let is_forward = std::ptr::eq(kernel, &raw const IM2COL);
    let (read, shape) =
        if is_forward { (input, Shape::from((groups_of, rows, row))) } else { (columns, Shape::from(input)) };
    if columns == 0 || from.elem_count() != read {
        return Err(Error::shape("a tensor is not what a window reads")
            .expected(format!("{read} elements, and channels in {groups_of} equal groups"))
            .found(format!("{:?}", from.dims())));
    }
    let mut values = vec![Value::Index(shape.elem_count()), Value::Index(batch)];
    values.extend([channels, groups_of].map(Value::Index));
    values.extend(windows.values());
    let launch = Launch {
        kernel,
        element: from.dtype(),
        defines: &[],
        groups: groups(shape.elem_count()),
        reads: &[(from, from.dtype())],
        writes: [(&shape, from.dtype())],
        values: &values,
    };
    // SAFETY: input and columns have the sizes of these windows, whose sources are inside of the input.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run() }?;
    Ok(written)
}
