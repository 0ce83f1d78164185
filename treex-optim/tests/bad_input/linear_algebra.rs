//! Linear algebra.

use candle_core::Tensor;
use treex_core::{Leaf, Parameter, Result, prelude::*};
use treex_optim::linear_algebra::*;
use treex_optim::tree::Order;
use treex_testing::bad_input::{DIMS, NUMBERS, Row, huge};

/// Numbers of iterations.
const ITERATIONS: [usize; 3] = [0, 1, 20];

fn options(number: f64, iterations: usize) -> [PowerIteration; 1] {
    [PowerIteration::default().num_iters(iterations).error_tolerance(number)]
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::new("linear_algebra::hungarian_algorithm hungarian_algorithm", |cases| {
            cases.tensors("costs", |x| Ok(hungarian_algorithm(x)?.0));
            for (name, x) in huge() {
                cases.call(&name, || hungarian_algorithm(&x));
            }
        }),
        Row::new(
            "linear_algebra::matrix_inverse_pth_root InversePthRoot::num_iters InversePthRoot::ridge_epsilon \
             InversePthRoot::error_tolerance matrix_inverse_pth_root matrix_inverse_pth_root_with",
            |cases| {
                for p in [0, 1, 4, 7, u32::MAX] {
                    cases.tensors(&format!("p = {p}"), |x| Ok(matrix_inverse_pth_root(x, p)?.0));
                }
                for (name, x) in huge() {
                    cases.call(&name, || matrix_inverse_pth_root(&x, 2));
                }
                for number in NUMBERS {
                    for options in [
                        InversePthRoot::default().ridge_epsilon(number),
                        InversePthRoot::default().error_tolerance(number),
                        InversePthRoot::default().num_iters(0).error_tolerance(number),
                    ] {
                        cases.tensors(&format!("{options:?}"), |x| {
                            Ok(matrix_inverse_pth_root_with(x, 2, options)?.0)
                        });
                    }
                }
            },
        ),
        Row::new("linear_algebra::nnls nnls nnls_with", |cases| {
            for iterations in ITERATIONS {
                cases.pairs(&format!("{iterations} iterations"), |a, b| nnls(a, b, iterations));
            }
            for number in NUMBERS {
                cases.pairs(&format!("bound {number}"), |a, b| nnls_with(a, b, 2, Some(number)));
            }
            for (name, x) in huge() {
                cases.call(&name, || nnls(&x, &x, 2));
            }
        }),
        Row::new(
            "linear_algebra::power_iteration PowerIteration::num_iters PowerIteration::error_tolerance power_iteration \
             power_iteration_with",
            |cases| {
                cases.tensors("matrix", |x| Ok(power_iteration(x)?.1));
                for (name, x) in huge() {
                    cases.call(&name, || power_iteration(&x));
                }
                for number in NUMBERS {
                    for options in ITERATIONS.into_iter().flat_map(|iterations| options(number, iterations)) {
                        cases.tensors(&format!("{options:?}"), |x| {
                            let v0 = Leaf::<Parameter>::new(x)?;
                            power_iteration_with(|v| v.map(|v| Ok((v * number)?)), &v0, options)?.1.get()
                        });
                    }
                }
            },
        ),
        Row::new("linear_algebra::safe_norm safe_norm safe_norm_with safe_root_mean_squares", |cases| {
            for number in NUMBERS {
                cases.tensors(&format!("norm, at least {number}"), |x| safe_norm(x, number));
                cases.tensors(&format!("root, at least {number}"), |x| safe_root_mean_squares(x, number));
                for order in [Order::L1, Order::L2, Order::Inf] {
                    for dims in DIMS {
                        for keeps in [false, true] {
                            cases.tensors(&format!("{order:?} over {dims:?}, {number}, {keeps}"), |x| {
                                safe_norm_with(x, number, order, dims, keeps)
                            });
                        }
                    }
                }
            }
        }),
        Row::new("linear_algebra::scale_gradient scale_gradient", |cases| {
            for number in NUMBERS {
                cases.tensors(&format!("{number}"), |x| {
                    let scaled = |x: &Tensor| -> Result<Tensor> { scale_gradient(x, number) };
                    if x.dtype().is_float() {
                        let mut leaf = Leaf::<Parameter>::new(x)?;
                        leaf.value_and_grad(Parameter, |leaf| Ok(scaled(&leaf.get()?)?.sum_all()?))?;
                    }
                    scaled(x)
                });
            }
        }),
    ]
}
