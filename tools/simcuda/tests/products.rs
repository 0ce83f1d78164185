//! A product of cuBLAS in a captured graph is told as a kernel, whose parameters are all of its numbers.

mod c;

use std::ffi::CStr;
use std::ptr::null;

use c::graphs::{graph, kernel, nodes, parameters};
use c::product::{PRODUCT, Product};
use c::*;

/// What a graph tells of it.
fn words(product: Product) -> Vec<u64> {
    let s = stream();
    let graph = graph(s, || product.push(s));
    let (nodes, kinds) = nodes(graph);
    assert_eq!(kinds, [0]);
    let word = |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    parameters(nodes[0]).into_iter().map(word).collect()
}

#[test]
fn a_product_tells_all_of_its_numbers() {
    let _device = device();
    let told = words(PRODUCT);
    let sizes = [2, 3, 4, 5];
    let (half, two) = (0.5_f64.to_bits(), 2_f64.to_bits());
    let [a, b, c] = PRODUCT.addresses;
    assert_eq!(told[..4], sizes);
    assert_eq!(told[4..19], [a, 3, 11, 101, 0, b, 3, 12, 102, 1, c, 3, 13, 103, 0]);
    assert_eq!(told[19..], [2, half, two]);

    let mut all = vec![told.clone(), words(PRODUCT)];
    all.dedup();
    assert_eq!(all.len(), 1, "the same product is told alike");
    let p = PRODUCT;
    let single = Product { types: [0, 0], compute: 68, ..p };
    let others = [
        Product { operations: [1, 1], ..p },
        Product { operations: [0, 0], ..p },
        Product { sizes: [1, 3, 4], ..p },
        Product { sizes: [2, 1, 4], ..p },
        Product { sizes: [2, 3, 1], ..p },
        Product { scale: [1., 2.], ..p },
        Product { scale: [0.5, 0.5], ..p },
        Product { addresses: [a + 8, b, c], ..p },
        Product { addresses: [a, b + 8, c], ..p },
        Product { addresses: [a, b, c + 8], ..p },
        Product { leading: [14, 12, 13], ..p },
        Product { leading: [11, 14, 13], ..p },
        Product { leading: [11, 12, 14], ..p },
        Product { strides: [1, 102, 103], ..p },
        Product { strides: [101, 1, 103], ..p },
        Product { strides: [101, 102, 1], ..p },
        Product { batch: 1, ..p },
        single,
        Product { types: [2, 2], ..single },
        Product { types: [2, 0], ..single },
        Product { types: [14, 14], ..single },
        Product { types: [14, 0], ..single },
        Product { types: [2, 2], compute: 64, ..single },
    ];
    all.extend(others.map(words));
    for (number, one) in all.iter().enumerate() {
        assert_eq!(one.len(), told.len());
        assert!(!all[..number].contains(one), "{number} is told as another: {one:?}");
    }
}

#[test]
fn products_are_one_function() {
    let _device = device();
    let s = stream();
    let graph = graph(s, || (0..2).for_each(|_| PRODUCT.push(s)));
    let (nodes, _) = nodes(graph);
    let functions = [0, 1].map(|node: usize| kernel(nodes[node]).function);
    let mut name = null();
    assert_eq!(functions[0], functions[1]);
    // SAFETY: the pointer is to a place for a name, which ends with a zero.
    unsafe {
        assert_eq!((cuFuncGetName(&raw mut name, functions[0]), CStr::from_ptr(name)), (0, c"gemm"));
    }
}
