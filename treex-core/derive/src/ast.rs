//! The parsed type: that of `syn` with the `#[tree]` attributes attached.

use quote::{ToTokens as _, format_ident};
use syn::{Data, DeriveInput, Ident, Member, Type};

use crate::attr::{self, ContainerAttrs, FieldAttrs};
use crate::ctxt::Ctxt;

pub(crate) struct Container<'a> {
    pub(crate) input: &'a DeriveInput,
    pub(crate) attrs: ContainerAttrs,
    pub(crate) shape: Shape<'a>,
}

pub(crate) enum Shape<'a> {
    Struct(Vec<Field<'a>>),
    Enum(Vec<Variant<'a>>),
}

pub(crate) struct Variant<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) fields: Vec<Field<'a>>,
}

pub(crate) struct Field<'a> {
    pub(crate) ty: &'a syn::Type,
    /// The name or the index.
    pub(crate) member: Member,
    /// The variable that a pattern binds the field to.
    pub(crate) binding: Ident,
    pub(crate) attrs: FieldAttrs,
}

impl<'a> Container<'a> {
    /// `None` if the type cannot be parsed; errors are in `cx`.
    pub(crate) fn parse(cx: &Ctxt, input: &'a DeriveInput) -> Option<Self> {
        let attrs = ContainerAttrs::parse(cx, &input.attrs);
        let shape = match &input.data {
            Data::Struct(data) => Shape::Struct(fields(cx, &data.fields)),
            Data::Enum(data) => {
                Shape::Enum(data.variants.iter().map(|variant| Variant::parse(cx, variant)).collect())
            }
            Data::Union(data) => {
                cx.error(
                    data.union_token,
                    "a union cannot be a tree, since its active field is unknown; use an enum",
                );
                return None;
            }
        };
        Some(Self { input, attrs, shape })
    }

    /// All fields, of all variants.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field<'a>> {
        let (of_struct, of_variants) = match &self.shape {
            Shape::Struct(fields) => (fields.as_slice(), [].as_slice()),
            Shape::Enum(variants) => ([].as_slice(), variants.as_slice()),
        };
        of_struct.iter().chain(of_variants.iter().flat_map(|variant| &variant.fields))
    }
}

impl<'a> Variant<'a> {
    fn parse(cx: &Ctxt, variant: &'a syn::Variant) -> Self {
        attr::refuse_on_variant(cx, &variant.attrs);
        Self { ident: &variant.ident, fields: fields(cx, &variant.fields) }
    }

    /// The only field of a variant like `Conv(Conv)`, which adds no path segment.
    pub(crate) fn transparent(&self) -> Option<&Field<'a>> {
        match self.fields.as_slice() {
            [field] if matches!(field.member, Member::Unnamed(_)) && field.attrs.rename.is_none() => {
                Some(field)
            }
            _ => None,
        }
    }
}

fn fields<'a>(cx: &Ctxt, fields: &'a syn::Fields) -> Vec<Field<'a>> {
    fields
        .iter()
        .zip(fields.members())
        .enumerate()
        .map(|(index, (field, member))| Field {
            ty: &field.ty,
            member,
            binding: format_ident!("__{index}"),
            attrs: FieldAttrs::parse(cx, &field.attrs),
        })
        .collect()
}

impl Field<'_> {
    /// Whether the field is no part of the tree: it is marked, or a function pointer, which holds no leaf. Traits cannot
    /// be implemented for all of these, since each number and form of arguments is a type of its own.
    pub(crate) fn is_skipped(&self) -> bool {
        self.attrs.skip.is_some() || matches!(self.ty, Type::BareFn(_))
    }

    /// The path segment as text.
    pub(crate) fn segment(&self) -> String {
        match (self.name(), &self.member) {
            (Some(name), _) => name,
            (None, member) => member.to_token_stream().to_string(),
        }
    }

    /// The path segment as text, if the field has a name.
    pub(crate) fn name(&self) -> Option<String> {
        use syn::ext::IdentExt as _;
        match (&self.attrs.rename, &self.member) {
            (Some(name), _) => Some(name.value()),
            (None, Member::Named(ident)) => Some(ident.unraw().to_string()),
            (None, Member::Unnamed(_)) => None,
        }
    }
}
