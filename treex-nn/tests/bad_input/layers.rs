//! Layers: their constructors and options, `init`, and their calls.

use candle_core::{DType, Device, Tensor};
use treex_core::{Key, Module, Result, prelude::*};
use treex_nn::*;
use treex_testing::bad_input::{AXES, Cases, NUMBERS, Row, SIZES, some, tensors};

/// A row of layers with one or two sizes.
fn sized<M: Module + Clone + std::fmt::Debug>(
    names: &'static str,
    make: impl Fn(usize, usize) -> M + Send + Copy + 'static,
) -> Row {
    Row::new(names, move |cases| {
        for a in SIZES {
            for b in SIZES {
                cases.layer(&format!("({a}, {b})"), || make(a, b));
            }
        }
    })
}

/// Calls of a layer with two tensors.
fn called<M: Module + Clone>(
    cases: &mut Cases,
    layer: M,
    call: impl Fn(&mut M, [&Tensor; 2]) -> Result<Tensor>,
) {
    let layer = layer.init(0, &Device::Cpu).unwrap();
    cases.pairs("a call", |x, y| call(&mut layer.clone(), [x, y]));
}

/// Options of windows that do not fit.
fn windows<M: Module + Clone + std::fmt::Debug>(cases: &mut Cases, make: impl Fn(Window) -> M) {
    let sizes = [0, 1, 3, 1 << 31, 1 << 40, usize::MAX];
    let paddings = [
        Padding::Same,
        Padding::Circular,
        Padding::Reflect,
        Padding::Causal,
        Padding::Each(-1),
        Padding::Each(-7),
        Padding::Each(1 << 31),
        Padding::Each(isize::MIN),
        Padding::Explicit(vec![(-2, 3)]),
        Padding::Explicit(vec![(-2, 3), (3, -4)]),
    ];
    let plain =
        Window { kernel: vec![2], stride: 1, dilation: 1, input_dilation: 1, padding: Padding::Valid };
    let mut all = Vec::new();
    for kernel in [vec![], vec![0], vec![1 << 31], vec![usize::MAX], vec![usize::MAX, 2], vec![1; 7]] {
        all.push(Window { kernel, ..plain.clone() });
    }
    for size in sizes {
        all.push(Window { stride: size, ..plain.clone() });
        all.push(Window { dilation: size, ..plain.clone() });
        all.push(Window { input_dilation: size, ..plain.clone() });
    }
    for padding in paddings {
        for input_dilation in [1, 3] {
            for kernel in [vec![2], vec![2, 2]] {
                all.push(Window { kernel, padding: padding.clone(), input_dilation, ..plain.clone() });
            }
        }
    }
    for window in all {
        cases.layer(&format!("{window:?}"), || make(window.clone()));
    }
}

#[derive(Clone, Debug)]
struct Window {
    kernel: Vec<usize>,
    stride: usize,
    dilation: usize,
    input_dilation: usize,
    padding: Padding,
}

pub(crate) fn rows() -> Vec<Row> {
    [products(), convolutions(), norms(), attention(), recurrent(), others()].into_iter().flatten().collect()
}

