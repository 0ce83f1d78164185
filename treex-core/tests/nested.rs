//! Gradients of gradients: exact through nested `grad`, to any order, or an error. The numbers are closed forms.
//!
//! A `main` of its own: the thread that keeps the graph is started before any other.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::slice;

use candle_core::{DType, Tensor};
use libtest_mimic::{Arguments, Trial};
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, custom_vjp};
use treex_core::{
    ErrorKind, Leaf, Parameter, Result, enable_nested_gradients, grad, hessian, hvp, jacobian, jvp, path,
    prelude::*, remat, scan, scan_blocks, stop_gradient, value_and_grad, value_and_grad_aux, vjp,
};
use treex_testing::{device, skip};

type Scalar = Leaf<Parameter>;

fn scalar(x: f64) -> Scalar {
    Leaf::new(Tensor::new(x, device()).unwrap()).unwrap()
}

fn number(x: &Scalar) -> f64 {
    x.get().unwrap().to_scalar().unwrap()
}

fn cube(x: &mut Scalar) -> Result<Tensor> {
    let x = x.get()?;
    Ok(((&x * &x)? * &x)?)
}

/// x³ at 2: 12, 12, 6, 0.
fn orders() {
    let x = scalar(2.);
    let first = |x: &mut Scalar| grad(x, cube)?.get();
    let second = |x: &mut Scalar| grad(x, first)?.get();
    let third = |x: &mut Scalar| grad(x, second)?.get();
    let orders = [grad(&x, cube), grad(&x, first), grad(&x, second), grad(&x, third)];
    assert_eq!(orders.map(|x| number(&x.unwrap())), [12., 12., 6., 0.]);
}

/// (f')² + f with f = x³: the gradient 2 f' f'' + f' is 300 at 2.
fn a_gradient_and_its_loss_in_one_function() {
    let mut x = scalar(2.);
    let (value, gradient) = x
        .value_and_grad(Parameter, |x| {
            let (loss, gradient) = x.value_and_grad(Parameter, cube)?;
            Ok((gradient.get()?.sqr()? + loss)?)
        })
        .unwrap();
    assert_eq!((value.to_scalar::<f64>().unwrap(), number(&gradient)), (152., 300.));
    assert!(!x.get().unwrap().track_op() && !gradient.get().unwrap().track_op());
}

/// An inner variable that is not the outer's, with an outer value in its function: d/da of d/db (a² b³) = 6 a b².
fn a_captured_value() {
    let (a, b) = (scalar(3.), scalar(2.));
    let mixed = grad(&a, |a| {
        let a = a.get()?;
        grad(&b, |b| Ok((a.sqr()? * cube(b)?)?))?.get()
    });
    assert_eq!(number(&mixed.unwrap()), 6. * 3. * 4.);
}

/// Two steps of gradient descent on w³ from w, differentiated by w: (1 - 6 r w)(1 - 6 r w') with w' = w - 3 r w².
fn steps_of_descent() {
    let (w, rate) = (1.5, 0.05);
    let step = |w: &Scalar| {
        let gradient = grad(w, cube)?;
        w.zip_map(&gradient, |w, g| Ok((w - (g * rate)?)?))
    };
    let outer = grad(&scalar(w), |w| step(&step(w)?)?.get()).unwrap();
    let next = w - 3. * rate * w * w;
    let expected = (1. - 6. * rate * w) * (1. - 6. * rate * next);
    assert!((number(&outer) - expected).abs() < 1e-14, "{} {expected}", number(&outer));
}

/// Without dependence on the outer variables an inner gradient is a constant, and of first order.
fn an_independent_inner_gradient() {
    let (a, b) = (scalar(3.), scalar(2.));
    let gradient = grad(&a, |a| {
        let inner = grad(&b, cube)?;
        assert!(!inner.get()?.track_op());
        Ok((a.get()?.sqr()? * inner.get()?)?)
    });
    assert_eq!(number(&gradient.unwrap()), 6. * 12.);
}

struct Square(Tensor);

impl Operation for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(((&self.0 * cx.cotangent()?)? * 2.)?)])
    }
}

/// An operation without a differentiable backward pass.
fn square(x: &Tensor) -> Result<Tensor> {
    attach(Square(x.detach()), &[x], OwnedStorage::take(x.detach().sqr()?)?)
}

