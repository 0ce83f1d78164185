//! Rematerialization and scans equal the same code without them: values, gradients, state, keys.

#![allow(clippy::unwrap_used)]

use std::slice::from_ref;

use candle_core::{DType, Tensor};
use treex_core::{
    ErrorKind, Key, Leaf, Parameter, Result, Rng, State, autograd, prelude::*, remat, scan, scan_blocks,
};
use treex_testing::{device, skip};

/// A block with weights, a state, a key and a constant.
#[derive(Clone, Debug, TreeObject)]
struct Block {
    w: Leaf<Parameter>,
    b: Leaf<Parameter>,
    mean: Leaf<State>,
    rng: Leaf<Rng>,
    calls: usize,
}

impl Block {
    fn new(seed: u32) -> Result<Self> {
        let [w, b] = Key::from(seed).split2();
        let mut block = Self {
            w: Leaf::new(w.normal((3, 3), DType::F64)?.to_device(device())?)?,
            b: Leaf::new(b.normal(3, DType::F64)?.to_device(device())?)?,
            mean: Leaf::new(Tensor::zeros(3, DType::F64, device())?)?,
            rng: Leaf::key(),
            calls: 0,
        };
        block = block.init(seed, device())?;
        Ok(block)
    }

    fn run(&mut self, x: &Tensor) -> Result<Tensor> {
        self.calls += 1;
        let noise = self.rng.next_key()?.uniform(3, DType::F64)?.to_device(x.device())?;
        let y = x.matmul(&self.w.get()?)?.broadcast_add(&self.b.get()?)?.tanh()?;
        self.mean.set(((self.mean.get()? * 0.5)? + (y.mean(0)? * 0.5)?)?)?;
        Ok(y.broadcast_mul(&noise)?)
    }
}

impl Module for Block {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.run(x)
    }
}

fn input() -> Tensor {
    Key::from(9).normal((4, 3), DType::F64).unwrap().to_device(device()).unwrap()
}

/// State and gradients after a function.
type Outcome = (String, [Vec<f64>; 3]);

fn outcome(f: impl Fn(&mut Block, &Tensor) -> Result<Tensor>) -> Result<Outcome> {
    let mut both = (Block::new(1)?, Leaf::<Parameter>::new(input())?);
    let (loss, grads) = both.value_and_grad(Parameter, |(block, x)| {
        let y = f(block, &x.get()?)?;
        Ok((y.sqr()?.sum_all()? + block.w.get()?.sum_all()?)?)
    })?;
    let flat = |x: &Leaf<Parameter>| x.get().unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let state = (loss.to_scalar::<f64>()?, both.0.calls, both.0.mean.get()?.to_vec1::<f64>()?);
    let rng = Key::from_tensor(&both.0.rng.get()?)?;
    Ok((format!("{state:?} {rng:?}"), [flat(&grads.0.w), flat(&grads.0.b), flat(&grads.1)]))
}

fn assert_same(got: Outcome, want: Outcome) {
    assert_eq!(got.0, want.0);
    for (got, want) in got.1.iter().zip(&want.1) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}\n{want:?}");
    }
}

fn twice(block: &mut Block, x: &Tensor) -> Result<Tensor> {
    let x = block.run(x)?;
    block.run(&x)
}

#[test]
fn remat_equals_the_function() -> Result<()> {
    let replayed = outcome(|block, x| {
        Ok(remat(block, from_ref(x), |block, x| Ok(vec![twice(block, &x[0])?]))?.swap_remove(0))
    })?;
    assert_same(replayed, outcome(twice)?);
    Ok(())
}

#[test]
fn remat_nests() -> Result<()> {
    let replayed = outcome(|block, x| {
        let outer = remat(block, from_ref(x), |block, x| {
            let inner = remat(block, x, |block, x| Ok(vec![block.run(&x[0])?]))?;
            Ok(vec![block.run(&inner[0])?])
        })?;
        Ok(outer[0].clone())
    })?;
    assert_same(replayed, outcome(twice)?);
    Ok(())
}

