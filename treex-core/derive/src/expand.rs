//! Code generation.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote, quote_spanned};
use syn::DeriveInput;
use syn::ext::IdentExt as _;

use crate::ast::{Container, Field, Shape, Variant};
use crate::bound;
use crate::check;
use crate::crate_path;
use crate::ctxt::Ctxt;

pub(crate) fn tree_object(input: &DeriveInput) -> syn::Result<TokenStream> {
    let cx = Ctxt::default();
    let container = Container::parse(&cx, input);
    if let Some(container) = &container {
        check::check(&cx, container);
    }
    cx.check()?;
    Ok(container.map(|container| implementation(&container)).unwrap_or_default())
}

fn implementation(container: &Container<'_>) -> TokenStream {
    let krate = match &container.attrs.krate {
        Some(path) => path.to_token_stream(),
        None => crate_path::treex_core(),
    };
    let ident = &container.input.ident;
    let (impl_generics, ty_generics, _) = container.input.generics.split_for_impl();
    let where_clause = bound::where_clause(container, &krate);
    let [visit, visit_mut] =
        [Access::Shared, Access::Mutable].map(|access| visits(container, access, &krate));
    let module = module_methods(container, &krate);
    quote! {
        const _: () = {
            #[automatically_derived]
            impl #impl_generics #krate::TreeObject for #ident #ty_generics #where_clause {
                fn visit<'__tree>(&'__tree self, __visitor: &mut dyn #krate::Visitor<'__tree>) {
                    #visit
                }

                fn visit_mut<'__tree>(&'__tree mut self, __visitor: &mut dyn #krate::VisitorMut<'__tree>) {
                    #visit_mut
                }

                #module
            }

            #[automatically_derived]
            impl #impl_generics #krate::Aux for #ident #ty_generics #where_clause {
                fn detach_where(&mut self, __constant: &dyn Fn(&#krate::candle::Tensor) -> ::core::option::Option<#krate::candle::Tensor>) {
                    #krate::detach_tree(self, __constant);
                }
            }
        };
    }
}

#[derive(Clone, Copy)]
enum Access {
    Shared,
    Mutable,
}

/// The body of `visit` or `visit_mut`.
fn visits(container: &Container<'_>, access: Access, krate: &TokenStream) -> TokenStream {
    match &container.shape {
        Shape::Struct(fields) => {
            let children = fields.iter().filter(|field| !field.is_skipped()).map(|field| {
                let member = &field.member;
                let place = match access {
                    Access::Shared => quote!(&self.#member),
                    Access::Mutable => quote!(&mut self.#member),
                };
                child(field, access, &place, &segments(field, krate), krate)
            });
            quote!(#(#children)*)
        }
        Shape::Enum(variants) => {
            let arms = variants.iter().map(|variant| {
                let pattern = pattern(variant);
                let children = variant.fields.iter().filter(|field| !field.is_skipped()).map(|field| {
                    let binding = &field.binding;
                    let place = binding.to_token_stream();
                    match variant.transparent() {
                        Some(field) if field.attrs.kind.is_none() => delegate(field, access, krate),
                        Some(field) => child(field, access, &place, &quote!(), krate),
                        None => child(field, access, &place, &segments(field, krate), krate),
                    }
                });
                quote!(#pattern => { #(#children)* })
            });
            match_self(&arms.collect::<Vec<_>>())
        }
    }
}

/// Visits one child. The cast names the field's type, so that a missing implementation is reported there.
fn child(
    field: &Field<'_>,
    access: Access,
    place: &TokenStream,
    segments: &TokenStream,
    krate: &TokenStream,
) -> TokenStream {
    let kind = field.attrs.kind.as_ref().map(|kind| quote!(.with_kind(#krate::KindTag::of::<#kind>())));
    let ty = field.ty;
    let as_tree = match access {
        Access::Shared => quote!(as_tree),
        Access::Mutable => quote!(as_tree_mut),
    };
    quote!(__visitor.child(#krate::ChildInfo::new(&[#segments]) #kind, <#ty as #krate::TreeObject>::#as_tree(#place));)
}

fn segments(field: &Field<'_>, krate: &TokenStream) -> TokenStream {
    match (field.name(), &field.member) {
        (Some(name), _) => quote!(#krate::Segment::Field(#name)),
        (None, member) => quote!(#krate::Segment::Index(#member)),
    }
}

/// The only field of a transparent variant is visited instead of the enum.
fn delegate(field: &Field<'_>, access: Access, krate: &TokenStream) -> TokenStream {
    let binding = &field.binding;
    let method = match access {
        Access::Shared => quote!(visit),
        Access::Mutable => quote!(visit_mut),
    };
    let ty = field.ty;
    quote!(<#ty as #krate::TreeObject>::#method(#binding, __visitor);)
}

/// `Self::Variant { 0: __0, name: __1 }`, which fits every variant.
fn pattern(variant: &Variant<'_>) -> TokenStream {
    let ident = variant.ident;
    let members = variant.fields.iter().map(|field| &field.member);
    let bindings = variant.fields.iter().map(|field| &field.binding);
    quote!(Self::#ident { #(#members: #bindings),* })
}

/// `match self { arms }`, also for an enum without variants.
fn match_self(arms: &[TokenStream]) -> TokenStream {
    if arms.is_empty() { quote!(match *self {}) } else { quote!(match self { #(#arms)* }) }
}

/// `identity` and `initialize_module`.
fn module_methods(container: &Container<'_>, krate: &TokenStream) -> TokenStream {
    match &container.shape {
        Shape::Struct(_) => {
            let name = container.input.ident.unraw().to_string();
            // The struct's method and the trait's differ in name, so that a missing one is an error
            // here and not a recursive call. The error is reported at the attribute's span.
            let initialize = container.attrs.module_init.as_ref().map(|attribute| {
                let call = quote_spanned!(attribute.span()=> Self::#attribute(self, __key));
                quote! {
                    fn initialize_module(&mut self, __key: &mut #krate::ModuleKey) -> #krate::Result<()> {
                        #call
                    }
                }
            });
            quote! {
                fn identity(&self) -> ::core::option::Option<#krate::ModuleId> {
                    ::core::option::Option::Some(#krate::ModuleId::of(self, #name))
                }

                #initialize
            }
        }
        Shape::Enum(variants) => {
            let arms = |inner: &dyn Fn(&Field<'_>) -> TokenStream, other: TokenStream| {
                let arm = |variant: &Variant<'_>| {
                    let pattern = pattern(variant);
                    let transparent = variant.transparent();
                    let plain = transparent.filter(|field| field.attrs.kind.is_none() && !field.is_skipped());
                    let body = plain.map_or_else(|| other.clone(), inner);
                    quote!(#pattern => #body,)
                };
                match_self(&variants.iter().map(arm).collect::<Vec<_>>())
            };
            let identities = arms(
                &|field| {
                    let binding = &field.binding;
                    let ty = field.ty;
                    quote!(<#ty as #krate::TreeObject>::identity(#binding))
                },
                quote!(::core::option::Option::None),
            );
            let initializes = arms(
                &|field| {
                    let binding = &field.binding;
                    let ty = field.ty;
                    quote!(<#ty as #krate::TreeObject>::initialize_module(#binding, __key))
                },
                quote!(::core::result::Result::Ok(())),
            );
            quote! {
                fn identity(&self) -> ::core::option::Option<#krate::ModuleId> {
                    #identities
                }

                fn initialize_module(&mut self, __key: &mut #krate::ModuleKey) -> #krate::Result<()> {
                    #initializes
                }
            }
        }
    }
}