/// Before the inner function such an operation is a constant for it; inside, it is an error that names it.
fn operations_of_first_order() {
    let x = scalar(3.);
    // d/dx of y' with y = x² (outside), y'(z) = d/dz (z³ y) at z = 2, so 12 x²: 24 x.
    let outside = grad(&x, |x| {
        let y = square(&x.get()?)?;
        grad(&scalar(2.), |z| Ok((cube(z)? * &y)?))?.get()
    });
    assert_eq!(number(&outside.unwrap()), 72.);
    let inside = grad(&x, |x| grad(x, |x| square(&square(&x.get()?)?))?.get()).unwrap_err().to_string();
    assert!(
        inside.contains("the gradient of `square` is differentiated") && inside.contains("stop_gradient"),
        "{inside}"
    );
    // On another thread the inner function cannot know that it is inside of another: never a zero.
    let elsewhere = grad(&x, |x| {
        std::thread::scope(|scope| scope.spawn(|| grad(x, |x| square(&x.get()?))?.get()).join().unwrap())
    });
    assert!(elsewhere.unwrap_err().to_string().contains("`square`"));
    let composed =
        grad(&x, |x| std::thread::scope(|scope| scope.spawn(|| grad(x, cube)?.get()).join().unwrap()));
    assert_eq!(number(&composed.unwrap()), 18.);
}

fn custom_gradients() {
    // x² with the gradient 3 x, whose gradient is 3.
    let odd = |x: &Tensor| {
        let outputs = custom_vjp(slice::from_ref(x), |x| {
            let x = x[0].clone();
            let y = x.sqr()?;
            Ok((vec![y], move |cotangents: &[Option<Tensor>]| {
                Ok(vec![cotangents[0].as_ref().map(|cotangent| (cotangent * &x)? * 3.).transpose()?])
            }))
        })?;
        Ok(outputs[0].clone())
    };
    let x = scalar(2.);
    assert_eq!(number(&grad(&x, |x| odd(&x.get()?)).unwrap()), 6.);
    assert_eq!(number(&grad(&x, |x| grad(x, |x| odd(&x.get()?))?.get()).unwrap()), 3.);
}

/// y ← w y² over three steps from y = x is w⁷ x⁸; second derivatives by w, through scans and rematerialization.
fn loops() {
    let (w, x) = (1.1, 0.9);
    let expected = 42. * f64::powi(w, 5) * f64::powi(x, 8);
    let start = Tensor::new(x, device()).unwrap();
    let step = |w: &Scalar, y: &Tensor| -> Result<Tensor> { Ok((y.sqr()? * w.get()?)?) };
    let second =
        |f: &dyn Fn(&mut Scalar) -> Result<Tensor>| number(&grad(&scalar(w), |w| grad(w, f)?.get()).unwrap());
    let scanned = second(&|w| {
        let none = Tensor::zeros(3, DType::F64, device())?;
        let (carry, ys) = scan(w, slice::from_ref(&start), &[none], move |w, y, _| {
            let y = step(w, &y[0])?;
            Ok((vec![y.clone()], vec![y]))
        })?;
        assert_eq!(ys[0].dims(), [3]);
        Ok(carry[0].clone())
    });
    let remade = second(&|w| {
        let outputs =
            remat(w, slice::from_ref(&start), move |w, x| Ok(vec![step(w, &step(w, &step(w, &x[0])?)?)?]))?;
        Ok(outputs[0].clone())
    });
    for found in [scanned, remade] {
        assert!((found - expected).abs() < 1e-13, "{found} {expected}");
    }
    // Three blocks with weights of their own: the gradient of the sum of the gradients is the sum of the rows of the
    // Hessian of w0⁴ w1² w2 x⁸, at w0 = w1 = w2 = w.
    let blocks = Leaf::<Parameter>::new(Tensor::new(&[w, w, w], device()).unwrap()).unwrap();
    let rows = grad(&blocks, |blocks| {
        let inner = grad(blocks, |blocks| {
            Ok(scan_blocks(blocks, slice::from_ref(&start), move |w, y| Ok(vec![step(w, &y[0])?]))?
                .swap_remove(0))
        })?;
        Ok(inner.get()?.sum_all()?)
    });
    let rows = rows.unwrap().get().unwrap().to_vec1::<f64>().unwrap();
    let unit = f64::powi(w, 5) * f64::powi(x, 8);
    for (found, factor) in rows.iter().zip([12. + 8. + 4., 8. + 2. + 2., 4. + 2. + 0.]) {
        assert!((found - factor * unit).abs() < 1e-13, "{rows:?}");
    }
}

