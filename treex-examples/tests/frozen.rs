//! Frozen means frozen: a table of modules by everything that could change or read a frozen leaf.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use treex_core::{ErrorKind, Key, Leaf, Mode, Parameter, Result, State, TreePart, by, path, prelude::*};
use treex_nn::{BatchNorm, Conv, Dropout, Embed, LayerNorm, Linear};
use treex_optim::{Optimizer, adamw, chain, params_ema, sgd};

/// A struct of a user's own, without a mode.
#[derive(Clone, Debug, TreeObject)]
struct Scale {
    factor: Leaf<Parameter>,
}

impl Module for Scale {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_mul(&self.factor.get()?)?)
    }
}

/// A struct of a user's own that writes state and does not ask whether it is frozen.
#[derive(Clone, Debug, TreeObject)]
struct Counter {
    calls: Leaf<State>,
}

impl Module for Counter {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.calls.set((self.calls.get()? + 1.)?)?;
        Ok(x.clone())
    }
}

/// The module under test between two trained layers, with everything that freezing must stop.
#[derive(Clone, Debug, TreeObject)]
struct Net<M: Module + Clone> {
    before: Linear,
    inside: M,
    norm: BatchNorm,
    dropout: Dropout,
    after: Linear,
}

impl<M: Module + Clone> Module for Net<M> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = self.inside.call(&self.before.call(x)?)?.flatten_from(1)?;
        self.after.call(&self.dropout.call(&self.norm.call(&x)?)?)
    }
}

const WIDTH: usize = 6;

fn x() -> Result<Tensor> {
    Key::from(1).normal((4, WIDTH), DType::F32)
}

fn net<M: Module + Clone>(inside: M, features: usize) -> Result<Net<M>> {
    let net = Net {
        before: Linear::new(WIDTH, WIDTH),
        inside,
        norm: BatchNorm::new(features),
        dropout: Dropout::new(0.5),
        after: Linear::new(features, 2),
    };
    net.init(3, &Device::Cpu)
}

/// Everything that freezing promises, for a module inside of a network.
fn check<M: Module + Clone>(name: &str, inside: M, features: usize) -> Result<()> {
    let free = net(inside, features)?;
    let loss = |net: &mut Net<M>| Ok(net.call(&x()?)?.sqr()?.mean_all()?);

    let mut model = free.clone();
    model.freeze(path("inside.**") | path("norm.**") | path("dropout.**"))?;
    let frozen = model.filter(by(|leaf| leaf.is_frozen()));
    let optimizer = Optimizer::new(adamw(0.1).weight_decay(0.1)).init(&model)?;

    // `tracked` and `vars` have the trained leaves alone.
    let trained = model.filter(Parameter & by(|leaf| !leaf.is_frozen()));
    let vars = model.vars(Parameter)?;
    assert_eq!(vars.len(), trained.leaves().len(), "{name}: vars");
    let mut tracked = model.tracked(Parameter)?;
    assert!(tracked.before.kernel.get()?.track_op(), "{name}: tracked");
    for leaf in tracked.filter(by(|leaf| leaf.is_frozen())).flatten().tensors() {
        assert!(!leaf.track_op(), "{name}: a frozen leaf is tracked");
    }
    let grads = loss(&mut tracked)?.backward()?;
    assert!(vars.iter().all(|var| grads.get(var).is_some()), "{name}: tracked");

    // No moments for frozen leaves.
    let moments = optimizer.filter(path("**.inside.**") | path("**.norm.**"));
    assert_eq!(moments.leaves().len(), 0, "{name}: moments");

    // No noise: two calls are equal.
    let y = model.call(&x()?)?.to_vec2::<f32>()?;
    assert_eq!(model.call(&x()?)?.to_vec2::<f32>()?, y, "{name}: noise");

    // No gradient, no decay, no statistics, no key moves, through steps with a filter that selects everything.
    let mut optimizer = optimizer;
    for _ in 0..3 {
        let (_, grads) = model.value_and_grad(TreePart, loss)?;
        assert_eq!(grads.filter(path("inside.**") | path("norm.**")).leaves().len(), 0, "{name}: gradient");
        assert!(grads.before.kernel.get().is_ok(), "{name}: the rest has gradients");
        optimizer.update(&grads, &mut model)?;
    }
    assert_eq!(
        model.filter(by(|leaf| leaf.is_frozen())).flatten(),
        frozen.flatten(),
        "{name}: frozen leaves changed"
    );
    assert_ne!(model.before.kernel, free.before.kernel, "{name}: the rest is trained");

    // The flag survives clone, map, update, unflatten and a file, which does not store it.
    let file = std::env::temp_dir().join(format!("treex-frozen-{name}-{}.safetensors", std::process::id()));
    model.save(&file)?;
    let mut loaded = model.clone();
    loaded.load(&file)?;
    std::fs::remove_file(&file).unwrap();
    let mapped = model.map(|x| Ok((x * 1.)?))?;
    let updated = model.updated(&free)?;
    let unflattened = model.unflatten(&model.flatten())?;
    for (verb, tree) in [("load", loaded), ("map", mapped), ("update", updated), ("unflatten", unflattened)] {
        let flags = |tree: &Net<M>| tree.flatten().iter().map(|leaf| leaf.is_frozen()).collect::<Vec<_>>();
        assert_eq!(flags(&tree), flags(&model), "{name}: {verb}");
    }
    assert!(model.tabulate().contains("(frozen)"), "{name}: the table shows it");

    // Unfrozen after the optimizer's `init`: an error until `reconcile`, which keeps the other moments.
    model.unfreeze(TreePart)?;
    let (_, grads) = model.value_and_grad(Parameter, loss)?;
    let before = (model.clone(), optimizer.clone());
    let error = optimizer.update(&grads, &mut model).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Frozen, "{name}: {error}");
    assert!(error.to_string().contains("reconcile"), "{name}: {error}");
    assert_eq!(model.flatten(), before.0.flatten(), "{name}: the model after the error");
    let (mut optimizer, report) = optimizer.reconcile(&model)?;
    assert!(!report.kept.is_empty() && report.dropped.is_empty(), "{name}: {report:?}");
    optimizer.update(&grads, &mut model)?;
    assert_ne!(model.norm.scale, frozen.norm.scale, "{name}: trained again");
    Ok(())
}

