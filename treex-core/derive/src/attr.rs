//! The attributes, as written: each with the tokens it came from, so that errors stand where they belong.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::{Attribute, Ident, LitStr, Meta, Token, WherePredicate};

use crate::ctxt::Ctxt;

const ON_FIELDS: [&str; 3] = ["skip", "rename", "kind"];
const ON_TYPES: [&str; 3] = ["module_init", "bound", "crate"];

/// What stands on a field.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    /// `#[tree(skip)]`
    pub(crate) skip: Option<Ident>,
    /// `#[tree(rename = "name")]`
    pub(crate) rename: Option<LitStr>,
    /// `#[tree(kind = OptState)]`
    pub(crate) kind: Option<syn::Path>,
}

/// What stands on a struct or an enum.
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
            "skip" => once(cx, &mut parsed.skip, meta, flag),
            "rename" => once(cx, &mut parsed.rename, meta, |meta| value(meta, "\"name\"")),
            "kind" => once(cx, &mut parsed.kind, meta, |meta| value(meta, "OptState")),
            _ => unknown(cx, meta, name, "a field", &ON_FIELDS, "a struct or an enum", &ON_TYPES),
        });
        parsed
    }
}

impl ContainerAttrs {
    pub(crate) fn parse(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let mut parsed = Self::default();
        each_meta(cx, attrs, |meta, name| match name {
            "module_init" => once(cx, &mut parsed.module_init, meta, flag),
            "bound" => once(cx, &mut parsed.bound, meta, |meta| {
                value::<LitStr>(meta, "\"T: Module\"")?.parse_with(Punctuated::parse_terminated)
            }),
            "crate" => once(cx, &mut parsed.krate, meta, |meta| value::<LitStr>(meta, "\"path\"")?.parse()),
            _ => unknown(cx, meta, name, "a struct or an enum", &ON_TYPES, "a field", &ON_FIELDS),
        });
        parsed
    }
}

/// No attribute has a meaning on a variant.
pub(crate) fn refuse_on_variant(cx: &Ctxt, attrs: &[Attribute]) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("tree")) {
        cx.error(attr, "`#[tree(...)]` has no meaning on a variant; put it on the variant's fields");
    }
}

/// Calls `each` with every item of every `#[tree(...)]`, going on after errors.
fn each_meta(
    cx: &Ctxt,
    attrs: &[Attribute],
    mut each: impl FnMut(&ParseNestedMeta<'_>, &str) -> syn::Result<()>,
) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("tree")) {
        if !matches!(&attr.meta, Meta::List(list) if !list.tokens.is_empty()) {
            cx.error(attr, "`#[tree]` needs something in parentheses, for instance `#[tree(skip)]`");
            continue;
        }
        let parsed = attr.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
            each(&meta, &name)
        });
        if let Err(error) = parsed {
            cx.syn_error(error);
        }
    }
}

/// Parses into `slot`, which must be empty still.
fn once<T>(
    cx: &Ctxt,
    slot: &mut Option<T>,
    meta: &ParseNestedMeta<'_>,
    parse: impl FnOnce(&ParseNestedMeta<'_>) -> syn::Result<T>,
) -> syn::Result<()> {
    let parsed = parse(meta)?;
    if slot.replace(parsed).is_some() {
        let path = &meta.path;
        cx.error(path, format!("`{}` is given twice; keep one", quote!(#path)));
    }
    Ok(())
}

/// `skip`, without a value.
fn flag(meta: &ParseNestedMeta<'_>) -> syn::Result<Ident> {
    let ident = meta.path.require_ident()?;
    if meta.input.peek(Token![=]) || meta.input.peek(syn::token::Paren) {
        return Err(meta.error(format!("`{ident}` takes no value; write `#[tree({ident})]`")));
    }
    Ok(ident.clone())
}

/// `rename = "name"`; `example` is a value as it would be written.
fn value<T: syn::parse::Parse>(meta: &ParseNestedMeta<'_>, example: &str) -> syn::Result<T> {
    let wanted = |name: &Ident| format!("`{name}` takes another value; write `#[tree({name} = {example})]`");
    let name = match meta.path.get_ident() {
        Some(name) => name.clone(),
        // `crate` is a keyword, so its path is no identifier for `syn`.
        None => return meta.value()?.parse(),
    };
    if !meta.input.peek(Token![=]) {
        return Err(syn::Error::new_spanned(
            &meta.path,
            format!("`{name}` needs a value; write `#[tree({name} = {example})]`"),
        ));
    }
    let input = meta.value()?;
    let (before, span) = (input.fork(), input.span());
    match input.parse() {
        Ok(value) => Ok(value),
        Err(_) => {
            // What stands there instead is passed over, so that the next attribute is looked at too.
            before.parse::<syn::Expr>()?;
            Err(syn::Error::new(span, wanted(&name)))
        }
    }
}

/// Notes a name that is not known here, and what may have been meant.
fn unknown(
    cx: &Ctxt,
    meta: &ParseNestedMeta<'_>,
    name: &str,
    here: &str,
    known: &[&str],
    elsewhere: &str,
    known_elsewhere: &[&str],
) -> syn::Result<()> {
    let distance = |other: &&&str| strsim::damerau_levenshtein(name, other);
    let near = known.iter().filter(|other| distance(other) <= 2).min_by_key(distance);
    let listed = || known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let path = &meta.path;
    let remedy = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known_elsewhere.contains(&name) => format!("it belongs on {elsewhere}"),
        None => format!("known here: {}", listed()),
    };
    cx.error(path, format!("unknown tree attribute `{}` on {here}; {remedy}", quote!(#path)));
    // What follows the name is passed over, so that the next item is looked at too.
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let content;
        syn::parenthesized!(content in meta.input);
        content.parse::<TokenStream>()?;
    }
    Ok(())
}
