//! Stacks of layers.

use candle_core::{DType, Module as _, Tensor};
use treex_core::{Error, Key, Parameter, Result, prelude::*};
use treex_nn::{
    BatchApply, BatchNorm, Dropout, Linear, Mlp, Remat, ScanBlocks, Sequential, sequential, tanh,
};
use treex_testing::device;

use crate::case::{Case, Subject, assert_close, module, subject, usize_of};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/stacks.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match case.layer.as_str() {
        "Mlp" => {
            assert_eq!(case.config("activation"), "relu");
            module(Mlp::new(case.sizes("features")))
        }
        "Sequential" => {
            let layers = case.config("layers").as_array().unwrap();
            module(layers.iter().fold(
                Sequential::new(),
                |model, layer| match layer["layer"].as_str().unwrap() {
                    "Linear" => model.add(Linear::new(usize_of(&layer["in"]), usize_of(&layer["features"]))),
                    "tanh" => model.add_fn(tanh),
                    other => panic!("no layer {other}"),
                },
            ))
        }
        "sequential" => {
            let layers = case.config("layers").as_array().unwrap();
            let linear = |index: usize| {
                let layer = &layers[index];
                Linear::new(usize_of(&layer["in"]), usize_of(&layer["features"]))
            };
            assert_eq!((layers.len(), &layers[1]["layer"]), (3, &"tanh".into()));
            module(sequential((linear(0), tanh, linear(2))))
        }
        "BatchApply" => {
            let linear = Linear::new(case.usize("in"), case.usize("features"));
            let applied = BatchApply::new(linear).num_dims(case.usize("num_dims"));
            subject(applied, |applied, inputs| {
                let call = |linear: &mut Linear, rows: &[Tensor]| match rows[0].rank() {
                    2 => Ok(linear.forward(&rows[0])?),
                    rank => Err(Error::shape("not merged").found(rank)),
                };
                Ok(vec![applied.call_inner(&[&inputs[0]], call)?])
            })
        }
        other => panic!("no layer {other}"),
    }
}

/// A block with parameters, a state and a key.
fn block() -> Sequential {
    Sequential::new().add(Linear::new(3, 3)).add_fn(tanh).add(BatchNorm::new(3)).add(Dropout::new(0.25))
}

fn input() -> Tensor {
    Key::from(1).normal((4, 3), DType::F64).unwrap().to_device(device()).unwrap()
}

/// The loss and the gradients of a model, whose state the call updates.
fn train(model: &mut (impl Module + Clone)) -> Result<(Tensor, Vec<Tensor>)> {
    let (loss, grads) =
        model.value_and_grad(Parameter, |model| Ok(model.call(&input())?.sqr()?.sum_all()?))?;
    Ok((loss, values(&grads)))
}

fn values(tree: &impl Tree) -> Vec<Tensor> {
    tree.leaves().into_iter().map(|(_, _, leaf)| leaf.value().unwrap().clone()).collect()
}

fn assert_all_close(got: &[Tensor], want: &[Tensor]) {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).for_each(|(got, want)| assert_close(got, want, 1e-12, "a leaf"));
}

#[test]
fn remat_is_its_module() -> Result<()> {
    let mut plain = block().init_linen(7, device())?;
    let mut remat = Remat::new(block()).init_linen(7, device())?;
    assert_eq!(remat.tabulate(), plain.tabulate());
    plain = plain.into_dtype(DType::F64)?;
    remat = remat.into_dtype(DType::F64)?;
    for _ in 0..2 {
        let ((a, grads), (b, wanted)) = (train(&mut remat)?, train(&mut plain)?);
        assert_close(&a, &b, 1e-12, "loss");
        assert_all_close(&grads, &wanted);
        assert_all_close(&values(&remat), &values(&plain));
    }
    assert_eq!(remat.tabulate_with(&input())?, plain.tabulate_with(&input())?);
    Ok(())
}

#[test]
fn scan_blocks_is_a_loop_over_blocks() -> Result<()> {
    let mut scanned = ScanBlocks::new(block(), 3).init(7, device())?;
    scanned = scanned.into_dtype(DType::F64)?;
    let blocks = scanned.blocks.unstack()?;
    assert_ne!(values(&blocks[0])[0].to_vec2::<f64>()?, values(&blocks[1])[0].to_vec2::<f64>()?);
    let mut looped = blocks.iter().fold(Sequential::new(), |model, block| model.add(block.clone()));
    let mut stacked = ScanBlocks::stacked(&blocks)?;
    let ((a, grads), (b, wanted)) = (train(&mut scanned)?, train(&mut looped)?);
    assert_close(&a, &b, 1e-12, "loss");
    assert_close(&train(&mut stacked)?.0, &b, 1e-12, "loss of stacked blocks");
    // Block by block: a leaf of each block is a slice of the stacked leaf.
    let slices = |stacked: &[Tensor]| -> Result<Vec<Tensor>> {
        let slice = |index| stacked.iter().map(move |leaf| Ok(leaf.get(index)?));
        (0..3).flat_map(slice).collect()
    };
    assert_all_close(&slices(&grads)?, &wanted);
    assert_all_close(&slices(&values(&scanned))?, &values(&looped));
    Ok(())
}

#[test]
fn errors_of_scan_blocks() -> Result<()> {
    let error = |result: Result<Tensor>| result.unwrap_err().to_string();
    let x = Tensor::ones((2, 3), DType::F32, device())?;
    let text = error(ScanBlocks::new(Linear::new(3, 3), 2).call(&x));
    assert!(text.contains("and shape [2, 3, 3] has no value yet at `kernel`; call"), "{text}");
    let text = error(ScanBlocks::new(Linear::new(3, 4), 2).init(0, device())?.call(&x));
    assert!(text.starts_with("the carry of a scan changed at step 0: expected [2, 3]"), "{text}");
    let text = ScanBlocks::new(Linear::lazy(3), 2).init(0, device()).unwrap_err().to_string();
    assert!(text.contains("give the layer its sizes"), "{text}");
    assert!(ScanBlocks::new(Linear::new(3, 3), 0).init(0, device()).is_err());
    assert!(ScanBlocks::<Linear>::stacked(&[]).is_err());
    Ok(())
}
