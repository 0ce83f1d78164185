//! The language of device kernels: a part of C++ that is CUDA with one header, and other languages with others. A kernel's text
//! follows the header of the language that it is compiled as.
//!
//! - `KERNEL(name, parameters)` declares a kernel, `TABLE(name)` its parameter of the struct `Table`, by value;
//!   `INLINE` a function, and `TABLE_REFERENCE(name)` the same parameter in it.
//! - `SHARED(type, name, size)` is memory of a group, `BARRIER` waits for all threads of it.
//! - `LOCAL_ID` and `GROUP_ID` are the positions of a thread in its group and of the group in the grid.
//! - `LOAD_F32(address, i)`, `STORE_F32(address, i, x)`, and the same for `F64`, `F16` and `BF16`, access element `i` of the
//!   memory at an address; `STORE_U8` stores a byte. Half types are loaded as `float` and rounded to nearest, ties to even, when stored.
//! - `bits_to_float` and `bits_to_double` give the number of a bit pattern, `round_to_odd` a `float` from which a `double` is
//!   rounded once to a half type.
//! - `uint` and `ulong` have 32 and 64 bits.

/// The header for CUDA.
pub const CUDA: &str = include_str!("cuda.h");

/// The parameter of a launch, of `WORDS` words.
pub const TABLE: &str = include_str!("table.h");

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
