//! Files that are replaced as a whole or not at all, and opened for reading only if they have an end.
//!
//! What is new is written to a temporary file in the same folder, synced, and renamed. The temporary file is locked
//! while its writer lives, so one that a crash left is known by its name and by the missing lock, and the next
//! [`replace`] in the folder removes it.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, ErrorKind, Result};

/// The name of a temporary file: `.treex-`, random letters, `.tmp`.
const PREFIX: &str = ".treex-";
const SUFFIX: &str = ".tmp";

/// As many links as Linux follows.
const LINKS: usize = 40;

/// Opens a regular file, or a link to one, and returns its length.
///
/// Its type is looked at first, since opening a FIFO waits for a writer, and a device has no end.
pub(super) fn open(file: &Path) -> Result<(File, u64)> {
    let cannot = |error| cannot("read", file).caused_by(error);
    check_regular(file, &fs::metadata(file).map_err(cannot)?)?;
    let opened = File::open(file).map_err(cannot)?;
    let metadata = opened.metadata().map_err(cannot)?;
    check_regular(file, &metadata)?;
    Ok((opened, metadata.len()))
}

/// Replaces `file` by what `write` writes; after an error it is as it was. The mode is that of the file that was there,
/// or follows the umask; a link stays, and the file that it leads to is replaced.
pub(super) fn replace(
    file: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    let cannot = |error| cannot("write", file).caused_by(error);
    let target = behind_links(file).map_err(cannot)?;
    let old = match fs::metadata(&target) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(cannot(error)),
    };
    if let Some(old) = &old {
        check_regular(file, old)?;
    }
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(self::cannot("write", file)
            .found(format!("no folder `{}`", folder.display()))
            .remedy("create it first, for instance with `std::fs::create_dir_all`"));
    }
    remove_leftovers(folder);
    let mut temporary = temporary(folder).map_err(cannot)?;
    let mut writer = BufWriter::with_capacity(1 << 16, temporary.as_file_mut());
    write(&mut writer)?;
    writer.flush().map_err(cannot)?;
    drop(writer);
    if let Some(old) = &old {
        take_over(old, temporary.as_file()).map_err(cannot)?;
    }
    temporary.as_file().sync_all().map_err(cannot)?;
    temporary.persist(&target).map_err(|error| cannot(error.error))?;
    // The rename is durable once the folder is synced. The file stands already, and some folders cannot be opened or
    // synced: that is no error.
    #[cfg(unix)]
    drop(File::open(folder).and_then(|folder| folder.sync_all()));
    Ok(())
}

/// The error of an operation on a file.
pub(super) fn cannot(verb: &str, file: &Path) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {verb} the checkpoint `{}`", file.display()))
}

/// The file that a chain of links leads to, which need not exist.
fn behind_links(file: &Path) -> io::Result<PathBuf> {
    let mut target = file.to_owned();
    for _ in 0..LINKS {
        if !fs::symlink_metadata(&target).is_ok_and(|metadata| metadata.is_symlink()) {
            return Ok(target);
        }
        // A relative link starts at its folder; an absolute one replaces it.
        target = target.parent().unwrap_or(Path::new("")).join(fs::read_link(&target)?);
    }
    Err(io::Error::other("too many symbolic links"))
}

fn check_regular(file: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, format!("`{}` cannot be a checkpoint", file.display()))
        .expected("a regular file, or a link to one")
        .found(type_name(metadata))
        .remedy("give the path of a file"))
}

fn type_name(metadata: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        let file_type = metadata.file_type();
        if file_type.is_fifo() {
            return "a FIFO";
        } else if file_type.is_socket() {
            return "a socket";
        } else if file_type.is_char_device() || file_type.is_block_device() {
            return "a device";
        }
    }
    if metadata.is_dir() { "a directory" } else { "another type of file" }
}

/// A new file in `folder`, locked, with the mode that the umask leaves.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX).rand_bytes(12);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    loop {
        // The error of `tempfile` names the temporary file, which means nothing to the caller.
        let temporary = builder.tempfile_in(folder).map_err(|error| io::Error::from(error.kind()))?;
        // Without the lock, or without its name, it was taken for a leftover in the moment before it was locked. A
        // file system without locks has no leftovers removed, so there the file is safe too.
        let taken = matches!(temporary.as_file().try_lock(), Err(fs::TryLockError::WouldBlock));
        if !taken && temporary.path().exists() {
            return Ok(temporary);
        }
    }
}

