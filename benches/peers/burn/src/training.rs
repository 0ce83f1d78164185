//! Training steps, the optimizer's part of them alone, and inference.

use burn::module::Param;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use serde_json::{Value, json};

use crate::cross_entropy;
use crate::models::Transformer;
use crate::serve::{Result, Work, norm};
use crate::weights::Tensors;

/// What a loss says, in full precision.
pub(crate) fn number(scalar: &Option<Tensor<1>>) -> Result<f64> {
    Ok(f64::from(scalar.clone().ok_or("no step yet")?.into_scalar::<f32>()))
}

pub(crate) struct Training<M, L> {
    /// An optimizer takes it and gives it back.
    model: Option<M>,
    loss_of: L,
    optimizer: ModuleOptimizer,
    learning_rate: f64,
    loss: Option<Tensor<1>>,
}

impl<M: Module, L: Fn(&M) -> Tensor<1>> Training<M, L> {
    pub(crate) fn new(model: M, loss_of: L, optimizer: ModuleOptimizer, learning_rate: f64) -> Self {
        Self { model: Some(model), loss_of, optimizer, learning_rate, loss: None }
    }
}

impl<M: Module, L: Fn(&M) -> Tensor<1>> Work for Training<M, L> {
    fn step(&mut self) -> Result<()> {
        let model = self.model.take().ok_or("a step failed")?;
        let loss = (self.loss_of)(&model);
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(self.learning_rate, model, grads));
        self.loss = Some(loss.inner());
        Ok(())
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        Ok(vec![json!(number(&self.loss)?)])
    }

    fn read(&self) -> Result<()> {
        number(&self.loss).map(drop)
    }
}

/// Parameters of one or two dimensions, as vectors: the optimizer does not mind.
#[derive(Module, Debug)]
struct Parameters {
    parameters: Vec<Param<Tensor<1>>>,
}

/// An optimizer's step, from gradients that stay the same.
pub(crate) struct Step {
    model: Option<Parameters>,
    grads: Vec<Tensor<1>>,
    optimizer: ModuleOptimizer,
}

impl Step {
    pub(crate) fn new(params: &Tensors, grads: &Tensors, optimizer: ModuleOptimizer) -> Result<Self> {
        let parameter = |i: usize| Ok(Param::from_tensor(params.vector(&i.to_string())?));
        let parameters = (0..params.len()).map(parameter).collect::<Result<_>>()?;
        let grads = (0..grads.len()).map(|i| grads.vector(&i.to_string())).collect::<Result<_>>()?;
        Ok(Self { model: Some(Parameters { parameters }), grads, optimizer })
    }
}

impl Work for Step {
    fn step(&mut self) -> Result<()> {
        let model = self.model.take().ok_or("a step failed")?;
        let mut grads = GradientsParams::new();
        for (parameter, grad) in model.parameters.iter().zip(&self.grads) {
            grads.register(parameter.id, grad.clone());
        }
        self.model = Some(self.optimizer.step(1e-3, model, grads));
        Ok(())
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        let model = self.model.as_ref().ok_or("a step failed")?;
        let value = |parameter: &Param<Tensor<1>>| values(parameter.val());
        let values = model.parameters.iter().map(value).collect::<Result<Vec<_>>>()?;
        Ok(norm(values.iter().flatten()).into())
    }
}

pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_into_vec().map_err(|error| format!("{error:?}").into())
}

pub(crate) struct Inference {
    model: Transformer,
    x: Tensor<2, Int>,
    y: Tensor<2, Int>,
    logits: Option<Tensor<3>>,
}

impl Inference {
    pub(crate) fn new(model: Transformer, x: Tensor<2, Int>, y: Tensor<2, Int>) -> Self {
        Self { model, x, y, logits: None }
    }
}

impl Work for Inference {
    fn step(&mut self) -> Result<()> {
        self.logits = Some(self.model.forward(self.x.clone()));
        Ok(())
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        let logits = self.logits.clone().ok_or("no step yet")?.flatten(0, 1);
        Ok(vec![json!(number(&Some(cross_entropy(logits, self.y.clone().flatten(0, 1))))?)])
    }
}
