//! The functions of `libcublas.so.13`.

use half::f16;

use super::{Gemm, Matrix, Scale, Status, Type, not_supported};
use crate::driver::calls::absent::absent;
use crate::driver::calls::calls;
use crate::driver::calls::pointer::{In, Out};
use crate::driver::device::Device;

/// A factor's operation: as it is, transposed, or conjugated and transposed, which for real numbers is the same.
fn transposed(operation: i32) -> Result<bool, Status> {
    match operation {
        0 => Ok(false),
        1 | 2 => Ok(true),
        _ => Err(Status::InvalidValue),
    }
}

/// A `cudaDataType`.
fn number_type(number: i32) -> Result<Type, Status> {
    match number {
        0 => Ok(Type::F32),
        1 => Ok(Type::F64),
        2 => Ok(Type::F16),
        14 => Ok(Type::Bf16),
        _ => Err(not_supported(&format!("data type {number}"))),
    }
}

/// A `cublasComputeType_t` with its `alpha` and `beta`, for factors and result of these types, which the table in the
/// manual must have.
fn scale(compute: i32, alpha: In<u8>, beta: In<u8>, types: [Type; 3]) -> Result<Scale, Status> {
    use Type::{Bf16, F16, F32, F64};
    match (compute, types) {
        (64 | 65, [F16, F16, F16]) => Ok(Scale::F16(alpha.cast().get()?, beta.cast().get()?)),
        (68 | 69, [F16, F16, F16 | F32] | [Bf16, Bf16, Bf16 | F32] | [F32, F32, F32]) => {
            Ok(Scale::F32(alpha.cast().get()?, beta.cast().get()?))
        }
        (70 | 71, [F64, F64, F64]) => Ok(Scale::F64(alpha.cast().get()?, beta.cast().get()?)),
        _ => Err(not_supported(&format!("computation {compute} of {types:?}"))),
    }
}

/// What the functions of one type have in common: sizes, operations, and matrices without strides.
struct Plain {
    of: Type,
    operations: [i32; 2],
    sizes: [i32; 3],
    addresses: [u64; 3],
    leading: [i32; 3],
    strides: [i64; 3],
    batch: i32,
}

impl Plain {
    fn multiply(self, device: &mut Device, handle: u64, scale: Scale) -> Result<(), Status> {
        let transposes = [transposed(self.operations[0])?, transposed(self.operations[1])?, false];
        let matrix = |i: usize| Matrix {
            address: self.addresses[i],
            of: self.of,
            leading: self.leading[i].into(),
            stride: self.strides[i],
            transposed: transposes[i],
        };
        let [m, n, k] = self.sizes.map(i64::from);
        let gemm =
            Gemm { m, n, k, batch: self.batch.into(), a: matrix(0), b: matrix(1), c: matrix(2), scale };
        device.multiply(handle, gemm)
    }
}