/// Removes the temporary files of writers that died. What cannot be removed stays.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if is_ours
            && entry.file_type().is_ok_and(|file_type| file_type.is_file())
            && let Ok(leftover) = File::open(entry.path())
            && leftover.try_lock().is_ok()
        {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Gives `new` the mode of the file that it replaces, and its owner where that is allowed.
fn take_over(old: &Metadata, new: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
        // Another owner can be given by root alone.
        drop(fchown(new, Some(old.uid()), Some(old.gid())));
        new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
    }
    #[cfg(not(unix))]
    let _ = (old, new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Path, bytes: &[u8]) -> Result<()> {
        replace(file, |writer| Ok(writer.write_all(bytes)?))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_error_leaves_the_old_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        write(&file, b"old").unwrap();
        let error = replace(&file, |writer| {
            writer.write_all(&[1; 1 << 20])?;
            Err(Error::argument("stopped"))
        });
        assert_eq!(error.unwrap_err().to_string(), "stopped");
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("runs/model"), b"new").unwrap_err().to_string();
        assert!(
            error.contains("runs/model`") && error.contains("no folder `") && error.contains("create it"),
            "{error}"
        );
    }

    /// A writer that died left its file without a lock; that of a living one is locked.
    #[test]
    fn leftovers_are_removed_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let living = temporary(folder.path()).unwrap();
        let living_name = living.path().file_name().unwrap().to_str().unwrap().to_owned();
        for name in [".treex-dead.tmp", ".treex-mine", "other.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join(".treex-folder.tmp")).unwrap();
        write(&folder.path().join("file"), b"new").unwrap();
        let mut expected = vec![".treex-folder.tmp", ".treex-mine", "file", "other.tmp", &living_name];
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        living.persist(folder.path().join("living")).unwrap();
    }

    #[test]
    fn many_writers_leave_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let file = &file;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write(file, &[writer; 10_000]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&file).unwrap();
        assert!(bytes.len() == 10_000 && bytes.iter().all(|&byte| byte == bytes[0]));
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
        use std::process::Command;

        use super::*;

        fn mode(file: &Path) -> u32 {
            fs::metadata(file).unwrap().mode() & 0o777
        }

        #[test]
        fn the_mode_follows_the_umask_or_the_old_file() {
            let folder = tempfile::tempdir().unwrap();
            let (file, ordinary) = (folder.path().join("file"), folder.path().join("ordinary"));
            fs::write(&ordinary, "").unwrap();
            write(&file, b"new").unwrap();
            assert_eq!(mode(&file), mode(&ordinary), "as any file that a program creates");
            for bits in [0o640, 0o600, 0o444, 0o666, 0o755] {
                fs::set_permissions(&file, fs::Permissions::from_mode(bits)).unwrap();
                write(&file, b"newer").unwrap();
                assert_eq!(mode(&file), bits);
            }
        }

        #[test]
        fn a_link_is_followed() {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            fs::create_dir(path("inner")).unwrap();
            symlink("inner/second", path("first")).unwrap();
            symlink("file", path("inner/second")).unwrap(); // to no file yet
            for text in ["one", "two"] {
                write(&path("first"), text.as_bytes()).unwrap();
                assert_eq!(fs::read_to_string(path("inner/file")).unwrap(), text);
            }
            assert!(fs::symlink_metadata(path("first")).unwrap().is_symlink());
            assert_eq!(names(&path("inner")), ["file", "second"]);
            symlink("circle", path("circle")).unwrap();
            let error = write(&path("circle"), b"").unwrap_err().to_string();
            assert!(error.contains("too many symbolic links"), "{error}");
        }

        #[test]
        fn only_a_regular_file_is_opened_or_replaced() {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
            let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
            symlink("/dev/zero", path("zero")).unwrap();
            for (file, found) in [
                (path("fifo"), "a FIFO"),
                (path("socket"), "a socket"),
                (path("zero"), "a device"),
                ("/dev/null".into(), "a device"),
                (folder.path().to_owned(), "a directory"),
            ] {
                let before = fs::metadata(&file).unwrap().ino();
                for error in [open(&file).unwrap_err(), write(&file, b"new").unwrap_err()] {
                    assert!(error.to_string().contains(&format!("found {found}")), "{error}");
                    assert!(error.remedy_text().is_some());
                }
                assert_eq!(fs::metadata(&file).unwrap().ino(), before);
            }
        }

        /// A folder that may be written but not read cannot be opened to be synced. For root, who may read all, the
        /// test runs itself again without root's privileges.
        #[test]
        fn a_folder_that_cannot_be_synced_is_no_error() {
            const INNER: &str = "TREEX_TEST_WITHOUT_PRIVILEGES";
            let folder = tempfile::tempdir().unwrap();
            let locked = folder.path().join("locked");
            fs::create_dir(&locked).unwrap();
            fs::set_permissions(&locked, fs::Permissions::from_mode(0o300)).unwrap();
            if File::open(&locked).is_ok() {
                assert!(std::env::var_os(INNER).is_none(), "`setpriv` left the privilege to read");
                let status = Command::new("setpriv")
                    .args(["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"])
                    .arg(std::env::current_exe().unwrap())
                    .args(["--exact", "io::file::tests::unix::a_folder_that_cannot_be_synced_is_no_error"])
                    .env(INNER, "1")
                    .status();
                assert!(status.expect("root needs `setpriv` for this test").success());
                return;
            }
            write(&locked.join("file"), b"new").unwrap();
            assert_eq!(fs::read(locked.join("file")).unwrap(), b"new");
            fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}
