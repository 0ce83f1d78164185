//! The side of Burn in the comparison with treex: see README.md in the folder above. The second argument is the
//! backend, `flex` or `ndarray`.

mod functions;
mod models;
#[path = "../../serve.rs"]
mod serve;
mod training;
mod weights;

use burn::nn::loss::{CrossEntropyLossConfig, MseLoss, Reduction};
use burn::optim::{AdamConfig, AdamWConfig, SgdConfig};
use burn::prelude::*;

use crate::models::{Cnn, Mlp, Transformer};
use crate::serve::{Data, Result, Synchronous, Work};
use crate::training::{Inference, Step, Training};
use crate::weights::Tensors;

fn cross_entropy(logits: Tensor<2>, y: Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, y)
}

fn workload(name: &str, data: &Data<'_>, device: &Device) -> Result<Option<Box<dyn Work>>> {
    let tracked = &device.clone().autodiff();
    let params = |name: &str| Tensors::read(data.params(name), tracked);
    let inputs = |name: &str| Tensors::read(data.inputs(name), tracked);
    let adam = || AdamConfig::new().with_epsilon(1e-8).init();
    let adamw = || AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init();
    let a = || {
        let (x, y) = (inputs("a")?.floats::<2>("x")?, inputs("a")?.floats::<2>("y")?);
        let loss =
            move |model: &Mlp| MseLoss::new().forward(model.forward(x.clone()), y.clone(), Reduction::Mean);
        Ok::<_, Box<dyn std::error::Error>>(Training::new(
            Mlp::new(&params("a")?)?,
            loss,
            SgdConfig::new().init(),
            0.1,
        ))
    };
    let c = |rate: f64| {
        let (x, y) = (inputs("c")?.floats::<4>("x")?.permute([0, 3, 1, 2]), inputs("c")?.integers::<1>("y")?);
        let loss = move |model: &Cnn| cross_entropy(model.forward(x.clone()), y.clone());
        Ok::<_, Box<dyn std::error::Error>>(Training::new(
            Cnn::new(&params("c")?, rate)?,
            loss,
            adamw(),
            1e-5,
        ))
    };
    Ok(Some(match name {
        "a" => Box::new(a()?),
        "a_sync" => Box::new(Synchronous(a()?)),
        "b" => {
            let (x, y) = (inputs(name)?.floats::<2>("x")?, inputs(name)?.integers::<1>("y")?);
            let loss = move |model: &Mlp| cross_entropy(model.forward(x.clone()), y.clone());
            Box::new(Training::new(Mlp::new(&params(name)?)?, loss, adam(), 1e-5))
        }
        "c" => Box::new(c(0.5)?),
        "c_without_dropout" => Box::new(c(0.)?),
        "d" => {
            let (x, y) = (inputs(name)?.integers::<2>("x")?, inputs(name)?.integers::<2>("y")?.flatten(0, 1));
            let loss =
                move |model: &Transformer| cross_entropy(model.forward(x.clone()).flatten(0, 1), y.clone());
            Box::new(Training::new(Transformer::new(&params(name)?)?, loss, adamw(), 1e-5))
        }
        "e" | "e_many" => {
            Box::new(Step::new(&params(name)?, &Tensors::read(data.inputs(name), device)?, adam())?)
        }
        "f" => {
            let inputs = Tensors::read(data.inputs("d"), device)?;
            let model = Transformer::new(&params("d")?)?.valid();
            Box::new(Inference::new(model, inputs.integers("x")?, inputs.integers("y")?))
        }
        _ => return functions::workload(name, data, device),
    }))
}

#[allow(deprecated)] // `flex` is to take the place of `ndarray`
fn main() -> Result<()> {
    let device = match std::env::args().nth(2).as_deref() {
        Some("flex") => Device::flex(),
        Some("ndarray") => Device::ndarray(),
        _ => return Err("expected a folder, and `flex` or `ndarray`".into()),
    };
    let version = serve::locked(include_str!("../Cargo.lock"), "burn");
    serve::serve(version, |name, data| workload(name, data, &device))
}
