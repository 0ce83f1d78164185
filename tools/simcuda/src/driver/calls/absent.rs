//! Functions that are linked to, but not there: they say so.

/// Functions of C that print their name and return a code.
macro_rules! absent {
    ($code:expr; $($name:ident)*) => {$(
        #[doc = "Not there."]
        #[allow(non_snake_case)] // the name that programs call it by
        #[unsafe(no_mangle)]
        pub extern "C" fn $name() -> i32 {
            eprintln!(concat!("simcuda: ", stringify!($name), " is not there"));
            $code
        }
    )*};
}
pub(crate) use absent;

use super::super::error::Error;

absent! { Error::NOT_SUPPORTED.code();
    cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxGetCacheConfig cuCtxGetLimit cuCtxSetLimit
    cuDestroyExternalMemory cuDeviceGetUuid cuDeviceSetMemPool cuEventElapsedTime cuExternalMemoryGetMappedBuffer
    cuGetProcAddress_v2 cuKernelGetName cuImportExternalMemory cuLaunchCooperativeKernel cuLaunchHostFunc cuLaunchKernelEx
    cuMemAdvise_v2 cuMemAllocFromPoolAsync cuMemAllocManaged cuMemPoolCreate cuMemPoolDestroy
    cuMemPrefetchAsync_v2 cuOccupancyAvailableDynamicSMemPerBlock cuOccupancyMaxActiveBlocksPerMultiprocessor
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cuOccupancyMaxActiveClusters
    cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags cuOccupancyMaxPotentialClusterSize
    cuStreamAttachMemAsync
}
