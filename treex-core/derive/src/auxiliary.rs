//! The derive of `Aux`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Data, DeriveInput, Error, Fields, parse_quote};

use crate::crate_path;

pub(crate) fn aux(input: &DeriveInput) -> syn::Result<TokenStream> {
    let krate = crate_path::treex_core();
    let ident = &input.ident;
    let body = match &input.data {
        Data::Struct(data) => {
            let (pattern, calls) = fields(&data.fields, &krate);
            quote!(let Self #pattern = self; #calls)
        }
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let (name, (pattern, calls)) = (&variant.ident, fields(&variant.fields, &krate));
                quote!(Self::#name #pattern => { #calls })
            });
            if data.variants.is_empty() { quote!(match *self {}) } else { quote!(match self { #(#arms)* }) }
        }
        Data::Union(_) => {
            return Err(Error::new(
                ident.span(),
                "a union has no fields that can be told apart: write a struct or an enum",
            ));
        }
    };
    let mut generics = input.generics.clone();
    for parameter in input.generics.type_params() {
        let name = &parameter.ident;
        generics.make_where_clause().predicates.push(parse_quote!(#name: #krate::Aux));
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #krate::Aux for #ident #ty_generics #where_clause {
            fn detach_where(&mut self, __constant: &dyn Fn(&#krate::candle::Tensor) -> ::core::option::Option<#krate::candle::Tensor>) {
                let _ = __constant;
                #body
            }
        }
    })
}

/// A pattern that binds all fields, and a call for each. The call is at the field's type, where an error is reported.
fn fields(fields: &Fields, krate: &TokenStream) -> (TokenStream, TokenStream) {
    let bindings: Vec<_> = (0..fields.len()).map(|at| format_ident!("__{at}")).collect();
    let members = fields.members();
    let calls = fields.iter().zip(&bindings).map(|(field, binding)| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> <#ty as #krate::Aux>::detach_where(#binding, __constant);)
    });
    (quote!({ #(#members: #bindings),* }), quote!(#(#calls)*))
}
