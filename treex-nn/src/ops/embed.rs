//! Rows of a table as one operation, whose gradient is a scatter-add.

use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::device::{self, has_kernels};
use treex_core::indices::Checked;
use treex_core::transfers::transfer;
use treex_core::{Result, match_float};
use treex_kernels::embedding::Embedding;

use crate::dtype::wide_dtype;

/// `table[rows]`, `[shape.., features]`, of a table `[n, features]`. Each row is below `n`, and their number is that of
/// `shape`'s elements.
pub fn rows_of(table: &Tensor, rows: Vec<u32>, shape: &[usize]) -> Result<Tensor> {
    let (_, features) = table.dims2()?;
    let shape = [shape, &[features]].concat();
    if is_reference() || !table.device().is_cpu() || features == 0 {
        return reference(table, rows, &shape);
    }
    match_float!(
        table.dtype(),
        T in [f32, f64, bf16, f16] => forward::<T>(table, rows, &shape),
        else reference(table, rows, &shape)
    )
}

/// The most ids whose gradients are summed by comparing each with all; for more, Candle adds them up.
const MOST_IDS: usize = 1 << 16;

/// `table[ids]` of ids that are on a device, where they stay: an id of no row gives NaN. The table has a row.
pub fn rows_on_device(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (n, features) = table.dims2()?;
    let shape = [ids.dims(), &[features]].concat();
    if ids.elem_count() == 0 {
        return reference(table, Vec::new(), &shape);
    }
    let ids = transfer(ids, table.device(), "make the ids on the device of the table")?;
    let is_beside = !table.device().is_cpu() && ids.elem_count() <= MOST_IDS;
    if !is_reference()
        && is_beside
        && has_kernels(table)
        && matches!(ids.dtype(), DType::U32 | DType::I64)
        && n > 1
    {
        let ids = ids.contiguous()?;
        let y = device::embedding::gather_rows(&table.detach().contiguous()?, &ids)?;
        return attach(EmbedOnDevice { ids, n }, &[table], y);
    }
    let ids = if n == 1 { ids.zeros_like()? } else { ids };
    let rows = Checked::new(&ids, n, true)?;
    let selected = select(table, &rows.indices.flatten_all()?, &shape)?;
    Ok(rows.or_nan(&selected, 0)?.to_dtype(table.dtype())?)
}

fn reference(table: &Tensor, rows: Vec<u32>, shape: &[usize]) -> Result<Tensor> {
    let rows = Tensor::new(rows, &Device::Cpu)?;
    let rows = transfer(&rows, table.device(), "make the ids on the device of the table")?;
    Ok(select(table, &rows, shape)?.to_dtype(table.dtype())?)
}

/// `table[rows]` as a tensor of `shape`, in the compute type.
fn select(table: &Tensor, rows: &Tensor, shape: &[usize]) -> Result<Tensor> {
    // Candle adds the gradient of each row to those before.
    let selected = table.to_dtype(wide_dtype(table.dtype()))?.contiguous()?.index_select(rows, 0)?;
    Ok(selected.reshape(shape)?)
}

fn forward<T: Element + Embedding>(table: &Tensor, rows: Vec<u32>, shape: &[usize]) -> Result<Tensor> {
    let (n, features) = table.dims2()?;
    let rows: Arc<[u32]> = rows.into();
    let y = T::gather(&elements(&table.detach().contiguous()?)?, &rows, features)?;
    let operation = Embed { rows, n, features, element: PhantomData::<fn() -> T> };
    attach(operation, &[table], OwnedStorage::new(y, shape)?)
}

struct Embed<T> {
    rows: Arc<[u32]>,
    n: usize,
    features: usize,
    element: PhantomData<fn() -> T>,
}

impl<T: Element + Embedding> Operation for Embed<T> {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let gradient = T::scatter_add(&elements(&dy)?, &self.rows, self.n, self.features)?;
        Ok(vec![Some(OwnedStorage::new(gradient, (self.n, self.features))?.into_tensor())])
    }
}

struct EmbedOnDevice {
    ids: Tensor,
    n: usize,
}

impl Operation for EmbedOnDevice {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        Ok(vec![Some(device::embedding::scatter_rows(&self.ids, &dy, self.n)?.into_tensor())])
    }
}

#[cfg(test)]
mod tests {
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;
    use crate::ops::testing::value_and_gradients;

    #[test]
    fn kernel_equals_reference_composition() -> Result<()> {
        for (n, features, shape) in
            [(1, 1, [1, 1]), (5, 3, [2, 4]), (40, 17, [3, 0]), (1000, 33, [16, 50]), (300, 260, [40, 9])]
        {
            let count: usize = shape.iter().product();
            let rows: Vec<u32> = (0..count as u32).map(|at| at * at * 7 % 11 * 31 % n as u32).collect();
            // The reference sums in `F64`; half types are summed in `F32` and rounded once.
            for (dtype, tolerance) in
                [(DType::F64, 1e-13), (DType::F32, 1e-5), (DType::F16, 1e-3), (DType::BF16, 4e-3)]
            {
                let table = Key::from(0).normal((features, n), DType::F32)?.to_dtype(dtype)?;
                let rows = |[table]: [&Tensor; 1]| rows_of(&table.t()?, rows.clone(), &shape);
                let found = value_and_gradients([&table], rows)?;
                let wide = table.to_dtype(DType::F64)?;
                let expected = with_reference(|| value_and_gradients([&wide], rows))?;
                assert_eq!(found[0], expected[0]);
                let error = |(a, b): (&f64, &f64)| (a - b).abs() / b.abs().max(1.);
                assert!(found[1].iter().all(|x| x.is_finite()));
                let error = found[1].iter().zip(&expected[1]).map(error).fold(0., f64::max);
                assert!(error <= tolerance, "{n} {features} {dtype:?}: {error}");
            }
        }
        Ok(())
    }
}