fn products() -> Vec<Row> {
    vec![
        sized("layers::linear::Linear new", Linear::new),
        sized("layers::linear::Linear lazy", |a, _| Linear::lazy(a)),
        sized("layers::dense_general::DenseGeneral new", |a, b| DenseGeneral::new((a, 6), (b, 2))),
        sized("layers::dense_general::DenseGeneral lazy", |a, b| DenseGeneral::lazy((a, b))),
        Row::new("layers::dense_general::DenseGeneral axis batch_dims kernel_init bias_init", |cases| {
            for a in AXES {
                for b in AXES {
                    cases.layer(&format!("{a}, {b}"), || {
                        DenseGeneral::new((4, 6), 2).axis([a, b]).kernel_init(ones).bias_init(ones)
                    });
                    cases.layer(&format!("batch {a}, {b}"), || {
                        DenseGeneral::lazy(2).batch_dims([a]).axis([b])
                    });
                    cases.layer(&format!("batches {a}, {b}"), || DenseGeneral::new(6, 2).batch_dims([a, b]));
                }
            }
        }),
        sized("layers::einsum::Einsum new", |a, b| Einsum::new((a, b), "...a,ab->...b")),
        sized("layers::einsum::Einsum lazy", |a, b| Einsum::lazy((a, b))),
        Row::new("layers::einsum::Einsum call_with", |cases| {
            for equation in
                ["", "->", "ab,bc", "...a,ab->...b", "aa,ab->b", "a,b->a", "...,ab->...", "é,ab->b"]
            {
                let einsum = Einsum::new((6, 2), "...a,ab->...b").init(0, &Device::Cpu).unwrap();
                cases.tensors(equation, |x| einsum.call_with(x, equation));
                cases.layer(equation, || Einsum::new((6, 2), equation));
            }
        }),
        sized("layers::embed::Embed new", Embed::new),
        Row::new("layers::embed::Embed attend", |cases| {
            called(cases, Embed::new(5, 6), |embed, [x, _]| embed.attend(x));
        }),
        sized("layers::mlp::Mlp new", |a, b| Mlp::new([a, 6, b])),
        sized("layers::mlp::Mlp lazy", |a, b| Mlp::lazy([a, b])),
        Row::new("layers::mlp::Mlp activation use_bias kernel_init bias_init param_dtype dtype", |cases| {
            for dtype in [DType::U8, DType::I64, DType::BF16, DType::F64] {
                let make = |features: &[usize]| {
                    let mlp = Mlp::new(features).activation(soft_sign).use_bias(false).use_bias(true);
                    mlp.kernel_init(ones).bias_init(ones).param_dtype(dtype).dtype(dtype)
                };
                for features in [&[][..], &[6], &[6, 3, 2]] {
                    cases.layer(&format!("{features:?} {dtype:?}"), || make(features));
                }
            }
        }),
    ]
}

fn ones(_: &Key, shape: &candle_core::Shape, dtype: DType) -> Result<Tensor> {
    Ok(Tensor::ones(shape, dtype, &Device::Cpu)?)
}

fn convolutions() -> Vec<Row> {
    vec![
        sized("layers::convolution::conv::Conv new", |a, b| Conv::new(a, b, [1])),
        sized("layers::convolution::conv::Conv lazy", |a, b| Conv::lazy(a, [b])),
        Row::new("layers::convolution::conv::Conv feature_group_count", |cases| {
            for groups in SIZES.into_iter().chain([2, 4]) {
                cases.layer(&format!("{groups}"), || Conv::new(6, 6, [1]).feature_group_count(groups));
                cases.layer(&format!("{groups}, lazy"), || Conv::lazy(6, [1]).feature_group_count(groups));
            }
            windows(cases, |window| {
                let conv = Conv::new(6, 4, window.kernel).strides(window.stride).padding(window.padding);
                conv.kernel_dilation(window.dilation).input_dilation(window.input_dilation)
            });
        }),
        Row::new("layers::convolution::window mask", |cases| {
            for (name, mask) in tensors() {
                let conv = Conv::new(6, 4, [1]).mask(mask.clone());
                cases.layer(&format!("{name} of a convolution"), || conv.clone());
            }
        }),
        sized("layers::convolution::conv_local::ConvLocal new", |a, b| ConvLocal::new([a, 6], b, [1])),
        sized("layers::convolution::conv_local::ConvLocal lazy", |a, b| ConvLocal::lazy(a, [b])),
        Row::new("layers::convolution::conv_local::ConvLocal new new", |cases| {
            windows(cases, |window| {
                let conv = ConvLocal::new([vec![4; window.kernel.len()], vec![6]].concat(), 4, window.kernel);
                let conv = conv.strides(window.stride).padding(window.padding);
                conv.kernel_dilation(window.dilation).input_dilation(window.input_dilation)
            });
        }),
        sized("layers::convolution::conv_transpose::ConvTranspose new", |a, b| ConvTranspose::new(a, b, [1])),
        sized("layers::convolution::conv_transpose::ConvTranspose lazy", |a, b| ConvTranspose::lazy(a, [b])),
        Row::new("layers::convolution::conv_transpose::ConvTranspose transpose_kernel", |cases| {
            for transposed in [false, true] {
                windows(cases, |window| {
                    let conv = ConvTranspose::new(6, 4, window.kernel).transpose_kernel(transposed);
                    conv.strides(window.stride).padding(window.padding).kernel_dilation(window.dilation)
                });
            }
        }),
    ]
}

