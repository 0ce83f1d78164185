//! The operations, each as it is used: a row here is all that the [contract] needs to check one.

use candle_core::{DType, Device, Tensor};
use libtest_mimic::{Arguments, Trial};
use treex_core::autograd::is_reference;
use treex_core::{Key, Leaf, Parameter, Result, enable_nested_gradients, matmul, prelude::*};
use treex_nn::ops::{
    Axis, Extent, Normalization, Source, convolution, linear, local_convolution, normalize, rows_of,
};
use treex_nn::{
    AttentionOptions, ConvLocal, DenseGeneral, Einsum, Embed, PRelu, activations, add, avg_pool,
    dot_product_attention, dropout, einsum, log_softmax, max_pool, min_pool, scatter, scatter_add,
    segment_sum, softmax, sort, take_along_axis, top_k, vdot,
};
use treex_testing::contract::{self, ALL, Case, Draw, WIDE};

/// A test for each operation: its own name, the element types it has kernels for, and a case of it.
macro_rules! operations {
    ($($test:ident: $name:literal, $kernels:expr, $case:expr;)+) => {
        fn main() {
            enable_nested_gradients().expect("no other thread runs yet");
            let mut tests = vec![$(Trial::test(stringify!($test), || {
                contract::check($name, $kernels, $case);
                Ok(())
            })),+];
            for &(name, test) in SUMS {
                tests.push(Trial::test(name, move || {
                    test();
                    Ok(())
                }));
            }
            libtest_mimic::run(&Arguments::from_args(), tests).exit();
        }
    };
}

operations! {
    matrix_products: "matmul", ALL, |draw| {
        let (batch, [m, k, n]) = (draw.batch(), [(); 3].map(|()| draw.size()));
        let shapes = vec![[&batch[..], &[m, k]].concat(), [&batch[..], &[k, n]].concat()];
        Case::new(shapes, |x| matmul(&x[0], &x[1]))
    };
    products_with_a_kernel_and_a_bias: "linear", WIDE, products;
    sums: "add", ALL, added;
    dots: "vdot", ALL, dot;
    einsums: "", &[], summed_products;
    dropped: "dropout", ALL, masked;
    rows_of_tables: "embed", ALL, looked_up;

    taken_along_an_axis: "", &[], |draw| indexed(draw, 1, |x, indices| take_along_axis(&x[0], indices, 1));
    scattered_sums: "", &[], |draw| indexed(draw, 2, |x, indices| scatter_add(&x[0], indices, &x[1], 1));
    scattered: "", &[], |draw| indexed(draw, 2, |x, indices| {
        let n = indices.dim(1)? as u32;
        let reversed = (0..indices.elem_count() as u32).map(|at| n - 1 - at % n);
        scatter(&x[0], &Tensor::from_iter(reversed, indices.device())?.reshape(indices.shape())?, &x[1], 1)
    });
    segments: "", &[], |draw| indexed(draw, 1, |x, indices| {
        let numbers = (0..indices.dim(0)? as u32).map(|at| at * 7 % 3);
        segment_sum(&x[0], &Tensor::from_iter(numbers, indices.device())?, 4)
    });
    sorted: "", &[], |draw| elementwise(draw, |x| Ok(sort(x, false)?.0)).distinct();
    largest: "", &[], |draw| elementwise(draw, |x| Ok(top_k(x, x.dim(x.rank() - 1)?.min(2))?.0)).distinct();

    relu: "relu", ALL, |draw| elementwise(draw, activations::relu).distinct();
    relu6: "relu6", ALL, |draw| elementwise(draw, activations::relu6).distinct();
    leaky_relu: "leaky_relu", ALL, |draw| elementwise(draw, |x| activations::leaky_relu_with(x, 0.1)).distinct();
    elu: "elu", ALL, |draw| elementwise(draw, |x| activations::elu_with(x, 1.3)).distinct();
    gelu: "gelu", ALL, |draw| elementwise(draw, activations::gelu);
    exact_gelu: "with-derivative", ALL, |draw| elementwise(draw, |x| activations::gelu_with(x, false));
    silu: "silu", ALL, |draw| elementwise(draw, activations::silu);
    sigmoid: "sigmoid", ALL, |draw| elementwise(draw, activations::sigmoid);
    tanh: "tanh", ALL, |draw| elementwise(draw, activations::tanh);
    softplus: "softplus", ALL, |draw| elementwise(draw, activations::softplus);
    softmaxes: "softmax", ALL, |draw| over_last_axes(draw, softmax).saves_output();
    log_softmaxes: "log_softmax", ALL, |draw| over_last_axes(draw, log_softmax);

    norms_of_rows: "normalize", ALL, |draw| normalized(draw, true);
    norms_of_columns: "normalize", ALL, |draw| normalized(draw, false);
    convolutions: "convolution", ALL, convolved;
    local_convolutions: "", &[], convolved_locally;
    averages_of_windows: "pooling", WIDE, |draw| {
        let counts_padding = draw.yes();
        pooled(draw, move |x, [size, strides], padding| avg_pool(x, size, strides, padding, counts_padding))
    };
    maxima_of_windows: "pooling", WIDE, |draw| {
        pooled(draw, |x, [size, strides], padding| max_pool(x, size, strides, padding)).distinct()
    };
    minima_of_windows: "pooling", WIDE, |draw| {
        pooled(draw, |x, [size, strides], padding| min_pool(x, size, strides, padding)).distinct()
    };
    attentions: "attention", ALL, attended;
}

