//! The concepts one by one: initialization, filters, partial gradients, random keys, custom kinds, modes.
//!
//! `cargo run --release -p treex-examples --bin tour`

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use treex_core::{
    BatchStat, Initializer, Leaf, ModuleKey, Parameter, Rng, State, TreePart, kind, path, prelude::*,
    value_and_grad_aux,
};
use treex_nn::{BatchNorm, Dropout, Linear};

fn main() -> Result<()> {
    two_ways_of_initialization()?;
    filters()?;
    a_partial_gradient()?;
    the_key_of_a_dropout()?;
    a_custom_kind()?;
    train_and_eval()
}

/// `a` is initialized with a key of its own; `b` depends on another field, so `module_init` fills it.
#[derive(Clone, Debug, TreeObject)]
#[tree(module_init)]
struct Mixed {
    a: Leaf<Parameter>,
    b: Leaf<Parameter>,
    scale: f64,
}

impl Mixed {
    fn new(scale: f64) -> Self {
        let a = Initializer::new(|key| key.uniform(2, DType::F32)).into();
        Self { a, b: Leaf::uninitialized(), scale }
    }

    fn module_init(&mut self, key: &mut ModuleKey) -> treex_core::Result<()> {
        let noise = key.key().normal(2, DType::F32)?;
        self.b.set(((self.a.get()? * self.scale)? + noise)?)
    }
}

fn two_ways_of_initialization() -> Result<()> {
    title("two ways of initialization: initializers first, then module_init");
    let module = Mixed::new(10.);
    println!("initialized: {:>5}  {module:?}", module.initialized());
    let module = module.init(42, &Device::Cpu)?;
    println!("initialized: {:>5}  {module:?}", module.initialized());
    Ok(())
}

#[derive(Clone, Debug, TreeObject)]
struct MyModule {
    a: Leaf<Parameter>,
    b: Leaf<BatchStat>,
    c: Leaf<Rng>,
    name: String,
}

fn my_module() -> treex_core::Result<MyModule> {
    let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
    MyModule { a: Leaf::new(&one)?, b: Leaf::new((one * 2.)?)?, c: Leaf::key(), name: "mine".into() }
        .init(0, &Device::Cpu)
}

fn filters() -> Result<()> {
    title("a filter keeps what it selects; the rest is Nothing");
    let module = my_module()?;
    println!("all          {module:?}");
    println!("Parameter    {:?}", module.filter(Parameter));
    println!("State        {:?}", module.filter(State));
    println!("(a | b) path {:?}", module.filter(path("a") | path("b")));
    for (path, kind, leaf) in module.filter((Parameter, BatchStat)).leaves() {
        println!("leaf {path}: {kind} = {leaf:?}");
    }
    Ok(())
}

fn a_partial_gradient() -> Result<()> {
    title("a gradient with respect to the parameters only");
    let model = my_module()?;
    let params = model.filter(Parameter);
    let ((loss, _model), grads) = value_and_grad_aux(&params, |params| {
        let mut model = model.updated(params)?;
        let loss = (model.a.get()? * model.b.get()?)?.sqr()?.sum_all()?;
        model.b.set((model.b.get()? + 1.)?)?; // state changes are returned with the model
        Ok((loss, model))
    })?;
    println!("loss {}  gradient {grads:?}", loss.to_scalar::<f32>()?);
    Ok(())
}

fn the_key_of_a_dropout() -> Result<()> {
    title("a Dropout owns its random key");
    let mut dropout = Dropout::new(0.5).init(42, &Device::Cpu)?;
    let x = Tensor::ones(8, DType::F32, &Device::Cpu)?;
    let again = dropout.clone();
    for mut dropout in [dropout.clone(), again] {
        println!("the same key, the same mask: {:?}", dropout.call(&x)?.to_vec1::<f32>()?);
    }
    dropout.call(&x)?;
    println!("the next key, another mask:  {:?}", dropout.call(&x)?.to_vec1::<f32>()?);
    dropout.eval();
    println!("in evaluation:               {:?}", dropout.call(&x)?.to_vec1::<f32>()?);
    Ok(())
}

kind!(
    /// Past inputs of the module.
    Memory: TreePart
);

#[derive(Clone, Debug, TreeObject)]
struct Remembers {
    weight: Leaf<Parameter>,
    memory: Leaf<Memory>,
}

fn a_custom_kind() -> Result<()> {
    title("a custom kind is one line");
    let one = Tensor::ones(2, DType::F32, &Device::Cpu)?;
    let module = Remembers { weight: Leaf::new(&one)?, memory: Leaf::new((one * 7.)?)? };
    println!("Memory  {:?}", module.filter(Memory));
    println!("!Memory {:?}", module.filter(!Memory));
    Ok(())
}

#[derive(Clone, Debug, TreeObject)]
struct Net {
    dense: Linear,
    norm: BatchNorm,
    dropout: Dropout,
}

impl Module for Net {
    fn call(&mut self, x: &Tensor) -> treex_core::Result<Tensor> {
        let x = self.dense.call(x)?;
        let x = self.norm.call(&x)?;
        self.dropout.call(&x)
    }
}

fn train_and_eval() -> Result<()> {
    title("train, eval, freeze, and the table of a model");
    let mut net = Net { dense: Linear::new(3, 4), norm: BatchNorm::new(4), dropout: Dropout::new(0.5) }
        .init(42, &Device::Cpu)?;
    let x = Tensor::randn(0f32, 1., (16, 3), &Device::Cpu)?;
    let mean =
        |net: &Net| Ok::<_, anyhow::Error>(net.filter(path("norm.mean")).norm.mean.get()?.to_vec1::<f32>()?);
    net.call(&x)?;
    println!("running mean after a training step  {:?}", mean(&net)?);
    net.freeze(path("norm.**"))?;
    net.call(&x)?;
    println!("after a step with `norm` frozen     {:?}", mean(&net)?);
    net.unfreeze(TreePart)?;
    net.eval();
    net.call(&x)?;
    println!("after a call in evaluation          {:?}", mean(&net)?);
    println!("{}", net.tabulate_with(&x)?);
    Ok(())
}

fn title(text: &str) {
    println!("\n-- {text}");
}
