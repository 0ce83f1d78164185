//! The language of device kernels: a part of C++ that is CUDA with one header, and other languages with others. A kernel's text
//! follows the header of the language that it is compiled as.
//!
//! - `KERNEL(name, parameters)` declares a kernel, `TABLE(name)` its parameter of the struct `Table`, by value;
//!   `INLINE` a function, and `TABLE_REFERENCE(name)` the same parameter in it.
//! - Or its parameters are, numbered from 0 on, `READ(index, name)` and `WRITE(index, name)` for the memory of tensors, then
//!   `VALUE(index, type, name)`. `MEMORY` is the type of what is read, in an `INLINE` function.
//! - `SHARED(type, name, size)` is memory of a group, `SHARED_POINTER(type, name)` a pointer to it in an `INLINE` function,
//!   `BARRIER` waits for all threads of the group.
//! - `SHUFFLE_XOR(x, mask)` is `x` of the thread whose number differs by these bits, of 32 threads.
//! - `LOCAL_ID` and `GROUP_ID` are the positions of a thread in its group and of the group in the grid.
//! - `LOAD_F32(address, i)`, `STORE_F32(address, i, x)`, and the same for `F64`, `F16`, `BF16` and `U8`, access element `i` of the
//!   memory at an address; `LOAD_U32` and `LOAD_U64` load an index. Half types are loaded as `float` and rounded to nearest, ties to even, when
//!   stored.
//! - `bits_to_float` and `bits_to_double` give the number of a bit pattern, `round_to_odd` a `float` from which a `double` is
//!   rounded once to a half type.
//! - `uint` and `ulong` have 32 and 64 bits.

/// The header for CUDA.
pub const CUDA: &str = include_str!("cuda.h");

/// The parameter of a launch, of `WORDS` words.
pub const TABLE: &str = include_str!("table.h");

/// The elements of one floating type, `LOAD(x, i)` and `STORE(x, i, value)`, and `real`, the type that they are computed in.
/// `ELEMENT` is `F32`, `F64`, `F16` or `BF16`, `IS_WIDE` 1 for `F64` and otherwise 0.
pub const ELEMENT: &str = include_str!("element.h");

/// All elements, `EACH_THREAD` for a thread, with `GROUP_SIZE` defined.
pub const EACH: &str = include_str!("each.h");

/// Sums over the rows of matrices, behind [`ELEMENT`], with `GROUP_SIZE` and `COLUMNS` defined.
pub const COLUMNS: &str = include_str!("columns.h");

/// Rows of a matrix, a row for `LANES` threads, and functions of all elements of a row: behind [`ELEMENT`], with `GROUP_SIZE`,
/// `LANES` and `EACH` defined.
pub const ROWS: &str = include_str!("rows.h");

/// Which elements of which tensor a thread has, in a launch over many: behind [`TABLE`], with `STRIDE`, `GROUP_SIZE` and `EACH`
/// defined.
pub const SHARE: &str = include_str!("share.h");

/// An elementwise function over many tensors, behind [`SHARE`]. `PROGRAMS` stands for the cases, one for each program.
pub const SWEEP: &str = include_str!("sweep.h");

/// The sums of `TERMS` functions over each group of a launch, behind [`SHARE`]. `PROGRAMS` stands for the cases.
pub const SUMS: &str = include_str!("sums.h");

/// The totals of such sums over ranges of groups, and a function of each range's, behind [`TABLE`]. `FUNCTION` stands for it.
pub const TOTALS: &str = include_str!("totals.h");

/// The random bits of a key: threefry2x32.
pub const THREEFRY: &str = include_str!("threefry.h");

/// Samples that are 0 or 1, behind [`TABLE`] and [`THREEFRY`], with `GROUP_SIZE` and `EACH` defined.
pub const BERNOULLI: &str = include_str!("bernoulli.h");

/// The header for host C++.
pub const HOST: &str = include_str!("host.h");

/// The header for Metal.
pub const METAL: &str = include_str!("metal.h");
