use std::fmt::Debug;

use super::*;
use crate::isa::Isa;

/// `a · b` by plain loops, of small integers: exact in every order.
fn slowly<T: Vectors>(a: &[T], b: &[T], [m, k, n]: [usize; 3]) -> Vec<T> {
    let zero = T::of(0.);
    let at = |i: usize, j: usize| (0..k).fold(zero, |sum, p| sum + a[i * k + p] * b[p * n + j]);
    (0..m * n).map(|index| at(index / n, index % n)).collect()
}

fn numbers<T: Vectors>(len: usize) -> Vec<T> {
    (0..len).map(|i| T::of(((i * 37 + 11) % 23) as f64 - 11.)).collect()
}

/// A matrix of these elements, row-major, in three memory layouts.
struct Layouts<T>([(Vec<T>, [usize; 2]); 3], [usize; 2]);

impl<T: Vectors> Layouts<T> {
    fn new(elements: &[T], [rows, columns]: [usize; 2]) -> Self {
        let strides = [[columns, 1], [1, rows], [3, 3 * rows + 1]];
        let layout = |[row, column]: [usize; 2]| {
            let mut memory = vec![T::of(f64::NAN); rows * row + columns * column];
            for (index, &element) in elements.iter().enumerate() {
                memory[index / columns * row + index % columns * column] = element;
            }
            (memory, [row, column])
        };
        Self(strides.map(layout), [rows, columns])
    }

    fn all(&self) -> Result<Vec<Matrix<'_, T>>> {
        self.0.iter().map(|(memory, strides)| Matrix::strided(memory, self.1, *strides)).collect()
    }
}

fn pairs<'a, T: Vectors>(
    a: &'a Layouts<T>,
    b: &'a Layouts<T>,
) -> Result<Vec<(Matrix<'a, T>, Matrix<'a, T>)>> {
    let (a, b) = (a.all()?, b.all()?);
    Ok(a.iter().flat_map(|a| b.iter().map(|b| (*a, *b))).collect())
}

