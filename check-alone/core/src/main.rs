//! treex-core alone: a model of one's own, its gradient, and descent by one `zip_map`, which fit a line.

use treex_core::candle::{self, Device, Tensor};
use treex_core::{Leaf, Parameter, Result, prelude::*};

#[derive(Clone, Debug, TreeObject)]
struct Line {
    slope: Leaf<Parameter>,
    offset: Leaf<Parameter>,
}

impl candle::Module for Line {
    fn forward(&self, x: &Tensor) -> candle::Result<Tensor> {
        x.broadcast_mul(&self.slope.get()?)?.broadcast_add(&self.offset.get()?)
    }
}

fn main() -> Result<()> {
    let x = (Tensor::arange(0f32, 8., &Device::Cpu)? / 8.)?;
    let y = ((&x * 1.4)? - 0.3)?;

    let zero = Tensor::new(0f32, &Device::Cpu)?;
    let mut line = Line { slope: Leaf::new(&zero)?, offset: Leaf::new(&zero)? };
    let before = line.clone();
    for _ in 0..300 {
        let (_, gradient) =
            line.value_and_grad(Parameter, |line| Ok((line.call(&x)? - &y)?.sqr()?.mean_all()?))?;
        line = line.zip_map(&gradient, |value, gradient| Ok((value - (gradient * 0.5)?)?))?;
    }

    let [slope, offset] = [line.slope.get()?.to_scalar::<f32>()?, line.offset.get()?.to_scalar::<f32>()?];
    println!("y = {slope:.3} x + {offset:.3}");
    assert!((slope - 1.4).abs() < 1e-3 && (offset + 0.3).abs() < 1e-3);
    assert_eq!(before.slope.get()?.to_scalar::<f32>()?, 0., "a clone is a snapshot");
    Ok(())
}
