//! What a gradient is with respect to, and what is an error instead of a zero.

#![allow(clippy::unwrap_used)] // a test says where it failed

use candle_core::Tensor;
use treex_core::{
    Error, ErrorKind, Leaf, Parameter, Result, grad, prelude::*, remat, scan, scan_blocks, stop_gradient,
    unreached, value_and_grad_aux,
};
use treex_testing::{device, skip};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, device()).unwrap()
}

fn values(leaf: &Leaf<Parameter>) -> Vec<f32> {
    leaf.get().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[derive(Clone, TreeObject)]
struct Linear {
    w: Leaf<Parameter>,
    b: Leaf<Parameter>,
}

impl Linear {
    fn new(scale: f32) -> Self {
        Self { w: Leaf::new(tensor(&[scale, -scale])).unwrap(), b: Leaf::new(tensor(&[0.1])).unwrap() }
    }
}

/// Without a thread that keeps the graph, a gradient of a gradient is an error; that of a constant is not.
#[test]
fn a_nested_gradient_is_exact_or_an_error() {
    let x = Leaf::<Parameter>::new(tensor(&[3.])).unwrap();
    let square = |x: &mut Leaf<Parameter>| Ok(x.get()?.sqr()?.sum_all()?);
    let error = grad(&x, |x| Ok(grad(x, square)?.get()?.sum_all()?)).unwrap_err();
    assert!(error.kind() == ErrorKind::Gradient, "{error}");
    for remedy in ["enable_nested_gradients()?", "CANDLE_GRAD_DO_NOT_DETACH=1", "stop_gradient"] {
        assert!(error.to_string().contains(remedy), "{error}");
    }
    let constant = grad(&x, |x| Ok((x.get()? * grad(&stop_gradient(x), square)?.get()?)?.sum_all()?));
    assert_eq!(values(&constant.unwrap()), [6.]);
}

/// h ← w h + x, the loss h²: with a carried h, the gradient by w is 2 h' h of this step alone, whatever else is
/// differentiated in the process.
#[test]
fn a_carried_state_is_a_constant() {
    let step = |w: &mut Leaf<Parameter>, h: &Tensor| {
        w.value_and_grad_aux(Parameter, |w| {
            let h = ((w.get()? * h)? + 0.5)?;
            Ok((h.sqr()?.sum_all()?, (h.clone(), vec![Some(h)])))
        })
        .unwrap()
    };
    let run = || {
        let mut w = Leaf::<Parameter>::new(tensor(&[0.5])).unwrap();
        let (mut h, mut expected) = (tensor(&[2.]), 2f32);
        // The simulated device takes milliseconds for each step.
        for _ in 0..if device().is_cpu() { 1000 } else { 30 } {
            let ((_, (next, others)), gradient) = step(&mut w, &h);
            let next_expected = 0.5 * expected + 0.5;
            assert_eq!(values(&gradient), [2. * next_expected * expected]);
            assert!(!next.track_op() && !others[0].as_ref().unwrap().track_op());
            (h, expected) = (next, next_expected);
        }
    };
    run();
    // While another scope is open, here and elsewhere.
    let open = Linear::new(1.).tracked(Parameter).unwrap();
    run();
    std::thread::scope(|scope| [scope.spawn(run), scope.spawn(run)].map(|thread| thread.join().unwrap()));
    drop(open);
    // A tree, and what the free function hands out.
    let tree = Linear::new(1.);
    let ((_, (tree, y)), _) = value_and_grad_aux(&tree, |tree| {
        let tree = tree.map(|value| Ok((value * 2.)?))?;
        let y = tree.w.get()?.sum_all()?;
        Ok((y.clone(), (tree, y)))
    })
    .unwrap();
    assert!(!tree.w.get().unwrap().track_op() && !y.track_op());
}

type Loss = fn(&mut Leaf<Parameter>) -> Result<Tensor>;

/// A loss that reaches no selected leaf is an error, whatever cut it.
#[test]
fn a_loss_that_reaches_nothing() {
    let cuts: [Loss; 5] = [
        |w| Ok(w.get()?.detach().sum_all()?),
        |w| {
            w.set(stop_gradient(&(w.get()? * 2.)?))?;
            Ok(w.get()?.sum_all()?)
        },
        |w| Ok(w.leaves()[0].2.value().unwrap().sum_all()?),
        |w| Ok(stop_gradient(w).get()?.sum_all()?),
        |_| Ok(tensor(&[1.]).sum_all()?),
    ];
    let mut w = Leaf::<Parameter>::new(tensor(&[3.])).unwrap();
    for cut in cuts {
        let error = w.value_and_grad(Parameter, cut).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gradient);
        assert!(error.to_string().contains("does not depend on any selected leaf"), "{error}");
        assert_eq!(values(&w), [3.]);
        assert_eq!(unreached(&w, Parameter, cut).unwrap().len(), 1);
    }
    // True zeros are none: a weight of 0, a function with steps.
    let zeros: [Loss; 2] = [|w| Ok((w.get()?.sqr()?.sum_all()? * 0.)?), |w| Ok(w.get()?.sign()?.sum_all()?)];
    for zero in zeros {
        assert_eq!(values(&w.value_and_grad(Parameter, zero).unwrap().1), [0.]);
    }
    let model = Linear::new(1.);
    let paths = unreached(&model, Parameter, |model| Ok(model.w.get()?.sum_all()?)).unwrap();
    assert_eq!(paths.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b"]);
}

/// Graphs of 50,000 operations, of Candle's and of treex's, are walked and dropped in a thread with a small stack.
#[test]
fn deep_graphs() {
    if skip("deep_graphs", "200,000 launches; the graph is Candle's on each device") {
        return;
    }
    let same = |x: &Tensor| -> Result<Tensor> {
        let outputs = treex_core::autograd::custom_vjp(std::slice::from_ref(x), |x| {
            let x = x[0].clone();
            Ok((vec![x.clone()], move |cotangents: &[Option<Tensor>]| Ok(cotangents.to_vec())))
        })?;
        Ok(outputs[0].clone())
    };
    let plus_one = |x: &Tensor| -> Result<Tensor> { Ok((x + 1.)?) };
    type Function = fn(&Tensor) -> Result<Tensor>;
    let operations: [(&str, Function); 2] = [("treex", same), ("candle", plus_one)];
    for (name, operation) in operations {
        let train = || {
            let mut w = Leaf::<Parameter>::new(tensor(&[2.])).unwrap();
            let deep = |w: &mut Leaf<Parameter>| (0..50_000).try_fold(w.get()?, |y, _| operation(&y));
            let ((_, aux), gradient) = w
                .value_and_grad_aux(Parameter, |w| {
                    let aside = deep(w)?;
                    Ok((deep(w)?.sum_all()?, aside))
                })
                .unwrap();
            assert!(!aux.track_op());
            assert_eq!(values(&gradient), [1.], "{name}");
            // What a failed closure left in the tree is dropped too.
            let failed = grad(&w, |w| {
                *w = Leaf::new(deep(w)?)?;
                Err(Error::new(ErrorKind::Argument, "on purpose"))
            });
            assert!(failed.unwrap_err().to_string().contains("on purpose"));
            assert!(
                w.value_and_grad(Parameter, |w| {
                    *w = Leaf::new(deep(w)?)?;
                    Err(Error::new(ErrorKind::Argument, "on purpose"))
                })
                .is_err()
            );
            assert_eq!(values(&w), [2.]);
            assert_eq!(values(&grad(&w, |w| deep(w)?.sum_all().map_err(Error::from)).unwrap()), [1.]);
        };
        std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(2 << 20);
            small.spawn_scoped(scope, train).unwrap().join().unwrap();
        });
    }
}

