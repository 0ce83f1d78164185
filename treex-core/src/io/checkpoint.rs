//! Checkpoints: a tree as one safetensors file, its leaves named by their paths.
//!
//! The file is replaced as a whole, so that a crash leaves the old one or the new one. Its metadata holds the version
//! of the format, the kind of each leaf, the origin of each part that has one, and the texts of [`Save::metadata`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use safetensors::tensor::TensorInfo;
use serde::{Deserialize, Deserializer, Serialize};

use super::container::{self, Container, RESERVED, Unique, broken};
use super::file::cannot;
use super::origins::{origin_of, origins_of};
use crate::error::{Error, ErrorKind, Result};
use crate::nearest::{nearest, no_leaf};
use crate::transfers::transfer;
use crate::tree::filter::{Filter, LeafRef};
use crate::tree::handle::Handle;
use crate::tree::kind::{KindTag, OptState, Rng};
use crate::tree::object::TreeObject;
use crate::tree::path::{Dotted, Path, Segment};
use crate::tree::walk::{try_walk_mut, walk, walk_mut};

/// The only metadata entry of a file. JSON, so that the same tree gives the same bytes.
const METADATA: &str = "treex";
const FORMAT: u64 = 1;

/// The part of [`METADATA`] that every version has.
#[derive(Deserialize)]
struct Version {
    format: u64,
}

/// The content of [`METADATA`].
#[derive(Serialize, Deserialize)]
struct Header {
    format: u64,
    /// The kind of each leaf, by its name.
    #[serde(deserialize_with = "without_duplicates")]
    kinds: BTreeMap<String, String>,
    /// [`TreeObject::origin`] of the parts that have one, by their paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "without_duplicates")]
    origins: BTreeMap<String, String>,
    /// The texts of [`Save::metadata`], by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "without_duplicates")]
    metadata: BTreeMap<String, String>,
}

fn without_duplicates<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Unique::deserialize(deserializer).map(|Unique(entries)| entries)
}

impl Header {
    /// The header of a file, unless another program wrote it.
    fn read(container: &Container, file: &FilePath) -> Result<Option<Self>> {
        let Some(json) = container.metadata.get(METADATA) else { return Ok(None) };
        let invalid = |error| broken(file).caused_by(error);
        let Version { format } = serde_json::from_str(json).map_err(invalid)?;
        if format != FORMAT {
            return Err(Error::new(
                ErrorKind::Checkpoint,
                format!("the checkpoint `{}` has an unknown format version", file.display()),
            )
            .expected(FORMAT)
            .found(format)
            .remedy("load it with the version of treex that wrote it, or a later one"));
        }
        let header: Self = serde_json::from_str(json).map_err(invalid)?;
        let unknown = |name: &&String| !container.tensors.contains_key(*name);
        match header.kinds.keys().find(unknown) {
            Some(name) => Err(broken(file).found(format!("a kind for `{name}`, but no such tensor"))),
            None => Ok(Some(header)),
        }
    }
}

/// Options of [`save_with`](crate::Tree::save_with).
///
/// ```
/// # use treex_core::{Leaf, Parameter, Save, checkpoint_metadata, prelude::*};
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("model.safetensors");
/// # let model = Leaf::<Parameter>::new(treex_core::Key::from(0).normal(3, candle_core::DType::F32)?)?;
/// model.save_with(&file, &Save::new().metadata("config", r#"{"layers": 3}"#))?;
/// assert_eq!(checkpoint_metadata(&file)?["config"], r#"{"layers": 3}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Save {
    metadata: BTreeMap<String, String>,
}

impl Save {
    /// Only the tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text, for instance the configuration that the tree was built from, so that the file describes itself.
    /// [`checkpoint_metadata`] reads it.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), text.into());
        self
    }
}

/// The texts that [`Save::metadata`] put into a checkpoint, by their names. The tensors are not read.
///
/// # Errors
/// If the file cannot be read or is no checkpoint.
pub fn checkpoint_metadata(file: impl AsRef<FilePath>) -> Result<BTreeMap<String, String>> {
    let container = Container::open(file.as_ref())?;
    let header = Header::read(&container, file.as_ref())?;
    Ok(header.map(|header| header.metadata).unwrap_or_default())
}

/// Options of [`load_with`](crate::Tree::load_with).
///
/// ```no_run
/// # use treex_core::{Leaf, Load, Parameter, path, prelude::*};
/// # fn load(mut model: Vec<Leaf<Parameter>>) -> treex_core::Result<()> {
/// let options = Load::strict().allow_missing(path("head.**")).allow_unused().rename(|name| name.replace("gamma", "scale"));
/// let report = model.load_with("pretrained.safetensors", &options)?;
/// println!("missing: {:?}, unused: {:?}", report.missing, report.unused);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Load {
    missing: Option<Arc<dyn Filter + Send + Sync>>,
    unused: bool,
    rename: Option<Rename>,
}

