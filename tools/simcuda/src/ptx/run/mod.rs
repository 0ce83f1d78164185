//! A launch: the blocks of a grid, one after the other.

mod access;
mod block;
mod meeting;
mod print;
mod races;
mod shared;
mod traffic;
mod warp;

use self::block::Block;
use super::program::Program;
use crate::fault::Fault;
use crate::launch::{Grid, LaunchCounts, Options, Order};
use crate::memory::Memory;
use crate::splitmix::SplitMix64;

/// What all blocks of a launch have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) program: &'a Program,
    pub(crate) grid: Grid,
    pub(crate) parameters: &'a [u8],
    pub(crate) static_shared: u32,
    pub(crate) options: &'a Options,
}

impl Launch<'_> {
    /// Threads of a block.
    fn threads(&self) -> usize {
        self.grid.threads.iter().map(|&n| n as usize).product()
    }

    /// Runs all blocks.
    pub(crate) fn run(&self, memory: &mut Memory) -> Result<LaunchCounts, Fault> {
        let [x, y, z] = self.grid.blocks.map(u64::from);
        let count = x * y * z;
        if count == 0 || self.threads() == 0 {
            return Ok(LaunchCounts::default());
        }
        let mut block = Block::new(*self, memory);
        for number in order(self.options.order, count) {
            block.run([(number % x) as u32, (number / x % y) as u32, (number / x / y) as u32])?;
        }
        Ok(block.counts())
    }
}

/// The numbers below `count`, in this order.
fn order(order: Order, count: u64) -> Box<dyn Iterator<Item = u64>> {
    match order {
        Order::Forward => Box::new(0..count),
        Order::Reversed => Box::new((0..count).rev()),
        Order::Seeded(seed) => {
            let mut all: Vec<u64> = (0..count).collect();
            let mut random = SplitMix64(seed);
            for last in (1..all.len()).rev() {
                all.swap(last, random.below(last + 1));
            }
            Box::new(all.into_iter())
        }
    }
}
