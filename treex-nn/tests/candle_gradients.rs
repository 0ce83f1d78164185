//! Which of Candle's own operations have a right gradient, and a right gradient of the gradient: each is compared with
//! finite differences, and the table that is found is `docs/candle-gradients.md`. After a new version of Candle, `BLESS=1
//! cargo test -p treex-nn --test candle_gradients` writes it anew.
//!
//! A `main` of its own: the thread that keeps the graph is started before any other.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::fmt::Write as _;
use std::path::Path;

use candle_core::{DType, Result, Tensor};
use treex_core::{ErrorKind, Key, Leaf, Parameter, check_gradients, enable_nested_gradients, prelude::*};
use treex_testing::device;

/// The values of the input.
#[derive(Clone, Copy)]
enum Numbers {
    Normal,
    Positive,
}

struct Row {
    name: &'static str,
    shape: &'static [usize],
    numbers: Numbers,
    f: fn(&Tensor) -> Result<Tensor>,
}

const VECTOR: &[usize] = &[6];
const MATRIX: &[usize] = &[3, 4];
const IMAGE: &[usize] = &[2, 3, 4, 4];

fn row(name: &'static str, shape: &'static [usize], f: fn(&Tensor) -> Result<Tensor>) -> Row {
    Row { name, shape, numbers: Numbers::Normal, f }
}

impl Row {
    fn of(self, numbers: Numbers) -> Self {
        Self { numbers, ..self }
    }

    fn input(&self) -> Tensor {
        let key = Key::from(5);
        let x = match self.numbers {
            Numbers::Normal => key.normal(self.shape, DType::F64),
            Numbers::Positive => key.uniform(self.shape, DType::F64).and_then(|x| Ok(((x * 1.5)? + 0.5)?)),
        };
        x.unwrap().to_device(device()).unwrap()
    }
}

fn ids(ids: &[u32], shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(ids, shape, device())
}

/// The rows of the table that differ on CUDA: what Candle does not have there.
const ON_CUDA: &[&str] = &["| `upsample_nearest1d` | error |  |"];

/// Another operand made of `x`, so that each operand's gradient counts.
fn other(x: &Tensor) -> Result<Tensor> {
    x.affine(0.7, 1.3)?.sin()
}

/// An operation that has no `f64`.
fn in_f32(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    f(&x.to_dtype(DType::F32)?)?.to_dtype(DType::F64)
}

/// The cosines, or sines, of 4 positions and 2 pairs of features.
fn angles(x: &Tensor) -> Result<Tensor> {
    Tensor::arange(0f64, 8., x.device())?.reshape((4, 2))?.cos()?.to_dtype(x.dtype())
}

