//! The one error type: what happened, where, what was expected, what was found, what to write instead.

use std::fmt;

use crate::object::{ModuleId, TreeObject};
use crate::path::Path;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for code that wants to tell errors apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A leaf was read before it had a value.
    Uninitialized,
    /// A leaf was read that a filter took out.
    FilteredOut,
    /// Two trees that must have the same leaves do not.
    Structure,
    /// A tensor has the wrong shape.
    Shape,
    /// A tensor has the wrong element type.
    DType,
    /// A number or an option is outside of what it may be.
    Argument,
    /// A checkpoint and a tree do not fit together.
    Checkpoint,
    /// A file could not be read or written.
    Io,
    /// Candle failed; [`std::error::Error::source`] is its error.
    Candle,
}

/// An error with its place and its remedy. `Debug` prints the same sentence as `Display`, since Candle
/// prints what it carries through `Debug`.
///
/// Converts to and from [`candle_core::Error`] without losing anything, so a treex layer can stand
/// inside of Candle code and the other way round.
pub struct Error(Box<Inner>);

/// A part of a tree that does not know where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The leaf with its handle at this address.
    Leaf(usize),
    Module(ModuleId),
}

struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<Path>,
    /// Whom it is about, by which a verb over the tree finds the path.
    whose: Option<Whose>,
    expected: Option<String>,
    found: Option<String>,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error that says what happened. Style: lower case, no full stop, code in backticks.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            path: None,
            whose: None,
            expected: None,
            found: None,
            remedy: None,
            source: None,
        }))
    }

    /// An argument outside of what it may be.
    #[must_use]
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Argument, message)
    }

    /// A tensor of the wrong shape.
    #[must_use]
    pub fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }

    /// Says where, unless that is known already.
    #[must_use]
    pub fn at(mut self, path: impl Into<Path>) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// Says what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// Says what was found.
    #[must_use]
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.0.found = Some(found.to_string());
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Says what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Says which module it is about, unless that is known already. A module does not know its path; the verbs
    /// over a tree (`value_and_grad`, `tabulate_with`) find it and add it.
    #[must_use]
    pub fn of(self, module: &impl TreeObject) -> Self {
        match module.identity() {
            Some(module) => self.about(Whose::Module(module)),
            None => self,
        }
    }

    pub(crate) fn about(mut self, whose: Whose) -> Self {
        self.0.whose.get_or_insert(whose);
        self
    }

    /// Whom it is about, as long as nobody has said where that stands.
    pub(crate) fn unplaced(&self) -> Option<Whose> {
        if self.0.path.is_none() { self.0.whose } else { None }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The leaf or module it is about, where known.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_ref()
    }

    /// What was expected, where there is something to expect.
    #[must_use]
    pub fn what_was_expected(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }

    /// What was found instead.
    #[must_use]
    pub fn what_was_found(&self) -> Option<&str> {
        self.0.found.as_deref()
    }

    /// What to write instead.
    #[must_use]
    pub fn what_to_do(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, path, expected, found, remedy, source, .. } = &*self.0;
        f.write_str(message)?;
        if let Some(path) = path {
            write!(f, " at `{path}`")?;
        }
        match (expected, found) {
            (Some(expected), Some(found)) => write!(f, ": expected {expected}, found {found}")?,
            (Some(expected), None) => write!(f, ": expected {expected}")?,
            (None, Some(found)) => write!(f, ": found {found}")?,
            (None, None) => {}
        }
        if let Some(source) = source {
            write!(f, ": {source}")?;
        }
        if let Some(remedy) = remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Candle's error becomes ours; ours comes back as it was if Candle only carried it.
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        use candle_core::Error as Candle;
        match error {
            Candle::WrappedContext { wrapped, context } => match wrapped.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(wrapped) => Self::from_candle(Candle::WrappedContext { wrapped, context }),
            },
            Candle::WithBacktrace { inner, .. } if carries_ours(&inner) => Self::from(*inner),
            Candle::Context { inner, .. } if carries_ours(&inner) => Self::from(*inner),
            Candle::WithPath { inner, .. } if carries_ours(&inner) => Self::from(*inner),
            error => Self::from_candle(error),
        }
    }
}

impl Error {
    fn from_candle(error: candle_core::Error) -> Self {
        Self::new(ErrorKind::Candle, "candle failed").caused_by(error)
    }
}

fn carries_ours(error: &candle_core::Error) -> bool {
    use candle_core::Error as Candle;
    match error {
        Candle::WrappedContext { wrapped, .. } => wrapped.is::<Error>(),
        Candle::WithBacktrace { inner, .. }
        | Candle::Context { inner, .. }
        | Candle::WithPath { inner, .. } => carries_ours(inner),
        _ => false,
    }
}

/// Ours travels through Candle inside `WrappedContext`, from which it comes back whole.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        let context = match error.0.kind {
            // What came from Candle, and to which nothing was added, goes back as it was.
            ErrorKind::Candle
                if error.0.path.is_none() && error.0.whose.is_none() && error.0.remedy.is_none() =>
            {
                match error.0.source.map(|source| source.downcast::<candle_core::Error>()) {
                    Some(Ok(candle)) => return *candle,
                    _ => return Self::Msg(error.0.message),
                }
            }
            kind => format!("treex: {kind:?}"),
        };
        Self::WrappedContext { wrapped: Box::new(error), context }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, "reading or writing a file failed").caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Segment;

    fn sample() -> Error {
        Error::shape("`Linear` got the wrong width")
            .at(&[Segment::Field("layers"), Segment::Index(1)][..])
            .expected("[.., 784]")
            .found("[32, 100]")
            .remedy("flatten the images first")
    }

    fn sample_without_path() -> Error {
        Error::shape("`Linear` got the wrong width")
    }

    #[test]
    fn the_sentence() {
        let text = "`Linear` got the wrong width at `layers.1`: expected [.., 784], found [32, 100]; flatten the images first";
        assert_eq!(sample().to_string(), text);
        assert_eq!(format!("{:?}", sample()), text);
    }

    #[test]
    fn through_candle_and_back() {
        let candle = candle_core::Error::from(sample());
        assert!(candle.to_string().starts_with("`Linear` got the wrong width at `layers.1`"), "{candle}");
        let back = Error::from(candle.context("while training").bt());
        assert_eq!(back.kind(), ErrorKind::Shape);
        assert_eq!(back.to_string(), sample().to_string());
    }

    #[test]
    fn whom_it_is_about_is_not_lost_on_the_way() {
        for error in [sample_without_path(), Error::from_candle(candle_core::Error::Msg("inner".into()))] {
            let error = error.about(Whose::Leaf(7));
            let back = Error::from(candle_core::Error::from(error));
            assert_eq!(back.unplaced(), Some(Whose::Leaf(7)), "{back}");
        }
    }

    #[test]
    fn candles_own_come_back_unchanged() {
        let tensor =
            candle_core::Tensor::zeros((2, 3), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let ours = Error::from(tensor.matmul(&tensor).unwrap_err());
        assert_eq!(ours.kind(), ErrorKind::Candle);
        assert!(matches!(
            candle_core::Error::from(ours),
            candle_core::Error::ShapeMismatchBinaryOp { .. } | candle_core::Error::WithBacktrace { .. }
        ));
    }
}