/// From a name in a file to a path.
type Rename = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl Load {
    /// The file must hold every leaf and nothing else.
    #[must_use]
    pub fn strict() -> Self {
        Self::default()
    }

    /// Leaves that `filter` selects may be missing from the file; they keep their values. A filter that selects no leaf
    /// of the tree is an error when it is loaded.
    #[must_use]
    pub fn allow_missing(mut self, filter: impl Filter + Send + Sync + 'static) -> Self {
        self.missing = Some(Arc::new(filter));
        self
    }

    /// The file may hold tensors that the tree has no leaf for.
    #[must_use]
    pub fn allow_unused(mut self) -> Self {
        self.unused = true;
        self
    }

    /// Maps each name in the file to the path of a leaf.
    #[must_use]
    pub fn rename(mut self, rename: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.rename = Some(Arc::new(rename));
        self
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("allow_missing", &self.missing.is_some())
            .field("allow_unused", &self.unused)
            .field("rename", &self.rename.is_some())
            .finish()
    }
}

/// Differences between the file and the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Leaves missing from the file, which kept their values.
    pub missing: Vec<String>,
    /// Names in the file without a leaf in the tree.
    pub unused: Vec<String>,
    /// Leaves whose kind the file does not tell, since another program wrote it. They were loaded; whether each is a
    /// parameter or a statistic there was not checked.
    pub without_kind: Vec<String>,
}

/// A leaf and its name in a file.
struct Entry<'a> {
    name: String,
    path: Path,
    kind: KindTag,
    leaf: &'a Handle,
}

impl Entry<'_> {
    fn as_ref(&self) -> LeafRef<'_> {
        LeafRef::new(self.path.segments(), self.kind, self.leaf)
    }
}

/// All leaves in field order. Of those that are not `Nothing`, no two have the same name.
fn entries<T: TreeObject>(tree: &T) -> Result<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    walk(tree, |path, kind, leaf| {
        entries.push(Entry { name: Dotted(path).to_string(), path: path.into(), kind, leaf });
    });
    let mut named = HashMap::new();
    for entry in entries.iter().filter(|entry| !entry.leaf.is_nothing()) {
        if let Some(other) = named.insert(&entry.name, entry) {
            return Err(Error::new(ErrorKind::Checkpoint, "two leaves have the same name in a file")
                .at(entry.path.clone())
                .found(format!("{} and {}", spelled(&other.path), spelled(&entry.path)))
                .remedy("rename a field with `#[tree(rename = \"..\")]`, or a key of a map"));
        }
        if entry.name == RESERVED {
            return Err(Error::new(
                ErrorKind::Checkpoint,
                "a leaf has the name that files keep for their metadata",
            )
            .at(entry.path.clone())
            .remedy("rename the field with `#[tree(rename = \"..\")]`, or the key of the map"));
        }
    }
    Ok(entries)
}

/// A path whose segments show what they are: `field a, key b.c`.
fn spelled(path: &Path) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Field(name) => format!("field {name}"),
        Segment::Index(index) => format!("index {index}"),
        Segment::Key(key) => format!("key {key}"),
    };
    path.segments().iter().map(segment).collect::<Vec<_>>().join(", ")
}

pub(crate) fn save<T: TreeObject>(tree: &T, file: &FilePath, options: &Save) -> Result<()> {
    let mut tensors = BTreeMap::new();
    let mut header = Header {
        format: FORMAT,
        kinds: BTreeMap::new(),
        origins: origins_of(tree),
        metadata: options.metadata.clone(),
    };
    let entries = entries(tree)?;
    if !entries.is_empty() && entries.iter().all(|entry| entry.leaf.is_nothing()) {
        return Err(Error::new(ErrorKind::Checkpoint, "a tree without values is not saved")
            .expected("at least one leaf with a value")
            .found(format!("{} that were filtered out", entries.len()))
            .remedy("save the whole tree: a filter selected nothing"));
    }
    for Entry { name, path, kind, leaf } in entries {
        if leaf.is_nothing() {
            continue;
        }
        let value = leaf.get(kind).map_err(|error| error.at(path.clone()))?;
        if !container::is_writable(value.dtype()) {
            return Err(Error::new(ErrorKind::DType, "a leaf has an element type that cannot be saved")
                .at(path)
                .found(format!("`{}`", value.dtype().as_str()))
                .remedy("cast it with `into_dtype` before saving"));
        }
        header.kinds.insert(name.clone(), kind.name().to_owned());
        tensors.insert(name, value);
    }
    let json = serde_json::to_string(&header).map_err(|error| cannot("write", file).caused_by(error))?;
    container::write(file, &tensors, HashMap::from([(METADATA.to_owned(), json)]))
}

