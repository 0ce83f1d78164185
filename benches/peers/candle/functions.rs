//! Single operations, large enough that nothing else counts.

use candle_core::{Device, Tensor, Var, safetensors};
use candle_nn::loss::cross_entropy;
use candle_nn::ops::{dropout, layer_norm_slow};
use serde_json::{Value, json};

use crate::models::EPSILON;
use crate::serve::{Data, ELEMENTS, RATE, Result, Work, norm};
use crate::training::number;

/// A function of the same inputs at every step, and what it gave last. Random numbers are Candle's own: they are
/// compared with nobody's.
struct Function<F> {
    f: F,
    outputs: Vec<Tensor>,
    random: bool,
}

impl<F: Fn() -> candle_core::Result<Vec<Tensor>>> Work for Function<F> {
    fn step(&mut self) -> Result<()> {
        self.outputs = (self.f)()?;
        Ok(())
    }

    /// Scalars as they are, the norm of each other tensor, and the first element of the first of these.
    fn numbers(&self) -> Result<Vec<Value>> {
        if self.random {
            return Ok(Vec::new());
        }
        let (mut numbers, mut first) = (Vec::new(), None);
        for tensor in &self.outputs {
            if tensor.rank() == 0 {
                numbers.push(json!(number(tensor)?));
            } else {
                let [norm, element] = norm(&tensor.flatten_all()?.to_vec1()?);
                numbers.push(norm);
                first = first.or(Some(element));
            }
        }
        numbers.extend(first);
        Ok(numbers)
    }
}

pub(crate) fn workload(name: &str, data: &Data<'_>) -> Result<Option<Box<dyn Work>>> {
    fn work(random: bool, f: impl Fn() -> candle_core::Result<Vec<Tensor>> + 'static) -> Box<dyn Work> {
        Box::new(Function { f, outputs: Vec::new(), random })
    }
    let uniform = || Tensor::rand(0f32, 1f32, ELEMENTS, &Device::Cpu);
    let rate = RATE as f32;
    Ok(Some(match name {
        "g_dropout" => {
            let x = uniform()?;
            work(true, move || Ok(vec![dropout(&x, rate)?]))
        }
        "g_dropout_grad" => {
            let x = Var::from_tensor(&uniform()?)?;
            work(true, move || {
                let y = dropout(&x, rate)?;
                let grad = y.backward()?.remove(&x);
                Ok(std::iter::once(y.detach()).chain(grad).collect())
            })
        }
        "g_layernorm" => {
            let (inputs, params) = (
                safetensors::load(data.inputs(name), &Device::Cpu)?,
                safetensors::load(data.params(name), &Device::Cpu)?,
            );
            let variables = [&inputs["x"], &params["norm.scale"], &params["norm.bias"]].map(Var::from_tensor);
            let variables = variables.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
            work(false, move || {
                let y = layer_norm_slow(&variables[0], &variables[1], &variables[2], EPSILON)?;
                let mut grads = (y * &inputs["weights"])?.sum_all()?.backward()?;
                Ok(variables.iter().filter_map(|variable| grads.remove(variable)).collect())
            })
        }
        "g_mask" => work(true, move || Ok(vec![uniform()?.lt(1. - RATE)?])),
        "g_normal" => work(true, || Ok(vec![Tensor::randn(0f32, 1f32, ELEMENTS, &Device::Cpu)?])),
        "g_uniform" => work(true, move || Ok(vec![uniform()?])),
        "g_xent" => {
            let inputs = safetensors::load(data.inputs(name), &Device::Cpu)?;
            let (x, y) = (Var::from_tensor(&inputs["x"])?, inputs["y"].clone());
            work(false, move || {
                let loss = cross_entropy(&x, &y)?;
                let grad = loss.backward()?.remove(&x);
                Ok(std::iter::once(loss.detach()).chain(grad).collect())
            })
        }
        _ => return Ok(None),
    }))
}
