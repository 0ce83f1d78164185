//! A line through 500 points, with a custom layer and an optimizer that is a tree.
//!
//! `cargo run --release -p treex-examples --bin linear_regression` writes `linear_regression.png`.

use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use treex_core::{Initializer, Key, Leaf, Parameter, prelude::*};
use treex_optim::{Optimizer, adam, mse};

#[derive(Clone, Debug, TreeObject)]
struct Linear {
    w: Leaf<Parameter>,
    b: Leaf<Parameter>,
}

impl Linear {
    fn new(din: usize, dout: usize) -> treex_core::Result<Self> {
        Ok(Self {
            w: Initializer::new(move |key| key.uniform((din, dout), DType::F32)).into(),
            b: Leaf::new(Tensor::zeros(dout, DType::F32, &Device::Cpu)?)?,
        })
    }
}

impl Module for Linear {
    fn call(&mut self, x: &Tensor) -> treex_core::Result<Tensor> {
        Ok(x.matmul(&self.w.get()?)?.broadcast_add(&self.b.get()?)?)
    }
}

fn main() -> Result<()> {
    let [key_x, key_noise] = Key::from(0).split2();
    let x = key_x.uniform((500, 1), DType::F32)?;
    let noise = key_noise.normal((500, 1), DType::F32)?;
    let y = (x.affine(1.4, -0.3)? + (noise * 0.1)?)?;

    let mut model = Linear::new(1, 1)?.init(42, &Device::Cpu)?;
    let mut optimizer = Optimizer::new(adam(0.01)).init(&model)?;
    let steps = treex_examples::steps(1_000);
    for step in 0..steps {
        let (loss, grads) = model.value_and_grad(Parameter, |model| mse(&model.call(&x)?, &y))?;
        optimizer.update(&grads, &mut model)?;
        if step % 100 == 0 || step + 1 == steps {
            println!("step {step:>4}  loss {:.5}", loss.to_scalar::<f32>()?);
        }
    }

    let mut model = model.into_eval();
    println!("{model:#?}");
    let ends = Tensor::new(&[[0f32], [1.]], &Device::Cpu)?;
    let line = points(&ends, &model.call(&ends)?)?;
    let file = Path::new("linear_regression.png");
    treex_examples::plot::fit(file, "y = 1.4 x - 0.3, with noise", &points(&x, &y)?, &line)?;
    println!("wrote {}", file.display());
    Ok(())
}

fn points(x: &Tensor, y: &Tensor) -> Result<Vec<(f64, f64)>> {
    let column = |t: &Tensor| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
    Ok(column(x)?.into_iter().zip(column(y)?).collect())
}
