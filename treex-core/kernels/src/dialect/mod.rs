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
//!   memory at an address; `LOAD_U32` and `LOAD_U64` load an index, `STORE_U32` and `STORE_U64` store one. Half types are loaded as `float` and rounded to nearest, ties to even, when
//!   stored.
//! - `bits_to_float` and `bits_to_double` give the number of a bit pattern, `round_to_odd` a `float` from which a `double` is
//!   rounded once to a half type.
//! - `STORE_WIDEST` is `STORE_F64` where there is a `double`, otherwise `STORE_F32`.
//! - `uint` and `ulong` have 32 and 64 bits.
//!
//! A text is CUDA C++, Metal and host C++ at once, so it has no more than all of them have:
//!
//! - No name is a keyword of one of them: not `half`, `thread`, `device`, `constant` or `kernel`.
//! - `SHARED` is in kernels only, never in an `INLINE` function, and so are `LOCAL_ID` and `GROUP_ID`.
//! - `BARRIER` and `SHUFFLE_XOR` are reached by all threads that wait there, and no thread has returned before.
//! - `double`, `F64` and `TABLE` have no form in Metal: a launch there is of `F32` and half types, and each tensor is a parameter.
//!   Kernels over many tensors, whose addresses are numbers in a table, are CUDA and host C++ alone.

/// The header for CUDA.
pub const CUDA: &str = include_str!("cuda.h");

/// The header for Metal. Address spaces are written by four macros, `DEVICE_POINTER`, `GROUP_POINTER`, `GROUP_ARRAY` and
/// `CONSTANT_VALUE`: a `metal_stdlib` that defines them gives a C++ compiler types in their place, and what mixes them does not
/// compile.
///
/// `F64` is not there, `bits_to_double` rounds to a `float`, and `expm1` and `log1p`, which Metal lacks, are in the header. Kernels
/// are compiled without fast mathematics. No compiler of Apple's has seen these forms yet.
pub const METAL: &str = include_str!("metal.h");

/// The header for host C++17, which finds the mistakes of a kernel. Memory of tensors and memory of groups are types of their own, so
/// that one in the place of the other, or a store to what is `READ`, does not compile. All accesses are checked: one that is out
/// of bounds ends the program, as does one to shared memory that was not written, or that another thread wrote or reads without a
/// barrier in between.
///
/// The threads of a group are fibers. `host::launch` runs them and the groups forward, reversed or in the order of a seed. Threads
/// that wait at different places, or for one that has returned, end the program too. In a table, `(n + 1) << 40` is the address of
/// `host::memory[n]`.
pub const HOST: &str = include_str!("host.h");

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

/// Whether a step is made, and the words of its numbers, behind [`TABLE`], with `GROUP_SIZE` defined.
pub const DECIDE: &str = include_str!("decide.h");

/// The random bits of a key: threefry2x32.
pub const THREEFRY: &str = include_str!("threefry.h");

/// Samples that are 0 or 1, behind [`TABLE`] and [`THREEFRY`], with `GROUP_SIZE` and `EACH` defined.
pub const BERNOULLI: &str = include_str!("bernoulli.h");
