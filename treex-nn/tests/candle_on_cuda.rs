//! Candle's operations on a CUDA device against Candle's on the CPU: `TREEX_TEST_DEVICE=cuda`.
//!
//! Each row is an operation, the types it is run in, and the tolerance, stated before it was first run. Where the two
//! differ by more, the row is in `DIFFERENCES`, with who is right; that it still differs is tested as well.

use std::collections::BTreeSet;
use std::io::{Write as _, stderr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, DType, Device, IndexOp as _, Result, Tensor};
use candle_nn::{Linear, Module as _, loss, ops, rotary_emb};
use treex_testing::device;

/// How far apart the numbers of two devices may be. An epsilon is the distance from 1 to the next number of the type.
#[derive(Clone, Copy, Debug)]
enum Tolerance {
    /// Not at all; NaN is NaN.
    Exact,
    /// So many epsilons, relative to the number itself.
    Relative(f64),
    /// So many epsilons, relative to the largest number of the result: of sums and differences that cancel.
    OfLargest(f64),
}
use Tolerance::{Exact, OfLargest, Relative};

/// What an operation is given, on one device and in one type.
struct Inputs {
    dtype: DType,
    device: Device,
    /// 33 x 70, of both signs.
    x: Tensor,
    /// 33 x 70, from 0.5 to 2.
    y: Tensor,
    /// 3 x 5 x 7, of both signs.
    cube: Tensor,
    /// 70 x 19.
    w: Tensor,
    /// 4 x 5 x 6 and 4 x 6 x 3.
    left: Tensor,
    right: Tensor,
    /// 2 x 3 x 9 x 10.
    images: Tensor,
    /// 2 x 3 x 20.
    signals: Tensor,
    /// 4 x 3 x 3 x 3, from channels to channels.
    kernels: Tensor,
    /// NaN, infinities, zeros, the smallest and the largest numbers, 1 and -1, halves; of whole numbers some of the range.
    odd: Tensor,
    /// 5 rows of `x`, of type `u32`, one of them twice.
    ids: Tensor,
}

/// Numbers that are the same in each run, from 0 to 1.
fn uniform(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..len).map(|_| next()).collect()
}

impl Inputs {
    /// On the CPU.
    fn new(dtype: DType) -> Result<Self> {
        let cpu = Device::Cpu;
        let of = |shape: &[usize], low: f64, high: f64, seed| {
            let values = uniform(shape.iter().product(), seed);
            // Whole numbers are from 1 to 15, so that sums and products of two are of each type.
            let value =
                |v: &f64| if dtype.is_float() { low + (high - low) * v } else { 1.0 + (14.0 * v).floor() };
            Tensor::from_vec(values.iter().map(value).collect::<Vec<f64>>(), shape, &cpu)?.to_dtype(dtype)
        };
        let (tiny, largest) = match dtype {
            DType::F16 => (6e-8, 65504.0),
            DType::BF16 | DType::F32 => (1e-40, 3.3e38),
            DType::F8E4M3 => (0.002, 448.0),
            _ => (5e-324, f64::MAX),
        };
        let mut odd = vec![0.0, 1.0, 2.0, 3.0, 100.0, 127.0, 300.0];
        if dtype.is_float() {
            odd.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5]);
            odd.extend([tiny, -tiny, largest, -largest, 20.0, -20.0]);
        }
        Ok(Self {
            dtype,
            x: of(&[33, 70], -3.0, 3.0, 1)?,
            y: of(&[33, 70], 0.5, 2.0, 2)?,
            cube: of(&[3, 5, 7], -3.0, 3.0, 3)?,
            w: of(&[70, 19], -1.0, 1.0, 4)?,
            left: of(&[4, 5, 6], -1.0, 1.0, 5)?,
            right: of(&[4, 6, 3], -1.0, 1.0, 6)?,
            images: of(&[2, 3, 9, 10], -1.0, 1.0, 7)?,
            signals: of(&[2, 3, 20], -1.0, 1.0, 8)?,
            kernels: of(&[4, 3, 3, 3], -1.0, 1.0, 9)?,
            odd: Tensor::new(odd, &cpu)?.to_dtype(dtype)?,
            ids: Tensor::new(&[3_u32, 0, 32, 3, 7], &cpu)?,
            device: cpu,
        })
    }

    fn map(&self, device: &Device, dtype: DType) -> Result<Self> {
        let to = |t: &Tensor| t.to_dtype(dtype)?.to_device(device);
        Ok(Self {
            dtype,
            device: device.clone(),
            x: to(&self.x)?,
            y: to(&self.y)?,
            cube: to(&self.cube)?,
            w: to(&self.w)?,
            left: to(&self.left)?,
            right: to(&self.right)?,
            images: to(&self.images)?,
            signals: to(&self.signals)?,
            kernels: to(&self.kernels)?,
            odd: to(&self.odd)?,
            ids: self.ids.to_device(device)?,
        })
    }

    /// The first row of `y`, and the second.
    fn scale_and_shift(&self) -> Result<(Tensor, Tensor)> {
        Ok((self.y.i(0)?, self.y.i(1)?))
    }

    /// 2 x 3 x 4 x 10, with cosines and sines of 4 x 5.
    fn rotary(&self) -> Result<(Tensor, Tensor, Tensor)> {
        let x = self.images.narrow(2, 0, 4)?.contiguous()?;
        let angles = self.left.i(0)?.narrow(0, 0, 4)?.narrow(1, 0, 5)?.contiguous()?;
        Ok((x, angles.cos()?, angles.sin()?))
    }
}

type Run = fn(&Inputs) -> Result<Tensor>;
type Operation = Box<dyn Fn(&Inputs) -> Result<Tensor>>;

/// A row of the table.
struct Row {
    name: String,
    types: Vec<DType>,
    tolerance: Tolerance,
    run: Operation,
    /// Why numbers of 16 bits are compared with the CPU's in 32 bits, of the same inputs.
    wide: Option<&'static str>,
    /// Why it differs, whatever the type.
    differs: Option<&'static str>,
}

