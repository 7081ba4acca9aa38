//! The subscriptions an app asked for: by manifest, by `GET /dapr/subscribe`, by `ListTopicSubscriptions`.
//!
//! *Source:* spec app_channel.md §3 and resources.md §3 for forms and precedence.

use std::collections::BTreeMap;

use pillion_core::log::Logger;
use pillion_proto::runtime::v1 as pb;
use pillion_proto::runtime::v1::app_callback_client::AppCallbackClient;
use pillion_resources::types::{BulkSubscribe, RouteRule, Subscription};
use pillion_runtime::app_channel::{AppChannel, GrpcChannel, HttpChannel};
use pillion_runtime::resiliency::{Failure, FailureClass, Policy, PolicyError};
use serde::Deserialize;
use tonic::Code;

/// The largest answer of `/dapr/subscribe` that is read, in bytes.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// Where a subscription comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A manifest.
    Declarative,
    /// The app, when it was asked.
    Programmatic,
    /// A gRPC stream of the app.
    Streaming,
}

impl Kind {
    /// The word of the metadata API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Declarative => "DECLARATIVE",
            Self::Programmatic => "PROGRAMMATIC",
            Self::Streaming => "STREAMING",
        }
    }
}

/// One subscription of the app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSubscription {
    /// Pub/sub component.
    pub pubsub_name: String,
    /// Topic.
    pub topic: String,
    /// Metadata for the broker, and `rawPayload`.
    pub metadata: BTreeMap<String, String>,
    /// Rules in order; the default route is a rule with empty `matches`.
    pub rules: Vec<RouteRule>,
    /// Empty = none.
    pub dead_letter_topic: String,
    /// Batches.
    pub bulk_subscribe: BulkSubscribe,
}

impl TopicSubscription {
    /// Whether one broker subscription serves both: they differ in what is done with a message, not in which messages come.
    pub(super) fn reads_the_same(&self, other: &Self) -> bool {
        self.pubsub_name == other.pubsub_name
            && self.topic == other.topic
            && self.metadata == other.metadata
            && self.bulk_subscribe == other.bulk_subscribe
    }
}

impl From<&Subscription> for TopicSubscription {
    fn from(subscription: &Subscription) -> Self {
        Self {
            pubsub_name: subscription.pubsub_name.clone(),
            topic: subscription.topic.clone(),
            metadata: subscription.metadata.clone(),
            rules: subscription.rules.clone(),
            dead_letter_topic: subscription.dead_letter_topic.clone(),
            bulk_subscribe: subscription.bulk_subscribe,
        }
    }
}

/// A subscription as the metadata API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// What was asked for.
    pub subscription: TopicSubscription,
    /// Who asked.
    pub kind: Kind,
}

/// Manifests and answers of the app, merged on reading.
#[derive(Default)]
pub(super) struct Table {
    pub(super) declarative: Vec<TopicSubscription>,
    pub(super) programmatic: Vec<TopicSubscription>,
}

