//! Rows of a table, and their gradient added up where the rows are.

use std::mem::MaybeUninit;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use treex_core::Result;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_kernels::fill::{Fill, collect};
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::parallel::pieces;

/// `table[rows]`, `[shape.., features]`, of a table `[n, features]`; the rows are all in it, and as many as `shape` says.
pub(crate) fn rows_of(table: &Tensor, rows: Vec<u32>, shape: &[usize]) -> Result<Tensor> {
    let (_, features) = table.dims2()?;
    let shape = [shape, &[features]].concat();
    if is_reference() || !table.device().is_cpu() || features == 0 {
        return plain(table, rows, &shape);
    }
    match table.dtype() {
        DType::BF16 => gather::<bf16>(table, rows, &shape),
        DType::F16 => gather::<f16>(table, rows, &shape),
        DType::F32 => gather::<f32>(table, rows, &shape),
        DType::F64 => gather::<f64>(table, rows, &shape),
        _ => plain(table, rows, &shape),
    }
}

fn plain(table: &Tensor, rows: Vec<u32>, shape: &[usize]) -> Result<Tensor> {
    let rows = Tensor::new(rows, table.device())?;
    Ok(table.contiguous()?.index_select(&rows, 0)?.reshape(shape)?)
}

fn gather<T: Element>(table: &Tensor, rows: Vec<u32>, shape: &[usize]) -> Result<Tensor> {
    let (n, features) = table.dims2()?;
    let rows: Arc<[u32]> = rows.into();
    let y = {
        let table = table.detach().contiguous()?;
        let table = &*elements::<T>(&table)?;
        collect(rows.len() * features, &Gather { table, rows: &rows, features })?
    };
    attach(Rows { rows, n, features }, &[table], OwnedStorage::new(y, shape)?)
}

struct Gather<'a, T> {
    table: &'a [T],
    rows: &'a [u32],
    features: usize,
}

// SAFETY: from where a piece begins on, element after element is written.
unsafe impl<T: Element> Fill<T> for Gather<'_, T> {
    #[inline(always)]
    fn write(&self, first: usize, mut piece: &mut [MaybeUninit<T>]) {
        let (mut at, mut skipped) = (first / self.features, first % self.features);
        while !piece.is_empty() {
            let from = &self.table[self.rows[at] as usize * self.features..][skipped..self.features];
            let (to, rest) = piece.split_at_mut(from.len().min(piece.len()));
            for (to, from) in to.iter_mut().zip(from) {
                to.write(*from);
            }
            (piece, at, skipped) = (rest, at + 1, 0);
        }
    }
}

/// Which rows were read.
struct Rows {
    rows: Arc<[u32]>,
    n: usize,
    features: usize,
}

impl Operation for Rows {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?;
        let gradient = match dy.dtype() {
            DType::BF16 => self.scatter::<bf16>(dy)?,
            DType::F16 => self.scatter::<f16>(dy)?,
            DType::F32 => self.scatter::<f32>(dy)?,
            _ => self.scatter::<f64>(dy)?,
        };
        Ok(vec![Some(gradient.into_tensor())])
    }
}

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 16;

impl Rows {
    /// The sum for each row of the table, in the order in which the rows were read. Each thread has a part of the
    /// table, and looks through all of them for its own.
    fn scatter<T: Element>(&self, dy: &Tensor) -> Result<OwnedStorage> {
        let Self { n, features, .. } = *self;
        let mut sums = vec![T::Wide::of(0.); n * features];
        {
            let dy = dy.detach().contiguous()?;
            let dy = &*elements::<T>(&dy)?;
            let is_large = sums.len() + dy.len() >= PARALLEL;
            let parts = if is_large { rayon::current_num_threads() } else { 1 };
            let part = n.div_ceil(parts).max(1);
            pieces(&mut sums, part * features, is_large, |at, sums| {
                dispatch(Add { dy, rows: &self.rows, features, first: at * part, sums });
            });
        }
        let gradient = collect(sums.len(), &Narrow(&sums))?;
        OwnedStorage::new::<T>(gradient, (n, features))
    }
}

/// Adds to the rows of a table from `first` on what is theirs.
struct Add<'a, T: Element> {
    dy: &'a [T],
    rows: &'a [u32],
    features: usize,
    first: usize,
    sums: &'a mut [T::Wide],
}

impl<T: Element> Kernel for Add<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let count = self.sums.len() / self.features;
        for (row, dy) in self.rows.iter().zip(self.dy.chunks_exact(self.features)) {
            let row = (*row as usize).wrapping_sub(self.first);
            if row < count {
                for (sum, dy) in self.sums[row * self.features..][..self.features].iter_mut().zip(dy) {
                    *sum = *sum + dy.widen();
                }
            }
        }
    }
}

/// Sums as elements.
struct Narrow<'a, W>(&'a [W]);

// SAFETY: as many elements are written as there are, those of the sums from `first` on.
unsafe impl<T: Element> Fill<T> for Narrow<'_, T::Wide> {
    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let sums = &self.0[first..][..piece.len()];
        for (to, sum) in piece.iter_mut().zip(sums) {
            to.write(T::narrow(*sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;

    /// Rows, and the gradient of the sum of their products with fixed numbers of type `dtype`.
    fn value_and_gradient(
        table: &Tensor,
        rows: &[u32],
        shape: &[usize],
        dtype: DType,
    ) -> Result<[Vec<f64>; 2]> {
        let var = Var::from_tensor(table)?;
        let y = rows_of(&var.as_tensor().t()?, rows.to_vec(), shape)?;
        let weights = Key::from(1).normal(y.shape(), DType::F32)?.to_dtype(dtype)?.to_dtype(y.dtype())?;
        let gradients = (&y * weights)?.sum_all()?.backward()?;
        let gradient = gradients.get(&var).map_or_else(|| var.zeros_like(), |x| Ok(x.clone()))?;
        let flat = |x: &Tensor| -> Result<_> { Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?) };
        Ok([flat(&y)?, flat(&gradient)?])
    }

    #[test]
    fn kernel_equals_plain_composition() -> Result<()> {
        for (n, features, shape) in
            [(1, 1, [1, 1]), (5, 3, [2, 4]), (40, 17, [3, 0]), (1000, 33, [16, 50]), (300, 260, [40, 9])]
        {
            let count: usize = shape.iter().product();
            let rows: Vec<u32> = (0..count as u32).map(|at| at * at * 7 % 11 * 31 % n as u32).collect();
            // The oracle adds in `F64`; half types add in `F32` and round once.
            for (dtype, tolerance) in
                [(DType::F64, 1e-13), (DType::F32, 1e-5), (DType::F16, 1e-3), (DType::BF16, 4e-3)]
            {
                let table = Key::from(0).normal((features, n), DType::F32)?.to_dtype(dtype)?;
                let [y, dy] = value_and_gradient(&table, &rows, &shape, dtype)?;
                let wide = table.to_dtype(DType::F64)?;
                let [plain_y, plain_dy] = with_reference(|| value_and_gradient(&wide, &rows, &shape, dtype))?;
                assert_eq!(y, plain_y);
                let error = |(a, b): (&f64, &f64)| (a - b).abs() / b.abs().max(1.);
                let error = dy.iter().zip(&plain_dy).map(error).fold(0., f64::max);
                assert!(error <= tolerance, "{n} {features} {dtype:?}: {error}");
            }
        }
        Ok(())
    }
}
