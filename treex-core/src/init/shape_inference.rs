//! Shape inference: layers without given input sizes infer them from a sample.
//!
//! The model is called once with zeros for parameters. A layer passes the shape that its input requires to
//! [`Leaf::infer`](crate::Leaf::infer), which returns zeros of that shape if the leaf's own is unknown.

use candle_core::Device;

use super::shape_probe::with_probe;
use crate::error::Result;
use crate::init::{self, Source};
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::walk::{attach_path, walk_mut};

/// Writes the shapes that `call` infers into the uninitialized leaves of `tree`.
pub(crate) fn infer<T: TreeObject + Clone, R>(
    tree: &mut T,
    device: &Device,
    call: impl FnOnce(&mut T) -> Result<R>,
) -> Result<()> {
    // Clones of one layer share the cells of their uninitialized leaves; their shapes may differ.
    each_unknown(tree, |leaf| leaf.map_initializer(|initializer| initializer));
    let mut sample = tree.clone();
    init::fill(&mut sample, Source::Zeros(device.clone()))?;
    init::to_device(&mut sample, device)?;
    let (called, shapes) = with_probe(device, || call(&mut sample));
    called.map_err(|error| attach_path(&sample, error))?;
    each_unknown(tree, |leaf| {
        if let Some(shape) = shapes.get(&leaf.cell()) {
            leaf.map_initializer(|initializer| initializer.with_shape(shape.clone()));
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Shape, Tensor};

    use crate::prelude::*;
    use crate::tree::kind::{BatchStat, Parameter};
    use crate::tree::leaf::Leaf;
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
    fn clones_of_one_layer_infer_their_own_shapes() -> Result<()> {
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
        let (inferred, given) = (model().init_with(7, &sample())?, given.init(7, &Device::Cpu)?);
        for (a, b) in inferred.0.iter().zip(&given.0) {
            assert_eq!(a.kernel, b.kernel);
        }
        Ok(())
    }

    #[test]
    fn an_unreached_leaf_is_named() {
        let unused = (model(), Layer::features(3));
        let error = unused.inferred_by(&Device::Cpu, |pair| pair.0.call(&sample())).unwrap();
        let error = error.init(0, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("`1.kernel`") && error.contains("init_with("), "{error}");
        let error = model().init(0, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("`0.0.kernel`") && error.contains("init_with("), "{error}");
    }

    #[test]
    fn a_failed_call_changes_nothing_and_ends_the_probe() {
        let wrong = Tensor::ones(5, DType::F32, &Device::Cpu).unwrap();
        assert!(model().init_with(0, &wrong).is_err());
        assert!(model().0[0].kernel.infer((1, 1)).is_err());
    }
}