#[test]
fn no_module_needs_a_mode_of_its_own() -> Result<()> {
    check("Linear", Linear::new(WIDTH, 5), 5)?;
    check("LayerNorm", LayerNorm::new(WIDTH), WIDTH)?;
    check("Scale", Scale { factor: Leaf::new(Tensor::ones(WIDTH, DType::F32, &Device::Cpu)?)? }, WIDTH)?;
    check("Conv", Images(Conv::new(1, 2, [3, 3])), 2 * WIDTH)?;
    check("Embed", Rows(Embed::new(7, 5)), WIDTH * 5)
}

/// A convolution over the features as an image.
#[derive(Clone, Debug, TreeObject)]
struct Images(Conv);

impl Module for Images {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.0.call(&x.reshape((x.dim(0)?, 2, 3, 1))?)
    }
}

/// An embedding of fixed ids, scaled by the features.
#[derive(Clone, Debug, TreeObject)]
struct Rows(Embed);

impl Module for Rows {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let ids = Tensor::arange(0u32, x.dim(1)? as u32, x.device())?;
        Ok(self.0.call(&ids)?.unsqueeze(0)?.broadcast_mul(&x.unsqueeze(2)?)?)
    }
}

/// Statistics follow the state: frozen parameters alone do not stop them, frozen statistics alone do.
#[test]
fn statistics_follow_the_state() -> Result<()> {
    let norm = BatchNorm::new(WIDTH).init(0, &Device::Cpu)?;
    let mut parameters = norm.clone();
    parameters.freeze(Parameter)?;
    parameters.call(&x()?)?;
    assert_ne!(parameters.mean, norm.mean);
    let mut statistics = norm.clone();
    statistics.freeze(State)?;
    statistics.call(&x()?)?;
    assert_eq!(statistics.mean, norm.mean);
    Ok(())
}

#[test]
fn a_frozen_state_leaf_cannot_be_written() -> Result<()> {
    let zero = Tensor::zeros((), DType::F32, &Device::Cpu)?;
    let mut pair = (Linear::new(WIDTH, 1).init(0, &Device::Cpu)?, Counter { calls: Leaf::new(&zero)? });
    pair.freeze(path("1.**"))?;
    let call =
        |(linear, counter): &mut (Linear, Counter)| Ok(counter.call(&linear.call(&x()?)?)?.sum_all()?);
    let error = pair.value_and_grad(Parameter, call).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Frozen);
    assert!(error.to_string().contains("`1.calls`") && error.to_string().contains("unfreeze"), "{error}");
    Ok(())
}

