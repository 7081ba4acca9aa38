//! Output of children: line by line, at once, with a prefix to the console and without colours to a log file.
//!
//! *Invariant:* a line is never delayed for another and never lost for its length; one without an end is passed on
//! when it has reached [`PART_MAX`], or when the child closes its output.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinHandle;

use crate::console::{Console, output_bytes};

/// Longest part of a line that is held back, in bytes.
const PART_MAX: usize = 1 << 20;

/// How many of the last lines are kept to explain a failure.
const KEPT_LINES: usize = 20;

/// What receives the lines of one child, from both of its pipes.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// `None` = not to the console.
    prefix: Option<String>,
    file: Option<(PathBuf, File)>,
    last: VecDeque<String>,
}

impl Sink {
    pub(crate) fn new(console: Option<(&Console, &str)>, file: Option<&Path>) -> Result<Self> {
        let file = match file {
            Some(path) => Some((path.to_owned(), create(path)?)),
            None => None,
        };
        let inner =
            Inner { prefix: console.map(|(console, prefix)| console.prefix(prefix)), file, last: VecDeque::new() };
        Ok(Self { inner: Rc::new(RefCell::new(inner)) })
    }

    /// Takes whole lines (and perhaps an unfinished last one).
    fn take(&self, lines: &[u8], continued: bool) {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(prefix) = &inner.prefix {
            output_bytes(&prefixed(prefix.as_bytes(), lines, continued));
        }
        let plain = without_colors(lines);
        if let Some((_, file)) = &mut inner.file {
            let _ = file.write_all(&plain); // a full disk must not end the applications
        }
        for line in String::from_utf8_lossy(&plain).lines() {
            if inner.last.len() == KEPT_LINES {
                inner.last.pop_front();
            }
            inner.last.push_back(line.to_owned());
        }
    }

    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.inner.borrow().last.iter().cloned().collect()
    }

    pub(crate) fn on_console(&self) -> bool {
        self.inner.borrow().prefix.is_some()
    }

    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.inner.borrow().file.as_ref().map(|(path, _)| path.clone())
    }

    /// Copies a pipe until it closes. To be called inside a `LocalSet`.
    pub(crate) fn copy(&self, pipe: Option<impl AsyncRead + Unpin + 'static>) -> JoinHandle<()> {
        let sink = self.clone();
        tokio::task::spawn_local(async move {
            if let Some(pipe) = pipe {
                copy_lines(pipe, |lines, continued| sink.take(lines, continued)).await;
            }
        })
    }
}

fn create(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the log directory {}", directory.display()))?;
    }
    File::create(path).with_context(|| format!("cannot create the log file {}", path.display()))
}

/// Calls `take` with complete lines as they come; `true` says that the first of them continues an earlier part.
async fn copy_lines(mut pipe: impl AsyncRead + Unpin, mut take: impl FnMut(&[u8], bool)) {
    let mut buffer = Vec::with_capacity(8 << 10);
    let mut continued = false;
    loop {
        buffer.reserve(8 << 10);
        let before = buffer.len();
        let read = pipe.read_buf(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            if !buffer.is_empty() {
                buffer.push(b'\n');
                take(&buffer, continued);
            }
            return;
        }
        let end = buffer[before..].iter().rposition(|byte| *byte == b'\n').map(|at| before + at + 1);
        match end {
            Some(end) => {
                take(&buffer[..end], continued);
                buffer.drain(..end);
                continued = false;
            }
            None if buffer.len() >= PART_MAX => {
                take(&buffer, continued);
                buffer.clear();
                continued = true;
            }
            None => {}
        }
    }
}

fn prefixed(prefix: &[u8], lines: &[u8], continued: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + prefix.len() * 4);
    for (number, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if number > 0 || !continued {
            out.extend_from_slice(prefix);
        }
        out.extend_from_slice(line);
    }
    out
}

/// Removes the terminal sequences `ESC [ … letter`, which only clutter a file.
fn without_colors(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\x1b[") {
        out.extend_from_slice(&rest[..at]);
        let sequence = &rest[at + 2..];
        match sequence.iter().position(|byte| (0x40..=0x7e).contains(byte)) {
            Some(end) => rest = &sequence[end + 1..],
            None => return out,
        }
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn copied(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (reader, mut writer) = tokio::io::duplex(4 << 20);
        let mut taken = Vec::new();
        let copying = copy_lines(reader, |lines, continued| taken.push((lines.to_vec(), continued)));
        let writing = async {
            for chunk in chunks {
                tokio::io::AsyncWriteExt::write_all(&mut writer, chunk).await.unwrap();
                for _ in 0..3 {
                    tokio::task::yield_now().await; // the reader sees each chunk by itself
                }
            }
            drop(writer);
        };
        tokio::join!(copying, writing);
        taken
    }

    #[tokio::test]
    async fn lines_come_at_once_and_parts_wait_for_their_end() {
        let taken = copied(&[b"one\ntw", b"o\n", b"three\n", b"rest"]).await;
        let all: Vec<u8> = taken.iter().flat_map(|(lines, _)| lines.clone()).collect();
        assert_eq!(all, b"one\ntwo\nthree\nrest\n");
        assert!(taken.iter().all(|(lines, continued)| lines.ends_with(b"\n") && !continued));
        assert_eq!(taken[0].0, b"one\n");
    }

    #[tokio::test]
    async fn a_line_of_three_mebibytes_gets_one_prefix() {
        let long = vec![b'x'; 3 << 20];
        let taken = copied(&[&long, b"\nnext\n"]).await;
        let printed: Vec<u8> = taken.iter().flat_map(|(lines, continued)| prefixed(b"> ", lines, *continued)).collect();
        let mut expected = b"> ".to_vec();
        expected.extend_from_slice(&long);
        expected.extend_from_slice(b"\n> next\n");
        assert!(printed == expected);
        assert!(taken.len() > 1);
    }

    #[test]
    fn files_have_no_colors() {
        assert_eq!(without_colors(b"\x1b[31mred\x1b[0m \x1b[1;32mok\n"), b"red ok\n");
        assert_eq!(without_colors(b"plain \xff\n"), b"plain \xff\n");
    }

    #[test]
    fn a_sink_writes_its_file_and_keeps_the_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/log");
        let sink = Sink::new(None, Some(&path)).unwrap();
        for number in 0..30 {
            sink.take(format!("\u{1b}[1mline {number}\u{1b}[0m\n").as_bytes(), false);
        }
        let last = sink.last_lines();
        assert_eq!((last.len(), last[0].as_str(), last[19].as_str()), (20, "line 10", "line 29"));
        assert!(std::fs::read_to_string(path).unwrap().starts_with("line 0\nline 1\n"));
    }
}
