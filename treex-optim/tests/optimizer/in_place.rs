//! A step writes unshared leaves in place, and never memory that another leaf reads.

use proptest::prelude::*;
use treex_core::autograd::storage_id;
use treex_optim::engine::Updates;

use super::*;

/// The address of the leaf's numbers; on another device than the CPU, that of its storage.
fn address(leaf: &Leaf<Parameter>) -> usize {
    let tensor = leaf.get().unwrap();
    let (storage, _) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => values.as_ptr().addr(),
        Storage::Cpu(_) => panic!("an f32 tensor"),
        _ => storage_id(&tensor),
    }
}

#[test]
fn an_unshared_tree_is_written_in_place() {
    for (name, transformation) in all() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        let before = [address(&model.x), address(&model.layers[1])];
        train(&mut optimizer, &mut model, 0..30);
        assert_eq!([address(&model.x), address(&model.layers[1])], before, "{name}");
        let snapshot = model.clone();
        train(&mut optimizer, &mut model, 30..31);
        assert_ne!(address(&model.x), before[0], "{name}");
        assert_eq!(address(&snapshot.x), before[0], "{name}");
    }
}

/// After the gradient's closure the model is unshared again.
#[test]
fn a_training_step_writes_in_place() -> Result<()> {
    let mut model = model(DType::F32);
    let mut optimizer = Optimizer::new(adam(0.1)).init(&model)?;
    let before = address(&model.x);
    for _ in 0..10 {
        let (_, grads) = model.value_and_grad(path("x"), |model| Ok(model.x.get()?.sqr()?.sum_all()?))?;
        optimizer.update(&grads, &mut model)?;
    }
    assert_eq!(address(&model.x), before);
    Ok(())
}

/// Gradients may be views, of a transposed product for example.
#[test]
fn a_gradient_may_be_a_view() {
    for (name, transformation) in all() {
        let whole =
            Tensor::arange(0f32, 6., device()).unwrap().affine(0.3, -0.8).unwrap().reshape((3, 2)).unwrap();
        let view = whole.t().unwrap();
        let copy = view.contiguous().unwrap();
        let train = |gradient: &Tensor| {
            let mut w: Vec<Leaf<Parameter>> =
                vec![Leaf::new(Tensor::ones((2, 3), DType::F32, device()).unwrap()).unwrap()];
            let mut optimizer = Optimizer::new(transformation.clone()).init(&w).unwrap();
            let lent = w.flatten().apply(|_| Ok(gradient.clone())).unwrap();
            let grads = w.unflatten(&lent).unwrap();
            for _ in 0..3 {
                optimizer.update_with(&grads, &mut w, &Extra::value(3.)).unwrap();
            }
            (w, optimizer.flatten())
        };
        assert!(train(&view) == train(&copy), "{name}");
    }
}

/// Gradients that share storage with the state of the other leaf, which is written in the same step.
#[test]
fn a_leaf_may_read_memory_that_another_leaf_writes() {
    for len in [3, 100_000] {
        let of = |value: f32| Leaf::<Parameter>::new(Tensor::full(value, len, device()).unwrap()).unwrap();
        let params = vec![of(0.), of(0.)].flatten();
        let transformation = trace(0.5);
        let mut state = transformation.init(&params).unwrap();
        state.trace.store(&vec![of(1.), of(2.)].flatten()).unwrap();
        let crossed = state.trace.rebuild(|index| Ok(state.trace.get(1 - index).cloned())).unwrap();
        let found =
            transformation.update(Updates::new(crossed, params), &mut state).unwrap().compute().unwrap();
        for (index, expected) in [2.5, 2.].into_iter().enumerate() {
            for leaves in [&found, &state.trace] {
                let found = leaves.get(index).unwrap().to_vec1::<f32>().unwrap();
                assert!(
                    found.iter().all(|x| *x == expected),
                    "{len} elements: {} is not {expected}",
                    found[0]
                );
            }
        }
    }
}

/// Leaves split over threads, and batches of many leaves, against operations on whole tensors.
#[test]
fn the_engine_matches_tensor_operations_at_all_sizes() {
    // A rounding of f32 at the size of the parameters; of bf16, a step of the smallest difference there.
    for (dtype, tolerance) in [(DType::F32, 3e-7), (DType::F64, 1e-12), (DType::BF16, 8e-3)] {
        let sizes = [1, 100_000, 0, 70_001, 31, 32, 33, 1024, 1025];
        let part = |salt: f64| -> Vec<Leaf<Parameter>> {
            let value = |i: usize, size: usize| (i as f64 * 0.37 + size as f64 + salt).sin();
            sizes
                .iter()
                .map(|&size| leaf(&(0..size).map(|i| value(i, size)).collect::<Vec<_>>(), dtype))
                .collect()
        };
        let (start, grads) = (part(0.), part(1.));
        let train = || {
            let mut model = start.clone();
            let transformation = chain((clip_by_global_norm(1.), adamw(1e-2).weight_decay(0.1)));
            let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
            for _ in 0..3 {
                optimizer.update(&grads, &mut model).unwrap();
            }
            model
        };
        let (fast, plain) = (train(), treex_core::autograd::with_reference(train));
        for ((fast, plain), start) in fast.iter().zip(&plain).zip(&start) {
            assert_close(&values(fast), &values(plain), tolerance, dtype.as_str());
            assert!(fast != start || values(fast).is_empty());
        }
    }
}

fn member() -> impl Strategy<Value = Boxed> {
    prop_oneof![
        (-2f64..2.).prop_map(|factor| scale(factor).boxed()),
        (-0.1f64..0.1).prop_map(|rate| add_decayed_weights(rate).boxed()),
        (0f64..1.).prop_map(|decay| trace(decay).boxed()),
        (0.1f64..2.).prop_map(|max_delta| clip(max_delta).boxed()),
        Just(scale_by_sign().boxed()),
        Just(masked(scale(0.5), path("x")).boxed()),
    ]
}

proptest! {
    /// Fused rules round as separate ones do.
    #[test]
    fn chains_in_any_order_step_as_whole_tensors_do(
        members in prop::collection::vec(member(), 0..7),
        dtype in prop::sample::select(vec![DType::F32, DType::F64, DType::BF16]),
    ) {
        let chained = members.into_iter().fold(chain(()).boxed(), |chained, next| chain((chained, next)).boxed());
        let train = || {
            let mut model = model(dtype);
            let mut optimizer = Optimizer::new(chained.clone()).init(&model).unwrap();
            train(&mut optimizer, &mut model, 0..3);
            model
        };
        prop_assert_eq!(train(), treex_core::autograd::with_reference(train));
    }
}
