//! The product of matrices: `C = alpha * op(A) * op(B) + beta * C`, column by column, for each of a batch.

use half::f16;

use super::number::{Element, Type};
use crate::fault::Fault;
use crate::memory::Memory;

/// A matrix in memory, or a batch of them.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Where it starts.
    pub address: u64,
    /// What its numbers are.
    pub of: Type,
    /// From one column to the next, in numbers.
    pub leading: i64,
    /// From one matrix of the batch to the next, in numbers.
    pub stride: i64,
    /// Whether it is taken transposed. Of the result it is not.
    pub transposed: bool,
}

/// The type of computation, with `alpha` and `beta`.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    /// In 16 bits.
    F16(f16, f16),
    /// In 32 bits.
    F32(f32, f32),
    /// In 64 bits.
    F64(f64, f64),
}

impl Scale {
    /// The type by number, and the bits of `alpha` and `beta`.
    #[must_use]
    pub fn words(&self) -> (u64, u64, u64) {
        match *self {
            Self::F16(alpha, beta) => (0, alpha.to_bits().into(), beta.to_bits().into()),
            Self::F32(alpha, beta) => (1, alpha.to_bits().into(), beta.to_bits().into()),
            Self::F64(alpha, beta) => (2, alpha.to_bits(), beta.to_bits()),
        }
    }
}

/// A product.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Rows of the result.
    pub m: i64,
    /// Columns of the result.
    pub n: i64,
    /// Products that are summed.
    pub k: i64,
    /// How many.
    pub batch: i64,
    /// The left factor.
    pub a: Matrix,
    /// The right factor.
    pub b: Matrix,
    /// The result.
    pub c: Matrix,
    /// What it is computed in, `alpha` and `beta`.
    pub scale: Scale,
}

impl Gemm {
    /// Whether sizes and leading dimensions fit.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let leads = |matrix: &Matrix, rows: i64, columns: i64| {
            matrix.leading >= if matrix.transposed { columns } else { rows }.max(1)
        };
        self.m >= 0
            && self.n >= 0
            && self.k >= 0
            && self.batch >= 0
            && leads(&self.a, self.m, self.k)
            && leads(&self.b, self.k, self.n)
            && leads(&self.c, self.m, self.n)
    }

    /// Whether there is no result.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.m == 0 || self.n == 0 || self.batch == 0
    }

    /// Computes it.
    ///
    /// # Errors
    /// If a matrix is not inside of an allocation, or holds numbers that nothing has written.
    pub fn run(&self, memory: &mut Memory) -> Result<(), Fault> {
        match self.scale {
            Scale::F16(alpha, beta) => {
                self.run_in(memory, alpha, beta, beta == f16::ZERO, alpha == f16::ZERO)
            }
            Scale::F32(alpha, beta) => self.run_in(memory, alpha, beta, beta == 0.0, alpha == 0.0),
            Scale::F64(alpha, beta) => self.run_in(memory, alpha, beta, beta == 0.0, alpha == 0.0),
        }
    }

    /// As BLAS says: the old result is not read if `beta` is 0, nor are the factors if `alpha` is, so that NaN that is
    /// there does not spread.
    fn run_in<T: Element>(
        &self,
        memory: &mut Memory,
        alpha: T,
        beta: T,
        overwrites: bool,
        ignores: bool,
    ) -> Result<(), Fault> {
        let (m, n, k) = (self.m as usize, self.n as usize, if ignores { 0 } else { self.k as usize });
        for item in 0..self.batch {
            // Rows of `op(A)` and columns of `op(B)`, so that sums run along memory.
            let rows = load(memory, &self.a, item, m, k, true)?;
            let columns = load(memory, &self.b, item, k, n, false)?;
            let size = self.c.of.size();
            let leading = self.c.leading as usize;
            let at = start(&self.c, item);
            memory.get(at, ((n - 1) * leading + m) * size)?;
            for j in 0..n {
                let column = &columns[j * k..][..k];
                let address = at + (j * leading * size) as u64;
                let result = if overwrites {
                    memory.get_mut(address, m * size)?
                } else {
                    memory.update(address, m * size)?
                };
                for i in 0..m {
                    let row = &rows[i * k..][..k];
                    let sum = row
                        .iter()
                        .zip(column)
                        .fold(T::ZERO, |sum: T, (a, b): (&T, &T)| a.multiply_add(*b, sum));
                    let bytes = &mut result[i * size..][..size];
                    let scaled = alpha.multiply(sum);
                    let value = if overwrites {
                        scaled
                    } else {
                        beta.multiply_add(T::from_f64(self.c.of.read(bytes)), scaled)
                    };
                    self.c.of.write(value.to_f64(), bytes);
                }
            }
        }
        Ok(())
    }
}

/// Where a matrix of a batch starts.
fn start(matrix: &Matrix, item: i64) -> u64 {
    let offset = matrix.stride.wrapping_mul(item).wrapping_mul(matrix.of.size() as i64);
    matrix.address.wrapping_add_signed(offset)
}

