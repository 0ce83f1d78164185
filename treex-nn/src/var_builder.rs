//! Import from candle-nn's `VarBuilder`.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use treex_core::transfers::transfer;
use treex_core::{Error, ErrorKind, KindTag, LeafMut, Result, Rng, Tree};

/// Fills each leaf of `tree` by its path: `layers.0.kernel` from the tensor of that name below the builder's
/// prefix. All are checked before the first is written, so the tree is unchanged on an error.
///
/// A leaf keeps its element type and its device; an uninitialized leaf takes its declared type and the
/// builder's device. A random key that the builder lacks stays as it is, since other libraries save none. To
/// fill a part of a tree, fill a filtered one and `update` with it.
///
/// ```
/// use std::collections::HashMap;
///
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use treex_nn::{Linear, load_var_builder, prelude::*};
///
/// let kernel = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let tensors = HashMap::from([("head.kernel".to_string(), kernel)]);
/// let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
///
/// let mut linear = Linear::new(2, 3).use_bias(false);
/// load_var_builder(&mut linear, &builder.pp("head"))?;
/// assert_eq!(linear.kernel.get()?.dims(), [2, 3]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// If the builder lacks a tensor, or has one of another shape; the error names the leaf.
pub fn load_var_builder<T: Tree>(tree: &mut T, builder: &VarBuilder<'_>) -> Result<()> {
    let tensors =
        tree.leaves_mut().into_iter().map(|leaf| find(leaf, builder)).collect::<Result<Vec<_>>>()?;
    for (mut leaf, tensor) in tree.leaves_mut().into_iter().zip(tensors) {
        if let Some(tensor) = tensor {
            leaf.handle().write(&tensor)?;
        }
    }
    Ok(())
}

/// The tensor for a leaf, or `None` if it stays as it is.
fn find(mut leaf: LeafMut<'_>, builder: &VarBuilder<'_>) -> Result<Option<Tensor>> {
    let (name, path, kind) = (leaf.path().to_string(), leaf.path().clone(), leaf.as_ref().kind());
    let handle = leaf.handle();
    if handle.is_nothing() || (kind.is(KindTag::of::<Rng>()) && !builder.contains_tensor(&name)) {
        return Ok(None);
    }
    if !builder.contains_tensor(&name) {
        return Err(Error::new(ErrorKind::Checkpoint, "the `VarBuilder` has no tensor for the leaf")
            .at(path)
            .expected(format!("a tensor `{name}` below the prefix `{}`", builder.prefix()))
            .remedy("give the builder another prefix with `pp`, or rename the tensors"));
    }
    let dtype = handle.dtype().unwrap_or(builder.dtype());
    let tensor = match handle.shape() {
        Some(shape) => {
            builder.get_with_hints_dtype(shape, &name, Default::default(), dtype).map_err(|error| {
                Error::new(
                    ErrorKind::Checkpoint,
                    "the tensor that the `VarBuilder` has for the leaf cannot be used",
                )
                .at(path)
                .expected(format!("shape {:?}", shape.dims()))
                .caused_by(error)
            })?
        }
        None => builder.get_unchecked_dtype(&name, dtype)?,
    };
    Ok(Some(match handle.value() {
        Some(value) => transfer(&tensor, value.device(), "load models outside of the step")?,
        None => tensor,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device};
    use treex_core::prelude::*;

    use super::*;
    use crate::{Dropout, Linear, Sequential};

    fn builder(shapes: &[(&str, &[usize])]) -> VarBuilder<'static> {
        let ones = |shape: &[usize]| Tensor::ones(shape, DType::F64, &Device::Cpu).unwrap();
        let tensors = shapes.iter().map(|(name, shape)| (name.to_string(), ones(shape)));
        VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu)
    }

    fn model() -> Sequential {
        Sequential::new().add(Linear::new(2, 3)).add(Dropout::new(0.1))
    }

    #[test]
    fn fills_before_and_after_init() -> Result<()> {
        let builder = builder(&[("a.layers.0.kernel", &[2, 3]), ("a.layers.0.bias", &[3])]).pp("a");
        let initialized = model().init(0, &Device::Cpu)?;
        for mut model in [model(), initialized] {
            let rng = model.filter(Rng);
            load_var_builder(&mut model, &builder)?;
            let leaves = model.leaves();
            let values = leaves[..2].iter().map(|(_, _, leaf)| leaf.value().unwrap());
            assert!(values.clone().all(|value| value.dtype() == DType::F32));
            assert_eq!(
                values
                    .map(Tensor::sum_all)
                    .map(|sum| sum?.to_scalar::<f32>())
                    .sum::<candle_core::Result<f32>>()?,
                9.
            );
            assert_eq!(format!("{:?}", leaves[2].2), format!("{:?}", rng.leaves()[0].2));
        }
        Ok(())
    }

    #[test]
    fn from_a_var_map() -> Result<()> {
        let map = candle_nn::VarMap::new();
        let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let theirs = candle_nn::linear_no_bias(2, 2, builder.clone())?;
        let mut ours = HashMap::new();
        ours.insert("kernel".to_string(), theirs.weight().t()?);
        let builder = VarBuilder::from_tensors(ours, DType::F32, &Device::Cpu);
        let mut linear = Linear::new(2, 2).use_bias(false);
        load_var_builder(&mut linear, &builder)?;
        let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
        let theirs = candle_core::Module::forward(&theirs, &x)?;
        assert_eq!(linear.call(&x)?.to_vec2::<f32>()?, theirs.to_vec2::<f32>()?);
        Ok(())
    }

    #[test]
    fn an_error_leaves_the_state_unchanged() -> Result<()> {
        let mut model = model().init(0, &Device::Cpu)?;
        let before = model.clone();
        let missing =
            load_var_builder(&mut model, &builder(&[("layers.0.kernel", &[2, 3])])).unwrap_err().to_string();
        assert!(
            missing.starts_with("the `VarBuilder` has no tensor for the leaf at `layers.0.bias`"),
            "{missing}"
        );
        let shapes: [(&str, &[usize]); 2] = [("layers.0.kernel", &[2, 3]), ("layers.0.bias", &[2])];
        let wrong = load_var_builder(&mut model, &builder(&shapes)).unwrap_err().to_string();
        assert!(wrong.contains("`layers.0.bias`: expected shape [3]"), "{wrong}");
        assert!(
            model.leaves().iter().zip(before.leaves()).all(|(a, b)| format!("{a:?}") == format!("{b:?}"))
        );
        Ok(())
    }
}
