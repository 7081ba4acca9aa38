//! The resource files of a sidecar: their texts, and what must be in effect when they are read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::plan::{Break, Content, SLOTS, Style};

/// The broker and the store that the load uses; never touched.
const BASE: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: bus}
spec: {type: pubsub.embedded, version: v1, metadata: [{name: directory, value: \"ROOT/bus\"}]}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: store}
spec: {type: state.sqlite, version: v1, metadata: [{name: connectionString, value: \"ROOT/store-NAME.db\"}]}
---
apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {name: failing}
spec: {baseUrl: \"http://127.0.0.1:TARGET/fail/NAME\"}
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: orders}
spec: {pubsubname: bus, topic: orders, routes: {default: /orders}}
";

/// Content that was there for so long has been read.
const SEEN_FOR_SURE: Duration = Duration::from_secs(2);

/// What of the metadata and of the sidecar's conduct the files decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// Name and type.
    pub(super) components: BTreeSet<(String, String)>,
    pub(super) topics: BTreeSet<String>,
    pub(super) endpoints: BTreeSet<String>,
    pub(super) resiliencies: BTreeSet<String>,
    /// Calls the endpoint `failing` gets for one call.
    pub(super) attempts: u32,
    /// The number behind `e5`.
    pub(super) endpoint_version: Option<u32>,
}

/// The directory of one sidecar.
pub(super) struct Files {
    directory: PathBuf,
    root: PathBuf,
    target: u16,
    /// What each file has held since it was last read for sure, oldest first.
    held: [Vec<(Instant, Content)>; SLOTS],
}

impl Files {
    pub(super) fn new(root: &Path, name: &str, target: u16) -> std::io::Result<Self> {
        let directory = root.join(format!("resources-{name}"));
        fs::create_dir_all(&directory)?;
        let base = BASE.replace("ROOT", &root.display().to_string());
        fs::write(directory.join("base.yaml"), base.replace("NAME", name).replace("TARGET", &target.to_string()))?;
        let absent = || vec![(Instant::now(), Content::Absent)];
        Ok(Self { directory, root: root.to_owned(), target, held: std::array::from_fn(|_| absent()) })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) async fn edit(&mut self, slot: usize, content: Content, style: Style) -> std::io::Result<()> {
        let path = self.directory.join(format!("slot{slot}.yaml"));
        self.held[slot].push((Instant::now(), content));
        if content == Content::Absent {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let text = self.text(slot, content);
        match style {
            Style::InPlace => fs::write(&path, text),
            Style::Rename => {
                let temporary = self.directory.join(format!(".slot{slot}.swp"));
                fs::write(&temporary, text)?;
                fs::rename(&temporary, &path)
            }
            Style::HalfThenWhole => {
                fs::write(&path, "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: ")?;
                tokio::time::sleep(Duration::from_millis(30)).await;
                fs::write(&path, text)
            }
        }
    }

    pub(super) async fn clear(&mut self) -> std::io::Result<()> {
        for slot in 0..SLOTS {
            self.edit(slot, Content::Absent, Style::InPlace).await?;
        }
        Ok(())
    }

    /// A process that starts, or starts anew, reads everything and has nothing to keep.
    pub(super) fn read_anew(&mut self) {
        for held in &mut self.held {
            let last = held.pop().map_or(Content::Absent, |(_, content)| content);
            let effective = if matches!(last, Content::Broken(_)) { Content::Absent } else { last };
            *held = vec![(Instant::now(), effective), (Instant::now(), last)];
        }
    }

    /// What may be in effect. A reload keeps what a file held that cannot be read now; content that was there only for a
    /// moment may or may not have been seen.
    pub(super) fn effects(&self, hot_reload: bool) -> Vec<Effect> {
        let allowed: Vec<Vec<Content>> =
            self.held.iter().map(|held| if hot_reload { allowed(held) } else { vec![current(held)] }).collect();
        let mut chosen: Vec<Vec<Content>> = vec![Vec::new()];
        for contents in &allowed {
            let longer = chosen
                .iter()
                .flat_map(|begin| contents.iter().map(|content| begin.iter().copied().chain([*content]).collect()));
            chosen = longer.collect();
        }
        chosen.into_iter().map(|contents| effect(|slot| contents[slot])).collect()
    }

    fn text(&self, slot: usize, content: Content) -> String {
        let version = match content {
            Content::Absent | Content::Broken(Break::Empty) => return "\n".to_owned(),
            Content::Broken(Break::Syntax) => return "kind: Component\nmetadata: {name: [x\n".to_owned(),
            Content::Broken(Break::WrongType) => {
                return "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: wrong}\nspec: {type: [state.in-memory]}\n".to_owned();
            }
            Content::Broken(Break::Unknown) => {
                return format!(
                    "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: c{slot}}}\nspec: {{type: state.nobody-knows, version: v1, ignoreErrors: true}}\n"
                );
            }
            Content::Valid(version) => version,
        };
        match slot {
            3 => subscription(version),
            4 => format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: r4}}\nspec:\n  policies: {{retries: {{again: {{policy: constant, duration: 1ms, maxRetries: {}}}}}}}\n  targets: {{apps: {{failing: {{retry: again}}}}}}\n",
                retries(version)
            ),
            5 => format!(
                "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {{name: e5}}\nspec: {{baseUrl: \"http://127.0.0.1:{}/v{version}\"}}\n",
                self.target
            ),
            6 => self.component("c6", version) + "---\n" + &self.component("c7", version + 1),
            _ => self.component(&format!("c{slot}"), version),
        }
    }

    fn component(&self, name: &str, version: u32) -> String {
        let kind = component_type(version);
        let metadata = if kind == "state.sqlite" {
            format!("[{{name: connectionString, value: \"{}/extra-{name}.db\"}}]", self.root.display())
        } else {
            "[]".to_owned()
        };
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec: {{type: {kind}, version: v1, metadata: {metadata}}}\n"
        )
    }
}

fn current(held: &[(Instant, Content)]) -> Content {
    held.last().map_or(Content::Absent, |(_, content)| *content)
}

/// Whether a reload takes this for a file that is not finished, and keeps what was there.
fn unreadable(content: Content) -> bool {
    matches!(content, Content::Broken(Break::Syntax | Break::WrongType))
}

fn allowed(held: &[(Instant, Content)]) -> Vec<Content> {
    let now = current(held);
    if !unreadable(now) {
        return vec![now];
    }
    let mut found = Vec::new();
    let mut until = Instant::now();
    for (begin, content) in held.iter().rev() {
        if !unreadable(*content) {
            found.push(*content);
            if until.duration_since(*begin) > SEEN_FOR_SURE {
                break;
            }
        }
        until = *begin;
    }
    found
}

fn subscription(version: u32) -> String {
    let (api, route) = match version % 2 {
        0 => ("dapr.io/v1alpha1", "route: /extra"),
        _ => ("dapr.io/v2alpha1", "routes: {default: /extra}"),
    };
    format!(
        "apiVersion: {api}\nkind: Subscription\nmetadata: {{name: s3}}\nspec: {{pubsubname: bus, topic: t{version}, {route}}}\n"
    )
}

fn component_type(version: u32) -> &'static str {
    ["state.in-memory", "state.sqlite", "pubsub.in-memory"][version as usize % 3]
}

fn retries(version: u32) -> u32 {
    version % 4 + 1
}

fn effect(content: impl Fn(usize) -> Content) -> Effect {
    let mut effect = Effect { attempts: 1, ..Effect::default() };
    let mut component = |name: &str, kind: &str| effect.components.insert((name.to_owned(), kind.to_owned()));
    component("bus", "pubsub.embedded");
    component("store", "state.sqlite");
    effect.topics.insert("orders".to_owned());
    effect.endpoints.insert("failing".to_owned());
    for slot in 0..SLOTS {
        let Content::Valid(version) = content(slot) else { continue };
        match slot {
            3 => drop(effect.topics.insert(format!("t{version}"))),
            4 => {
                effect.resiliencies.insert("r4".to_owned());
                effect.attempts = 1 + retries(version);
            }
            5 => {
                effect.endpoints.insert("e5".to_owned());
                effect.endpoint_version = Some(version);
            }
            _ => {
                effect.components.insert((format!("c{slot}"), component_type(version).to_owned()));
                if slot == 6 {
                    effect.components.insert(("c7".to_owned(), component_type(version + 1).to_owned()));
                }
            }
        }
    }
    effect
}
