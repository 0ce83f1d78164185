//! Summaries: a table of the modules, with a column for each kind present.

use std::cell::RefCell;
use std::fmt;

use candle_core::{Shape, Tensor};
use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::error::Result;
use crate::tree::handle::Handle;
use crate::tree::kind::KindTag;
use crate::tree::module::Module;
use crate::tree::object::{ChildInfo, TreeObject, Visitor};
use crate::tree::path::{ModuleId, Path};
use crate::tree::set_mode;
use crate::tree::walk::{attach_path, walk};

/// The most rows that a table has, and the most leaves that `Debug` of a `dyn Module` prints.
const LONGEST: usize = 1000;

/// One module of the table.
struct Row {
    path: String,
    /// None for leaves outside any module.
    module: Option<ModuleId>,
    own: Vec<(KindTag, Size)>,
}

#[derive(Clone, Copy, Default)]
struct Size {
    elements: usize,
    bytes: usize,
    /// Frozen elements.
    frozen: usize,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.elements = self.elements.saturating_add(other.elements);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.frozen = self.frozen.saturating_add(other.frozen);
    }

    fn of(leaf: &Handle) -> Self {
        // A shape that is only declared can be larger than any memory.
        let product = |shape: &Shape| shape.dims().iter().fold(1, |n: usize, &dim| n.saturating_mul(dim));
        let elements = leaf.shape().map_or(0, product);
        let bytes = elements.saturating_mul(leaf.dtype().map_or(0, |dtype| dtype.size_in_bytes()));
        Self { elements, bytes, frozen: if leaf.is_frozen() { elements } else { 0 } }
    }
}

/// `1,234  4.9 KB`: decimal units, one decimal; then the frozen part, if any.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  ", Grouped(self.elements))?;
        match self.bytes {
            bytes @ 0..1_000 => write!(f, "{bytes} B"),
            bytes @ 1_000..1_000_000 => write!(f, "{:.1} KB", bytes as f64 / 1e3),
            bytes @ 1_000_000..1_000_000_000 => write!(f, "{:.1} MB", bytes as f64 / 1e6),
            bytes => write!(f, "{:.1} GB", bytes as f64 / 1e9),
        }?;
        match self.frozen {
            0 => Ok(()),
            frozen if frozen == self.elements => f.write_str(" (frozen)"),
            frozen => write!(f, " ({} frozen)", Grouped(frozen)),
        }
    }
}

/// Digits in groups of three.
struct Grouped(usize);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Collects rows. A leaf counts for the innermost module that contains it and has a row.
struct Rows {
    /// The longest path of a row.
    depth: usize,
    rows: Vec<Row>,
    /// The kinds present, in the order of the leaves.
    kinds: Vec<KindTag>,
    path: Path,
    kind: Option<KindTag>,
    /// The row of the current module.
    owner: usize,
}

impl<'a> Visitor<'a> for Rows {
    fn leaf(&mut self, kind: KindTag, leaf: &'a Handle) {
        if leaf.is_nothing() {
            return;
        }
        let kind = self.kind.unwrap_or(kind);
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
        let own = &mut self.rows[self.owner].own;
        match own.iter_mut().find(|(of, _)| *of == kind) {
            Some((_, size)) => size.add(Size::of(leaf)),
            None => own.push((kind, Size::of(leaf))),
        }
    }

    fn child(&mut self, edge: ChildInfo<'_>, child: &'a dyn TreeObject) {
        let (depth, kind, owner) = (self.path.segments().len(), self.kind, self.owner);
        self.path.extend(edge.path);
        self.kind = kind.or(edge.kind);
        if let module @ Some(_) = child.identity()
            && self.path.segments().len() <= self.depth
        {
            self.owner = self.rows.len();
            self.rows.push(Row { path: self.path.to_string(), module, own: Vec::new() });
        }
        child.visit(self);
        self.path.truncate(depth);
        self.kind = kind;
        self.owner = owner;
    }
}

fn rows<T: TreeObject>(tree: &T, depth: usize) -> Rows {
    let root = Row { path: Path::default().to_string(), module: None, own: Vec::new() };
    let mut rows =
        Rows { depth, rows: vec![root], kinds: Vec::new(), path: Path::default(), kind: None, owner: 0 };
    rows.child(ChildInfo::new(&[]), tree);
    // If the root is a module, it has its own row.
    if rows.rows[0].own.is_empty() && rows.rows.len() > 1 {
        rows.rows.remove(0);
    }
    rows
}

