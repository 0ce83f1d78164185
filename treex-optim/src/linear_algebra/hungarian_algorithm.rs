//! The assignment problem.

use candle_core::{Device, Tensor};
use treex_core::{Error, Result};

use super::floats;
use crate::transfer::to_vec_f64;

/// The cheapest assignment of rows to columns, or of columns to rows if there are more rows: `[n, m]` to row
/// numbers and column numbers, both `[min(n, m)]` in `u32`, in the order of the rows. Each row and each
/// column occurs once at most, and the sum of `costs[i, j]` over the pairs is minimal. It runs on the CPU,
/// in `O(n^2 m)` steps.
///
/// Crouse, [On implementing 2D rectangular assignment
/// algorithms](https://ieeexplore.ieee.org/document/7738348), 2016.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let costs = Tensor::new(&[[8f32, 4., 7.], [5., 2., 3.], [9., 4., 8.]], &Device::Cpu)?;
/// let (rows, columns) = treex_optim::linear_algebra::hungarian_algorithm(&costs)?;
/// assert_eq!(rows.to_vec1::<u32>()?, [0, 1, 2]);
/// assert_eq!(columns.to_vec1::<u32>()?, [0, 2, 1]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If costs are not a matrix of finite floats.
#[doc(alias = "base_hungarian_algorithm")]
pub fn hungarian_algorithm(costs: &Tensor) -> Result<(Tensor, Tensor)> {
    let wide = floats("hungarian_algorithm", "costs", costs, 2)?;
    let (n, m) = wide.dims2()?;
    let more_rows = n > m;
    let values = to_vec_f64(&if more_rows { wide.t()? } else { wide })?;
    if let Some(cost) = values.iter().find(|cost| !cost.is_finite()) {
        return Err(Error::argument("`hungarian_algorithm` got a cost that is not finite")
            .expected("finite numbers")
            .found(cost)
            .remedy("give forbidden pairs a cost larger than the sum of all others"));
    }
    let of_columns = if values.is_empty() { Vec::new() } else { assign(&values, n.min(m), n.max(m)) };
    let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(n.min(m));
    for (column, row) in of_columns.into_iter().enumerate() {
        if let Some(row) = row {
            let pair = (row as u32, column as u32);
            pairs.push(if more_rows { (pair.1, pair.0) } else { pair });
        }
    }
    pairs.sort_unstable();
    let (rows, columns): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let count = rows.len();
    Ok((Tensor::from_vec(rows, count, &Device::Cpu)?, Tensor::from_vec(columns, count, &Device::Cpu)?))
}

/// The row of each column, for `n <= m`: one row after the other looks for its shortest augmenting path, in
/// costs that potentials keep from being negative.
fn assign(costs: &[f64], n: usize, m: usize) -> Vec<Option<usize>> {
    let (mut of_rows, mut of_columns) = (vec![0.; n], vec![0.; m]);
    let mut assigned: Vec<Option<usize>> = vec![None; m];
    for new in 0..n {
        let mut distances = vec![f64::INFINITY; m];
        let (mut previous, mut done) = (vec![None; m], vec![false; m]);
        let (mut at, mut column, mut so_far) = (new, None, 0.);
        // From row to column, on to the row that has the column, until a column is free.
        let free = loop {
            let mut nearest: Option<usize> = None;
            for j in (0..m).filter(|&j| !done[j]) {
                let distance = so_far + costs[at * m + j] - of_rows[at] - of_columns[j];
                if distance < distances[j] {
                    (distances[j], previous[j]) = (distance, column);
                }
                if nearest.is_none_or(|best| distances[j] < distances[best]) {
                    nearest = Some(j);
                }
            }
            let Some(next) = nearest else { return assigned };
            (done[next], so_far) = (true, distances[next]);
            match assigned[next] {
                Some(row) => (at, column) = (row, Some(next)),
                None => break next,
            }
        };
        of_rows[new] += so_far;
        for j in (0..m).filter(|&j| done[j]) {
            if let Some(row) = assigned[j] {
                of_rows[row] += so_far - distances[j];
            }
            of_columns[j] -= so_far - distances[j];
        }
        // Each column of the path goes to the row before it.
        let mut end = free;
        while let Some(before) = previous[end] {
            assigned[end] = assigned[before];
            end = before;
        }
        assigned[end] = Some(new);
    }
    assigned
}