/// The leaf is tracked by the outer scope again after an inner one, also where a filter selected a part.
fn after_an_inner_scope() {
    let mut pair = (scalar(2.), scalar(5.));
    let (_, gradients) = pair
        .value_and_grad(Parameter, |pair| {
            let ((loss, ()), inner) = value_and_grad_aux(&pair.0.clone(), |a| Ok((cube(a)?, ())))?;
            let product = (pair.0.get()? * pair.1.get()?)?;
            Ok(((inner.get()? * product)? + loss)?)
        })
        .unwrap();
    // 3 a² · a b + a³: 9 a² b + 3 a², 3 a³.
    assert_eq!([number(&gradients.0), number(&gradients.1)], [9. * 4. * 5. + 12., 24.]);
}

/// A scope that is open elsewhere has no part in it.
fn other_threads() {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..6)
            .map(|n| {
                scope.spawn(move || {
                    for _ in 0..20 {
                        let x = scalar(f64::from(n));
                        let second = grad(&x, |x| grad(x, cube)?.get()).unwrap();
                        assert_eq!(number(&second), 6. * f64::from(n));
                        let (_, first) = value_and_grad(&x, |x| square(&x.get()?)).unwrap();
                        assert_eq!(number(&first), 2. * f64::from(n));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// What an inner function returns is a function of the outer leaves, never of the inner variable of a second one over the
/// same leaf; and so is what `hvp`, `vjp` and a cotangent bring along.
fn inner_functions_do_not_meet() {
    let (w, z) = (scalar(2.), scalar(3.));
    // loss = w z; the gradient of w · loss by w alone is loss = w z, and that by z is w.
    let gradient = grad(&z, |z| {
        let (loss, _) = value_and_grad(&w, |w| Ok((w.get()? * z.get()?)?))?;
        let inner = grad(&w, |w| Ok((w.get()? * &loss)?))?;
        assert_eq!(number(&inner), 6.);
        inner.get()
    });
    assert_eq!(number(&gradient.unwrap()), 2.);

    let of = |f: &dyn Fn(&mut Scalar) -> Result<Tensor>| number(&grad(&scalar(3.), f).unwrap());
    assert_eq!(of(&|u| Ok((hvp(u, Parameter, cube, &scalar(1.))?.0 + u.get()?)?)), 28.);
    assert_eq!(of(&|u| Ok((hvp(u, Parameter, cube, &scalar(1.))?.1.get()? + u.get()?)?)), 19.);
    assert_eq!(of(&|u| Ok((vjp(u, Parameter, cube)?.0 + u.get()?)?)), 28.);
    // The pullback of x³ at 2 is 12 u.
    let (_, pullback) = vjp(&scalar(2.), Parameter, cube).unwrap();
    assert_eq!(of(&|u| Ok((pullback.call(&u.get()?)?.get()? * u.get()?)?)), 72.);
    // A Hessian of scalars, and of leaves of two types.
    let constant = hessian(&scalar(2.), Parameter, |x| x.get()).unwrap();
    assert_eq!(matrix(&constant.matrix().unwrap()), [[0.]]);
    let mixed = (scalar(2.), Scalar::new(Tensor::new(3f32, device()).unwrap()).unwrap());
    let (_, _, product) =
        hvp(&mixed, Parameter, |(a, b)| Ok((cube(a)? * b.get()?.to_dtype(DType::F64)?)?), &mixed).unwrap();
    assert_eq!(number(&product.0), 36. * 2. + 12. * 3.);
}

/// A tree that an inner function hands out, or moves leaves of, keeps its place in the outer one.
fn trees_of_an_inner_function() {
    // x³' + (x as aux)²: 3 x² + x², by x: 8 x.
    let aux = grad(&scalar(2.), |x| {
        let ((_, same), gradient) = value_and_grad_aux(x, |x| Ok((cube(x)?, x.clone())))?;
        Ok((gradient.get()? + same.get()?.sqr()?)?)
    });
    assert_eq!(number(&aux.unwrap()), 16.);
    // After the inner function the leaves are swapped, one is a clone of the other, one is frozen.
    let pair = || (scalar(2.), scalar(5.));
    type Change = fn(&mut (Scalar, Scalar)) -> Result<()>;
    let swap: Change = |pair| {
        std::mem::swap(&mut pair.0, &mut pair.1);
        Ok(())
    };
    let alias: Change = |pair| {
        pair.1 = pair.0.clone();
        Ok(())
    };
    let changes: [(Change, [f64; 2]); 3] =
        [(swap, [25., 20.]), (alias, [12., 0.]), (|pair| pair.freeze(path("1")), [20., 4.])];
    for (change, expected) in changes {
        // x₀² x₁ after the change, and nothing of the inner gradient.
        let mut outer = pair();
        let (_, gradient) = outer
            .value_and_grad(Parameter, |pair| {
                pair.value_and_grad(Parameter, |pair| {
                    let loss = (pair.0.get()? * pair.1.get()?)?;
                    change(pair)?;
                    Ok(loss)
                })?;
                Ok((pair.0.get()?.sqr()? * pair.1.get()?)?)
            })
            .unwrap();
        assert_eq!([number(&gradient.0), number(&gradient.1)], expected);
        assert_eq!(outer.1.is_frozen(), expected == [20., 4.]);
    }
}

/// A loss that uses the value of an inner gradient, and not the gradient, reaches nothing; that of a linear function is 0.
fn inner_gradients_that_are_cut() {
    let cut = scalar(2.).value_and_grad(Parameter, |x| {
        let (_, gradient) = x.value_and_grad(Parameter, cube)?;
        Ok(gradient.get()?.detach().sqr()?)
    });
    assert_eq!(cut.unwrap_err().kind(), ErrorKind::Gradient);
    let linear = scalar(2.).value_and_grad(Parameter, |x| {
        let (_, gradient) = x.value_and_grad(Parameter, |x| Ok((x.get()? * 3.)?))?;
        Ok(gradient.get()?.sqr()?)
    });
    assert_eq!(number(&linear.unwrap().1), 0.);
}

/// What is handed out stays as it is when the parameter is written, a view of it too.
fn what_is_handed_out_is_no_parameter() {
    let mut x = Leaf::<Parameter>::new(Tensor::new(&[2f64], device()).unwrap()).unwrap();
    let ((_, (own, view)), gradient) = x
        .value_and_grad_aux(Parameter, |x| {
            let value = x.get()?;
            Ok((value.sqr()?.sum_all()?, (value.clone(), value.reshape((1, 1))?)))
        })
        .unwrap();
    let (value, _) = jvp(&x, Parameter, |x| x.get(), &gradient).unwrap();
    for leaf in x.handles_mut() {
        leaf.write(&Tensor::new(&[7f64], device()).unwrap()).unwrap();
    }
    for handed_out in [own, view, value] {
        assert_eq!(handed_out.flatten_all().unwrap().to_vec1::<f64>().unwrap(), [2.]);
    }
}

/// Candle's own `backward` does not go through an inner scope, so that is an error.
fn trees_tracked_for_candle() {
    let tracked = scalar(2.).tracked(Parameter).unwrap();
    let error = grad(&tracked, cube).unwrap_err().to_string();
    assert!(error.contains("`tracked`") && error.contains("stop_gradient(&tracked)"), "{error}");
    assert_eq!(number(&grad(&stop_gradient(&tracked), cube).unwrap()), 12.);
}

/// What is handed out is not the parameter's own memory, which a later step writes.
fn values_are_not_parameters() {
    let mut x = scalar(2.);
    let (loss, _) = x.value_and_grad(Parameter, |x| x.get()).unwrap();
    let (value, _) = vjp(&x, Parameter, |x| x.get()).unwrap();
    let half = Tensor::new(0.5, device()).unwrap();
    x.leaves_mut()[0].handle().write(&half).unwrap();
    assert_eq!([loss, value].map(|y| y.to_scalar::<f64>().unwrap()), [2., 2.]);
    assert_eq!(number(&x), 0.5);
}

/// In a function of first order, a scan or a rematerialization whose step takes a gradient is an error; what its step computes
/// from its inputs keeps its gradient.
fn gradients_inside_of_loops() {
    let inner = grad(&scalar(2.), |x| {
        let y = remat(x, &[], |x, _| Ok(vec![grad(x, cube)?.get()?]))?;
        Ok((&y[0] + x.get()?)?)
    });
    assert!(inner.unwrap_err().to_string().contains("without `scan` and `remat`"));
    // (x²)² + x at 2.
    let input = grad(&scalar(2.), |x| {
        let y = remat(x, &[x.get()?.sqr()?], |x, inputs| {
            Ok(vec![(Scalar::new(&inputs[0])?.get()?.sqr()? + x.get()?)?])
        })?;
        Ok(y[0].clone())
    });
    assert_eq!(number(&input.unwrap()), 33.);
    // A step that writes the parameter would be recomputed with the one from before.
    let written = grad(&scalar(2.), |x| {
        let zeros = Tensor::zeros(3, DType::F64, device())?;
        let (carry, _) = scan(x, &[Tensor::new(0., device())?], &[zeros], |x, sum, _| {
            let sum = (&sum[0] + x.get()?.sqr()?)?;
            *x = Scalar::new((x.get()? * 0.5)?)?;
            Ok((vec![sum], Vec::new()))
        })?;
        Ok(carry[0].clone())
    });
    assert!(written.unwrap_err().to_string().contains("in the carry"));
}

/// First-order training of clones of one model on several threads.
fn clones_on_threads() {
    let model: Vec<Scalar> = (0..50).map(|x| scalar(f64::from(x))).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                device(); // whose context this thread needs
                for _ in 0..if device().is_cpu() { 200 } else { 5 } {
                    let (loss, gradients) = value_and_grad(&model, |model| {
                        let squares = model.iter().map(|x| square(&x.get()?)).collect::<Result<Vec<_>>>()?;
                        Ok(Tensor::stack(&squares, 0)?.sum_all()?)
                    })
                    .unwrap();
                    assert!(!loss.track_op() && !gradients[3].get().unwrap().track_op());
                    assert_eq!(number(&gradients[3]), 6.);
                }
            });
        }
    });
}

