//! Keys of maps.

use std::borrow::Cow;
use std::sync::Arc;

/// A key of a map in a tree, which becomes a path segment: a string, or a type of your own that is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key of a map in a tree",
    label = "a key is a segment of a path, hence a string",
    note = "use `String` keys, for instance of `key.to_string()`, or a `Vec` for consecutive numbers",
    note = "for a type of your own that is a string, implement `MapKey`"
)]
pub trait MapKey: Ord + Send + Sync {
    /// The segment. Two keys of one map must not have the same.
    fn segment(&self) -> &str;
}

macro_rules! map_key {
    ($($type:ty),*) => {$(
        impl MapKey for $type {
            fn segment(&self) -> &str {
                self
            }
        }
    )*};
}

map_key!(String, &'static str, Box<str>, Arc<str>, Cow<'static, str>);
