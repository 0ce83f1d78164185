//! The laws, one test each: value semantics, no aliases, tracking.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::sync::Arc;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use treex_core::{
    BatchStat, Cache, Error, Leaf, Parameter, Result, State, grad, path, prelude::*, value_and_grad_aux,
};
use treex_testing::{device, skip};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, device()).unwrap()
}

fn values<K: treex_core::Kind>(leaf: &Leaf<K>) -> Vec<f32> {
    leaf.get().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn address<K: treex_core::Kind>(leaf: &Leaf<K>) -> usize {
    std::ptr::from_ref(&*leaf.get().unwrap().storage_and_layout().0).addr()
}

#[derive(Clone, Debug, PartialEq, TreeObject)]
struct Linear {
    w: Leaf<Parameter>,
    b: Leaf<Parameter>,
    calls: Leaf<State>,
}

impl Linear {
    fn new(scale: f32) -> Self {
        let w = Tensor::new(&[[scale, -scale], [0.5, 1.]], device()).unwrap();
        Self {
            w: Leaf::new(w).unwrap(),
            b: Leaf::new(tensor(&[0., 0.1])).unwrap(),
            calls: Leaf::new(tensor(&[0.])).unwrap(),
        }
    }
}

impl Module for Linear {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.calls.set((self.calls.get()? + 1.)?)?;
        Ok(x.matmul(&self.w.get()?)?.broadcast_add(&self.b.get()?)?)
    }
}

fn batch() -> Tensor {
    Tensor::new(&[[1f32, 2.], [-1., 0.5], [0., 3.]], device()).unwrap()
}

fn loss(model: &mut impl Module, x: &Tensor) -> Result<Tensor> {
    Ok(model.call(x)?.sqr()?.mean_all()?)
}

/// An optimizer's step: writes each selected leaf, in place if allowed.
fn descend<T: TreeObject + Clone>(model: &mut T, grads: &T) {
    let grads = grads.flatten();
    for (index, mut leaf) in model.leaves_mut().into_iter().enumerate() {
        let Some(grad) = grads.get(index) else { continue };
        let stepped = (leaf.handle().value().unwrap() - (grad * 0.05).unwrap()).unwrap();
        leaf.handle().write(&stepped).unwrap();
    }
}

fn train(model: &mut Linear, steps: usize) {
    for _ in 0..steps {
        let (_, grads) = model.value_and_grad(Parameter, |model| loss(model, &batch())).unwrap();
        descend(model, &grads);
    }
}

#[test]
fn a_clone_taken_before_training_is_unchanged_after_it() {
    let mut model = Linear::new(1.);
    let (snapshot, reference) = (model.clone(), Linear::new(1.));
    train(&mut model, 100);
    assert_eq!(snapshot, reference);
    assert_ne!(model.w, snapshot.w);
    assert_eq!(values(&model.calls), [100.]);
}

#[derive(Clone, Debug, PartialEq, TreeObject)]
struct Agent {
    online: Linear,
    target: Linear,
}

impl Agent {
    fn new() -> Self {
        let online = Linear::new(1.);
        Self { target: online.clone(), online }
    }
}

#[test]
fn an_agent_trains_online_and_leaves_target() {
    let mut agent = Agent::new();
    for _ in 0..3 {
        let (_, grads) =
            agent.value_and_grad(path("online.**"), |agent| loss(&mut agent.online, &batch())).unwrap();
        assert!(grads.target.w.is_nothing());
        descend(&mut agent, &grads);
    }
    assert_eq!(agent.target, Linear::new(1.));
    assert_ne!(agent.online.w, agent.target.w);
}

