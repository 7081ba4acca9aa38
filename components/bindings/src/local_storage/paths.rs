//! Where names lead: never out of the root.
//!
//! *Source:* components-contrib `bindings/localstorage` for the places that cannot be a root, and what it takes from
//! `filepath-securejoin`: a link is followed as if the root were the root of the system. *Invariant:* what [`below`] gives is below
//! the root as long as nobody else changes links at the same moment.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Folders of the system that cannot be a root, nor can what is in them.
const REFUSED: [&str; 4] = ["/proc", "/sys", "/boot", "/var/run/secrets"];
/// Links on the way to one file. *Source:* the original.
const LINKS_MAX: usize = 255;

/// The root, absolute and without links; it need not be there.
///
/// # Errors
/// Says why it cannot be one.
pub(super) fn root(wanted: &Path) -> Result<PathBuf, String> {
    if wanted.as_os_str().is_empty() {
        return Err("property rootPath must not be empty".to_owned());
    }
    let absolute =
        std::path::absolute(wanted).map_err(|error| format!("failed to obtain current working directory: {error}"))?;
    let root = without_links(&clean(&absolute))?;
    // A place of the system may be reached by a link itself, as /var/run mostly is.
    let refused = |place: &str| {
        root.starts_with(place) || without_links(Path::new(place)).is_ok_and(|place| root.starts_with(place))
    };
    if REFUSED.into_iter().any(refused) {
        return Err("property rootPath points to a disallowed location".to_owned());
    }
    Ok(root)
}

/// The same folder with the links in the part of its path that is there followed.
fn without_links(path: &Path) -> Result<PathBuf, String> {
    let mut there = path;
    loop {
        match fs::metadata(there) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err("property rootPath represents a file and not a directory".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match there.parent() {
                Some(parent) => there = parent,
                None => break,
            },
            Err(error) => return Err(format!("error getting stat for path {}: {error}", there.display())),
        }
    }
    let resolved =
        fs::canonicalize(there).map_err(|error| format!("failed to evaluate symlinks in rootPath: {error}"))?;
    let missing = path.strip_prefix(there).unwrap_or(Path::new("")); // a part of it, as just walked
    Ok(if missing.as_os_str().is_empty() { resolved } else { resolved.join(missing) })
}

/// `.` and `..` taken out by their text alone.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(cleaned.pop()),
            Component::CurDir => {}
            other => cleaned.push(other),
        }
    }
    cleaned
}

/// The path a name leads to, below `root`, which has no links in it.
///
/// # Errors
/// Too many links, or a folder that cannot be looked into.
pub(super) fn below(root: &Path, name: &str) -> io::Result<PathBuf> {
    if name.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file name cannot have a zero byte"));
    }
    let mut left: VecDeque<OsString> = parts(Path::new(name)).collect();
    let mut inside = PathBuf::new(); // relative to the root
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            inside.pop(); // above the root is the root
            continue;
        }
        let path = root.join(&inside).join(&part);
        let is_link = match fs::symlink_metadata(&path) {
            Ok(found) => found.is_symlink(),
            // What is not there yet cannot be a link.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => false,
            Err(error) => return Err(error),
        };
        if !is_link {
            inside.push(&part);
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(io::Error::other("too many levels of symbolic links"));
        }
        let target = fs::read_link(&path)?;
        if target.is_absolute() {
            inside = PathBuf::new();
        }
        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(part);
        }
    }
    Ok(if inside.as_os_str().is_empty() { root.to_owned() } else { root.join(inside) })
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}
