//! Memory a process needs only to start: its code and tables for reading flags and files, relocation, first connections.
//!
//! *Job:* a while after the start, tell the kernel that the mapped pages of programs and libraries need not stay mapped. What is
//! used again is mapped again from the page cache in a microsecond; what is not, is not counted as this sidecar's memory
//! any more. *Invariant:* only mappings of files that were never written to; their content is that of the file, so nothing can
//! be lost.
//!
//! This is the one place with `unsafe` code of ours: there is no safe call for it.

use std::time::Duration;

use rustix::mm::{Advice, madvise};

/// Long after a usual start, soon enough for who looks at a sidecar that has nothing to do.
const AFTER: Duration = Duration::from_secs(2);

/// Does it once, later, on a thread that ends with it. Nothing happens where the system does not tell its mappings.
pub(crate) fn give_back_later() {
    let give_back = || {
        std::thread::sleep(AFTER);
        for (start, length) in clean_file_mappings(&std::fs::read_to_string("/proc/self/smaps").unwrap_or_default()) {
            // SAFETY: the range is a mapping of this process that shows a file and has never been written to (no private dirty
            // page); dropping its pages makes the next access read the same bytes from the file again.
            #[expect(unsafe_code, reason = "madvise has no safe form; see the module text")]
            let _ = unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) }; // advice may be refused
        }
    };
    // Without the thread more memory stays mapped, nothing else.
    let _ = std::thread::Builder::new().name("resident".to_owned()).stack_size(128 * 1024).spawn(give_back);
}

/// Start and length of the mappings in the text of `/proc/<pid>/smaps` that show files, cannot be written to, and have no page
/// of their own. (A page that the file system has not yet written out counts as dirty, but not as their own.)
fn clean_file_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(mapping) = mapping(line) {
            candidate = mapping.is_readable_file.then_some((mapping.start, mapping.length));
        } else if let Some(own) = line.strip_prefix("Anonymous:")
            && let Some(mapping) = candidate.take()
            && own.trim() == "0 kB"
        {
            found.push(mapping);
        }
    }
    found
}

struct Mapping {
    start: usize,
    length: usize,
    is_readable_file: bool,
}

/// A line such as `55d0-55e0 r-xp 00002000 fd:01 1234   /usr/bin/pillion`; other lines of the text are `None`.
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let length = usize::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    let permissions = fields.next()?;
    let is_readable_file =
        matches!(permissions, "r-xp" | "r--p") && fields.nth(3).is_some_and(|path| path.starts_with('/'));
    Some(Mapping { start, length, is_readable_file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_pages_of_files_are_found() {
        let smaps = "\
1000-3000 r--p 00000000 fd:01 1234                       /usr/bin/pillion
Size:                  8 kB
Anonymous:         0 kB
3000-5000 r-xp 00002000 fd:01 1234                       /usr/bin/pillion
Anonymous:         0 kB
5000-6000 r--p 00004000 fd:01 1234                       /usr/bin/pillion
Anonymous:         4 kB
6000-7000 rw-p 00005000 fd:01 1234                       /usr/bin/pillion
Anonymous:         0 kB
7000-8000 rw-p 00000000 00:00 0
Anonymous:         0 kB
8000-9000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:         0 kB
";
        assert_eq!(clean_file_mappings(smaps), [(0x1000, 0x2000), (0x3000, 0x2000)]);
    }

    #[test]
    fn the_program_goes_on_after_its_pages_were_given_back() {
        let before = clean_file_mappings(&std::fs::read_to_string("/proc/self/smaps").unwrap());
        assert!(before.len() >= 2, "{before:?}");
        give_back_later();
        std::thread::sleep(AFTER + Duration::from_millis(200));
        assert_eq!(clean_file_mappings(&std::fs::read_to_string("/proc/self/smaps").unwrap()).len(), before.len());
    }
}
