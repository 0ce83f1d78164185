//! Training steps, optimizer steps alone, and inference.

use std::path::PathBuf;

use candle_core::{Device, Tensor, safetensors};
use serde_json::{Value, json};
use treex_core::{Leaf, Module, Parameter, prelude::*};
use treex_optim::{GradientTransformation, Optimizer, softmax_cross_entropy_with_integer_labels};

use crate::serve::{Data, Result, Work, norm};

type Loss = fn(&Tensor, &Tensor) -> treex_core::Result<Tensor>;

/// Mean cross-entropy over all labels.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> treex_core::Result<Tensor> {
    Ok(softmax_cross_entropy_with_integer_labels(logits, labels)?.mean_all()?)
}

/// The tensors of a file, by name.
pub(crate) fn tensors(file: PathBuf) -> Result<impl Fn(&str) -> Result<Tensor>> {
    let tensors = safetensors::load(file, &Device::Cpu)?;
    Ok(move |name: &str| Ok(tensors.get(name).ok_or_else(|| format!("no `{name}`"))?.clone()))
}

/// `model` with the weights of a file.
fn started<M: Module + Clone>(model: M, file: PathBuf) -> Result<M> {
    let model = model.init(0, &Device::Cpu)?;
    let mut parameters = model.filter(Parameter);
    parameters.load(file)?;
    Ok(model.updated(&parameters)?)
}

/// The value of a loss in full precision.
pub(crate) fn number(scalar: &Tensor) -> Result<f64> {
    Ok(f64::from(scalar.to_scalar::<f32>()?))
}

pub(crate) struct Training<M, T: GradientTransformation> {
    model: M,
    optimizer: Optimizer<T>,
    loss_of: Loss,
    x: Tensor,
    y: Tensor,
    loss: Tensor,
}

impl<M: Module + Clone, T: GradientTransformation> Training<M, T> {
    pub(crate) fn new(
        model: M,
        loss_of: Loss,
        transformation: T,
        name: &str,
        data: &Data<'_>,
    ) -> Result<Self> {
        let (model, inputs) = (started(model, data.params(name))?, tensors(data.inputs(name))?);
        let optimizer = Optimizer::new(transformation).init(&model)?;
        let loss = Tensor::new(f32::NAN, &Device::Cpu)?;
        Ok(Self { model, optimizer, loss_of, x: inputs("x")?, y: inputs("y")?, loss })
    }
}

impl<M: Module + Clone, T: GradientTransformation> Work for Training<M, T> {
    fn step(&mut self) -> Result<()> {
        let Self { model, optimizer, loss_of, x, y, .. } = self;
        let (loss, grads) = model.value_and_grad(Parameter, |model| loss_of(&model.call(x)?, y))?;
        optimizer.update(&grads, model)?;
        self.loss = loss;
        Ok(())
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        Ok(vec![json!(number(&self.loss)?)])
    }

    fn read(&self) -> Result<()> {
        number(&self.loss).map(drop)
    }
}

/// An optimizer's step with constant gradients.
pub(crate) struct Step<T: GradientTransformation> {
    params: Vec<Leaf<Parameter>>,
    grads: Vec<Leaf<Parameter>>,
    optimizer: Optimizer<T>,
}

impl<T: GradientTransformation> Step<T> {
    pub(crate) fn new(transformation: T, name: &str, data: &Data<'_>) -> Result<Self> {
        let leaves = |file| {
            let tensors = safetensors::load(file, &Device::Cpu)?;
            let leaf = |i: usize| Ok(Leaf::new(&tensors[&i.to_string()])?);
            (0..tensors.len()).map(leaf).collect::<Result<Vec<_>>>()
        };
        let (params, grads) = (leaves(data.params(name))?, leaves(data.inputs(name))?);
        let optimizer = Optimizer::new(transformation).init(&params)?;
        Ok(Self { params, grads, optimizer })
    }
}

impl<T: GradientTransformation> Work for Step<T> {
    fn step(&mut self) -> Result<()> {
        Ok(self.optimizer.update(&self.grads, &mut self.params)?)
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        let value = |leaf: &Leaf<Parameter>| Ok(leaf.get()?.flatten_all()?.to_vec1::<f32>()?);
        let values = self.params.iter().map(value).collect::<Result<Vec<_>>>()?;
        Ok(norm(values.iter().flatten()).into())
    }
}

pub(crate) struct Inference<M> {
    model: M,
    x: Tensor,
    y: Tensor,
    logits: Tensor,
}

impl<M: Module + Clone> Inference<M> {
    pub(crate) fn new(model: M, name: &str, data: &Data<'_>) -> Result<Self> {
        let (model, inputs) = (started(model, data.params(name))?, tensors(data.inputs(name))?);
        let logits = Tensor::new(f32::NAN, &Device::Cpu)?;
        Ok(Self { model: model.into_eval(), x: inputs("x")?, y: inputs("y")?, logits })
    }
}

impl<M: Module + Clone> Work for Inference<M> {
    fn step(&mut self) -> Result<()> {
        self.logits = self.model.call(&self.x)?;
        Ok(())
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        Ok(vec![json!(number(&cross_entropy(&self.logits, &self.y)?)?)])
    }
}
