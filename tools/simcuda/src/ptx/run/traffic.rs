//! What an instruction of a warp asks of the memories: sectors, and turns of the banks.

use crate::ptx::registers::{Lanes, lanes};

/// Bytes of a sector of global memory.
const SECTOR: u64 = 32;

/// How many sectors the lanes touch. An aligned access of a lane lies in one.
pub(super) fn sectors(addresses: &Lanes, mask: u32) -> u64 {
    let mut touched = [0; 32];
    let mut count = 0;
    let mut ordered = true;
    for lane in lanes(mask) {
        let sector = addresses[lane] / SECTOR;
        if count > 0 && touched[count - 1] == sector {
            continue;
        }
        ordered &= count == 0 || touched[count - 1] < sector;
        touched[count] = sector;
        count += 1;
    }
    if ordered {
        return count as u64;
    }
    let touched = &mut touched[..count];
    touched.sort_unstable();
    1 + touched.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64
}

/// How many turns beyond the first the 32 banks of shared memory need, each 4 bytes wide. Lanes that read one word share
/// it; accesses of 8 and 16 bytes come in two and four parts of the warp, which is no conflict.
pub(super) fn bank_conflicts(addresses: &Lanes, mask: u32, len: usize) -> u64 {
    // What most warps do: word after word, or all the same one.
    if len == 4 {
        let first = mask.trailing_zeros();
        let base = addresses[first as usize].wrapping_sub(4 * u64::from(first));
        let same = addresses[first as usize];
        if lanes(mask).all(|lane| addresses[lane] == base.wrapping_add(4 * lane as u64))
            || lanes(mask).all(|lane| addresses[lane] == same)
        {
            return 0;
        }
    }
    let together = match len {
        0..=4 => 32,
        5..=8 => 16,
        _ => 8,
    };
    let mut conflicts = 0;
    for first in (0..32).step_by(together) {
        let part = mask & ((u32::MAX >> (32 - together as u32)) << first);
        let mut words: Vec<u64> = lanes(part)
            .flat_map(|lane| (addresses[lane] / 4)..=((addresses[lane] + len as u64 - 1) / 4))
            .collect();
        words.sort_unstable();
        words.dedup();
        let mut turns = [0u64; 32];
        for word in words {
            turns[(word % 32) as usize] += 1;
        }
        conflicts += turns.iter().max().map_or(0, |&most| most.saturating_sub(1));
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptx::registers::ALL;

    fn strided(by: u64) -> Lanes {
        std::array::from_fn(|lane| lane as u64 * by)
    }

    #[test]
    fn sectors_of_strides() {
        for (by, expected) in [(0, 1), (1, 1), (4, 4), (8, 8), (16, 16), (32, 32), (128, 32)] {
            assert_eq!(sectors(&strided(by), ALL), expected, "{by}");
        }
        let mut backward = strided(4);
        backward.reverse();
        assert_eq!((sectors(&backward, ALL), sectors(&strided(4), 0x101)), (4, 2));
        // There and back again: 32 lanes in two sectors.
        assert_eq!(sectors(&std::array::from_fn(|lane| (lane as u64 % 2) * 64), ALL), 2);
    }

    #[test]
    fn banks_of_strides() {
        for (by, len, expected) in [
            (4, 4, 0),
            (0, 4, 0),
            (8, 4, 1),
            (128, 4, 31),
            (132, 4, 0),
            (8, 8, 0),
            (16, 16, 0),
            (16, 8, 2),
            (1, 1, 0),
        ] {
            assert_eq!(bank_conflicts(&strided(by), ALL, len), expected, "{by} {len}");
        }
        assert_eq!(bank_conflicts(&strided(128), 0b111, 4), 2);
    }
}
