//! Memory of leaves, taken out to be written in place.

use std::cell::Cell;
use std::mem;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor};

use crate::error::Result;
use crate::kind::{KindTag, TreePart};
use crate::leaf::Handle;

/// The memory of one leaf's value on the host. It goes back to the leaf when this is dropped, so a loop may
/// hold those of thousands of leaves at once, without locks.
///
/// Whoever reads a tensor that was taken from the leaf finds nothing as long.
#[derive(Debug)]
pub struct Buffer<'l> {
    variable: &'l Tensor,
    storage: CpuStorage,
}

const NOTHING: CpuStorage = CpuStorage::U8(Vec::new());

impl<'l> Buffer<'l> {
    /// Takes the memory out of `leaf`, which becomes the only holder of its value: in place if it is that
    /// already, otherwise by a copy. `None` if the value is not on the host, or there is none.
    ///
    /// # Errors
    /// If the copy cannot be allocated.
    pub fn take(leaf: &'l mut Handle) -> Result<Option<Self>> {
        if !leaf.value().is_some_and(|value| matches!(value.device(), Device::Cpu)) {
            return Ok(None);
        }
        let variable = leaf.unique(KindTag::of::<TreePart>())?;
        Ok(Some(Self { variable, storage: exchange(variable, NOTHING)? }))
    }

    /// The memory: as many elements as the value has, row-major.
    pub fn storage(&mut self) -> &mut CpuStorage {
        &mut self.storage
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // It succeeded when the memory was taken out, and nothing in it can fail.
        let _ = exchange(self.variable, mem::replace(&mut self.storage, NOTHING));
    }
}

/// Puts `memory` into a variable, and gives back what was there.
fn exchange(variable: &Tensor, memory: CpuStorage) -> Result<CpuStorage> {
    let exchange = Exchange(Cell::new(memory));
    variable.inplace_op1(&exchange)?;
    Ok(exchange.0.into_inner())
}

/// Candle hands out an operation by a shared reference, hence the cell.
struct Exchange(Cell<CpuStorage>);

impl InplaceOp1 for Exchange {
    fn name(&self) -> &'static str {
        "exchange memory"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        *storage = self.0.replace(mem::replace(storage, NOTHING));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    use crate::kind::Parameter;
    use crate::leaf::Leaf;

    fn double(leaf: &mut Leaf<Parameter>) -> Result<()> {
        let mut buffer = Buffer::take(&mut leaf.handle)?.expect("a value on the host");
        match buffer.storage() {
            CpuStorage::F32(values) => values.iter_mut().for_each(|x| *x *= 2.),
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    #[test]
    fn in_place_if_nobody_else_holds_the_leaf() -> Result<()> {
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
    fn the_memory_comes_back_after_a_panic() -> Result<()> {
        let mut leaf = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2.], &Device::Cpu)?)?;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _buffer = Buffer::take(&mut leaf.handle);
            panic!("in a kernel");
        }));
        assert!(result.is_err());
        assert_eq!(leaf.get()?.to_vec1::<f32>()?, [1., 2.]);
        Ok(())
    }

    #[test]
    fn nothing_has_no_memory() -> Result<()> {
        assert!(Buffer::take(&mut Leaf::<Parameter>::nothing().handle)?.is_none());
        Ok(())
    }
}