/// The numbers of a factor that has these rows and columns once it is transposed, row by row or column by column.
fn load<T: Element>(
    memory: &Memory,
    matrix: &Matrix,
    item: i64,
    rows: usize,
    columns: usize,
    by_rows: bool,
) -> Result<Vec<T>, Fault> {
    if rows == 0 || columns == 0 {
        return Ok(Vec::new());
    }
    let (stored_rows, stored_columns) = if matrix.transposed { (columns, rows) } else { (rows, columns) };
    let (size, leading) = (matrix.of.size(), matrix.leading as usize);
    let at = start(matrix, item);
    let bytes = memory.get(at, ((stored_columns - 1) * leading + stored_rows) * size)?;
    for column in 0..stored_columns {
        memory.read(at + (column * leading * size) as u64, stored_rows * size)?;
    }
    let number = |row: usize, column: usize| {
        let (row, column) = if matrix.transposed { (column, row) } else { (row, column) };
        T::from_f64(matrix.of.read(&bytes[(column * leading + row) * size..]))
    };
    Ok(if by_rows {
        (0..rows)
            .flat_map(|row| (0..columns).map(move |column| (row, column)))
            .map(|(r, c)| number(r, c))
            .collect()
    } else {
        (0..columns)
            .flat_map(|column| (0..rows).map(move |row| (row, column)))
            .map(|(r, c)| number(r, c))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    fn put(memory: &mut Memory, of: Type, values: &[f64]) -> u64 {
        let address = memory.allocate((values.len() * of.size()) as u64).expect("room");
        let bytes = memory.get_mut(address, values.len() * of.size()).expect("inside");
        for (value, bytes) in values.iter().zip(bytes.chunks_exact_mut(of.size())) {
            of.write(value.to_f64(), bytes);
        }
        address
    }

    fn get(memory: &Memory, of: Type, address: u64, count: usize) -> Vec<f64> {
        let bytes = memory.get(address, count * of.size()).expect("inside");
        bytes.chunks_exact(of.size()).map(|bytes| of.read(bytes)).collect()
    }

    fn matrix(address: u64, of: Type, leading: i64, stride: i64, transposed: bool) -> Matrix {
        Matrix { address, of, leading, stride, transposed }
    }

    /// Small whole numbers, of which all sums are exact in each type.
    fn whole(count: usize, seed: u64) -> Vec<f64> {
        (0..count as u64).map(|i| ((i * 7 + seed * 13) % 11) as f64 - 5.0).collect()
    }

    #[test]
    fn products_are_the_definition_in_all_types_transposes_and_strides() {
        let (m, n, k, batch) = (3usize, 4usize, 5usize, 2usize);
        for (of, scale) in [
            (Type::F16, Scale::F16(f16::from_f32(2.0), f16::from_f32(-1.0))),
            (Type::F16, Scale::F32(2.0, -1.0)),
            (Type::Bf16, Scale::F32(2.0, -1.0)),
            (Type::F32, Scale::F32(2.0, -1.0)),
            (Type::F64, Scale::F64(2.0, -1.0)),
        ] {
            for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                // Leading dimensions and strides are longer than they must be.
                let (lda, ldb, ldc) = (if ta { k } else { m } + 2, if tb { n } else { k } + 1, m + 3);
                let (sa, sb, sc) = (lda * 6, ldb * 7, ldc * n + 1);
                let (a, b, c) = (whole(sa * batch, 1), whole(sb * batch, 2), whole(sc * batch, 3));
                let mut memory = Memory::new(1 << 20);
                let (pa, pb, pc) =
                    (put(&mut memory, of, &a), put(&mut memory, of, &b), put(&mut memory, of, &c));
                let gemm = Gemm {
                    m: m as i64,
                    n: n as i64,
                    k: k as i64,
                    batch: batch as i64,
                    a: matrix(pa, of, lda as i64, sa as i64, ta),
                    b: matrix(pb, of, ldb as i64, sb as i64, tb),
                    c: matrix(pc, of, ldc as i64, sc as i64, false),
                    scale,
                };
                assert!(gemm.is_valid() && !gemm.is_empty());
                gemm.run(&mut memory).expect("inside");
                let mut expected = c.clone();
                for (t, i, j) in
                    (0..batch).flat_map(|t| (0..m).flat_map(move |i| (0..n).map(move |j| (t, i, j))))
                {
                    let sum: f64 = (0..k)
                        .map(|l| {
                            let x = if ta { a[t * sa + i * lda + l] } else { a[t * sa + l * lda + i] };
                            let y = if tb { b[t * sb + l * ldb + j] } else { b[t * sb + j * ldb + l] };
                            x * y
                        })
                        .sum();
                    expected[t * sc + j * ldc + i] = 2.0 * sum - c[t * sc + j * ldc + i];
                }
                // What lies between the columns stays as it was.
                assert_eq!(get(&memory, of, pc, c.len()), expected, "{of:?} {scale:?} {ta} {tb}");
            }
        }
    }

    #[test]
    fn a_factor_of_zero_hides_nan_and_nothing_else_does() {
        let nan = f64::NAN;
        for (alpha, beta, a, c, expected) in [
            (1.0, 0.0, 2.0, nan, 6.0),
            (0.0, 1.0, nan, 5.0, 5.0),
            (1.0, 1.0, 2.0, nan, nan),
            (1.0, 0.0, nan, 5.0, nan),
            (0.0, 0.0, nan, nan, 0.0),
        ] {
            let mut memory = Memory::new(1 << 10);
            let of = Type::F32;
            let (pa, pb, pc) =
                (put(&mut memory, of, &[a]), put(&mut memory, of, &[3.0]), put(&mut memory, of, &[c]));
            let gemm = Gemm {
                m: 1,
                n: 1,
                k: 1,
                batch: 1,
                a: matrix(pa, of, 1, 0, false),
                b: matrix(pb, of, 1, 0, false),
                c: matrix(pc, of, 1, 0, false),
                scale: Scale::F32(alpha, beta),
            };
            gemm.run(&mut memory).expect("inside");
            let found = get(&memory, of, pc, 1)[0];
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{alpha} {beta}: {found}");
        }
    }

    #[test]
    fn sums_of_halves_keep_32_bits_until_the_end() {
        // 2048 + 1 + ... + 1: in 16 bits each step would round back to 2048.
        let mut values = vec![1.0; 65];
        values[0] = 2048.0;
        for (scale, expected) in [(Scale::F32(1.0, 0.0), 2112.0), (Scale::F16(f16::ONE, f16::ZERO), 2048.0)] {
            let mut memory = Memory::new(1 << 10);
            let of = Type::F16;
            let (pa, pb) = (put(&mut memory, of, &values), put(&mut memory, of, &[1.0; 65]));
            let pc = put(&mut memory, of, &[0.0]);
            let gemm = Gemm {
                m: 1,
                n: 1,
                k: 65,
                batch: 1,
                a: matrix(pa, of, 1, 0, false),
                b: matrix(pb, of, 65, 0, false),
                c: matrix(pc, of, 1, 0, false),
                scale,
            };
            gemm.run(&mut memory).expect("inside");
            assert_eq!(get(&memory, of, pc, 1), [expected]);
        }
    }

    #[test]
    fn only_the_numbers_of_a_matrix_are_used() {
        let of = Type::F32;
        for (alpha, beta, wrong) in [(1.0, 0.0, "B"), (1.0, 1.0, "C"), (0.0, 1.0, "C"), (0.0, 0.0, "")] {
            let mut memory = Memory::new(1 << 10);
            // Two rows and two columns, which are three numbers apart: nothing writes what lies between them.
            let mut fresh = || memory.allocate(20).expect("room");
            let [pa, pb, pc] = [fresh(), fresh(), fresh()];
            let fill = |memory: &mut Memory, p| {
                for column in [p, p + 12] {
                    memory.get_mut(column, 8).expect("inside").fill(0);
                }
            };
            let at = |p| matrix(p, of, 3, 0, false);
            let scale = Scale::F32(alpha, beta);
            let gemm = Gemm { m: 2, n: 2, k: 2, batch: 1, a: at(pa), b: at(pb), c: at(pc), scale };
            fill(&mut memory, pa);
            if wrong == "C" {
                fill(&mut memory, pb);
            }
            if !wrong.is_empty() {
                let fault = gemm.run(&mut memory).expect_err(wrong);
                assert_eq!(fault.kind, FaultKind::UninitializedGlobal);
                let p = if wrong == "B" { pb } else { pc };
                assert!(fault.message.starts_with(&format!("8 bytes at {p:#x}, of which")), "{fault}");
                fill(&mut memory, p);
            }
            gemm.run(&mut memory).expect("all is written");
            assert!(memory.read(pc, 8).is_ok() && memory.read(pc + 12, 8).is_ok());
            assert!(memory.read(pc + 8, 4).is_err(), "between the columns");
        }
    }

    #[test]
    fn a_matrix_that_is_too_short_is_a_fault_and_wrong_sizes_are_refused() {
        let mut memory = Memory::new(1 << 10);
        let of = Type::F64;
        let p = put(&mut memory, of, &[0.0; 6]);
        let good = Gemm {
            m: 2,
            n: 3,
            k: 3,
            batch: 1,
            a: matrix(p, of, 2, 0, false),
            b: matrix(p, of, 3, 0, false),
            c: matrix(p, of, 2, 0, false),
            scale: Scale::F64(1.0, 0.0),
        };
        assert!(good.run(&mut memory).expect_err("B has 9 numbers").message.contains("72 bytes"));
        for wrong in [
            Gemm { m: -1, ..good },
            Gemm { k: 4, b: matrix(p, of, 3, 0, false), ..good },
            Gemm { a: matrix(p, of, 1, 0, false), ..good },
            Gemm { a: matrix(p, of, 2, 0, true), ..good },
            Gemm { c: matrix(p, of, 1, 0, false), ..good },
        ] {
            assert!(!wrong.is_valid(), "{wrong:?}");
        }
    }
}
