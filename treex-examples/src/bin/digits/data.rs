//! Images and labels: the digits in the repository, or any data set in IDX files.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use flate2::read::GzDecoder;
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

impl Images {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
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
        let (_, labels) = idx_file(folder, labels)?;
        ensure!(shape.len() == 3 && shape[1] == shape[2], "`{images}` holds {shape:?}, not square images");
        ensure!(shape[0] == labels.len(), "`{images}` has {} images for {} labels", shape[0], labels.len());
        let scaled = |image: &[u8]| image.iter().map(|&pixel| f32::from(pixel) / 255.).collect::<Vec<_>>();
        let pixels = pixels.chunks_exact(shape[1] * shape[2]).map(scaled).collect();
        Ok(Images { pixels, labels: labels.into_iter().map(u32::from).collect(), side: shape[1] })
    };
    let (train, validation) =
        set("train-images-idx3-ubyte", "train-labels-idx1-ubyte")?.split(|number| number % 10 == 0);
    let test = set("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")?;
    Ok(Split { train, validation, test })
}

/// Shape and bytes of one file.
fn idx_file(folder: &Path, name: &str) -> Result<(Vec<usize>, Vec<u8>)> {
    let plain = folder.join(name);
    let bytes = if plain.exists() {
        fs::read(&plain)?
    } else {
        let packed = folder.join(format!("{name}.gz"));
        let file = fs::File::open(&packed)
            .with_context(|| format!("neither `{}` nor `.gz` of it", plain.display()))?;
        let mut bytes = Vec::new();
        GzDecoder::new(file).read_to_end(&mut bytes)?;
        bytes
    };
    ensure!(bytes.len() >= 4 && bytes[..3] == [0, 0, 8], "`{name}` is not an IDX file of bytes");
    let data_at = 4 + 4 * usize::from(bytes[3]);
    ensure!(bytes.len() >= data_at, "`{name}` ends in its header");
    let shape: Vec<usize> = bytes[4..data_at]
        .chunks_exact(4)
        .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
        .collect();
    ensure!(
        bytes.len() - data_at == shape.iter().product::<usize>(),
        "the length of `{name}` differs from its header"
    );
    Ok((shape, bytes[data_at..].to_vec()))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn idx_files_are_read_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let image_file = |n: u8| {
            [vec![0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 2, 0, 0, 0, 2], vec![255; 4 * n as usize]].concat()
        };
        let label_file = |n: u8| [vec![0, 0, 8, 1, 0, 0, 0, n], vec![7; n as usize]].concat();
        for (name, bytes) in [
            ("train-images-idx3-ubyte", image_file(20)),
            ("train-labels-idx1-ubyte", label_file(20)),
            ("t10k-images-idx3-ubyte", image_file(3)),
            ("t10k-labels-idx1-ubyte", label_file(3)),
        ] {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let split = idx(folder.path()).unwrap();
        assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (18, 2, 3));
        assert_eq!(split.test.pixels[0], [1.; 4]);
        fs::write(folder.path().join("t10k-labels-idx1-ubyte"), label_file(4)).unwrap();
        assert!(idx(folder.path()).unwrap_err().to_string().contains("3 images for 4 labels"));
        fs::write(folder.path().join("t10k-labels-idx1-ubyte"), [0, 0, 8, 1, 0]).unwrap();
        assert!(idx(folder.path()).unwrap_err().to_string().contains("header"));
    }
}
