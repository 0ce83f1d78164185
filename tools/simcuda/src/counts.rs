//! What a program asked of the device, exactly: a second run counts the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::launch::LaunchCounts;

/// Calls are counted when they are made, what a graph holds when it is launched, and what kernels do when these run: wait
/// before reading that.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kernels launched, those of graphs apart.
    pub launches: u64,
    /// Launches of graphs.
    pub graph_launches: u64,
    /// Kernels in the launched graphs.
    pub graph_kernels: u64,
    /// Products of cuBLAS.
    pub products: u64,
    /// Fills of cuRAND.
    pub random_fills: u64,
    /// Allocations of device memory, those of graphs apart.
    pub allocations: u64,
    /// Bytes of these allocations.
    pub allocated_bytes: u64,
    /// Frees, those of graphs apart.
    pub frees: u64,
    /// Events made.
    pub events: u64,
    /// Copies from the host to the device.
    pub uploads: u64,
    /// Bytes of these copies.
    pub upload_bytes: u64,
    /// Copies from the device to the host.
    pub read_backs: u64,
    /// Bytes of these copies.
    pub read_back_bytes: u64,
    /// Copies within the device.
    pub device_copies: u64,
    /// Bytes of these copies.
    pub device_copy_bytes: u64,
    /// Fills of memory with a pattern.
    pub fills: u64,
    /// Bytes of these fills.
    pub fill_bytes: u64,
    /// Calls that wait for the device: of a context, a stream, or an event. Copies that wait are not among them.
    pub synchronizations: u64,
    /// Kernels that ran to their end, in graphs or not.
    pub kernels_run: u64,
    /// What these kernels did, summed.
    pub kernels: LaunchCounts,
}

/// The counts, and those of each kernel by its name.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Over all.
    pub counts: Counts,
    kernels: BTreeMap<String, (u64, LaunchCounts)>,
}

impl Counts {
    /// The counts of calls, each with its name in reports.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 19] {
        [
            ("launches", self.launches),
            ("graph launches", self.graph_launches),
            ("kernels in graphs", self.graph_kernels),
            ("products", self.products),
            ("random fills", self.random_fills),
            ("allocations", self.allocations),
            ("bytes allocated", self.allocated_bytes),
            ("frees", self.frees),
            ("events", self.events),
            ("uploads", self.uploads),
            ("bytes uploaded", self.upload_bytes),
            ("read-backs", self.read_backs),
            ("bytes read back", self.read_back_bytes),
            ("copies on the device", self.device_copies),
            ("bytes copied on the device", self.device_copy_bytes),
            ("fills", self.fills),
            ("bytes filled", self.fill_bytes),
            ("synchronizations", self.synchronizations),
            ("kernels run", self.kernels_run),
        ]
    }
}

impl Report {
    /// Adds a kernel that ran.
    pub fn add_kernel(&mut self, name: &str, counts: LaunchCounts) {
        self.counts.kernels_run += 1;
        self.counts.kernels += counts;
        let entry = match self.kernels.get_mut(name) {
            Some(entry) => entry,
            None => self.kernels.entry(name.to_owned()).or_default(),
        };
        entry.0 += 1;
        entry.1 += counts;
    }

    /// How often the kernel of this name ran, and what it did.
    #[must_use]
    pub fn kernel(&self, name: &str) -> (u64, LaunchCounts) {
        self.kernels.get(name).copied().unwrap_or_default()
    }

    /// The report as text: a line for each count, then a line for each kernel.
    #[must_use]
    pub fn text(&self) -> String {
        let c = &self.counts;
        let mut text = String::new();
        for (name, value) in c.named() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {value}");
        }
        let mut heading = String::from("kernel\truns");
        for (name, _) in c.kernels.named() {
            let _ = write!(heading, "\t{name}");
        }
        let _ = writeln!(text, "{heading}");
        let mut row = |name: &str, runs: u64, counts: &LaunchCounts| {
            let _ = write!(text, "{name}\t{runs}");
            for (_, value) in counts.named() {
                let _ = write!(text, "\t{value}");
            }
            let _ = writeln!(text);
        };
        row("all kernels", c.kernels_run, &c.kernels);
        for (name, (runs, counts)) in &self.kernels {
            row(name, *runs, counts);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_add_up_by_name() {
        let mut report = Report::default();
        let one = LaunchCounts { bytes_read: 4, barriers: 1, ..LaunchCounts::default() };
        report.add_kernel("a", one);
        report.add_kernel("a", one);
        report.add_kernel("b", one);
        assert_eq!((report.kernel("a").0, report.kernel("a").1.bytes_read), (2, 8));
        assert_eq!((report.counts.kernels_run, report.counts.kernels.barriers), (3, 3));
        let text = report.text();
        assert!(text.contains("kernels run: 3\nkernel\truns"), "{text}");
        assert!(text.ends_with("all kernels\t3\t0\t0\t12\t0\t0\t0\t0\t0\t3\na\t2\t0\t0\t8\t0\t0\t0\t0\t0\t2\nb\t1\t0\t0\t4\t0\t0\t0\t0\t0\t1\n"));
    }
}