impl Table {
    /// One subscription per component and topic: the app's own answer replaces manifests, among manifests the first wins,
    /// among answers the last.
    pub(super) fn merged(&self) -> Vec<SubscriptionInfo> {
        let mut merged: Vec<SubscriptionInfo> = Vec::new();
        let place = |merged: &[SubscriptionInfo], new: &TopicSubscription| {
            merged
                .iter()
                .position(|old| old.subscription.pubsub_name == new.pubsub_name && old.subscription.topic == new.topic)
        };
        for subscription in &self.declarative {
            if place(&merged, subscription).is_none() {
                merged.push(SubscriptionInfo { subscription: subscription.clone(), kind: Kind::Declarative });
            }
        }
        for subscription in &self.programmatic {
            let info = SubscriptionInfo { subscription: subscription.clone(), kind: Kind::Programmatic };
            match place(&merged, subscription).and_then(|index| merged.get_mut(index)) {
                Some(old) => *old = info,
                None => merged.push(info),
            }
        }
        merged
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SubscriptionJson {
    pubsubname: String,
    topic: String,
    #[serde(rename = "deadLetterTopic")]
    dead_letter_topic: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    route: Option<String>,
    routes: Option<RoutesJson>,
    #[serde(rename = "bulkSubscribe")]
    bulk_subscribe: Option<BulkJson>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RoutesJson {
    rules: Option<Vec<RuleJson>>,
    default: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuleJson {
    #[serde(rename = "match")]
    matches: String,
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BulkJson {
    enabled: bool,
    max_messages_count: i32,
    max_await_duration_ms: i32,
}

/// Reads the answer of `GET /dapr/subscribe`; entries without any route are left out with a warning.
///
/// # Errors
/// The answer is not the JSON that was expected.
pub(super) fn parse_json(body: &[u8], log: &Logger) -> Result<Vec<TopicSubscription>, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let items: Option<Vec<SubscriptionJson>> =
        pillion_core::json::from_slice(body).map_err(|error| format!("error getting topics from app: {error}"))?;
    let convert = |item: SubscriptionJson| {
        let routes = item.routes.unwrap_or_default();
        let mut rules: Vec<RouteRule> = routes
            .rules
            .unwrap_or_default()
            .into_iter()
            .map(|rule| RouteRule { matches: rule.matches, path: rule.path })
            .collect();
        let default = routes.default.filter(|path| !path.is_empty()).or(item.route.filter(|path| !path.is_empty()));
        rules.extend(default.map(|path| RouteRule { matches: String::new(), path }));
        if rules.is_empty() {
            log.warn(format_args!("topic {} has an empty routes. removing from subscriptions list", item.topic));
            return None;
        }
        let bulk = item.bulk_subscribe.unwrap_or_default();
        Some(TopicSubscription {
            pubsub_name: item.pubsubname,
            topic: item.topic,
            metadata: item.metadata.unwrap_or_default(),
            rules,
            dead_letter_topic: item.dead_letter_topic.unwrap_or_default(),
            bulk_subscribe: BulkSubscribe {
                enabled: bulk.enabled,
                max_messages_count: bulk.max_messages_count,
                max_await_duration_ms: bulk.max_await_duration_ms,
            },
        })
    };
    Ok(items.unwrap_or_default().into_iter().filter_map(convert).collect())
}

fn from_proto(subscription: pb::TopicSubscription) -> TopicSubscription {
    let routes = subscription.routes.unwrap_or_default();
    let mut rules: Vec<RouteRule> =
        routes.rules.into_iter().map(|rule| RouteRule { matches: rule.r#match, path: rule.path }).collect();
    if !routes.default.is_empty() || rules.is_empty() {
        rules.push(RouteRule { matches: String::new(), path: routes.default });
    }
    let bulk = subscription.bulk_subscribe.unwrap_or_default();
    TopicSubscription {
        pubsub_name: subscription.pubsub_name,
        topic: subscription.topic,
        metadata: subscription.metadata.into_iter().collect(),
        rules,
        dead_letter_topic: subscription.dead_letter_topic,
        bulk_subscribe: BulkSubscribe {
            enabled: bulk.enabled,
            max_messages_count: bulk.max_messages_count,
            max_await_duration_ms: bulk.max_await_duration_ms,
        },
    }
}

struct NotAsked(String);

impl std::fmt::Display for NotAsked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failure for NotAsked {
    fn class(&self) -> FailureClass {
        FailureClass::Retriable
    }
}

/// Asks the app for its subscriptions. `policy` is the built-in one for initialization.
///
/// # Errors
/// The app could not be reached, or its answer could not be read.
pub async fn ask_app(
    channel: &AppChannel,
    app_id: &str,
    policy: &Policy,
    log: &Logger,
) -> Result<Vec<TopicSubscription>, String> {
    let log = log.scope("dapr.runtime.processor.subscription");
    match channel {
        AppChannel::Http(channel) => ask_http(channel, app_id, policy, &log).await,
        AppChannel::Grpc(channel) => ask_grpc(channel, policy, &log).await,
    }
}

async fn ask_http(
    channel: &HttpChannel,
    app_id: &str,
    policy: &Policy,
    log: &Logger,
) -> Result<Vec<TopicSubscription>, String> {
    let (status, body) = policy
        .run(async |_| {
            let response = channel.get("/dapr/subscribe", app_id).await.map_err(|error| NotAsked(error.to_string()))?;
            let status = response.status().as_u16();
            let body = response.into_body().collect(ANSWER_LIMIT).await.map_err(|error| NotAsked(error.to_string()))?;
            Ok((status, body))
        })
        .await
        .map_err(|error: PolicyError<NotAsked>| format!("error getting topic list from app: {error}"))?;
    match status {
        200 => parse_json(&body, log),
        404 => {
            log.debug("user app did not subscribe to any topic");
            Ok(Vec::new())
        }
        other => {
            log.error(format_args!("app returned http status code {other} from subscription endpoint"));
            Ok(Vec::new())
        }
    }
}

async fn ask_grpc(channel: &GrpcChannel, policy: &Policy, log: &Logger) -> Result<Vec<TopicSubscription>, String> {
    let answer = policy
        .run(async |_| {
            let mut request = tonic::Request::new(());
            channel.add_token(request.metadata_mut());
            match AppCallbackClient::new(channel.callbacks()).list_topic_subscriptions(request).await {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) if status.code() == Code::Unimplemented => {
                    log.info("pubsub subscriptions: gRPC app does not implement ListTopicSubscriptions");
                    Ok(pb::ListTopicSubscriptionsResponse::default())
                }
                Err(status) => Err(NotAsked(status.to_string())),
            }
        })
        .await
        .map_err(|error| format!("error getting topic list from app: {error}"))?;
    Ok(answer.subscriptions.into_iter().map(from_proto).collect())
}
