//! The derive macro of treex-core, which re-exports it.

use proc_macro::TokenStream;

mod ast;
mod attr;
mod bound;
mod check;
mod crate_path;
mod ctxt;
mod expand;

/// A struct or an enum becomes a tree of its fields.
///
/// No attribute is needed in the common case, since the type of a field says what it is. Where one is:
///
/// | on | attribute | meaning |
/// |---|---|---|
/// | a field | `#[tree(skip)]` | not a part of the tree |
/// | a field | `#[tree(rename = "name")]` | the segment of the path, instead of the field's name |
/// | a field | `#[tree(kind = OptState)]` | every leaf below takes this kind |
/// | a struct | `#[tree(module_init)]` | `init` calls the struct's own `fn module_init(&mut self, key: &mut ModuleKey) -> Result<()>` |
/// | a type | `#[tree(bound = "T: Module")]` | the `where` clause, instead of the one that is inferred |
/// | a type | `#[tree(crate = "path")]` | where treex-core is found; default: through whichever of `treex-core`, `candle-treex`, `treex-nn`, `treex-optim` the manifest names |
///
/// The inferred clause asks that the fields' types be trees. Two generic types that contain each other would ask
/// in a circle: say `bound` on one of them.
///
/// Paths: a field adds its name, a field without a name its index, the variant of an enum nothing. A variant
/// with one unnamed field is what is in it.
#[proc_macro_derive(TreeObject, attributes(tree))]
pub fn derive_tree_object(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    match expand::tree_object(&input) {
        Ok(tokens) => tokens.into(),
        Err(errors) => errors.into_compile_error().into(),
    }
}
