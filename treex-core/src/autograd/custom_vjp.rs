//! Functions of any number of tensors with a custom gradient.

use candle_core::Tensor;

use super::accumulate;
use super::nested::{is_nested, saved};
use super::operation::{BackwardContext, Operation, attach_all};
use super::storage::OwnedStorage;
use crate::error::Result;
use crate::tensors::storage_id;

/// A function of tensors with a custom gradient: `jax.custom_vjp`.
///
/// `forward` receives the inputs, outside of any graph, and returns the outputs and the function for the backward pass.
/// That receives the cotangent of each output, or `None` for one that the loss does not depend on, and returns the
/// gradient of each input, or `None` for zeros. It may run more than once, and on another thread.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, value_and_grad};
/// use treex_core::autograd::custom_vjp;
///
/// /// `exp` and its square root, from one evaluation; and a gradient clipped to at most 2.
/// fn exp_and_root(x: &Tensor) -> treex_core::Result<Vec<Tensor>> {
///     custom_vjp(&[x.clone()], |inputs| {
///         let root = (&inputs[0] * 0.5)?.exp()?;
///         let exp = root.sqr()?;
///         let factors = [exp.clone(), (&root * 0.5)?];
///         let backward = move |cotangents: &[Option<Tensor>]| {
///             let mut gradient = factors[0].zeros_like()?;
///             for (cotangent, factor) in cotangents.iter().zip(&factors) {
///                 if let Some(cotangent) = cotangent {
///                     gradient = (gradient + (cotangent * factor)?)?;
///                 }
///             }
///             Ok(vec![Some(gradient.clamp(-2., 2.)?)])
///         };
///         Ok((vec![exp, root], backward))
///     })
/// }
///
/// let x = Leaf::<Parameter>::new(Tensor::new(3f32, &Device::Cpu)?)?;
/// let (y, dx) = value_and_grad(&x, |x| Ok(exp_and_root(&x.get()?)?.swap_remove(0)))?;
/// assert!((y.to_scalar::<f32>()? - 20.085537).abs() < 1e-4);
/// assert_eq!(dx.get()?.to_scalar::<f32>()?, 2.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// The outputs are copied where an input is tracked. Inside of a function that is differentiated twice, the inputs are in
/// the graph: the gradient is differentiated through the tensors that the function for the backward pass captured.
///
/// # Errors
/// What `forward` reports; in the backward pass, what its function reports, or that it returns gradients of
/// another number or other shapes than the inputs have.
pub fn custom_vjp<B>(
    inputs: &[Tensor],
    forward: impl FnOnce(&[Tensor]) -> Result<(Vec<Tensor>, B)>,
) -> Result<Vec<Tensor>>
where
    B: Fn(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
{
    let inputs_now: Vec<_> = inputs.iter().map(saved).collect();
    let (outputs, backward) = forward(&inputs_now)?;
    if !inputs.iter().any(Tensor::track_op) {
        return Ok(outputs.iter().map(Tensor::detach).collect());
    }
    // `backward` may hold the outputs.
    let outputs = outputs.iter().map(|output| OwnedStorage::take(output.detach().force_contiguous()?));
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let is_differentiable = is_nested();
    let input_storages = inputs.iter().map(storage_id).collect();
    attach_all(
        CustomVjp { backward, is_differentiable, input_storages },
        &inputs.iter().collect::<Vec<_>>(),
        outputs,
    )
}

struct CustomVjp<B> {
    backward: B,
    is_differentiable: bool,
    /// An input may be a parameter, and a gradient must not change when that is written.
    input_storages: Vec<usize>,
}

impl<B> Operation for CustomVjp<B>
where
    B: Fn(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "custom_vjp"
    }

    fn is_differentiable(&self) -> bool {
        self.is_differentiable
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let gradients = accumulate::disarmed(|| (self.backward)(cx.cotangents()))?;
        let is_input = |gradient: &Tensor| self.input_storages.contains(&storage_id(gradient));
        let of_its_own = |gradient: Tensor| {
            if gradient.track_op() || !is_input(&gradient) { Ok(gradient) } else { gradient.copy() }
        };
        Ok(gradients
            .into_iter()
            .map(|gradient| gradient.map(of_its_own).transpose())
            .collect::<candle_core::Result<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use candle_core::{Device, Var};

    use super::*;
    use crate::error::Error;
    use crate::{Leaf, Parameter, Tree as _};

    fn var(values: &[f64]) -> Var {
        Var::new(values, &Device::Cpu).unwrap()
    }

    /// The products of each two neighbours in a ring, and the sum of all.
    fn ring(inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        custom_vjp(inputs, |x| {
            let n = x.len();
            let next = |i: usize| (i + 1) % n;
            let mut outputs = (0..n).map(|i| Ok((&x[i] * &x[next(i)])?)).collect::<Result<Vec<_>>>()?;
            outputs.push(Tensor::stack(x, 0)?.sum(0)?);
            let x = x.to_vec();
            let backward = move |cotangents: &[Option<Tensor>]| {
                let of = |i: usize, factor: &Tensor| match &cotangents[i] {
                    Some(cotangent) => cotangent * factor,
                    None => factor.zeros_like(),
                };
                let ones = x[0].ones_like()?;
                let gradient = |i: usize| {
                    let previous = (i + x.len() - 1) % x.len();
                    let both = (of(i, &x[next_of(i, x.len())])? + of(previous, &x[previous])?)?;
                    Ok(Some((both + of(x.len(), &ones)?)?))
                };
                (0..x.len()).map(gradient).collect()
            };
            Ok((outputs, backward))
        })
    }

    fn next_of(i: usize, n: usize) -> usize {
        (i + 1) % n
    }

    fn reference_ring(x: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut outputs =
            (0..x.len()).map(|i| Ok((&x[i] * &x[next_of(i, x.len())])?)).collect::<Result<Vec<_>>>()?;
        outputs.push(Tensor::stack(x, 0)?.sum(0)?);
        Ok(outputs)
    }

    /// Weighs some of the outputs, and uses one twice.
    fn loss(outputs: &[Tensor], used: &[usize]) -> Tensor {
        let terms = used.iter().map(|&i| (&outputs[i] * (i + 1) as f64).unwrap().sum_all().unwrap());
        let sum = terms.reduce(|a, b| (a + b).unwrap()).unwrap();
        (sum.sqr().unwrap() + outputs[used[0]].sum_all().unwrap()).unwrap()
    }

    #[test]
    fn gradients_are_those_of_the_composition() -> Result<()> {
        let vars: Vec<_> = (0..7).map(|i| var(&[f64::from(i) - 2.5, 0.25 * f64::from(i)])).collect();
        let mut inputs: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        inputs[3] = inputs[3].detach();
        for used in [&[0, 1, 2, 3, 4, 5, 6, 7][..], &[7], &[2, 3], &[6]] {
            let (ours, theirs) = (loss(&ring(&inputs)?, used), loss(&reference_ring(&inputs)?, used));
            assert_eq!(ours.to_scalar::<f64>()?, theirs.to_scalar::<f64>()?);
            // Twice over one graph: a pass leaves nothing behind.
            for _ in 0..2 {
                let (ours, theirs) = (ours.backward()?, theirs.backward()?);
                for (index, var) in vars.iter().enumerate() {
                    let values = |grads: &candle_core::backprop::GradStore| {
                        grads.get(var).map(|grad| grad.to_vec1::<f64>().unwrap()).unwrap_or(vec![0.; 2])
                    };
                    assert_eq!(values(&ours), values(&theirs), "outputs {used:?}, input {index}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_tracked_is_nothing_recorded() -> Result<()> {
        let x = var(&[1., 2.]).as_tensor().detach();
        assert!(ring(&[x.clone(), x]).unwrap().iter().all(|output| !output.track_op()));
        Ok(())
    }

    #[test]
    fn integers_come_out_untracked() -> Result<()> {
        let x = var(&[1., 3., 2.]);
        let outputs = custom_vjp(&[x.as_tensor().clone()], |x| {
            let backward = |cotangents: &[Option<Tensor>]| Ok(vec![cotangents[0].clone()]);
            Ok((vec![x[0].clone(), x[0].argmax(0)?], backward))
        })?;
        assert!(outputs[0].track_op() && !outputs[1].track_op());
        assert_eq!(outputs[1].to_scalar::<u32>()?, 1);
        Ok(())
    }

    #[test]
    fn wrong_gradients_are_errors() {
        let x = var(&[1., 2.]);
        let backward_of = |gradients: Vec<Option<Tensor>>| {
            let outputs = custom_vjp(&[x.as_tensor().clone()], |x| {
                Ok((vec![x[0].clone()], move |_: &[Option<Tensor>]| Ok(gradients.clone())))
            });
            Error::from(outputs.unwrap()[0].backward().unwrap_err()).to_string()
        };
        let error = backward_of(Vec::new());
        assert!(
            error.contains("wrong number of gradients: expected 1, one for each input, found 0"),
            "{error}"
        );
        let error = backward_of(vec![Some(Tensor::new(1f64, &Device::Cpu).unwrap())]);
        assert!(error.contains("wrong shape for input 0: expected [2], found []"), "{error}");
    }

    #[test]
    fn passes_on_two_threads_do_not_meet() -> Result<()> {
        let vars: Vec<_> = (0..4).map(|i| var(&[f64::from(i), 1.])).collect();
        let inputs: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let outputs = ring(&inputs)?;
        let losses: Vec<_> = (0..4).map(|i| loss(&outputs, &[i])).collect();
        let gradient = |loss: &Tensor| {
            let grads = loss.backward().unwrap();
            vars.iter().map(|var| grads.get(var).unwrap().to_vec1::<f64>().unwrap()).collect::<Vec<_>>()
        };
        let alone: Vec<_> = losses.iter().map(gradient).collect();
        thread::scope(|scope| {
            for (loss, alone) in losses.iter().zip(&alone) {
                scope.spawn(move || (0..50).for_each(|_| assert_eq!(gradient(loss), *alone)));
            }
        });
        Ok(())
    }

    /// The gradients of a product are its inputs, and stay when these are written.
    #[test]
    fn a_gradient_is_no_parameter() -> Result<()> {
        let leaf = |value: f64| Leaf::<Parameter>::new(Tensor::new(&[value], &Device::Cpu)?);
        let mut pair = (leaf(2.)?, leaf(3.)?);
        let (_, gradients) = pair.value_and_grad(Parameter, |(a, b)| {
            let product = custom_vjp(&[a.get()?, b.get()?], |x| {
                let x = x.to_vec();
                let y = (&x[0] * &x[1])?;
                Ok((vec![y], move |_: &[Option<Tensor>]| Ok(vec![Some(x[1].clone()), Some(x[0].clone())])))
            })?;
            Ok(product[0].sum_all()?)
        })?;
        for leaf in pair.handles_mut() {
            leaf.write(&Tensor::new(&[7f64], &Device::Cpu)?)?;
        }
        assert_eq!(gradients.0.get()?.to_vec1::<f64>()?, [3.]);
        assert_eq!(gradients.1.get()?.to_vec1::<f64>()?, [2.]);
        Ok(())
    }
}