pub(crate) fn load<T: TreeObject + Clone>(tree: &mut T, file: &FilePath, options: &Load) -> Result<Report> {
    let mut contents = Contents::open(file, options)?;
    let leaves = entries(tree)?;
    contents.check_origins(&origins_of(tree), &leaves)?;
    if let Some(allowed) = options.missing.as_deref()
        && !leaves.iter().any(|entry| allowed.selects(&entry.as_ref()))
    {
        return Err(no_leaf(tree, allowed));
    }
    let report = contents.check(&leaves, options)?;
    let mut loaded = tree.clone();
    try_walk_mut(&mut loaded, |path, kind, leaf| {
        if leaf.is_nothing() {
            return Ok(());
        }
        let Some(stored) = contents.read(&Dotted(path).to_string())? else { return Ok(()) };
        let device = match leaf.value() {
            Some(value) if !kind.is(KindTag::of::<Rng>()) => value.device().clone(),
            _ => Device::Cpu,
        };
        leaf.replace(Handle::from_copy(&transfer(&stored, &device, "load outside of the step")?)?);
        Ok(())
    })?;
    walk_mut(&mut loaded, |_, _, leaf| leaf.set_scope(None));
    *tree = loaded;
    Ok(report)
}

/// A file whose names are those after renaming.
struct Contents<'a> {
    file: &'a FilePath,
    container: Container,
    /// `None` if another program wrote the file.
    header: Option<Header>,
    /// From a leaf's name to the name in the file.
    stored: BTreeMap<String, String>,
}

impl<'a> Contents<'a> {
    fn open(file: &'a FilePath, options: &Load) -> Result<Self> {
        let container = Container::open(file)?;
        let header = Header::read(&container, file)?;
        let mut stored = BTreeMap::new();
        for stored_name in container.tensors.keys() {
            let name =
                options.rename.as_ref().map_or_else(|| stored_name.clone(), |rename| rename(stored_name));
            if let Some(other) = stored.insert(name.clone(), stored_name.clone()) {
                return Err(Error::new(
                    ErrorKind::Checkpoint,
                    format!("`rename` gives two tensors of `{}` one name", file.display()),
                )
                .found(format!("`{name}` from `{other}` and `{stored_name}`"))
                .remedy("let `rename` give each tensor its own name"));
            }
        }
        Ok(Self { file, container, header, stored })
    }

