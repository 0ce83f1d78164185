//! treex-optim alone: Adam and its mean squared error on a model of one's own.

use treex_optim::candle::{Device, Tensor};
use treex_optim::{Optimizer, adam, mse, prelude::*};

#[derive(Clone, Debug, TreeObject)]
struct Line {
    slope: Leaf<Parameter>,
    offset: Leaf<Parameter>,
}

fn main() -> Result<()> {
    let x = (Tensor::arange(0f32, 8., &Device::Cpu)? / 8.)?;
    let y = ((&x * 1.4)? - 0.3)?;

    let zero = Tensor::new(0f32, &Device::Cpu)?;
    let mut line = Line { slope: Leaf::new(&zero)?, offset: Leaf::new(&zero)? };
    let mut optimizer = Optimizer::new(adam(0.05)).init(&line)?;
    for _ in 0..500 {
        let (_, gradient) = line.value_and_grad(Parameter, |line| {
            mse(&x.broadcast_mul(&line.slope.get()?)?.broadcast_add(&line.offset.get()?)?, &y)
        })?;
        optimizer.update(&gradient, &mut line)?;
    }

    let [slope, offset] = [line.slope.get()?.to_scalar::<f32>()?, line.offset.get()?.to_scalar::<f32>()?];
    println!("y = {slope:.3} x + {offset:.3}");
    assert!((slope - 1.4).abs() < 1e-2 && (offset + 0.3).abs() < 1e-2);
    Ok(())
}