fn matrix(rows: &Tensor) -> Vec<Vec<f64>> {
    rows.to_vec2().unwrap()
}

/// f(a, b) = a₀² b + a₀ a₁ b²: all derivatives in closed form, and one way against another.
fn derivatives_of_trees() {
    let leaf = |x: &[f64]| Scalar::new(Tensor::new(x, device()).unwrap()).unwrap();
    let f = |(a, b): &mut (Scalar, Scalar)| -> Result<Tensor> {
        let (a, b) = (a.get()?, b.get()?);
        let (a0, a1) = (a.get(0)?, a.get(1)?);
        let b = b.get(0)?;
        Ok(((a0.sqr()? * &b)? + ((a0 * a1)? * b.sqr()?)?)?)
    };
    let (tree, v) = ((leaf(&[2., 3.]), leaf(&[5.])), (leaf(&[1., -1.]), leaf(&[0.5])));
    let h = [[10., 25., 34.], [25., 0., 20.], [34., 20., 12.]];
    let hessian = hessian(&tree, Parameter, f).unwrap();
    assert_eq!(matrix(&hessian.matrix().unwrap()), h);
    let rows = hessian.rows_of("1").unwrap();
    assert_eq!(
        (matrix(&rows.0.get().unwrap()), matrix(&rows.1.get().unwrap())),
        (vec![vec![34., 20.]], vec![vec![12.]])
    );
    assert!(hessian.rows_of("2").unwrap_err().to_string().contains("no leaf `2`"));

    let (loss, gradient, product) = hvp(&tree, Parameter, f, &v).unwrap();
    let numbers = |(a, b): &(Scalar, Scalar)| {
        [a.get().unwrap().to_vec1::<f64>().unwrap(), b.get().unwrap().to_vec1::<f64>().unwrap()].concat()
    };
    assert_eq!(loss.to_scalar::<f64>().unwrap(), 170.);
    assert_eq!(numbers(&gradient), [2. * 2. * 5. + 3. * 25., 2. * 25., 4. + 2. * 3. * 2. * 5.]);
    let v_now = [1., -1., 0.5];
    assert_eq!(numbers(&product), h.map(|row| row.iter().zip(v_now).map(|(h, v)| h * v).sum::<f64>()));
    for tensor in [loss, gradient.0.get().unwrap(), product.1.get().unwrap()] {
        assert!(!tensor.track_op());
    }

    // The derivative in a direction, three ways.
    let both =
        |tree: &mut (Scalar, Scalar)| Ok(Tensor::stack(&[f(tree)?, tree.0.get()?.get(0)?.powf(3.)?], 0)?);
    let (value, tangent) = jvp(&tree, Parameter, both, &v).unwrap();
    let (same, pullback) = vjp(&tree, Parameter, both).unwrap();
    let rows = jacobian(&tree, Parameter, both).unwrap();
    assert_eq!(matrix(&rows.0.get().unwrap()), [[95., 50.], [12., 0.]]);
    assert_eq!(matrix(&rows.1.get().unwrap()), [[64.], [0.]]);
    assert_eq!(value.to_vec1::<f64>().unwrap(), same.to_vec1::<f64>().unwrap());
    assert_eq!(tangent.to_vec1::<f64>().unwrap(), [95. - 50. + 32., 12.]);
    for _ in 0..2 {
        let back = pullback.call(&Tensor::new(&[1., 10.], device()).unwrap()).unwrap();
        assert_eq!(numbers(&back), [95. + 120., 50., 64.]);
    }
    assert!(pullback.call(&Tensor::new(&[1f32, 10.], device()).unwrap()).is_err());

    // Under an outer function: d/db of the product of the Hessian with v.
    let outer = grad(&tree.1, |b| {
        let (_, _, product) = hvp_inside(&tree.0, b, f)?;
        Ok(product)
    });
    // H(a₀, ·) v = 2 b v₀ + b² v₁ with v = (1, -1), by b: 2 - 2 b.
    assert_eq!(outer.unwrap().get().unwrap().to_vec1::<f64>().unwrap(), [2. - 10.]);
    // A linear function: zeros, not an error.
    let (_, _, flat) = hvp(&tree, Parameter, |t| Ok(t.0.get()?.sum_all()?), &v).unwrap();
    assert_eq!(numbers(&flat), [0., 0., 0.]);
    let error = hvp(&tree, Parameter, f, &(leaf(&[1.]), leaf(&[0.5]))).unwrap_err().to_string();
    assert!(error.contains("shape [2]"), "{error}");
}

