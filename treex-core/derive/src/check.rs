//! Rules over several attributes or fields, one function each.

use std::collections::HashSet;

use crate::ast::{Container, Field, Shape};
use crate::ctxt::Ctxt;

pub(crate) fn check(cx: &Ctxt, container: &Container<'_>) {
    container.fields().for_each(|field| {
        skip_stands_alone(cx, field);
        name_is_a_segment(cx, field);
    });
    match &container.shape {
        Shape::Struct(fields) => names_differ(cx, fields),
        Shape::Enum(variants) => variants.iter().for_each(|variant| names_differ(cx, &variant.fields)),
    }
    module_init_is_on_a_struct(cx, container);
}

/// A skipped field has neither a path segment nor a kind.
fn skip_stands_alone(cx: &Ctxt, field: &Field<'_>) {
    let Some(skip) = &field.attrs.skip else { return };
    if field.attrs.kind.is_some() {
        cx.error(skip, "`skip` and `kind` on one field: a skipped field has no kind; keep one");
    }
    if field.attrs.rename.is_some() {
        cx.error(skip, "`skip` and `rename` on one field: a skipped field has no path segment; keep one");
    }
}

/// A path as text has dots between its segments.
fn name_is_a_segment(cx: &Ctxt, field: &Field<'_>) {
    let Some(name) = &field.attrs.rename else { return };
    if name.value().is_empty() {
        cx.error(name, "a path segment cannot be empty; omit `rename` to use the field's name");
    } else if name.value().contains('.') {
        cx.error(name, "a path segment cannot contain `.`, the separator");
    }
}

/// Two fields of one name would be the same leaf in a file. If only one of them is renamed, the error points to that.
fn names_differ(cx: &Ctxt, fields: &[Field<'_>]) {
    let in_tree = || fields.iter().filter(|field| !field.is_skipped());
    let mut taken: HashSet<_> =
        in_tree().filter(|field| field.attrs.rename.is_none()).map(Field::segment).collect();
    for rename in in_tree().filter_map(|field| field.attrs.rename.as_ref()) {
        let name = rename.value();
        if !taken.insert(name.clone()) {
            cx.error(rename, format!("another field has the path segment `{name}`; choose a different one"));
        }
    }
}

/// An enum is not a module: it is transparent to its variant.
fn module_init_is_on_a_struct(cx: &Ctxt, container: &Container<'_>) {
    if let (Some(attribute), Shape::Enum(_)) = (&container.attrs.module_init, &container.shape) {
        cx.error(attribute, "`module_init` belongs on a struct; an enum is not a module");
    }
}