/// `f` of a matrix, of values for some places along its second axis if there are two `inputs`, and of their indexes.
fn indexed(
    draw: &mut Draw<'_>,
    inputs: usize,
    f: impl Fn(&[Tensor], &Tensor) -> Result<Tensor> + 'static,
) -> Case {
    let (rows, columns) = (draw.size(), draw.of(&[2, 1, 3, 5, 17]));
    let count = draw.of(&[2, 1, 4]).min(columns);
    let shapes = [vec![rows, columns], vec![rows, count]];
    Case::new(shapes[..inputs].to_vec(), move |x| {
        let indices = (0..(rows * count) as u32).map(|at| (at * 5 + at / 3) % columns as u32);
        f(x, &Tensor::from_iter(indices, x[0].device())?.reshape((rows, count))?)
    })
    .is_broadcast(true)
}

/// Tests of sums of 5,000 ones.
const SUMS: &[(&str, fn())] = &[
    ("many_ones_are_summed", many_ones_are_summed),
    ("layers_sum_many_ones", layers_sum_many_ones),
    ("many_uses_are_summed", many_uses_are_summed),
];

/// Sums of 5,000 ones: those of products, and the gradients of everything that is repeated.
fn many_ones_are_summed() {
    use contract::check_sum;

    let axis = |size| Axis { size, stride: 1, padding: (0, 0), window_dilation: 1, input_dilation: 1 };
    check_sum("matmul", &[&[1, 5000], &[5000, 1]], None, 5000., |x| matmul(&x[0], &x[1]));
    check_sum("matmul", &[&[2, 5000, 1], &[2, 1, 3]], Some(1), 5000., |x| matmul(&x[0], &x[1]));
    check_sum("vdot", &[&[5000], &[5000]], None, 5000., |x| vdot(&x[0], &x[1]));
    let linear = |x: &[Tensor]| linear(&x[0], &x[1], x.get(2), 1);
    check_sum("linear", &[&[2, 5000], &[5000, 3]], None, 5000., linear);
    for at in [1, 2] {
        check_sum("linear", &[&[5000, 1], &[1, 2], &[2]], Some(at), 5000., linear);
    }
    let add = |x: &[Tensor]| add(&x[0], &x[1]);
    check_sum("add", &[&[50, 100, 2], &[2]], Some(1), 5000., add);
    check_sum("add", &[&[2, 5000], &[2, 1]], Some(1), 5000., add);
    check_sum("add", &[&[5000, 2, 1], &[2, 1]], Some(1), 5000., add);
    for (equation, shapes, at) in [
        ("ij,j->ij", [&[5000, 2][..], &[2]], Some(1)),
        ("ij,->ij", [&[5000, 2], &[]], Some(1)),
        ("bij,bjk->bik", [&[2, 1, 5000], &[2, 5000, 3]], None),
        ("bij,bjk->bik", [&[2, 5000, 1], &[2, 1, 3]], Some(1)),
        ("i,i->", [&[5000], &[5000]], None),
        ("ij,k->k", [&[50, 100], &[3]], None),
    ] {
        let wanted = if equation == "ij,->ij" { 10_000. } else { 5000. };
        check_sum(equation, &shapes, at, wanted, |x| einsum(equation, &x[0], &x[1]));
    }
    let window = [axis(1)];
    for at in [1, 2] {
        let f = |x: &[Tensor]| convolution(&x[0], &x[1], x.get(2), &window, 1);
        check_sum("convolution", &[&[50, 100, 1], &[1, 1, 2], &[2]], Some(at), 5000., f);
    }
    let f = |x: &[Tensor]| local_convolution(&x[0], &x[1], &window);
    check_sum("local convolution", &[&[5000, 2, 1], &[2, 1, 3]], Some(1), 5000., f);
    check_sum("local convolution", &[&[2, 1, 5000], &[1, 5000, 3]], None, 5000., f);
    check_sum("embed", &[&[2, 3]], Some(0), 5000., |x| rows_of(&x[0], [0, 1].repeat(5000), &[10_000]));
    check_sum("take_along_axis", &[&[2, 1]], Some(0), 5000., |x| {
        take_along_axis(&x[0], &Tensor::zeros((2, 5000), DType::U32, x[0].device())?, 1)
    });
    check_sum("segment_sum", &[&[5000, 3]], None, 5000., |x| {
        segment_sum(&x[0], &Tensor::zeros(5000, DType::U32, x[0].device())?, 1)
    });
    let extent = Extent { outer: 5000, rows: 1, groups: 1, size: 3 };
    check_sum("normalize", &[&[5000, 1, 1, 3], &[1, 3]], Some(1), 5000., |x| {
        normalize_or_compose(&x[0], extent, Statistics::Fast, [None, Some(&x[1])])
    });
    // A weight of 1/2 for each of two keys, whose values are 1 and -1.
    let shapes: [&[usize]; 3] = [&[5000, 1, 1], &[2, 1, 1], &[1, 1, 1]];
    check_sum("bias of attention", &shapes, Some(2), 2500., |x| {
        let value = Tensor::new(&[1f32, -1.], x[0].device())?.reshape((2, 1, 1))?.to_dtype(x[0].dtype())?;
        let bias = Tensor::cat(&[&x[2], &x[2].detach()], 2)?;
        let options = AttentionOptions::default().bias(&bias);
        dot_product_attention(&x[0], &x[1], &value, &options)
    });
}

