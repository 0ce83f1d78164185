//! Scans: a loop of any length that is one node of the gradient's graph.
//!
//! The forward pass saves only the carries. The backward pass recomputes the steps, from the last to the first, so
//! neither its memory nor its recursion depth depends on what a step computes.

use std::sync::Arc;

use candle_core::Tensor;

use crate::autograd::{GradientSum, custom_vjp, is_nested};
use crate::deep;
use crate::error::{Error, Result};
use crate::transform::pull_back::pull_back;
use crate::transform::recompute::{Captured, Recompute, variable};
use crate::transform::stack::{unstack, write_back};
use crate::tree::object::TreeObject;

/// Runs `f(model, carry, x)` for each slice `x` of `xs` along the leading axis, and passes the carry that it
/// returns to the next step: `jax.lax.scan`. Returns the last carry and the stacked outputs.
///
/// All steps share the model; state that `f` writes (running statistics, keys) is passed to the next step. The carry
/// keeps its shapes; its initial element type may widen.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_core::{Leaf, Parameter, prelude::*, scan};
///
/// // A decaying sum over time.
/// let mut decay = Leaf::<Parameter>::new(Tensor::new(0.5f32, &Device::Cpu)?)?;
/// let xs = Tensor::ones((2000, 3), DType::F32, &Device::Cpu)?;
/// let start = xs.get(0)?.zeros_like()?;
/// let (loss, grad) = decay.value_and_grad(Parameter, |decay| {
///     let (carry, sums) = scan(decay, &[start], &[xs.clone()], |decay, carry, x| {
///         let sum = (carry[0].broadcast_mul(&decay.get()?)? + &x[0])?;
///         Ok((vec![sum.clone()], vec![sum]))
///     })?;
///     assert_eq!(sums[0].dims(), [2000, 3]);
///     Ok(carry[0].mean_all()?)
/// })?;
/// assert_eq!(loss.to_scalar::<f32>()?, 2.); // 1 / (1 - decay)
/// assert_eq!(grad.get()?.to_scalar::<f32>()?, 4.); // 1 / (1 - decay)^2
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// A tracked tensor that `f` captures has its gradient too, but costs the memory of all steps: give it as part of the model,
/// or in the carry.
///
/// # Errors
/// If there is no step, if `xs` differ in length, or if the carry changes its shape, or its type after the first
/// step; the error of `f`.
pub fn scan<M, F>(model: &mut M, carry: &[Tensor], xs: &[Tensor], f: F) -> Result<(Vec<Tensor>, Vec<Tensor>)>
where
    M: TreeObject + Clone + 'static,
    F: Fn(&mut M, &[Tensor], &[Tensor]) -> Result<(Vec<Tensor>, Vec<Tensor>)> + Send + Sync + 'static,
{
    let length = length_of(xs)?;
    if is_nested() {
        return unrolled(length, carry, xs, |_, carry, x| f(model, carry, x));
    }
    let (f, captured) = (Arc::new(f), Captured::default());
    let (before, parameters) = Recompute::of(model);
    let sources = Sources { constants: parameters, carry: carry.to_vec(), xs: xs.to_vec() };
    let recompute =
        |f: &Arc<F>, snapshot: &Recompute<M>, constants: &[Tensor], carry: &[Tensor], x: &[Tensor]| {
            snapshot.run(constants, &[carry, x], |model| f(model, carry, x))
        };
    let outputs = before.untracked(model, |model| {
        let forward = |f: &Arc<F>, carry: &[Tensor], x: &[Tensor]| {
            let snapshot = before.with_model(model.clone());
            let step = f(model, carry, x)?;
            captured.check(step.0.iter().chain(&step.1))?;
            Ok((step, snapshot))
        };
        run(sources, length, Arc::clone(&f), forward, recompute)
    });
    if captured.is_some() { unrolled(length, carry, xs, |_, carry, x| f(model, carry, x)) } else { outputs }
}

