//! Faults seeded into kernels and calls that are right: each is caught by the check that the table names, in words that
//! say where. The kernels are `seeded/kernels.cu`, as NVIDIA's compiler makes PTX of them.

use std::collections::BTreeSet;

use simcuda::blas::{Gemm, Matrix, Scale, Type};
use simcuda::driver::capture::CaptureMode;
use simcuda::driver::device::{CONTEXT, Device};
use simcuda::driver::error::Error;
use simcuda::driver::settings::Settings;
use simcuda::driver::work::Pattern;
use simcuda::fault::FaultKind;
use simcuda::launch::{Grid, Order};

/// What catches a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// The device stops.
    Stops(FaultKind),
    /// A call is refused.
    Refuses(Error),
    /// All runs, and the numbers are wrong: nothing but a comparison with the right ones sees it.
    Comparison,
}

/// Why a scene came to no good end.
#[derive(Debug)]
enum Failure {
    Refused(Error),
    Wrong(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// What is run, right or with the fault.
type Scene = Box<dyn Fn(&mut Stage, bool) -> Result<(), Failure>>;

struct Row {
    fault: &'static str,
    settings: Settings,
    scene: Scene,
    caught: Check,
    /// What the words have in them.
    says: &'static [&'static str],
}

fn row(
    fault: &'static str,
    scene: impl Fn(&mut Stage, bool) -> Result<(), Failure> + 'static,
    caught: Check,
    says: &'static [&'static str],
) -> Row {
    Row { fault, settings: Settings::default(), scene: Box::new(scene), caught, says }
}

impl Row {
    /// The order of blocks and warps.
    fn in_order(mut self, order: Order) -> Self {
        self.settings.options.order = order;
        self
    }

    /// Which stream goes on.
    fn with_streams(mut self, streams: Order) -> Self {
        self.settings.streams = streams;
        self
    }

    /// The most instructions of a warp.
    fn at_most(mut self, instructions: u64) -> Self {
        self.settings.options.instructions = instructions;
        self
    }
}

/// A device with the kernels, and a stream.
struct Stage {
    device: Device,
    module: u64,
    stream: u64,
}

/// Threads of a block.
const THREADS: u32 = 128;

/// Numbers of which all sums are exact.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + i / 11) % 11) as f32 - 5.0).collect()
}

fn doubled(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| 2.0 * x).collect()
}

impl Stage {
    fn new(settings: Settings) -> Self {
        let mut device = Device::new(settings);
        device.enter(1);
        device.initialize(0).expect("flags are 0");
        device.retain(0).expect("a context");
        device.set_current(CONTEXT).expect("it is there");
        let module = device.load_module(include_bytes!("seeded/kernels.ptx")).expect("PTX");
        let stream = device.create_stream(1).expect("a stream");
        Self { device, module, stream }
    }

    /// Memory for so many numbers.
    fn memory(&mut self, len: usize) -> u64 {
        self.device.allocate_async(4 * len as u64, self.stream).expect("room")
    }

    fn upload(&mut self, values: &[f32]) -> u64 {
        let address = self.memory(values.len());
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.device.upload_async(address, &bytes, self.stream).expect("inside");
        address
    }