/// The gradient of a leaf in 5,000 operations of treex; those of Candle are summed by Candle, in their own type.
fn many_uses_are_summed() {
    let check = |dtype: DType| -> Result<()> {
        let mut w = Leaf::<Parameter>::new(Tensor::ones(1, dtype, &Device::Cpu)?)?;
        let x = Tensor::ones(1, dtype, &Device::Cpu)?;
        let (_, gradient) = w.value_and_grad(Parameter, |w| {
            let uses = (0..5000).map(|_| add(&x, &w.get()?)).collect::<Result<Vec<_>>>()?;
            Ok(Tensor::cat(&uses, 0)?.to_dtype(DType::F64)?.sum_all()?)
        })?;
        let wanted = Tensor::new(&[5000f64], &Device::Cpu)?.to_dtype(dtype)?;
        let bits = |x: &Tensor| x.to_dtype(DType::F64)?.to_vec1::<f64>();
        assert_eq!(bits(&gradient.get()?)?, bits(&wanted)?, "{dtype:?}");
        Ok(())
    };
    for &dtype in ALL {
        check(dtype).unwrap_or_else(|error| panic!("{dtype:?}: {error}"));
    }
}

/// The same for the layers that add or multiply by what they repeat.
fn layers_sum_many_ones() {
    use contract::check_sum;

    check_sum("PRelu", &[&[50, 100], &[]], Some(1), -5000., |x| {
        PRelu { negative_slope: Leaf::new(&x[1])? }.call(&x[0].neg()?)
    });
    check_sum("Einsum", &[&[50, 100, 1], &[1, 2], &[2]], Some(2), 5000., |x| {
        let mut einsum = Einsum::new((1, 2), "abc,cd->abd");
        (einsum.kernel, einsum.bias) = (Leaf::new(&x[1])?, Some(Leaf::new(&x[2])?));
        einsum.call(&x[0])
    });
    check_sum("DenseGeneral", &[&[2, 5000, 1], &[2, 1, 3], &[2, 3]], Some(2), 5000., |x| {
        let mut dense = DenseGeneral::new((2, 1), 3).batch_dims([0]);
        (dense.kernel, dense.bias) = (Leaf::new(&x[1])?, Some(Leaf::new(&x[2])?));
        dense.call(&x[0])
    });
    check_sum("ConvLocal", &[&[5000, 2, 1], &[2, 1, 3], &[2, 3]], Some(2), 5000., |x| {
        let mut conv = ConvLocal::new([2, 1], 3, [1]);
        (conv.kernel, conv.bias) = (Leaf::new(&x[1])?, Some(Leaf::new(&x[2])?));
        conv.call(&x[0])
    });
    check_sum("Embed", &[&[1, 5000], &[3, 5000]], None, 5000., |x| {
        let mut embed = Embed::new(3, 5000);
        embed.embedding = Leaf::new(&x[1])?;
        embed.attend(&x[0])
    });
}