/// Runs `f(block, carry)` for each block of a [`stack`](crate::Tree::stack)ed tree, from the first to the
/// last: a deep model of identical blocks, as Flax's `nn.scan` over layers. Returns the last carry.
///
/// Each block has its own parameters and state; state that `f` writes is stacked back into `blocks`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_core::{Leaf, Parameter, prelude::*, scan_blocks};
///
/// let block = |value: f32| Leaf::<Parameter>::new(Tensor::new(&[value; 4], &Device::Cpu)?);
/// let mut blocks = Leaf::stack(&[block(1.)?, block(2.)?, block(3.)?])?;
/// let x = Tensor::ones((5, 4), DType::F32, &Device::Cpu)?;
/// let (loss, grad) = blocks.value_and_grad(Parameter, |blocks| {
///     let y = scan_blocks(blocks, &[x], |block, x| Ok(vec![x[0].broadcast_mul(&block.get()?)?]))?;
///     assert_eq!(y[0].dims(), [5, 4]);
///     Ok(y[0].mean_all()?)
/// })?;
/// assert_eq!(loss.to_scalar::<f32>()?, 6.);
/// assert_eq!(grad.get()?.to_vec2::<f32>()?, [[1.5; 4], [0.75; 4], [0.5; 4]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the leaves of `blocks` have no common leading axis, or if the carry changes its shape, or its type after
/// the first block; the error of `f`.
pub fn scan_blocks<M, F>(blocks: &mut M, carry: &[Tensor], f: F) -> Result<Vec<Tensor>>
where
    M: TreeObject + Clone + 'static,
    F: Fn(&mut M, &[Tensor]) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    if is_nested() {
        return unrolled_blocks(blocks, carry, f);
    }
    let (f, captured) = (Arc::new(f), Captured::default());
    let (detached, parameters) = Recompute::of(blocks);
    let before = unstack(&detached.model)?;
    let (mut after, mut step) = (before.clone(), 0);
    let sources = Sources { constants: Vec::new(), carry: carry.to_vec(), xs: parameters };
    let template = detached.clone();
    let forward = |f: &Arc<F>, carry: &[Tensor], _: &[Tensor]| {
        let snapshot = template.with_model(after[step].clone());
        let carry = f(&mut after[step], carry)?;
        captured.check(carry.iter())?;
        step += 1;
        Ok(((carry, Vec::new()), snapshot))
    };
    let recompute =
        |f: &Arc<F>, snapshot: &Recompute<M>, _: &[Tensor], carry: &[Tensor], parameters: &[Tensor]| {
            Ok((snapshot.run(parameters, &[carry], |block| f(block, carry))?, Vec::new()))
        };
    let outputs = run(sources, before.len(), Arc::clone(&f), forward, recompute);
    if captured.is_some() {
        return unrolled_blocks(blocks, carry, |block, carry| f(block, carry));
    }
    let (carry, _) = outputs?;
    detached.untracked(blocks, |blocks| write_back(blocks, &before, &after))?;
    Ok(carry)
}