const FLOATS: &[DType] = &[DType::F32, DType::F64, DType::F16, DType::BF16];
const INTEGERS: &[DType] = &[DType::U8, DType::U32, DType::I64];
const ALL: &[DType] = &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::U8, DType::U32, DType::I64];
const HALVES: &[DType] = &[DType::F16, DType::BF16];
const F32: &[DType] = &[DType::F32];
const F32_F64: &[DType] = &[DType::F32, DType::F64];

const SUMS: &str = "the CPU adds numbers of 16 bits in 16 bits, a device in 32";
const STEPS: &str = "each step of a composition rounds to 16 bits, where a kernel rounds once";

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |types: &[DType], tolerance, wide, table: &[(&str, Run)]| {
        rows.extend(table.iter().map(|&(name, run)| Row {
            name: name.to_owned(),
            types: types.to_vec(),
            tolerance,
            run: Box::new(run),
            wide,
            differs: None,
        }));
    };

    // What is rounded correctly, or not at all.
    add(
        FLOATS,
        Exact,
        None,
        &[
            ("neg", |i| i.x.neg()),
            ("abs", |i| i.x.abs()),
            ("sqr", |i| i.x.sqr()),
            ("sqrt", |i| i.y.sqrt()),
            ("recip", |i| i.y.recip()),
            ("relu", |i| i.x.relu()),
            ("ceil", |i| i.x.ceil()),
            ("floor", |i| i.x.floor()),
            ("round", |i| i.x.round()),
            ("sign", |i| i.x.sign()),
            ("sub", |i| &i.x - &i.y),
            ("div", |i| &i.x / &i.y),
            ("clamp", |i| i.x.clamp(-1.0, 1.5)),
            ("neg, odd numbers", |i| i.odd.neg()),
            ("abs, odd numbers", |i| i.odd.abs()),
            ("sqr, odd numbers", |i| i.odd.sqr()),
            ("sqrt, odd numbers", |i| i.odd.sqrt()),
            ("recip, odd numbers", |i| i.odd.recip()),
            ("relu, odd numbers", |i| i.odd.relu()),
            ("ceil, odd numbers", |i| i.odd.ceil()),
            ("floor, odd numbers", |i| i.odd.floor()),
            ("round, odd numbers", |i| i.odd.round()),
            ("sign, odd numbers", |i| i.odd.sign()),
            ("div, odd numbers", |i| i.odd.unsqueeze(1)?.broadcast_div(&i.odd.unsqueeze(0)?)),
        ],
    );
    add(
        ALL,
        Exact,
        None,
        &[
            ("add", |i| &i.x + &i.y),
            ("mul", |i| &i.x * &i.y),
            ("maximum", |i| i.x.maximum(&i.y)),
            ("minimum", |i| i.x.minimum(&i.y)),
            ("maximum, odd numbers", |i| i.odd.unsqueeze(1)?.broadcast_maximum(&i.odd.unsqueeze(0)?)),
            ("minimum, odd numbers", |i| i.odd.unsqueeze(1)?.broadcast_minimum(&i.odd.unsqueeze(0)?)),
            ("add, transposed", |i| i.x.t()? + i.y.t()?),
            ("add, one transposed", |i| i.x.reshape((70, 33))?.t()? + &i.y),
            ("broadcast add of a row", |i| i.x.broadcast_add(&i.y.narrow(0, 2, 1)?)),
            ("broadcast mul of a column", |i| i.x.broadcast_mul(&i.y.narrow(1, 3, 1)?)),
            ("broadcast mul of a number", |i| i.cube.broadcast_mul(&i.y.i((2, 2))?)),
            ("broadcast add of three axes", |i| {
                i.cube.narrow(1, 0, 1)?.broadcast_add(&i.cube.narrow(0, 1, 1)?)
            }),
            ("eq", |i| i.x.eq(&i.x.roll(1, 1)?)),
            ("ne", |i| i.x.ne(&i.x.roll(1, 1)?)),
            ("lt", |i| i.x.lt(&i.y)),
            ("le", |i| i.x.le(&i.y)),
            ("gt", |i| i.x.gt(&i.y)),
            ("ge", |i| i.x.ge(&i.y)),
            ("eq, odd numbers", |i| i.odd.unsqueeze(1)?.broadcast_eq(&i.odd.unsqueeze(0)?)),
            ("ne, odd numbers", |i| i.odd.unsqueeze(1)?.broadcast_ne(&i.odd.unsqueeze(0)?)),
            ("lt, odd numbers", |i| i.odd.unsqueeze(1)?.broadcast_lt(&i.odd.unsqueeze(0)?)),
            ("ge, odd numbers", |i| i.odd.unsqueeze(1)?.broadcast_ge(&i.odd.unsqueeze(0)?)),
            ("gt, transposed", |i| i.x.t()?.gt(&i.y.t()?)),
            ("where by u8", |i| i.x.gt(&i.y)?.where_cond(&i.x, &i.y)),
            ("where by u32", |i| i.x.gt(&i.y)?.to_dtype(DType::U32)?.where_cond(&i.x, &i.y)),
            ("where by i64", |i| i.x.gt(&i.y)?.to_dtype(DType::I64)?.where_cond(&i.x, &i.y)),
            ("where, transposed", |i| i.x.gt(&i.y)?.t()?.where_cond(&i.x.t()?, &i.y.t()?)),
            ("where, broadcast", |i| {
                let mask = i.x.gt(&i.y)?.narrow(0, 0, 1)?.broadcast_as((33, 70))?;
                mask.where_cond(&i.x, &i.y.narrow(1, 0, 1)?.broadcast_as((33, 70))?)
            }),
        ],
    );

    // What a reduction selects.
    add(
        ALL,
        Exact,
        None,
        &[
            ("max of the last axis", |i| i.x.max(1)),
            ("max of the first axis", |i| i.x.max(0)),
            ("max of the middle axis", |i| i.cube.max(1)),
            ("max of all", |i| i.x.max_all()),
            ("min of the last axis", |i| i.x.min_keepdim(1)),
            ("min of the first axis", |i| i.x.min(0)),
            ("min, transposed", |i| i.x.t()?.min(0)),
            ("argmax of the last axis", |i| i.x.argmax(1)),
            ("argmax of the first axis", |i| i.x.argmax(0)),
            ("argmax of the middle axis", |i| i.cube.argmax(1)),
            ("argmin of the last axis", |i| i.x.argmin(1)),
            ("argmin of the first axis", |i| i.x.argmin_keepdim(0)),
            ("argmin of the middle axis", |i| i.cube.argmin(1)),
            ("argmax of different numbers", |i| different(i)?.argmax(1)),
            ("argmax of different numbers, first axis", |i| different(i)?.argmax(0)),
            ("argmin of different numbers", |i| different(i)?.argmin(1)),
            ("argmin of different numbers, first axis", |i| different(i)?.argmin(0)),
            ("argmax of equal numbers", |i| i.x.zeros_like()?.argmax(1)),
            ("argmin of equal numbers", |i| i.x.ones_like()?.argmin(1)),
        ],
    );
    add(
        FLOATS,
        Exact,
        None,
        &[
            ("max of NaN", |i| i.odd.max(0)),
            ("min of NaN", |i| i.odd.min(0)),
            ("argmax of NaN", |i| i.odd.argmax(0)),
        ],
    );

    // Sums: each of n additions rounds once, and the orders differ.
    add(
        FLOATS,
        OfLargest(70.0),
        Some(SUMS),
        &[
            ("sum of the last axis", |i| i.x.sum(1)),
            ("sum of the first axis", |i| i.x.sum(0)),
            ("sum of the middle axis", |i| i.cube.sum(1)),
            ("sum of two axes", |i| i.cube.sum((0, 2))),
            ("sum of two axes, kept", |i| i.cube.sum_keepdim((1, 2))),
            ("sum, transposed", |i| i.x.t()?.sum(1)),
            ("sum of a part", |i| i.x.narrow(1, 3, 40)?.narrow(0, 2, 20)?.sum(1)),
            ("sum of all", |i| i.x.abs()?.sum_all()),
            ("mean of the last axis", |i| i.x.mean(1)),
            ("mean of all", |i| i.x.abs()?.mean_all()),
            ("var of the last axis", |i| i.x.var(1)),
            ("norm", |i| i.x.norm()),
            ("log_sum_exp", |i| i.x.log_sum_exp(1)),
            ("cumsum of the last axis", |i| i.x.cumsum(1)),
            ("cumsum of the first axis", |i| i.x.cumsum(0)),
        ],
    );
    add(
        INTEGERS,
        Exact,
        None,
        &[
            ("sum of whole numbers of the last axis", |i| i.cube.sum(2)),
            ("sum of whole numbers of the first axis", |i| i.cube.sum(0)),
            ("sum of whole numbers of two axes", |i| i.cube.narrow(0, 0, 1)?.sum((0, 1))),
        ],
    );

    // Functions: CUDA's guide gives at most 2 units in the last place, and the CPU has 1.
    add(
        FLOATS,
        Relative(3.0),
        None,
        &[
            ("exp", |i| i.x.exp()),
            ("exp, odd numbers", |i| i.odd.exp()),
            ("log", |i| i.y.log()),
            ("log, odd numbers", |i| i.odd.log()),
            ("sin", |i| i.x.sin()),
            ("cos", |i| i.x.cos()),
            ("tanh", |i| i.x.tanh()),
            ("tanh, odd numbers", |i| i.odd.tanh()),
            ("erf", |i| i.x.erf()),
            ("erf, odd numbers", |i| i.odd.erf()),
        ],
    );
    add(
        F32_F64,
        Relative(3.0),
        None,
        &[
            ("sin of large numbers", |i| (&i.x * 1e5)?.sin()),
            ("cos of large numbers", |i| (&i.x * 1e5)?.cos()),
        ],
    );
    // As above, and products with what the functions give.
    add(
        FLOATS,
        Relative(5.0),
        None,
        &[
            ("silu", |i| i.x.silu()),
            ("sigmoid", |i| ops::sigmoid(&i.x)),
            ("sigmoid, odd numbers", |i| ops::sigmoid(&i.odd)),
            ("elu, odd numbers", |i| i.odd.elu(0.7)),
            ("powf", |i| i.y.powf(2.3)),
            ("powf to 2", |i| i.x.powf(2.0)),
            ("powf to 0.5", |i| i.y.powf(0.5)),
            ("affine", |i| i.x.affine(2.0, 0.25)),
            ("affine, transposed", |i| i.x.t()?.affine(0.5, 1.0)),
            ("multiply and divide by numbers", |i| (&i.x * 3.0)? / 8.0),
        ],
    );
    // `1 + tanh`, `1 + erf` and `exp - 1` cancel.
    add(
        FLOATS,
        OfLargest(4.0),
        Some(STEPS),
        &[
            ("gelu", |i| i.x.gelu()),
            ("elu", |i| i.x.elu(0.7)),
            ("gelu by erf", |i| i.x.gelu_erf()),
            ("hard sigmoid", |i| ops::hard_sigmoid(&i.x)),
            ("leaky relu", |i| ops::leaky_relu(&i.x, 0.1)),
            ("mish", |i| ops::mish(&i.x)),
            ("swiglu", |i| ops::swiglu(&i.x)),
            ("pow of two tensors", |i| i.y.pow(&i.x)),
            ("broadcast pow", |i| i.y.broadcast_pow(&i.y.narrow(0, 0, 1)?)),
        ],
    );
    add(
        FLOATS,
        Relative(5.0),
        None,
        &[("gelu, odd numbers", |i| i.odd.gelu()), ("silu, odd numbers", |i| i.odd.silu())],
    );
    add(F32, OfLargest(4.0), None, &[("selu", |i| ops::selu(&i.x, 1.67, 1.05))]);

    // Kernels of candle-nn: sums over 70 numbers, then divisions and functions.
    add(
        FLOATS,
        OfLargest(16.0),
        Some(SUMS),
        &[
            ("softmax of the last axis", |i| ops::softmax(&i.x, D::Minus1)),
            ("softmax of the first axis", |i| ops::softmax(&i.x, 0)),
            ("softmax of the middle axis", |i| ops::softmax(&i.cube, 1)),
            ("softmax_last_dim", |i| ops::softmax_last_dim(&i.x)),
            ("log_softmax", |i| ops::log_softmax(&i.x, D::Minus1)),
            ("layer_norm_slow", |i| {
                let (scale, shift) = i.scale_and_shift()?;
                ops::layer_norm_slow(&i.x, &scale, &shift, 1e-5)
            }),
            ("rms_norm_slow", |i| ops::rms_norm_slow(&i.x, &i.scale_and_shift()?.0, 1e-5)),
            ("rope", |i| {
                let (x, cos, sin) = i.rotary()?;
                rotary_emb::rope(&x, &cos, &sin)
            }),
            ("rope_i", |i| {
                let (x, cos, sin) = i.rotary()?;
                rotary_emb::rope_i(&x, &cos, &sin)
            }),
            ("rope_thd", |i| {
                let (x, cos, sin) = i.rotary()?;
                rotary_emb::rope_thd(&x.transpose(1, 2)?.contiguous()?, &cos, &sin)
            }),
        ],
    );
    add(
        &[DType::F32, DType::F16, DType::BF16],
        OfLargest(16.0),
        Some(SUMS),
        &[
            ("layer_norm", |i| {
                let (scale, shift) = i.scale_and_shift()?;
                ops::layer_norm(&i.x, &scale, &shift, 1e-5)
            }),
            ("rms_norm", |i| ops::rms_norm(&i.x, &i.scale_and_shift()?.0, 1e-5)),
        ],
    );
    add(
        F32_F64,
        OfLargest(64.0),
        None,
        &[
            ("cross_entropy", |i| loss::cross_entropy(&i.x, &(i.x.argmax(1)? * 1.0)?.to_dtype(DType::U32)?)),
            ("mse", |i| loss::mse(&i.x, &i.y)),
            ("binary_cross_entropy_with_logit", |i| loss::binary_cross_entropy_with_logit(&i.x, &i.y)),
            ("huber", |i| loss::huber(&i.x, &i.y, 1.0)),
        ],
    );

    // Products: sums of up to 70 numbers.
    add(
        FLOATS,
        OfLargest(70.0),
        Some(SUMS),
        &[
            ("matmul", |i| i.x.matmul(&i.w)),
            ("matmul, both transposed", |i| i.w.t()?.matmul(&i.x.t()?)),
            ("matmul, the left transposed", |i| i.x.reshape((70, 33))?.t()?.matmul(&i.w)),
            ("matmul, the right transposed", |i| i.x.matmul(&i.y.t()?)),
            ("matmul of a part", |i| i.x.narrow(0, 3, 20)?.matmul(&i.w)),
            ("matmul of a batch", |i| i.left.matmul(&i.right)),
            ("matmul of a batch, transposed", |i| i.right.t()?.matmul(&i.left.t()?)),
            ("matmul, broadcast", |i| i.left.broadcast_matmul(&i.right.narrow(0, 0, 1)?)),
            ("matmul of a transposed batch and one matrix", |i| i.left.t()?.matmul(&one_matrix(i)?)),
            ("matmul of a copied batch and one matrix", |i| {
                i.left.t()?.contiguous()?.matmul(&one_matrix(i)?)
            }),
            ("linear layer of a transposed batch", |i| {
                Linear::new(i.right.i((0, ..5))?.t()?.contiguous()?, None).forward(&i.left.t()?)
            }),
            ("matmul of a row", |i| i.x.narrow(0, 0, 1)?.matmul(&i.w)),
            ("matmul of a column", |i| i.x.matmul(&i.w.narrow(1, 0, 1)?.contiguous()?)),
            ("matmul of four axes", |i| i.images.matmul(&i.images.transpose(2, 3)?)),
            ("mv", |i| i.x.mv(&i.w.narrow(1, 0, 1)?.contiguous()?.squeeze(1)?)),
            ("dot", |i| i.x.i(0)?.dot(&i.y.i(1)?)),
        ],
    );

    // Convolutions: sums of 27 numbers.
    add(
        FLOATS,
        OfLargest(32.0),
        Some(SUMS),
        &[
            ("conv1d", |i| {
                i.signals.conv1d(&i.kernels.narrow(3, 0, 1)?.squeeze(3)?.contiguous()?, 0, 1, 1, 1)
            }),
            ("conv1d with padding and stride", |i| {
                i.signals.conv1d(&i.kernels.narrow(3, 0, 1)?.squeeze(3)?.contiguous()?, 2, 2, 1, 1)
            }),
            ("conv1d with dilation", |i| {
                i.signals.conv1d(&i.kernels.narrow(3, 1, 1)?.squeeze(3)?.contiguous()?, 1, 1, 2, 1)
            }),
            ("conv1d in groups", |i| {
                i.signals.conv1d(&i.kernels.i((..3, ..1, .., 0))?.contiguous()?, 1, 1, 1, 3)
            }),
            ("conv2d", |i| i.images.conv2d(&i.kernels, 0, 1, 1, 1)),
            ("conv2d with padding", |i| i.images.conv2d(&i.kernels, 1, 1, 1, 1)),
            ("conv2d with stride", |i| i.images.conv2d(&i.kernels, 1, 2, 1, 1)),
            ("conv2d with dilation", |i| i.images.conv2d(&i.kernels, 2, 1, 2, 1)),
            ("conv2d in groups", |i| i.images.conv2d(&i.kernels.i((..3, ..1))?.contiguous()?, 1, 1, 1, 3)),
            ("conv2d of transposed images", |i| i.images.transpose(2, 3)?.conv2d(&i.kernels, 1, 1, 1, 1)),
            ("conv_transpose1d", |i| {
                let kernels = i.kernels.narrow(3, 0, 1)?.squeeze(3)?.transpose(0, 1)?.contiguous()?;
                i.signals.conv_transpose1d(&kernels, 0, 0, 1, 1, 1)
            }),
            ("conv_transpose1d of one signal", |i| {
                let kernels = i.kernels.narrow(3, 0, 1)?.squeeze(3)?.transpose(0, 1)?.contiguous()?;
                i.signals.narrow(0, 1, 1)?.conv_transpose1d(&kernels, 0, 0, 1, 1, 1)
            }),
            ("conv_transpose1d with stride and padding", |i| {
                let kernels = i.kernels.narrow(3, 0, 1)?.squeeze(3)?.transpose(0, 1)?.contiguous()?;
                i.signals.conv_transpose1d(&kernels, 1, 1, 2, 1, 1)
            }),
            ("conv_transpose2d", |i| {
                i.images.conv_transpose2d(&i.kernels.transpose(0, 1)?.contiguous()?, 0, 0, 1, 1)
            }),
            ("conv_transpose2d with stride and padding", |i| {
                i.images.conv_transpose2d(&i.kernels.transpose(0, 1)?.contiguous()?, 1, 1, 2, 1)
            }),
            ("avg_pool2d", |i| i.images.avg_pool2d(3)),
            ("avg_pool2d with stride", |i| i.images.avg_pool2d_with_stride((3, 2), (2, 1))),
            ("upsample_bilinear2d", |i| i.images.upsample_bilinear2d(18, 15, false)),
            ("upsample_bilinear2d of corners", |i| i.images.upsample_bilinear2d(18, 15, true)),
        ],
    );
    add(
        FLOATS,
        Exact,
        None,
        &[
            ("max_pool2d", |i| i.images.max_pool2d(3)),
            ("max_pool2d with stride", |i| i.images.max_pool2d_with_stride((3, 2), (2, 1))),
            ("upsample_nearest2d", |i| i.images.upsample_nearest2d(18, 20)),
            ("upsample_nearest2d to fewer", |i| i.images.upsample_nearest2d(5, 7)),
            ("interpolate1d", |i| i.signals.interpolate1d(30)),
            ("pixel_shuffle", |i| {
                ops::pixel_shuffle(&i.images.i(0)?.narrow(2, 0, 4)?.reshape((3, 4, 3, 3))?, 2)
            }),
            ("replication_pad2d", |i| ops::replication_pad2d(&i.images, 1)),
        ],
    );

    // Indices.
    add(
        ALL,
        Exact,
        None,
        &[
            ("index_select of rows", |i| i.x.index_select(&i.ids, 0)),
            ("index_select of columns", |i| i.x.index_select(&i.ids, 1)),
            ("index_select of the middle axis", |i| {
                i.cube.index_select(&(&i.ids.narrow(0, 0, 2)? * 1.0)?, 1)
            }),
            ("index_select by u8", |i| i.x.index_select(&i.ids.to_dtype(DType::U8)?, 0)),
            ("index_select by i64", |i| i.x.index_select(&i.ids.to_dtype(DType::I64)?, 0)),
            ("embedding", |i| i.x.embedding(&i.ids)),
            ("gather of columns", |i| i.x.narrow(0, 0, 5)?.gather(&i.ids.unsqueeze(1)?, 1)),
            ("gather of rows", |i| i.x.narrow(1, 0, 5)?.contiguous()?.gather(&i.ids.unsqueeze(0)?, 0)),
            ("gather by i64", |i| i.x.narrow(0, 0, 5)?.gather(&i.ids.unsqueeze(1)?.to_dtype(DType::I64)?, 1)),
            ("gather of the sorted", |i| i.x.gather(&i.x.arg_sort_last_dim(true)?, 1)),
            ("scatter", |i| {
                i.x.narrow(0, 0, 5)?.scatter(&i.ids.unsqueeze(1)?, &i.y.i((..5, ..1))?.contiguous()?, 1)
            }),
            ("slice_scatter", |i| i.x.slice_scatter(&i.y.narrow(1, 0, 7)?, 1, 5)),
            ("slice_assign", |i| i.x.slice_assign(&[2..5, 3..9], &i.y.i((2..5, 3..9))?)),
            ("narrow and copy", |i| i.x.narrow(1, 7, 20)?.contiguous()),
            ("transpose and copy", |i| i.x.t()?.contiguous()),
            ("permute and copy", |i| i.cube.permute((2, 0, 1))?.contiguous()),
            ("broadcast and copy", |i| i.x.narrow(1, 3, 1)?.broadcast_as((4, 33, 7))?.contiguous()),
            ("copy", |i| i.x.i((2.., 3..))?.copy()),
            ("cat of rows", |i| Tensor::cat(&[&i.x, &i.y], 0)),
            ("cat of columns", |i| Tensor::cat(&[&i.x, &i.y, &i.x], 1)),
            ("cat of the middle axis", |i| Tensor::cat(&[&i.cube, &i.cube.narrow(1, 1, 2)?], 1)),
            ("cat of views", |i| Tensor::cat(&[i.x.t()?, i.y.t()?], 1)),
            ("stack", |i| Tensor::stack(&[&i.x, &i.y], 1)),
            ("repeat", |i| i.cube.repeat((2, 1, 3))),
            ("roll", |i| i.x.roll(5, 1)),
            ("flip", |i| i.cube.flip(&[0, 2])),
            ("chunk", |i| i.x.chunk(4, 1)?[3].contiguous()),
            ("unfold", |i| i.x.unfold(1, 8, 4)?.contiguous()),
            ("pad_with_zeros", |i| i.x.pad_with_zeros(1, 2, 3)),
            ("pad_with_same", |i| i.x.pad_with_same(0, 2, 3)),
            ("arg_sort", |i| {
                (i.x.arg_sort_last_dim(true)?.to_dtype(DType::F32)? * 0.0)?
                    + i.x.sort_last_dim(true)?.0.to_dtype(DType::F32)
            }),
            ("sort downward", |i| Ok(i.x.sort_last_dim(false)?.0)),
            ("zeros", |i| Tensor::zeros((3, 4), i.dtype, &i.device)),
            ("ones", |i| Tensor::ones((3, 4), i.dtype, &i.device)),
            ("zero_set", |i| {
                let copy = i.x.copy()?;
                copy.i((.., 3..9))?.zero_set()?;
                Ok(copy)
            }),
            ("one_set", |i| {
                let copy = i.x.copy()?;
                copy.i((.., 3..9))?.one_set()?;
                Ok(copy)
            }),
            ("to the other device and back", |i| i.x.to_device(&Device::Cpu)?.to_device(&i.device)),
        ],
    );
    // Sums of two numbers, of which the order does not matter.
    add(
        ALL,
        Exact,
        None,
        &[
            ("index_add of rows", |i| i.x.index_add(&i.ids, &i.y.narrow(0, 0, 5)?, 0)),
            ("index_add of columns", |i| i.x.index_add(&i.ids, &i.y.narrow(1, 0, 5)?.contiguous()?, 1)),
            ("scatter_add of columns", |i| {
                i.x.narrow(0, 0, 5)?.scatter_add(&i.ids.unsqueeze(1)?, &i.y.i((..5, ..1))?.contiguous()?, 1)
            }),
            ("scatter_add of rows", |i| {
                i.x.narrow(1, 0, 1)?.contiguous()?.scatter_add(
                    &i.ids.unsqueeze(1)?,
                    &i.y.i((..5, ..1))?.contiguous()?,
                    0,
                )
            }),
        ],
    );
    add(
        FLOATS,
        Exact,
        None,
        &[
            ("tril2", |i| Tensor::tril2(5, i.dtype, &i.device)),
            ("triu2", |i| Tensor::triu2(5, i.dtype, &i.device)),
            ("eye", |i| Tensor::eye(5, i.dtype, &i.device)),
        ],
    );
    add(
        F32,
        Exact,
        None,
        &[
            ("arange", |i| Tensor::arange(0_u32, 100, &i.device)),
            ("full", |i| Tensor::full(1.5_f32, (3, 4), &i.device)),
            ("an upload of a view", |i| Tensor::new(&[[1_i64, 2], [3, 4]], &i.device)?.t()?.contiguous()),
        ],
    );

    // Nothing is a size too.
    add(
        FLOATS,
        Exact,
        None,
        &[
            ("add of nothing", |i| i.x.narrow(1, 0, 0)? + i.y.narrow(1, 0, 0)?),
            ("exp of nothing", |i| i.x.narrow(1, 0, 0)?.exp()),
            ("cast of nothing", |i| i.x.narrow(0, 0, 0)?.to_dtype(DType::F64)),
            ("copy of nothing", |i| i.x.narrow(1, 0, 0)?.contiguous()),
            ("cat with nothing", |i| Tensor::cat(&[i.x.narrow(0, 0, 0)?, i.y.clone()], 0)),
            ("sum over nothing", |i| i.x.narrow(1, 0, 0)?.sum(1)),
            ("sum to nothing", |i| i.x.narrow(1, 0, 0)?.sum(0)),
            ("matmul over nothing", |i| {
                i.x.narrow(1, 0, 0)?.contiguous()?.matmul(&i.w.narrow(0, 0, 0)?.contiguous()?)
            }),
            ("index_select of nothing", |i| i.x.index_select(&i.ids.narrow(0, 0, 0)?, 0)),
            ("an upload of nothing", |i| Tensor::from_vec(Vec::<f32>::new(), (0, 3), &i.device)),
            ("ones of nothing", |i| Tensor::ones((0, 3), i.dtype, &i.device)),
            ("affine of nothing", |i| i.x.narrow(1, 0, 0)?.affine(2.0, 1.0)),
            ("powf of nothing", |i| i.x.narrow(1, 0, 0)?.powf(2.0)),
            ("elu of nothing", |i| i.x.narrow(1, 0, 0)?.elu(1.0)),
            ("gt of nothing", |i| i.x.narrow(1, 0, 0)?.gt(&i.y.narrow(1, 0, 0)?)),
            ("where of nothing", |i| {
                let (x, y) = (i.x.narrow(1, 0, 0)?, i.y.narrow(1, 0, 0)?);
                x.gt(&y)?.where_cond(&x, &y)
            }),
            ("gather of nothing", |i| i.x.gather(&i.ids.narrow(0, 0, 0)?.unsqueeze(0)?, 1)),
            ("index_add of nothing", |i| i.x.index_add(&i.ids.narrow(0, 0, 0)?, &i.y.narrow(0, 0, 0)?, 0)),
            ("softmax of nothing", |i| ops::softmax_last_dim(&i.x.narrow(0, 0, 0)?)),
            ("layer_norm of nothing", |i| {
                let (scale, shift) = i.scale_and_shift()?;
                ops::layer_norm_slow(&i.x.narrow(0, 0, 0)?, &scale, &shift, 1e-5)
            }),
            ("conv2d of nothing", |i| i.images.narrow(0, 0, 0)?.conv2d(&i.kernels, 1, 1, 1, 1)),
            ("max_pool2d of nothing", |i| i.images.narrow(0, 0, 0)?.max_pool2d(3)),
            ("matmul of no rows", |i| i.x.narrow(0, 0, 0)?.matmul(&i.w)),
            ("arg_sort of nothing", |i| i.x.narrow(0, 0, 0)?.arg_sort_last_dim(true)),
            ("rand of nothing", |i| i.x.narrow(0, 0, 0)?.rand_like(0.0, 1.0)),
            ("zeros of nothing", |i| Tensor::zeros((0, 3), i.dtype, &i.device)),
        ],
    );

    // Random numbers are others than the CPU's: shape, type and bounds are what can be compared.
    add(
        FLOATS,
        Exact,
        None,
        &[
            ("rand", |i| {
                let drawn = i.x.rand_like(-1.0, 2.0)?.to_dtype(DType::F64)?;
                drawn.ge(-1.0)?.mul(&drawn.le(2.0)?)
            }),
            ("randn", |i| {
                let drawn = i.x.randn_like(1.0, 0.5)?.to_dtype(DType::F64)?;
                // 2310 numbers: a mean that is off by 0.1 is 9 standard errors away, and no number by 6 deviations.
                let mean = (drawn.mean_all()? - 1.0)?.abs()?.lt(0.1)?;
                (drawn - 1.0)?.abs()?.lt(3.0)?.broadcast_mul(&mean)
            }),
        ],
    );

    // Blocks of quantized numbers: a few operations in 32 bits each, of which the device may fuse two.
    add(
        F32,
        OfLargest(2.0),
        None,
        &[
            ("dequantize Q4_0", |i| quantized(i, GgmlDType::Q4_0)),
            ("dequantize Q4_1", |i| quantized(i, GgmlDType::Q4_1)),
            ("dequantize Q5_0", |i| quantized(i, GgmlDType::Q5_0)),
            ("dequantize Q5_1", |i| quantized(i, GgmlDType::Q5_1)),
            ("dequantize Q8_0", |i| quantized(i, GgmlDType::Q8_0)),
            ("dequantize Q2K", |i| quantized(i, GgmlDType::Q2K)),
            ("dequantize Q3K", |i| quantized(i, GgmlDType::Q3K)),
            ("dequantize Q4K", |i| quantized(i, GgmlDType::Q4K)),
            ("dequantize Q5K", |i| quantized(i, GgmlDType::Q5K)),
            ("dequantize Q6K", |i| quantized(i, GgmlDType::Q6K)),
        ],
    );
    rows.extend(casts());
    rows
}

