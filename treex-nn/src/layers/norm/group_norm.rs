//! Group normalization.

use candle_core::{DType, Shape, Tensor};
use treex_core::size::check_size;
use treex_core::{Error, Leaf, Parameter, Result, TreeObject};

use super::extent::as_columns;
use super::features::with_rank_of;
use super::options::{masked_call, normalization_options};
use crate::axes::{Axes, sizes};
use crate::functional::normalization::Normalization;
use crate::initializers::{ones, zeros};
use crate::layers::options::parameter_options;
use crate::ops::norm::Extent;

/// `y = (x - mean) / sqrt(var + epsilon) · scale + bias`, for each group of features of each sample, over the
/// group and all dimensions but the first: Flax's `GroupNorm` (Wu and He, 2018). Features are last;
/// neighbouring features form a group.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{GroupNorm, prelude::*};
///
/// let mut norm = GroupNorm::new(6).num_groups(3).init(42, &Device::Cpu)?;
/// assert_eq!(Leaf::get_optional(&norm.scale)?.unwrap().dims(), [6]);
/// let images = Tensor::ones((2, 5, 4, 6), DType::F32, &Device::Cpu)?;
/// assert_eq!(norm.call(&images)?.dims(), [2, 5, 4, 6]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct GroupNorm {
    /// `[features]`; default: ones.
    pub scale: Option<Leaf<Parameter>>,
    /// `[features]`; default: zeros.
    pub bias: Option<Leaf<Parameter>>,
    features: Option<Shape>,
    #[tree(skip)]
    groups: Groups,
    #[tree(skip)]
    reduction_axes: Option<Axes>,
    #[tree(skip)]
    normalization: Normalization,
    dtype: Option<DType>,
}

#[derive(Clone, Copy, Debug)]
enum Groups {
    Number(usize),
    Size(usize),
}

impl GroupNorm {
    /// Normalizes `features` features in 32 groups.
    #[must_use]
    pub fn new(features: usize) -> Self {
        Self::of(Some(features.into()))
    }

    fn of(features: Option<Shape>) -> Self {
        let norm = Self {
            scale: None,
            bias: None,
            features,
            groups: Groups::Number(32),
            reduction_axes: None,
            normalization: Normalization::new("GroupNorm", 1e-6),
            dtype: None,
        };
        norm.use_scale(true).use_bias(true)
    }

    /// The number of groups; default: 32.
    #[must_use]
    pub fn num_groups(self, num_groups: usize) -> Self {
        Self { groups: Groups::Number(num_groups), ..self }
    }

    /// The number of features in a group, instead of the number of groups.
    #[must_use]
    pub fn group_size(self, group_size: usize) -> Self {
        Self { groups: Groups::Size(group_size), ..self }
    }

    /// The axes over which mean and variance are taken, including the last; default: all but the first.
    #[must_use]
    pub fn reduction_axes(self, reduction_axes: impl Into<Axes>) -> Self {
        Self { reduction_axes: Some(reduction_axes.into()), ..self }
    }

    fn normalized(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let leaves = [self.scale.as_ref(), self.bias.as_ref()];
        let (axes, features) =
            self.normalization.axes_and_features(x, &(-1).into(), &self.features, leaves)?;
        let last = x.rank() - 1;
        let groups = self.numbers(sizes(x.dims(), &axes)[0])?;
        check_size(&groups[0].into(), DType::F64)?;
        let columns = as_columns(x, 1, &axes).filter(|_| self.reduction_axes.is_none());
        let columns = columns.map(|columns| Extent { groups: groups[0], size: groups[1], ..columns });
        if let Some(normalized) = self.normalization.fused(
            x,
            (columns, self.normalization.source()),
            &features,
            mask,
            self.dtype,
        )? {
            return Ok(normalized.y);
        }
        // The features of a group get their own axis.
        let grouped =
            |x: &Tensor| -> Result<Tensor> { Ok(x.reshape([&x.dims()[..last], &groups].concat())?) };
        let mask = mask.map(|mask| grouped(&self.normalization.broadcast_mask(mask, x)?)).transpose()?;
        let [scale, bias] =
            with_rank_of(&features, x, &axes)?.map(|leaf| leaf.as_ref().map(grouped).transpose());
        let (groups, parameters) = (grouped(x)?, [scale?, bias?]);
        let (mean, var) =
            self.normalization.mean_and_variance(&groups, &self.reduced(x)?, mask.as_ref(), self.dtype)?;
        let y = self.normalization.normalize(&groups, (Some(&mean), &var), &parameters, self.dtype)?;
        Ok(y.reshape(x.shape())?)
    }

