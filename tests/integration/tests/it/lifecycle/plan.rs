//! What a run does: derived from the seed and nothing else, so that a run can be repeated.

use std::fmt;
use std::time::Duration;

/// Resource files of each sidecar.
pub(super) const SLOTS: usize = 7;
/// Sidecars, by index.
pub(super) const SIDECARS: usize = 3;
/// The sidecar whose process lives through the whole run, so that what leaks slowly adds up.
pub(super) const LASTING: usize = 0;
/// What each round does while the load runs.
const ROUND: Duration = Duration::from_secs(20);

/// SplitMix64: the same numbers on every machine.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or_default()
    }
}

/// What a resource file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Absent,
    /// A resource whose effect shows the number.
    Valid(u32),
    Broken(Break),
}

/// How a file is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    Syntax,
    WrongType,
    Unknown,
    Empty,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    InPlace,
    /// As editors do: another file, renamed over it.
    Rename,
    /// First a part that is no YAML, then the whole.
    HalfThenWhole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Edit {
        slot: usize,
        content: Content,
        style: Style,
    },
    /// Reload in the same process.
    Hangup,
    /// SIGTERM, and a new process.
    Terminate,
    /// SIGKILL, and a new process.
    Kill,
    /// The app behind the sidecar goes away for so long.
    AppAway(Duration),
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// From the begin of the round.
    pub(super) at: Duration,
    pub(super) sidecar: usize,
    pub(super) action: Action,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ["a", "b", "c"].get(self.sidecar).copied().unwrap_or("?");
        write!(f, "+{:>5} ms {name} ", self.at.as_millis())?;
        match self.action {
            Action::Edit { slot, content, style } => write!(f, "file {slot} {content:?} {style:?}"),
            Action::AppAway(time) => write!(f, "app away for {} ms", time.as_millis()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// The rounds of a run of about `length`. Each ends in a pause in which the oracle looks.
pub(super) fn plan(seed: u64, length: Duration, signals: bool) -> Vec<Vec<Step>> {
    let mut random = Random::new(seed);
    let rounds = (length.as_secs() / (ROUND.as_secs() + 5)).max(1);
    (0..rounds).map(|number| round(&mut random, signals, number % 3 == 0)).collect()
}

/// Processes end only in some rounds: what a process leaks shows from one look to the next.
fn round(random: &mut Random, signals: bool, ends: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = Duration::from_millis(500);
    while at < ROUND {
        let sidecar = random.index(SIDECARS);
        let action = match random.below(if signals { 20 } else { 14 }) {
            0..14 => edit(random),
            14..16 => Action::Hangup,
            16 if ends && sidecar != LASTING => Action::Terminate,
            17 if ends && sidecar != LASTING => Action::Kill,
            16 | 17 => Action::Hangup,
            _ => Action::AppAway(Duration::from_millis(100 + random.below(900))),
        };
        steps.push(Step { at, sidecar, action });
        at += Duration::from_millis(50 + random.below(600));
    }
    steps
}

fn edit(random: &mut Random) -> Action {
    let slot = random.index(SLOTS);
    let content = match random.below(10) {
        0..2 => Content::Absent,
        2..7 => Content::Valid(u32::try_from(random.below(1000)).unwrap_or_default()),
        _ => Content::Broken([Break::Syntax, Break::WrongType, Break::Unknown, Break::Empty][random.index(4)]),
    };
    let style = [Style::InPlace, Style::Rename, Style::HalfThenWhole][random.index(3)];
    Action::Edit { slot, content, style }
}

#[test]
fn a_seed_gives_one_plan() {
    let length = Duration::from_secs(90);
    assert_eq!(plan(7, length, true), plan(7, length, true));
    assert_ne!(plan(7, length, true), plan(8, length, true));
    assert_eq!(plan(7, length, true).len(), 3);
    let ends = |step: &&Step| matches!(step.action, Action::Terminate | Action::Kill);
    assert!(plan(7, length, true).iter().flatten().filter(ends).all(|step| step.sidecar != LASTING));
    assert!(plan(7, length, false).iter().flatten().all(|step| matches!(step.action, Action::Edit { .. })));
}
