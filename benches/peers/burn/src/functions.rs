//! Single operations, large enough that nothing else counts.

use burn::nn::DropoutConfig;
use burn::prelude::*;
use burn::tensor::Distribution;
use serde_json::Value;

use crate::cross_entropy;
use crate::serve::{Data, ELEMENTS, RATE, Result, Work, norm};
use crate::training::{number, values};
use crate::weights::Tensors;

/// What an operation gave last: a loss, tensors whose norms are compared. Random numbers are Burn's own: they are
/// compared with nobody's.
#[derive(Default)]
struct Outputs {
    loss: Option<Tensor<1>>,
    matrices: Vec<Tensor<2>>,
    vectors: Vec<Tensor<1>>,
    random: bool,
}

struct Function<F> {
    f: F,
    outputs: Outputs,
}

impl<F: Fn() -> Result<Outputs>> Work for Function<F> {
    fn step(&mut self) -> Result<()> {
        self.outputs = (self.f)()?;
        Ok(())
    }

    /// The loss, the norms, and the first element of the first tensor.
    fn numbers(&self) -> Result<Vec<Value>> {
        let Outputs { loss, matrices, vectors, random } = &self.outputs;
        if *random {
            return Ok(Vec::new());
        }
        let mut norms = Vec::new();
        for matrix in matrices {
            norms.push(norm(&values(matrix.clone())?));
        }
        for vector in vectors {
            norms.push(norm(&values(vector.clone())?));
        }
        let first = norms.first().map(|[_, first]| first.clone());
        let loss = loss.is_some().then(|| number(loss)).transpose()?.map(Value::from);
        Ok(loss.into_iter().chain(norms.into_iter().map(|[norm, _]| norm)).chain(first).collect())
    }
}

fn work(f: impl Fn() -> Result<Outputs> + 'static) -> Box<dyn Work> {
    Box::new(Function { f, outputs: Outputs::default() })
}

fn random(tensor: Tensor<1>) -> Outputs {
    Outputs { vectors: vec![tensor], random: true, ..Outputs::default() }
}

pub(crate) fn workload(name: &str, data: &Data<'_>, device: &Device) -> Result<Option<Box<dyn Work>>> {
    let tracked = device.clone().autodiff();
    let device = device.clone();
    let drawn = move |distribution| Tensor::<1>::random([ELEMENTS], distribution, &device);
    Ok(Some(match name {
        // The layer drops where a gradient may be wanted.
        "g_dropout" => {
            let (x, layer) = (Tensor::<1>::ones([ELEMENTS], &tracked), DropoutConfig::new(RATE).init());
            work(move || Ok(random(layer.forward(x.clone()).inner())))
        }
        "g_dropout_grad" => {
            let (x, layer) =
                (Tensor::<1>::ones([ELEMENTS], &tracked).require_grad(), DropoutConfig::new(RATE).init());
            work(move || {
                let y = layer.forward(x.clone());
                let grad = x.grad(&y.clone().sum().backward()).ok_or("no gradient")?;
                Ok(Outputs { vectors: vec![y.inner(), grad], ..random(Tensor::empty([0], &x.device())) })
            })
        }
        "g_layernorm" => {
            let (inputs, params) =
                (Tensors::read(data.inputs(name), &tracked)?, Tensors::read(data.params(name), &tracked)?);
            let (x, weights) = (inputs.floats::<2>("x")?.require_grad(), inputs.floats::<2>("weights")?);
            let layer = params.layer_norm("norm")?;
            work(move || {
                let grads = (layer.forward(x.clone()) * weights.clone()).sum().backward();
                let bias = layer.beta.as_ref().ok_or("no bias")?;
                let vectors = [&layer.gamma, bias].map(|parameter| parameter.val().grad(&grads));
                Ok(Outputs {
                    matrices: x.grad(&grads).into_iter().collect(),
                    vectors: vectors.into_iter().flatten().collect(),
                    ..Outputs::default()
                })
            })
        }
        "g_mask" => work(move || Ok(random(drawn(Distribution::Bernoulli(1. - RATE))))),
        "g_normal" => work(move || Ok(random(drawn(Distribution::Normal(0., 1.))))),
        "g_uniform" => work(move || Ok(random(drawn(Distribution::Uniform(0., 1.))))),
        "g_xent" => {
            let inputs = Tensors::read(data.inputs(name), &tracked)?;
            let (x, y) = (inputs.floats::<2>("x")?.require_grad(), inputs.integers::<1>("y")?);
            work(move || {
                let loss = cross_entropy(x.clone(), y.clone());
                let matrices = x.grad(&loss.backward()).into_iter().collect();
                Ok(Outputs { loss: Some(loss.inner()), matrices, ..Outputs::default() })
            })
        }
        _ => return Ok(None),
    }))
}
