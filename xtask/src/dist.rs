//! `cargo xtask dist`: the binary that is handed out, in the profile `dist`, laid out by what it does when it works.
//!
//! *Job:* profile-guided optimisation (PGO) in four steps: build a binary that counts what it runs, let the bench drive it, merge
//! its counts, build again with them. *Neighbours:* `bench` is the training; what it does not drive is built as ever.
//! *Invariant:* the counts decide speed and size alone, never behaviour, so any tree builds with any counts.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata;

const USAGE: &str = "usage: cargo xtask dist
  builds pillion twice in the profile `dist`, the second time guided by a profile of the first at work;
  needs llvm-profdata of the Rust toolchain: rustup component add llvm-tools";

/// What the counting binary is driven with: every way of `bench` that spends its time in the sidecar.
const TRAINING: &[&[&str]] = &[
    &["invoke", "--variants", "D,F,G,H,I,J,O", "--rounds", "1", "--duration", "2"],
    &["state", "--rounds", "1", "--duration", "2"],
    &["publish", "--rounds", "1", "--duration", "2"],
];

/// Builds it and says where it is.
///
/// # Errors
/// A tool is missing, or a build or the training failed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("{USAGE}");
    }
    let host = host()?;
    let merger = merger()?;
    let target = metadata::target_directory()?;
    let work = target.join("profile-guided");
    let counts = work.join("counts");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("emptying {}", work.display()))?;
    }
    fs::create_dir_all(&counts).with_context(|| format!("making {}", counts.display()))?;
    // The two builds share a directory, so the first one's binary is put aside.
    let built = target.join(&host).join("dist").join("pillion");

    eprintln!("1 of 4: building a binary that counts what it runs");
    build(&host, &option("-Cprofile-generate=", &counts))?;
    let counting = work.join("pillion");
    fs::copy(&built, &counting).with_context(|| format!("copying {}", built.display()))?;

    eprintln!("2 of 4: letting it work");
    for bench in TRAINING {
        train(&counting, bench)?;
    }

    eprintln!("3 of 4: merging its counts");
    let merged = work.join("pillion.profdata");
    let status = Command::new(&merger).arg("merge").arg("-o").arg(&merged).arg(&counts).status();
    if !status.with_context(|| format!("running {}", merger.display()))?.success() {
        bail!("{} found no usable counts in {}", merger.display(), counts.display());
    }

    eprintln!("4 of 4: building with them");
    build(&host, &option("-Cprofile-use=", &merged))?;
    println!("{}", built.display());
    Ok(())
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// Builds for a named target, so that build scripts and macros are left as they are.
fn build(host: &str, option: &OsString) -> Result<()> {
    // This form takes paths with spaces, which RUSTFLAGS does not. Flags of the caller stay.
    const SEPARATOR: &str = "\x1f";
    let mut flags = std::env::var_os("CARGO_ENCODED_RUSTFLAGS").unwrap_or_else(|| {
        let plain = std::env::var("RUSTFLAGS").unwrap_or_default();
        plain.split_whitespace().collect::<Vec<_>>().join(SEPARATOR).into()
    });
    if !flags.is_empty() {
        flags.push(SEPARATOR);
    }
    flags.push(option);
    let status = Command::new(metadata::cargo())
        .args(["build", "--profile", "dist", "--package", "pillion", "--locked", "--target", host])
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .current_dir(metadata::root()?)
        .status()
        .context("running cargo build")?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    Ok(())
}

/// Runs `bench` with the binary. Its counts are written when its processes end in good order, as the bench lets them.
fn train(binary: &Path, bench: &[&str]) -> Result<()> {
    let own = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(own);
    let status = command.arg("bench").args(bench).env("PILLION_BIN", binary).env_remove("PEER_DAPRD").status();
    if !status.context("running the bench")?.success() {
        bail!("the training `bench {}` failed", bench.join(" "));
    }
    Ok(())
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(arguments).output().context("running rustc")?;
    if !output.status.success() {
        bail!("rustc {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("reading what rustc says")
}

/// The target this machine builds for.
fn host() -> Result<String> {
    let said = rustc(&["-vV"])?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// The toolchain's own `llvm-profdata`: counts are read only by the LLVM that wrote them.
fn merger() -> Result<PathBuf> {
    let libraries = PathBuf::from(rustc(&["--print", "target-libdir"])?.trim());
    let merger = libraries.with_file_name("bin").join("llvm-profdata");
    if !merger.exists() {
        bail!("{} is not there: rustup component add llvm-tools", merger.display());
    }
    Ok(merger)
}