/// A parameter that is set to a function of others would lose their gradient, also where other leaves are reached.
#[test]
fn a_gradient_is_not_cut_by_a_write() {
    let mut pair =
        (Leaf::<Parameter>::new(tensor(&[3.])).unwrap(), Leaf::<Parameter>::new(tensor(&[2.])).unwrap());
    type Write = fn(&mut Leaf<Parameter>, Tensor) -> Result<()>;
    let writes: [Write; 2] = [|w, value| w.set(value), |w, value| w.write_slice(&value, 0, 0)];
    for write in writes {
        let error = pair
            .value_and_grad(Parameter, |(w, a)| {
                write(w, (w.get()? + a.get()?)?)?;
                Ok((w.get()? * a.get()?)?.sum_all()?)
            })
            .unwrap_err();
        assert!(error.kind() == ErrorKind::Gradient && error.to_string().contains("`0`"), "{error}");
        assert!(error.to_string().contains("Leaf::new(tensor)?"), "{error}");
    }
    // As the error says: w' = w + a, the loss w' a.
    let (_, gradients) = pair
        .value_and_grad(Parameter, |(w, a)| {
            *w = Leaf::new((w.get()? + a.get()?)?)?;
            Ok((w.get()? * a.get()?)?.sum_all()?)
        })
        .unwrap();
    assert_eq!((values(&gradients.0), values(&gradients.1)), (vec![2.], vec![7.]));
}

