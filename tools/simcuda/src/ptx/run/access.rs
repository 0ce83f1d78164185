//! Loads, stores and atomic operations of a warp.

use super::races::{Races, Touch, Who};
use super::shared::Shared;
use super::traffic;
use super::warp::{Stop, Warp};
use crate::fault::{Fault, FaultKind};
use crate::launch::LaunchCounts;
use crate::memory::Memory;
use crate::ptx::program::{Access, Atomic};
use crate::ptx::registers::{Lanes, lanes};
use crate::ptx::space::{locate, window};
use crate::ptx::syntax::Space;

/// What the warps of a block share.
#[derive(Debug)]
pub(super) struct Environment<'a> {
    pub(super) memory: &'a mut Memory,
    pub(super) parameters: &'a [u8],
    pub(super) shared: Shared,
    pub(super) races: Option<Races>,
    pub(super) counts: LaunchCounts,
}

/// Lanes that access one memory.
struct Group {
    space: Space,
    mask: u32,
    addresses: Lanes,
}

impl Group {
    /// Counts an access of `len` bytes by each lane: bytes and sectors of global memory, or the turns of the banks.
    fn count(&self, len: usize, [bytes, sectors]: [&mut u64; 2], bank_conflicts: &mut u64) {
        match self.space {
            Space::Global => {
                *bytes += len as u64 * u64::from(self.mask.count_ones());
                *sectors += traffic::sectors(&self.addresses, self.mask);
            }
            Space::Shared => *bank_conflicts += traffic::bank_conflicts(&self.addresses, self.mask, len),
            _ => {}
        }
    }
}

/// The lanes by the memories that they access.
fn groups(space: Space, mut addresses: Lanes, mask: u32) -> impl Iterator<Item = Group> {
    let mut masks = [(Space::Global, 0), (Space::Shared, 0), (Space::Local, 0), (Space::Param, 0)];
    match space {
        Space::Generic => {
            for lane in lanes(mask) {
                let (space, address) = locate(addresses[lane]);
                addresses[lane] = address;
                for (of, mask) in &mut masks {
                    *mask |= u32::from(*of == space) << lane;
                }
            }
        }
        _ => {
            masks[0] = (space, mask);
            // Other spaces have addresses of 32 bits.
            if !matches!(space, Space::Global | Space::Const) {
                for address in &mut addresses {
                    *address = u64::from(*address as u32);
                }
            }
        }
    }
    masks.into_iter().filter(|(_, mask)| *mask != 0).map(move |(space, mask)| Group {
        space,
        mask,
        addresses,
    })
}

/// Nothing, if the address is a multiple of the length.
#[inline]
fn aligned(address: u64, len: usize) -> Result<(), Fault> {
    if address & (len as u64 - 1) == 0 {
        return Ok(());
    }
    Err(Fault::new(FaultKind::Misaligned, format!("{len} bytes at {address:#x}")))
}

impl Warp {
    fn addresses(&self, slot: usize, offset: i64) -> Lanes {
        self.registers[slot].map(|base| base.wrapping_add_signed(offset))
    }

    /// `ld`.
    pub(super) fn load(
        &mut self,
        access: &Access,
        active: u32,
        env: &mut Environment<'_>,
    ) -> Result<(), Stop> {
        let len = access.size * access.elements.len();
        for group in groups(access.space, self.addresses(access.address, access.offset), active) {
            for lane in lanes(group.mask) {
                let address = group.addresses[lane];
                let bytes = aligned(address, len).and_then(|()| match group.space {
                    Space::Shared => env.shared.read(address, len),
                    Space::Local => self.local_bytes(lane, address, len),
                    Space::Param => parameter_bytes(env.parameters, address, len),
                    _ => env.memory.read(address, len),
                });
                let mut copy = [0; 32];
                copy[..len].copy_from_slice(bytes.map_err(|fault| Stop::new(lane, fault))?);
                for (element, &d) in copy[..len].chunks_exact(access.size).zip(&access.elements) {
                    self.registers.set(d, lane, extended(element, access.signed));
                }
            }
            self.note(&group, len, Touch { writes: false, atomic: access.strong }, env)?;
            let counts = &mut env.counts;
            group.count(len, [&mut counts.bytes_read, &mut counts.sectors_read], &mut counts.bank_conflicts);
        }
        Ok(())
    }