/// All types that Candle's kernels have.
const TYPES: [DType; 10] = [
    DType::U8,
    DType::U32,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::BF16,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::F8E4M3,
];

/// 5 x 70 numbers, of which no row and no column has one twice.
fn different(i: &Inputs) -> Result<Tensor> {
    let number = |at: usize| ((37 * (at % 70) + 11 * (at / 70)) % 70) as f64;
    let numbers: Vec<f64> = (0..350).map(number).collect();
    Tensor::from_vec(numbers, (5, 70), &Device::Cpu)?.to_dtype(i.dtype)?.to_device(&i.device)
}

/// 5 x 3, for each of a batch of 4 the same.
fn one_matrix(i: &Inputs) -> Result<Tensor> {
    i.right.i((0, ..5))?.broadcast_left(4)
}

/// Casts between all types, of numbers that both have, and of others.
fn casts() -> Vec<Row> {
    let mut rows = Vec::new();
    let pairs = TYPES.into_iter().flat_map(|from| TYPES.map(|to| (from, to)));
    // On the CPU a cast from f8e4m3 to f64 never returns: Candle's `WithDType::to_f64` of this type calls itself.
    let hangs = (DType::F8E4M3, DType::F64);
    for (from, to) in pairs.filter(|&pair| pair.0 != pair.1 && pair != hangs) {
        let mut add = |what: &str, run: Operation| {
            let name = format!("cast from {} to {}{what}", from.as_str(), to.as_str());
            let differs = missing(from, to);
            rows.push(Row { name, types: vec![from], tolerance: Exact, run, wide: None, differs });
        };
        add("", Box::new(move |i| i.y.to_dtype(to)));
        add(", transposed", Box::new(move |i| i.y.t()?.to_dtype(to)));
        if from.is_float() {
            add(", odd numbers", Box::new(move |i| i.odd.to_dtype(to)));
        }
    }
    rows
}

