//! The table of component types a binary carries.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::{ComponentError, InitContext, NameResolver, PubSub, SecretStore, StateStore};

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, ComponentError>> + Send>>;

/// Makes and initialises a component from its context.
pub type Factory<T> = Arc<dyn Fn(InitContext) -> BoxFuture<Arc<T>> + Send + Sync>;

/// Component types by building block; implementation crates fill it, the sidecar reads it.
#[derive(Clone, Default)]
pub struct Registry {
    state: BTreeMap<String, Factory<dyn StateStore>>,
    pubsub: BTreeMap<String, Factory<dyn PubSub>>,
    secrets: BTreeMap<String, Factory<dyn SecretStore>>,
    name_resolution: BTreeMap<String, Factory<dyn NameResolver>>,
}

macro_rules! block {
    ($register:ident, $lookup:ident, $field:ident, $trait:ident, $doc:literal) => {
        #[doc = concat!("Adds a ", $doc, " under its type name, for example `category.name`; a second one replaces the first.")]
        pub fn $register<F, Fut>(&mut self, component_type: &str, factory: F)
        where
            F: Fn(InitContext) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<Arc<dyn $trait>, ComponentError>> + Send + 'static,
        {
            self.$field.insert(component_type.to_owned(), Arc::new(move |context| Box::pin(factory(context))));
        }

        #[doc = concat!("The factory of a ", $doc, " type.")]
        pub fn $lookup(&self, component_type: &str) -> Option<Factory<dyn $trait>> {
            self.$field.get(&component_type.to_ascii_lowercase()).cloned()
        }
    };
}

impl Registry {
    block!(register_state, state, state, StateStore, "state store");
    block!(register_pubsub, pubsub, pubsub, PubSub, "pub/sub broker");
    block!(register_secrets, secrets, secrets, SecretStore, "secret store");
    block!(register_name_resolution, name_resolution, name_resolution, NameResolver, "name resolver");

    /// All type names, sorted; for `did you mean` hints and documentation.
    pub fn types(&self) -> Vec<&str> {
        let mut names: Vec<&str> = [
            self.state.keys().collect::<Vec<_>>(),
            self.pubsub.keys().collect(),
            self.secrets.keys().collect(),
            self.name_resolution.keys().collect(),
        ]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
        names.sort_unstable();
        names
    }
}
