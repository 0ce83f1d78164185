//! The feature axes of a normalization, and the scale and bias on them.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Error, Kind, Leaf, Parameter, Result};

use crate::axes::{Axes, sizes};
use crate::functional::normalization::Normalization;
use crate::initializers::InitFn;

impl Normalization {
    /// The positions of the feature axes of `x`, and scale and bias with its sizes on them.
    pub(super) fn axes_and_features(
        &self,
        x: &Tensor,
        axes: &Axes,
        features: &Option<Shape>,
        leaves: [Option<&Leaf<Parameter>>; 2],
    ) -> Result<(Vec<usize>, [Option<Tensor>; 2])> {
        let axes = self.feature_axes(x, axes, known_shape(features, leaves))?;
        let parts = scale_and_bias(leaves, x, &axes)?;
        Ok((axes, parts))
    }

    /// The positions of the feature axes of `x`, whose sizes must be the `known` ones.
    pub(super) fn feature_axes(&self, x: &Tensor, axes: &Axes, known: Option<&Shape>) -> Result<Vec<usize>> {
        let fits = |axes: &Vec<usize>| known.is_none_or(|known| known.dims() == sizes(x.dims(), axes));
        if let Some(axes) = axes.of(self.layer, "axes", x.dims()).ok().filter(fits) {
            return Ok(axes);
        }
        let known = match known.map(Shape::dims) {
            Some([features]) => features.to_string(),
            Some(features) => format!("{features:?}"),
            None => "the".to_owned(),
        };
        Err(Error::shape(format!("`{}` got an input of the wrong shape", self.layer))
            .expected(format!("{known} features on {axes}"))
            .found(format!("{:?}", x.dims()))
            .remedy("make it with the number of features of the layer before"))
    }
}

/// A leaf of the features' shape, if it is known.
pub(super) fn declared<K: Kind>(features: Option<&Shape>, init: impl InitFn) -> Leaf<K> {
    let leaf = Leaf::unshaped(init, DType::F32);
    match features {
        Some(features) => leaf.with_shape(features.clone()),
        None => leaf,
    }
}

/// The shape of the features, if it was given or inferred.
pub(super) fn known_shape<'l>(
    features: &'l Option<Shape>,
    leaves: [Option<&'l Leaf<Parameter>>; 2],
) -> Option<&'l Shape> {
    features.as_ref().or_else(|| leaves.into_iter().flatten().find_map(Leaf::shape))
}

/// Scale and bias, in the sizes of `x` on `axes`.
pub(super) fn scale_and_bias(
    leaves: [Option<&Leaf<Parameter>>; 2],
    x: &Tensor,
    axes: &[usize],
) -> Result<[Option<Tensor>; 2]> {
    let [scale, bias] = leaves.map(|leaf| leaf.map(|leaf| leaf.infer(sizes(x.dims(), axes))).transpose());
    Ok([scale?, bias?])
}

/// Scale and bias with the rank of `x`, to broadcast.
pub(super) fn with_rank_of(
    features: &[Option<Tensor>; 2],
    x: &Tensor,
    axes: &[usize],
) -> Result<[Option<Tensor>; 2]> {
    let [scale, bias] =
        features.each_ref().map(|part| part.as_ref().map(|part| along(part, x, axes)).transpose());
    Ok([scale?, bias?])
}

/// `part`, which has the sizes of `x` on `axes`, with size 1 on the other axes.
pub(super) fn along(part: &Tensor, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let mut dims = vec![1; x.rank()];
    axes.iter().for_each(|&axis| dims[axis] = x.dims()[axis]);
    Ok(part.reshape(dims)?)
}