calls! { Status;
    /// Makes a handle.
    fn cublasCreate_v2(device, handle: Out<u64>) { Ok(handle.set(device.create_blas()?)?) }

    /// Destroys a handle.
    fn cublasDestroy_v2(device, handle: u64) {
        device.blas.remove(&handle).map(|_| ()).ok_or(Status::NotInitialized)
    }

    /// Sets the stream of a handle.
    fn cublasSetStream_v2(device, handle: u64, stream: u64) {
        device.blas(handle)?.stream = stream;
        Ok(())
    }

    /// The stream of a handle.
    fn cublasGetStream_v2(device, handle: u64, stream: Out<u64>) {
        Ok(stream.set(device.blas(handle)?.stream)?)
    }

    /// The library's version.
    fn cublasGetVersion_v2(_device, _handle: u64, version: Out<i32>) { Ok(version.set(130_100)?) }

    /// Sets the mathematical mode: the default one, or the pedantic one.
    fn cublasSetMathMode(device, handle: u64, mode: i32) {
        device.blas(handle)?;
        match mode {
            0 | 2 => Ok(()),
            _ => Err(not_supported(&format!("math mode {mode}"))),
        }
    }

    /// Gives a handle memory to work in, which it does not need.
    fn cublasSetWorkspace_v2(device, handle: u64, _address: u64, _len: usize) {
        device.blas(handle).map(|_| ())
    }

    /// Sets where `alpha` and `beta` are: on the host.
    fn cublasSetPointerMode_v2(device, handle: u64, mode: i32) {
        device.blas(handle)?;
        if mode == 0 { Ok(()) } else { Err(not_supported("alpha and beta on the device")) }
    }

    /// Where `alpha` and `beta` are: on the host.
    fn cublasGetPointerMode_v2(device, handle: u64, mode: Out<i32>) {
        device.blas(handle)?;
        Ok(mode.set(0)?)
    }

    /// A product of 32 bits.
    fn cublasSgemm_v2(
        device, handle: u64, op_a: i32, op_b: i32, m: i32, n: i32, k: i32, alpha: In<f32>, a: u64, lda: i32, b: u64,
        ldb: i32, beta: In<f32>, c: u64, ldc: i32,
    ) {
        let scale = Scale::F32(alpha.get()?, beta.get()?);
        let plain = Plain {
            of: Type::F32, operations: [op_a, op_b], sizes: [m, n, k], addresses: [a, b, c], leading: [lda, ldb, ldc],
            strides: [0; 3], batch: 1,
        };
        plain.multiply(device, handle, scale)
    }

    /// A product of 64 bits.
    fn cublasDgemm_v2(
        device, handle: u64, op_a: i32, op_b: i32, m: i32, n: i32, k: i32, alpha: In<f64>, a: u64, lda: i32, b: u64,
        ldb: i32, beta: In<f64>, c: u64, ldc: i32,
    ) {
        let scale = Scale::F64(alpha.get()?, beta.get()?);
        let plain = Plain {
            of: Type::F64, operations: [op_a, op_b], sizes: [m, n, k], addresses: [a, b, c], leading: [lda, ldb, ldc],
            strides: [0; 3], batch: 1,
        };
        plain.multiply(device, handle, scale)
    }

    /// A product of 16 bits.
    fn cublasHgemm(
        device, handle: u64, op_a: i32, op_b: i32, m: i32, n: i32, k: i32, alpha: In<f16>, a: u64, lda: i32, b: u64,
        ldb: i32, beta: In<f16>, c: u64, ldc: i32,
    ) {
        let scale = Scale::F16(alpha.get()?, beta.get()?);
        let plain = Plain {
            of: Type::F16, operations: [op_a, op_b], sizes: [m, n, k], addresses: [a, b, c], leading: [lda, ldb, ldc],
            strides: [0; 3], batch: 1,
        };
        plain.multiply(device, handle, scale)
    }

    /// Products of 32 bits.
    fn cublasSgemmStridedBatched(
        device, handle: u64, op_a: i32, op_b: i32, m: i32, n: i32, k: i32, alpha: In<f32>, a: u64, lda: i32,
        stride_a: i64, b: u64, ldb: i32, stride_b: i64, beta: In<f32>, c: u64, ldc: i32, stride_c: i64, batch: i32,
    ) {
        let scale = Scale::F32(alpha.get()?, beta.get()?);
        let plain = Plain {
            of: Type::F32, operations: [op_a, op_b], sizes: [m, n, k], addresses: [a, b, c], leading: [lda, ldb, ldc],
            strides: [stride_a, stride_b, stride_c], batch,
        };
        plain.multiply(device, handle, scale)
    }

    /// Products of 64 bits.
    fn cublasDgemmStridedBatched(
        device, handle: u64, op_a: i32, op_b: i32, m: i32, n: i32, k: i32, alpha: In<f64>, a: u64, lda: i32,
        stride_a: i64, b: u64, ldb: i32, stride_b: i64, beta: In<f64>, c: u64, ldc: i32, stride_c: i64, batch: i32,
    ) {
        let scale = Scale::F64(alpha.get()?, beta.get()?);
        let plain = Plain {
            of: Type::F64, operations: [op_a, op_b], sizes: [m, n, k], addresses: [a, b, c], leading: [lda, ldb, ldc],
            strides: [stride_a, stride_b, stride_c], batch,
        };
        plain.multiply(device, handle, scale)
    }

    /// Products of 16 bits.
    fn cublasHgemmStridedBatched(
        device, handle: u64, op_a: i32, op_b: i32, m: i32, n: i32, k: i32, alpha: In<f16>, a: u64, lda: i32,
        stride_a: i64, b: u64, ldb: i32, stride_b: i64, beta: In<f16>, c: u64, ldc: i32, stride_c: i64, batch: i32,
    ) {
        let scale = Scale::F16(alpha.get()?, beta.get()?);
        let plain = Plain {
            of: Type::F16, operations: [op_a, op_b], sizes: [m, n, k], addresses: [a, b, c], leading: [lda, ldb, ldc],
            strides: [stride_a, stride_b, stride_c], batch,
        };
        plain.multiply(device, handle, scale)
    }

    /// A product of chosen types.
    fn cublasGemmEx(
        device, handle: u64, op_a: i32, op_b: i32, m: i32, n: i32, k: i32, alpha: In<u8>, a: u64, type_a: i32, lda: i32,
        b: u64, type_b: i32, ldb: i32, beta: In<u8>, c: u64, type_c: i32, ldc: i32, compute: i32, _algorithm: i32,
    ) {
        let types = [number_type(type_a)?, number_type(type_b)?, number_type(type_c)?];
        let matrix = |address, of, leading: i32, transposed| Matrix {
            address, of, leading: leading.into(), stride: 0, transposed,
        };
        let gemm = Gemm {
            m: m.into(), n: n.into(), k: k.into(), batch: 1,
            a: matrix(a, types[0], lda, transposed(op_a)?),
            b: matrix(b, types[1], ldb, transposed(op_b)?),
            c: matrix(c, types[2], ldc, false),
            scale: scale(compute, alpha, beta, types)?,
        };
        device.multiply(handle, gemm)
    }

    /// Products of chosen types.
    fn cublasGemmStridedBatchedEx(
        device, handle: u64, op_a: i32, op_b: i32, m: i32, n: i32, k: i32, alpha: In<u8>, a: u64, type_a: i32, lda: i32,
        stride_a: i64, b: u64, type_b: i32, ldb: i32, stride_b: i64, beta: In<u8>, c: u64, type_c: i32, ldc: i32,
        stride_c: i64, batch: i32, compute: i32, _algorithm: i32,
    ) {
        let types = [number_type(type_a)?, number_type(type_b)?, number_type(type_c)?];
        let matrix = |address, of, leading: i32, stride, transposed| Matrix {
            address, of, leading: leading.into(), stride, transposed,
        };
        let gemm = Gemm {
            m: m.into(), n: n.into(), k: k.into(), batch: batch.into(),
            a: matrix(a, types[0], lda, stride_a, transposed(op_a)?),
            b: matrix(b, types[1], ldb, stride_b, transposed(op_b)?),
            c: matrix(c, types[2], ldc, stride_c, false),
            scale: scale(compute, alpha, beta, types)?,
        };
        device.multiply(handle, gemm)
    }
}

absent! { Status::NotSupported as i32;
    cublasDasum_v2 cublasDgemv_v2 cublasGemmGroupedBatchedEx cublasSasum_v2 cublasSgemv_v2
}
