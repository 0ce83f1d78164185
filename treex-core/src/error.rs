//! The error type: what happened, where, what was expected, what was found, and the remedy.

use std::fmt;

use candle_core::Tensor;

use crate::driver_error::{Fault, free_memory, mebibytes};
use crate::tree::path::{ModuleId, Path};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The category of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An uninitialized leaf was read.
    Uninitialized,
    /// A leaf that was filtered out was read.
    FilteredOut,
    /// A frozen leaf was written, or nothing is left to train.
    Frozen,
    /// A gradient that cannot be computed exactly, or that does not exist.
    Gradient,
    /// Two trees differ in structure.
    Structure,
    /// A tensor has the wrong shape.
    Shape,
    /// A tensor has the wrong element type.
    DType,
    /// An argument or an option is out of range.
    Argument,
    /// A checkpoint does not match a tree.
    Checkpoint,
    /// A file could not be read or written.
    Io,
    /// A tensor was to move between a device and the host in [`no_transfers`](crate::no_transfers).
    Transfer,
    /// Candle failed; [`std::error::Error::source`] is its error.
    Candle,
}

/// An error with its path and its remedy. `Debug` prints the same text as `Display`, since Candle prints a wrapped
/// error through `Debug`.
///
/// Converts to and from [`candle_core::Error`] without loss, so treex layers can be used in Candle code and Candle
/// layers in treex.
pub struct Error(Box<Inner>);

/// The part of a tree that an error is about, before its path is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The leaf with its handle at this address.
    Leaf(usize),
    Module(ModuleId),
}

struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<Path>,
    /// The leaf or module concerned, by which a method of the tree finds the path.
    subject: Option<Subject>,
    expected: Option<String>,
    found: Option<String>,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a message that says what happened: lower case, no full stop, code in backticks.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            path: None,
            subject: None,
            expected: None,
            found: None,
            remedy: None,
            source: None,
        }))
    }

    /// An argument out of range.
    #[must_use]
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Argument, message)
    }

    /// A tensor of the wrong shape.
    #[must_use]
    pub fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }

    /// Sets the path, if none is set.
    #[must_use]
    pub fn at(mut self, path: impl Into<Path>) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// Sets what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// Sets what was found.
    #[must_use]
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.0.found = Some(found.to_string());
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Sets the module concerned, if none is set: `error.of(self.identity())`. A module does not know its path; the
    /// methods of a tree (`value_and_grad`, `tabulate_with`) find and add it.
    #[must_use]
    pub fn of(self, module: Option<ModuleId>) -> Self {
        match module {
            Some(module) => self.about(Subject::Module(module)),
            None => self,
        }
    }

    pub(crate) fn about(mut self, subject: Subject) -> Self {
        self.0.subject.get_or_insert(subject);
        self
    }

    /// The leaf or module concerned, if its path is unknown.
    pub(crate) fn subject_without_path(&self) -> Option<Subject> {
        if self.0.path.is_none() { self.0.subject } else { None }
    }

    /// The category of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path of the leaf or module concerned, if known.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_ref()
    }

    /// What was expected, if set.
    #[must_use]
    pub fn expected_text(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }

    /// What was found, if set.
    #[must_use]
    pub fn found_text(&self) -> Option<&str> {
        self.0.found.as_deref()
    }

    /// The remedy: the one that was set, or that of an error of Candle.
    #[must_use]
    pub fn remedy_text(&self) -> Option<&str> {
        self.0.remedy.as_deref().or_else(|| remedy_of(self.0.source.as_deref()?))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, path, expected, found, source, .. } = &*self.0;
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
            write!(f, ": {}", Sentence(&**source))?;
        }
        if let Some(remedy) = self.remedy_text() {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// What to do about an error of Candle, which itself says what happened only.
fn remedy_of(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use candle_core::Error as Candle;
    match error.downcast_ref::<Candle>()? {
        Candle::WithBacktrace { inner, .. }
        | Candle::Context { inner, .. }
        | Candle::WithPath { inner, .. } => remedy_of(&**inner),
        Candle::UnexpectedDType { .. }
        | Candle::DTypeMismatchBinaryOp { .. }
        | Candle::UnsupportedDTypeForOp(..) => Some("convert the element type with `to_dtype`"),
        Candle::DimOutOfRange { .. } | Candle::DuplicateDimIndex { .. } => {
            Some("name each dimension of the tensor once at most, from 0 to its rank - 1")
        }
        Candle::ShapeMismatchBinaryOp { .. } | Candle::BroadcastIncompatibleShapes { .. } => {
            Some("give shapes that fit together, by `reshape` or `unsqueeze`")
        }
        Candle::UnexpectedNumberOfDims { .. }
        | Candle::UnexpectedShape { .. }
        | Candle::ShapeMismatch { .. }
        | Candle::MatMulUnexpectedStriding(..)
        | Candle::NarrowInvalidArgs { .. } => Some("give a tensor of another shape"),
        Candle::RequiresContiguous { .. } => Some("make the tensor contiguous with `contiguous()`"),
        Candle::DeviceMismatchBinaryOp { .. } => Some("move the tensors to one device with `to_device`"),
        Candle::Cuda(error) => Fault::of(&**error).map(Fault::remedy),
        Candle::InvalidIndex { .. } => Some("give indices below the size of the dimension"),
        _ => None,
    }
}

/// An error without Candle's backtraces, which with `RUST_BACKTRACE=1` would be forty lines in the middle of a message.
/// [`std::error::Error::source`] keeps them.
struct Sentence<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use candle_core::Error as Candle;
        match self.0.downcast_ref::<Candle>() {
            Some(Candle::WithBacktrace { inner, .. }) => write!(f, "{}", Sentence(&**inner)),
            Some(Candle::Context { inner, context }) => write!(f, "{context}: {}", Sentence(&**inner)),
            Some(Candle::WithPath { inner, path }) => {
                write!(f, "`{}`: {}", path.display(), Sentence(&**inner))
            }
            Some(Candle::WrappedContext { wrapped, context }) => {
                write!(f, "{context}: {}", Sentence(&**wrapped))
            }
            _ => write!(f, "{}", self.0),
        }
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

/// Wraps Candle's error; a treex error inside it is unwrapped.
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
        if !is_out_of_memory(&error) {
            return Self::new(ErrorKind::Candle, "candle failed").caused_by(error);
        }
        let full = Self::new(ErrorKind::Candle, "the device has no memory left")
            .remedy(Fault::OutOfMemory.remedy())
            .caused_by(error);
        match free_memory() {
            Some(free) => full.found(free),
            None => full,
        }
    }

    /// Whether the memory of a device ran out.
    fn is_out_of_memory(&self) -> bool {
        let candle = self.0.source.as_deref().and_then(|source| source.downcast_ref());
        candle.is_some_and(is_out_of_memory)
    }

    /// Where the memory of a device ran out: it was for a copy of `x`.
    pub(crate) fn copying(self, x: &Tensor) -> Self {
        let bytes = mebibytes(x.elem_count().saturating_mul(x.dtype().size_in_bytes()));
        self.with_use(|| format!("{bytes} for {:?} of `{}`", x.dims(), x.dtype().as_str()))
    }

    /// Where the memory of a device ran out: it was in a call of `module` with `x`.
    pub(crate) fn calling(self, module: Option<ModuleId>, x: &Tensor) -> Self {
        if !self.is_out_of_memory() {
            return self;
        }
        self.of(module)
            .with_use(|| format!("room for a call with {:?} of `{}`", x.dims(), x.dtype().as_str()))
    }

    /// Adds for what memory was asked, unless that is known, to how much there is.
    fn with_use(mut self, what: impl FnOnce() -> String) -> Self {
        if self.is_out_of_memory() && self.0.expected.is_none() {
            self.0.expected = Some(what());
        }
        self
    }
}

