//! Sums over rows on a device, in at most two launches.

use candle_core::{DType, Shape, Tensor};
use treex_kernels::dialect::{COLUMNS, ELEMENT};
use treex_kernels::sum_axis0::DIALECT;

use super::columns::Pieces;
use super::kernel::{Kernel, Launch, Value, real};
use super::rows::MOST_COLUMNS;
use crate::autograd::OwnedStorage;
use crate::error::{Error, Result};

static SUM_AXIS0: Kernel = Kernel { name: "sum_axis0", texts: &[ELEMENT, COLUMNS, DIALECT] };

/// The sum of each column of `x`, whose rows have `columns` elements, in the type of `x`; half types are summed in `F32`.
///
/// # Errors
/// If `x` is not whole rows, or a launch fails.
pub fn sum_axis0(x: &Tensor, columns: usize) -> Result<OwnedStorage> {
    let rows = x.elem_count().checked_div(columns).unwrap_or(0);
    if rows == 0 || rows * columns != x.elem_count() || columns > MOST_COLUMNS {
        return Err(Error::shape("a tensor is not rows that can be summed")
            .expected(format!("at least one row of {columns} elements"))
            .found(format!("{:?}", x.dims())));
    }
    let pieces = Pieces::of_sums(1, rows, columns);
    if pieces.pieces == 1 {
        return launch(x, x.dtype(), pieces, false, x.dtype());
    }
    let partial = launch(x, x.dtype(), pieces, false, real(x.dtype()))?.into_tensor();
    sum_partial(&partial, columns, x.dtype())
}

/// The sums of columns of sums, in the type `dtype`.
pub(super) fn sum_partial(sums: &Tensor, columns: usize, dtype: DType) -> Result<OwnedStorage> {
    let pieces = Pieces::whole(1, sums.elem_count() / columns, columns);
    launch(sums, dtype, pieces, true, dtype)
}

/// The sums of each piece, `[pieces, columns]`, in the type `output`: `element` or the one it is computed in.
fn launch(
    x: &Tensor,
    element: DType,
    pieces: Pieces,
    is_partial: bool,
    output: DType,
) -> Result<OwnedStorage> {
    let Pieces { rows, columns, piece_rows, pieces: count, .. } = pieces;
    let read = if is_partial { real(element) } else { element };
    let shape = if count == 1 { Shape::from(columns) } else { (count, columns).into() };
    let launch = Launch {
        kernel: &SUM_AXIS0,
        element,
        defines: &[
            pieces.define(),
            ("IS_PARTIAL", is_partial.into()),
            ("IS_ROUNDED", (output == element).into()),
        ],
        groups: pieces.groups(),
        reads: &[(x, read)],
        writes: [(&shape, output)],
        values: &[rows, columns, piece_rows, count].map(Value::Index),
    };
    // SAFETY: `x` has these rows and columns, and the sums are one for each column of each piece.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run() }?;
    Ok(written)
}
