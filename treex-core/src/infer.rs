//! Shape inference: layers that were not given their sizes learn them from a sample.
//!
//! The model is called once with zeros for parameters. A layer asks a leaf of unknown shape for its value by
//! [`Leaf::infer`](crate::Leaf::infer), with the shape that the input asks for, and gets zeros of that shape.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{Device, Shape, Tensor};

use crate::error::Result;
use crate::init::{self, Source};
use crate::leaf::Handle;
use crate::object::TreeObject;
use crate::walk::{place, walk_mut};

/// What was learned so far, by the cell of the leaf.
struct Lesson {
    device: Device,
    shapes: HashMap<usize, Shape>,
}

thread_local! {
    /// Open while `infer` calls a model on this thread.
    static LESSON: RefCell<Option<Lesson>> = const { RefCell::new(None) };
}

/// Closes the lesson when it goes, and opens the one around it again.
struct Outer(Option<Lesson>);

impl Drop for Outer {
    fn drop(&mut self) {
        LESSON.set(self.0.take());
    }
}

/// Writes into the waiting leaves of `tree` the shapes that they get from `call`.
pub(crate) fn infer<T: TreeObject + Clone, R>(
    tree: &mut T,
    device: &Device,
    call: impl FnOnce(&mut T) -> Result<R>,
) -> Result<()> {
    // Clones of one layer share the cells of their waiting leaves; what they learn may differ.
    each_unknown(tree, |leaf| leaf.redeclare(|initializer| initializer));
    let mut pupil = tree.clone();
    init::fill(&mut pupil, Source::Zeros(device.clone()))?;
    init::to_device(&mut pupil, device)?;
    let outer = Outer(LESSON.replace(Some(Lesson { device: device.clone(), shapes: HashMap::new() })));
    let called = call(&mut pupil);
    let shapes = LESSON.take().map(|lesson| lesson.shapes).unwrap_or_default();
    drop(outer);
    called.map_err(|error| place(&pupil, error))?;
    each_unknown(tree, |leaf| {
        if let Some(shape) = shapes.get(&leaf.cell()) {
            leaf.redeclare(|initializer| initializer.with_shape(shape.clone()));
        }
    });
    Ok(())
}

fn each_unknown<T: TreeObject>(tree: &mut T, mut each: impl FnMut(&mut Handle)) {
    walk_mut(tree, |_, _, leaf| {
        if leaf.initializer().is_some_and(|initializer| initializer.shape().is_none()) {
            each(leaf);
        }
    });
}

/// Zeros for a leaf of unknown shape, if a lesson is on; it keeps the shape.
pub(crate) fn learn(leaf: &Handle, shape: Shape) -> Result<Option<Tensor>> {
    let Some(initializer) = leaf.initializer() else { return Ok(None) };
    let (None, Some(dtype)) = (initializer.shape(), initializer.dtype()) else { return Ok(None) };
    LESSON.with_borrow_mut(|lesson| {
        let Some(lesson) = lesson else { return Ok(None) };
        let shape = lesson.shapes.entry(leaf.cell()).or_insert(shape);
        Ok(Some(Tensor::zeros(&*shape, dtype, &lesson.device)?))
    })
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use crate::kind::{BatchStat, Parameter};
    use crate::leaf::Leaf;
    use crate::prelude::*;
    use crate::{Key, Result};

    use super::*;

    #[derive(Clone, Debug, crate::TreeObject)]
    struct Layer {
        kernel: Leaf<Parameter>,
        calls: Leaf<BatchStat>,
        features: usize,
    }

    impl Layer {
        fn features(features: usize) -> Self {
            let normal = |key: &Key, shape: &Shape, dtype| key.normal(shape.clone(), dtype);
            let zeros = |_: &Key, shape: &Shape, dtype| Ok(Tensor::zeros(shape, dtype, &Device::Cpu)?);
            Self {
                kernel: Leaf::unshaped(normal, DType::F32),
                calls: Leaf::param(zeros, (), DType::F32),
                features,
            }
        }
    }

    impl Module for Layer {
        fn call(&mut self, x: &Tensor) -> Result<Tensor> {
            self.calls.set((self.calls.get()? + 1.)?)?;
            Ok(x.matmul(&self.kernel.infer((x.dim(1)?, self.features))?)?)
        }
    }

    #[derive(Clone, Debug, crate::TreeObject)]
    struct Model(Vec<Layer>);

    impl Module for Model {
        fn call(&mut self, x: &Tensor) -> Result<Tensor> {
            self.0.iter_mut().try_fold(x.clone(), |x, layer| layer.call(&x))
        }
    }

    fn model() -> Model {
        Model(vec![Layer::features(3); 2])
    }

    fn sample() -> Tensor {
        Tensor::ones((2, 5), DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn clones_of_one_layer_learn_each_their_own() -> Result<()> {
        let model = model().init_with(0, &sample())?;
        assert_eq!(model.0[0].kernel.get()?.dims(), [5, 3]);
        assert_eq!(model.0[1].kernel.get()?.dims(), [3, 3]);
        assert_eq!(model.0[1].calls.get()?.to_scalar::<f32>()?, 0.);
        Ok(())
    }

    #[test]
    fn keys_are_those_of_a_model_with_given_sizes() -> Result<()> {
        let mut given = model();
        for (layer, din) in given.0.iter_mut().zip([5, 3]) {
            layer.kernel = layer.kernel.clone().with_shape((din, 3));
        }
        let (learned, given) = (model().init_with(7, &sample())?, given.init(7, &Device::Cpu)?);
        for (a, b) in learned.0.iter().zip(&given.0) {
            assert_eq!(a.kernel, b.kernel);
        }
        Ok(())
    }

    #[test]
    fn what_was_not_reached_is_named() {
        let unused = (model(), Layer::features(3));
        let error = unused.inferred_by(&Device::Cpu, |pair| pair.0.call(&sample())).unwrap();
        let error = error.init(0, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("`1.kernel`") && error.contains("init_with("), "{error}");
        let error = model().init(0, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("`0.0.kernel`") && error.contains("init_with("), "{error}");
    }

    #[test]
    fn a_failed_call_changes_nothing_and_is_over() {
        let wrong = Tensor::ones(5, DType::F32, &Device::Cpu).unwrap();
        assert!(model().init_with(0, &wrong).is_err());
        assert!(model().0[0].kernel.infer((1, 1)).is_err());
    }
}
