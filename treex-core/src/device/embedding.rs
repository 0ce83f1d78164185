//! Rows of a table on a device, and the sums of their gradients.

use candle_core::{DType, Tensor};
use treex_kernels::dialect::{EACH, ELEMENT, ROWS};
use treex_kernels::embedding::DIALECT;

use super::groups;
use super::kernel::{Kernel, Launch, Value};
use super::rows::{MOST_COLUMNS, whole_group};
use crate::autograd::OwnedStorage;
use crate::error::{Error, Result};

const TEXTS: &[&str] = &[ELEMENT, ROWS, EACH, DIALECT];
static GATHER_ROWS: Kernel = Kernel { name: "gather_rows", texts: TEXTS };
static SCATTER_ROWS: Kernel = Kernel { name: "scatter_rows", texts: TEXTS };

/// `table[ids]`, of a table `[n, features]` and ids in `U32` or `I64`; negative ids count from the end, and what is out of range
/// gives NaN.
///
/// # Errors
/// If the table has no elements, ids are of another type, there are none, or the launch fails.
pub fn gather_rows(table: &Tensor, ids: &Tensor) -> Result<OwnedStorage> {
    let (n, features) = table.dims2()?;
    check(ids, n, features)?;
    let shape = [ids.dims(), &[features]].concat().into();
    let len = ids.elem_count() * features;
    let launch = Launch {
        kernel: &GATHER_ROWS,
        element: table.dtype(),
        defines: &defines(ids),
        groups: groups(len),
        reads: &[(table, table.dtype()), (ids, ids.dtype())],
        writes: [(&shape, table.dtype())],
        values: &[len, n, features].map(Value::Index),
    };
    // SAFETY: the kernel checks ids against `n`; there are `len` elements of `features` for each id.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run() }?;
    Ok(written)
}

/// The gradient of the table: for each row the sum of `dy`, in order, where its id is. The work is the square of the number of
/// ids, at a fraction of a nanosecond for each pair.
///
/// # Errors
/// As [`gather_rows`], and if `dy` has other rows.
pub fn scatter_rows(ids: &Tensor, dy: &Tensor, n: usize) -> Result<OwnedStorage> {
    let count = ids.elem_count();
    let features = dy.elem_count().checked_div(count).unwrap_or(0);
    check(ids, n, features)?;
    if features * count != dy.elem_count() || count > u32::MAX as usize / 2 {
        return Err(Error::shape("there is not a gradient for each id")
            .expected(format!("{count} rows"))
            .found(format!("{:?}", dy.dims())));
    }
    let launch = Launch {
        kernel: &SCATTER_ROWS,
        element: dy.dtype(),
        defines: &defines(ids),
        groups: count,
        reads: &[(ids, ids.dtype()), (dy, dy.dtype())],
        writes: [(&(n, features).into(), dy.dtype())],
        values: &[count, n, features].map(Value::Index),
    };
    // SAFETY: `dy` has `features` elements for each id, and rows of `n` are written, which are 0 before.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run_on_zeros() }?;
    Ok(written)
}

fn defines(ids: &Tensor) -> [(&'static str, usize); 3] {
    let [lanes, each] = whole_group();
    [lanes, each, ("IS_LONG", (ids.dtype() == DType::I64).into())]
}

fn check(ids: &Tensor, n: usize, features: usize) -> Result<()> {
    let is_index = matches!(ids.dtype(), DType::U32 | DType::I64);
    let fits = [n, features].iter().all(|size| (1..=MOST_COLUMNS).contains(size));
    if is_index && fits && ids.elem_count() > 0 {
        return Ok(());
    }
    Err(Error::shape("rows cannot be looked up by these ids")
        .expected(format!(
            "ids in `u32` or `i64`, at least one, and a table of at most {MOST_COLUMNS} rows and columns"
        ))
        .found(format!("{:?} in `{}`, and [{n}, {features}]", ids.dims(), ids.dtype().as_str())))
}
