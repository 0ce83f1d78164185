//! The device's attributes: those of an H100 as far as a program can see them here.

use super::device::{Answer, Device};
use super::error::Error;
use super::module::{BLOCK, GRID, SHARED, SHARED_OPT_IN, THREADS};

/// The device's name.
pub const NAME: &std::ffi::CStr = c"Simulated CUDA device";

/// The version of CUDA that the driver says it has, if the environment does not choose another one.
pub const VERSION: i32 = 13000;

impl Device {
    /// `cuDeviceGetAttribute`. An attribute that is not in the table is refused, by its number.
    pub fn attribute(&self, attribute: i32, device: i32) -> Answer<i32> {
        self.device(device)?;
        let value: u32 = match attribute {
            1 => THREADS,
            2 => BLOCK[0],
            3 => BLOCK[1],
            4 => BLOCK[2],
            5 => GRID[0],
            6 => GRID[1],
            7 => GRID[2],
            8 => SHARED,
            9 => 64 << 10,  // constant memory
            10 => 32,       // lanes of a warp
            12 => 64 << 10, // registers of a block
            15 => 1,        // copies beside kernels
            16 => 132,      // multiprocessors
            31 => 1,        // kernels beside each other
            39 => 2048,     // threads of a multiprocessor
            41 => 1,        // one space of addresses
            75 => 9,        // compute capability 9.0
            76 => 0,
            78 => 1,           // priorities of streams
            81 => 228 << 10,   // shared memory of a multiprocessor
            82 => 64 << 10,    // registers of a multiprocessor
            83 | 89 | 95 => 0, // managed memory; access at once by host and device; cooperative launches
            97 => SHARED_OPT_IN,
            106 => 32,      // blocks of a multiprocessor
            111 => 1 << 10, // shared memory that each block loses
            115 => 1,       // pools of memory
            // Integrated, a time limit for kernels, ECC, texture and host mappings are absent from a simulation.
            17 | 18 | 19 | 32 => 0,
            _ => {
                eprintln!("simcuda: attribute {attribute} of a device is not there");
                return Err(Error::NOT_SUPPORTED);
            }
        };
        i32::try_from(value).map_err(|_| Error::UNKNOWN)
    }
}
