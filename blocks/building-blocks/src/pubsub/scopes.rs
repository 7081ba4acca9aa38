//! Which topics an app may publish and subscribe to. *Source:* spec app_channel.md §4.5.

use pillion_contract::Metadata;

/// The topic lists of one component, for one app.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    allowed: Vec<String>,
    protected: Vec<String>,
    publishing: Vec<String>,
    subscription: Vec<String>,
}

impl Scopes {
    pub(super) fn new(metadata: &Metadata, app_id: &str) -> Self {
        let value = |name: &str| metadata.get(name).unwrap_or_default().replace(' ', "");
        let topics =
            |name: &str| Some(value(name)).filter(|text| !text.is_empty()).map(|text| split(&text)).unwrap_or_default();
        let scoped = |name: &str| {
            let text = value(name);
            let apps = text.split(';').filter_map(|app| app.split_once('='));
            apps.filter(|(app, _)| *app == app_id).flat_map(|(_, topics)| split(topics)).collect()
        };
        Self {
            allowed: topics("allowedTopics"),
            protected: topics("protectedTopics"),
            publishing: scoped("publishingScopes"),
            subscription: scoped("subscriptionScopes"),
        }
    }

    pub(super) fn may_publish(&self, topic: &str) -> bool {
        self.permits(topic, &self.publishing)
    }

    pub(super) fn may_subscribe(&self, topic: &str) -> bool {
        self.permits(topic, &self.subscription)
    }

    fn permits(&self, topic: &str, scoped: &[String]) -> bool {
        let contains = |list: &[String]| list.iter().any(|entry| entry == topic);
        if !self.allowed.is_empty() && !contains(&self.allowed) {
            return false;
        }
        if scoped.is_empty() && !contains(&self.protected) {
            return true;
        }
        contains(scoped)
    }
}

/// A comma list; an empty text is a list with one empty topic, so that `app=` permits nothing.
fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}
