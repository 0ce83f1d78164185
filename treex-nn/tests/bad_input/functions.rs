//! Functions of tensors.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use treex_core::{Key, Leaf, Parameter, Result, prelude::*};
use treex_nn::initializers::{self, Distribution, FanMode};
use treex_nn::regularizers::{l1, l1_l2, l2};
use treex_nn::*;
use treex_testing::bad_input::{AXES, Cases, DIMS, NUMBERS, Row, SIZES, huge, some, tensors};

/// An initializer.
type Init = Box<dyn Fn(&Key, &Shape, DType) -> Result<Tensor>>;

type Map = fn(&Tensor) -> Result<Tensor>;
type OverAxes = fn(&Tensor, Vec<usize>) -> Result<Tensor>;

/// Functions of one tensor.
fn maps(names: &'static str, functions: &'static [Map]) -> Row {
    Row::new(names, |cases| {
        for (function, number) in functions.iter().zip(0..) {
            cases.tensors(&format!("function {number}"), function);
            for (name, x) in huge() {
                cases.call(&format!("function {number} of {name}"), || function(&x));
            }
        }
    })
}

/// A function of a tensor and a number.
fn with_number(names: &'static str, f: fn(&Tensor, f64) -> Result<Tensor>) -> Row {
    Row::new(names, move |cases| {
        for number in NUMBERS {
            cases.tensors(&format!("{number}"), |x| f(x, number));
        }
    })
}

/// Functions over dimensions.
fn over(names: &'static str, functions: &'static [OverAxes]) -> Row {
    Row::new(names, |cases| {
        for (function, number) in functions.iter().zip(0..) {
            for dims in DIMS {
                cases.tensors(&format!("function {number} over {dims:?}"), |x| function(x, dims.to_vec()));
            }
        }
    })
}

/// A function over dimensions, with another tensor.
fn over_with(names: &'static str, f: fn(&Tensor, Vec<usize>, &Tensor) -> Result<Tensor>) -> Row {
    Row::new(names, move |cases| {
        for dims in DIMS {
            cases.pairs(&format!("over {dims:?}"), |x, y| f(x, dims.to_vec(), y));
        }
    })
}

/// A function of three tensors.
fn triples(cases: &mut Cases, label: &str, f: impl Fn([&Tensor; 3]) -> Result<Tensor>) {
    for (a, x) in some() {
        for (b, y) in some() {
            for (c, z) in some() {
                cases.call(&format!("{label} of {a}, {b} and {c}"), || f([&x, &y, &z]));
            }
        }
    }
}

/// Initial values of every shape and type.
fn init(names: &'static str, make: impl Fn(&mut dyn FnMut(String, Init)) + Send + 'static) -> Row {
    Row::new(names, move |cases| {
        make(&mut |label, init| {
            let mut shapes: Vec<Vec<usize>> = tensors().iter().map(|(_, x)| x.dims().to_vec()).collect();
            shapes.extend(SIZES.iter().flat_map(|&a| SIZES.iter().map(move |&b| vec![a, b])));
            shapes.extend([vec![3, 3, 1 << 40, 2], vec![2; 70]]);
            for shape in shapes {
                for dtype in [DType::F32, DType::BF16, DType::F64, DType::I64, DType::U8] {
                    let call = || init(&Key::from(0), &shape.clone().into(), dtype);
                    cases.call(&format!("{label} of {shape:?} in {dtype:?}"), call);
                }
            }
        });
    })
}

