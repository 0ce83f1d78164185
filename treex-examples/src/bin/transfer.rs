//! Transfer learning: a trained sub-model is moved into a new struct, and a filter trains only the head.
//!
//! `cargo run --release -p treex-examples --bin transfer`

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use treex_core::{Filter, Key, Parameter, path, prelude::*};
use treex_nn::{Linear, Mlp, relu};
use treex_optim::{Optimizer, adam, mse};

/// The pretrained model: a backbone, and a head for one task.
#[derive(Clone, Debug, TreeObject)]
struct Pretrained {
    backbone: Mlp,
    head: Linear,
}

/// The new model: the same backbone, and a head for another task.
#[derive(Clone, Debug, TreeObject)]
struct Transfer {
    backbone: Mlp,
    head: Linear,
}

impl Module for Pretrained {
    fn call(&mut self, x: &Tensor) -> treex_core::Result<Tensor> {
        self.head.call(&relu(&self.backbone.call(x)?)?)
    }
}

impl Module for Transfer {
    fn call(&mut self, x: &Tensor) -> treex_core::Result<Tensor> {
        self.head.call(&relu(&self.backbone.call(x)?)?)
    }
}

fn fit<M, F>(model: &mut M, train: F, x: &Tensor, y: &Tensor, steps: usize) -> Result<()>
where
    M: Module + Clone,
    F: Filter + Clone + Send + Sync + 'static,
{
    let mut optimizer = Optimizer::new(adam(0.01)).wrt(train.clone()).init(model)?;
    for step in 0..steps {
        let (loss, grads) = model.value_and_grad(train.clone(), |model| mse(&model.call(x)?, y))?;
        optimizer.update(&grads, model)?;
        if step == 0 || step + 1 == steps {
            println!("  step {step:>4}  loss {:.5}", loss.to_scalar::<f32>()?);
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let steps = treex_examples::steps(500);
    let x = Key::from(0).uniform_between((256, 1), DType::F32, -2., 2.)?;

    println!("pretraining on sin(x)");
    let mut pretrained =
        Pretrained { backbone: Mlp::new([1, 32, 32]), head: Linear::new(32, 1) }.init(1, &Device::Cpu)?;
    fit(&mut pretrained, Parameter, &x, &x.sin()?, steps)?;

    println!("the backbone is moved into a new model with a new head");
    let mut model = Transfer { backbone: pretrained.backbone, head: Linear::new(32, 2) };
    println!("  initialized: {}", model.initialized());
    model = model.init(2, &Device::Cpu)?;
    let before = model.backbone.flatten();
    println!("{}", model.tabulate());

    println!("training the head on [cos(x), x^2]");
    let y = Tensor::cat(&[x.cos()?, x.sqr()?], 1)?;
    fit(&mut model, path("head.**"), &x, &y, steps)?;
    println!("  the backbone is unchanged: {}", model.backbone.flatten() == before);
    Ok(())
}
