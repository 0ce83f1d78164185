//! A safetensors file: its header, and its tensors one at a time, so that neither reading nor writing holds the whole
//! file in memory.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use candle_core::safetensors::Load as _;
use candle_core::{DType, Device, Tensor};
use safetensors::View as _;
use safetensors::tensor::{Dtype, Metadata, TensorInfo, TensorView};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::file::{self, cannot};
use crate::error::{Error, ErrorKind, Result};
use crate::transfers::transfer;

/// The name in a header under which texts stand instead of a tensor.
pub(super) const RESERVED: &str = "__metadata__";

/// The limit of safetensors' own readers.
const LONGEST_HEADER: u64 = 100_000_000;
/// The header starts after its length.
const HEADER_START: u64 = 8;
/// The elements that are copied at once while a file is written.
const CHUNK: usize = 1 << 20;

/// Writes `tensors` and the texts of the metadata, atomically.
pub(super) fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    // The order of safetensors: wide types first, so that each tensor is aligned, then by name.
    let mut ordered: Vec<_> =
        tensors.iter().map(|(name, tensor)| (name, Dtype::from(tensor.dtype()), tensor)).collect();
    ordered.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut end = 0;
    let infos = ordered.iter().map(|&(name, dtype, tensor)| {
        let start = end;
        end += tensor.elem_count() * tensor.dtype().size_in_bytes();
        (name.clone(), TensorInfo { dtype, shape: tensor.dims().to_vec(), data_offsets: (start, end) })
    });
    let header = Metadata::new(Some(metadata), infos.collect())
        .map_err(|error| cannot("write", path).caused_by(error))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| cannot("write", path).caused_by(error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > LONGEST_HEADER {
        return Err(cannot("write", path)
            .expected(format!("a header of at most {LONGEST_HEADER} bytes"))
            .found(header.len())
            .remedy("save the parts of the tree in several files"));
    }
    file::replace(path, |writer| {
        let mut put = |bytes: &[u8]| {
            writer.write_all(bytes).map_err(|error| {
                cannot("write", path).caused_by(error).remedy("the old file, if any, is as it was")
            })
        };
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        ordered.iter().try_for_each(|(_, _, tensor)| write_values(tensor, &mut put))
    })
}

/// Writes the values of a tensor. Memory: a part of it, and one copy of it if it is on another device or no contiguous
/// piece of memory.
fn write_values(tensor: &Tensor, put: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let flat = transfer(tensor, &Device::Cpu, "save outside of the step")?.flatten_all()?;
    (0..flat.elem_count())
        .step_by(CHUNK)
        .try_for_each(|start| put(&flat.narrow(0, start, CHUNK.min(flat.elem_count() - start))?.data()))
}

/// Whether tensors of this type can be written. Candle has four that it cannot even copy.
pub(super) fn is_writable(dtype: DType) -> bool {
    !matches!(dtype, DType::F6E2M3 | DType::F6E3M2 | DType::F4 | DType::F8E8M0)
}

/// An open file, of which only the header is in memory.
pub(super) struct Container {
    path: PathBuf,
    file: File,
    /// Where the bytes of the tensors start.
    data: u64,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

impl Container {
    /// Reads and checks the header.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (mut file, len) = file::open(path)?;
        // Files of the kernel have no length, and some of them no end.
        if len < HEADER_START {
            return Err(broken(path).expected("at least 8 bytes").found(len));
        }
        let mut header_len = [0; HEADER_START as usize];
        file.read_exact(&mut header_len).map_err(|error| broken(path).caused_by(error))?;
        let header_len = u64::from_le_bytes(header_len);
        let limit = LONGEST_HEADER.min(len - HEADER_START);
        if header_len > limit {
            return Err(broken(path)
                .expected(format!("a header of at most {limit} bytes"))
                .found(format!("{header_len} bytes")));
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact(&mut header).map_err(|error| broken(path).caused_by(error))?;
        let Unique(items) = serde_json::from_slice(&header).map_err(|error| broken(path).caused_by(error))?;

        let (mut metadata, mut tensors) = (BTreeMap::new(), Vec::new());
        for (name, item) in items {
            match item {
                Item::Texts(Unique(texts)) if name == RESERVED => metadata = texts,
                Item::Tensor(info) if name != RESERVED => tensors.push((name, info)),
                _ => return Err(broken(path).found(format!("an entry `{name}` of the wrong type"))),
            }
        }
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        // Checks that the tensors fill the file without gaps, each with the bytes that its shape needs.
        let checked = Metadata::new(None, tensors.clone()).map_err(|error| broken(path).caused_by(error))?;
        let data = HEADER_START + header_len;
        if checked.data_len() as u64 != len - data {
            return Err(broken(path)
                .expected(format!("{} bytes of tensors", checked.data_len()))
                .found(len - data));
        }
        Ok(Self { path: path.to_owned(), file, data, metadata, tensors: tensors.into_iter().collect() })
    }

    /// Reads a tensor. Memory: its bytes and their copy in the tensor.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let path = &self.path;
        let info =
            self.tensors.get(name).ok_or_else(|| broken(path).expected(format!("a tensor `{name}`")))?;
        let (start, end) = info.data_offsets;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(end - start).map_err(|error| cannot("read", path).caused_by(error))?;
        self.file
            .seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| (&mut self.file).take((end - start) as u64).read_to_end(&mut bytes))
            .map_err(|error| cannot("read", path).caused_by(error))?;
        let view = TensorView::new(info.dtype, info.shape.clone(), &bytes)
            .map_err(|error| broken(path).caused_by(error))?;
        Ok(view.load(&Device::Cpu)?)
    }

    /// The element type that [`tensor`](Self::tensor) gives a stored one; an error if Candle has none for it.
    pub(super) fn dtype_of(&self, stored: Dtype) -> Result<DType> {
        match stored {
            Dtype::U16 => Ok(DType::U32),
            stored => DType::try_from(stored).map_err(|_| {
                Error::new(
                    ErrorKind::DType,
                    format!("`{}` holds an element type that Candle lacks", self.path.display()),
                )
                .found(format!("`{stored}`"))
                .remedy("convert the file with the program that wrote it")
            }),
        }
    }
}

/// The error of a file that is no checkpoint.
pub(super) fn broken(file: &Path) -> Error {
    Error::new(ErrorKind::Checkpoint, format!("`{}` is not a valid checkpoint", file.display()))
        .remedy("it is damaged, or of another format; give a safetensors file")
}

/// What a header says of one name.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Item {
    Tensor(TensorInfo),
    Texts(Unique<String>),
}

/// A JSON object; two entries of one name, of which most parsers keep either, are an error.
pub(super) struct Unique<V>(pub(super) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if let Some(twice) = entries.insert(name.clone(), value).map(|_| name) {
                        return Err(A::Error::custom(format!("two entries of the name `{twice}`")));
                    }
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