/// Windows, strides and paddings of no image.
fn windows(cases: &mut Cases, f: impl Fn(&Tensor, Vec<usize>, Sizes, Padding) -> Result<Tensor>) {
    let windows: [&[usize]; 6] = [&[], &[2], &[2, 2], &[0, 1], &[usize::MAX, 1], &[1 << 31, 2]];
    let strides = [Sizes::All(1), Sizes::All(0), Sizes::All(usize::MAX), Sizes::Each(vec![1, 1 << 31])];
    let paddings = [
        Padding::Same,
        Padding::Valid,
        Padding::Circular,
        Padding::Reflect,
        Padding::Causal,
        Padding::Each(-3),
        Padding::Each(isize::MIN),
        Padding::Each(1 << 31),
        Padding::Explicit(vec![(-1, 2), (3, -2)]),
    ];
    for window in windows {
        for strides in &strides {
            for padding in &paddings {
                cases.tensors(&format!("{window:?}, {strides:?}, {padding:?}"), |x| {
                    f(x, window.to_vec(), strides.clone(), padding.clone())
                });
            }
        }
    }
}

#[derive(Clone, Debug, TreeObject)]
struct Weights {
    w: Leaf<Parameter>,
}

pub(crate) fn rows() -> Vec<Row> {
    [activations(), of_tensors(), of_images(), of_attention(), initial()].into_iter().flatten().collect()
}

fn activations() -> Vec<Row> {
    const ELEMENTWISE: &[Map] = &[identity, soft_sign, sparse_plus, sparse_sigmoid, squareplus];
    vec![
        maps(
            "functional::activations::algebraic identity soft_sign sparse_plus sparse_sigmoid squareplus",
            ELEMENTWISE,
        ),
        with_number("functional::activations::algebraic squareplus_with", squareplus_with),
        with_number("functional::activations::elu elu_with", elu_with),
        with_number("functional::activations::elu celu_with", celu_with),
        maps("functional::activations::elu selu elu celu", &[selu, elu, celu]),
        maps(
            "functional::activations::gelu gelu gelu_with",
            &[gelu, |x| gelu_with(x, true), |x| gelu_with(x, false)],
        ),
        Row::new("functional::activations::glu glu", |cases| {
            for dim in [0, 1, 7, usize::MAX] {
                cases.tensors(&format!("dimension {dim}"), |x| glu(x, dim));
            }
            for dim in [D::Minus1, D::Minus(0), D::Minus(usize::MAX)] {
                cases.tensors(&format!("{dim:?}"), |x| glu(x, dim));
            }
        }),
        over("functional::activations::logsumexp logsumexp logmeanexp", &[logsumexp, logmeanexp]),
        over_with("functional::activations::logsumexp logmeanexp_where", |x, dims, mask| {
            logmeanexp_where(x, dims, mask)
        }),
        over_with("functional::activations::logsumexp logsumexp_with", |x, dims, y| {
            Ok(logsumexp_with(x, dims, Some(y), Some(y))?.0)
        }),
        Row::new("functional::activations::one_hot one_hot", |cases| {
            for classes in SIZES {
                for axis in AXES {
                    cases.tensors(&format!("{classes} classes, axis {axis}"), |x| one_hot(x, classes, axis));
                }
            }
        }),
        maps(
            "functional::activations::relu relu relu6 hard_tanh hard_sigmoid hard_silu leaky_relu",
            &[relu, relu6, hard_tanh, hard_sigmoid, hard_silu],
        ),
        with_number("functional::activations::relu leaky_relu_with", leaky_relu_with),
        maps(
            "functional::activations::sigmoid sigmoid log_sigmoid silu softplus log1mexp mish tanh",
            &[sigmoid, log_sigmoid, silu, softplus, log1mexp, mish, tanh],
        ),
        over("functional::activations::softmax softmax log_softmax", &[softmax, log_softmax]),
        over_with("functional::activations::softmax softmax_where", |x, dims, mask| {
            softmax_where(x, dims, mask)
        }),
        over_with("functional::activations::softmax log_softmax_where", |x, dims, mask| {
            log_softmax_where(x, dims, mask)
        }),
        Row::new("functional::activations::standardize standardize", |cases| {
            for dims in DIMS {
                for epsilon in NUMBERS {
                    let label = format!("over {dims:?}, {epsilon}");
                    cases.tensors(&label, |x| standardize(x, dims.to_vec(), epsilon));
                }
            }
        }),
        over_with("functional::activations::standardize standardize_with", |x, dims, y| {
            let given = StandardizeOptions::default().mean(y).variance(y);
            standardize_with(x, dims.clone(), &given)?;
            standardize_with(x, dims, &StandardizeOptions::default().stable(false).epsilon(f64::NAN))
        }),
        over_with(
            "functional::activations::standardize::StandardizeOptions mean variance epsilon mask stable",
            |x, dims, y| {
                standardize_with(
                    x,
                    dims,
                    &StandardizeOptions::default().mask(y).mean(y).epsilon(-1.).stable(true),
                )
            },
        ),
    ]
}