fn rows() -> Vec<Row> {
    use Numbers::Positive;
    vec![
        row("`x + y`", MATRIX, |x| x + other(x)?),
        row("`x - y`", MATRIX, |x| x - other(x)?),
        row("`x * y`", MATRIX, |x| x * other(x)?),
        row("`x / y`", MATRIX, |x| x / (other(x)? + 3.)?),
        row("`maximum`", MATRIX, |x| x.maximum(&other(x)?)),
        row("`minimum`", MATRIX, |x| x.minimum(&other(x)?)),
        row("`affine`", MATRIX, |x| x.affine(3., 1.)),
        row("`broadcast_add`", MATRIX, |x| x.broadcast_add(&x.narrow(0, 0, 1)?)),
        row("`broadcast_mul`", MATRIX, |x| x.broadcast_mul(&x.narrow(0, 0, 1)?)),
        row("`broadcast_div`", MATRIX, |x| x.broadcast_div(&(x.narrow(0, 0, 1)?.sqr()? + 1.)?)),
        row("`broadcast_maximum`", MATRIX, |x| x.broadcast_maximum(&x.narrow(0, 0, 1)?.sin()?)),
        row("`broadcast_pow`", MATRIX, |x| x.broadcast_pow(&x.narrow(0, 0, 1)?)).of(Positive),
        row("`pow`", MATRIX, |x| x.pow(&other(x)?)).of(Positive),
        row("`powf`", MATRIX, |x| x.powf(2.5)).of(Positive),
        row("`elu`", MATRIX, |x| x.elu(1.3)),
        row("`exp`", MATRIX, Tensor::exp),
        row("`log`", MATRIX, Tensor::log).of(Positive),
        row("`sin`", MATRIX, Tensor::sin),
        row("`cos`", MATRIX, Tensor::cos),
        row("`tanh`", MATRIX, Tensor::tanh),
        row("`abs`", MATRIX, Tensor::abs),
        row("`neg`", MATRIX, Tensor::neg),
        row("`recip`", MATRIX, Tensor::recip).of(Positive),
        row("`sqr`", MATRIX, Tensor::sqr),
        row("`sqrt`", MATRIX, Tensor::sqrt).of(Positive),
        row("`gelu`", MATRIX, Tensor::gelu),
        row("`gelu_erf`", MATRIX, Tensor::gelu_erf),
        row("`erf`", MATRIX, Tensor::erf),
        row("`relu`", MATRIX, Tensor::relu),
        row("`silu`", MATRIX, Tensor::silu),
        row("`clamp`", MATRIX, |x| x.clamp(-0.5, 0.6)),
        row("`where_cond`", MATRIX, |x| x.gt(0f64)?.where_cond(&x.sqr()?, &x.exp()?)),
        row("`sum`", MATRIX, |x| x.sum(1)),
        row("`mean`", MATRIX, |x| x.mean(0)),
        row("`var`", MATRIX, |x| x.var(1)),
        row("`max`", MATRIX, |x| x.max(1)),
        row("`min`", MATRIX, |x| x.min(1)),
        row("`max_all`", MATRIX, Tensor::max_all),
        row("`norm`", MATRIX, Tensor::norm),
        row("`log_sum_exp`", MATRIX, |x| x.log_sum_exp(1)),
        row("`cumsum`", MATRIX, |x| x.cumsum(1)),
        row("`matmul`", MATRIX, |x| x.matmul(&other(x)?.t()?)),
        row("`broadcast_matmul`", MATRIX, |x| {
            x.unsqueeze(0)?.broadcast_matmul(&Tensor::stack(&[x.t()?, other(x)?.t()?], 0)?)
        }),
        row("`mv`", MATRIX, |x| x.mv(&x.get(0)?)),
        row("`dot`", VECTOR, |x| x.dot(&other(x)?)),
        row("`reshape`", MATRIX, |x| x.reshape((2, 6))?.sqr()),
        row("`transpose`", MATRIX, |x| x.transpose(0, 1)?.sqr()),
        row("`permute`", IMAGE, |x| x.permute((3, 1, 0, 2))?.sqr()),
        row("`narrow`", MATRIX, |x| x.narrow(1, 1, 2)?.sqr()),
        row("`chunk`", MATRIX, |x| Tensor::cat(&x.chunk(2, 1)?, 0)?.sqr()),
        row("`roll`", MATRIX, |x| x.roll(1, 1)?.sqr()),
        row("`flip`", MATRIX, |x| x.flip(&[1])?.sqr()),
        row("`repeat`", MATRIX, |x| x.repeat((2, 1))?.sqr()),
        row("`broadcast_as`", VECTOR, |x| x.broadcast_as((3, 6))?.sqr()),
        row("`squeeze`, `unsqueeze`", MATRIX, |x| x.unsqueeze(1)?.sqr()?.squeeze(1)),
        row("`cat`", MATRIX, |x| Tensor::cat(&[x, &other(x)?], 1)?.sqr()),
        row("`stack`", MATRIX, |x| Tensor::stack(&[x, &other(x)?], 1)?.sqr()),
        row("`pad_with_zeros`", MATRIX, |x| x.pad_with_zeros(1, 1, 2)?.sqr()),
        row("`pad_with_same`", MATRIX, |x| x.pad_with_same(1, 1, 2)?.sqr()),
        row("`contiguous`, `copy`", MATRIX, |x| x.t()?.contiguous()?.copy()?.sqr()),
        row("`to_dtype`", MATRIX, |x| x.to_dtype(DType::F64)?.sqr()),
        row("`index_select`", MATRIX, |x| x.index_select(&ids(&[2, 0, 2, 1], &[4])?, 0)?.sqr()),
        row("`embedding`", MATRIX, |x| x.embedding(&ids(&[2, 0, 2], &[3])?)?.sqr()),
        row("`gather`", MATRIX, |x| x.gather(&ids(&[0, 0, 3, 1, 2, 2], &[3, 2])?, 1)?.sqr()),
        row("`index_add`", MATRIX, |x| x.index_add(&ids(&[1, 1], &[2])?, &other(x)?.narrow(0, 0, 2)?, 0)),
        row("`scatter`", MATRIX, |x| {
            x.scatter(&ids(&[1, 3, 0, 2, 2, 3], &[3, 2])?, &other(x)?.narrow(1, 0, 2)?, 1)
        }),
        row("`scatter_add`", MATRIX, |x| {
            x.scatter_add(&ids(&[1, 3, 0, 2, 2, 3], &[3, 2])?, &other(x)?.narrow(1, 0, 2)?, 1)
        }),
        row("`scatter_add`, as many as it has", MATRIX, |x| {
            x.scatter_add(&ids(&[1, 3, 0, 2, 2, 3, 1, 0, 0, 0, 0, 0], &[3, 4])?, &other(x)?, 1)
        }),
        row("`slice_scatter`", MATRIX, |x| x.slice_scatter(&other(x)?.narrow(0, 0, 1)?, 0, 1)),
        row("`slice_assign`", MATRIX, |x| x.slice_assign(&[1..2, 0..4], &other(x)?.narrow(0, 0, 1)?)),
        row("`sort_last_dim`", MATRIX, |x| x.sort_last_dim(true)?.0.sqr()),
        row("`unfold`", VECTOR, |x| x.unfold(0, 3, 1)?.sqr()),
        row("`triu2` as a mask", &[3, 3], |x| x.sqr()? * Tensor::triu2(3, DType::F64, device())?),
        row("`conv1d`", &[2, 3, 6], |x| x.conv1d(&other(x)?.narrow(2, 0, 2)?, 1, 1, 1, 1)),
        row("`conv_transpose1d`", &[3, 3, 5], |x| {
            x.conv_transpose1d(&other(x)?.narrow(2, 0, 2)?, 0, 0, 1, 1, 1)
        }),
        row("`conv2d`", IMAGE, |x| x.conv2d(&other(x)?.narrow(2, 0, 2)?.narrow(3, 0, 2)?, 1, 1, 1, 1)),
        row("`conv_transpose2d`", &[3, 3, 4, 4], |x| {
            x.conv_transpose2d(&other(x)?.narrow(2, 0, 2)?.narrow(3, 0, 2)?, 0, 0, 1, 1)
        }),
        row("`avg_pool2d`", IMAGE, |x| x.avg_pool2d(2)?.sqr()),
        row("`max_pool2d`", IMAGE, |x| x.max_pool2d(2)?.sqr()),
        row("`upsample_nearest1d`", &[2, 3, 4], |x| x.upsample_nearest1d(8)?.sqr()),
        row("`upsample_nearest2d`", IMAGE, |x| x.upsample_nearest2d(8, 8)?.sqr()),
        row("`upsample_bilinear2d`", IMAGE, |x| x.upsample_bilinear2d(8, 8, false)?.sqr()),
        row("`ceil`, `floor`, `round`, `sign`", MATRIX, |x| {
            x.ceil()? + (x.floor()? + (x.round()? + x.sign()?)?)?
        }),
        row("candle-nn `softmax`", MATRIX, |x| candle_nn::ops::softmax(x, 1)),
        row("candle-nn `log_softmax`", MATRIX, |x| candle_nn::ops::log_softmax(x, 1)),
        row("candle-nn `softmax_last_dim`", MATRIX, candle_nn::ops::softmax_last_dim),
        row("candle-nn `sigmoid`", MATRIX, candle_nn::ops::sigmoid),
        row("candle-nn `silu`", MATRIX, candle_nn::ops::silu),
        row("candle-nn `swiglu`", MATRIX, candle_nn::ops::swiglu),
        row("candle-nn `hard_sigmoid`", MATRIX, candle_nn::ops::hard_sigmoid),
        row("candle-nn `mish`", MATRIX, candle_nn::ops::mish),
        row("candle-nn `leaky_relu`", MATRIX, |x| candle_nn::ops::leaky_relu(x, 0.1)),
        row("candle-nn `selu`", MATRIX, |x| candle_nn::ops::selu(x, 1.6, 1.05)),
        row("candle-nn `rms_norm`", MATRIX, |x| {
            in_f32(x, |x| candle_nn::ops::rms_norm(x, &x.get(0)?.contiguous()?, 1e-5))
        }),
        row("candle-nn `rms_norm_slow`", MATRIX, |x| candle_nn::ops::rms_norm_slow(x, &x.get(0)?, 1e-5)),
        row("candle-nn `layer_norm`", MATRIX, |x| {
            in_f32(x, |x| {
                candle_nn::ops::layer_norm(x, &x.get(0)?.contiguous()?, &x.get(1)?.contiguous()?, 1e-5)
            })
        }),
        row("candle-nn `layer_norm_slow`", MATRIX, |x| {
            candle_nn::ops::layer_norm_slow(x, &x.get(0)?, &x.get(1)?, 1e-5)
        }),
        row("candle-nn `rope`", IMAGE, |x| {
            in_f32(x, |x| candle_nn::rotary_emb::rope(x, &angles(x)?, &angles(x)?))
        }),
        row("candle-nn `rope_i`", IMAGE, |x| {
            in_f32(x, |x| candle_nn::rotary_emb::rope_i(x, &angles(x)?, &angles(x)?))
        }),
        row("candle-nn `rope_thd`", &[2, 4, 3, 4], |x| {
            in_f32(x, |x| candle_nn::rotary_emb::rope_thd(x, &angles(x)?, &angles(x)?))
        }),
        row("candle-nn `rope_slow`", IMAGE, |x| {
            candle_nn::rotary_emb::rope_slow(x, &angles(x)?, &angles(x)?)
        }),
        row("candle-nn `rope_i_slow`", IMAGE, |x| {
            candle_nn::rotary_emb::rope_i_slow(x, &angles(x)?, &angles(x)?)
        }),
        row("candle-nn `pixel_shuffle`", &[2, 4, 2, 2], |x| candle_nn::ops::pixel_shuffle(x, 2)?.sqr()),
        row("candle-nn `pixel_unshuffle`", IMAGE, |x| candle_nn::ops::pixel_unshuffle(x, 2)?.sqr()),
        row("candle-nn `replication_pad2d`", IMAGE, |x| candle_nn::ops::replication_pad2d(x, 1)?.sqr()),
        row("candle-nn `cross_entropy`", MATRIX, |x| {
            candle_nn::loss::cross_entropy(x, &ids(&[1, 3, 0], &[3])?)
        }),
        row("candle-nn `nll`", MATRIX, |x| candle_nn::loss::nll(x, &ids(&[1, 3, 0], &[3])?)),
        row("candle-nn `mse`", MATRIX, |x| candle_nn::loss::mse(x, &other(x)?)),
        row("candle-nn `binary_cross_entropy_with_logit`", MATRIX, |x| {
            candle_nn::loss::binary_cross_entropy_with_logit(x, &x.detach().gt(0f64)?.to_dtype(DType::F64)?)
        }),
        row("candle-nn `huber`", MATRIX, |x| candle_nn::loss::huber(x, &other(x)?, 0.5)),
    ]
}

