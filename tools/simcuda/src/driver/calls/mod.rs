//! The functions that programs call, with C's calling convention. They take the device's lock, hand on their arguments
//! and return a code; what they mean is in the modules above.
//!
//! Handles are numbers, passed as pointers are.

pub mod absent;
pub mod context;
pub mod counts;
pub mod graph;
pub mod memory;
pub mod module;
pub mod node;
pub mod pointer;
pub mod stream;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::device::Device;
use super::error::Error;
use super::settings::Settings;

/// An error with the number that a call returns for it. Success is 0 in all libraries.
pub trait Code {
    /// The number.
    fn code(self) -> i32;
}

impl Code for Error {
    fn code(self) -> i32 {
        Self::code(self)
    }
}

static DEVICE: LazyLock<Mutex<Device>> = LazyLock::new(|| {
    let settings = Settings::read(|name| std::env::var(name).ok()).unwrap_or_else(|words| {
        eprintln!("simcuda: {words}");
        std::process::exit(2)
    });
    if settings.report.is_some() {
        counts::report_at_exit();
    }
    Mutex::new(Device::new(settings))
});

thread_local! {
    /// This thread's number.
    static THREAD: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// Runs a call on the device and returns its code.
pub(crate) fn call<E: Code>(name: &str, body: impl FnOnce(&mut Device) -> Result<(), E>) -> i32 {
    let mut device = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    device.enter(THREAD.with(|thread| *thread));
    let code = body(&mut device).map_or_else(Code::code, |()| 0);
    if device.settings().trace {
        eprintln!("simcuda: {name} = {code}");
    }
    code
}

/// Functions of C, of a library with this type of errors. Each is a call on the device, which its first name stands for.
macro_rules! calls {
    ($error:ty; $($(#[doc = $doc:literal])* fn $name:ident($device:ident $(, $arg:ident: $ty:ty)* $(,)?) $body:block)*) => {$(
        $(#[doc = $doc])*
        ///
        /// # Safety
        /// Pointers are as the manual asks for in this call.
        #[allow(non_snake_case)] // the name that programs call it by
        #[allow(clippy::too_many_arguments)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> i32 {
            $crate::driver::calls::call(
                stringify!($name),
                |$device: &mut $crate::driver::device::Device| -> Result<(), $error> { $body },
            )
        }
    )*};
}
pub(crate) use calls;
