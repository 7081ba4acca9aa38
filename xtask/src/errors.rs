//! `cargo xtask errors [--check]`: writes the error table of the code to `docs/errors.md`, or compares the two.
//!
//! The table is printed by an example of `pillion-core`, because tools do not depend on crates of the product.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::metadata::{cargo, root};

const FILE: &str = "docs/errors.md";

/// Runs the command.
///
/// # Errors
/// With `--check`, when the file is not what the code prints.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let check = match args {
        [] => false,
        [one] if one == "--check" => true,
        _ => bail!("usage: cargo xtask errors [--check]"),
    };
    let root = root()?;
    let printed = Command::new(cargo())
        .args(["run", "--quiet", "--package", "pillion-core", "--example", "errors"])
        .current_dir(&root)
        .stderr(Stdio::inherit())
        .output()
        .context("running the example that prints the error table")?;
    if !printed.status.success() {
        bail!("the example that prints the error table ended with {}", printed.status);
    }
    let path = root.join(FILE);
    if !check {
        return fs::write(&path, printed.stdout).with_context(|| format!("writing {}", path.display()));
    }
    let found = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    if found != printed.stdout {
        bail!("{FILE} is not what the code prints: run `cargo xtask errors`");
    }
    Ok(())
}
