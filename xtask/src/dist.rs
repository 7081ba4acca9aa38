//! `cargo xtask dist`: the binary to hand out, optimised across crates and by a profile of its own work.
//!
//! *Job:* build with counters, let the bench drive that binary, build again with what was counted. *Neighbours:* `bench` drives;
//! profile `dist` of the root `Cargo.toml` says how. *Invariant:* the profile comes from this very source; none is kept.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::metadata;

/// What the counting binary is driven with: the paths an application uses most.
const TRAINING: [&[&str]; 4] = [
    &["invoke", "--variants", "D,F,J", "--rounds", "1", "--duration", "4"],
    &["invoke", "--variants", "G", "--rounds", "1", "--duration", "3"],
    &["publish", "--variants", "ours", "--rounds", "1", "--duration", "3"],
    &["state", "--variants", "ours", "--rounds", "1", "--duration", "3"],
];

/// Builds the binary and says where it is.
///
/// # Errors
/// An unknown option, a missing tool (with how to get it), or a build or a run that failed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let trained = match args {
        [] => true,
        [option] if option == "--without-profile" => false,
        _ => bail!("usage: cargo xtask dist [--without-profile]"),
    };
    let host = host()?;
    // This program lies in `<target>/<profile>/`.
    let itself = std::env::current_exe()?;
    let target = itself.ancestors().nth(2).context("this program has no directory")?;
    let flags = if trained {
        let profile = train(&host, target, &itself)?;
        format!("-Cprofile-use={}", profile.display())
    } else {
        String::new()
    };
    let built = build(&host, "dist", target, &flags)?;
    println!("{}", built.display());
    Ok(())
}

/// Builds the counting binary, drives it and gives the file of merged counts.
fn train(host: &str, target: &Path, itself: &Path) -> Result<PathBuf> {
    let merge = profdata(host)?;
    let place = target.join("profile");
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("emptying {}", place.display()))?;
    }
    fs::create_dir_all(&place)?;
    let counted = target.join("counting");
    // Counts belong to functions before they are inlined, so the counting binary need not be optimised across crates.
    let program = build(host, "release", &counted, &format!("-Cprofile-generate={}", place.display()))?;
    for bench in TRAINING {
        let mut command = Command::new(itself);
        succeed(command.arg("bench").args(bench).env("PILLION_BIN", &program).env_remove("PEER_DAPRD"))?;
    }
    let merged = place.join("merged.profdata");
    let counts: Vec<OsString> = fs::read_dir(&place)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "profraw"))
        .map(PathBuf::into_os_string)
        .collect();
    if counts.is_empty() {
        bail!("the driven binary left no counts in {}", place.display());
    }
    succeed(Command::new(merge).arg("merge").arg("--output").arg(&merged).args(counts))?;
    Ok(merged)
}

/// One build, and where its binary is. Only the crates of the program get `flags`, not build scripts and macros, because a
/// target is named.
fn build(host: &str, profile: &str, target: &Path, flags: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--profile", profile, "-p", "pillion", "--target", host]);
    command.current_dir(metadata::root()?).env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", flags);
    succeed(&mut command)?;
    Ok(target.join(host).join(profile).join("pillion"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// The tool of the compiler in use that merges counts.
fn profdata(host: &str) -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("running rustc")?;
    let root = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let tool = root.join("lib/rustlib").join(host).join("bin/llvm-profdata");
    if !tool.exists() {
        bail!("{} is not there: run `rustup component add llvm-tools`, or use --without-profile", tool.display());
    }
    Ok(tool)
}

/// The target this machine's compiler builds for.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
