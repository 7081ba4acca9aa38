//! `cargo xtask fuzz lifecycle`: builds the binary and runs the lifecycle test of `tests/integration` with a seed and a time.
//!
//! The plan of a run is a function of its seed, and both are printed: a run that failed is repeated with its seed.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::metadata;

const USAGE: &str = "usage: cargo xtask fuzz lifecycle [--minutes N | --seconds N] [--seed N] [--hot-reload=false] [--signals=false] [--strict-hangup]
  --minutes, --seconds   how long; 10 minutes when not given
  --seed                 which plan; another one each time when not given
  --hot-reload=false     files take effect at SIGHUP only
  --signals=false        only files change: no process is signalled, no app goes away
  --strict-hangup        a reload by SIGHUP is no excuse for a failed call
PILLION_BIN names another binary than the one that is built.";

/// Runs what the arguments ask for.
///
/// # Errors
/// Wrong arguments, or a rule that was broken.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(("lifecycle", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
        bail!("{USAGE}");
    };
    let settings = Settings::read(rest)?;
    let root = metadata::root()?;
    let cargo = metadata::cargo();
    if std::env::var_os("PILLION_BIN").is_none() {
        let status = Command::new(&cargo).args(["build", "--locked", "-p", "pillion"]).current_dir(&root).status();
        if !status.context("running cargo build")?.success() {
            bail!("the binary cannot be built");
        }
    }
    eprintln!("lifecycle: seed {}, {} s", settings.seed, settings.seconds);
    let test = ["test", "--locked", "-p", "pillion-integration", "--test", "it", "--"];
    let status = Command::new(&cargo)
        .args(test)
        .args(["--ignored", "--nocapture", "--exact", "lifecycle::nothing_is_lost_whatever_happens"])
        .env("LIFECYCLE_SECONDS", settings.seconds.to_string())
        .env("LIFECYCLE_SEED", settings.seed.to_string())
        .env("LIFECYCLE_HOT_RELOAD", settings.hot_reload.to_string())
        .env("LIFECYCLE_SIGNALS", settings.signals.to_string())
        .env("LIFECYCLE_STRICT_HANGUP", settings.strict_hangup.to_string())
        .current_dir(&root)
        .status()
        .context("running cargo test")?;
    if !status.success() {
        bail!("seed {} broke a rule; see above", settings.seed);
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Settings {
    seconds: u64,
    seed: u64,
    hot_reload: bool,
    signals: bool,
    strict_hangup: bool,
}

impl Settings {
    fn read(arguments: &[String]) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut settings = Self { seconds: 600, seed: now, hot_reload: true, signals: true, strict_hangup: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (name, given) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let switch = |given: Option<&str>| match given {
                None | Some("true") => Ok(true),
                Some("false") => Ok(false),
                Some(other) => bail!("{name} is {other:?}; expected true or false\n{USAGE}"),
            };
            match name {
                "--hot-reload" => settings.hot_reload = switch(given.as_deref())?,
                "--signals" => settings.signals = switch(given.as_deref())?,
                "--strict-hangup" => settings.strict_hangup = switch(given.as_deref())?,
                "--minutes" | "--seconds" | "--seed" => {
                    let value = given.or_else(|| arguments.next().cloned()).unwrap_or_default();
                    let number: u64 =
                        value.parse().with_context(|| format!("{name} is {value:?}; expected a number\n{USAGE}"))?;
                    match name {
                        "--minutes" => settings.seconds = number * 60,
                        "--seconds" => settings.seconds = number,
                        _ => settings.seed = number,
                    }
                }
                other => bail!("unknown argument {other:?}\n{USAGE}"),
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let read = |line: &str| Settings::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let wanted = Settings { seconds: 120, seed: 7, hot_reload: false, signals: true, strict_hangup: true };
        assert_eq!(read("--minutes 2 --seed=7 --hot-reload=false --strict-hangup").unwrap(), wanted);
        assert_eq!(read("--seconds 5").unwrap().seconds, 5);
        assert!(read("--seconds many").is_err() && read("--fast").is_err() && read("--signals=maybe").is_err());
    }
}
