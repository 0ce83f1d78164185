//! The `where` clause: bounds on the types of the fields.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::visit::{self, Visit};
use syn::{Ident, Path, Type, WhereClause, parse_quote};

use crate::ast::Container;

/// The user's clause, and `FieldType: TreeObject` for each field whose type mentions a type parameter. A tree
/// is `Send + Sync`, so that is what a skipped field needs.
pub(crate) fn where_clause(container: &Container<'_>, krate: &TokenStream) -> WhereClause {
    let mut generics = container.input.generics.clone();
    let parameters: Vec<Ident> = generics.type_params().map(|parameter| parameter.ident.clone()).collect();
    let clause = generics.make_where_clause();
    if let Some(bound) = &container.attrs.bound {
        clause.predicates.extend(bound.iter().cloned());
        return clause.clone();
    }
    for field in container.fields() {
        let bound = match field.is_skipped() {
            true => quote!(::core::marker::Send + ::core::marker::Sync),
            false => quote!(#krate::TreeObject),
        };
        let mut bounded =
            Bounded { parameters: &parameters, itself: &container.input.ident, types: Vec::new() };
        bounded.visit_type(field.ty);
        for ty in bounded.types {
            clause.predicates.push(parse_quote!(#ty: #bound));
        }
    }
    clause.clone()
}

/// The types in a field's type that need a bound: the field's type itself, if it mentions a type parameter.
///
/// If it also mentions the derived type, as `Vec<(T, Node<T>)>` in `Node<T>`, that bound would be circular. Then the
/// bounds are on the types beside the derived type: `T`.
struct Bounded<'a> {
    parameters: &'a [Ident],
    itself: &'a Ident,
    types: Vec<&'a Type>,
}

impl<'a> Visit<'a> for Bounded<'a> {
    fn visit_type(&mut self, ty: &'a Type) {
        if !self.parameters.iter().any(|parameter| mentions(ty, parameter)) {
            return;
        }
        match ty {
            Type::Path(path) if path.qself.is_none() && starts_with(&path.path, self.itself) => {}
            ty if mentions(ty, self.itself) => visit::visit_type(self, ty),
            ty => self.types.push(ty),
        }
    }
}

/// Whether a path in `ty` starts with `ident`. A path that ends with it, such as `other::Node<T>`, is a different type.
fn mentions(ty: &Type, ident: &Ident) -> bool {
    struct Search<'a>(&'a Ident, bool);
    impl<'ast> Visit<'ast> for Search<'_> {
        fn visit_path(&mut self, path: &'ast Path) {
            self.1 |= starts_with(path, self.0);
            visit::visit_path(self, path);
        }
        fn visit_macro(&mut self, mac: &'ast syn::Macro) {
            // The expansion of a macro in a type is unknown: search its tokens.
            let words = mac.tokens.to_token_stream().to_string();
            self.1 |= words.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| self.0 == word);
        }
    }
    let mut search = Search(ident, false);
    search.visit_type(ty);
    search.1
}

fn starts_with(path: &Path, ident: &Ident) -> bool {
    path.leading_colon.is_none() && path.segments.first().is_some_and(|segment| segment.ident == *ident)
}