fn elementwise(draw: &mut Draw<'_>, f: impl Fn(&Tensor) -> Result<Tensor> + 'static) -> Case {
    let shape = [draw.rows(), vec![draw.size()]].concat();
    Case::new(vec![shape], move |x| f(&x[0]))
}

fn over_last_axes(draw: &mut Draw<'_>, f: fn(&Tensor, Vec<usize>) -> Result<Tensor>) -> Case {
    let shape = [draw.rows(), vec![draw.size()]].concat();
    let first = shape.len() - draw.of(&[1, 2]).min(shape.len());
    let axes: Vec<usize> = (first..shape.len()).collect();
    Case::new(vec![shape], move |x| f(&x[0], axes.clone())).options(first)
}

fn products(draw: &mut Draw<'_>) -> Case {
    let mut several = || (0..draw.of(&[1, 2])).map(|_| draw.size().min(33)).collect::<Vec<_>>();
    let (inputs, outputs) = (several(), several());
    let axes = inputs.len();
    let mut shapes = vec![[draw.batch(), inputs.clone()].concat(), [inputs, outputs.clone()].concat()];
    shapes.extend(draw.yes().then_some(outputs));
    Case::new(shapes, move |x| linear(&x[0], &x[1], x.get(2), axes)).options(axes)
}

fn added(draw: &mut Draw<'_>) -> Case {
    let x = [draw.rows(), vec![draw.size()]].concat();
    let mut y = x[draw.of(&[0, 1]).min(x.len())..].to_vec();
    let has_kernel = draw.of(&[true, true, false]) || y.is_empty();
    if !has_kernel {
        y[0] = 1;
    }
    let has_kernel = x.ends_with(&y);
    Case::new(vec![x, y], |x| add(&x[0], &x[1])).has_kernel(has_kernel).is_broadcast(!has_kernel)
}

fn dot(draw: &mut Draw<'_>) -> Case {
    let shape = [draw.rows(), vec![draw.size()]].concat();
    Case::new(vec![shape.clone(), shape], |x| vdot(&x[0], &x[1]))
}

fn summed_products(draw: &mut Draw<'_>) -> Case {
    let [b, i, j, k] = [(); 4].map(|()| draw.size().min(17));
    let (equation, shapes) = draw.of(&[
        ("ij,jk->ik", [[i, j, 0], [j, k, 0]]),
        ("bij,bjk->bik", [[b, i, j], [b, j, k]]),
        ("ij,kj->ki", [[i, j, 0], [k, j, 0]]),
        ("bij,bij->b", [[b, i, j], [b, i, j]]),
        ("bij,jk->kib", [[b, i, j], [j, k, 0]]),
        ("bii,bi->b", [[b, i, i], [b, i, 0]]),
    ]);
    let ranks = equation.split("->").next().unwrap_or_default().split(',').map(str::len);
    let shapes = shapes.iter().zip(ranks).map(|(shape, rank)| shape[..rank].to_vec()).collect();
    Case::new(shapes, move |x| einsum(equation, &x[0], &x[1])).options(equation)
}

fn masked(draw: &mut Draw<'_>) -> Case {
    let shape = [draw.rows(), vec![draw.size()]].concat();
    let broadcast_dims: &[isize] = if draw.of(&[false, false, true]) { &[0] } else { &[] };
    let (key, rate) = (draw.key(), draw.of(&[0.1, 0.5, 0.9]));
    let has_kernel = broadcast_dims.is_empty() || shape[0] == 1;
    let f = move |x: &[Tensor]| dropout(&x[0], rate, key, broadcast_dims);
    Case::new(vec![shape], f).options(rate).has_kernel(has_kernel)
}

fn looked_up(draw: &mut Draw<'_>) -> Case {
    let (n, features) = (draw.size().max(1), draw.size());
    let shape = draw.batch();
    let rows: Vec<u32> =
        (0..shape.iter().product::<usize>()).map(|at| (at * at * 7 % 11 * 31 % n) as u32).collect();
    let options = (rows.clone(), shape.clone());
    Case::new(vec![vec![n, features]], move |x| rows_of(&x[0], rows.clone(), &shape)).options(options)
}