#[test]
fn leaves_of_one_tree_that_share_a_cell_have_separate_gradients() {
    let mut agent = Agent::new();
    let (_, grads) = agent.value_and_grad(Parameter, |agent| loss(&mut agent.online, &batch())).unwrap();
    let alone = grad(&Linear::new(1.), |model| loss(&mut model.clone(), &batch())).unwrap();
    assert_eq!(grads.online.w, alone.w);
    assert_eq!(values(&grads.target.w), [0.; 4]);
    let (_, grads) = Agent::new()
        .value_and_grad(Parameter, |agent| {
            Ok((loss(&mut agent.online, &batch())? + (loss(&mut agent.target, &batch())? * 2.)?)?)
        })
        .unwrap();
    assert_eq!(grads.online.w, alone.w);
    assert_eq!(grads.target.w, alone.w.map(|x| Ok((x * 2.)?)).unwrap());
}

#[test]
fn a_target_that_shares_cells_gets_no_gradient_and_adds_none() {
    let mut agent = Agent::new();
    let difference = |agent: &mut Agent| -> Result<Tensor> {
        let (online, target) = (agent.online.call(&batch())?, agent.target.call(&batch())?);
        assert!(online.track_op() && !target.track_op());
        Ok((online - (target * 0.5)?)?.sqr()?.mean_all()?)
    };
    let (_, grads) = agent.value_and_grad(path("online.**"), difference).unwrap();
    assert!(grads.target.leaves().is_empty());
    let target = Linear::new(1.).call(&batch()).unwrap();
    let alone = grad(&Linear::new(1.), |online| {
        Ok((online.clone().call(&batch())? - (&target * 0.5)?)?.sqr()?.mean_all()?)
    })
    .unwrap();
    assert_eq!(grads.online.filter(Parameter), alone);
}

#[test]
fn training_in_place_keeps_the_storage() {
    let mut model = Linear::new(1.);
    train(&mut model, 1);
    let (w, b) = (address(&model.w), address(&model.b));
    train(&mut model, 5);
    assert_eq!((address(&model.w), address(&model.b)), (w, b));
    let snapshot = model.clone();
    train(&mut model, 1);
    assert_eq!(address(&snapshot.w), w, "the snapshot keeps the storage, the model moves on");
    assert_ne!(address(&model.w), w);
}

#[test]
fn the_functional_form_writes_in_place_when_the_model_is_assigned() {
    let mut model = Linear::new(1.);
    let mut places = Vec::new();
    for _ in 0..4 {
        let params = model.filter(Parameter);
        let ((_, new), grads) = value_and_grad_aux(&params, |params| {
            let mut model = model.updated(params)?;
            let loss = loss(&mut model, &batch())?;
            Ok((loss, model))
        })
        .unwrap();
        drop(params);
        model = new;
        descend(&mut model, &grads);
        places.push(address(&model.w));
    }
    assert!(places.windows(2).all(|pair| pair[0] == pair[1]), "{places:?}");
    assert_eq!(values(&model.calls), [4.]);
}

/// An embedding table that also, transposed, computes logits (weight tying).
#[derive(Clone, Debug, TreeObject)]
struct Embed {
    table: Leaf<Parameter>,
}

impl Embed {
    fn call(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(self.table.get()?.index_select(ids, 0)?)
    }

    fn attend(&self, h: &Tensor) -> Result<Tensor> {
        Ok(h.matmul(&self.table.get()?.t()?)?)
    }
}

#[test]
fn an_embedding_used_twice_is_one_leaf_with_the_summed_gradient() {
    let table = Tensor::new(&[[1f64, 2.], [3., -1.], [0.5, 0.2]], device()).unwrap();
    let embed = Embed { table: Leaf::new(table).unwrap() };
    let ids = Tensor::new(&[0u32, 2], device()).unwrap();
    let score = |first: &Embed, second: &Embed| -> Result<Tensor> {
        Ok(second.attend(&first.call(&ids)?)?.sqr()?.sum_all()?)
    };
    assert_eq!(embed.leaves().len(), 1);
    let both = grad(&embed, |embed| score(embed, embed)).unwrap();
    let as_embedding = grad(&embed, |tracked| score(tracked, &embed)).unwrap();
    let as_scores = grad(&embed, |tracked| score(&embed, tracked)).unwrap();
    let sum = (as_embedding.table.get().unwrap() + as_scores.table.get().unwrap()).unwrap();
    let difference = (both.table.get().unwrap() - sum).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f64>().unwrap() < 1e-12);
}

