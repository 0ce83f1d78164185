//! The facade alone: the derive, a kind, layers, an optimizer and a training loop through one dependency.

use treex::nn::{BatchNorm, Dropout, Linear, relu};
use treex::optim::{adamw, mse, warmup_cosine};
use treex::prelude::*;

kind!(Calls: State);

#[derive(Clone, Debug, TreeObject)]
struct Net {
    hidden: Linear,
    norm: BatchNorm,
    dropout: Dropout,
    head: Linear,
    calls: Leaf<Calls>,
}

impl Module for Net {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.calls.set((self.calls.get()? + 1.)?)?;
        let h = relu(&self.norm.call(&self.hidden.call(x)?)?)?;
        self.head.call(&self.dropout.call(&h)?)
    }
}

fn main() -> Result<()> {
    let device = Device::Cpu;
    let x = Tensor::arange(0f32, 64., &device)?.reshape((32, 2))?.affine(1. / 32., -1.)?;
    let y = x.sqr()?.sum_keepdim(1)?;

    let mut net = Net {
        hidden: Linear::new(2, 32),
        norm: BatchNorm::new(32).momentum(0.9),
        dropout: Dropout::new(0.1),
        head: Linear::new(32, 1),
        calls: Leaf::new(Tensor::zeros((), DType::F32, &device)?)?,
    }
    .init(42, &device)?;
    let mut optimizer = Optimizer::new(adamw(warmup_cosine(1e-2, 20, 200))).init(&net)?;
    let first = mse(&net.clone().into_eval().call(&x)?, &y)?.to_scalar::<f32>()?;
    for _ in 0..200 {
        let (_, grads) = net.value_and_grad(Parameter, |net| mse(&net.call(&x)?, &y))?;
        optimizer.update(&grads, &mut net)?;
    }
    assert_eq!(net.calls.get()?.to_scalar::<f32>()?, 200.);
    let last = mse(&net.into_eval().call(&x)?, &y)?.to_scalar::<f32>()?;

    println!("loss {first:.4} -> {last:.4}");
    assert!(last < first / 10.);
    Ok(())
}
