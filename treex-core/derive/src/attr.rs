//! The parsed attributes, each with its tokens, so that errors point to them.

use proc_macro2::TokenTree;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Ident, LitStr, Meta, Result, Token, WherePredicate};

use crate::ctxt::Ctxt;

const ON_FIELDS: [&str; 3] = ["skip", "rename", "kind"];
const ON_TYPES: [&str; 3] = ["module_init", "bound", "crate"];

/// The attributes of a field.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    /// `#[tree(skip)]`
    pub(crate) skip: Option<Ident>,
    /// `#[tree(rename = "name")]`
    pub(crate) rename: Option<LitStr>,
    /// `#[tree(kind = OptState)]`
    pub(crate) kind: Option<syn::Path>,
}

/// The attributes of a struct or an enum.
#[derive(Default)]
pub(crate) struct ContainerAttrs {
    /// `#[tree(module_init)]`
    pub(crate) module_init: Option<Ident>,
    /// `#[tree(bound = "T: Module")]`
    pub(crate) bound: Option<Punctuated<WherePredicate, Token![,]>>,
    /// `#[tree(crate = "path")]`
    pub(crate) krate: Option<syn::Path>,
}

impl FieldAttrs {
    pub(crate) fn parse(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let mut parsed = Self::default();
        each_meta(cx, attrs, |meta, name| match name {
            "skip" => once(&mut parsed.skip, meta, flag),
            "rename" => once(&mut parsed.rename, meta, |meta| value(meta, "\"name\"")),
            "kind" => once(&mut parsed.kind, meta, |meta| value(meta, "OptState")),
            _ => unknown(meta, name, "a field", &ON_FIELDS, "a struct or an enum", &ON_TYPES),
        });
        parsed
    }
}

impl ContainerAttrs {
    pub(crate) fn parse(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let mut parsed = Self::default();
        each_meta(cx, attrs, |meta, name| match name {
            "module_init" => once(&mut parsed.module_init, meta, flag),
            "bound" => once(&mut parsed.bound, meta, |meta| {
                value::<LitStr>(meta, "\"T: Module\"")?.parse_with(Punctuated::parse_terminated)
            }),
            "crate" => once(&mut parsed.krate, meta, |meta| value::<LitStr>(meta, "\"path\"")?.parse()),
            _ => unknown(meta, name, "a struct or an enum", &ON_TYPES, "a field", &ON_FIELDS),
        });
        parsed
    }
}

/// Reports any attribute on a variant.
pub(crate) fn refuse_on_variant(cx: &Ctxt, attrs: &[Attribute]) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("tree")) {
        cx.error(attr, "`#[tree(...)]` is not allowed on a variant; put it on the variant's fields");
    }
}

/// Calls `each` with every item of every `#[tree(...)]`, and continues after errors.
fn each_meta(cx: &Ctxt, attrs: &[Attribute], mut each: impl FnMut(&ParseNestedMeta<'_>, &str) -> Result<()>) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("tree")) {
        if !matches!(&attr.meta, Meta::List(list) if !list.tokens.is_empty()) {
            cx.error(attr, "`#[tree]` needs an argument, for instance `#[tree(skip)]`");
            continue;
        }
        let parsed = attr.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
            if let Err(error) = each(&meta, &name) {
                cx.syn_error(error);
                // Skip the rest of this item, so that the next is parsed too.
                while !meta.input.is_empty() && !meta.input.peek(Token![,]) {
                    meta.input.parse::<TokenTree>()?;
                }
            }
            Ok(())
        });
        if let Err(error) = parsed {
            cx.syn_error(error);
        }
    }
}

/// Parses into `slot`, which must be empty.
fn once<T>(
    slot: &mut Option<T>,
    meta: &ParseNestedMeta<'_>,
    parse: impl FnOnce(&ParseNestedMeta<'_>) -> Result<T>,
) -> Result<()> {
    let parsed = parse(meta)?;
    if slot.is_some() {
        let path = &meta.path;
        return Err(Error::new_spanned(path, format!("`{}` is given twice; keep one", quote!(#path))));
    }
    *slot = Some(parsed);
    Ok(())
}

/// `skip`, without a value.
fn flag(meta: &ParseNestedMeta<'_>) -> Result<Ident> {
    let ident = meta.path.require_ident()?;
    if meta.input.peek(Token![=]) || meta.input.peek(syn::token::Paren) {
        return Err(meta.error(format!("`{ident}` takes no value; write `#[tree({ident})]`")));
    }
    Ok(ident.clone())
}

/// `rename = "name"`; `example` is a valid value.
fn value<T: Parse>(meta: &ParseNestedMeta<'_>, example: &str) -> Result<T> {
    let name = meta.path.require_ident()?;
    let remedy = format!("write `#[tree({name} = {example})]`");
    if !meta.input.peek(Token![=]) {
        return Err(Error::new_spanned(name, format!("`{name}` needs a value; {remedy}")));
    }
    let (input, instead) = (meta.value()?, meta.input.span());
    input.parse().map_err(|_| Error::new(instead, format!("`{name}` has an invalid value; {remedy}")))
}

/// The error for an unknown attribute, with a suggestion.
fn unknown(
    meta: &ParseNestedMeta<'_>,
    name: &str,
    here: &str,
    known: &[&str],
    elsewhere: &str,
    known_elsewhere: &[&str],
) -> Result<()> {
    let distance = |other: &&&str| strsim::damerau_levenshtein(name, other);
    let near = known.iter().filter(|other| distance(other) <= 2).min_by_key(distance);
    let listed = || known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let path = &meta.path;
    let remedy = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known_elsewhere.contains(&name) => format!("it belongs on {elsewhere}"),
        None => format!("expected one of {}", listed()),
    };
    let message = format!("unknown tree attribute `{}` on {here}; {remedy}", quote!(#path));
    Err(Error::new_spanned(path, message))
}
