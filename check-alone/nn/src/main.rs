//! treex-nn alone: a model made of its layers, from a seed to a lower loss.

use treex_nn::candle::{Device, Tensor};
use treex_nn::{Linear, Mlp, prelude::*};

#[derive(Clone, Debug, TreeObject)]
struct Net {
    body: Mlp,
    head: Linear,
}

impl Module for Net {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.head.call(&self.body.call(x)?)
    }
}

fn main() -> Result<()> {
    let x = (Tensor::arange(0f32, 64., &Device::Cpu)? / 32.)?.affine(1., -1.)?.reshape((64, 1))?;
    let y = ((x.sqr()? * 1.4)? - 0.3)?;
    let loss = |model: &mut Net| -> Result<Tensor> { Ok((model.call(&x)? - &y)?.sqr()?.mean_all()?) };

    let mut model = Net { body: Mlp::new([1, 12, 8]), head: Linear::new(8, 1) }.init(42, &Device::Cpu)?;
    let first = loss(&mut model)?.to_scalar::<f32>()?;
    for _ in 0..200 {
        let (_, gradient) = model.value_and_grad(Parameter, loss)?;
        model = model.zip_map(&gradient, |value, gradient| Ok((value - (gradient * 0.1)?)?))?;
    }
    let last = loss(&mut model)?.to_scalar::<f32>()?;

    println!("{}\nloss {first:.4} -> {last:.4}", model.tabulate());
    assert!(last < first / 2.);
    Ok(())
}
