//! Kernels that are compiled once, in this crate.

/// Declares a trait whose methods are kernels, and implements it for each element type by a generic function.
///
/// A generic function is compiled anew in each crate that calls it; a method of an `impl` without parameters is
/// compiled where it is written. So the callers of these methods, the operations on tensors, stay small.
///
/// ```text
/// entry_points! {
///     /// What the kernels do.
///     pub trait Softmax: Float for [f32, f64, bf16, f16] {
///         /// The contract of one of them.
///         fn softmax(x: &[Self], row: usize) -> Result<Vec<Self>> = forward;
///     }
/// }
/// ```
macro_rules! entry_points {
    (
        $(#[$doc:meta])*
        pub trait $trait:ident: $bound:ident for [$($type:ty),+] $methods:tt
    ) => {
        entry_points!(@trait [$(#[$doc])*] $trait [$bound] $methods);
        $(entry_points!(@impl $trait $type $methods);)+
    };
    (@trait [$($doc:tt)*] $trait:ident [$bound:ident] {
        $($(#[$attribute:meta])* fn $name:ident($($argument:ident: $of:ty),* $(,)?) $(-> $output:ty)? = $kernel:path;)*
    }) => {
        $($doc)*
        pub trait $trait: $bound {
            $(
                $(#[$attribute])*
                fn $name($($argument: $of),*) $(-> $output)?;
            )*
        }
    };
    (@impl $trait:ident $type:ty {
        $($(#[$attribute:meta])* fn $name:ident($($argument:ident: $of:ty),* $(,)?) $(-> $output:ty)? = $kernel:path;)*
    }) => {
        impl $trait for $type {
            $(
                fn $name($($argument: $of),*) $(-> $output)? {
                    $kernel($($argument),*)
                }
            )*
        }
    };
}