fn norms() -> Vec<Row> {
    vec![
        sized("layers::norm::batch_norm::BatchNorm new", |a, b| BatchNorm::new((a, b))),
        Row::new("layers::norm::batch_norm::BatchNorm axis momentum use_running_average", |cases| {
            for axis in AXES {
                cases.layer(&format!("{axis}"), || BatchNorm::new(6).axis(axis));
                cases.layer(&format!("{axis}, lazy"), || BatchNorm::lazy().axis([axis, -1]));
            }
            for number in NUMBERS {
                cases.layer(&format!("{number}"), || BatchNorm::new(6).momentum(number).epsilon(number));
            }
            cases.layer("running", || BatchNorm::new(6).use_running_average(true));
        }),
        Row::new("layers::norm::batch_norm::BatchNorm call_with", |cases| {
            called(cases, BatchNorm::new(6), |norm, [x, mask]| norm.call_with(x, mask));
        }),
        sized("layers::norm::group_norm::GroupNorm new", |a, b| GroupNorm::new(a).num_groups(b)),
        Row::new("layers::norm::group_norm::GroupNorm num_groups group_size reduction_axes", |cases| {
            for size in SIZES {
                cases.layer(&format!("{size} groups"), || GroupNorm::new(6).num_groups(size));
                cases.layer(&format!("{size} groups, lazy"), || GroupNorm::lazy().num_groups(size));
                cases.layer(&format!("of {size}"), || GroupNorm::new(6).group_size(size));
            }
            for axis in AXES {
                cases
                    .layer(&format!("{axis}"), || GroupNorm::new(6).num_groups(2).reduction_axes([axis, -1]));
            }
        }),
        Row::new("layers::norm::instance_norm::InstanceNorm feature_axes", |cases| {
            for axis in AXES {
                cases.layer(&format!("{axis}"), || InstanceNorm::new(6).feature_axes(axis));
                cases.layer(&format!("{axis}, lazy"), || InstanceNorm::lazy().feature_axes([axis, -1]));
            }
        }),
        Row::new("layers::norm::layer_norm::LayerNorm reduction_axes feature_axes", |cases| {
            for axis in AXES {
                for other in AXES {
                    cases.layer(&format!("{axis}, {other}"), || {
                        LayerNorm::new(6).feature_axes(axis).reduction_axes(other)
                    });
                    cases.layer(&format!("{axis}, {other}, lazy"), || {
                        LayerNorm::lazy().feature_axes([axis, other]).reduction_axes([other])
                    });
                }
            }
        }),
        Row::new("layers::norm::rms_norm::RmsNorm reduction_axes feature_axes", |cases| {
            for axis in AXES {
                cases.layer(&format!("{axis}"), || {
                    RmsNorm::new(6).feature_axes(axis).reduction_axes([axis, -1])
                });
            }
            called(cases, RmsNorm::new(6), |norm, [x, mask]| norm.call_with(x, mask));
        }),
        // What a macro gives to every norm.
        Row::new(
            "layers::norm::options new lazy epsilon force_float32_reductions pmean call_with",
            |cases| {
                for size in SIZES {
                    cases.layer(&format!("LayerNorm of {size}"), || LayerNorm::new((size, 6)));
                    cases.layer(&format!("RmsNorm of {size}"), || RmsNorm::new((6, size)));
                    cases.layer(&format!("InstanceNorm of {size}"), || InstanceNorm::new((size, size)));
                }
                for number in NUMBERS {
                    cases.layer(&format!("LayerNorm {number}"), || LayerNorm::new(6).epsilon(number));
                    cases.layer(&format!("RmsNorm {number}"), || RmsNorm::new(6).epsilon(number));
                }
                cases.layer("pmean", || {
                    BatchNorm::new(6).pmean(|x| Ok(x.flatten_all()?)).force_float32_reductions(false)
                });
                called(cases, LayerNorm::new(6), |norm, [x, mask]| norm.call_with(x, mask));
                called(cases, GroupNorm::new(6).num_groups(2), |norm, [x, mask]| norm.call_with(x, mask));
                called(cases, InstanceNorm::new(6), |norm, [x, mask]| norm.call_with(x, mask));
            },
        ),
        Row::new(
            "layers::norm::spectral_norm::SpectralNorm new n_steps epsilon error_on_non_matrix param_dtype dtype \
             call_inner",
            |cases| {
                cases.layer("a convolution", || {
                    SpectralNorm::new(Conv::new(6, 4, [2])).error_on_non_matrix(true)
                });
                cases.layer("nothing", || SpectralNorm::new(Flatten));
                for steps in [0, 1, 1000] {
                    cases.layer(&format!("{steps}"), || SpectralNorm::new(Linear::new(6, 4)).n_steps(steps));
                }
                for number in NUMBERS {
                    cases
                        .layer(&format!("{number}"), || SpectralNorm::new(Linear::new(6, 4)).epsilon(number));
                }
                for size in SIZES {
                    cases.layer(&format!("of {size}"), || SpectralNorm::new(Linear::new(6, size)));
                }
                for dtype in [DType::U8, DType::I64, DType::BF16] {
                    let make = || SpectralNorm::new(Linear::new(6, 4)).param_dtype(dtype).dtype(dtype);
                    cases.layer(&format!("{dtype:?}"), make);
                }
                called(cases, SpectralNorm::new(Linear::new(6, 4)), |norm, [x, _]| {
                    norm.call_inner(|linear| linear.call(x))
                });
            },
        ),
        Row::new(
            "layers::norm::weight_norm::WeightNorm new feature_axes variable_filter epsilon use_scale scale_init \
             param_dtype dtype call_inner",
            |cases| {
                cases.layer("nothing", || WeightNorm::new(Flatten));
                for axis in AXES {
                    cases.layer(&format!("{axis}"), || WeightNorm::new(Linear::new(6, 4)).feature_axes(axis));
                }
                for number in NUMBERS {
                    cases.layer(&format!("{number}"), || {
                        WeightNorm::new(Linear::new(6, 4)).epsilon(number).use_scale(false).use_scale(true)
                    });
                }
                for size in SIZES {
                    cases.layer(&format!("of {size}"), || {
                        WeightNorm::new(Linear::new(6, size)).scale_init(ones)
                    });
                }
                cases.layer("unknown", || WeightNorm::new(Linear::new(6, 4)).variable_filter(["kernl", ""]));
                for dtype in [DType::U8, DType::I64, DType::BF16] {
                    let make = || WeightNorm::new(Linear::new(6, 4)).param_dtype(dtype).dtype(dtype);
                    cases.layer(&format!("{dtype:?}"), make);
                }
                called(cases, WeightNorm::new(Linear::new(6, 4)), |norm, [x, _]| {
                    norm.call_inner(|linear| linear.call(x))
                });
            },
        ),
    ]
}