/// Which statistics normalize, of the input or given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistics {
    Fast,
    Exact,
    Squares,
    Given,
}

/// Large, so that the normalization of nearly equal elements is not steep.
const EPSILON: f64 = 0.1;

fn normalized(draw: &mut Draw<'_>, is_rows: bool) -> Case {
    use Statistics::{Exact, Fast, Given, Squares};
    let sizes = [(); 4].map(|()| draw.of(&[2, 1, 3, 5, 17, 33, 0]));
    let [outer, rows, groups, size] = if is_rows { [sizes[0], 1, 1, draw.size()] } else { sizes };
    let extent = Extent { outer, rows, groups, size };
    let from = if is_rows { draw.of(&[Fast, Exact, Squares]) } else { draw.of(&[Fast, Exact, Given]) };
    let [has_scale, has_bias] = [draw.yes(), draw.yes()];
    let x = vec![outer, rows, groups, size];
    let parameters = [has_scale, has_bias].into_iter().filter(|&has| has).map(|_| vec![groups, size]);
    let f = move |x: &[Tensor]| {
        let scale = has_scale.then(|| &x[1]);
        let bias = has_bias.then(|| &x[x.len() - 1]);
        normalize_or_compose(&x[0], extent, from, [scale, bias])
    };
    Case::new([x].into_iter().chain(parameters).collect(), f).options((from, has_scale, has_bias))
}

fn normalize_or_compose(
    x: &Tensor,
    extent: Extent,
    from: Statistics,
    parameters: [Option<&Tensor>; 2],
) -> Result<Tensor> {
    let given = |key: u64| -> Result<Tensor> {
        Ok(Key::from(key).normal(extent.outer * extent.groups, DType::F64)?.to_device(x.device())?)
    };
    let (mean, var) = (given(4)?, given(5)?.sqr()?);
    let source = match from {
        Statistics::Fast => Source::Input { use_fast_variance: true },
        Statistics::Exact => Source::Input { use_fast_variance: false },
        Statistics::Squares => Source::Squares,
        Statistics::Given => Source::Given { mean: &mean, var: &var },
    };
    if !is_reference()
        && let Some(normalized) = normalize(x, extent, source, EPSILON, parameters)?
    {
        return Ok(normalized.y);
    }
    let mut norm = Normalization::new("a norm", EPSILON);
    norm.use_fast_variance = from != Statistics::Exact;
    let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let given = |x: &Tensor| {
        Ok::<_, treex_core::Error>(x.reshape((extent.outer, 1, extent.groups, 1))?.to_dtype(wide)?)
    };
    let (mean, var) = match from {
        Statistics::Given => (Some(given(&mean)?), given(&var)?),
        Statistics::Squares => (None, norm.mean_square(x, &[1, 3], None, None)?),
        _ => {
            let (mean, var) = norm.mean_and_variance(x, &[1, 3], None, None)?;
            (Some(mean), var)
        }
    };
    let of_rank = |x: &Tensor| Ok::<_, treex_core::Error>(x.reshape((1, 1, extent.groups, extent.size))?);
    let [scale, bias] = parameters.map(|part| part.map(of_rank).transpose());
    norm.normalize(x, (mean.as_ref(), &var), &[scale?, bias?], Some(x.dtype()))
}

fn window(draw: &mut Draw<'_>) -> Axis {
    Axis {
        size: draw.of(&[2, 1, 3, 4]),
        stride: draw.of(&[1, 2, 3, 5]),
        padding: (draw.of(&[0, 1, 3]), draw.of(&[0, 1, 2])),
        window_dilation: draw.of(&[1, 1, 2, 3]),
        input_dilation: draw.of(&[1, 1, 2, 3]),
    }
}

/// Windows along one to three axes, and the sizes of the input.
fn windows(draw: &mut Draw<'_>) -> (Vec<Axis>, Vec<usize>) {
    let axes: Vec<_> = (0..draw.of(&[1, 2, 3])).map(|_| window(draw)).collect();
    let spatial = axes.iter().map(|_| draw.of(&[3, 1, 2, 5, 8, 0])).collect();
    (axes, spatial)
}

