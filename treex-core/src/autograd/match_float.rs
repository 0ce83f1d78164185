//! From an element type at run time to one that a kernel is compiled for.

/// Evaluates an expression with the type `$T` that a Candle [`DType`](candle_core::DType) stands for, one of the listed
/// ones, or the expression after `else`.
///
/// ```
/// use candle_core::DType;
/// use treex_core::{autograd::Element, match_float};
///
/// fn size<T: Element>() -> usize {
///     size_of::<T>()
/// }
///
/// let bytes = |dtype| match_float!(dtype, T in [f32, f64, bf16, f16] => size::<T>(), else 0);
/// assert_eq!([bytes(DType::F32), bytes(DType::BF16), bytes(DType::U8)], [4, 2, 0]);
/// ```
#[macro_export]
macro_rules! match_float {
    ($dtype:expr, $T:ident in [$($type:ident),+] => $run:expr, else $otherwise:expr) => {
        match $dtype {
            $(dtype if dtype == $crate::match_float!(@ $type dtype) => {
                type $T = $crate::match_float!(@ $type);
                $run
            })+
            _ => $otherwise,
        }
    };
    (@ f32) => { f32 };
    (@ f64) => { f64 };
    (@ bf16) => { $crate::autograd::bf16 };
    (@ f16) => { $crate::autograd::f16 };
    (@ f32 dtype) => { $crate::candle::DType::F32 };
    (@ f64 dtype) => { $crate::candle::DType::F64 };
    (@ bf16 dtype) => { $crate::candle::DType::BF16 };
    (@ f16 dtype) => { $crate::candle::DType::F16 };
}

/// Evaluates an expression with the type `$T` of a tensor's elements, which are floats on the CPU: for the part of an operation
/// that runs there. An error for other types.
#[macro_export]
macro_rules! with_elements {
    ($tensor:expr, $T:ident => $run:expr) => {
        $crate::match_float!(
            $tensor.dtype(),
            $T in [f32, f64, bf16, f16] => $run,
            else Err($crate::Error::new($crate::ErrorKind::DType, "an operation has no kernel for an element type")
                .expected("`f32`, `f64`, `bf16` or `f16`")
                .found(format!("`{}`", $tensor.dtype().as_str())))
        )
    };
}
