//! Rotary position embeddings.

use candle_core::{D, DType, Device, Tensor};
use treex_core::constants::constant;
use treex_core::transfers::transfer;
use treex_core::{Error, Result};

use crate::dtype::{common_dtype, wide_dtype};

/// Rotary position embedding: queries and keys are rotated by their positions, so that their products depend
/// on distances only (Su et al., 2021, "RoFormer").
///
/// At position `p`, pair `i` of the `n` pairs of features is rotated by the angle `p · base^(-i / n)`:
/// `(a, b)` becomes `(a cos - b sin, b cos + a sin)`. Which features make a pair differs between models;
/// weights trained with one pairing do not work with the other:
///
/// - halves, the default: feature `i` with feature `i + n`, as GPT-NeoX, Llama in Hugging Face's format, Gemma;
/// - [`interleaved`](Self::interleaved): feature `2i` with `2i + 1`, as in the paper, GPT-J, and Llama in
///   Meta's format.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::Rotary;
///
/// let query = Tensor::ones((2, 5, 4, 8), DType::F32, &Device::Cpu)?; // [batch, length, heads, depth]
/// let rotary = Rotary::new().base(500_000.);
/// let turned = rotary.apply(&query, 0)?;
/// assert_eq!(turned.dims(), [2, 5, 4, 8]);
/// // The first position is not turned, and the second is what a decoder at offset 1 computes.
/// let first = turned.narrow(1, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
/// assert!(first.iter().all(|&x| x == 1.));
/// let step = rotary.apply(&query.narrow(1, 1, 1)?, 1)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(step, turned.narrow(1, 1, 1)?.flatten_all()?.to_vec1::<f32>()?);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    base: f64,
    interleaved: bool,
    features: Option<usize>,
}

impl Default for Rotary {
    fn default() -> Self {
        Self::new()
    }
}

impl Rotary {
    /// All features, in halves, base 10000.
    #[must_use]
    pub fn new() -> Self {
        Self { base: 10_000., interleaved: false, features: None }
    }

    /// The base of the frequencies: the slowest pair has a wavelength of almost `2π · base`; default: 10000.
    #[must_use]
    pub fn base(self, base: f64) -> Self {
        Self { base, ..self }
    }

    /// Whether neighbouring features make a pair; default: false.
    #[must_use]
    pub fn interleaved(self, interleaved: bool) -> Self {
        Self { interleaved, ..self }
    }

    /// The number of features to rotate, an even number, counted from the first; the others stay as they are.
    /// Default: all.
    #[must_use]
    pub fn features(self, features: usize) -> Self {
        Self { features: Some(features), ..self }
    }

    /// Rotates `x`, `[batch.., length, heads, depth]`, at the positions `offset`, `offset + 1`, ..
    ///
    /// # Errors
    /// If `x` has another rank, or an odd number of features to rotate.
    pub fn apply(&self, x: &Tensor, offset: usize) -> Result<Tensor> {
        let length = x.rank().checked_sub(3).and_then(|axis| x.dims().get(axis)).copied().unwrap_or(0);
        let Some(end) = offset.checked_add(length) else {
            return Err(Error::argument("`Rotary` has positions that overflow")
                .expected(format!("an offset of at most {}", usize::MAX - length))
                .found(offset));
        };
        let positions = (offset..end).map(|position| position as f64).collect();
        self.turn(x, &Tensor::from_vec::<_, f64>(positions, length, &Device::Cpu)?)
    }

    /// Rotates `x`, `[batch.., length, heads, depth]`, at `positions`: integers that broadcast to
    /// `[batch.., length]`, for sequences that are packed or padded on the left.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), and if the positions do not fit.
    pub fn apply_at(&self, x: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let rows = &x.dims()[..x.rank().saturating_sub(2)];
        if positions.broadcast_as(rows).is_err() {
            return Err(Error::shape("`Rotary` got positions of the wrong shape")
                .expected(format!("integers that broadcast to [batch.., length], here {rows:?}"))
                .found(format!("{:?}", positions.dims())));
        }
        // Candle has no casts of these types on a device.
        let stays = positions.device().same_device(x.device())
            && !matches!(positions.dtype(), DType::I16 | DType::I32);
        let instead = "make the positions on the device of the input, in `u32` or `i64`";
        let device = if stays { x.device() } else { &Device::Cpu };
        self.turn(x, &transfer(positions, device, instead)?.to_dtype(DType::F64)?)
    }

    /// Rotates at `positions` in `F64`.
    fn turn(&self, x: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let depth = x.dims().last().copied().unwrap_or(0);
        let features = self.features.unwrap_or(depth);
        if x.rank() < 3 || features > depth || features % 2 == 1 {
            return Err(Error::shape("`Rotary` cannot rotate its input")
                .expected(match self.features {
                    Some(features) => format!(
                        "[batch.., length, heads, depth] with a depth of at least {features}, an even number"
                    ),
                    None => "[batch.., length, heads, depth] with an even depth".to_owned(),
                })
                .found(format!("{:?}", x.dims())));
        }
        let result = common_dtype(None, [x]);
        let dtype = wide_dtype(result);
        let pairs = features / 2;
        let frequencies: Vec<_> =
            (0..pairs).map(|pair| self.base.powf(-(pair as f64) / pairs as f64)).collect();
        // Angles are computed in `F64`, where the positions are: at position 100,000, `F32` would lose 2 digits.
        let frequencies = constant(&Tensor::from_vec(frequencies, pairs, &Device::Cpu)?, positions.device())?;
        let positions = positions.reshape([positions.dims(), &[1, 1]].concat())?;
        let angles = positions.broadcast_mul(&frequencies)?;
        let table = |values: Tensor| {
            let values = values.to_dtype(dtype)?;
            if values.device().is_cpu() { constant(&values, x.device()) } else { Ok(values) }
        };
        let (cos, sin) = (table(angles.cos()?)?, table(angles.sin()?)?);

        let turned = x.narrow(D::Minus1, 0, features)?.to_dtype(dtype)?;
        let rows = &x.dims()[..x.rank() - 1];
        let (a, b) = if self.interleaved {
            let turned = turned.reshape([rows, &[pairs, 2]].concat())?;
            (
                turned.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1)?,
                turned.narrow(D::Minus1, 1, 1)?.squeeze(D::Minus1)?,
            )
        } else {
            (turned.narrow(D::Minus1, 0, pairs)?, turned.narrow(D::Minus1, pairs, pairs)?)
        };
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        let turned = if self.interleaved {
            Tensor::stack(&[first, second], D::Minus1)?.reshape([rows, &[features]].concat())?
        } else {
            Tensor::cat(&[first, second], D::Minus1)?
        }
        .to_dtype(result)?;
        if features == depth {
            return Ok(turned);
        }
        let others = x.narrow(D::Minus1, features, depth - features)?.to_dtype(result)?;
        Ok(Tensor::cat(&[turned, others], D::Minus1)?)
    }
}