fn convolved(draw: &mut Draw<'_>) -> Case {
    let (axes, spatial) = windows(draw);
    let [cin, cout, groups] = draw.of(&[
        [1, 1, 1],
        [3, 2, 1],
        [1, 9, 1],
        [3, 70, 1],
        [6, 4, 2],
        [19, 19, 19],
        [16, 16, 16],
        [4, 8, 4],
    ]);
    let x = [draw.batch(), spatial, vec![cin]].concat();
    let kernel = axes.iter().map(|axis| axis.size).chain([cin / groups, cout]).collect();
    let mut shapes = vec![x, kernel];
    shapes.extend(draw.yes().then_some(vec![cout]));
    let options = (axes.clone(), groups);
    Case::new(shapes, move |x| convolution(&x[0], &x[1], x.get(2), &axes, groups)).options(options)
}

fn convolved_locally(draw: &mut Draw<'_>) -> Case {
    let (axes, spatial) = windows(draw);
    let (cin, cout) = (draw.of(&[2, 1, 3]), draw.of(&[1, 2, 5]));
    let positions = axes.iter().zip(&spatial).map(|(axis, &n)| axis.positions(n));
    let taps = axes.iter().map(|axis| axis.size).product::<usize>();
    let kernel = positions.chain([cin * taps, cout]).collect();
    let x = [vec![draw.of(&[1, 2, 3])], spatial, vec![cin]].concat();
    let options = axes.clone();
    Case::new(vec![x, kernel], move |x| local_convolution(&x[0], &x[1], &axes)).options(options)
}

fn pooled(
    draw: &mut Draw<'_>,
    pool: impl Fn(&Tensor, [Vec<usize>; 2], Vec<(isize, isize)>) -> Result<Tensor> + 'static,
) -> Case {
    let (axes, spatial) = windows(draw);
    let of = |(axis, n): (Axis, usize)| {
        // A maximum of padding alone is not finite: every window covers an element.
        let most = if n == 0 { 0 } else { axis.size - 1 };
        let padding = (axis.padding.0.min(most) as isize, axis.padding.1.min(most) as isize);
        ((axis.size, axis.stride), padding)
    };
    let (windows, padding): (Vec<_>, Vec<_>) = axes.into_iter().zip(spatial.iter().copied()).map(of).unzip();
    let (size, strides): (Vec<usize>, Vec<usize>) = windows.into_iter().unzip();
    let x = [draw.batch(), spatial, vec![draw.of(&[1, 3, 17])]].concat();
    let options = (size.clone(), strides.clone(), padding.clone());
    let f = move |x: &[Tensor]| pool(&x[0], [size.clone(), strides.clone()], padding.clone());
    Case::new(vec![x], f).options(options)
}

fn attended(draw: &mut Draw<'_>) -> Case {
    let batch = draw.batch();
    let [queries, keys] = [(); 2].map(|()| draw.of(&[3, 1, 7, 33, 70, 0]));
    let [heads, kv_heads] = draw.of(&[[1, 1], [2, 2], [4, 2], [3, 1]]);
    let [depth, value_depth] = [(); 2].map(|()| draw.of(&[2, 1, 3, 16, 33, 0]));
    let shape = |sizes: [usize; 3]| [&batch[..], &sizes].concat();
    let shapes = vec![
        shape([queries, heads, depth]),
        shape([keys, kv_heads, depth]),
        shape([keys, kv_heads, value_depth]),
    ];

    let key = draw.key();
    let scores = [&batch[..], &[heads, queries, keys]].concat();
    let spread = [vec![keys], vec![heads, 1, keys], scores];
    let bias = draw.of(&[None, Some(0), Some(1), Some(2)]).map(|at: usize| spread[at].clone());
    let mask = draw.of(&[None, Some(0), Some(1), Some(2)]).map(|at: usize| spread[at].clone());
    let (causal, rate, broadcast_dropout) = (draw.yes(), draw.of(&[None, Some(0.3)]), draw.yes());
    let options =
        format!("bias {bias:?}, mask {mask:?}, causal {causal}, dropout {rate:?} {broadcast_dropout}");
    let f = move |x: &[Tensor]| {
        let on = |numbers: Tensor| -> Result<Tensor> { Ok(numbers.to_device(x[0].device())?) };
        let mut options = AttentionOptions::default().causal(causal).broadcast_dropout(broadcast_dropout);
        options.bias = bias
            .as_ref()
            .map(|dims| on(key.normal(dims.as_slice(), DType::BF16)?.to_dtype(x[0].dtype())?))
            .transpose()?;
        options.mask = mask.as_ref().map(|dims| on(key.bernoulli(0.7, dims.as_slice())?)).transpose()?;
        options.dropout = rate.map(|rate| (rate, key));
        dot_product_attention(&x[0], &x[1], &x[2], &options)
    };
    Case::new(shapes, f).options(options).saves_output()
}