/// The first row of the Hessian of `f` by `a`, times (1, -1), as a function of `b`.
fn hvp_inside(
    a: &Scalar,
    b: &mut Scalar,
    f: impl Fn(&mut (Scalar, Scalar)) -> Result<Tensor>,
) -> Result<(Tensor, Scalar, Tensor)> {
    let v = Scalar::new(Tensor::new(&[1., -1.], device())?)?;
    let (loss, gradient, product) = hvp(a, Parameter, |a| f(&mut (a.clone(), b.clone())), &v)?;
    let first = product.get()?.get(0)?;
    Ok((loss, gradient, first))
}

/// 50,000 operations in a thread of 2 MiB: their graph is dropped with enough stack.
fn deep_products() {
    if skip("deep_products", "200,000 launches; the graph is Candle's on each device") {
        return;
    }
    let run = || {
        let x = Leaf::<Parameter>::new(Tensor::new(&[2f64], device()).unwrap()).unwrap();
        let (.., product) = hvp(
            &x,
            Parameter,
            |x| {
                let mut y = x.get()?.sqr()?;
                for _ in 0..25_000 {
                    y = (y.sin()? * 0.999)?;
                }
                Ok(y.sum_all()?)
            },
            &x,
        )
        .unwrap();
        assert!(product.get().is_ok());
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

fn main() {
    enable_nested_gradients().unwrap();
    let tests: [(&str, fn()); 20] = [
        ("orders", orders),
        ("a_gradient_and_its_loss_in_one_function", a_gradient_and_its_loss_in_one_function),
        ("a_captured_value", a_captured_value),
        ("steps_of_descent", steps_of_descent),
        ("an_independent_inner_gradient", an_independent_inner_gradient),
        ("operations_of_first_order", operations_of_first_order),
        ("custom_gradients", custom_gradients),
        ("loops", loops),
        ("after_an_inner_scope", after_an_inner_scope),
        ("other_threads", other_threads),
        ("derivatives_of_trees", derivatives_of_trees),
        ("inner_functions_do_not_meet", inner_functions_do_not_meet),
        ("gradients_inside_of_loops", gradients_inside_of_loops),
        ("clones_on_threads", clones_on_threads),
        ("trees_of_an_inner_function", trees_of_an_inner_function),
        ("inner_gradients_that_are_cut", inner_gradients_that_are_cut),
        ("what_is_handed_out_is_no_parameter", what_is_handed_out_is_no_parameter),
        ("deep_products", deep_products),
        ("trees_tracked_for_candle", trees_tracked_for_candle),
        ("values_are_not_parameters", values_are_not_parameters),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}
