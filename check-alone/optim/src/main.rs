//! treex-optim alone: Adam and its mean squared error on a tree that is just two leaves.

use candle_core::{Device, Tensor};
use treex_optim::{Optimizer, adam, mse, prelude::*};

fn main() -> Result<()> {
    let x = (Tensor::arange(0f32, 8., &Device::Cpu)? / 8.)?;
    let y = ((&x * 1.4)? - 0.3)?;

    let zero = Tensor::new(0f32, &Device::Cpu)?;
    let mut line: (Leaf<Parameter>, Leaf<Parameter>) = (Leaf::new(&zero)?, Leaf::new(&zero)?);
    let mut optimizer = Optimizer::new(adam(0.05)).init(&line)?;
    for _ in 0..500 {
        let (_, gradient) = line.value_and_grad(Parameter, |(slope, offset)| {
            mse(&x.broadcast_mul(&slope.get()?)?.broadcast_add(&offset.get()?)?, &y)
        })?;
        optimizer.update(&gradient, &mut line)?;
    }

    let [slope, offset] = [line.0.get()?.to_scalar::<f32>()?, line.1.get()?.to_scalar::<f32>()?];
    println!("y = {slope:.3} x + {offset:.3}");
    assert!((slope - 1.4).abs() < 1e-2 && (offset + 0.3).abs() < 1e-2);
    Ok(())
}