fn of_tensors() -> Vec<Row> {
    vec![
        Row::new("functional::dropout dropout", |cases| {
            for rate in NUMBERS.into_iter().chain([0.5]) {
                for axis in AXES {
                    cases.tensors(&format!("{rate}, {axis}"), |x| dropout(x, rate, Key::from(0), &[axis]));
                }
            }
        }),
        Row::new("functional::indexing take_along_axis", |cases| {
            for axis in AXES {
                cases.pairs(&format!("axis {axis}"), |x, indices| take_along_axis(x, indices, axis));
            }
        }),
        Row::new("functional::indexing scatter_add scatter", |cases| {
            for axis in AXES {
                triples(cases, &format!("sums, axis {axis}"), |[x, i, values]| {
                    scatter_add(x, i, values, axis)
                });
                triples(cases, &format!("axis {axis}"), |[x, i, values]| scatter(x, i, values, axis));
            }
        }),
        Row::new("functional::indexing segment_sum", |cases| {
            for segments in SIZES {
                cases.pairs(&format!("{segments}"), |x, numbers| segment_sum(x, numbers, segments));
            }
        }),
        Row::new("functional::indexing sort top_k", |cases| {
            cases.tensors("ascending", |x| Ok(sort(x, true)?.0));
            cases.tensors("descending", |x| Ok(sort(x, false)?.0));
            for k in SIZES.into_iter().chain([1]) {
                cases.tensors(&format!("{k}"), |x| Ok(top_k(x, k)?.0));
            }
        }),
        Row::new("functional::regularizers l1 l2 l1_l2", |cases| {
            for number in NUMBERS {
                let leaf = |x: &Tensor| Leaf::<Parameter>::new(x);
                cases.tensors(&format!("l1 {number}"), |x| l1(&leaf(x)?, number));
                cases.tensors(&format!("l2 {number}"), |x| l2(&leaf(x)?, number));
                cases.pairs(&format!("both {number}"), |x, y| l1_l2(&(leaf(x)?, leaf(y)?), number, number));
            }
        }),
        // Sums of integers overflow as Rust's do: a panic where overflows are checked.
        Row::new("ops::add add", |cases| {
            cases.pairs("sum", |x, y| if x.dtype().is_int() { Ok(x.clone()) } else { add(x, y) });
        }),
        Row::new("ops::vdot vdot", |cases| cases.pairs("product", vdot)),
        Row::new("ops::einsum einsum", |cases| {
            let equations = [
                "",
                "->",
                ",->",
                "i,i->",
                "ij,jk->ik",
                "bij,bjk->bik",
                "...i,ij->...j",
                "ii,i->i",
                "i,j->k",
                "i,i->ii",
                "i,i",
                "i->i",
                "i,j,k->i",
                "....,i->i",
                "ß,ß->ß",
                "..i,i->..",
                "i j , j k -> i k",
            ];
            for equation in equations {
                cases.pairs(equation, |x, y| einsum(equation, x, y));
            }
        }),
        Row::new("var_builder load_var_builder", |cases| {
            cases.tensors("a leaf", |x| {
                let tensors: HashMap<_, _> = [("w".to_owned(), x.clone())].into();
                let mut tree =
                    Weights { w: Leaf::unshaped(initializers::ones, DType::F32).with_shape((2, 6)) };
                load_var_builder(&mut tree, &VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))?;
                tree.w.get()
            });
        }),
    ]
}

