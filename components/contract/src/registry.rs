//! The table of component types a binary carries.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use pillion_core::board::Board;
use pillion_core::log::Logger;

use crate::{
    ComponentError, HttpMiddleware, InitContext, InputBinding, NameResolver, OutputBinding, PubSub, SecretStore,
    StateStore,
};

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, ComponentError>> + Send>>;

/// Makes and initialises a component from its context.
pub type Factory<T> = Arc<dyn Fn(InitContext) -> BoxFuture<Arc<T>> + Send + Sync>;

/// Where to look for component types that are not built in.
#[derive(Clone, Debug)]
pub struct DiscoveryContext {
    /// Directory of the sockets of pluggable components.
    pub sockets_dir: PathBuf,
    /// Where to log what is found and what is wrong.
    pub log: Logger,
    /// Where to tell what keeps a component, at the start and later.
    pub board: Board,
}

/// Finds component types at the start of a sidecar. It logs its problems: what was found can be used all the same.
pub type Discovery = Arc<dyn Fn(DiscoveryContext) -> Pin<Box<dyn Future<Output = Registry> + Send>> + Send + Sync>;

/// Component types by building block; implementation crates fill it, the sidecar reads it.
#[derive(Clone, Default)]
pub struct Registry {
    state: BTreeMap<String, Factory<dyn StateStore>>,
    pubsub: BTreeMap<String, Factory<dyn PubSub>>,
    secrets: BTreeMap<String, Factory<dyn SecretStore>>,
    name_resolution: BTreeMap<String, Factory<dyn NameResolver>>,
    middleware: BTreeMap<String, Factory<dyn HttpMiddleware>>,
    input_bindings: BTreeMap<String, Factory<dyn InputBinding>>,
    output_bindings: BTreeMap<String, Factory<dyn OutputBinding>>,
    discoveries: Vec<Discovery>,
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
    block!(register_middleware, middleware, middleware, HttpMiddleware, "HTTP middleware");
    block!(register_input_binding, input_binding, input_bindings, InputBinding, "input binding");
    block!(register_output_binding, output_binding, output_bindings, OutputBinding, "output binding");

    /// Adds a way to find types at the start of a sidecar.
    pub fn register_discovery<F, Fut>(&mut self, discovery: F)
    where
        F: Fn(DiscoveryContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Self> + Send + 'static,
    {
        self.discoveries.push(Arc::new(move |context| Box::pin(discovery(context))));
    }

    /// Looks for types and adds them; a found type replaces a built-in one of its name.
    pub async fn discover(&mut self, context: &DiscoveryContext) {
        for discovery in self.discoveries.clone() {
            let found = discovery(context.clone()).await;
            self.state.extend(found.state);
            self.pubsub.extend(found.pubsub);
            self.secrets.extend(found.secrets);
            self.name_resolution.extend(found.name_resolution);
            self.middleware.extend(found.middleware);
            self.input_bindings.extend(found.input_bindings);
            self.output_bindings.extend(found.output_bindings);
        }
    }

    /// All type names, sorted; for `did you mean` hints and documentation.
    pub fn types(&self) -> Vec<&str> {
        let mut names: Vec<&str> = [
            self.state.keys().collect::<Vec<_>>(),
            self.pubsub.keys().collect(),
            self.secrets.keys().collect(),
            self.name_resolution.keys().collect(),
            self.middleware.keys().collect(),
            self.input_bindings.keys().collect(),
            self.output_bindings.keys().collect(),
        ]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
        names.sort_unstable();
        names.dedup(); // a binding can be both input and output
        names
    }
}
