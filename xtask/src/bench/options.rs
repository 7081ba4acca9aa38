//! Arguments of the bench commands.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::driver::Pace;

pub(crate) const USAGE: &str = "usage: cargo xtask bench invoke|publish|state|start|memory|reload
  --rate R         requests per second of the rated rounds (default 1000)
  --duration S     seconds of each run (default 5)
  --rounds N       interleaved rounds (default 5; `start`: 20 starts)
  --conns N        connections (default 16)
  --mode M         rated, closed or both (default both)
  --variants A,D   only these paths
  --json FILE      write all rounds there
environment: PILLION_BIN (our binary), PEER_DAPRD (an original daprd)";

/// What the user asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
    /// Load before each measured part.
    pub(crate) warm_up: Duration,
    /// Rest between the last start and the first run.
    pub(crate) settle: Duration,
    pub(crate) rounds: usize,
    /// `--rounds` was given.
    pub(crate) rounds_given: bool,
    pub(crate) connections: usize,
    pub(crate) rated: bool,
    pub(crate) closed: bool,
    /// Empty: all.
    pub(crate) variants: Vec<String>,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// Reads flags, each followed by its value.
    ///
    /// # Errors
    /// An unknown flag, a missing or unusable value; with the usage.
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            rate: 1000.0,
            duration: Duration::from_secs(5),
            warm_up: Duration::from_millis(500),
            settle: Duration::from_secs(4),
            rounds: 5,
            rounds_given: false,
            connections: 16,
            rated: true,
            closed: true,
            variants: Vec::new(),
            json: None,
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let value = args.next().with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
            let number = || -> Result<f64> {
                let number: f64 =
                    value.parse().with_context(|| format!("{flag} {value:?} is not a number\n{USAGE}"))?;
                if !number.is_finite() || number <= 0.0 {
                    bail!("{flag} {value:?} must be greater than 0\n{USAGE}");
                }
                Ok(number)
            };
            match flag.as_str() {
                "--rate" => options.rate = number()?,
                "--duration" => options.duration = Duration::from_secs_f64(number()?),
                "--rounds" => {
                    options.rounds = number()? as usize;
                    options.rounds_given = true;
                }
                "--conns" => options.connections = number()? as usize,
                "--variants" => options.variants = value.split(',').map(|id| id.trim().to_lowercase()).collect(),
                "--json" => options.json = Some(PathBuf::from(value)),
                "--mode" => {
                    (options.rated, options.closed) = match value.as_str() {
                        "rated" => (true, false),
                        "closed" => (false, true),
                        "both" => (true, true),
                        _ => bail!("--mode {value:?}: expected rated, closed or both\n{USAGE}"),
                    }
                }
                _ => bail!("unknown flag {flag}\n{USAGE}"),
            }
        }
        if options.rounds == 0 || options.connections == 0 {
            bail!("--rounds and --conns must be at least 1\n{USAGE}");
        }
        Ok(options)
    }

    /// Whether path `id` is to be measured.
    pub(crate) fn wants(&self, id: &str) -> bool {
        self.variants.is_empty() || self.variants.contains(&id.to_lowercase())
    }

    /// The paces of each round.
    pub(crate) fn paces(&self) -> Vec<Pace> {
        let rated = self.rated.then_some(Pace::Rated(self.rate));
        rated.into_iter().chain(self.closed.then_some(Pace::Closed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read() {
        let options = parse("--rate 200 --duration 0.5 --rounds 3 --conns 4 --variants A,nginx --mode rated").unwrap();
        assert_eq!((options.rate, options.rounds, options.connections), (200.0, 3, 4));
        assert!(options.wants("a") && options.wants("nginx") && !options.wants("D"));
        assert_eq!(options.paces(), [Pace::Rated(200.0)]);
    }

    #[test]
    fn mistakes_name_the_flag() {
        for (text, part) in [
            ("--rate fast", "--rate"),
            ("--rounds 0", "--rounds"),
            ("--speed 1", "--speed"),
            ("--json", "--json"),
            ("--mode x", "rated, closed"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