    /// The number of groups of `features` features, and the number of features in a group.
    fn numbers(&self, features: usize) -> Result<[usize; 2]> {
        let (what, divisor) = match self.groups {
            Groups::Number(number) => ("num_groups", number),
            Groups::Size(size) => ("group_size", size),
        };
        match (features.checked_div(divisor), self.groups) {
            (Some(size), Groups::Number(number)) if size * number == features => Ok([number, size]),
            (Some(number), Groups::Size(size)) if number * size == features => Ok([number, size]),
            _ => Err(Error::argument("`GroupNorm` cannot make equal groups of its features")
                .expected(format!("a `{what}` that divides {features}"))
                .found(divisor)),
        }
    }

    /// The axes of the groups' mean: those of `x`, the last being the features of a group.
    fn reduced(&self, x: &Tensor) -> Result<Vec<usize>> {
        let last = x.rank() - 1;
        let Some(axes) = &self.reduction_axes else { return Ok((1..last).chain([last + 1]).collect()) };
        let axes = axes.of("GroupNorm", "reduction_axes", x.dims())?;
        match axes.split_last() {
            Some((axis, others)) if *axis == last => Ok([others, &[last + 1]].concat()),
            _ => Err(Error::argument("`GroupNorm` does not reduce the axis of the features")
                .expected(format!("axis {last} among the `reduction_axes`"))
                .found(format!("{axes:?}"))),
        }
    }
}

parameter_options!(GroupNorm { scale: scale_init, bias: bias_init });
normalization_options!(GroupNorm, epsilon "1e-6", use_fast_variance, { scale: use_scale ones, bias: use_bias zeros });
masked_call!(GroupNorm);

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{ErrorKind, prelude::*};

    use super::*;

    #[test]
    fn errors() -> Result<()> {
        let norm = GroupNorm::new(6).init(0, &Device::Cpu)?;
        let x = Tensor::ones((2, 6), DType::F32, &Device::Cpu)?;
        let message = |norm: GroupNorm| {
            let error = norm.clone().call(&x).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
            error.to_string()
        };
        let text = "`GroupNorm` cannot make equal groups of its features: expected a";
        assert_eq!(message(norm.clone()), format!("{text} `num_groups` that divides 6, found 32"));
        assert_eq!(
            message(norm.clone().num_groups(0)),
            format!("{text} `num_groups` that divides 6, found 0")
        );
        assert_eq!(
            message(norm.clone().group_size(4)),
            format!("{text} `group_size` that divides 6, found 4")
        );
        assert_eq!(
            message(norm.clone().num_groups(2).reduction_axes(0)),
            "`GroupNorm` does not reduce the axis of the features: expected axis 1 among the `reduction_axes`, \
             found [0]"
        );
        let nothing = Tensor::ones((2, 0), DType::F32, &Device::Cpu)?;
        for none in [GroupNorm::new(0).group_size(4), GroupNorm::new(0).num_groups(4)] {
            assert_eq!(none.init(0, &Device::Cpu)?.call(&nothing)?.dims(), [2, 0]);
        }
        let error = norm.num_groups(2).call_with(&x, &x.narrow(1, 0, 4)?).unwrap_err().to_string();
        assert!(error.contains("one that broadcasts to [2, 6], found [2, 4]"), "{error}");
        assert_eq!(
            GroupNorm::lazy()
                .init_with(0, &Tensor::ones((1, 64), DType::F32, &Device::Cpu)?)?
                .count(Parameter),
            128
        );
        Ok(())
    }
}
