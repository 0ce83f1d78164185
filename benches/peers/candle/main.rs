//! The side of plain Candle and candle-nn in the comparison with treex: see README.md in the folder above.

mod functions;
mod models;
#[path = "../serve.rs"]
mod serve;
mod training;

use candle_nn::loss::{cross_entropy, mse};
use candle_nn::{Optimizer as _, SGD};

use crate::models::{Cnn, Mlp, Transformer, Weights};
use crate::serve::{Data, Result, Synchronous, Work};
use crate::training::{Inference, Step, Training, adamw};

fn workload(name: &str, data: &Data<'_>) -> Result<Option<Box<dyn Work>>> {
    let weights = |name: &str| Weights::variables(data.params(name));
    // The model first: it makes the variables.
    let a = || {
        let weights = weights("a")?;
        let model = Mlp::new(&weights)?;
        Training::new(model, mse, SGD::new(weights.vars(), 0.1)?, data.inputs("a"))
    };
    let c = |rate: f32| {
        let weights = weights("c")?;
        let model = Cnn::new(&weights, rate)?;
        Training::new(model, cross_entropy, adamw(weights.vars(), 1e-5, 0.01)?, data.inputs("c"))
    };
    Ok(Some(match name {
        "a" => Box::new(a()?),
        "a_sync" => Box::new(Synchronous(a()?)),
        "b" => {
            let weights = weights(name)?;
            let model = Mlp::new(&weights)?;
            let optimizer = adamw(weights.vars(), 1e-5, 0.)?;
            Box::new(Training::new(model, cross_entropy, optimizer, data.inputs(name))?)
        }
        "c" => Box::new(c(0.5)?),
        "c_without_dropout" => Box::new(c(0.)?),
        "d" => {
            let weights = weights(name)?;
            let model = Transformer::new(&weights, true)?;
            let optimizer = adamw(weights.vars(), 1e-5, 0.01)?;
            Box::new(Training::new(model, cross_entropy, optimizer, data.inputs(name))?)
        }
        "e" | "e_many" => Box::new(Step::new(data.params(name), data.inputs(name))?),
        "f" => {
            let model = Transformer::new(&Weights::constants(data.params("d"))?, false)?;
            Box::new(Inference::new(model, data.inputs("d"))?)
        }
        _ => return functions::workload(name, data),
    }))
}

fn main() -> Result<()> {
    serve::serve(serve::locked(include_str!("../../../Cargo.lock"), "candle-core"), workload)
}