fn attention() -> Vec<Row> {
    type Attention = MultiHeadAttention;
    const OPTIONS: &str = "layers::attention::multi_head::options::MultiHeadDotProductAttention num_kv_heads kv_features qkv_features \
         out_features dropout_rate broadcast_dropout use_bias normalize_qk rotary causal force_fp32_for_softmax \
         sow_weights attention_fn kernel_init out_kernel_init bias_init out_bias_init param_dtype dtype";
    vec![
        sized("layers::attention::multi_head::MultiHeadDotProductAttention new", Attention::new),
        sized("layers::attention::multi_head::MultiHeadDotProductAttention lazy", |a, _| Attention::lazy(a)),
        Row::new(
            "layers::attention::multi_head::MultiHeadDotProductAttention init_cache clear_cache",
            |cases| {
                for batch in [vec![], vec![2], vec![0], vec![usize::MAX, 2], vec![1 << 40]] {
                    for length in SIZES {
                        let mut layer = Attention::new(2, 6).init(0, &Device::Cpu).unwrap();
                        cases.call(&format!("{batch:?}, {length}"), || layer.init_cache(&batch, length));
                        cases.tensors(&format!("{batch:?}, {length}"), |x| layer.clone().call(x));
                        layer.clear_cache();
                    }
                }
            },
        ),
        Row::new("layers::attention::multi_head::MultiHeadDotProductAttention call_with", |cases| {
            let layer = Attention::new(2, 6).init(0, &Device::Cpu).unwrap();
            for (a, x) in some() {
                for (b, y) in some() {
                    for (c, z) in some() {
                        let label = format!("{a}, {b} and {c}");
                        cases.call(&label, || layer.clone().call_with(&x, &y, &y, &z));
                        cases.call(&label, || layer.clone().call_with(&x, &y, &z, None));
                    }
                }
            }
        }),
        Row::new(OPTIONS, |cases| {
            for size in SIZES.into_iter().chain([1, 2, 3]) {
                cases.layer(&format!("{size} kv heads"), || Attention::new(2, 6).num_kv_heads(size));
                cases.layer(&format!("{size} kv"), || Attention::new(2, 6).kv_features(size));
                cases.layer(&format!("{size} qkv"), || Attention::new(2, 6).qkv_features(size));
                cases.layer(&format!("{size} outputs"), || Attention::new(2, 6).out_features(size));
                cases.layer(&format!("{size} rotated"), || {
                    Attention::new(2, 6).rotary(Rotary::new().features(size))
                });
            }
            for number in NUMBERS {
                cases.layer(&format!("{number}"), || {
                    Attention::new(2, 6).dropout_rate(number).broadcast_dropout(false).normalize_qk(true)
                });
            }
            for dtype in [DType::U8, DType::I64, DType::BF16] {
                cases.layer(&format!("{dtype:?}"), || {
                    let layer =
                        Attention::new(2, 6).param_dtype(dtype).dtype(dtype).use_bias(false).causal(true);
                    layer.force_fp32_for_softmax(true).sow_weights(true).use_bias(true)
                });
            }
            cases.layer("a function of its own", || {
                let layer = Attention::new(2, 6).kernel_init(ones).out_kernel_init(ones).bias_init(ones);
                layer.out_bias_init(ones).attention_fn(|q, _, _, _| Ok(q.sum_all()?))
            });
        }),
    ]
}

