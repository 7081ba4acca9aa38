//! Tells when manifests on disk have changed.
//!
//! *Job:* watch directories for files that are written, renamed and deleted, and for links that are turned to somewhere else, as
//! Kubernetes does with config maps. *Neighbours:* [`super`] reads everything again after [`Watch::changed`]. *Invariant:* nothing is
//! polled; a burst of changes is one change, and a file that is being written is waited for.

use std::path::PathBuf;
use std::time::Duration;

/// What is watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    /// Directories of manifests; one that does not exist is waited for.
    pub(crate) directories: Vec<PathBuf>,
    /// Single files.
    pub(crate) files: Vec<PathBuf>,
}

/// Quiet after the last event that makes a burst complete.
#[cfg(target_os = "linux")]
const QUIET: Duration = Duration::from_millis(50);
/// A burst that does not end is acted upon after this time.
#[cfg(target_os = "linux")]
const BURST_LIMIT: Duration = Duration::from_secs(1);
/// Whoever writes a file and does not close it is waited for until then.
#[cfg(target_os = "linux")]
const WRITING_LIMIT: Duration = Duration::from_secs(5);

#[cfg(target_os = "linux")]
pub(crate) use linux::Watch;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::Watch;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{BTreeSet, HashMap, HashSet};
    use std::ffi::{OsStr, OsString};
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::{Path, PathBuf};

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
    use rustix::io::Errno;
    use tokio::io::unix::AsyncFd;
    use tokio::time::{Instant, timeout_at};

    use super::{BURST_LIMIT, QUIET, Targets, WRITING_LIMIT};

    const EVENT_BYTES: usize = 8192;
    /// Links followed on one way, as the system does.
    const LINKS_MAX: usize = 40;
    const MASK: WatchFlags = WatchFlags::CREATE
        .union(WatchFlags::MODIFY)
        .union(WatchFlags::CLOSE_WRITE)
        .union(WatchFlags::ATTRIB)
        .union(WatchFlags::MOVE)
        .union(WatchFlags::DELETE)
        .union(WatchFlags::DELETE_SELF)
        .union(WatchFlags::MOVE_SELF)
        .union(WatchFlags::ONLYDIR);

    /// See the module text.
    pub(crate) struct Watch {
        targets: Targets,
        inotify: AsyncFd<OwnedFd>,
        places: HashMap<i32, Names>,
    }

    /// Which names of a directory count.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct Names {
        manifests: bool,
        only: BTreeSet<OsString>,
    }

    impl Names {
        fn count(&self, name: &OsStr) -> bool {
            // Kubernetes turns a link `..data` when a config map changes.
            name.as_bytes().starts_with(b"..") || self.only.contains(name) || (self.manifests && is_manifest(name))
        }
    }

    impl Watch {
        /// Begins to watch. Must be called in a Tokio runtime with I/O.
        ///
        /// # Errors
        /// The system gives no more watches.
        pub(crate) fn new(targets: Targets) -> io::Result<Self> {
            let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            #[expect(deprecated, reason = "what it cannot promise for any type holds for an owned descriptor")]
            let inotify = AsyncFd::new(descriptor)?;
            let mut watch = Self { targets, inotify, places: HashMap::new() };
            watch.refresh()?;
            Ok(watch)
        }

        /// Looks again where the links lead and which directories exist.
        ///
        /// # Errors
        /// The system gives no more watches.
        pub(crate) fn refresh(&mut self) -> io::Result<()> {
            let mut places: HashMap<i32, Names> = HashMap::new();
            for (directory, names) in wanted(&self.targets) {
                let descriptor = match inotify::add_watch(self.inotify.get_ref(), &directory, MASK) {
                    Ok(descriptor) => descriptor,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue, // gone meanwhile, or not ours to see
                    Err(error) => return Err(error.into()),
                };
                let place = places.entry(descriptor).or_default();
                place.manifests |= names.manifests;
                place.only.extend(names.only);
            }
            for unused in self.places.keys().filter(|descriptor| !places.contains_key(descriptor)) {
                let _ = inotify::remove_watch(self.inotify.get_ref(), *unused); // gone with its directory
            }
            self.places = places;
            Ok(())
        }

        /// Waits until something has changed and stays as it is for a moment. *Cancel safe.*
        ///
        /// # Errors
        /// The events cannot be read.
        pub(crate) async fn changed(&mut self) -> io::Result<()> {
            let mut written = HashSet::new();
            while !self.next(&mut written).await? {}
            let begin = Instant::now();
            let mut quiet = begin + QUIET;
            loop {
                let until = if written.is_empty() { quiet.min(begin + BURST_LIMIT) } else { begin + WRITING_LIMIT };
                match timeout_at(until, self.next(&mut written)).await {
                    Ok(counts) => {
                        if counts? || written.is_empty() {
                            quiet = Instant::now() + QUIET;
                        }
                    }
                    Err(_elapsed) => return Ok(()),
                }
            }
        }

        /// Reads the events that are there; whether any counts. `written`: files that are being written.
        async fn next(&self, written: &mut HashSet<(i32, OsString)>) -> io::Result<bool> {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::<u8>::uninit(); EVENT_BYTES];
            let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
            let mut counts = false;
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        return Ok(counts);
                    }
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    counts = true;
                    continue;
                }
                let Some(names) = self.places.get(&event.wd()) else { continue };
                let Some(name) = event.file_name() else {
                    counts = true; // the directory itself
                    continue;
                };
                let name = OsStr::from_bytes(name.to_bytes());
                if !names.count(name) {
                    continue;
                }
                counts = true;
                let file = (event.wd(), name.to_owned());
                if event.events().contains(ReadFlags::MODIFY) {
                    written.insert(file);
                } else if event.events().intersects(ReadFlags::CLOSE_WRITE | ReadFlags::DELETE | ReadFlags::MOVED_FROM)
                {
                    written.remove(&file);
                }
            }
        }
    }

    /// The directories to watch and what counts in them.
    fn wanted(targets: &Targets) -> Vec<(PathBuf, Names)> {
        let mut wanted = Vec::new();
        for directory in &targets.directories {
            if !directory.is_dir() {
                // The next step of the way to it that does not exist.
                let existing = directory.ancestors().skip(1).find(|ancestor| ancestor.is_dir());
                let step = existing.and_then(|existing| directory.strip_prefix(existing).ok()?.components().next());
                if let (Some(existing), Some(step)) = (existing, step) {
                    wanted.push((existing.to_owned(), only(step.as_os_str())));
                }
                continue;
            }
            wanted.push((directory.clone(), Names { manifests: true, only: BTreeSet::new() }));
            wanted.extend(links_on_the_way(directory).filter_map(|link| beside(&link)));
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let links = entries.filter(|entry| is_manifest(&entry.file_name()) && entry.path().is_symlink());
            for link in links.map(|link| link.path()) {
                wanted.extend(links_on_the_way(&link).filter_map(|link| beside(&link)));
                wanted.extend(link.canonicalize().ok().and_then(|target| beside(&target)));
            }
        }
        for file in &targets.files {
            wanted.extend(beside(file));
            wanted.extend(links_on_the_way(file).filter_map(|link| beside(&link)));
            wanted.extend(file.canonicalize().ok().and_then(|target| beside(&target)));
        }
        wanted
    }

    /// The links that are passed on the way to `path`: turning any of them leads elsewhere.
    fn links_on_the_way(path: &Path) -> impl Iterator<Item = PathBuf> {
        let steps = |path: &Path| path.components().rev().map(|step| step.as_os_str().to_owned()).collect::<Vec<_>>();
        let (mut left, mut place, mut links) = (steps(path), PathBuf::new(), Vec::new());
        while let Some(step) = left.pop() {
            if step == ".." && place.pop() {
                continue;
            }
            let next = place.join(&step); // the root replaces what was before
            match std::fs::read_link(&next) {
                Ok(target) if links.len() < LINKS_MAX => {
                    left.extend(steps(&target));
                    links.push(next);
                }
                _ => place = next,
            }
        }
        links.into_iter()
    }

    fn beside(file: &Path) -> Option<(PathBuf, Names)> {
        let parent = file.parent()?;
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Some((parent.to_owned(), only(file.file_name()?)))
    }

    fn only(name: &OsStr) -> Names {
        Names { manifests: false, only: BTreeSet::from([name.to_owned()]) }
    }

    fn is_manifest(name: &OsStr) -> bool {
        let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
        extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml")
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::io;
    use std::time::Duration;

    use super::Targets;

    /// How often everything is read where the system does not tell of changes.
    const INTERVAL: Duration = Duration::from_secs(2);

    /// See the module text.
    pub(crate) struct Watch;

    impl Watch {
        pub(crate) fn new(_: Targets) -> io::Result<Self> {
            Ok(Self)
        }

        pub(crate) fn refresh(&mut self) -> io::Result<()> {
            Ok(())
        }

        pub(crate) async fn changed(&mut self) -> io::Result<()> {
            tokio::time::sleep(INTERVAL).await;
            Ok(())
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