fn of_images() -> Vec<Row> {
    vec![
        Row::new("functional::pooling avg_pool", |cases| {
            windows(cases, |x, window, strides, padding| avg_pool(x, window, strides, padding, false));
        }),
        resized(),
        Row::new("functional::pooling max_pool", |cases| windows(cases, max_pool)),
        Row::new("functional::pooling min_pool", |cases| windows(cases, min_pool)),
        Row::new("functional::pooling pool", |cases| {
            windows(cases, |x, window, strides, padding| {
                pool(x, f64::NAN, |a, b| Ok((a + b)?), window, strides, padding)
            });
        }),
    ]
}

fn resized() -> Row {
    Row::new("functional::resize resize resize_with", |cases| {
        for shape in [
            vec![],
            vec![0],
            vec![2, 6],
            vec![3, 1, 5],
            vec![usize::MAX, 2],
            vec![1 << 40],
            vec![1 << 62, 1 << 62],
        ] {
            for method in [ResizeMethod::Nearest, ResizeMethod::Linear, ResizeMethod::Cubic] {
                cases.tensors(&format!("{shape:?}, {method:?}"), |x| resize(x, shape.clone(), method));
                cases.tensors(&format!("{shape:?}, {method:?}, plain"), |x| {
                    resize_with(x, shape.clone(), method, false)
                });
            }
        }
    })
}

fn of_attention() -> Vec<Row> {
    const OPTIONS: &str = "functional::attention::dot_product_attention::AttentionOptions bias mask causal dropout \
                           broadcast_dropout force_fp32_for_softmax dtype";
    vec![
        Row::new("functional::attention::dot_product_attention dot_product_attention", |cases| {
            triples(cases, "plain", |[q, k, v]| dot_product_attention(q, k, v, &AttentionOptions::default()));
        }),
        Row::new("functional::attention::dot_product_attention dot_product_attention_weights", |cases| {
            cases.pairs("plain", |q, k| dot_product_attention_weights(q, k, &AttentionOptions::default()));
        }),
        Row::new(OPTIONS, |cases| {
            let x = Tensor::ones((2, 5, 4, 6), DType::F32, &Device::Cpu).unwrap();
            cases.pairs("bias and mask", |bias, mask| {
                let options = AttentionOptions::default().bias(bias).mask(mask).causal(true);
                dot_product_attention(&x, &x, &x, &options)
            });
            for rate in NUMBERS {
                for dtype in [DType::U8, DType::I64, DType::BF16] {
                    let options = AttentionOptions::default().dropout(rate, 0).broadcast_dropout(false);
                    let options = options.dtype(dtype).force_fp32_for_softmax(true);
                    cases.tensors(&format!("{rate} {dtype:?}"), |x| dot_product_attention(x, x, x, &options));
                }
            }
        }),
        Row::new("functional::attention::masks make_attention_mask", |cases| {
            for extra in [0, 1, usize::MAX, 1 << 40] {
                cases.pairs(&format!("{extra}"), |q, k| {
                    make_attention_mask(q, k, Tensor::broadcast_eq, extra)
                });
                cases.pairs(&format!("{extra}, a function of its own"), |q, k| {
                    make_attention_mask(q, k, |q, _| q.flatten_all(), extra)
                });
            }
        }),
        Row::new("functional::attention::masks make_causal_mask", |cases| {
            for extra in [0, 1, usize::MAX, 1 << 40] {
                cases.tensors(&format!("{extra}"), |x| make_causal_mask(x, extra));
            }
        }),
        Row::new("functional::attention::masks combine_masks", |cases| {
            cases.pairs("two", |x, y| combine_masks([x, y]));
            cases.call("none", || combine_masks::<&Tensor>([]));
        }),
        Row::new("functional::attention::rotary::Rotary new base interleaved features apply", |cases| {
            for base in NUMBERS {
                for features in SIZES.into_iter().chain([2, 3]) {
                    for offset in [0, 1 << 60, usize::MAX] {
                        let rotary = Rotary::new().base(base).interleaved(offset == 0).features(features);
                        let label = format!("{base}, {features}, {offset}");
                        cases.tensors(&label, |x| rotary.apply(x, offset));
                    }
                }
            }
            cases.tensors("as it is", |x| Rotary::new().apply(x, 0));
        }),
        Row::new("functional::attention::rotary::Rotary apply_at", |cases| {
            cases.pairs("positions", |x, positions| Rotary::new().apply_at(x, positions));
        }),
    ]
}