/// Why Candle has no such cast on CUDA.
fn missing(from: DType, to: DType) -> Option<&'static str> {
    use DType::{BF16, F8E4M3, F16, I16, I32, I64};
    match (from, to) {
        (I16 | I32, _) | (_, I16 | I32) => Some("there are no kernels for i16 and i32"),
        (F8E4M3, _) | (_, F8E4M3) => {
            Some("the kernels have `f8_e4m3` in their names, and `f8e4m3` is asked for: none is found")
        }
        (I64, F16 | BF16) | (F16 | BF16, I64) => Some("there is no kernel"),
        _ => None,
    }
}

/// Quantized to blocks and back, 256 numbers each row.
fn quantized(i: &Inputs, to: GgmlDType) -> Result<Tensor> {
    // Of a view, Candle would quantize all that the storage has.
    let x = (i.x.flatten_all()?.narrow(0, 0, 2048)?.reshape((8, 256))? * 1.0)?;
    QTensor::quantize(&x, to)?.dequantize(&i.device)
}

/// How far apart the numbers are, as a part of what the tolerance allows; an error says what else differs.
fn difference(
    found: &Tensor,
    expected: &Tensor,
    of: DType,
    tolerance: Tolerance,
) -> std::result::Result<f64, String> {
    if found.dims() != expected.dims() {
        return Err(format!("the shape is {:?}, not {:?}", found.dims(), expected.dims()));
    }
    let numbers = |t: &Tensor| {
        let t = t.to_device(&Device::Cpu)?.flatten_all()?;
        let t = if t.dtype() == DType::F8E4M3 { t.to_dtype(DType::F32)? } else { t };
        t.to_dtype(DType::F64)?.to_vec1::<f64>()
    };
    let of_either = |t: &Tensor| numbers(t).map_err(|error| error.to_string());
    let (found, expected) = (of_either(found)?, of_either(expected)?);
    let (epsilon, smallest) = match of {
        DType::F16 => (2_f64.powi(-10), 2_f64.powi(-24)),
        DType::BF16 => (2_f64.powi(-7), 2_f64.powi(-133)),
        DType::F32 => (2_f64.powi(-23), 2_f64.powi(-149)),
        _ => (f64::EPSILON, 5e-324),
    };
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0, |most: f64, x| most.max(x.abs()));
    let mut most = 0.0_f64;
    for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
        if a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() {
            continue;
        }
        let allowed = match tolerance {
            Exact => 0.0,
            Relative(n) => n * (epsilon * b.abs() + smallest),
            OfLargest(n) => n * (epsilon * largest + smallest),
        };
        let part = if allowed > 0.0 { (a - b).abs() / allowed } else { f64::INFINITY };
        if part.is_nan() || part > 1.0 {
            return Err(format!("number {at} is {a:e}, not {b:e}, and {tolerance:?} allows {allowed:e}"));
        }
        most = most.max(part);
    }
    Ok(most)
}