#[test]
fn unselected_leaves_are_not_in_the_graph() {
    let mut agent = Agent { online: Linear::new(1.), target: Linear::new(2.) };
    agent
        .value_and_grad(path("online.w"), |agent| {
            assert!(!agent.target.call(&batch())?.track_op());
            assert!(!agent.online.b.get()?.track_op());
            let loss = loss(&mut agent.online, &batch())?;
            let variables = loss.sorted_nodes().into_iter().filter(|node| node.is_variable()).count();
            assert_eq!(variables, 1);
            Ok(loss)
        })
        .unwrap();
    assert!(!agent.online.w.get().unwrap().track_op());
}

#[test]
fn a_closure_that_fails_or_panics_leaves_the_model_unchanged() {
    let mut model = Linear::new(1.);
    let failed = model.value_and_grad(Parameter, |model| {
        model.call(&batch())?;
        model.w.set(tensor(&[9.]))?;
        Err(Error::argument("no"))
    });
    assert_eq!(failed.unwrap_err().to_string(), "no");
    assert_eq!(model, Linear::new(1.));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = model.value_and_grad(Parameter, |model| {
            model.call(&batch())?;
            panic!("on purpose")
        });
    }));
    assert!(panicked.is_err());
    assert_eq!(model, Linear::new(1.));
    assert!(!model.w.get().unwrap().track_op());
    model.value_and_grad(Parameter, |model| loss(model, &batch())).unwrap();
}

#[test]
fn a_forward_pass_on_another_thread_loses_nothing() {
    let mut model = Linear::new(1.);
    let (_, here) = model.value_and_grad(Parameter, |model| loss(model, &batch())).unwrap();
    let (_, there) = model
        .value_and_grad(Parameter, |model| {
            std::thread::scope(|scope| scope.spawn(|| loss(model, &batch())).join().unwrap())
        })
        .unwrap();
    assert_eq!(here, there);
    // A parameter computed from others on another thread also stays tracked.
    let (_, merged) = model
        .value_and_grad(Parameter, |model| {
            std::thread::scope(|scope| {
                scope
                    .spawn(|| {
                        device(); // whose context this thread needs
                        let merged = Linear { w: Leaf::new((model.w.get()? * 1.)?)?, ..model.clone() };
                        loss(&mut merged.clone(), &batch())
                    })
                    .join()
                    .unwrap()
            })
        })
        .unwrap();
    assert_eq!(merged.w, here.w);
}

#[test]
fn values_that_enter_a_leaf_share_no_storage() {
    let source = Leaf::<Parameter>::new(tensor(&[1., 2., 3., 4.])).unwrap();
    let mut set = Leaf::<State>::nothing();
    set.set(source.get().unwrap()).unwrap();
    let mut taken = vec![set];
    for view in [
        source.get().unwrap(),
        source.get().unwrap().reshape((2, 2)).unwrap(),
        source.get().unwrap().narrow(0, 1, 2).unwrap(),
        source.get().unwrap().to_dtype(DType::F32).unwrap(),
    ] {
        taken.push(Leaf::new(&view).unwrap());
        taken.push(Leaf::<State>::new(tensor(&[0.])).unwrap().map(|_| Ok(view.clone())).unwrap());
    }
    let before: Vec<_> = taken.iter().map(values).collect();
    let mut source = source;
    source.leaves_mut()[0].handle().write(&tensor(&[9.; 4])).unwrap();
    assert_eq!(values(&source), [9.; 4]);
    assert_eq!(taken.iter().map(values).collect::<Vec<_>>(), before);
}