    /// `st`.
    pub(super) fn store(
        &mut self,
        access: &Access,
        active: u32,
        env: &mut Environment<'_>,
    ) -> Result<(), Stop> {
        let len = access.size * access.elements.len();
        for group in groups(access.space, self.addresses(access.address, access.offset), active) {
            for lane in lanes(group.mask) {
                let address = group.addresses[lane];
                let mut values = [0; 32];
                for (element, &a) in values[..len].chunks_exact_mut(access.size).zip(&access.elements) {
                    element.copy_from_slice(&self.registers[a][lane].to_le_bytes()[..access.size]);
                }
                let bytes = aligned(address, len).and_then(|()| match group.space {
                    Space::Shared => env.shared.write(address, len),
                    Space::Local => self.local_bytes_mut(lane, address, len),
                    Space::Global => env.memory.get_mut(address, len),
                    _ => Err(Fault::new(
                        FaultKind::IllegalAddress,
                        "constants and parameters cannot be written",
                    )),
                });
                bytes.map_err(|fault| Stop::new(lane, fault))?.copy_from_slice(&values[..len]);
            }
            self.note(&group, len, Touch { writes: true, atomic: access.strong }, env)?;
            let counts = &mut env.counts;
            group.count(
                len,
                [&mut counts.bytes_written, &mut counts.sectors_written],
                &mut counts.bank_conflicts,
            );
        }
        Ok(())
    }

    /// `atom` and `red`: lane after lane.
    pub(super) fn atomic(
        &mut self,
        atomic: &Atomic,
        active: u32,
        env: &mut Environment<'_>,
    ) -> Result<(), Stop> {
        let len = atomic.size;
        for group in groups(atomic.space, self.addresses(atomic.address, atomic.offset), active) {
            for lane in lanes(group.mask) {
                let address = group.addresses[lane];
                let [b, c] = atomic.operands.map(|slot| self.registers[slot][lane]);
                let (bytes, update) = match group.space {
                    // What is updated is read first.
                    Space::Shared => (
                        aligned(address, len)
                            .and_then(|()| env.shared.read(address, len).map(|_| ()))
                            .and_then(|()| env.shared.write(address, len)),
                        &atomic.update,
                    ),
                    Space::Global => (
                        aligned(address, len).and_then(|()| env.memory.update(address, len)),
                        atomic.global.as_ref().unwrap_or(&atomic.update),
                    ),
                    _ => {
                        let message = "only global and shared memory have atomic operations";
                        (Err(Fault::new(FaultKind::IllegalAddress, message)), &atomic.update)
                    }
                };
                let bytes = bytes.map_err(|fault| Stop::new(lane, fault))?;
                let old = extended(bytes, false);
                bytes.copy_from_slice(&update(old, b, c).to_le_bytes()[..len]);
                if let Some(d) = atomic.old {
                    self.registers.set(d, lane, old);
                }
            }
            self.note(&group, len, Touch { writes: true, atomic: true }, env)?;
            match group.space {
                Space::Global => env.counts.atomics += u64::from(group.mask.count_ones()),
                _ => env.counts.bank_conflicts += traffic::bank_conflicts(&group.addresses, group.mask, len),
            }
        }
        Ok(())
    }

    /// Looks for races.
    fn note(&self, group: &Group, len: usize, touch: Touch, env: &mut Environment<'_>) -> Result<(), Stop> {
        let Some(races) = &mut env.races else { return Ok(()) };
        if !matches!(group.space, Space::Global | Space::Shared) {
            return Ok(());
        }
        let base = window(group.space);
        for lane in lanes(group.mask) {
            let who = Who { warp: self.number, lane, order: &self.order };
            races
                .note(who, base + group.addresses[lane], len, touch)
                .map_err(|fault| Stop::new(lane, fault))?;
        }
        Ok(())
    }

    pub(super) fn local_bytes(&self, lane: usize, address: u64, len: usize) -> Result<&[u8], Fault> {
        let size = self.local.len() / 32;
        let own = &self.local[lane * size..(lane + 1) * size];
        own.get(address as usize..address as usize + len)
            .ok_or_else(|| outside("local memory", address, len, size))
    }

    pub(super) fn local_bytes_mut(
        &mut self,
        lane: usize,
        address: u64,
        len: usize,
    ) -> Result<&mut [u8], Fault> {
        let size = self.local.len() / 32;
        let own = &mut self.local[lane * size..(lane + 1) * size];
        own.get_mut(address as usize..address as usize + len)
            .ok_or_else(|| outside("local memory", address, len, size))
    }
}

fn parameter_bytes(parameters: &[u8], address: u64, len: usize) -> Result<&[u8], Fault> {
    parameters
        .get(address as usize..address as usize + len)
        .ok_or_else(|| outside("parameters", address, len, parameters.len()))
}

fn outside(what: &str, address: u64, len: usize, size: usize) -> Fault {
    Fault::new(FaultKind::IllegalAddress, format!("{len} bytes at {address} of {what} of {size} bytes"))
}

/// At most 8 bytes as a register holds them.
fn extended(bytes: &[u8], signed: bool) -> u64 {
    let value = match *bytes {
        [a] => u64::from(a),
        [a, b] => u16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    };
    if signed {
        let up = 64 - 8 * bytes.len() as u32;
        ((value << up) as i64 >> up) as u64
    } else {
        value
    }
}
