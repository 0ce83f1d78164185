//! A module applied under more batch dimensions than it takes.

use candle_core::Tensor;
use treex_core::ModuleKey;
use treex_core::{Error, Module, ModuleId, Result, TreeObject, Visitor, VisitorMut};

/// Calls a module with the first dimensions of its input merged into one, and splits them again in its
/// output: Flax's `BatchApply`. It applies a module with one batch dimension to `[time, batch, ..]`.
///
/// The wrapper is transparent in a tree: paths, names and keys are those of the module itself.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{BatchApply, Flatten, prelude::*};
///
/// let video = Tensor::ones((5, 2, 8, 8, 3), DType::F32, &Device::Cpu)?; // [time, batch, ..]
/// let mut frames = BatchApply::new(Flatten);
/// assert_eq!(frames.call(&video)?.dims(), [5, 2, 192]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchApply<F> {
    /// The module inside.
    pub f: F,
    num_dims: usize,
}

impl<F: TreeObject> BatchApply<F> {
    /// `f`, with the first two dimensions merged.
    #[must_use]
    pub fn new(f: F) -> Self {
        Self { f, num_dims: 2 }
    }

    /// The number of dimensions to merge; default: 2.
    #[must_use]
    pub fn num_dims(self, num_dims: usize) -> Self {
        Self { num_dims, ..self }
    }

    /// The call with any inputs: `call` gets the module inside. Inputs with at least `num_dims` dimensions
    /// are merged, the others passed as they are; the output is split like the first merged input.
    ///
    /// # Errors
    /// If no input has `num_dims` dimensions, or the output does not start with the merged one; and any error
    /// of `call`.
    pub fn call_inner(
        &mut self,
        inputs: &[&Tensor],
        call: impl FnOnce(&mut F, &[Tensor]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let num_dims = self.num_dims;
        let Some((batch, _)) = inputs.iter().find_map(|x| x.dims().split_at_checked(num_dims)) else {
            let found: Vec<_> = inputs.iter().map(|x| x.dims()).collect();
            return Err(Error::shape("`BatchApply` got no input with the dimensions to merge")
                .expected(format!("at least {num_dims} dimensions"))
                .found(format!("{found:?}"))
                .of(self.identity()));
        };
        let merged = inputs.iter().map(|x| match x.dims().split_at_checked(num_dims) {
            Some((batch, item)) => x.reshape([&[batch.iter().product()], item].concat()),
            None => Ok((*x).clone()),
        });
        let y = call(&mut self.f, &merged.collect::<candle_core::Result<Vec<_>>>()?)?;
        match y.dims().split_first() {
            Some((&rows, item)) if rows == batch.iter().product::<usize>() => {
                Ok(y.reshape([batch, item].concat())?)
            }
            _ => Err(Error::shape("`BatchApply` got an output that it cannot split")
                .expected(format!("[{}, ..]", batch.iter().product::<usize>()))
                .found(format!("{:?}", y.dims()))
                .of(self.identity())),
        }
    }
}

impl<F: Module + Clone> Module for BatchApply<F> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.call_inner(&[x], |f, inputs| f.call(&inputs[0]))
    }
}

treex_core::tree_aux!([F: TreeObject] BatchApply<F>);

impl<F: TreeObject> TreeObject for BatchApply<F> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.f.visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        self.f.visit_mut(visitor);
    }

    fn identity(&self) -> Option<ModuleId> {
        self.f.identity()
    }

    fn initialize_module(&mut self, key: &mut ModuleKey) -> Result<()> {
        self.f.initialize_module(key)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use treex_core::prelude::*;

    use super::*;
    use crate::{Conv, Lambda};

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_wrapper_is_transparent() -> Result<()> {
        let conv = Conv::new(2, 3, [3, 3]).init(5, &Device::Cpu)?;
        let mut applied = BatchApply::new(Conv::new(2, 3, [3, 3])).num_dims(3).init(5, &Device::Cpu)?;
        assert_eq!(applied.f.kernel, conv.kernel);
        assert_eq!(applied.leaves()[0].0.to_string(), "kernel");
        assert_eq!(applied.module_name(), Some("Conv"));
        assert_eq!(applied.call(&ones(&[2, 1, 4, 5, 6, 2]))?.dims(), [2, 1, 4, 5, 6, 3]);
        Ok(())
    }

    #[test]
    fn inputs_with_fewer_dimensions_are_passed_unchanged() -> Result<()> {
        let mut product = BatchApply::new(());
        let y = product.call_inner(&[&ones(&[4]), &ones(&[2, 3, 4])], |(), inputs| {
            assert_eq!((inputs[0].dims(), inputs[1].dims()), (&[4][..], &[6, 4][..]));
            Ok(inputs[1].broadcast_mul(&inputs[0])?.sum(1)?)
        })?;
        assert_eq!(y.to_vec2::<f32>()?, [[4.; 3]; 2]);
        Ok(())
    }

    #[test]
    fn errors() {
        let mut sum = BatchApply::new(Lambda::new("sum", |x: &Tensor| Ok(x.sum_all()?)));
        let error = sum.call(&ones(&[2, 3])).unwrap_err().to_string();
        assert!(error.contains("cannot split: expected [6, ..], found []"), "{error}");
        let error = sum.call(&ones(&[2])).unwrap_err().to_string();
        assert!(error.contains("expected at least 2 dimensions, found [[2]]"), "{error}");
    }
}
