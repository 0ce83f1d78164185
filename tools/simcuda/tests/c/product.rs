//! A product of cuBLAS.

use std::ffi::c_void;
use std::ptr::{null_mut, without_provenance_mut};

use super::*;

/// Numbers of a product that can be told apart.
#[derive(Clone, Copy)]
pub struct Product {
    pub operations: [i32; 2],
    pub sizes: [i32; 3],
    pub scale: [f64; 2],
    pub addresses: [u64; 3],
    pub leading: [i32; 3],
    pub strides: [i64; 3],
    pub batch: i32,
    /// The types of the factors and of the result.
    pub types: [i32; 2],
    pub compute: i32,
}

pub const PRODUCT: Product = Product {
    operations: [0, 1],
    sizes: [2, 3, 4],
    scale: [0.5, 2.],
    addresses: [0x10_0000, 0x20_0000, 0x30_0000],
    leading: [11, 12, 13],
    strides: [101, 102, 103],
    batch: 5,
    types: [1, 1],
    compute: 70,
};

impl Product {
    /// Gives it to a stream. No address is followed before the graph is launched.
    pub fn push(self, stream: *mut c_void) {
        let Self { operations, sizes, scale, addresses, leading, strides, batch, types, compute } = self;
        let at = |address: u64| without_provenance_mut::<c_void>(address as usize);
        let narrow = scale.map(|number| number as f32);
        let scale: [*const c_void; 2] = [0, 1].map(|number| match compute {
            70 => (&raw const scale[number]).cast(),
            _ => (&raw const narrow[number]).cast(),
        });
        let mut handle = null_mut();
        // SAFETY: the pointers are to places of their types; those of the device are not followed here.
        unsafe {
            assert_eq!((cublasCreate_v2(&raw mut handle), cublasSetStream_v2(handle, stream)), (0, 0));
            let answer = cublasGemmStridedBatchedEx(
                handle,
                operations[0],
                operations[1],
                sizes[0],
                sizes[1],
                sizes[2],
                scale[0],
                at(addresses[0]),
                types[0],
                leading[0],
                strides[0],
                at(addresses[1]),
                types[0],
                leading[1],
                strides[1],
                scale[1],
                at(addresses[2]),
                types[1],
                leading[2],
                strides[2],
                batch,
                compute,
                99,
            );
            assert_eq!((answer, cublasDestroy_v2(handle)), (0, 0));
        }
    }
}
