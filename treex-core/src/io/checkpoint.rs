//! Checkpoints: a tree as one safetensors file, its leaves named by their paths.
//!
//! The file is written to a temporary file, synced and renamed, so that a crash leaves the old file or the new one.
//! Its metadata holds the format version, the kind of each leaf, and the origin of each part that has one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::path::Path as FilePath;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::nearest::nearest;
use crate::tree::filter::{Filter, LeafRef};
use crate::tree::handle::Handle;
use crate::tree::kind::{KindTag, Rng};
use crate::tree::object::{ChildInfo, TreeObject, Visitor};
use crate::tree::path::{Dotted, Path};
use crate::tree::walk::{try_walk_mut, walk, walk_mut};

/// The only metadata entry of a file. JSON, so that the same tree gives the same bytes.
const METADATA: &str = "treex";
const FORMAT: u64 = 1;

/// The content of [`METADATA`].
#[derive(Default, Serialize, Deserialize)]
struct Header {
    format: u64,
    /// The kind of each leaf, by its name.
    kinds: BTreeMap<String, String>,
    /// [`TreeObject::origin`] of the parts that have one, by their paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    origins: BTreeMap<String, String>,
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
    missing: Option<Selects>,
    unused: bool,
    rename: Option<Rename>,
}

/// A filter without its type.
type Selects = Arc<dyn Fn(&LeafRef<'_>) -> bool + Send + Sync>;

/// From a name in a file to a path.
type Rename = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl Load {
    /// The file must hold every leaf and nothing else.
    #[must_use]
    pub fn strict() -> Self {
        Self::default()
    }

    /// Leaves that `filter` selects may be missing from the file; they keep their values.
    #[must_use]
    pub fn allow_missing(mut self, filter: impl Filter + Send + Sync + 'static) -> Self {
        self.missing = Some(Arc::new(move |leaf| filter.selects(leaf)));
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
}

pub(crate) fn save<T: TreeObject>(tree: &T, file: &FilePath) -> Result<()> {
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut header = Header { format: FORMAT, kinds: BTreeMap::new(), origins: origins_of(tree) };
    let mut result = Ok(());
    walk(tree, |path, kind, leaf| {
        if result.is_ok() && !leaf.is_nothing() {
            let name = Dotted(path).to_string();
            result = match leaf.get(kind).and_then(|value| Ok(value.to_device(&Device::Cpu)?.contiguous()?)) {
                Err(error) => Err(error.at(path)),
                Ok(_) if tensors.contains_key(&name) => {
                    Err(Error::new(ErrorKind::Checkpoint, "two leaves have the same name in a file").at(path))
                }
                Ok(value) => {
                    header.kinds.insert(name.clone(), kind.name().to_owned());
                    tensors.insert(name, value);
                    Ok(())
                }
            };
        }
    });
    result?;
    let header = serde_json::to_string(&header).map_err(|error| broken(file).caused_by(error))?;
    let metadata = HashMap::from([(METADATA.to_owned(), header)]);
    let bytes =
        safetensors::serialize(&tensors, Some(metadata)).map_err(|error| broken(file).caused_by(error))?;
    write_atomically(file, &bytes).map_err(|error| {
        Error::new(ErrorKind::Io, format!("cannot write the checkpoint `{}`", file.display()))
            .caused_by(error)
    })
}

fn write_atomically(file: &FilePath, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => FilePath::new("."),
    };
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    // The rename is durable once the folder is synced, on systems where folders can be.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

pub(crate) fn load<T: TreeObject + Clone>(tree: &mut T, file: &FilePath, options: &Load) -> Result<Report> {
    let bytes = fs::read(file).map_err(|error| {
        Error::new(ErrorKind::Io, format!("cannot read the checkpoint `{}`", file.display())).caused_by(error)
    })?;
    let mut contents = Contents::read(&bytes, file, options)?;
    contents.check_origins(&origins_of(tree), file)?;
    let mut names = BTreeSet::new();
    walk(tree, |path, _, _| {
        names.insert(Dotted(path).to_string());
    });
    let (mut loaded, mut report) = (tree.clone(), Report::default());
    try_walk_mut(&mut loaded, |path, kind, leaf| {
        if leaf.is_nothing() {
            return Ok(());
        }
        let name = Dotted(path).to_string();
        match contents.tensors.remove(&name) {
            Some(stored) => {
                contents.check_kind(&name, kind)?;
                check_value(leaf, &stored)?;
                let device = match leaf.value() {
                    Some(value) if !kind.is(KindTag::of::<Rng>()) => value.device().clone(),
                    _ => Device::Cpu,
                };
                leaf.replace(Handle::from_copy(&stored.to_device(&device)?)?);
            }
            None if options
                .missing
                .as_ref()
                .is_some_and(|allowed| allowed(&LeafRef::new(path, kind, leaf))) =>
            {
                report.missing.push(name);
            }
            None => return Err(contents.missing(&name, &names, file)),
        }
        Ok(())
    })?;
    report.unused = contents.tensors.into_keys().collect();
    if let (Some(unused), false) = (report.unused.first(), options.unused) {
        let known = nearest(unused, names.iter().map(String::as_str));
        return Err(Error::new(
            ErrorKind::Checkpoint,
            format!("the checkpoint `{}` holds {} unused tensors", file.display(), report.unused.len()),
        )
        .expected("only leaves of the tree")
        .found(format!("`{unused}`{known}"))
        .remedy("allow it with `load_with(file, &Load::strict().allow_unused())`"));
    }
    walk_mut(&mut loaded, |_, _, leaf| leaf.set_scope(None));
    *tree = loaded;
    Ok(report)
}

/// [`TreeObject::origin`] of the parts that have one, by their paths.
fn origins_of<T: TreeObject>(tree: &T) -> BTreeMap<String, String> {
    struct Origins {
        path: Path,
        found: BTreeMap<String, String>,
    }

    impl<'a> Visitor<'a> for Origins {
        fn leaf(&mut self, _: KindTag, _: &'a Handle) {}

        fn child(&mut self, edge: ChildInfo<'_>, child: &'a dyn TreeObject) {
            let depth = self.path.segments().len();
            self.path.extend(edge.path);
            if let Some(origin) = child.origin() {
                self.found.insert(self.path.to_string(), origin);
            }
            child.visit(self);
            self.path.truncate(depth);
        }
    }

    let mut origins = Origins { path: Path::default(), found: BTreeMap::new() };
    origins.child(ChildInfo::new(&[]), tree);
    origins.found
}

/// The tensors of a file by their names after renaming.
struct Contents {
    tensors: BTreeMap<String, Tensor>,
    names: Vec<String>,
    kinds: HashMap<String, String>,
    origins: BTreeMap<String, String>,
}

impl Contents {
    fn read(bytes: &[u8], file: &FilePath, options: &Load) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(file).caused_by(error))?;
        let header: Header = match header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA)) {
            Some(json) => serde_json::from_str(json).map_err(|error| broken(file).caused_by(error))?,
            None => Header { format: FORMAT, ..Header::default() },
        };
        if header.format != FORMAT {
            return Err(broken(file).expected(format!("format {FORMAT}")).found(header.format));
        }
        let rename =
            |name: &str| options.rename.as_ref().map_or_else(|| name.to_owned(), |rename| rename(name));
        let mut contents = Self {
            tensors: BTreeMap::new(),
            names: Vec::new(),
            kinds: HashMap::new(),
            origins: header.origins,
        };
        for (stored_name, tensor) in candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
            .map_err(|error| broken(file).caused_by(error))?
        {
            let name = rename(&stored_name);
            if let Some(kind) = header.kinds.get(&stored_name) {
                contents.kinds.insert(name.clone(), kind.clone());
            }
            contents.names.push(name.clone());
            if contents.tensors.insert(name.clone(), tensor).is_some() {
                return Err(broken(file).found(format!("two tensors renamed to `{name}`")));
            }
        }
        Ok(contents)
    }

    /// An error for a part of the tree that was saved as another's.
    fn check_origins(&self, origins: &BTreeMap<String, String>, file: &FilePath) -> Result<()> {
        for (path, expected) in origins {
            if let Some(found) = self.origins.get(path).filter(|found| *found != expected) {
                let message =
                    format!("the checkpoint `{}` holds the state of something else", file.display());
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

    fn check_kind(&self, name: &str, kind: KindTag) -> Result<()> {
        match self.kinds.get(name) {
            Some(stored) if stored != kind.name() => {
                Err(Error::new(ErrorKind::Checkpoint, "a leaf was saved with a different kind")
                    .expected(format!("`{kind}`"))
                    .found(format!("`{stored}`")))
            }
            _ => Ok(()),
        }
    }

    /// The error for a leaf that is not in the file, with the nearest unused names.
    fn missing(&self, name: &str, leaves: &BTreeSet<String>, file: &FilePath) -> Error {
        let near =
            nearest(name, self.names.iter().filter(|other| !leaves.contains(*other)).map(String::as_str));
        Error::new(
            ErrorKind::Checkpoint,
            format!("a leaf is missing from the checkpoint `{}`", file.display()),
        )
        .expected(format!("a tensor `{name}`"))
        .found(format!("{} others{near}", self.names.len()))
        .remedy("allow it with `load_with(file, &Load::strict().allow_missing(path(\"...\")))`, or rename")
    }
}

fn check_value(leaf: &Handle, stored: &Tensor) -> Result<()> {
    if let Some(shape) = leaf.shape().filter(|shape| *shape != stored.shape()) {
        return Err(Error::shape("a leaf was saved with a different shape")
            .expected(format!("{:?}", shape.dims()))
            .found(format!("{:?}", stored.dims())));
    }
    if let Some(dtype) = leaf.dtype().filter(|dtype| *dtype != stored.dtype()) {
        return Err(Error::new(ErrorKind::DType, "a leaf was saved with a different element type")
            .expected(format!("`{}`", dtype.as_str()))
            .found(format!("`{}`", stored.dtype().as_str()))
            .remedy("cast the tree with `into_dtype` before loading, and back afterwards"));
    }
    Ok(())
}

fn broken(file: &FilePath) -> Error {
    Error::new(ErrorKind::Checkpoint, format!("`{}` is not a valid checkpoint", file.display()))
}