fn recurrent() -> Vec<Row> {
    fn cell<C: RnnCell>(names: &'static str, make: impl Fn(usize, usize) -> C + Send + Copy + 'static) -> Row
    where
        Rnn<C>: Module + std::fmt::Debug,
    {
        Row::new(names, move |cases| {
            for a in SIZES {
                for b in SIZES {
                    cases.layer(&format!("({a}, {b})"), || Rnn::new(make(a, b)));
                }
            }
            cases.layer("a cell", || Rnn::new(make(6, 4)));
            let cell = make(6, 6).init(0, &Device::Cpu).unwrap();
            cases.tensors("carry", |x| {
                let carry = cell.initialize_carry(Key::from(0), x)?;
                Ok(cell.clone().step(&carry, x)?.1)
            });
            let sample = Tensor::ones((2, 6), DType::F32, &Device::Cpu).unwrap();
            let carry = cell.initialize_carry(Key::from(0), &sample).unwrap();
            cases.tensors("a carry of another input", |x| Ok(cell.clone().step(&carry, x)?.1));
            cases.pairs("a carry of other shapes", |x, y| {
                Ok(cell.clone().step(&carry.map_tensors(&mut |_| Ok(y.clone()))?, x)?.1)
            });
        })
    }
    const LSTM: &str = "layers::recurrent::options new";
    vec![
        cell("layers::recurrent::simple::SimpleCell residual", |a, b| SimpleCell::new(a, b).residual(true)),
        cell("layers::recurrent::cell::RnnCell initialize_carry step", SimpleCell::new),
        cell(LSTM, LstmCell::new),
        Row::new("layers::recurrent::options lazy", |cases| {
            for size in SIZES {
                cases.layer(&format!("{size}"), || Rnn::new(OptimizedLstmCell::lazy(size)));
            }
        }),
        cell("layers::recurrent::options kernel_init recurrent_kernel_init carry_init", |a, b| {
            GruCell::new(a, b).kernel_init(ones).recurrent_kernel_init(ones).carry_init(ones)
        }),
        cell("layers::recurrent::options param_dtype dtype", |a, b| {
            // Orthogonal matrices are wide.
            GruCell::new(a, b).recurrent_kernel_init(ones).param_dtype(DType::BF16).dtype(DType::BF16)
        }),
        cell("layers::recurrent::mgu::MguCell reset_gate", |a, b| MguCell::new(a, b).reset_gate(false)),
        Row::new(
            "layers::recurrent::conv_lstm::ConvLstmCell new lazy strides padding use_bias carry_init param_dtype dtype",
            |cases| {
                for a in SIZES {
                    for b in SIZES {
                        cases.layer(&format!("({a}, {b})"), || Rnn::new(ConvLstmCell::new(a, b, [1])));
                        cases.layer(&format!("({a}, {b}), lazy"), || Rnn::new(ConvLstmCell::lazy(a, [b])));
                    }
                }
                windows(cases, |window| {
                    let cell =
                        ConvLstmCell::new(6, 4, window.kernel).strides(window.stride).padding(window.padding);
                    Rnn::new(cell.use_bias(false).carry_init(ones))
                });
                for dtype in [DType::U8, DType::I64, DType::BF16] {
                    let make = || Rnn::new(ConvLstmCell::new(6, 4, [2]).param_dtype(dtype).dtype(dtype));
                    cases.layer(&format!("{dtype:?}"), make);
                }
            },
        ),
        Row::new("layers::recurrent::rnn::Rnn new time_major reverse keep_order init_key", |cases| {
            for options in 0..8 {
                let on = |bit: u32| options & 1 << bit != 0;
                cases.layer(&format!("{options}"), || {
                    let rnn = Rnn::new(GruCell::new(6, 4)).time_major(on(0)).reverse(on(1)).keep_order(on(2));
                    rnn.init_key(3)
                });
            }
        }),
        Row::new("layers::recurrent::rnn::Rnn call_with", |cases| {
            let rnn = Rnn::new(GruCell::new(6, 4)).init(0, &Device::Cpu).unwrap();
            cases.pairs("lengths", |x, lengths| Ok(rnn.clone().call_with(x, None, Some(lengths))?.1));
            cases.pairs("a carry", |x, carry| Ok(rnn.clone().call_with(x, Some(carry), None)?.1));
        }),
        Row::new(
            "layers::recurrent::bidirectional::Bidirectional new merge_fn time_major init_key call_with",
            |cases| {
                let make = || {
                    let pair = Bidirectional::new(Rnn::new(GruCell::new(6, 4)), Rnn::new(GruCell::new(6, 4)));
                    pair.time_major(true).init_key(3)
                };
                cases.layer("time major", make);
                cases.layer("a function of its own", || make().merge_fn(|x, _| Ok(x.flatten_all()?)));
                cases.layer("of sizes that differ", || {
                    Bidirectional::new(Rnn::new(GruCell::new(6, 4)), Rnn::new(GruCell::new(5, 4)))
                });
                let both = make().init(0, &Device::Cpu).unwrap();
                cases.pairs("lengths", |x, lengths| Ok(both.clone().call_with(x, None, Some(lengths))?.1));
                cases.pairs("carries", |x, y| {
                    Ok(both.clone().call_with(x, Some(&(y.clone(), y.clone())), None)?.1)
                });
            },
        ),
    ]
}

