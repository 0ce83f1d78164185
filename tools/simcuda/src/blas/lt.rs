//! `libcublasLt.so.13`: handles, and nothing else. Candle links to it and calls none of it.

use super::Status;
use crate::driver::calls::absent::absent;
use crate::driver::calls::calls;
use crate::driver::calls::pointer::Out;

calls! { Status;
    /// Makes a handle.
    fn cublasLtCreate(device, handle: Out<u64>) { Ok(handle.set(device.create_blas()?)?) }

    /// Destroys a handle.
    fn cublasLtDestroy(device, handle: u64) {
        device.blas.remove(&handle).map(|_| ()).ok_or(Status::NotInitialized)
    }
}

absent! { Status::NotSupported as i32;
    cublasLtLoggerOpenFile cublasLtLoggerSetLevel cublasLtMatmul cublasLtMatmulAlgoGetHeuristic
    cublasLtMatmulDescCreate cublasLtMatmulDescDestroy cublasLtMatmulDescSetAttribute
    cublasLtMatmulPreferenceCreate cublasLtMatmulPreferenceDestroy cublasLtMatmulPreferenceSetAttribute
    cublasLtMatrixLayoutCreate cublasLtMatrixLayoutDestroy cublasLtMatrixLayoutSetAttribute
}