pub(crate) fn tabulate<T: TreeObject>(tree: &T, depth: usize) -> String {
    render(&rows(tree, depth), None)
}

pub(crate) fn tabulate_with<T: Module + Clone>(tree: &T, x: &Tensor) -> Result<String> {
    let mut tree = tree.clone();
    set_mode::set_training(&mut tree, false);
    let rows = rows(&tree, usize::MAX);
    let recording = Recording::open();
    tree.call(x).map_err(|error| attach_path(&tree, error))?;
    Ok(render(&rows, Some(&recording.close())))
}

fn render(Rows { rows, kinds, .. }: &Rows, calls: Option<&[CallRecord]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    let shapes = calls.map(|_| ["in", "out"]);
    table.set_header(
        ["path", "module"]
            .into_iter()
            .chain(shapes.into_iter().flatten())
            .chain(kinds.iter().map(|kind| kind.name())),
    );
    let mut totals = vec![Size::default(); kinds.len()];
    let (rows, rest) = rows.split_at(rows.len().min(LONGEST));
    let rest = (!rest.is_empty()).then(|| Row {
        path: format!("... {} more", Grouped(rest.len())),
        module: None,
        own: rest.iter().flat_map(|row| row.own.iter().copied()).collect(),
    });
    for row in rows.iter().chain(&rest) {
        let mut cells = vec![Cell::new(&row.path), Cell::new(row.module.map_or("", |module| module.name))];
        if let Some(calls) = calls {
            let call = row.module.and_then(|module| calls.iter().find(|call| call.module == module));
            cells.push(Cell::new(call.map_or("", |call| &call.input)));
            cells.push(Cell::new(call.map_or("", |call| &call.output)));
        }
        for (kind, total) in kinds.iter().zip(&mut totals) {
            let sizes = row.own.iter().filter(|(of, _)| of == kind).map(|(_, size)| *size);
            let size = sizes.reduce(|mut sum, size| {
                sum.add(size);
                sum
            });
            total.add(size.unwrap_or_default());
            cells.push(
                Cell::new(size.map_or(String::new(), |size| size.to_string()))
                    .set_alignment(CellAlignment::Right),
            );
        }
        table.add_row(cells);
    }
    let mut footer = vec![Cell::new(""), Cell::new("total")];
    footer.extend(shapes.into_iter().flatten().map(|_| Cell::new("")));
    footer.extend(totals.iter().map(|total| Cell::new(total).set_alignment(CellAlignment::Right)));
    table.add_row(footer);
    table.trim_fmt()
}

/// The recorded shapes of one call of a module.
struct CallRecord {
    module: ModuleId,
    input: String,
    output: String,
}

thread_local! {
    /// Open while `tabulate_with` runs a model on this thread.
    static RECORDER: RefCell<Option<Vec<CallRecord>>> = const { RefCell::new(None) };
}

/// An open recorder, closed on drop.
struct Recording;

impl Recording {
    fn open() -> Self {
        RECORDER.set(Some(Vec::new()));
        Self
    }

    fn close(self) -> Vec<CallRecord> {
        RECORDER.take().unwrap_or_default()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDER.set(None);
    }
}

/// Records the input and output shapes of a call for [`tabulate_with`](crate::Tree::tabulate_with); does nothing
/// otherwise. Call it in your own modules to show shapes in their rows: `record(self, x, &y)`.
pub fn record<M: TreeObject>(module: &M, x: &Tensor, y: &Tensor) {
    RECORDER.with_borrow_mut(|calls| {
        if let (Some(calls), Some(module)) = (calls, module.identity()) {
            let shape = |tensor: &Tensor| format!("{:?}", tensor.dims());
            calls.push(CallRecord { module, input: shape(x), output: shape(y) });
        }
    });
}

/// Prints a `dyn` tree: its name, and its leaves by path.
pub(crate) fn debug(tree: &(impl TreeObject + ?Sized), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut fields, mut leaves) = (f.debug_struct(tree.module_name().unwrap_or("Module")), 0);
    walk(tree, |path, _, leaf| {
        leaves += 1;
        if leaves <= LONGEST {
            fields.field(&Path::from(path).to_string(), leaf);
        }
    });
    if leaves > LONGEST { fields.finish_non_exhaustive() } else { fields.finish() }
}

impl fmt::Debug for dyn Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(self, f)
    }
}