fn others() -> Vec<Row> {
    vec![
        Row::new("layers::batch_apply::BatchApply new num_dims call_inner", |cases| {
            for dims in SIZES.into_iter().chain([1, 2, 3]) {
                cases.layer(&format!("{dims}"), || BatchApply::new(Linear::new(6, 4)).num_dims(dims));
                let applied = BatchApply::new(()).num_dims(dims);
                cases.pairs(&format!("{dims}"), |x, y| {
                    applied.clone().call_inner(&[x, y], |(), x| Ok(x[1].clone()))
                });
                cases.call(&format!("{dims}"), || applied.clone().call_inner(&[], |(), x| Ok(x[0].clone())));
            }
        }),
        Row::new("layers::dropout::Dropout new rng_collection broadcast_dims", |cases| {
            for rate in NUMBERS.into_iter().chain([0.5]) {
                for axis in AXES {
                    cases.layer(&format!("{rate}, {axis}"), || {
                        Dropout::new(rate).broadcast_dims([axis]).rng_collection("")
                    });
                }
            }
        }),
        Row::new("layers::lambda::Lambda new of", |cases| {
            cases.layer("a sum", || Lambda::new("", |x: &Tensor| Ok(x.flatten_all()?)));
            cases.layer("a function", || Lambda::of(soft_sign));
        }),
        Row::new("layers::prelu::PRelu new negative_slope_init param_dtype", |cases| {
            for number in NUMBERS {
                for dtype in [DType::U8, DType::I64, DType::BF16, DType::F32] {
                    cases.layer(&format!("{number} {dtype:?}"), || {
                        PRelu::new().negative_slope_init(number).param_dtype(dtype)
                    });
                }
            }
        }),
        Row::new("layers::remat::Remat new", |cases| {
            cases.layer("a layer", || Remat::new(Linear::new(6, 4)));
            cases.layer("nothing", || Remat::new(Flatten));
        }),
        Row::new("layers::scan_blocks::ScanBlocks new stacked", |cases| {
            for length in SIZES.into_iter().chain([2]) {
                cases.layer(&format!("{length}"), || ScanBlocks::new(Linear::new(6, 6), length));
                cases.layer(&format!("{length}, of another size"), || {
                    ScanBlocks::new(Linear::new(6, 4), length)
                });
                cases.layer(&format!("{length}, lazy"), || ScanBlocks::new(Linear::lazy(6), length));
            }
            cases.call("none", || ScanBlocks::<Linear>::stacked(&[]));
            cases.call("of two sizes", || ScanBlocks::stacked(&[Linear::new(6, 6), Linear::new(6, 4)]));
        }),
        Row::new("layers::sequential::Sequential new add add_fn", |cases| {
            cases.layer("empty", Sequential::new);
            cases.layer("of sizes that differ", || {
                Sequential::new().add(Linear::new(6, 4)).add(Linear::new(5, 4))
            });
            cases.layer("of a function", || Sequential::new().add_fn(|x| Ok(x.flatten_all()?)).add(Flatten));
        }),
        Row::new("layers::sequential sequential", |cases| {
            cases.layer("of sizes that differ", || sequential((Linear::new(6, 4), tanh, Linear::new(5, 4))));
        }),
        // What a macro gives to every layer with parameters.
        Row::new("layers::options use_bias param_dtype dtype", |cases| {
            for dtype in [DType::U8, DType::U32, DType::I64, DType::BF16, DType::F16, DType::F64] {
                cases.layer(&format!("Linear {dtype:?}"), || Linear::new(6, 4).param_dtype(dtype));
                cases.layer(&format!("Linear in {dtype:?}"), || {
                    Linear::new(6, 4).use_bias(false).dtype(dtype)
                });
                cases.layer(&format!("Conv {dtype:?}"), || {
                    Conv::new(6, 4, [2]).param_dtype(dtype).dtype(dtype)
                });
                cases.layer(&format!("ConvLocal {dtype:?}"), || {
                    ConvLocal::new([4, 6], 4, [2]).param_dtype(dtype).dtype(dtype)
                });
                cases.layer(&format!("ConvTranspose {dtype:?}"), || {
                    ConvTranspose::new(6, 4, [2]).param_dtype(dtype).dtype(dtype)
                });
                cases.layer(&format!("Embed {dtype:?}"), || Embed::new(5, 6).param_dtype(dtype).dtype(dtype));
                cases.layer(&format!("Einsum {dtype:?}"), || {
                    Einsum::new((6, 4), "...a,ab->...b").param_dtype(dtype).dtype(dtype)
                });
                cases.layer(&format!("DenseGeneral {dtype:?}"), || {
                    DenseGeneral::new(6, 4).param_dtype(dtype).dtype(dtype)
                });
                cases.layer(&format!("LayerNorm {dtype:?}"), || {
                    LayerNorm::new(6).param_dtype(dtype).dtype(dtype)
                });
                cases.layer(&format!("BatchNorm {dtype:?}"), || {
                    BatchNorm::new(6).param_dtype(dtype).dtype(dtype)
                });
                cases.layer(&format!("GroupNorm {dtype:?}"), || {
                    GroupNorm::new(6).num_groups(2).param_dtype(dtype).dtype(dtype)
                });
                cases
                    .layer(&format!("RmsNorm {dtype:?}"), || RmsNorm::new(6).param_dtype(dtype).dtype(dtype));
            }
        }),
    ]
}
