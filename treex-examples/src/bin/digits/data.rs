//! Images and labels: the digits in the repository, or any data set in IDX files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use flate2::read::GzDecoder;
use sha1::{Digest as _, Sha1};
use treex_core::Key;

const DIGITS: &[u8] = include_bytes!("../../../data/digits.csv.gz");

/// Square greyscale images, one byte per pixel scaled to [0, 1], and their labels.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    pub(crate) pixels: Vec<Vec<f32>>,
    pub(crate) labels: Vec<u32>,
    pub(crate) side: usize,
}

/// Training, validation and test sets.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) train: Images,
    pub(crate) validation: Images,
    pub(crate) test: Images,
}

impl Split {
    /// What training and evaluation rely on: no set is empty, all images have one size, and every label occurs in
    /// training.
    pub(crate) fn check(&self) -> Result<()> {
        let (side, classes) = (self.train.side, self.train.classes());
        ensure!(side > 0, "the training images have no pixels");
        for (name, set) in [("training", &self.train), ("validation", &self.validation), ("test", &self.test)]
        {
            ensure!(set.len() > 0, "the {name} set is empty");
            ensure!(
                set.side == side,
                "the {name} images have the side {}, those of training {side}",
                set.side
            );
            let unknown = set.labels.iter().find(|&&label| label as usize >= classes);
            ensure!(
                unknown.is_none(),
                "the {name} set has the label {}, but training only those below {classes}",
                unknown.unwrap_or(&0)
            );
        }
        Ok(())
    }

