//! The same operation on a device: what windows read (im2col) for some items at a time, and products by the device's library.

use candle_core::Tensor;
use treex_core::Result;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach};
use treex_core::device::add::add;
use treex_core::device::im2col::{Windows, col2im, im2col};
use treex_core::device::sum_axis0::sum_axis0;
use treex_core::matmul::product;

use crate::dtype::wide_dtype;

/// Elements of the columns at one time, unless one item has more.
const MOST_COLUMNS: usize = 1 << 26;

/// A convolution of tensors with elements, `dims` of the result.
pub(super) fn convolution(
    windows: Windows,
    [x, kernel]: [&Tensor; 2],
    bias: Option<&Tensor>,
    groups: usize,
    dims: Vec<usize>,
) -> Result<Tensor> {
    let operation = Convolve {
        x: x.detach().contiguous()?.reshape((windows.batch(), x.elem_count() / windows.batch()))?,
        kernel: by_group(&kernel.detach(), windows.taps(), windows.channels(), groups)?,
        shapes: [x, kernel].map(|operand| operand.dims().to_vec()),
        windows,
        groups,
        has_bias: bias.is_some(),
    };
    let y = operation.value()?.reshape(dims)?;
    match bias {
        Some(bias) => {
            attach(operation, &[x, kernel, bias], add(&y.into_tensor(), &bias.detach().contiguous()?)?)
        }
        None => attach(operation, &[x, kernel], y),
    }
}

/// `[*taps, cin / groups, cout]` as `[groups, taps * cin / groups, cout / groups]`.
fn by_group(kernel: &Tensor, taps: usize, cin: usize, groups: usize) -> Result<Tensor> {
    let (rows, cout) = (taps * cin / groups, kernel.dims().last().copied().unwrap_or(1));
    let kernel = kernel.reshape((rows, groups, cout / groups))?;
    Ok(kernel.transpose(0, 1)?.contiguous()?)
}

struct Convolve {
    /// `[batch, elements of an item]`.
    x: Tensor,
    /// By group.
    kernel: Tensor,
    windows: Windows,
    groups: usize,
    has_bias: bool,
    /// Those of input and kernel.
    shapes: [Vec<usize>; 2],
}

impl Convolve {
    /// Runs `f` on each block of items: its windows, its input, and the first item.
    fn blocks<R>(&self, mut f: impl FnMut(&Windows, &Tensor, usize) -> Result<R>) -> Result<Vec<R>> {
        let batch = self.windows.batch();
        let of_item = self.windows.positions() * self.windows.taps() * self.windows.channels();
        let at_once = (MOST_COLUMNS / of_item).clamp(1, batch);
        let block = |first: usize| {
            let len = at_once.min(batch - first);
            f(&self.windows.first(len), &self.x.narrow(0, first, len)?, first)
        };
        (0..batch).step_by(at_once).map(block).collect()
    }

    /// `[batch * positions, cout]`, without the bias.
    fn value(&self) -> Result<OwnedStorage> {
        let mut blocks =
            self.blocks(|windows, x, _| product(&im2col(windows, x, self.groups)?, &self.kernel))?;
        if self.groups == 1 && blocks.len() == 1 {
            return Ok(blocks.remove(0));
        }
        let by_row =
            |y: OwnedStorage| -> Result<Tensor> { Ok(y.into_tensor().transpose(0, 1)?.flatten_from(1)?) };
        OwnedStorage::take(joined(blocks.into_iter().map(by_row).collect::<Result<_>>()?)?)
    }

    /// Some rows of the output's gradient, `[rows, cout]`, as `[groups, rows, cout / groups]`.
    fn rows_by_group(&self, dy: &Tensor, first: usize, len: usize) -> Result<Tensor> {
        let positions = self.windows.positions();
        let rows = dy.narrow(0, first * positions, len * positions)?;
        let (rows, cout) = (rows.reshape((len * positions, self.groups, ()))?, dy.dim(1)?);
        debug_assert!(cout.is_multiple_of(self.groups));
        Ok(rows.transpose(0, 1)?.contiguous()?)
    }
}

/// The blocks of a tensor.
fn joined(blocks: Vec<Tensor>) -> Result<Tensor> {
    match <[Tensor; 1]>::try_from(blocks) {
        Ok([block]) => Ok(block),
        Err(blocks) => Ok(Tensor::cat(&blocks, 0)?),
    }
}

/// The sum of blocks, if there are any; half types are summed in `F32`.
fn summed(blocks: Vec<Tensor>) -> Result<Option<Tensor>> {
    let mut blocks = blocks.into_iter();
    let Some(first) = blocks.next() else { return Ok(None) };
    let (dtype, wide) = (first.dtype(), wide_dtype(first.dtype()));
    let mut sum = first;
    for block in blocks {
        sum = (sum.to_dtype(wide)? + block.to_dtype(wide)?)?;
    }
    Ok(Some(sum.to_dtype(dtype)?))
}

impl Operation for Convolve {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let [of_x, of_kernel] = &self.shapes;
        let dy = cx.cotangent()?.contiguous()?;
        let cout = dy.dims().last().copied().unwrap_or(1);
        let dy = dy.reshape(((), cout))?;
        let parts = self.blocks(|windows, x, first| {
            let dy = self.rows_by_group(&dy, first, windows.batch())?;
            let of_x = || -> Result<_> {
                let columns = product(&dy, &self.kernel.t()?)?.into_tensor();
                Ok(col2im(windows, &columns, self.groups)?.into_tensor())
            };
            let of_kernel = || {
                Ok::<_, treex_core::Error>(
                    product(&im2col(windows, x, self.groups)?.t()?, &dy)?.into_tensor(),
                )
            };
            Ok((cx.wanted(0).then(of_x).transpose()?, cx.wanted(1).then(of_kernel).transpose()?))
        })?;
        let (dx, dkernel): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let dx = dx.into_iter().collect::<Option<Vec<_>>>().map(joined).transpose()?;
        let dkernel = summed(dkernel.into_iter().flatten().collect())?;
        let ungrouped =
            |dkernel: Tensor| dkernel.transpose(0, 1)?.contiguous()?.reshape(of_kernel.as_slice());
        let mut gradients =
            vec![dx.map(|dx| dx.reshape(of_x.as_slice())).transpose()?, dkernel.map(ungrouped).transpose()?];
        if self.has_bias {
            let dbias = cx.wanted(2).then(|| sum_axis0(&dy, cout)).transpose()?;
            gradients.push(dbias.map(OwnedStorage::into_tensor));
        }
        Ok(gradients)
    }
}
