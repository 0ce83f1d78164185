use candle_core::{Device, Tensor, Var};
use treex_core::autograd::with_reference;
use treex_core::{Key, Leaf, Parameter, Tree, value_and_grad};

use super::*;
use crate::initializers::normal;
use crate::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm};

type Pair<L> = (Leaf<Parameter>, L);

/// `y` in `f64`, and the gradients of the input and of the layer, of the sum of its products with fixed numbers.
fn pass<L: Tree + Clone>(
    pair: &Pair<L>,
    call: impl Fn(&mut L, &Tensor) -> Result<Tensor>,
) -> Result<Vec<Vec<f64>>> {
    let flat = |x: &Tensor| -> Result<Vec<f64>> { numbers(&x.to_dtype(DType::F64)?) };
    // Of a view, not of contiguous memory.
    let run = |(x, layer): &Pair<L>| call(&mut layer.clone(), &x.get()?.transpose(0, 1)?);
    let y = run(pair)?;
    // The same numbers in every type.
    let weights = Key::from(7).normal(y.shape(), DType::BF16)?.to_dtype(y.dtype())?;
    let (_, grads) = value_and_grad(pair, |pair| Ok((run(pair)? * &weights)?.sum_all()?))?;
    let gradients = grads.leaves().into_iter().filter_map(|(.., leaf)| leaf.value()).map(flat);
    [Ok(flat(&y)?)].into_iter().chain(gradients).collect()
}

