//! Compiled kernels in a folder, for a program that asks for it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};

static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Keeps the kernels that this process compiles from now on in `folder`, and takes from there those that an earlier one has
/// compiled: compiling one takes a tenth of a second or more. Without this call nothing is written or read.
///
/// A file is named after a kernel and a hash of all that it is compiled from, which it also has in it; one that does not match is
/// compiled again. A driver runs what is in these files: the folder is made for its owner alone (`0700`), and is refused if others
/// can enter it.
///
/// # Errors
/// If the folder cannot be made, or others can enter it ([`ErrorKind::Io`]).
pub fn keep_kernels_in(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    let failed = |error| {
        Error::new(ErrorKind::Io, format!("kernels cannot be kept in `{}`", folder.display()))
            .expected("a folder that the program can write")
            .caused_by(error)
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let metadata = fs::metadata(folder).map_err(failed)?;
        let mode = metadata.permissions().mode() & 0o777;
        // What this process makes belongs to its user.
        let own = tempfile::NamedTempFile::new_in(folder)
            .and_then(|file| file.as_file().metadata())
            .map_err(failed)?;
        if mode & 0o077 != 0 || metadata.uid() != own.uid() {
            return Err(Error::new(
                ErrorKind::Io,
                format!("kernels cannot be kept in `{}`", folder.display()),
            )
            .expected("a folder of this user that its owner alone can enter: `chmod 700`")
            .found(format!("{mode:o} of user {}", metadata.uid())));
        }
    }
    *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_path_buf());
    Ok(())
}

/// Where the kernel `name`, compiled from `source`, is kept, if the program asked for it.
pub(super) fn file_of(name: &str, source: &str) -> Option<PathBuf> {
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    Some(folder.join(format!("{name}-{:016x}.ptx", hasher.finish())))
}

/// The end of the source, which is a comment before the compiled text.
const END: &str = "\n//= compiled\n";

/// The compiled text in a file, if it is that of `source` and whole.
pub(super) fn read(file: &Path, source: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (before, compiled) = text.split_once(END)?;
    let (compiled, end) = compiled.rsplit_once(END)?;
    (before == commented(source) && end.is_empty()).then(|| compiled.to_owned())
}

/// Writes a file as a whole or not at all. It is a copy, so that one that cannot be written is no error.
pub(super) fn write(file: &Path, source: &str, compiled: &str) {
    let written = || -> Option<()> {
        let mut new = tempfile::NamedTempFile::new_in(file.parent()?).ok()?;
        write!(new, "{}{END}{compiled}{END}", commented(source)).ok()?;
        new.persist(file).ok().map(drop)
    };
    let _ = written(); // a copy
}

/// The source as comments of the compiled language.
fn commented(source: &str) -> String {
    source.lines().map(|line| format!("//: {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_if_it_is_whole_and_of_the_same_source() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("k.ptx");
        assert_eq!(read(&file, "source\n"), None);
        write(&file, "source\nline", "compiled\n");
        assert_eq!(read(&file, "source\nline").as_deref(), Some("compiled\n"));
        assert_eq!(read(&file, "source\nlines"), None);
        let whole = fs::read_to_string(&file).expect("it was written");
        for end in 0..whole.len() {
            fs::write(&file, &whole[..end]).expect("it is there");
            assert_eq!(read(&file, "source\nline"), None, "{end}");
        }
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let error = keep_kernels_in(folder.path()).expect_err("others can enter it").to_string();
        assert!(error.contains("chmod 700") && error.contains("755"), "{error}");
        assert!(FOLDER.lock().expect("no test panics with it").is_none());
    }
}