#[test]
fn parameters_computed_from_others_keep_their_gradient() -> Result<()> {
    let merge = |block: &mut Block| {
        let traced = (block.w.get()? * 2.)?;
        block.w = Leaf::new(traced)?;
        Ok::<_, treex_core::Error>(())
    };
    let replayed = outcome(|block, x| {
        let mut merged = block.clone();
        merge(&mut merged)?;
        let y = remat(&mut merged, from_ref(x), |block, x| Ok(vec![twice(block, &x[0])?]))?;
        let w = std::mem::replace(&mut merged.w, block.w.clone());
        assert!(w.get()?.track_op());
        *block = merged;
        Ok(y[0].clone())
    })?;
    let plain = outcome(|block, x| {
        let mut merged = block.clone();
        merge(&mut merged)?;
        let y = twice(&mut merged, x)?;
        merged.w = block.w.clone();
        *block = merged;
        Ok(y)
    })?;
    assert_same(replayed, plain);
    Ok(())
}

#[test]
fn scan_equals_a_loop() -> Result<()> {
    let steps = |x: &Tensor| Tensor::stack(&[x, &(x * 0.5)?, &(x - 1.)?], 0);
    let scanned = outcome(|block, x| {
        let (carry, ys) = scan(block, from_ref(x), &[steps(x)?], |block, carry, x| {
            let y = block.run(&(&carry[0] + &x[0])?)?;
            Ok((vec![y.clone()], vec![y.sqr()?, x[0].clone()]))
        })?;
        Ok(((&carry[0] + ys[0].sum(0)?)? + ys[1].mean(0)?)?)
    })?;
    let looped = outcome(|block, x| {
        let (xs, mut carry, mut squares) = (steps(x)?, x.clone(), Vec::new());
        for t in 0..3 {
            carry = block.run(&(&carry + xs.get(t)?)?)?;
            squares.push(carry.sqr()?);
        }
        Ok(((carry + Tensor::stack(&squares, 0)?.sum(0)?)? + xs.mean(0)?)?)
    })?;
    assert_same(scanned, looped);
    Ok(())
}

