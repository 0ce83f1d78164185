//! A deep model of equal blocks.

use std::slice::from_ref;

use candle_core::Tensor;
use treex_core::ModuleKey;
use treex_core::init::blocks::{declare_blocks, fill_blocks};
use treex_core::{
    Module, ModuleId, Result, Tree as _, TreeObject, TreePart, Visitor, VisitorMut, record, scan_blocks,
};

/// `y = block_n(.. block_2(block_1(x)))`, where all blocks are alike and an output has the shape of its input:
/// Flax's `nn.scan` over layers, with `variable_axes={"params": 0}` and `split_rngs={"params": True}`.
///
/// In a tree it is one block whose leaves have a leading axis over the blocks;
/// [`init_linen`](treex_core::Tree::init_linen) gives it Flax's parameters. Only the inputs of the blocks are
/// saved for the backward pass, which recomputes each block: see [`scan_blocks`](treex_core::scan_blocks).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Linear, ScanBlocks, prelude::*};
///
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let mut model = ScanBlocks::new(Linear::new(3, 3), 8).init(42, &Device::Cpu)?;
/// assert_eq!(model.blocks.kernel.get()?.dims(), [8, 3, 3]);
/// let (_, grads) = model.value_and_grad(Parameter, |model| {
///     let y = model.call(&x)?;
///     assert_eq!(y.dims(), [2, 3]);
///     Ok(y.sqr()?.mean_all()?)
/// })?;
/// assert_eq!(grads.blocks.kernel.get()?.dims(), [8, 3, 3]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ScanBlocks<M> {
    /// All blocks as one, see [`Tree::stack`](treex_core::Tree::stack).
    pub blocks: M,
    /// The block from which `init` makes all blocks.
    block: M,
    length: usize,
}

impl<M: TreeObject + Clone> ScanBlocks<M> {
    /// `length` blocks like `block`, whose sizes must be known: given, or inferred by
    /// [`inferred`](treex_core::Tree::inferred). For blocks with their own `module_init`, such as
    /// `SpectralNorm`, initialize each and use [`stacked`](Self::stacked).
    #[must_use]
    pub fn new(block: M, length: usize) -> Self {
        Self { blocks: declare_blocks(&block, length), block, length }
    }

    /// `blocks`, from the first to the last, with their values.
    ///
    /// # Errors
    /// If `blocks` is empty, or they differ in structure, shapes or element types.
    pub fn stacked(blocks: &[M]) -> Result<Self> {
        let stacked = M::stack(blocks)?;
        Ok(Self { block: stacked.filter(!TreePart), blocks: stacked, length: blocks.len() })
    }
}

impl<M: Module + Clone + 'static> Module for ScanBlocks<M> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let carry = scan_blocks(&mut self.blocks, from_ref(x), |block, x| Ok(vec![block.call(&x[0])?]))?;
        let y = carry[0].clone();
        record(self, x, &y);
        Ok(y)
    }
}

treex_core::tree_aux!([M: TreeObject + Clone] ScanBlocks<M>);

impl<M: TreeObject + Clone> TreeObject for ScanBlocks<M> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.blocks.visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        self.blocks.visit_mut(visitor);
    }

    fn identity(&self) -> Option<ModuleId> {
        self.blocks.identity()
    }

    fn initialize_module(&mut self, key: &mut ModuleKey) -> Result<()> {
        fill_blocks(key, &mut self.blocks, &self.block, self.length)
    }
}
