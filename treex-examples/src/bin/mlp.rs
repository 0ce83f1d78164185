//! A network for y = 1.4 x^2 - 0.3: a `Vec` of layers, a gradient of the model's type, and an optimizer
//! that is one `zip_map`.
//!
//! `cargo run --release -p treex-examples --bin mlp`

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use treex_core::{Key, Parameter, prelude::*};
use treex_nn::{Linear, relu};
use treex_optim::mse;

#[derive(Clone, Debug, TreeObject)]
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(features: &[usize]) -> Self {
        Self { layers: features.windows(2).map(|pair| Linear::new(pair[0], pair[1])).collect() }
    }
}

impl Module for Mlp {
    fn call(&mut self, x: &Tensor) -> treex_core::Result<Tensor> {
        let mut x = x.clone();
        if let Some((last, hidden)) = self.layers.split_last_mut() {
            for layer in hidden {
                x = relu(&layer.call(&x)?)?;
            }
            x = last.call(&x)?;
        }
        Ok(x)
    }
}

fn sgd(param: &Tensor, grad: &Tensor) -> treex_core::Result<Tensor> {
    Ok((param - (grad * 0.01)?)?)
}

fn train_step(model: Mlp, x: &Tensor, y: &Tensor) -> treex_core::Result<(f32, Mlp)> {
    let (loss, grads) = treex_core::value_and_grad(&model, |model| mse(&model.clone().call(x)?, y))?;
    Ok((loss.to_scalar()?, model.zip_map(&grads, sgd)?))
}

fn main() -> Result<()> {
    let [key_x, key_noise] = Key::from(0).split2();
    let x = key_x.uniform_between((100, 1), DType::F32, -1., 1.)?;
    let noise = key_noise.normal((100, 1), DType::F32)?;
    let y = (x.sqr()?.affine(1.4, -0.3)? + (noise * 0.1)?)?;

    let mut model = Mlp::new(&[1, 12, 8, 1]).init(42, &Device::Cpu)?;
    println!("{}", model.tabulate_with(&x)?);
    let steps = treex_examples::steps(10_000);
    for step in 0..steps {
        let (loss, next) = train_step(model, &x, &y)?;
        model = next;
        if step % 1_000 == 0 || step + 1 == steps {
            println!("step {step:>5}  loss {loss:.5}");
        }
    }

    let mut model = model.into_eval();
    let at = Tensor::new(&[[-1f32], [0.], [1.]], &Device::Cpu)?;
    println!("at -1, 0, 1 (about 1.1, -0.3, 1.1): {:?}", model.call(&at)?.flatten_all()?.to_vec1::<f32>()?);
    println!("{} parameters", model.count(Parameter));
    Ok(())
}