#[test]
fn scan_over_blocks_equals_a_loop() -> Result<()> {
    let blocks = [Block::new(1)?, Block::new(2)?, Block::new(3)?];
    let mut scanned = Block::stack(&blocks)?;
    let mut looped = blocks.to_vec();
    let (a, grads) = scanned.value_and_grad(Parameter, |blocks| {
        let y = scan_blocks(blocks, &[input()], |block, x| Ok(vec![block.run(&x[0])?]))?;
        Ok(y[0].sqr()?.sum_all()?)
    })?;
    let untracked =
        scan_blocks(&mut Block::stack(&blocks)?, &[input()], |block, x| Ok(vec![block.run(&x[0])?]))?;
    assert_eq!(untracked[0].sqr()?.sum_all()?.to_scalar::<f64>()?, a.to_scalar::<f64>()?);
    let (b, looped_grads) = looped.value_and_grad(Parameter, |blocks| {
        let y = blocks.iter_mut().try_fold(input(), |x, block| block.run(&x))?;
        Ok(y.sqr()?.sum_all()?)
    })?;
    assert_eq!(a.to_scalar::<f64>()?, b.to_scalar::<f64>()?);
    let close = |a: &Tensor, b: &Tensor| {
        assert!((a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap() < 1e-12)
    };
    for (index, block) in looped.iter().enumerate() {
        close(&grads.w.get()?.get(index)?, &looped_grads[index].w.get()?);
        close(&grads.b.get()?.get(index)?, &looped_grads[index].b.get()?);
        close(&scanned.mean.get()?.get(index)?, &block.mean.get()?);
        assert_eq!(scanned.rng.get()?.get(index)?.to_vec1::<u32>()?, block.rng.get()?.to_vec1::<u32>()?);
    }
    Ok(())
}

/// As nodes of a graph, these steps would overflow a thread's stack.
#[test]
fn a_long_scan_has_a_shallow_graph() -> Result<()> {
    if skip("a_long_scan_has_a_shallow_graph", "30,000 steps; the graph is Candle's on each device") {
        return Ok(());
    }
    let mut w = Leaf::<Parameter>::new(Tensor::new(0.999f64, device())?)?;
    let xs = Tensor::ones(30_000, DType::F64, device())?;
    let start = Tensor::new(0f64, device())?;
    let (loss, grad) = w.value_and_grad(Parameter, |w| {
        let (carry, _) = scan(w, &[start], &[xs], |w, carry, x| {
            Ok((vec![((&carry[0] * w.get()?)? + &x[0])?], Vec::new()))
        })?;
        Ok(carry[0].clone())
    })?;
    assert!((loss.to_scalar::<f64>()? - 1000.).abs() < 1e-6);
    assert!((grad.get()?.to_scalar::<f64>()? / 1e6 - 1.).abs() < 1e-6);
    Ok(())
}

/// A sum of ones in half precision stalls at 256 or 2048. The simulated device takes milliseconds for each step.
#[test]
fn many_steps_are_summed() -> Result<()> {
    let long = [(DType::BF16, 5000, 4992f32), (DType::F16, 5000, 5000.)];
    let short = [(DType::BF16, 600, 600f32)];
    for &(dtype, steps, wanted) in if device().is_cpu() { &long[..] } else { &short } {
        let mut w = Leaf::<Parameter>::new(Tensor::ones((), dtype, device())?)?;
        let start = Tensor::zeros((), DType::F32, device())?;
        let xs = Tensor::zeros(steps, DType::F32, device())?;
        let (loss, grad) = w.value_and_grad(Parameter, |w| {
            let step = |w: &mut Leaf<Parameter>, carry: &[Tensor], _: &[Tensor]| {
                Ok((vec![(&carry[0] + w.get()?.to_dtype(DType::F32)?)?], Vec::new()))
            };
            Ok(scan(w, &[start], &[xs], step)?.0.remove(0))
        })?;
        assert_eq!(loss.to_scalar::<f32>()?, steps as f32);
        let grad = grad.get()?;
        assert_eq!((grad.dtype(), grad.to_dtype(DType::F32)?.to_scalar::<f32>()?), (dtype, wanted));
    }
    Ok(())
}

#[test]
fn operations_are_recomputed_by_the_same_path() -> Result<()> {
    let mut w = Leaf::<Parameter>::new(Tensor::new(1f64, device())?)?;
    let (_, grad) = w.value_and_grad(Parameter, |w| {
        let y = autograd::with_reference(|| {
            remat(w, &[], |w, _| {
                let factor = if autograd::is_reference() { 3. } else { 5. };
                Ok(vec![(w.get()? * factor)?])
            })
        })?;
        Ok(y[0].clone())
    })?;
    assert_eq!(grad.get()?.to_scalar::<f64>()?, 3.);
    Ok(())
}

#[test]
fn half_precision_and_integers_pass_through() -> Result<()> {
    let mut table = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 4.], device())?.to_dtype(DType::BF16)?)?;
    let ids = Tensor::new(&[[2u32], [0], [2]], device())?;
    let start = Tensor::zeros(1, DType::BF16, device())?;
    let (_, grad) = table.value_and_grad(Parameter, |table| {
        let (carry, _) = scan(table, &[start], &[ids], |table, carry, ids| {
            Ok((vec![(&carry[0] + table.get()?.index_select(&ids[0], 0)?)?], vec![ids[0].clone()]))
        })?;
        Ok(carry[0].sum_all()?)
    })?;
    assert_eq!(grad.get()?.to_dtype(DType::F32)?.to_vec1::<f32>()?, [1., 0., 2.]);
    Ok(())
}

#[test]
fn misuse() -> Result<()> {
    let x = input();
    let mut block = Block::new(1)?;
    let before = block.clone();
    let step =
        |block: &mut Block, carry: &[Tensor], _: &[Tensor]| Ok((vec![block.run(&carry[0])?], Vec::new()));
    for xs in [&[][..], &[x.narrow(0, 0, 0)?], &[x.clone(), x.narrow(0, 0, 2)?]] {
        let error = scan(&mut block, from_ref(&x), xs, step).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(error.to_string().contains("equal lengths of at least 1"), "{error}");
    }
    let shrinking =
        |_: &mut Block, carry: &[Tensor], _: &[Tensor]| Ok((vec![carry[0].narrow(0, 0, 1)?], Vec::new()));
    let error = scan(&mut block, from_ref(&x), from_ref(&x), shrinking).unwrap_err().to_string();
    let text = "the carry of a scan changed at step 0: expected [4, 3] of `f64`, found [1, 3] of `f64`";
    assert!(error.starts_with(text), "{error}");
    let error = scan_blocks(&mut block.clone(), from_ref(&x), |_, x| Ok(x.to_vec())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape, "{error}");
    assert_eq!(block.calls, before.calls);
    assert_eq!(block.mean, before.mean);

    block.w = Leaf::nothing();
    let error = remat(&mut block, &[x], |block, x| Ok(vec![block.run(&x[0])?])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FilteredOut);
    Ok(())
}