/// What a comparison with finite differences says.
fn verdict(
    x: &Leaf<Parameter>,
    f: impl Fn(&mut Leaf<Parameter>) -> treex_core::Result<Tensor>,
) -> &'static str {
    match check_gradients(x, Parameter, f) {
        Ok(()) => "right",
        Err(error) if error.to_string().contains("does not depend on any selected leaf") => "none",
        Err(error) if error.kind() == ErrorKind::Gradient => "**wrong**",
        Err(_) => "error",
    }
}

/// The gradient, and the gradient of the gradient.
fn verdicts(row: &Row) -> [&'static str; 2] {
    let x = Leaf::<Parameter>::new(row.input()).unwrap();
    // The input has a use before the operation and one after it, whose gradients the operation's must not overwrite.
    let loss = |x: &mut Leaf<Parameter>| {
        let x = x.get()?.affine(1.5, 0.)?;
        let before = x.sin()?.sum_all()?;
        let y = (row.f)(&x)?;
        let after = x.cos()?.sum_all()?;
        let y = (&y * Key::from(7).normal(y.shape(), DType::F64)?.to_device(y.device())?)?.sum_all()?;
        Ok(if x.track_op() && !y.track_op() { y } else { ((before + y)? + after)? })
    };
    let first = verdict(&x, loss);
    if first != "right" {
        return [first, ""];
    }
    let second = verdict(&x, |x| {
        let (_, gradient) = x.value_and_grad(Parameter, loss)?;
        let gradient = gradient.get()?;
        Ok((&gradient * Key::from(8).normal(gradient.shape(), DType::F64)?.to_device(gradient.device())?)?
            .sum_all()?)
    });
    // A gradient that does not change has none.
    [first, if second == "none" { "right" } else { second }]
}

fn main() {
    enable_nested_gradients().unwrap();
    let mut table = String::from("| operation | gradient | gradient of the gradient |\n|---|---|---|\n");
    for row in rows() {
        let [first, second] = verdicts(&row);
        writeln!(table, "| {} | {first} | {second} |", row.name).unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/candle-gradients.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let start = text.find("| operation |").unwrap();
    let end = start + text[start..].find("\n\n").map_or(text.len() - start, |end| end + 1);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, [&text[..start], &table, &text[end..]].concat()).unwrap();
    } else {
        let (found, expected): (Vec<_>, Vec<_>) =
            (table.lines().collect(), text[start..end].lines().collect());
        let differences: Vec<_> = found.iter().zip(&expected).filter(|(a, b)| a != b).collect();
        let here: Vec<_> = differences.iter().map(|(found, _)| **found).collect();
        let allowed = if device().is_cpu() { &[] } else { ON_CUDA };
        assert_eq!(here, allowed, "`docs/candle-gradients.md` differs; see the head of this test");
        assert_eq!(found.len(), expected.len());
    }
    println!("candle_gradients: {} operations as in docs/candle-gradients.md", rows().len());
}