    /// A digest of all images and labels, in order.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha1::new();
        for set in [&self.train, &self.validation, &self.test] {
            hash.update((set.side as u64).to_le_bytes());
            hash.update((set.len() as u64).to_le_bytes());
            for (pixels, label) in set.pixels.iter().zip(&set.labels) {
                let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
                hash.update(bytes);
                hash.update(label.to_le_bytes());
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Images {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// One more than the largest label.
    pub(crate) fn classes(&self) -> usize {
        self.labels.iter().max().map_or(0, |&top| top as usize + 1)
    }

    /// The images at `indices` as `[n, side, side, 1]`, and the labels as `[n]`.
    pub(crate) fn batch(&self, indices: &[usize], device: &Device) -> Result<(Tensor, Tensor)> {
        let pixels: Vec<f32> = indices.iter().flat_map(|&index| &self.pixels[index]).copied().collect();
        self.to_tensors(pixels, indices, device)
    }

    /// [`batch`](Self::batch) with each image randomly shifted by up to one pixel and padded with background.
    pub(crate) fn augmented(&self, indices: &[usize], key: Key, device: &Device) -> Result<(Tensor, Tensor)> {
        let draws = key.bits((indices.len(), 2))?.to_vec2::<u32>()?;
        let pixels: Vec<f32> = indices
            .iter()
            .zip(&draws)
            .flat_map(|(&index, draw)| shifted(&self.pixels[index], self.side, [draw[0] % 3, draw[1] % 3]))
            .collect();
        self.to_tensors(pixels, indices, device)
    }

    fn to_tensors(&self, pixels: Vec<f32>, indices: &[usize], device: &Device) -> Result<(Tensor, Tensor)> {
        let labels: Vec<u32> = indices.iter().map(|&index| self.labels[index]).collect();
        let images = Tensor::from_vec(pixels, (indices.len(), self.side, self.side, 1), device)?;
        Ok((images, Tensor::from_vec(labels, indices.len(), device)?))
    }

    /// Splits off the images whose number `second` selects. Images are numbered class by class, so that the split is
    /// stratified.
    fn split(self, second: impl Fn(usize) -> bool) -> (Self, Self) {
        let mut parts = [(); 2].map(|()| Self { pixels: Vec::new(), labels: Vec::new(), side: self.side });
        let mut images: Vec<_> = self.pixels.into_iter().zip(self.labels).collect();
        images.sort_by_key(|(_, label)| *label);
        for (number, (pixels, label)) in images.into_iter().enumerate() {
            let part = &mut parts[usize::from(second(number))];
            part.pixels.push(pixels);
            part.labels.push(label);
        }
        let [first, second] = parts;
        (first, second)
    }
}

/// `image` moved by `by - 1` rows and columns.
fn shifted(image: &[f32], side: usize, by: [u32; 2]) -> impl Iterator<Item = f32> {
    let from = move |at: usize, by: u32| (at + 1).checked_sub(by as usize).filter(|&from| from < side);
    (0..side * side).map(move |at| match (from(at / side, by[0]), from(at % side, by[1])) {
        (Some(row), Some(column)) => image[row * side + column],
        _ => 0.,
    })
}

/// The 1,797 digits of 8 by 8 pixels: every fifth image of each class is for testing (360); of the others (1,437),
/// every tenth is for validation and the rest for training.
pub(crate) fn digits() -> Result<Split> {
    let mut text = String::new();
    GzDecoder::new(DIGITS).read_to_string(&mut text)?;
    let mut all = Images { pixels: Vec::new(), labels: Vec::new(), side: 8 };
    for line in text.lines() {
        let numbers = line.split(',').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>()?;
        let (label, pixels) = numbers.split_last().context("an empty line in the digits")?;
        all.pixels.push(pixels.iter().map(|&pixel| pixel as f32 / 16.).collect());
        all.labels.push(*label);
    }
    let (rest, test) = all.split(|number| number % 5 == 0);
    let (train, validation) = rest.split(|number| number % 10 == 0);
    Ok(Split { train, validation, test })
}

/// A data set in four IDX files, optionally `.gz`, named as in MNIST and Fashion-MNIST. Of the training images, every
/// tenth of each class is for validation.
pub(crate) fn idx(folder: &Path) -> Result<Split> {
    let set = |images: &str, labels: &str| -> Result<Images> {
        let (shape, pixels) = idx_file(folder, images)?;
        let (label_shape, labels_of) = idx_file(folder, labels)?;
        let (images, labels) = (folder.join(images), folder.join(labels));
        ensure!(
            shape.len() == 3 && shape[1] == shape[2] && shape[1] > 0,
            "`{}` holds {shape:?}, not square images",
            images.display()
        );
        ensure!(label_shape.len() == 1, "`{}` holds {label_shape:?}, not labels", labels.display());
        ensure!(
            shape[0] == label_shape[0],
            "`{}` has {} images for {} labels",
            images.display(),
            shape[0],
            label_shape[0]
        );
        let scaled = |image: &[u8]| image.iter().map(|&pixel| f32::from(pixel) / 255.).collect::<Vec<_>>();
        let pixels = pixels.chunks_exact(shape[1] * shape[2]).map(scaled).collect();
        Ok(Images { pixels, labels: labels_of.into_iter().map(u32::from).collect(), side: shape[1] })
    };
    let (train, validation) =
        set("train-images-idx3-ubyte", "train-labels-idx1-ubyte")?.split(|number| number % 10 == 0);
    let test = set("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")?;
    Ok(Split { train, validation, test })
}

/// Shape and bytes of one file, as it is or packed. No more is read than its header tells.
fn idx_file(folder: &Path, name: &str) -> Result<(Vec<usize>, Vec<u8>)> {
    let (plain, packed) = (folder.join(name), folder.join(format!("{name}.gz")));
    if plain.exists() {
        return read_idx(open(&plain)?).with_context(|| format!("cannot read `{}`", plain.display()));
    }
    ensure!(packed.exists(), "neither `{}` nor `.gz` of it", plain.display());
    read_idx(GzDecoder::new(open(&packed)?)).with_context(|| format!("cannot read `{}`", packed.display()))
}

/// A regular file: a FIFO would wait for its writer.
fn open(path: &Path) -> Result<File> {
    ensure!(path.is_file(), "`{}` is not a regular file", path.display());
    File::open(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn read_idx(mut file: impl Read) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut magic = [0; 4];
    file.read_exact(&mut magic).context("it ends in its header")?;
    ensure!(magic[..3] == [0, 0, 8], "it is not an IDX file of bytes");
    let mut shape = Vec::new();
    for _ in 0..magic[3] {
        let mut size = [0; 4];
        file.read_exact(&mut size).context("it ends in its header")?;
        shape.push(u32::from_be_bytes(size) as usize);
    }
    let len = shape.iter().try_fold(1u64, |len, &size| len.checked_mul(size as u64));
    let len = len.filter(|&len| len < u64::MAX).context("the sizes in its header are too large")?;
    let mut bytes = Vec::new();
    file.take(len + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == len, "its length differs from its header");
    Ok((shape, bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_split_is_stratified_and_fixed() {
        let split = digits().unwrap();
        assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (1293, 144, 360));
        for class in 0..10 {
            let share = split.test.labels.iter().filter(|&&label| label == class).count();
            assert!((34..=37).contains(&share), "class {class} has {share} test images");
        }
    }

    #[test]
    fn shifts_move_one_pixel_and_fill_with_background() {
        let image = [1., 2., 3., 4.];
        assert_eq!(shifted(&image, 2, [1, 1]).collect::<Vec<_>>(), image);
        assert_eq!(shifted(&image, 2, [2, 1]).collect::<Vec<_>>(), [0., 0., 1., 2.]);
        assert_eq!(shifted(&image, 2, [1, 0]).collect::<Vec<_>>(), [2., 0., 4., 0.]);
    }

    fn image_file(n: u8, side: u8) -> Vec<u8> {
        let pixels = vec![255; usize::from(n) * usize::from(side) * usize::from(side)];
        [vec![0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, side, 0, 0, 0, side], pixels].concat()
    }

    fn label_file(n: u8, label: u8) -> Vec<u8> {
        [vec![0, 0, 8, 1, 0, 0, 0, n], vec![label; n.into()]].concat()
    }

    const FILES: [&str; 4] = [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ];

    /// Reads and checks four good files of which some are replaced.
    fn read_with(changes: &[(usize, Vec<u8>)]) -> Result<Split> {
        let folder = tempfile::tempdir().unwrap();
        let mut files = [image_file(20, 2), label_file(20, 7), image_file(3, 2), label_file(3, 7)];
        for (index, bytes) in changes {
            files[*index].clone_from(bytes);
        }
        for (name, bytes) in FILES.iter().zip(files) {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let split = idx(folder.path())?;
        split.check()?;
        Ok(split)
    }

    #[test]
    fn idx_files_are_read() {
        let split = read_with(&[]).unwrap();
        assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (18, 2, 3));
        assert_eq!(split.test.pixels[0], [1.; 4]);
        let other = read_with(&[(3, label_file(3, 6))]).unwrap();
        assert_ne!(split.digest(), other.digest());
        assert_eq!(split.digest(), read_with(&[]).unwrap().digest());
    }

    #[test]
    fn bad_idx_files_are_errors_at_the_start() {
        let cut = |mut bytes: Vec<u8>, len: usize| {
            bytes.truncate(len);
            bytes
        };
        let huge = [vec![0, 0, 8, 3], [0, 0, 255, 255].repeat(3)].concat();
        let huger = [vec![0, 0, 8, 9], vec![255; 36]].concat();
        let rectangles = [vec![0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 1], vec![0; 40]].concat();
        for (changes, parts) in [
            (vec![(3, label_file(4, 7))], ["t10k-images-idx3-ubyte`", "3 images for 4 labels"]),
            (vec![(3, label_file(3, 8))], ["the test set has the label 8", "below 8"]),
            (vec![(2, image_file(0, 2)), (3, label_file(0, 0))], ["the test set is empty", ""]),
            (vec![(0, image_file(0, 2)), (1, label_file(0, 0))], ["the training set is empty", ""]),
            (vec![(2, image_file(3, 3))], ["the test images have the side 3", "training 2"]),
            (vec![(2, image_file(3, 0))], ["t10k-images-idx3-ubyte`", "not square images"]),
            (vec![(0, rectangles)], ["train-images-idx3-ubyte`", "not square images"]),
            (vec![(1, image_file(20, 1))], ["train-labels-idx1-ubyte`", "not labels"]),
            (vec![(3, cut(label_file(3, 7), 5))], ["t10k-labels-idx1-ubyte`", "ends in its header"]),
            (vec![(3, cut(label_file(3, 7), 9))], ["t10k-labels-idx1-ubyte`", "differs from its header"]),
            (
                vec![(3, [label_file(3, 7), vec![7]].concat())],
                ["t10k-labels-idx1-ubyte`", "differs from its header"],
            ),
            (vec![(0, huge)], ["train-images-idx3-ubyte`", "differs from its header"]),
            (vec![(0, huger)], ["train-images-idx3-ubyte`", "too large"]),
            (vec![(0, b"P5 2 2 255".to_vec())], ["train-images-idx3-ubyte`", "not an IDX file"]),
        ] {
            let error = format!("{:#}", read_with(&changes).unwrap_err());
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
        }
    }

    /// The error of a packed file names it, whether it is damaged or no file.
    #[test]
    fn errors_name_the_packed_file() {
        let folder = tempfile::tempdir().unwrap();
        let packed = folder.path().join("train-images-idx3-ubyte.gz");
        fs::write(&packed, b"not packed").unwrap();
        let error = format!("{:#}", idx(folder.path()).unwrap_err());
        assert!(error.contains("train-images-idx3-ubyte.gz`"), "{error}");
        fs::remove_file(&packed).unwrap();
        fs::create_dir(&packed).unwrap();
        let error = format!("{:#}", idx(folder.path()).unwrap_err());
        assert!(error.contains("is not a regular file"), "{error}");
    }
}
