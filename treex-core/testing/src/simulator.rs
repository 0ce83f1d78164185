//! The simulated CUDA device of `tools/simcuda`, where that is the driver that this process loaded.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// What the simulated device does beyond a driver: it counts, and refuses transfers. All of it is the whole process's.
#[derive(Clone, Copy, Debug)]
pub struct Simulator {
    count: unsafe extern "C" fn(*const c_char, *mut u64) -> c_int,
    reset_counts: unsafe extern "C" fn() -> c_int,
    refuse_transfers: unsafe extern "C" fn(c_int) -> c_int,
}

impl Simulator {
    /// `None` if the driver is another one, or none is loaded.
    #[must_use]
    pub fn loaded() -> Option<Self> {
        let count = symbol(c"simcuda_count")?;
        let reset_counts = symbol(c"simcuda_reset_counts")?;
        let refuse_transfers = symbol(c"simcuda_refuse_transfers")?;
        // SAFETY: the functions of these names have these types (`tools/simcuda/src/driver/calls/counts.rs`), and the
        // library that has them stays loaded.
        unsafe {
            Some(Self {
                count: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*const c_char, *mut u64) -> c_int,
                >(count),
                reset_counts: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(
                    reset_counts,
                ),
                refuse_transfers: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(
                    refuse_transfers,
                ),
            })
        }
    }

    /// The count of this name in the simulator's reports, since the start or the last [`reset_counts`](Self::reset_counts).
    ///
    /// # Panics
    /// If there is no count of this name.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        let text = CString::new(name).unwrap();
        let mut count = 0;
        // SAFETY: the pointers are to a string and to a place for a number.
        let code = unsafe { (self.count)(text.as_ptr(), &raw mut count) };
        assert_eq!(code, 0, "the simulated device has no count `{name}`");
        count
    }

    /// Counts from 0 again.
    pub fn reset_counts(&self) {
        // SAFETY: there are no pointers.
        assert_eq!(unsafe { (self.reset_counts)() }, 0);
    }

    /// Runs `f`, during which each copy between host and device is an error of the driver, those of Candle too. The
    /// simulator prints the stack of each.
    pub fn refusing_transfers<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Allows them again, after a panic too.
        struct Allow<'s>(&'s Simulator);

        impl Drop for Allow<'_> {
            fn drop(&mut self) {
                // SAFETY: there are no pointers.
                assert_eq!(unsafe { (self.0.refuse_transfers)(0) }, 0);
            }
        }

        // SAFETY: there are no pointers.
        assert_eq!(unsafe { (self.refuse_transfers)(1) }, 0);
        let _allow = Allow(self);
        f()
    }
}

/// A function of a library that this process loaded, by its name.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a string of C.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}
