//! Training steps, the optimizer's part of them alone, and inference.

use std::path::PathBuf;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var, safetensors};
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use serde_json::{Value, json};

use crate::models::Model;
use crate::serve::{Result, Work, norm};

type Loss = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

/// Adam is AdamW without decay.
pub(crate) fn adamw(vars: Vec<Var>, lr: f64, weight_decay: f64) -> Result<AdamW> {
    Ok(AdamW::new(vars, ParamsAdamW { lr, weight_decay, ..Default::default() })?)
}

/// What a loss says, in full precision.
pub(crate) fn number(scalar: &Tensor) -> Result<f64> {
    Ok(f64::from(scalar.to_scalar::<f32>()?))
}

/// Inputs and labels; channels come first, and labels in one row.
fn batch(file: PathBuf) -> Result<[Tensor; 2]> {
    let tensors = safetensors::load(file, &Device::Cpu)?;
    let [mut x, mut y] = ["x", "y"].map(|name| tensors[name].clone());
    if x.rank() == 4 {
        x = x.permute((0, 3, 1, 2))?.contiguous()?;
    }
    if y.dtype().is_int() {
        y = y.flatten_all()?;
    }
    Ok([x, y])
}

pub(crate) struct Training<M, O> {
    model: M,
    loss_of: Loss,
    optimizer: O,
    batch: [Tensor; 2],
    loss: Tensor,
}

impl<M: Model, O: Optimizer> Training<M, O> {
    pub(crate) fn new(model: M, loss_of: Loss, optimizer: O, inputs: PathBuf) -> Result<Self> {
        let loss = Tensor::new(f32::NAN, &Device::Cpu)?;
        Ok(Self { model, loss_of, optimizer, batch: batch(inputs)?, loss })
    }
}

impl<M: Model, O: Optimizer> Work for Training<M, O> {
    fn step(&mut self) -> Result<()> {
        let [x, y] = &self.batch;
        let loss = (self.loss_of)(&self.model.forward(x)?, y)?;
        self.optimizer.backward_step(&loss)?;
        self.loss = loss.detach();
        Ok(())
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        Ok(vec![json!(number(&self.loss)?)])
    }

    fn read(&self) -> Result<()> {
        number(&self.loss).map(drop)
    }
}

/// An optimizer's step, from gradients that stay the same.
pub(crate) struct Step {
    params: Vec<Var>,
    grads: GradStore,
    optimizer: AdamW,
}

impl Step {
    pub(crate) fn new(params: PathBuf, inputs: PathBuf) -> Result<Self> {
        let (values, gradients) =
            (safetensors::load(params, &Device::Cpu)?, safetensors::load(inputs, &Device::Cpu)?);
        let variable = |i: usize| Ok(Var::from_tensor(&values[&i.to_string()])?);
        let params = (0..values.len()).map(variable).collect::<Result<Vec<_>>>()?;
        // There is no other way to a store.
        let mut grads = params[0].sum_all()?.backward()?;
        for (i, param) in params.iter().enumerate() {
            grads.insert(param, gradients[&i.to_string()].clone());
        }
        let optimizer = adamw(params.clone(), 1e-3, 0.)?;
        Ok(Self { params, grads, optimizer })
    }
}

impl Work for Step {
    fn step(&mut self) -> Result<()> {
        Ok(self.optimizer.step(&self.grads)?)
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        let value = |param: &Var| Ok(param.flatten_all()?.to_vec1::<f32>()?);
        let values = self.params.iter().map(value).collect::<Result<Vec<_>>>()?;
        Ok(norm(values.iter().flatten()).into())
    }
}

pub(crate) struct Inference<M> {
    model: M,
    batch: [Tensor; 2],
    logits: Tensor,
}

impl<M: Model> Inference<M> {
    pub(crate) fn new(model: M, inputs: PathBuf) -> Result<Self> {
        Ok(Self { model, batch: batch(inputs)?, logits: Tensor::new(f32::NAN, &Device::Cpu)? })
    }
}

impl<M: Model> Work for Inference<M> {
    fn step(&mut self) -> Result<()> {
        self.logits = self.model.forward(&self.batch[0])?;
        Ok(())
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        Ok(vec![json!(number(&cross_entropy(&self.logits, &self.batch[1])?)?)])
    }
}
