//! The `where` clause: what the fields need, said about the fields' types.

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::visit::Visit;
use syn::{Ident, Type, WhereClause, parse_quote};

use crate::ast::Container;

/// The user's clause, and `FieldType: TreeObject` for each field whose type mentions a type parameter. A field
/// that mentions the type itself adds nothing: that would go round in circles, and the other fields say
/// what the parameters must be.
pub(crate) fn where_clause(container: &Container<'_>, krate: &TokenStream) -> WhereClause {
    let mut generics = container.input.generics.clone();
    let parameters: Vec<Ident> = generics.type_params().map(|parameter| parameter.ident.clone()).collect();
    let clause = generics.make_where_clause();
    if let Some(bound) = &container.attrs.bound {
        clause.predicates.extend(bound.iter().cloned());
        return clause.clone();
    }
    for field in container.fields() {
        let (ty, name) = (field.ty, &container.input.ident);
        if !parameters.iter().any(|parameter| mentions(ty, parameter)) || mentions(ty, name) {
            continue;
        }
        clause.predicates.push(match field.is_skipped() {
            true => parse_quote!(#ty: ::core::marker::Send + ::core::marker::Sync),
            false => parse_quote!(#ty: #krate::TreeObject),
        });
    }
    clause.clone()
}

/// Whether `ident` occurs in `ty`.
fn mentions(ty: &Type, ident: &Ident) -> bool {
    struct Search<'a>(&'a Ident, bool);
    impl<'ast> Visit<'ast> for Search<'_> {
        fn visit_ident(&mut self, ident: &'ast Ident) {
            self.1 |= ident == self.0;
        }
        fn visit_macro(&mut self, mac: &'ast syn::Macro) {
            // What a macro in a type expands to is unknown: look at its words.
            let words = mac.tokens.to_token_stream().to_string();
            self.1 |= words.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| self.0 == word);
        }
    }
    let mut search = Search(ident, false);
    search.visit_type(ty);
    search.1
}
