//! Checkpoints of earlier versions load for ever, and training goes on from them bit for bit.
//!
//! `fixtures/checkpoint_*.safetensors` were written by commit 3b6c4ef, before the first release: `model()` below, after
//! three steps of `train()`. The losses are those of the three steps that followed there.

use candle_core::{DType, Device, Tensor};
use treex_core::{Key, Leaf, Parameter, Result, State, kind, path, prelude::*};
use treex_nn::{BatchNorm, Dropout, Linear, relu};
use treex_optim::{Optimizer, adamw, chain, clip_by_global_norm, mse, warmup_cosine};

kind!(Memory: State);

#[derive(Clone, Debug, TreeObject)]
struct Net {
    hidden: Linear,
    norm: BatchNorm,
    dropout: Dropout,
    heads: Vec<Linear>,
    calls: Leaf<Memory>,
}

impl Module for Net {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.calls.set((self.calls.get()? + 1.)?)?;
        let h = relu(&self.norm.call(&self.hidden.call(x)?)?)?;
        let h = self.dropout.call(&h)?;
        Ok((self.heads[0].call(&h)? + self.heads[1].call(&h)?)?)
    }
}

fn model() -> Result<Net> {
    Ok(Net {
        hidden: Linear::new(3, 8),
        norm: BatchNorm::new(8).momentum(0.9),
        dropout: Dropout::new(0.25),
        heads: vec![Linear::new(8, 1), Linear::new(8, 1)],
        calls: Leaf::new(Tensor::zeros((), DType::F32, &Device::Cpu)?)?,
    })
}

/// The bits of the losses of some steps.
fn train(
    net: &mut Net,
    optimizer: &mut Optimizer<impl treex_optim::GradientTransformation>,
    steps: usize,
) -> Result<Vec<u32>> {
    let x = Key::from(7).normal((16, 3), DType::F32)?;
    let y = x.sqr()?.sum_keepdim(1)?;
    let mut losses = Vec::new();
    for _ in 0..steps {
        let (loss, grads) = net.value_and_grad(Parameter, |net| mse(&net.call(&x)?, &y))?;
        optimizer.update(&grads, net)?;
        losses.push(loss.to_scalar::<f32>()?.to_bits());
    }
    Ok(losses)
}

fn check(initialized: Net, file: &str, losses: [u32; 6]) -> Result<()> {
    let rule = chain((
        clip_by_global_norm(1.0),
        adamw(warmup_cosine(1e-2, 2, 50)).weight_decay_mask(path("**.kernel")),
    ));
    let optimizer = Optimizer::new(rule).init(&initialized)?;

    // From the seed: random bits, initializers, layers and optimizer compute what they did.
    let (mut net, mut fresh) = (initialized.clone(), optimizer.clone());
    assert_eq!(train(&mut net, &mut fresh, 6)?, losses, "{file}: from the seed");

    // From the file, into a model from another seed.
    let mut both = (initialized, optimizer);
    both.load(format!("{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR")))?;
    assert_eq!(both.1.step_count()?, 3);
    assert_eq!(train(&mut both.0, &mut both.1, 3)?, losses[3..], "{file}: from the checkpoint");
    Ok(())
}

#[test]
fn keys_of_a_split_chain() -> Result<()> {
    let losses = [1096012968, 1097283439, 1097810436, 1097681654, 1095565341, 1093854877];
    check(model()?.init(42, &Device::Cpu)?, "checkpoint_init.safetensors", losses)
}

#[test]
fn keys_of_paths() -> Result<()> {
    let losses = [1103033595, 1103227448, 1103300039, 1102430310, 1102148087, 1099792522];
    check(model()?.init_linen(42, &Device::Cpu)?, "checkpoint_init_linen.safetensors", losses)
}