/// (2 w)² + w at 3, by a flat tree: 8 w + 1.
#[test]
fn a_flat_tree_stays_in_the_graph() {
    let mut w = Leaf::<Parameter>::new(tensor(&[3.])).unwrap();
    let (_, grad) = w
        .value_and_grad(Parameter, |w| {
            let doubled = w.unflatten(&w.flatten().apply(|x| Ok((x * 2.)?))?)?;
            Ok((doubled.get()?.sqr()? + w.get()?)?.sum_all()?)
        })
        .unwrap();
    assert_eq!(values(&grad), [25.]);
}

/// What a loop or a rematerialization captures has its gradient too: Σ x w² over x = 1, 2, 3, plus w, at w = 2.
#[test]
fn a_captured_tensor_has_its_gradient() {
    let xs = tensor(&[1., 2., 3.]);
    let mut w = Leaf::<Parameter>::new(tensor(&[2.])).unwrap();
    let mut check = |name: &str, f: &dyn Fn(&mut Leaf<Parameter>, Tensor) -> Result<Tensor>| {
        let (loss, grad) = w
            .value_and_grad(Parameter, |w| {
                let captured = w.get()?;
                let sum = f(w, captured)?;
                Ok((sum + w.get()?)?.sum_all()?)
            })
            .unwrap();
        assert_eq!((loss.to_scalar::<f32>().unwrap(), values(&grad)), (26., vec![25.]), "{name}");
    };
    check("scan", &|w, captured| {
        let (carry, _) =
            scan(w, &[captured.zeros_like()?], std::slice::from_ref(&xs), move |w, carry, x| {
                let term = (w.get()? * &captured)?.broadcast_mul(&x[0])?;
                Ok((vec![(&carry[0] + term)?], vec![]))
            })?;
        Ok(carry[0].clone())
    });
    check("remat", &|w, captured| {
        let xs = xs.sum_all()?;
        let y = remat(w, &[xs], move |w, xs| Ok(vec![(w.get()? * &captured)?.broadcast_mul(&xs[0])?]))?;
        Ok(y[0].clone())
    });
    check("scan_blocks", &|w, captured| {
        let mut blocks = Leaf::stack(&[w.clone(), w.clone(), w.clone()])?;
        let carry = scan_blocks(&mut blocks, &[captured.zeros_like()?], move |w, carry| {
            Ok(vec![(&carry[0] + ((w.get()? * &captured)? * 2.)?)?])
        })?;
        Ok(carry[0].clone())
    });
}