const TIES: &str =
    "of equal numbers the CPU gives the first, and the kernel any: it compares halves of a block";
const NAN_OF_HALVES: &str =
    "the kernels of 16 bits keep NaN (`max.NaN`); the CPU drops one that comes second";
const ZEROS: &str = "by the PTX manual `min` and `max` give the number beside a NaN, and -0 is less than 0; the CPU gives \
                     the first of two that do not compare";
const FOLDED: &str = "the CPU is wrong: it takes the rows of a transposed batch for those of one tall matrix";
const WRAPS: &str = "the kernel cuts the upper bits of a number above 255, where the CPU saturates";
const NAN_TO_INTEGER: &str = "NaN is the upper bit alone, by the PTX manual of `cvt`; the CPU's cast gives 0";

const NO_BLOCKS: &str = "the kernel is launched with no blocks, which a driver refuses";

/// What differs, in which types, and who is right.
const DIFFERENCES: &[(&str, &[DType], &str)] = &[
    ("argmax of the last axis", &[DType::U8, DType::U32, DType::I64, DType::BF16], TIES),
    ("argmax of the first axis", &[DType::U8, DType::U32, DType::I64, DType::BF16, DType::F16], TIES),
    ("argmax of the middle axis", INTEGERS, TIES),
    ("argmin of the last axis", INTEGERS, TIES),
    ("argmin of the first axis", &[DType::U8, DType::U32, DType::I64, DType::BF16], TIES),
    ("argmin of the middle axis", INTEGERS, TIES),
    ("relu, odd numbers", HALVES, NAN_OF_HALVES),
    ("maximum, odd numbers", HALVES, NAN_OF_HALVES),
    ("minimum, odd numbers", HALVES, NAN_OF_HALVES),
    ("max of NaN", HALVES, NAN_OF_HALVES),
    ("min of NaN", HALVES, NAN_OF_HALVES),
    ("maximum, odd numbers", F32_F64, ZEROS),
    ("minimum, odd numbers", F32_F64, ZEROS),
    ("matmul of a transposed batch and one matrix", FLOATS, FOLDED),
    ("linear layer of a transposed batch", FLOATS, FOLDED),
    ("conv_transpose1d", FLOATS, FOLDED),
    ("avg_pool2d", &[DType::F64], "the kernel of 64 bits multiplies by a factor of 32 bits"),
    ("avg_pool2d with stride", &[DType::F64], "the kernel of 64 bits multiplies by a factor of 32 bits"),
    ("interpolate1d", FLOATS, "there is no kernel"),
    ("cast of nothing", &[DType::F32, DType::F16, DType::BF16], NO_BLOCKS),
    ("index_select of nothing", FLOATS, NO_BLOCKS),
    ("ones of nothing", FLOATS, NO_BLOCKS),
    ("gt of nothing", FLOATS, NO_BLOCKS),
    ("where of nothing", FLOATS, NO_BLOCKS),
    ("gather of nothing", FLOATS, NO_BLOCKS),
    ("softmax of nothing", FLOATS, NO_BLOCKS),
    ("conv2d of nothing", FLOATS, NO_BLOCKS),
    ("max_pool2d of nothing", FLOATS, NO_BLOCKS),
    ("arg_sort of nothing", FLOATS, NO_BLOCKS),
    ("rand of nothing", HALVES, NO_BLOCKS),
    ("layer_norm of nothing", HALVES, NO_BLOCKS),
    ("layer_norm of nothing", F32_F64, "its sum divides by the number of results, which is 0: it panics"),
    ("sum to nothing", FLOATS, "it divides by the number of results, which is 0: it panics"),
    ("cast from f16 to u8, odd numbers", HALVES, WRAPS),
    ("cast from bf16 to u8, odd numbers", HALVES, WRAPS),
    ("cast from f32 to u8, odd numbers", F32, WRAPS),
    ("cast from f64 to u8, odd numbers", F32_F64, WRAPS),
    ("cast from f32 to i64, odd numbers", F32, NAN_TO_INTEGER),
    ("cast from f64 to i64, odd numbers", F32_F64, NAN_TO_INTEGER),
    ("cast from f64 to u32, odd numbers", F32_F64, NAN_TO_INTEGER),
];

