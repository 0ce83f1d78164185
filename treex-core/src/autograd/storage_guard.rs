//! The memory of leaves, taken out to be written in place.

use std::cell::Cell;
use std::mem;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor};

use super::storage::EMPTY;
use crate::error::Result;
use crate::tensors::len;
use crate::tree::handle::Handle;
use crate::tree::kind::{KindTag, TreePart};

/// The CPU memory of one leaf's value. It returns to the leaf when the guard is dropped, so a loop may hold the
/// memory of thousands of leaves at once, without locks.
///
/// While the guard lives, tensors that were read from the leaf are empty.
#[derive(Debug)]
pub struct StorageGuard<'l> {
    variable: &'l Tensor,
    storage: CpuStorage,
}

impl<'l> StorageGuard<'l> {
    /// Takes the memory out of `leaf`, which becomes the only holder of its value, by a copy if it is shared. `None` if
    /// there is no value, or it is on another device.
    ///
    /// # Errors
    /// If the copy cannot be allocated.
    pub fn take(leaf: &'l mut Handle) -> Result<Option<Self>> {
        if !leaf.value().is_some_and(|value| matches!(value.device(), Device::Cpu)) {
            return Ok(None);
        }
        let variable = leaf.make_mut(KindTag::of::<TreePart>())?;
        Ok(Some(Self { variable, storage: exchange(variable, EMPTY)? }))
    }

    /// The memory: the elements of the value, row-major. If their number or type changes, the leaf loses its memory:
    /// Candle's functions then fail or panic on its value.
    pub fn storage(&mut self) -> &mut CpuStorage {
        &mut self.storage
    }
}

impl Drop for StorageGuard<'_> {
    fn drop(&mut self) {
        let storage = mem::replace(&mut self.storage, EMPTY);
        let fits = storage.dtype() == self.variable.dtype() && len(&storage) == self.variable.elem_count();
        // The same exchange succeeded when the memory was taken out.
        let _ = exchange(self.variable, if fits { storage } else { EMPTY });
    }
}

/// Puts `memory` into a variable and returns what it held.
fn exchange(variable: &Tensor, memory: CpuStorage) -> Result<CpuStorage> {
    let exchange = Exchange(Cell::new(memory));
    variable.inplace_op1(&exchange)?;
    Ok(exchange.0.into_inner())
}

/// Candle passes an operation by shared reference, hence the cell.
struct Exchange(Cell<CpuStorage>);

impl InplaceOp1 for Exchange {
    fn name(&self) -> &'static str {
        "exchange memory"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        *storage = self.0.replace(mem::replace(storage, EMPTY));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Tensor};

    use super::*;
    use crate::tree::kind::Parameter;
    use crate::tree::leaf::Leaf;

    fn double(leaf: &mut Leaf<Parameter>) -> Result<()> {
        let mut guard = StorageGuard::take(&mut leaf.handle)?.expect("a value on the CPU");
        match guard.storage() {
            CpuStorage::F32(values) => values.iter_mut().for_each(|x| *x *= 2.),
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    #[test]
    fn in_place_if_the_leaf_is_the_only_holder() -> Result<()> {
        let mut leaf = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2.], &Device::Cpu)?)?;
        let view = leaf.get()?;
        double(&mut leaf)?;
        assert_eq!(view.to_vec1::<f32>()?, [2., 4.]);
        let snapshot = leaf.clone();
        double(&mut leaf)?;
        assert_eq!(snapshot.get()?.to_vec1::<f32>()?, [2., 4.]);
        assert_eq!(leaf.get()?.to_vec1::<f32>()?, [4., 8.]);
        Ok(())
    }

    #[test]
    fn the_memory_returns_after_a_panic() -> Result<()> {
        let mut leaf = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2.], &Device::Cpu)?)?;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = StorageGuard::take(&mut leaf.handle);
            panic!("in a kernel");
        }));
        assert!(result.is_err());
        assert_eq!(leaf.get()?.to_vec1::<f32>()?, [1., 2.]);
        Ok(())
    }

    #[test]
    fn memory_of_another_length_does_not_return() -> Result<()> {
        let mut leaf = Leaf::<Parameter>::new(Tensor::ones((8, 8), DType::F32, &Device::Cpu)?)?;
        let mut guard = StorageGuard::take(&mut leaf.handle)?.expect("a value on the CPU");
        *guard.storage() = CpuStorage::F32(vec![1.; 3]);
        drop(guard);
        let value = leaf.get()?;
        assert!(value.matmul(&value).is_err());
        Ok(())
    }

    #[test]
    fn a_filtered_leaf_has_no_memory() -> Result<()> {
        assert!(StorageGuard::take(&mut Leaf::<Parameter>::nothing().handle)?.is_none());
        Ok(())
    }
}
