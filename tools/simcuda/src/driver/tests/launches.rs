//! What a launch may ask for.

use super::*;
use crate::driver::module::SHARED_OPT_IN;

#[test]
fn grids_outside_of_the_limits_are_refused() {
    let mut f = Fixture::new();
    let (number, stream) = (f.number(), f.stream());
    let mut parameters = number.to_le_bytes().to_vec();
    parameters.extend(1_u32.to_le_bytes());
    let big = 1 << 31;
    for (blocks, threads, right) in [
        ([1, 1, 1], [1, 1, 1], true),
        ([big - 1, 65535, 65535], [256, 1, 1], true),
        ([1, 1, 1], [4, 1, 64], true),
        ([big, 1, 1], [1, 1, 1], false),
        ([1, 65536, 1], [1, 1, 1], false),
        ([1, 1, 65536], [1, 1, 1], false),
        ([0, 1, 1], [1, 1, 1], false),
        ([1, 0, 1], [1, 1, 1], false),
        ([1, 1, 1], [1, 0, 1], false),
        ([1, 1, 1], [257, 1, 1], false), // the kernel takes 256
        ([1, 1, 1], [16, 17, 1], false),
        ([1, 1, 1], [1, 1, 65], false),
    ] {
        let grid = Grid { blocks, threads, dynamic_shared: 0 };
        let expected = if right { Ok(()) } else { Err(Error::INVALID_VALUE) };
        assert_eq!(f.device.launch(f.digit, grid, &parameters, stream), expected, "{grid:?}");
    }
    assert_eq!(f.device.launch(f.digit + 1, ONE, &parameters, stream), Err(Error::INVALID_HANDLE));
    assert_eq!(f.device.launch(f.digit, ONE, &parameters, 0x999), Err(Error::INVALID_HANDLE));
}

#[test]
fn a_kernel_may_require_its_block() {
    let mut f = Fixture::new();
    let text = b".version 8.0\n.target sm_90\n.address_size 64\n.entry e() .reqntid 8, 4 { ret; }";
    let module = f.device.load_module(text).expect("PTX");
    let kernel = f.device.function(module, "e").expect("a kernel");
    for (threads, answer) in
        [([8, 4, 1], Ok(())), ([32, 1, 1], Err(Error::INVALID_VALUE)), ([8, 2, 1], Err(Error::INVALID_VALUE))]
    {
        assert_eq!(f.device.launch(kernel, Grid { threads, ..ONE }, &[], 0), answer, "{threads:?}");
    }
}

#[test]
fn dynamic_shared_memory_has_a_limit_that_can_be_raised() {
    let mut f = Fixture::new();
    let number = f.number();
    let mut parameters = number.to_le_bytes().to_vec();
    parameters.extend(1_u32.to_le_bytes());
    let launch = |f: &mut Fixture, dynamic_shared: u32| {
        f.device.launch(f.digit, Grid { dynamic_shared, ..ONE }, &parameters, 0)
    };
    // The kernel has 1024 bytes of its own.
    assert_eq!(f.device.function_attribute(f.digit, 8), Ok(47 << 10));
    assert_eq!(launch(&mut f, 47 << 10), Ok(()));
    assert_eq!(launch(&mut f, (47 << 10) + 1), Err(Error::INVALID_VALUE));
    let most = (SHARED_OPT_IN - 1024) as i32;
    assert_eq!(f.device.set_function_attribute(f.digit, 8, most + 1), Err(Error::INVALID_VALUE));
    assert_eq!(f.device.set_function_attribute(f.digit, 8, -1), Err(Error::INVALID_VALUE));
    assert_eq!(f.device.set_function_attribute(f.digit, 8, most), Ok(()));
    assert_eq!(launch(&mut f, most as u32), Ok(()));
    assert_eq!(launch(&mut f, most as u32 + 1), Err(Error::INVALID_VALUE));
    assert_eq!(
        f.device.set_function_attribute(f.digit, 0, 1),
        Err(Error::INVALID_VALUE),
        "it may only be read"
    );
    assert_eq!(f.device.function_attribute(f.digit, 0), Ok(256));
    assert_eq!(f.device.function_attribute(f.digit, 1), Ok(1024));
    assert_eq!(f.device.function_attribute(f.digit, 4), Err(Error::NOT_SUPPORTED), "registers are not known");
}

#[test]
fn parameters_are_those_of_the_call() {
    let mut f = Fixture::new();
    let (number, stream) = (f.number(), f.stream());
    let mut parameters = number.to_le_bytes().to_vec();
    parameters.extend(1_u32.to_le_bytes());
    f.device.launch(f.digit, ONE, &parameters, stream).expect("right");
    parameters.fill(0);
    assert_eq!(f.read(number, stream), Ok(1));
}

#[test]
fn images_that_are_not_ptx_are_refused() {
    let mut f = Fixture::new();
    assert_eq!(f.device.load_module(b"\x7fELF\x02\x01\x01"), Err(Error::INVALID_IMAGE));
    assert_eq!(f.device.load_module(b"\x50\xed\x55\xba"), Err(Error::INVALID_IMAGE));
    assert_eq!(f.device.load_module(b"no PTX"), Err(Error::INVALID_PTX));
    assert_eq!(f.device.function(1, "f"), Err(Error::INVALID_HANDLE));
    assert_eq!(f.device.unload_module(1), Err(Error::INVALID_HANDLE));
}