#[test]
fn a_tensor_in_a_graph_is_never_overwritten() {
    // The running value is read into the graph, then written: the gradient must use the value read.
    #[derive(Clone, Debug, TreeObject)]
    struct Scaled {
        w: Leaf<Parameter>,
        scale: Leaf<BatchStat>,
    }
    let mut model = Scaled { w: Leaf::new(tensor(&[3.])).unwrap(), scale: Leaf::new(tensor(&[2.])).unwrap() };
    let (_, grads) = model
        .value_and_grad(Parameter, |model| {
            let y = (model.w.get()? * model.scale.get()?)?;
            model.scale.set(tensor(&[100.]))?;
            Ok(y.sum_all()?)
        })
        .unwrap();
    assert_eq!(values(&grads.w), [2.]);
    assert_eq!(values(&model.scale), [100.]);
}

/// A cache that is written twice in one differentiated function: the first product reads the values that it saw.
#[test]
fn a_write_of_slices_keeps_what_the_graph_saved() {
    let mut model =
        (Leaf::<Parameter>::new(tensor(&[1., 1.])).unwrap(), Leaf::<Cache>::new(tensor(&[0., 0.])).unwrap());
    let (loss, grads) = model
        .value_and_grad(Parameter, |(w, cache)| {
            cache.write_slice(&tensor(&[2.]), 0, 0)?;
            let first = (w.get()? * cache.get()?)?;
            cache.write_slice(&tensor(&[5., 7.]), 0, 0)?;
            Ok((first + (w.get()? * cache.get()?)?)?.sum_all()?)
        })
        .unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 14.);
    assert_eq!((values(&grads.0), values(&model.1)), (vec![7., 7.], vec![5., 7.]));
    for (start, dim) in [(1, 0), (usize::MAX, 0), (0, 1), (0, usize::MAX)] {
        let error = model.1.write_slice(&tensor(&[1., 1.]), dim, start).unwrap_err().to_string();
        assert!(error.contains("out of range"), "{error}");
    }
    assert_eq!(values(&model.1), [5., 7.]);
}

#[test]
fn results_of_a_scope_are_detached() {
    let mut model = Linear::new(1.);
    let ((value, escaped), grads) = model
        .value_and_grad_aux(Parameter, |model| {
            let escaped = model.clone();
            assert!(escaped.w.get()?.track_op());
            let mapped = model.map(|x| Ok((x * 2.)?))?;
            assert!(mapped.w.get()?.track_op() && !mapped.calls.get()?.track_op());
            Ok((loss(model, &batch())?, (escaped, mapped)))
        })
        .unwrap();
    assert!(!value.track_op());
    assert!(!grads.w.get().unwrap().track_op());
    assert!(!model.w.get().unwrap().track_op());
    assert!(!escaped.0.w.get().unwrap().track_op());
    assert!(!escaped.1.w.get().unwrap().track_op());
    assert_eq!(values(&escaped.1.w), values(&Linear::new(1.).map(|x| Ok((x * 2.)?)).unwrap().w));
}

#[test]
fn gradients_flow_through_computed_parameters() {
    let (w, a) = (
        Leaf::<Parameter>::new(tensor(&[1., 2.])).unwrap(),
        Leaf::<Parameter>::new(tensor(&[3., -1.])).unwrap(),
    );
    let grads = grad(&(w, a), |(w, a)| {
        let merged = Leaf::<Parameter>::new((w.get()? + a.get()?.sqr()?)?)?;
        Ok(merged.get()?.sum_all()?)
    })
    .unwrap();
    assert_eq!((values(&grads.0), values(&grads.1)), (vec![1., 1.], vec![6., -2.]));
}

#[test]
fn gradients_flow_through_a_cast() -> Result<()> {
    let mut leaf = Leaf::<Parameter>::new(tensor(&[1., 2.]))?;
    let (_, grads) = leaf.value_and_grad(Parameter, |leaf| {
        let wide = leaf.clone().into_dtype(DType::F64)?;
        Ok(wide.get()?.sqr()?.sum_all()?)
    })?;
    assert_eq!(values(&grads), [2., 4.]);
    let error = leaf.into_dtype(DType::U32).unwrap_err().to_string();
    assert!(error.contains("floating types"), "{error}");
    Ok(())
}