fn initial() -> Vec<Row> {
    vec![
        init("initializers zeros ones zeros_init ones_init constant uniform normal", |add| {
            add("zeros".into(), Box::new(initializers::zeros));
            add("ones".into(), Box::new(initializers::ones));
            add("zeros_init".into(), Box::new(initializers::zeros_init()));
            add("ones_init".into(), Box::new(initializers::ones_init()));
            for number in NUMBERS {
                add(format!("constant {number}"), Box::new(initializers::constant(number)));
                add(format!("uniform {number}"), Box::new(initializers::uniform(number)));
                add(format!("normal {number}"), Box::new(initializers::normal(number)));
            }
        }),
        init("initializers::orthogonal orthogonal delta_orthogonal", |add| {
            for number in NUMBERS {
                add(format!("{number}"), Box::new(initializers::orthogonal(number)));
                add(format!("delta {number}"), Box::new(initializers::delta_orthogonal(number)));
            }
        }),
        init("initializers::orthogonal::Orthogonal new column_axis build build_delta", |add| {
            for axis in AXES {
                let init = || initializers::Orthogonal::new(1.).column_axis(axis);
                add(format!("{axis}"), Box::new(init().build()));
                add(format!("delta {axis}"), Box::new(init().build_delta()));
            }
        }),
        init("initializers::truncated_normal truncated_normal", |add| {
            for number in NUMBERS {
                add(format!("{number}"), Box::new(initializers::truncated_normal(number)));
            }
        }),
        init("initializers::truncated_normal::TruncatedNormal new lower upper build", |add| {
            for lower in NUMBERS {
                for upper in NUMBERS {
                    let init = initializers::TruncatedNormal::new(1.).lower(lower).upper(upper).build();
                    add(format!("{lower} to {upper}"), Box::new(init));
                }
            }
        }),
        init("initializers::variance_scaling variance_scaling", |add| {
            let distributions = [Distribution::Normal, Distribution::TruncatedNormal, Distribution::Uniform];
            for number in NUMBERS {
                for (mode, distribution) in
                    [FanMode::FanIn, FanMode::FanOut, FanMode::FanAvg].into_iter().zip(distributions)
                {
                    let init = variance_scaling(number, mode, distribution);
                    add(format!("{number} {mode:?} {distribution:?}"), Box::new(init));
                }
            }
        }),
        init(
            "initializers::variance_scaling::VarianceScaling new in_axis out_axis batch_axis build",
            |add| {
                for axis in AXES {
                    let init =
                        || initializers::VarianceScaling::new(1., FanMode::FanAvg, Distribution::Uniform);
                    add(format!("in {axis}"), Box::new(init().in_axis([axis]).build()));
                    add(format!("out {axis}"), Box::new(init().out_axis([axis, axis]).build()));
                    add(format!("batch {axis}"), Box::new(init().batch_axis([axis]).build()));
                    add(format!("none, {axis}"), Box::new(init().in_axis([]).out_axis([axis]).build()));
                }
            },
        ),
    ]
}