/// [`scan_blocks`] as plain operations.
fn unrolled_blocks<M: TreeObject + Clone>(
    blocks: &mut M,
    carry: &[Tensor],
    f: impl Fn(&mut M, &[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let before = unstack(blocks)?;
    let mut after = before.clone();
    let step = |t: usize, carry: &[Tensor], _: &[Tensor]| Ok((f(&mut after[t], carry)?, Vec::new()));
    let (carry, _) = unrolled(before.len(), carry, &[], step)?;
    write_back(blocks, &before, &after)?;
    Ok(carry)
}

/// The inputs of a scan.
struct Sources {
    constants: Vec<Tensor>,
    carry: Vec<Tensor>,
    xs: Vec<Tensor>,
}

/// The number of steps: the common length of the leading axis of `xs`.
fn length_of(xs: &[Tensor]) -> Result<usize> {
    let lengths: Vec<_> = xs.iter().map(|x| x.dims().first().copied().unwrap_or(0)).collect();
    match lengths.first() {
        Some(&length) if lengths.iter().all(|other| *other == length) => Ok(length),
        _ => Err(no_steps(format!("{lengths:?}"))),
    }
}

fn no_steps(found: String) -> Error {
    Error::shape("a scan needs tensors with a leading axis of the same length, at least 1")
        .expected("equal lengths of at least 1")
        .found(found)
}

type Step = (Vec<Tensor>, Vec<Tensor>);

/// The loop as plain operations, every one of which is in the graph: for gradients of gradients.
fn unrolled(
    length: usize,
    carry: &[Tensor],
    xs: &[Tensor],
    mut f: impl FnMut(usize, &[Tensor], &[Tensor]) -> Result<Step>,
) -> Result<Step> {
    if length == 0 {
        return Err(no_steps(length.to_string()));
    }
    let (mut carry, mut ys) = (carry.to_vec(), Vec::new());
    for t in 0..length {
        let (next, y) = f(t, &carry, &slice(xs, t)?)?;
        check_carry(&carry, &next, t)?;
        carry = next;
        ys.push(y);
    }
    Ok((carry, stack_outputs(&ys)?))
}

/// The outputs of all steps, stacked.
fn stack_outputs(ys: &[Vec<Tensor>]) -> Result<Vec<Tensor>> {
    let width = ys.first().map_or(0, Vec::len);
    let column = |k: usize| {
        let column: Vec<_> = ys.iter().filter_map(|y| y.get(k)).collect();
        Ok(Tensor::stack(&column, 0)?)
    };
    (0..width).map(column).collect()
}

/// The loop as one node of the graph. `forward` runs a step and returns what `recompute` needs to run it again.
fn run<F, S: Send + Sync + 'static>(
    sources: Sources,
    length: usize,
    f: F,
    mut forward: impl FnMut(&F, &[Tensor], &[Tensor]) -> Result<(Step, S)>,
    recompute: impl Fn(&F, &S, &[Tensor], &[Tensor], &[Tensor]) -> Result<Step> + Send + Sync + 'static,
) -> Result<Step>
where
    F: Send + Sync + 'static,
{
    if length == 0 {
        return Err(no_steps(length.to_string()));
    }
    let inputs = [&sources.constants[..], &sources.carry, &sources.xs].concat();
    let (constants, carries) = (sources.constants.len(), sources.carry.len());
    let tracked = inputs.iter().any(Tensor::track_op);
    let mut outputs = custom_vjp(&inputs, |detached| {
        let (_, rest) = detached.split_at(constants);
        let (start, xs) = rest.split_at(carries);
        let (mut carry, mut ys, mut steps) = (start.to_vec(), Vec::new(), Vec::new());
        for t in 0..length {
            let ((next, y), saved) = forward(&f, &carry, &slice(xs, t)?)?;
            check_carry(&carry, &next, t)?;
            let next: Vec<_> = next.iter().map(Tensor::detach).collect();
            let before = std::mem::replace(&mut carry, next);
            if tracked {
                steps.push((before, saved));
            }
            ys.push(y);
        }
        let stacked = stack_outputs(&ys)?;
        let backward =
            move |cotangents: &[Option<Tensor>]| back(&sources, &f, &steps, &recompute, cotangents);
        Ok(([carry, stacked].concat(), backward))
    })?;
    let ys = outputs.split_off(carries);
    Ok((outputs, ys))
}

/// The backward pass, which recomputes the steps from the last to the first.
fn back<F, S>(
    sources: &Sources,
    f: &F,
    steps: &[(Vec<Tensor>, S)],
    recompute: &impl Fn(&F, &S, &[Tensor], &[Tensor], &[Tensor]) -> Result<Step>,
    cotangents: &[Option<Tensor>],
) -> Result<Vec<Option<Tensor>>> {
    let constants = sources.constants.iter().map(variable).collect::<Result<Vec<_>>>()?;
    let mut of_constants = vec![GradientSum::default(); constants.len()];
    let (carries, of_ys) = cotangents.split_at(sources.carry.len());
    let mut of_carry = carries.to_vec();
    let mut of_xs = vec![Vec::new(); sources.xs.len()];
    for (t, (carry, saved)) in steps.iter().enumerate().rev() {
        let carry = carry.iter().map(variable).collect::<Result<Vec<_>>>()?;
        let slices =
            sources.xs.iter().map(|x| if x.track_op() { variable(&x.get(t)?) } else { Ok(x.get(t)?) });
        let xs = slices.collect::<Result<Vec<_>>>()?;
        let start = deep::mark();
        let (next, ys) = recompute(f, saved, &constants, &carry, &xs)?;
        let of_y = of_ys.iter().map(|of_y| of_y.as_ref().map(|of_y| of_y.get(t)).transpose());
        let of_y = of_y.collect::<candle_core::Result<Vec<_>>>()?;
        let variables = [&constants[..], &carry, &xs].concat();
        let gradients = deep::with_room(start, || {
            let outputs = [next, ys].concat();
            pull_back(&outputs, &[of_carry, of_y].concat(), &variables, true)
        })?;
        let mut gradients = gradients.into_iter();
        for sum in &mut of_constants {
            gradients.next().flatten().map_or(Ok(()), |gradient| sum.add(gradient))?;
        }
        of_carry = gradients.by_ref().take(carry.len()).collect();
        for (column, (gradient, x)) in of_xs.iter_mut().zip(gradients.zip(&xs)) {
            column.push(gradient.map_or_else(|| x.zeros_like(), Ok)?);
        }
    }
    let stacked = of_xs.into_iter().map(|mut column| -> Result<Option<Tensor>> {
        column.reverse();
        Ok(Some(Tensor::stack(&column, 0)?))
    });
    let of_xs = stacked.collect::<Result<Vec<_>>>()?;
    let of_constants = of_constants.into_iter().map(GradientSum::finish).collect::<Result<Vec<_>>>()?;
    Ok([of_constants, of_carry, of_xs].concat())
}

fn slice(xs: &[Tensor], t: usize) -> Result<Vec<Tensor>> {
    Ok(xs.iter().map(|x| x.get(t)).collect::<candle_core::Result<_>>()?)
}

fn check_carry(before: &[Tensor], after: &[Tensor], t: usize) -> Result<()> {
    let describe = |carry: &[Tensor]| {
        let each = carry.iter().map(|x| format!("{:?} of `{}`", x.dims(), x.dtype().as_str()));
        each.collect::<Vec<_>>().join(", ")
    };
    let alike = |(a, b): (&Tensor, &Tensor)| a.shape() == b.shape() && (t == 0 || a.dtype() == b.dtype());
    if before.len() == after.len() && before.iter().zip(after).all(alike) {
        return Ok(());
    }
    Err(Error::shape(format!("the carry of a scan changed at step {t}"))
        .expected(describe(before))
        .found(describe(after)))
}
