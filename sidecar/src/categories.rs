//! The building block a component type belongs to, by the first part of its name.

/// What a component type starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    State,
    PubSub,
    SecretStore,
    Middleware,
    Binding,
    /// A block of the original that this build does not have, with its words for messages.
    NotBuilt(&'static str),
}

impl Category {
    /// The category of a type; `None` for a word that is none.
    pub(crate) fn of(component_type: &str) -> Option<Self> {
        let lower = component_type.to_ascii_lowercase();
        let known = [
            ("state.", Self::State),
            ("pubsub.", Self::PubSub),
            ("secretstores.", Self::SecretStore),
            ("bindings.", Self::Binding),
            ("configuration.", Self::NotBuilt("configuration stores")),
            ("lock.", Self::NotBuilt("locks")),
            ("crypto.", Self::NotBuilt("cryptography")),
            ("conversation.", Self::NotBuilt("conversation")),
            ("middleware.", Self::Middleware),
        ];
        known.into_iter().find(|(prefix, _)| lower.starts_with(prefix)).map(|(_, category)| category)
    }

    /// The words of the error for a type nobody registered.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::State => "state store",
            Self::PubSub => "message bus",
            Self::SecretStore => "secret store",
            Self::Middleware => "HTTP middleware",
            Self::Binding => "binding",
            Self::NotBuilt(words) => words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Category;

    #[test]
    fn categories_come_from_the_prefix() {
        assert_eq!(Category::of("state.in-memory"), Some(Category::State));
        assert_eq!(Category::of("PubSub.kafka"), Some(Category::PubSub));
        assert_eq!(Category::of("Bindings.cron"), Some(Category::Binding));
        assert_eq!(Category::of("workflow.dapr"), None);
        assert_eq!(Category::of("state"), None);
    }
}