    fn read(&mut self, address: u64, len: usize) -> Result<Vec<f32>, Failure> {
        let mut bytes = vec![0; 4 * len];
        self.device.read_back_async(&mut bytes, address, self.stream)?;
        Ok(bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
    }

    /// Compares what is in memory with the right numbers.
    fn compare(&mut self, address: u64, expected: &[f32]) -> Result<(), Failure> {
        let found = self.read(address, expected.len())?;
        match (0..found.len()).find(|&i| found[i] != expected[i]) {
            Some(i) => Err(Failure::Wrong(format!("number {i} is {}, not {}", found[i], expected[i]))),
            None => Ok(()),
        }
    }

    fn launch(
        &mut self,
        kernel: &str,
        blocks: u32,
        [y, x]: [u64; 2],
        [rows, columns]: [usize; 2],
        stream: u64,
    ) -> Result<(), Failure> {
        let function = self.device.function(self.module, kernel).expect("a kernel");
        let mut parameters = [y.to_le_bytes(), x.to_le_bytes()].concat();
        parameters.extend([rows, columns].into_iter().flat_map(|size| (size as u32).to_le_bytes()));
        let grid = Grid { blocks: [blocks, 1, 1], threads: [THREADS, 1, 1], dynamic_shared: 0 };
        Ok(self.device.launch(function, grid, &parameters, stream)?)
    }

    /// `y = 2 x`, in a stream.
    fn scale(&mut self, y: u64, x: u64, len: usize, stream: u64) -> Result<(), Failure> {
        self.launch("scale_right", (len as u32).div_ceil(THREADS), [y, x], [1, len], stream)
    }

    /// Captures, and launches what was captured.
    fn graph(&mut self, body: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
        self.device.begin_capture(self.stream, CaptureMode::ThreadLocal)?;
        body(self)?;
        let graph = self.device.end_capture(self.stream)?;
        let run = self.device.instantiate(graph, 0)?;
        Ok(self.device.launch_graph(run, self.stream)?)
    }
}

/// One launch of `KERNEL_right`, or of `KERNEL_FAULT`, of a matrix; `cleared` is memory that holds zeros before.
fn kernel(
    kernel: &'static str,
    fault: &'static str,
    [rows, columns]: [usize; 2],
    cleared: bool,
) -> impl Fn(&mut Stage, bool) -> Result<(), Failure> {
    move |stage, seeded| {
        let len = rows * columns;
        let bins = || (0..len).map(|i| (i % columns) as f32).collect();
        let x = if kernel == "histogram" { bins() } else { numbers(len) };
        let blocks = |threads: usize| (threads as u32).div_ceil(THREADS).max(1);
        let (expected, blocks) = match kernel {
            "scale" => (doubled(&x), blocks(len)),
            "scale4" => (doubled(&x), blocks(len / 4)),
            "transpose" => ((0..len).map(|i| x[i % rows * columns + i / rows]).collect(), blocks(len)),
            "row_sum" => (x.chunks(columns).map(|row| row.iter().sum()).collect(), rows as u32),
            "histogram" => (vec![rows as f32; columns], 1),
            _ => panic!("no kernel {kernel}"),
        };
        let (x, y) = (stage.upload(&x), stage.memory(expected.len()));
        if cleared {
            stage.device.fill(y, Pattern::Byte(0), 4 * expected.len(), stage.stream)?;
        }
        let name = format!("{kernel}_{}", if seeded { fault } else { "right" });
        stage.launch(&name, blocks, [y, x], [rows, columns], stage.stream)?;
        stage.compare(y, &expected)
    }
}

/// Faults of kernels.
fn kernels() -> Vec<Row> {
    use Check::{Comparison, Stops};
    use FaultKind as F;
    vec![
        row(
            "an index off by one",
            kernel("scale", "index_off_by_one", [1, 300], false),
            Stops(F::IllegalAddress),
            &[
                "byte 1200 of an allocation of 1200 bytes",
                "kernel scale_index_off_by_one, block [2, 0, 0], thread [43, 0, 0], `ld.global",
            ],
        ),
        row(
            "no guard for the threads behind the end",
            kernel("scale", "missing_guard", [1, 300], false),
            Stops(F::IllegalAddress),
            &["kernel scale_missing_guard, block [2, 0, 0], thread [44, 0, 0], `ld.global"],
        ),
        row(
            "an address that vectors cannot have",
            kernel("scale4", "unaligned", [1, 302], false),
            Stops(F::Misaligned),
            &[
                "16 bytes at 0x",
                "kernel scale4_unaligned, block [0, 0, 0], thread [0, 0, 0], `ld.global.v4.f32",
            ],
        ),
        row(
            "a missing tail",
            kernel("scale4", "missing_tail", [1, 302], false),
            Stops(F::UninitializedGlobal),
            &["nothing has written byte 1200 of an allocation of 1208 bytes", "at a copy to the host"],
        ),
        row(
            "a missing tail, in memory that held zeros before",
            kernel("scale4", "missing_tail", [1, 302], true),
            Comparison,
            &["number 300 is 0, not -2"],
        ),
        row(
            "a swapped stride of what is written, of a matrix that is wide",
            kernel("transpose", "swapped_output_stride", [33, 70], false),
            Stops(F::IllegalAddress),
            &[
                "of an allocation of 9240 bytes",
                "kernel transpose_swapped_output_stride, block [0, 0, 0]",
                "`st.global.f32",
            ],
        ),
        row(
            "a swapped stride of what is written, of a matrix that is high",
            kernel("transpose", "swapped_output_stride", [70, 33], false),
            Stops(F::UninitializedGlobal),
            &["of an allocation of 9240 bytes", "at a copy to the host"],
        ),
        row(
            "a swapped stride of what is written, by one block",
            kernel("transpose", "swapped_output_stride", [16, 8], false),
            Stops(F::Race),
            &[
                "written by thread 64 and were written by thread 1, with no barrier between them",
                "kernel transpose_swapped_output_stride, block [0, 0, 0], thread [64, 0, 0], `st.global.f32",
            ],
        ),
        row(
            "a swapped stride of what is read",
            kernel("transpose", "swapped_input_stride", [33, 70], false),
            Comparison,
            &["number 1 is "],
        ),
        row(
            "a barrier removed, where the sum reads first",
            kernel("row_sum", "barrier_removed", [3, 500], false),
            Stops(F::UninitializedShared),
            &["kernel row_sum_barrier_removed, block [0, 0, 0], thread [1, 0, 0], `ld.shared.f32"],
        ),
        row(
            "a barrier removed, where all is written in time",
            kernel("row_sum", "barrier_removed", [3, 500], false),
            Stops(F::Race),
            &[
                "read by thread 1 and were written by thread 32, with no barrier between them",
                "kernel row_sum_barrier_removed, block [2, 0, 0], thread [1, 0, 0], `ld.shared.f32",
            ],
        )
        .in_order(Order::Reversed),
        row(
            "a barrier to which one lane of a warp comes",
            kernel("row_sum", "barrier_in_a_branch", [3, 500], false),
            Stops(F::Deadlock),
            &["wait at different barriers", "kernel row_sum_barrier_in_a_branch", "`bar.sync 0"],
        ),
        row(
            "an uninitialized shared sum",
            kernel("row_sum", "uninitialized_sum", [3, 500], false),
            Stops(F::UninitializedShared),
            &[
                "4 bytes of shared memory at 16 that no thread has written",
                "kernel row_sum_uninitialized_sum, block [0, 0, 0], thread [4, 0, 0], `ld.shared.f32",
            ],
        ),
        row(
            "a wrong shuffle mask",
            kernel("row_sum", "shuffle_mask", [3, 500], false),
            Stops(F::Deadlock),
            &[
                "lane 31 is not among the lanes 0x7fffffff that it names",
                "kernel row_sum_shuffle_mask, block [0, 0, 0], thread [31, 0, 0], `shfl.sync.down.b32",
            ],
        ),
        row(
            "a shuffle mask that names lanes of another way",
            kernel("row_sum", "shuffle_in_a_branch", [3, 500], false),
            Stops(F::Deadlock),
            &[
                "lane 0 waits for the lanes 0xffffffff that it names, and lane 4 never comes: it has exited",
                "kernel row_sum_shuffle_in_a_branch, block [0, 0, 0], thread [0, 0, 0], `shfl.sync.down.b32",
            ],
        ),
        row(
            "a shuffle that begins with half of the lanes",
            kernel("row_sum", "shuffle_offset", [3, 500], false),
            Comparison,
            &["number 0 is "],
        ),
        row(
            "a loop without an end",
            kernel("row_sum", "endless_loop", [3, 500], false),
            Stops(F::TimeOut),
            &["more than 100000 instructions in one warp", "kernel row_sum_endless_loop", "`bra.uni"],
        )
        .at_most(100_000),
        row(
            "an addition that is not atomic",
            kernel("histogram", "plain_add", [20, 7], true),
            Stops(F::Race),
            &[
                "written by thread 0 and were read by thread 7, with no barrier between them",
                "kernel histogram_plain_add, block [0, 0, 0], thread [0, 0, 0], `st.shared.f32",
            ],
        ),
        row(
            "a shared sum that is not cleared",
            kernel("histogram", "not_cleared", [20, 7], true),
            Stops(F::UninitializedShared),
            &["kernel histogram_not_cleared, block [0, 0, 0], thread [0, 0, 0], `atom.shared.add.f32"],
        ),
        row(
            "an index that an assertion refuses",
            kernel("histogram", "wrong_bin", [20, 7], true),
            Stops(F::Assert),
            &["assertion `bin < columns` of `void histogram", "kernels.cu:", "thread [6, 0, 0]"],
        ),
    ]
}

/// Faults of the program that calls the driver.
fn calls() -> Vec<Row> {
    use Check::{Refuses, Stops};
    use FaultKind as F;
    let x = numbers(300);
    let len = x.len();
    let (twice, four_times) = (doubled(&x), doubled(&doubled(&x)));
    vec![
        row(
            "a sum into memory that is not cleared",
            |s, seeded| kernel("histogram", "right", [20, 7], !seeded)(s, false),
            Stops(F::UninitializedGlobal),
            &["kernel histogram_right, block [0, 0, 0], thread [0, 0, 0], `atom.global.add.f32"],
        ),
        row(
            "a copy that is a number too long",
            {
                let (x, twice) = (x.clone(), twice.clone());
                move |s, seeded| {
                    let (from, y) = (s.upload(&x), s.memory(len));
                    s.scale(y, from, len, s.stream)?;
                    s.read(y, if seeded { len + 1 } else { len })?;
                    s.compare(y, &twice)
                }
            },
            Refuses(Error::INVALID_VALUE),
            &[],
        ),
        row(
            "a product of a factor that nothing has written",
            |s, seeded| {
                let (a, result) = (s.upload(&[1.0, 2.0, 3.0, 4.0]), s.memory(4));
                let b = if seeded { s.memory(4) } else { s.upload(&[1.0, 0.0, 0.0, 1.0]) };
                let matrix =
                    |address| Matrix { address, of: Type::F32, leading: 2, stride: 0, transposed: false };
                let [a, b, c] = [a, b, result].map(matrix);
                let gemm = Gemm { m: 2, n: 2, k: 2, batch: 1, a, b, c, scale: Scale::F32(1.0, 0.0) };
                let handle = s.device.create_blas().expect("a context");
                s.device.blas(handle).expect("a handle").stream = s.stream;
                s.device.multiply(handle, gemm).expect("sizes that fit");
                s.compare(result, &[1.0, 2.0, 3.0, 4.0])
            },
            Stops(F::UninitializedGlobal),
            &["8 bytes at 0x", "at a product of cuBLAS"],
        ),
        row(
            "a stream that does not wait for another",
            {
                let (x, four_times) = (x.clone(), four_times.clone());
                move |s, seeded| {
                    let (x, y, z) = (s.upload(&x), s.memory(len), s.memory(len));
                    let (other, event) = (s.device.create_stream(1)?, s.device.create_event(2)?);
                    s.device.synchronize()?;
                    s.scale(y, x, len, other)?;
                    if !seeded {
                        s.device.record(event, other)?;
                        s.device.wait(s.stream, event)?;
                    }
                    s.scale(z, y, len, s.stream)?;
                    s.compare(z, &four_times)
                }
            },
            Stops(F::UninitializedGlobal),
            &["kernel scale_right, block [0, 0, 0], thread [0, 0, 0], `ld.global.f32"],
        )
        .with_streams(Order::Reversed),
        row(
            "a free that does not wait for another stream",
            {
                let (x, twice) = (x.clone(), twice.clone());
                move |s, seeded| {
                    let (x, y) = (s.upload(&x), s.memory(len));
                    let (other, event) = (s.device.create_stream(1)?, s.device.create_event(2)?);
                    s.device.synchronize()?;
                    s.scale(y, x, len, s.stream)?;
                    if !seeded {
                        s.device.record(event, s.stream)?;
                        s.device.wait(other, event)?;
                    }
                    s.device.free_async(x, other)?;
                    s.compare(y, &twice)
                }
            },
            Stops(F::IllegalAddress),
            &["byte 0 of memory that was freed", "kernel scale_right, block [0, 0, 0], thread [0, 0, 0]"],
        )
        .with_streams(Order::Reversed),
        row(
            "a host read in a capture",
            {
                let (x, twice) = (x.clone(), twice.clone());
                move |s, seeded| {
                    let (x, y) = (s.upload(&x), s.memory(len));
                    s.graph(|s| {
                        s.scale(y, x, len, s.stream)?;
                        if seeded { s.read(y, len).map(|_| ()) } else { Ok(()) }
                    })?;
                    s.compare(y, &twice)
                }
            },
            Refuses(Error::CAPTURE_UNSUPPORTED),
            &["STREAM_CAPTURE_UNSUPPORTED"],
        ),
        row(
            "memory freed inside a graph, and used there",
            {
                let x = x.clone();
                move |s, seeded| {
                    let (x, y) = (s.upload(&x), s.memory(len));
                    s.graph(|s| {
                        let inside = s.memory(len);
                        s.scale(inside, x, len, s.stream)?;
                        if seeded {
                            s.device.free_async(inside, s.stream)?;
                        }
                        s.scale(y, inside, len, s.stream)?;
                        if !seeded {
                            s.device.free_async(inside, s.stream)?;
                        }
                        Ok(())
                    })?;
                    s.compare(y, &four_times)
                }
            },
            Stops(F::IllegalAddress),
            &["byte 0 of memory that was freed", "kernel scale_right, block [0, 0, 0], thread [0, 0, 0]"],
        ),
        row(
            "memory freed inside a graph, and read behind its launch",
            {
                let (x, twice) = (x.clone(), twice.clone());
                move |s, seeded| {
                    let (x, mut inside) = (s.upload(&x), 0);
                    s.graph(|s| {
                        inside = s.memory(len);
                        s.scale(inside, x, len, s.stream)?;
                        if seeded { Ok(s.device.free_async(inside, s.stream)?) } else { Ok(()) }
                    })?;
                    s.compare(inside, &twice)
                }
            },
            Stops(F::IllegalAddress),
            &["byte 0 of memory that was freed", "at a copy to the host"],
        ),
        row(
            "memory of before, freed inside a graph",
            move |s, seeded| {
                let (x, y) = (s.upload(&x), s.memory(len));
                s.graph(|s| {
                    s.scale(y, x, len, s.stream)?;
                    if seeded { Ok(s.device.free_async(x, s.stream)?) } else { Ok(()) }
                })?;
                s.compare(y, &twice)
            },
            Refuses(Error::INVALID_VALUE),
            &["INVALID_VALUE"],
        ),
    ]
}

#[test]
fn each_seeded_fault_is_caught_by_its_check() {
    let (mut stopped, mut otherwise) = (BTreeSet::new(), Vec::new());
    for Row { fault, settings, scene, caught, says } in kernels().into_iter().chain(calls()) {
        for order in [Order::Forward, Order::Reversed, Order::Seeded(7)] {
            let mut settings = Settings { streams: order, ..settings.clone() };
            settings.options.order = order;
            let mut stage = Stage::new(settings);
            if let Err(failure) = scene(&mut stage, false) {
                let found = stage.device.fault();
                panic!("what is right fails before `{fault}` is seeded: {order:?}, {failure:?}, {found:?}");
            }
        }
        let mut stage = Stage::new(settings);
        let failure = scene(&mut stage, true);
        let Err(failure) = failure else { panic!("`{fault}` is not caught") };
        let (check, words) = match (stage.device.fault(), failure) {
            (Some(found), _) => (Check::Stops(found.kind), found.to_string()),
            (None, Failure::Refused(error)) => (Check::Refuses(error), error.to_string()),
            (None, Failure::Wrong(words)) => (Check::Comparison, words),
        };
        println!("{fault}: {check:?}: {words}");
        if check != caught || !says.iter().all(|part| words.contains(part)) {
            otherwise.push(format!("{fault} should be {caught:?} with {says:?}, and is {check:?}: {words}"));
        }
        if let Check::Stops(kind) = check {
            stopped.insert(format!("{kind:?}"));
        }
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
    // All checks have a row, but for the one of instructions that the device does not have.
    use FaultKind as F;
    let checks = [
        F::IllegalAddress,
        F::Misaligned,
        F::Assert,
        F::UninitializedShared,
        F::UninitializedGlobal,
        F::Race,
        F::Deadlock,
        F::TimeOut,
    ];
    assert_eq!(stopped, checks.iter().map(|kind| format!("{kind:?}")).collect());
}
