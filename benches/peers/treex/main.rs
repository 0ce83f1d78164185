//! treex in the comparison with its peers: see README.md in the parent folder.

mod functions;
mod models;
#[path = "../serve.rs"]
mod serve;
mod training;

use treex_core::keep_memory;
use treex_nn::Mlp;
use treex_optim::{adam, adamw, mse, sgd};

use crate::models::{Cnn, Transformer};
use crate::serve::{Data, Result, Synchronous, Work};
use crate::training::{Inference, Step, Training, cross_entropy};

fn workload(name: &str, data: &Data<'_>) -> Result<Option<Box<dyn Work>>> {
    let a = || Training::new(Mlp::new([1, 12, 8, 1]), mse, sgd(0.1), "a", data);
    let decayed = || adamw(1e-5).weight_decay(0.01);
    Ok(Some(match name {
        "a" => Box::new(a()?),
        "a_sync" => Box::new(Synchronous(a()?)),
        "b" => Box::new(Training::new(Mlp::new([784, 512, 512, 10]), cross_entropy, adam(1e-5), name, data)?),
        "c" => Box::new(Training::new(Cnn::new(0.5), cross_entropy, decayed(), name, data)?),
        "c_without_dropout" => Box::new(Training::new(Cnn::new(0.), cross_entropy, decayed(), "c", data)?),
        "d" => Box::new(Training::new(Transformer::new(), cross_entropy, decayed(), name, data)?),
        "e" | "e_many" => Box::new(Step::new(adam(1e-3), name, data)?),
        "f" => Box::new(Inference::new(Transformer::new(), "d", data)?),
        _ => return functions::workload(name, data),
    }))
}

fn main() -> Result<()> {
    // `--leave-memory` measures glibc's default settings.
    if !std::env::args().any(|argument| argument == "--leave-memory") {
        keep_memory();
    }
    let candle = serve::locked(include_str!("../../../Cargo.lock"), "candle-core");
    serve::serve(&format!("{} on Candle {candle}", env!("CARGO_PKG_VERSION")), workload)
}
