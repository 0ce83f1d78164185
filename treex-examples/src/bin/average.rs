//! A module with state: the running mean of all its inputs.
//!
//! `cargo run --release -p treex-examples --bin average`

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use treex_core::{Leaf, State, prelude::*};

#[derive(Clone, Debug, TreeObject)]
struct Average {
    count: Leaf<State>,
    total: Leaf<State>,
}

impl Average {
    fn new() -> treex_core::Result<Self> {
        let zero = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        Ok(Self { count: Leaf::new(&zero)?, total: Leaf::new(&zero)? })
    }
}

impl Module for Average {
    fn call(&mut self, x: &Tensor) -> treex_core::Result<Tensor> {
        self.count.set((self.count.get()? + x.elem_count() as f64)?)?;
        self.total.set((self.total.get()? + x.sum_all()?)?)?;
        Ok((self.total.get()? / self.count.get()?)?)
    }
}

fn main() -> Result<()> {
    let mut average = Average::new()?;
    println!("{average:?}");
    for step in 0..treex_examples::steps(5) {
        let x = Tensor::new(&[step as f32, step as f32 + 1.], &Device::Cpu)?;
        let mean = average.call(&x)?.to_scalar::<f32>()?;
        println!("after {:?} the running mean is {mean}", x.to_vec1::<f32>()?);
    }
    println!("{average:?}");
    Ok(())
}