fn is_out_of_memory(error: &candle_core::Error) -> bool {
    use candle_core::Error as Candle;
    match error {
        Candle::Cuda(error) => Fault::of(&**error) == Some(Fault::OutOfMemory),
        Candle::WithBacktrace { inner, .. }
        | Candle::Context { inner, .. }
        | Candle::WithPath { inner, .. } => is_out_of_memory(inner),
        _ => false,
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

/// Wraps the error in `WrappedContext`, from which it is recovered without loss.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        let context = match error.0.kind {
            // An error of Candle to which nothing was added returns unchanged.
            ErrorKind::Candle
                if error.0.path.is_none()
                    && error.0.subject.is_none()
                    && error.0.expected.is_none()
                    && error.0.remedy.is_none() =>
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

impl From<treex_kernels::Error> for Error {
    fn from(error: treex_kernels::Error) -> Self {
        match error {
            treex_kernels::Error::OutOfMemory { elements } => Self::argument("memory cannot be allocated")
                .found(format!("{elements} elements"))
                .remedy("use smaller sizes or fewer elements at once"),
            treex_kernels::Error::Shape { message, expected, found } => {
                Self::shape(message).expected(expected).found(found)
            }
            error => Self::argument(error.to_string()),
        }
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
    use crate::tree::path::Segment;

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
    fn the_subject_survives_the_way_through_candle() {
        for error in [sample_without_path(), Error::from_candle(candle_core::Error::Msg("inner".into()))] {
            let error = error.about(Subject::Leaf(7));
            let back = Error::from(candle_core::Error::from(error));
            assert_eq!(back.subject_without_path(), Some(Subject::Leaf(7)), "{back}");
        }
    }

    /// What `RUST_BACKTRACE=1` adds to Candle's errors stays out of the message, at any depth.
    #[test]
    fn a_message_has_no_backtrace() {
        use candle_core::Error as Candle;
        let traced = |inner: Candle| Candle::WithBacktrace {
            inner: Box::new(inner),
            backtrace: Box::new(std::backtrace::Backtrace::force_capture()),
        };
        let inner = || traced(Candle::Msg("inner".into()));
        for (error, text) in [
            (inner(), "candle failed: inner"),
            (traced(inner()), "candle failed: inner"),
            (inner().context("outer"), "candle failed: outer: inner"),
            (traced(inner().with_path("file")), "candle failed: `file`: inner"),
            (
                Candle::WrappedContext { wrapped: Box::new(inner()), context: "outer".into() },
                "candle failed: outer: inner",
            ),
        ] {
            let error = Error::from(error);
            assert_eq!(error.to_string(), text);
            assert!(std::error::Error::source(&error).unwrap().to_string().lines().count() > 3);
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
