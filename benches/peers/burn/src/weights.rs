//! Tensors of a file, and layers with Flax's weights in them.

use std::collections::HashMap;
use std::path::PathBuf;

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d,
};
use burn::prelude::*;
use burn::tensor::TensorData;
use safetensors::SafeTensors;

use crate::serve::Result;

/// Flax's, not Burn's.
pub(crate) const EPSILON: f64 = 1e-6;

pub(crate) struct Tensors {
    /// Bytes and shape by name.
    tensors: HashMap<String, (Vec<u8>, Vec<usize>)>,
    pub(crate) device: Device,
}

impl Tensors {
    pub(crate) fn read(file: PathBuf, device: &Device) -> Result<Self> {
        let bytes = std::fs::read(file)?;
        let file = SafeTensors::deserialize(&bytes)?;
        let tensors =
            file.iter().map(|(name, view)| (name.to_owned(), (view.data().to_vec(), view.shape().to_vec())));
        Ok(Self { tensors: tensors.collect(), device: device.clone() })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.tensors.len()
    }

    fn values<T>(&self, name: &str, value: impl Fn([u8; 4]) -> T) -> Result<(Vec<T>, Vec<usize>)> {
        let (bytes, shape) = self.tensors.get(name).ok_or_else(|| format!("no `{name}`"))?;
        Ok((bytes.as_chunks().0.iter().map(|&bytes| value(bytes)).collect(), shape.clone()))
    }

    pub(crate) fn floats<const D: usize>(&self, name: &str) -> Result<Tensor<D>> {
        let (values, shape) = self.values(name, f32::from_le_bytes)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    /// All elements in one row.
    pub(crate) fn vector(&self, name: &str) -> Result<Tensor<1>> {
        let (values, _) = self.values(name, f32::from_le_bytes)?;
        Ok(Tensor::from_data(values.as_slice(), &self.device))
    }

    pub(crate) fn integers<const D: usize>(&self, name: &str) -> Result<Tensor<D, Int>> {
        let (values, shape) = self.values(name, |bytes| i64::from(u32::from_le_bytes(bytes)))?;
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    pub(crate) fn parameter<const D: usize>(&self, name: &str) -> Result<Param<Tensor<D>>> {
        Ok(Param::from_tensor(self.floats(name)?))
    }

    /// A kernel may have several input and output axes.
    pub(crate) fn linear(&self, name: &str) -> Result<Linear> {
        let (bias, _) = self.values(&format!("{name}.bias"), f32::from_le_bytes)?;
        let (kernel, _) = self.values(&format!("{name}.kernel"), f32::from_le_bytes)?;
        let shape = [kernel.len() / bias.len(), bias.len()];
        let bias = Tensor::from_data(TensorData::new(bias, [shape[1]]), &self.device);
        Ok(self.linear_of(Tensor::from_data(TensorData::new(kernel, shape), &self.device), bias))
    }

    pub(crate) fn linear_of(&self, kernel: Tensor<2>, bias: Tensor<1>) -> Linear {
        let [inputs, outputs] = kernel.dims();
        let mut layer = LinearConfig::new(inputs, outputs).init(&self.device);
        layer.weight = Param::from_tensor(kernel);
        layer.bias = Some(Param::from_tensor(bias));
        layer
    }

    pub(crate) fn convolution(&self, name: &str) -> Result<Conv2d> {
        let kernel = self.floats::<4>(&format!("{name}.kernel"))?.permute([3, 2, 0, 1]);
        let [outputs, inputs, height, width] = kernel.dims();
        let config =
            Conv2dConfig::new([inputs, outputs], [height, width]).with_padding(PaddingConfig2d::Same);
        let mut layer = config.init(&self.device);
        layer.weight = Param::from_tensor(kernel);
        layer.bias = Some(self.parameter(&format!("{name}.bias"))?);
        Ok(layer)
    }

    pub(crate) fn batch_norm(&self, name: &str) -> Result<BatchNorm> {
        let gamma = self.parameter::<1>(&format!("{name}.scale"))?;
        let mut layer = BatchNormConfig::new(gamma.dims()[0]).init(&self.device);
        layer.gamma = gamma;
        layer.beta = self.parameter(&format!("{name}.bias"))?;
        Ok(layer)
    }

    pub(crate) fn layer_norm(&self, name: &str) -> Result<LayerNorm> {
        let gamma = self.parameter::<1>(&format!("{name}.scale"))?;
        let mut layer = LayerNormConfig::new(gamma.dims()[0]).with_epsilon(EPSILON).init(&self.device);
        layer.gamma = gamma;
        layer.beta = Some(self.parameter(&format!("{name}.bias"))?);
        Ok(layer)
    }
}