/// Every layout and initial value, on every instruction set; elements between the rows of `c` are unchanged.
fn check<T: Vectors + Debug>([m, k, n]: [usize; 3]) -> Result<()> {
    let (a, b, bias) = (numbers::<T>(m * k), numbers(k * n), numbers::<T>(n));
    let wanted = slowly(&a, &b, [m, k, n]);
    let (a, b) = (Layouts::new(&a, [m, k]), Layouts::new(&b, [k, n]));
    let row = n + 3;
    let before = numbers::<T>(m * row);
    for level in Isa::available() {
        for (a, b) in pairs(&a, &b)? {
            for init in
                [Init::Zero, Init::Bias(&bias), Init::Accumulate(T::of(1.)), Init::Accumulate(T::of(-3.))]
            {
                for is_skinny in [false, true] {
                    let mut c = before.clone();
                    // SAFETY: the matrices were checked when they were made, and `c` has `m` rows.
                    T::dispatch_on(level, unsafe { Block::new(c.as_mut_ptr(), row, a, b, init, is_skinny) });
                    for (index, &found) in c.iter().enumerate() {
                        let (i, j) = (index / row, index % row);
                        let wanted = match init {
                            _ if j >= n => before[index],
                            Init::Zero => wanted[i * n + j],
                            Init::Bias(bias) => bias[j] + wanted[i * n + j],
                            Init::Accumulate(scale) => before[index] + scale * wanted[i * n + j],
                        };
                        assert!(
                            found == wanted,
                            "{level:?} {:?} {init:?} {is_skinny} at {i}, {j}",
                            [m, k, n]
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn products_of_all_sizes_and_strides() -> Result<()> {
    // Each number of rows and of columns that ends somewhere else in a tile.
    for m in [1, 2, 3, 5, 7, 8, 13] {
        for n in [1, 3, 5, 8, 15, 16, 17, 33, 48, 63, 64, 65] {
            for k in [1, 17] {
                check::<f32>([m, k, n])?;
                check::<f64>([m, k, n])?;
            }
        }
    }
    // And somewhere else in a block.
    for sizes in
        [[97, 65, 70], [200, 40, 131], [5, 300, 33], [20, 530, 17], [9, 20, 600], [3, 257, 1], [1, 64, 40]]
    {
        check::<f32>(sizes)?;
        check::<f64>(sizes)?;
    }
    for sizes in [[0, 3, 2], [2, 0, 3], [2, 3, 0], [0, 0, 0]] {
        check::<f32>(sizes)?;
    }
    Ok(())
}

/// On all cores, in whole numbers and in others.
#[test]
fn the_result_does_not_depend_on_the_threads() -> Result<()> {
    for [m, k, n] in [
        [70, 65, 90],
        [130, 300, 20],
        [9, 100, 600],
        [4, 300, 517],
        [300, 70, 256],
        [2000, 200, 1],
        [1, 200, 2000],
    ] {
        let fractions = |len| numbers::<f32>(len).into_iter().map(|x| x / 7.).collect::<Vec<_>>();
        let (a, b, bias) = (fractions(m * k), fractions(k * n), fractions(n));
        let (a, b) = (Layouts::new(&a, [m, k]), Layouts::new(&b, [k, n]));
        for (a, b) in pairs(&a, &b)? {
            let one = product(a, b, Some(&bias), false)?;
            for threads in [2, 3, 6] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(
                    pool.install(|| product(a, b, Some(&bias), true))?,
                    one,
                    "{threads} {:?}",
                    [m, k, n]
                );
            }
            let mut c = vec![2f32; m * n];
            multiply_add(&mut c, n, a, b, 1., true)?;
            let difference = |(c, x): (&f32, &f32), bias: &f32| (c - 2. - (x - bias)).abs();
            let far = c.iter().zip(&one).zip(bias.iter().cycle()).map(|(pair, bias)| difference(pair, bias));
            assert!(far.fold(0., f32::max) < 1e-3);
        }
    }
    Ok(())
}

/// A row alone, in a batch and on several threads, in whole numbers and in others.
#[test]
fn rows_have_the_same_bits_in_every_product() -> Result<()> {
    for [m, k, n] in [[9, 300, 5], [17, 64, 1], [40, 700, 130], [1, 3, 2], [3, 0, 4], [20, 1000, 70]] {
        let fractions = |len| numbers::<f32>(len).into_iter().map(|x| x / 7.).collect::<Vec<_>>();
        let (count, transpose) = (6, |x: &[f32], rows: usize, columns: usize| -> Vec<f32> {
            x.chunks((rows * columns).max(1))
                .flat_map(|x| (0..rows * columns).map(|at| x[at % rows * columns + at / rows]))
                .collect()
        });
        let (a, b) = (fractions(count * m * k), fractions(count * k * n));
        let all = f32::matmul_each(&a, &b, count, [m, k, n], [false; 2])?;
        let (a_t, b_t) = (transpose(&a, m, k), transpose(&b, k, n));
        assert_eq!(f32::matmul_each(&a_t, &b_t, count, [m, k, n], [true; 2])?, all);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| f32::matmul_each(&a, &b, count, [m, k, n], [false; 2]))?, all);
        for at in 0..count * m {
            let (row, b) = (&a[at * k..][..k], &b[at / m * k * n..][..k * n]);
            assert_eq!(f32::matmul_each(row, b, 1, [1, k, n], [false; 2])?, all[at * n..][..n]);
            let wanted = slowly(row, b, [1, k, n]);
            let far = wanted.iter().zip(&all[at * n..]).map(|(x, y)| (x - y).abs());
            assert!(far.fold(0., f32::max) < 1e-2);
        }
    }
    assert_eq!(f64::matmul_each(&[], &[], 2, [0, 3, 0], [false; 2])?, []);
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error() {
    assert!(Matrix::new(&[0f32; 5], 2, 3).is_err());
    assert!(Matrix::strided(&[0f32; 5], [2, 3], [usize::MAX, 1]).is_err());
    let (a, b) = (Matrix::new(&[0f32; 6], 2, 3).unwrap(), Matrix::new(&[0f32; 6], 2, 3).unwrap());
    let error = multiply_add(&mut [0.; 4], 2, a, b, 1., false).unwrap_err().to_string();
    assert!(error.contains("expected [2, 3] by [3, ..], found [2, 3] by [2, 3]"), "{error}");
    assert!(multiply_add(&mut [0.; 3], 2, a, b.t(), 1., false).is_err());
    let error = multiply_add(&mut [0.; 4], 1, a, b.t(), 1., false).unwrap_err().to_string();
    assert!(error.contains("the rows of a product overlap"), "{error}");
    let error = product(a, b.t(), Some(&[0.; 3]), false).unwrap_err().to_string();
    assert!(error.contains("expected 2 elements, found 3"), "{error}");
}