#[test]
fn two_models_are_differentiated_together() {
    let mut both = (Linear::new(1.), Linear::new(2.));
    let (_, grads) = both
        .value_and_grad(Parameter, |(a, b)| Ok((a.call(&batch())? * b.call(&batch())?)?.mean_all()?))
        .unwrap();
    assert!(!grads.0.w.is_nothing() && !grads.1.w.is_nothing() && grads.0.calls.is_nothing());
}

#[test]
fn a_leaf_that_the_loss_does_not_reach_has_zeros() {
    let mut model = Linear::new(1.);
    let (_, grads) = model.value_and_grad(Parameter, |model| Ok(model.w.get()?.sum_all()?)).unwrap();
    assert_eq!(values(&grads.b), [0., 0.]);
    assert_eq!(values(&grads.w), [1.; 4]);
}

#[test]
fn candles_own_backward_and_optimizers_work_on_a_tree() {
    let mut model = Linear::new(1.);
    let vars = model.vars(Parameter).unwrap();
    let tracked = model.tracked(Parameter).unwrap();
    let value = loss(&mut tracked.clone(), &batch()).unwrap();
    let store = value.backward().unwrap();
    let (_, grads) = Linear::new(1.).value_and_grad(Parameter, |model| loss(model, &batch())).unwrap();
    assert_eq!(vars.len(), 2);
    for (var, expected) in vars.iter().zip([&grads.w, &grads.b]) {
        let got: Vec<f32> = store.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(got, values(expected));
    }
    sgd_step(&vars, &store);
    drop((tracked, value));
    assert_ne!(values(&model.w), values(&Linear::new(1.).w));
}

/// A step of Candle's own optimizer.
fn sgd_step(vars: &[candle_core::Var], grads: &candle_core::backprop::GradStore) {
    for var in vars {
        let grad = grads.get(var).unwrap();
        var.set(&(var.as_tensor() - (grad * 0.1).unwrap()).unwrap()).unwrap();
    }
}

#[test]
fn an_ensemble_is_one_tree() {
    let members = [Linear::new(1.), Linear::new(2.), Linear::new(-1.)];
    let mut ensemble = Linear::stack(&members).unwrap();
    assert_eq!(ensemble.w.get().unwrap().dims(), [3, 2, 2]);
    let (losses, grads) =
        treex_core::vmap(&mut ensemble, |_, member| member.value_and_grad(Parameter, |m| loss(m, &batch())))
            .unwrap();
    assert_eq!(losses.dims(), [3]);
    assert_eq!(values(&ensemble.calls), [1.; 3], "state is stacked back");
    for (index, member) in members.into_iter().enumerate() {
        let alone = grad(&member, |m| loss(&mut m.clone(), &batch())).unwrap();
        assert_eq!(grads.unstack().unwrap()[index], alone);
    }
    // One gradient for all, through the loop.
    let (_, whole) = ensemble
        .value_and_grad(Parameter, |ensemble| {
            let losses = treex_core::vmap(ensemble, |_, member| loss(member, &batch()))?;
            Ok(losses.sum_all()?)
        })
        .unwrap();
    assert_eq!(whole.w, grads.w);
}

/// The identity; alive as long as a graph holds it.
struct Witness(#[allow(dead_code)] Arc<()>);

impl CustomOp1 for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((x.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}

#[test]
fn no_graph_outlives_its_scope() {
    if skip("no_graph_outlives_its_scope", "the operation of this test has a form for the CPU only") {
        return;
    }
    let alive = Arc::new(());
    let mut model = Linear::new(1.);
    let (loss, grads) = model
        .value_and_grad(Parameter, |model| {
            // The model keeps a parameter computed from another.
            model.w = Leaf::new(model.w.get()?.apply_op1(Witness(alive.clone()))?)?;
            assert_eq!(Arc::strong_count(&alive), 2);
            loss(model, &batch())
        })
        .unwrap();
    assert_eq!(Arc::strong_count(&alive), 1, "the graph is still held");
    assert_eq!(values(&model.w), values(&Linear::new(1.).w));
    drop((loss, grads));
}
