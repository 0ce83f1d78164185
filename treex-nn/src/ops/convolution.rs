//! Convolutions, as products of matrices: the patches that the kernel sees, by the kernel.

use candle_core::{Result, Tensor};

use crate::ops::patches::{Axis, patches};

/// `x`, `[batch, *spatial, cin]`, with `kernel`, `[*size, cin / groups, cout]`, as `[batch, *positions, cout]`.
pub(crate) fn convolution(x: &Tensor, kernel: &Tensor, window: &[Axis], groups: usize) -> Result<Tensor> {
    let rank = window.len();
    let (per_group, cout) = (kernel.dim(rank)?, kernel.dim(rank + 1)?);
    let places: usize = window.iter().map(|axis| axis.size).product();
    let dims = [&x.dims()[..1], &positions(x, window)[..], &[cout]].concat();
    let rows: usize = dims[..=rank].iter().product();

    // [rows, places, cin] by [places, cin / groups, cout], each group by itself.
    let patches = seen(x, window)?;
    let y = if groups == 1 {
        patches.reshape((rows, places * per_group))?.matmul(&kernel.flatten(0, rank)?)?
    } else {
        let patches = patches.reshape((rows, places, groups, per_group))?.permute((2, 0, 1, 3))?;
        let kernel = kernel.reshape((places, per_group, groups, cout / groups))?.permute((2, 0, 1, 3))?;
        let patches = patches.reshape((groups, rows, places * per_group))?;
        let kernel = kernel.reshape((groups, places * per_group, cout / groups))?;
        patches.matmul(&kernel)?.transpose(0, 1)?
    };
    y.reshape(dims)
}

/// `x`, `[batch, *spatial, cin]`, with a kernel for each position, `[*positions, cin · places, cout]`, as
/// `[batch, *positions, cout]`.
pub(crate) fn local_convolution(x: &Tensor, kernel: &Tensor, window: &[Axis]) -> Result<Tensor> {
    let rank = window.len();
    let (batch, cin, cout) = (x.dim(0)?, x.dim(rank + 1)?, kernel.dim(rank + 1)?);
    let places: usize = window.iter().map(|axis| axis.size).product();
    let dims = [&[batch], &positions(x, window)[..], &[cout]].concat();
    let positions: usize = dims[1..=rank].iter().product();

    // For each position, [batch, cin, places] by [cin, places, cout].
    let patches = seen(x, window)?.reshape((batch, positions, places, cin))?.permute((1, 0, 3, 2))?;
    let patches = patches.reshape((positions, batch, cin * places))?;
    let y = patches.matmul(&kernel.reshape((positions, cin * places, cout))?)?;
    y.transpose(0, 1)?.reshape(dims)
}

/// The patches, or the input itself where they would be equal.
fn seen(x: &Tensor, window: &[Axis]) -> Result<Tensor> {
    if is_pointwise(window) { Ok(x.clone()) } else { patches(x, window) }
}

fn positions(x: &Tensor, window: &[Axis]) -> Vec<usize> {
    window.iter().zip(&x.dims()[1..]).map(|(axis, &n)| axis.positions(n)).collect()
}

/// Whether each position sees exactly the element of the same index.
fn is_pointwise(window: &[Axis]) -> bool {
    window
        .iter()
        .all(|axis| axis.size == 1 && axis.stride == 1 && axis.zeros == (0, 0) && axis.input_dilation == 1)
}
