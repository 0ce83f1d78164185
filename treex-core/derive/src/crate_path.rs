//! The path by which generated code names treex-core.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

/// A path in generated code.
type PathOf = fn() -> TokenStream;

/// The packages through which a crate can depend on treex-core, in the order of preference, each with the path from
/// that package's library to treex-core.
const PACKAGES: [(&str, PathOf); 4] = [
    ("treex-core", || quote!()),
    ("candle-treex", || quote!()), // re-exports everything of treex-core at its root
    ("treex-nn", || quote!(::treex_core)),
    ("treex-optim", || quote!(::treex_core)),
];

/// The path to treex-core from the crate that is compiled, as its manifest names the package. Falls back to
/// `::treex_core` if there is no manifest, as in other build systems than Cargo, or if it names none of the packages;
/// `#[tree(crate = "...")]` is for those.
pub(crate) fn treex_core() -> TokenStream {
    let found = PACKAGES.iter().find_map(|(package, inner)| {
        let name = match crate_name(package) {
            // Only `treex-core` gets here, since the others depend on it. Its unit tests see it under its own name too,
            // by `extern crate self`.
            Ok(FoundCrate::Itself) => package.replace('-', "_"),
            Ok(FoundCrate::Name(name)) => library_name(name),
            Err(_) => return None,
        };
        let (name, inner) = (format_ident!("{name}"), inner());
        Some(quote!(::#name #inner))
    });
    found.unwrap_or_else(|| quote!(::treex_core))
}

/// The facade's library is called `treex`; any other name here is that of the package, or one that the manifest
/// chose.
fn library_name(dependency: String) -> String {
    if dependency == "candle_treex" { "treex".to_owned() } else { dependency }
}
