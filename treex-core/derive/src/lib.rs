//! The derive macro of treex-core, which re-exports it.

use proc_macro::TokenStream;

mod ast;
mod attr;
mod auxiliary;
mod bound;
mod check;
mod crate_path;
mod ctxt;
mod expand;

/// Makes a struct or an enum a tree of its fields.
///
/// The common case needs no attribute, since the type of a field defines its role. Attributes:
///
/// | on | attribute | meaning |
/// |---|---|---|
/// | a field | `#[tree(skip)]` | excluded from the tree |
/// | a field | `#[tree(rename = "name")]` | the path segment; default: the field's name |
/// | a field | `#[tree(kind = OptState)]` | sets the kind of every leaf below |
/// | a struct | `#[tree(module_init)]` | `init` calls the struct's own `fn module_init(&mut self, key: &mut ModuleKey) -> Result<()>` |
/// | a type | `#[tree(bound = "T: Module")]` | the `where` clause; default: inferred |
/// | a type | `#[tree(crate = "path")]` | the path to treex-core; default: through the first of `treex-core`, `candle-treex`, `treex-nn`, `treex-optim` that the manifest names |
///
/// The inferred clause requires that the fields' types are trees. For two generic types that contain each other it
/// would be circular: set `bound` on one of them.
///
/// Paths: a field adds its name, or its index if unnamed; the variant of an enum adds nothing. A variant with one
/// unnamed field is transparent.
#[proc_macro_derive(TreeObject, attributes(tree))]
pub fn derive_tree_object(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    match expand::tree_object(&input) {
        Ok(tokens) => tokens.into(),
        Err(errors) => errors.into_compile_error().into(),
    }
}

/// Lets a struct or an enum be handed out of a differentiated function: `detach_where` of each field. Every field is an
/// `Aux`. A tree needs no derive, since `#[derive(TreeObject)]` includes it.
#[proc_macro_derive(Aux)]
pub fn derive_aux(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    auxiliary::aux(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
