//! Room on the stack for graphs of any depth: Candle walks its graph by recursion, and drops it so too.

use std::hash::{Hash as _, Hasher};

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, Storage, Tensor};

/// Bytes of stack for each node of a graph. Release builds use about an eighth, debug builds about a half.
const NODE: usize = 4 << 10;

/// The stack for a graph is reserved, not used, and never larger than this: enough for two million nodes in release builds.
const LARGEST: usize = 1 << 30;

/// What a call needs beside the nodes.
const SPARE: usize = 256 << 10;

/// Candle numbers tensors in the order in which they are made. So the graph of a tensor has at most as many nodes as the
/// numbers of it and of a [`mark`] from before differ.
pub(crate) fn number_of(tensor: &Tensor) -> usize {
    /// Receives the one number that an identifier consists of.
    struct Number(usize);
    impl Hasher for Number {
        fn write(&mut self, _: &[u8]) {}

        fn write_usize(&mut self, number: usize) {
            self.0 = number;
        }

        fn finish(&self) -> u64 {
            self.0 as u64
        }
    }
    let mut number = Number(0);
    tensor.id().hash(&mut number);
    number.0
}

/// The number of a tensor that is made now: a scalar without a value, which is dropped unread.
pub(crate) fn mark() -> usize {
    let nothing = Storage::Cpu(CpuStorage::U8(Vec::new()));
    number_of(&Tensor::from_storage(nothing, (), BackpropOp::none(), false))
}

/// Runs `f`, which walks or drops what was made since `start`, on another stack if this one may be too small.
pub(crate) fn with_room<R>(start: usize, f: impl FnOnce() -> R) -> R {
    let nodes = mark().saturating_sub(start);
    let needed = nodes.saturating_mul(NODE).min(LARGEST) + SPARE;
    match stacker::remaining_stack() {
        Some(left) if left >= needed => f(),
        _ => stacker::grow(needed, f),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn numbers_grow_by_one() {
        let start = mark();
        let tensors: Vec<_> = (0..10).map(|x| Tensor::new(x as f32, &Device::Cpu).unwrap()).collect();
        let numbers: Vec<_> = tensors.iter().map(number_of).collect();
        assert!(numbers.is_sorted() && numbers[0] > start && numbers[9] >= start + 10, "{start} {numbers:?}");
    }
}
