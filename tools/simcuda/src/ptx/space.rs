//! Generic addresses: shared memory, local memory and the parameters have a window each, far from global memory.

use super::syntax::Space;

const WINDOWS: [(Space, u64); 3] =
    [(Space::Shared, 1 << 61), (Space::Local, 1 << 61 | 1 << 40), (Space::Param, 1 << 61 | 2 << 40)];

/// The first generic address of a space; of global memory all addresses are generic.
pub(crate) fn window(space: Space) -> u64 {
    WINDOWS.iter().find(|(of, _)| *of == space).map_or(0, |&(_, base)| base)
}

/// The space of a generic address, and the address there.
pub(crate) fn locate(generic: u64) -> (Space, u64) {
    let found = WINDOWS.iter().find(|(_, base)| generic.wrapping_sub(*base) >> 32 == 0);
    found.map_or((Space::Global, generic), |&(space, base)| (space, generic - base))
}