    /// Compares the header with the leaves, before any value is read.
    fn check(&self, leaves: &[Entry<'_>], options: &Load) -> Result<Report> {
        let by_name: BTreeMap<&str, &Entry<'_>> = leaves.iter().map(|entry| (&*entry.name, entry)).collect();
        let mut report = Report::default();
        for entry in leaves.iter().filter(|entry| !entry.leaf.is_nothing()) {
            let Entry { name, path, kind, leaf } = entry;
            let Some((stored, info)) = self.info(name) else {
                if options.missing.as_ref().is_some_and(|allowed| allowed.selects(&entry.as_ref())) {
                    report.missing.push(name.clone());
                    continue;
                }
                return Err(self.missing(name, &by_name).at(path.clone()));
            };
            match self.header.as_ref().map(|header| header.kinds.get(stored)) {
                Some(Some(stored)) if stored == kind.name() => {}
                Some(found) => return Err(self.wrong_kind(*kind, found).at(path.clone())),
                None => report.without_kind.push(name.clone()),
            }
            self.check_value(leaf, info).map_err(|error| error.at(path.clone()))?;
        }
        let has_leaf = |name: &&String| by_name.get(&***name).is_some_and(|entry| !entry.leaf.is_nothing());
        report.unused = self.stored.keys().filter(|name| !has_leaf(name)).cloned().collect();
        match report.unused.first() {
            Some(unused) if !options.unused => Err(self.unused(unused, report.unused.len(), &by_name)),
            _ => Ok(report),
        }
    }

    /// An error for a leaf whose part of the tree was saved as another's. Names are followed through `rename`.
    fn check_origins(&self, origins: &BTreeMap<String, String>, leaves: &[Entry<'_>]) -> Result<()> {
        let Some(header) = self.header.as_ref().filter(|header| !header.origins.is_empty()) else {
            return Ok(());
        };
        for entry in leaves {
            let own = origin_of(origins, &entry.name);
            let stored = self.stored.get(&entry.name).and_then(|stored| origin_of(&header.origins, stored));
            if let (Some((path, expected)), Some((_, found))) = (own, stored)
                && expected != found
            {
                let message =
                    format!("the checkpoint `{}` holds the state of something else", self.file.display());
                return Err(Error::new(ErrorKind::Checkpoint, message)
                    .expected(format!("at `{path}` that of `{expected}`"))
                    .found(format!("`{found}`"))
                    .remedy(
                        "load it into what it was saved from; if its numbers mean the same, load it into the leaves \
                         alone: `let mut leaves = tree.flatten(); leaves.load(file)?; tree = tree.unflatten(&leaves)?`",
                    ));
            }
        }
        Ok(())
    }

    fn info(&self, name: &str) -> Option<(&str, &TensorInfo)> {
        let stored = self.stored.get(name)?;
        Some((stored, self.container.tensors.get(stored)?))
    }

    /// The value for a leaf, if the file has one.
    fn read(&mut self, name: &str) -> Result<Option<Tensor>> {
        self.stored.get(name).map(|stored| self.container.tensor(stored)).transpose()
    }

    fn check_value(&self, leaf: &Handle, stored: &TensorInfo) -> Result<()> {
        if let Some(shape) = leaf.shape().filter(|shape| shape.dims() != stored.shape) {
            return Err(Error::shape(format!("a leaf has a different shape in `{}`", self.file.display()))
                .expected(format!("{:?}", shape.dims()))
                .found(format!("{:?}", stored.shape))
                .remedy("build the model with the sizes that it was saved with"));
        }
        let stored = self.container.dtype_of(stored.dtype)?;
        if let Some(dtype) = leaf.dtype().filter(|dtype| *dtype != stored) {
            return Err(Error::new(
                ErrorKind::DType,
                format!("a leaf has a different element type in `{}`", self.file.display()),
            )
            .expected(format!("`{}`", dtype.as_str()))
            .found(format!("`{}`", stored.as_str()))
            .remedy("cast the tree with `into_dtype` before loading, and back afterwards"));
        }
        Ok(())
    }

    fn wrong_kind(&self, expected: KindTag, found: Option<&String>) -> Error {
        let found = found.map_or_else(|| "no kind".to_owned(), |found| format!("`{found}`"));
        Error::new(ErrorKind::Checkpoint, format!("a leaf has a different kind in `{}`", self.file.display()))
            .expected(format!("`{expected}`"))
            .found(found)
            .remedy("load it into a tree whose leaf has that kind, and copy the value")
    }

    /// The error for a leaf that is not in the file, with the nearest unused names.
    fn missing(&self, name: &str, leaves: &BTreeMap<&str, &Entry<'_>>) -> Error {
        let others = self.stored.keys().map(String::as_str).filter(|other| !leaves.contains_key(other));
        let near = nearest(name, others);
        Error::new(
            ErrorKind::Checkpoint,
            format!("a leaf is missing from the checkpoint `{}`", self.file.display()),
        )
        .expected(format!("a tensor `{name}`"))
        .found(format!("{} others{near}", self.stored.len()))
        .remedy(if leaves.get(name).is_some_and(|leaf| leaf.kind.is(KindTag::of::<OptState>())) {
            "if the layer was frozen when the file was saved, `freeze` it before the optimizer's `init`; the state of \
             another model or optimizer, and a file of a model alone, do not fit"
        } else {
            "allow it with `load_with(file, &Load::strict().allow_missing(path(\"...\")))`, or rename"
        })
    }

    /// The error for `count` tensors without a leaf, of which `name` is one.
    fn unused(&self, name: &str, count: usize, leaves: &BTreeMap<&str, &Entry<'_>>) -> Error {
        let error = Error::new(
            ErrorKind::Checkpoint,
            format!("the checkpoint `{}` holds {count} unused tensors", self.file.display()),
        )
        .expected("only leaves of the tree");
        let allow = "for an optimizer, call `init` before it loads; for a part of the file, allow the rest with \
                     `load_with(file, &Load::strict().allow_unused())`";
        if leaves.contains_key(name) {
            return error
                .found(format!("`{name}`, a leaf that was filtered out and is `Nothing`"))
                .remedy(format!("load into the whole tree and filter it afterwards, or {allow}"));
        }
        let has_value = |entry: &&&Entry<'_>| !entry.leaf.is_nothing();
        let near = nearest(name, leaves.values().filter(has_value).map(|entry| &*entry.name));
        error.found(format!("`{name}`{near}")).remedy(allow)
    }
}