#[test]
fn nothing_left_to_train_is_an_error() -> Result<()> {
    let mut linear = Linear::new(WIDTH, 1).init(0, &Device::Cpu)?;
    linear.freeze(TreePart)?;
    let loss = |linear: &mut Linear| Ok(linear.call(&x()?)?.sum_all()?);
    let errors = [
        linear.value_and_grad(Parameter, loss).unwrap_err(),
        linear.vars(Parameter).unwrap_err(),
        linear.tracked(Parameter).unwrap_err(),
        Optimizer::new(sgd(0.1)).init(&linear).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Frozen, "{error}");
        assert!(error.to_string().contains("unfreeze"), "{error}");
    }
    let typos = [
        linear.freeze(path("kernal")).unwrap_err(),
        linear.into_dtype_where(path("kernal"), DType::F16).unwrap_err(),
    ];
    for error in typos.map(|error| error.to_string()) {
        assert!(
            error.contains("`path(\"kernal\")` selects no leaf") && error.contains("`kernel`"),
            "{error}"
        );
    }
    Ok(())
}

/// A leaf that is frozen after the optimizer's `init` keeps its state and is not updated; after `unfreeze`, training continues.
#[test]
fn frozen_for_a_while() -> Result<()> {
    let mut linear = Linear::new(WIDTH, 1).init(0, &Device::Cpu)?;
    let loss = |linear: &mut Linear| Ok(linear.call(&x()?)?.sqr()?.sum_all()?);
    let mut optimizer = Optimizer::new(adamw(0.1)).init(&linear)?;
    let mut step = |linear: &mut Linear| -> Result<()> {
        let (_, grads) = linear.value_and_grad(Parameter, loss)?;
        optimizer.update(&grads, linear)
    };
    step(&mut linear)?;
    let kernel = linear.kernel.clone();
    linear.freeze(path("kernel"))?;
    step(&mut linear)?;
    assert_eq!(linear.kernel, kernel);
    linear.unfreeze(path("kernel"))?;
    step(&mut linear)?;
    assert_ne!(linear.kernel, kernel);
    Ok(())
}

/// What the optimizer keeps for evaluation replaces no frozen leaf.
#[test]
fn evaluation_keeps_frozen_leaves() -> Result<()> {
    let mut linear = Linear::new(WIDTH, 1).init(0, &Device::Cpu)?;
    let mut optimizer = Optimizer::new(chain((sgd(0.1), params_ema(0.9)))).init(&linear)?;
    let loss = |linear: &mut Linear| Ok(linear.call(&x()?)?.sqr()?.sum_all()?);
    for is_frozen in [false, true] {
        if is_frozen {
            linear.freeze(path("kernel"))?;
            linear.kernel.set(Tensor::ones((WIDTH, 1), DType::F32, &Device::Cpu)?)?;
        }
        let (_, grads) = linear.value_and_grad(Parameter, loss)?;
        optimizer.update(&grads, &mut linear)?;
        let evaluated = optimizer.eval_model(&linear)?;
        assert_eq!(evaluated.kernel == linear.kernel, is_frozen);
        assert_ne!(evaluated.bias, linear.bias);
    }
    Ok(())
}

/// A module without state of its own is frozen if all of it is.
#[test]
fn a_module_is_frozen_with_all_its_leaves() -> Result<()> {
    #[derive(Clone, Debug, TreeObject)]
    struct Scaled {
        factor: Leaf<Parameter>,
        inner: Linear,
        mode: Mode,
    }
    let factor = Leaf::new(Tensor::ones((), DType::F32, &Device::Cpu)?)?;
    let mut scaled = Scaled { factor, inner: Linear::new(2, 2), mode: Mode::default() };
    scaled.freeze(path("factor"))?;
    assert!(!scaled.mode.is_frozen());
    scaled.freeze(path("inner.**"))?;
    assert!(scaled.mode.is_frozen());
    Ok(())
}

#[test]
fn trees_to_stack_are_frozen_alike() -> Result<()> {
    let free = Linear::new(2, 2).init(0, &Device::Cpu)?;
    let mut frozen = free.clone();
    frozen.freeze(path("kernel"))?;
    for trees in [[free.clone(), frozen.clone()], [frozen.clone(), free.clone()]] {
        let error = Linear::stack(&trees).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Frozen, "{error}");
        assert!(error.to_string().contains("`kernel`"), "{error}");
    }
    assert!(Linear::stack(&[frozen.clone(), frozen])?.kernel.is_frozen());
    Ok(())
}
