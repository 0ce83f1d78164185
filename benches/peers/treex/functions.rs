//! Single operations, large enough that overhead is negligible.

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use treex_core::{Key, Leaf, Load, Parameter, grad, prelude::*, value_and_grad, value_and_grad_aux};
use treex_nn::{LayerNorm, dropout, vdot};

use crate::serve::{Data, ELEMENTS, RATE, Result, Work, norm};
use crate::training::{cross_entropy, number, tensors};

type Numbers = fn(&[Tensor]) -> Result<Vec<Value>>;

/// A function with fixed inputs, and its last outputs.
struct Function<F> {
    f: F,
    outputs: Vec<Tensor>,
    numbers: Numbers,
}

impl<F: Fn() -> treex_core::Result<Vec<Tensor>> + 'static> Function<F> {
    fn work(numbers: Numbers, f: F) -> Box<dyn Work> {
        Box::new(Self { f, outputs: Vec::new(), numbers })
    }
}

impl<F: Fn() -> treex_core::Result<Vec<Tensor>>> Work for Function<F> {
    fn step(&mut self) -> Result<()> {
        self.outputs = (self.f)()?;
        Ok(())
    }

    fn numbers(&self) -> Result<Vec<Value>> {
        (self.numbers)(&self.outputs)
    }
}

pub(crate) fn workload(name: &str, data: &Data<'_>) -> Result<Option<Box<dyn Work>>> {
    let key = Key::from(42);
    let input = || Key::from(1).uniform(ELEMENTS, DType::F32);
    Ok(Some(match name {
        "g_dropout" => {
            let x = input()?;
            Function::work(digest, move || Ok(vec![dropout(&x, RATE, key, &[])?]))
        }
        "g_dropout_grad" => {
            let x = Leaf::<Parameter>::new(input()?)?;
            Function::work(digest, move || {
                let f = |x: &mut Leaf<Parameter>| {
                    let y = dropout(&x.get()?, RATE, key, &[])?;
                    Ok((y.sum_all()?, y.detach()))
                };
                let ((_, y), grad) = value_and_grad_aux(&x, f)?;
                Ok(vec![y, grad.get()?])
            })
        }
        "g_layernorm" => {
            let inputs = tensors(data.inputs(name))?;
            let (x, weights) = (Leaf::<Parameter>::new(inputs("x")?)?, inputs("weights")?);
            let mut layer = LayerNorm::new(768).init(0, &Device::Cpu)?;
            let names = |name: &str| name.replace("norm.", "");
            layer.load_with(data.params(name), &Load::strict().rename(names))?;
            let variables = (x, layer);
            Function::work(norms, move || {
                let (x, layer) =
                    grad(&variables, |(x, layer)| vdot(&layer.clone().call(&x.get()?)?, &weights))?;
                let leaves = [Some(x), layer.scale, layer.bias];
                leaves.iter().flatten().map(Leaf::get).collect()
            })
        }
        "g_mask" => Function::work(digest, move || Ok(vec![key.bernoulli(1. - RATE, ELEMENTS)?])),
        "g_normal" => Function::work(digest, move || Ok(vec![key.normal(ELEMENTS, DType::F32)?])),
        "g_uniform" => Function::work(digest, move || Ok(vec![key.uniform(ELEMENTS, DType::F32)?])),
        "g_xent" => {
            let inputs = tensors(data.inputs(name))?;
            let (x, y) = (Leaf::<Parameter>::new(inputs("x")?)?, inputs("y")?);
            Function::work(norms, move || {
                let (loss, grad) = value_and_grad(&x, |x| cross_entropy(&x.get()?, &y))?;
                Ok(vec![loss, grad.get()?])
            })
        }
        _ => return Ok(None),
    }))
}

/// The sum of the bits of all elements, each times its index from 1, modulo 2^64; the same digest in each peer.
fn digest(tensors: &[Tensor]) -> Result<Vec<Value>> {
    let mut sum = 0u64;
    for tensor in tensors {
        let bits: Vec<u64> = match tensor.dtype() {
            DType::U8 => tensor.to_vec1::<u8>()?.into_iter().map(u64::from).collect(),
            _ => tensor.to_vec1::<f32>()?.into_iter().map(|x| x.to_bits().into()).collect(),
        };
        for (index, bits) in (1..).zip(bits) {
            sum = sum.wrapping_add(bits.wrapping_mul(index));
        }
    }
    Ok(vec![json!(sum.to_string())])
}

/// Scalars, the norm of each other tensor, and the first element of the first of these.
fn norms(tensors: &[Tensor]) -> Result<Vec<Value>> {
    let (mut numbers, mut first) = (Vec::new(), None);
    for tensor in tensors {
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
