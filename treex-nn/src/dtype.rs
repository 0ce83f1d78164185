//! The element type in which a layer computes.

use candle_core::{DType, Tensor};

/// Flax's rule of promotion: `wanted`, or the smallest float type that holds all of `tensors`.
pub(crate) fn common_dtype<'t>(
    wanted: Option<DType>,
    tensors: impl IntoIterator<Item = &'t Tensor>,
) -> DType {
    wanted.unwrap_or_else(|| {
        // Integers take the type of the other floats; without floats, `F32`.
        let floats = tensors.into_iter().map(Tensor::dtype).filter(DType::is_float);
        floats.reduce(larger).unwrap_or(DType::F32)
    })
}

/// `x` in the float type that Flax's rule gives it alone: integers as `F32`.
pub(crate) fn as_float(x: &Tensor) -> candle_core::Result<Tensor> {
    x.to_dtype(common_dtype(None, [x]))
}

/// The element type for sums: `F64` for `F64`, else `F32`, since half precision has too few digits.
pub(crate) fn wide_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// `x`, in `F32` if it is of half precision: products and sums of it need more digits.
pub(crate) fn widened(x: &Tensor) -> candle_core::Result<Tensor> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) { x.to_dtype(DType::F32) } else { Ok(x.clone()) }
}

fn larger(a: DType, b: DType) -> DType {
    match a.size_in_bytes().cmp(&b.size_in_bytes()) {
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal if a == b => a,
        // `F16` has more precision, `BF16` more range: neither holds the other.
        std::cmp::Ordering::Equal => DType::F32,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn as_in_flax() {
        let of = |dtypes: &[DType]| {
            let tensors: Vec<_> =
                dtypes.iter().map(|&dtype| Tensor::zeros(1, dtype, &Device::Cpu).unwrap()).collect();
            common_dtype(None, &tensors)
        };
        assert_eq!(of(&[DType::F32, DType::F32]), DType::F32);
        assert_eq!(of(&[DType::BF16, DType::F32]), DType::F32);
        assert_eq!(of(&[DType::BF16, DType::F16]), DType::F32);
        assert_eq!(of(&[DType::BF16, DType::BF16]), DType::BF16);
        assert_eq!(of(&[DType::U8, DType::F16]), DType::F16);
        assert_eq!(of(&[DType::F32, DType::F64]), DType::F64);
        assert_eq!(of(&[DType::I64]), DType::F32);
        let f32 = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(common_dtype(Some(DType::F16), [&f32]), DType::F16);
    }
}