#[test]
fn operations_agree_with_the_cpu() {
    let device = device();
    if device.is_cpu() {
        // Past the capture of the test's output.
        writeln!(stderr(), "SKIPPED candle_on_cuda: it compares a device with the CPU").expect("written");
    }
    let rows = rows();
    let operations: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(operations.len(), rows.len(), "each name once");
    for (name, ..) in DIFFERENCES {
        assert!(operations.contains(name), "no row is `{name}`");
    }
    let (mut cases, mut differ, mut largest, mut wrong) = (0, 0, Vec::new(), Vec::new());
    for dtype in TYPES {
        let on_cpu = Inputs::new(dtype).expect("inputs");
        let wide = on_cpu.map(&Device::Cpu, DType::F32).expect("inputs");
        let on_device = on_cpu.map(device, dtype).expect("inputs");
        let mut most = (0.0, "");
        for row in rows.iter().filter(|row| row.types.contains(&dtype)) {
            cases += 1;
            let by_32 = row.wide.filter(|_| dtype.size_in_bytes() == 2).map(|_| (row.run)(&wide));
            let expected = match ((row.run)(&on_cpu), by_32) {
                (_, Some(Ok(expected))) | (Ok(expected), None) => expected,
                (Err(error), _) | (_, Some(Err(error))) => {
                    wrong.push(format!("{} of {dtype:?} does not run on the CPU: {error}", row.name));
                    continue;
                }
            };
            let result =
                if expected.dtype() == DType::F32 && row.wide.is_some() { dtype } else { expected.dtype() };
            if device.is_cpu() {
                continue;
            }
            let found = match catch_unwind(AssertUnwindSafe(|| (row.run)(&on_device))) {
                Err(_) => Err("it panics".to_owned()),
                Ok(Err(error)) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
                Ok(Ok(found)) if found.dtype() != result => {
                    Err(format!("the type is {:?}, not {result:?}", found.dtype()))
                }
                Ok(Ok(found)) => difference(&found, &expected, result, row.tolerance),
            };
            let listed =
                DIFFERENCES.iter().find(|(name, types, _)| *name == row.name && types.contains(&dtype));
            let known = row.differs.or(listed.map(|(.., why)| *why));
            match (found, known) {
                (Ok(part), None) if part > most.0 => most = (part, &row.name),
                (Ok(_), None) => {}
                (Err(words), None) => wrong.push(format!("{} of {dtype:?}: {words}", row.name)),
                (Err(words), Some(why)) => {
                    differ += 1;
                    println!("KNOWN {} of {dtype:?}: {words}: {why}", row.name);
                }
                (Ok(_), Some(_)) => wrong.push(format!("{} of {dtype:?} does not differ any more", row.name)),
            }
        }
        if most.0 > 0.0 {
            largest.push(format!("{dtype:?}: {:.2} of what `{}` allows", most.0, most.1));
        }
    }
    println!(
        "{} operations, {cases} cases, {differ} of them differ as is known; the largest: {largest:#?}",
        rows.len()
    );
    assert!(wrong.is_empty(), "{} of {cases} cases: {wrong:#?}", wrong.len());
}