/// The kernel against the reference composition in `F64`, relative to the largest element. Where a statistic is of few
/// elements, gradients cancel to rounding errors, except in `F64`.
fn compare<L: Tree + Clone>(
    layer: &L,
    dims: &[usize],
    count: usize,
    call: impl Fn(&mut L, &Tensor) -> Result<Tensor> + Copy,
) -> Result<()> {
    let types = [(DType::F64, 1e-10), (DType::F32, 3e-5), (DType::F16, 4e-3), (DType::BF16, 3e-2)];
    for (dtype, tolerance) in types.into_iter().take(if count < 20 { 1 } else { 4 }) {
        let x = (Key::from(1).normal(dims, DType::F32)? + 0.5)?.to_dtype(dtype)?.transpose(0, 1)?;
        for has_one_type in [true, false] {
            let mut layer = layer.clone();
            // Otherwise its gradients are in `F32`, for any type of the input.
            let tolerance = if has_one_type { tolerance } else { tolerance.max(1e-6) };
            if has_one_type {
                layer = layer.into_dtype(dtype)?;
            }
            let mut wide = layer.clone();
            wide = wide.into_dtype(DType::F64)?;
            let found = pass(&(Leaf::<Parameter>::new(&x)?, layer), call)?;
            let wide = (Leaf::<Parameter>::new(x.to_dtype(DType::F64)?)?, wide);
            let expected = with_reference(|| pass(&wide, call))?;
            assert_eq!(found.len(), expected.len());
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let scale = expected.iter().fold(1f64, |scale, x| scale.max(x.abs()));
                assert_eq!(found.len(), expected.len());
                for (a, b) in found.iter().zip(expected) {
                    assert!((a - b).abs() <= tolerance * scale, "{index} {dims:?} {dtype:?}: {a} {b}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn rows_equal_the_reference_composition() -> Result<()> {
    for dims in [[1, 2], [3, 5], [7, 100], [2, 65], [300, 130]] {
        let norm = LayerNorm::new(dims[1]).scale_init(normal(1.)).bias_init(normal(1.));
        for norm in [norm.clone(), norm.use_fast_variance(false).use_bias(false)] {
            compare(&norm.init(0, &Device::Cpu)?, &dims, dims[1], |norm, x| norm.call_with(x, None))?;
        }
        let norm = RMSNorm::new(dims[1]).scale_init(normal(1.));
        for norm in [norm.clone(), norm.use_scale(false)] {
            compare(&norm.init(0, &Device::Cpu)?, &dims, dims[1], |norm, x| norm.call_with(x, None))?;
        }
    }
    let norm = LayerNorm::new((3, 4)).reduction_axes([-2, -1]).feature_axes([-2, -1]);
    let norm = norm.scale_init(normal(1.)).init(0, &Device::Cpu)?;
    compare(&norm, &[5, 2, 3, 4], 12, |norm, x| norm.call_with(x, None))
}

#[test]
fn columns_equal_the_reference_composition() -> Result<()> {
    for dims in [vec![2, 3], vec![70, 6], vec![3, 5, 4, 6], vec![5, 40, 300], vec![2, 3000, 12]] {
        let features = dims[dims.len() - 1];
        let rows = dims[1..dims.len() - 1].iter().product::<usize>();
        let batch = BatchNorm::new(features).scale_init(normal(1.)).bias_init(normal(1.));
        let call = |norm: &mut BatchNorm, x: &Tensor| norm.call_with(x, None);
        for norm in [batch.clone(), batch.use_fast_variance(false).use_scale(false)] {
            let norm = norm.init(0, &Device::Cpu)?;
            compare(&norm, &dims, dims[0] * rows, call)?;
            compare(&norm.into_eval(), &dims, 20, call)?;
        }
        let group = GroupNorm::new(features).num_groups(3).scale_init(normal(1.)).bias_init(normal(1.));
        // Groups of one number have variance 0, which the reference composition rounds.
        if dims.len() > 2 {
            for norm in [group.clone(), group.use_fast_variance(false)] {
                compare(&norm.init(0, &Device::Cpu)?, &dims, rows * features / 3, |norm, x| {
                    norm.call_with(x, None)
                })?;
            }
            let norm = InstanceNorm::new(features).scale_init(normal(1.)).init(0, &Device::Cpu)?;
            compare(&norm, &dims, rows, |norm, x| norm.call_with(x, None))?;
        }
    }
    Ok(())
}

/// The running statistics of a batch norm are those of the reference composition.
#[test]
fn running_statistics() -> Result<()> {
    for use_fast_variance in [true, false] {
        let x = (Key::from(0).normal((9, 700, 5), DType::F32)? + 3.)?;
        let mut fused = BatchNorm::new(5).use_fast_variance(use_fast_variance).init(0, &Device::Cpu)?;
        let mut reference = fused.clone();
        fused.call_with(&x, None)?;
        with_reference(|| reference.call_with(&x, None))?;
        for (a, b) in [(&fused.mean, &reference.mean), (&fused.var, &reference.var)] {
            let difference = (a.get()? - b.get()?)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference < 1e-6, "{difference}");
        }
    }
    Ok(())
}

#[test]
fn gradients_by_finite_differences() -> Result<()> {
    let extents = [[4, 1, 1, 7], [1, 41, 3, 1], [2, 5, 3, 2], [3, 1, 2, 3], [1, 3, 300, 1]];
    for extent in extents.map(|[outer, rows, groups, size]| Extent { outer, rows, groups, size }) {
        let columns = extent.columns();
        let given = |key: u64| -> Result<Tensor> {
            Ok((Key::from(key).normal(extent.outer * extent.groups, DType::F64)?.sqr()? + 0.1)?)
        };
        let (mean, var) = (given(4)?, given(5)?);
        let of_input = [true, false].map(|use_fast_variance| Source::Input { use_fast_variance });
        let others = [Source::Squares, Source::Given { mean: &mean, var: &var }];
        for source in of_input.into_iter().chain(others) {
            if matches!(source, Source::Squares) && !extent.is_rows() {
                continue;
            }
            let shape = (extent.outer * extent.rows, columns);
            let inputs = [
                Key::from(0).normal(shape, DType::F64)?,
                Key::from(1).normal(columns, DType::F64)?,
                Key::from(2).normal(columns, DType::F64)?,
            ];
            let weights = Key::from(3).normal(shape, DType::F64)?;
            let loss = |inputs: &[Tensor; 3]| -> Result<Tensor> {
                let [x, scale, bias] = inputs;
                let normalized = normalize(x, extent, source, 1e-3, [Some(scale), Some(bias)])?;
                Ok((normalized.expect("a kernel").y * &weights)?.sum_all()?)
            };
            let [a, b, c] = inputs.each_ref().map(|input| Var::from_tensor(input).unwrap());
            let vars = [a, b, c];
            let grads = loss(&vars.each_ref().map(|var| var.as_tensor().clone()))?.backward()?;
            for (index, var) in vars.iter().enumerate() {
                let direction = Key::from(6).normal(var.shape(), DType::F64)?;
                let gradient = grads.get(var).expect("a gradient");
                let along = (gradient * &direction)?.sum_all()?.to_scalar::<f64>()?;
                let at = |step: f64| -> Result<f64> {
                    let mut moved = inputs.clone();
                    moved[index] = (&moved[index] + (&direction * step)?)?;
                    Ok(loss(&moved)?.to_scalar()?)
                };
                let slope = (at(1e-5)? - at(-1e-5)?) / 2e-5;
                let error = (slope - along).abs();
                assert!(error < 1e-7 * (1. + along.abs()), "{extent:?} {source:?} {index}: {slope} {along}");
            }
        }
    }
    Ok(())
}

/// Where all elements are equal the variance is clipped at 0, where the derivative is 1/2, as in JAX.
#[test]
fn a_variance_of_zero() -> Result<()> {
    let x = Tensor::ones((40, 6), DType::F64, &Device::Cpu)?;
    let norm = LayerNorm::new(6).scale_init(normal(1.)).init(0, &Device::Cpu)?;
    let pair = (Leaf::<Parameter>::new(&x.t()?)?, norm);
    let call = |norm: &mut LayerNorm, x: &Tensor| norm.call_with(x, None);
    let (found, expected) = (pass(&pair, call)?, with_reference(|| pass(&pair, call))?);
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < 1e-9 * (1. + b.abs()), "{a} {b}");
    }
    Ok(())
}
