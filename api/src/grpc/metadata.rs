//! The metadata of a sidecar as a gRPC message.

use pillion_core::duration::format_go;
use pillion_proto::runtime::v1 as pb;

use crate::runtime_info::{AppConnection, PLACEMENT_DISCONNECTED, RuntimeMetadata, SubscriptionInfo};

pub(super) fn to_message(metadata: RuntimeMetadata) -> pb::GetMetadataResponse {
    let component = |component: crate::runtime_info::ComponentInfo| pb::RegisteredComponents {
        name: component.name,
        r#type: component.component_type,
        version: component.version,
        capabilities: component.capabilities,
    };
    pb::GetMetadataResponse {
        id: metadata.id,
        registered_components: metadata.components.into_iter().map(component).collect(),
        extended_metadata: metadata.extended.into_iter().collect(),
        subscriptions: metadata.subscriptions.into_iter().map(subscription).collect(),
        http_endpoints: metadata.http_endpoints.into_iter().map(|name| pb::MetadataHttpEndpoint { name }).collect(),
        app_connection_properties: Some(metadata.app_connection.map(app_connection).unwrap_or_default()),
        runtime_version: metadata.runtime_version,
        enabled_features: metadata.enabled_features,
        actor_runtime: Some(pb::ActorRuntime {
            runtime_status: pb::actor_runtime::ActorRuntimeStatus::Disabled.into(),
            placement: PLACEMENT_DISCONNECTED.to_owned(),
            ..Default::default()
        }),
        mcp_servers: metadata.mcp_servers.into_iter().map(|name| pb::MetadataMcpServer { name }).collect(),
        workflow_access_policies: metadata
            .workflow_access_policies
            .into_iter()
            .map(|name| pb::MetadataWorkflowAccessPolicy { name })
            .collect(),
        resiliencies: metadata.resiliencies.into_iter().map(|name| pb::MetadataResiliency { name }).collect(),
        // There even without a worker.
        workflows: Some(pb::MetadataWorkflows::default()),
        ..Default::default()
    }
}

fn subscription(subscription: SubscriptionInfo) -> pb::PubsubSubscription {
    let rules = subscription
        .rules
        .into_iter()
        .map(|rule| pb::PubsubSubscriptionRule { r#match: rule.matches, path: rule.path });
    pb::PubsubSubscription {
        pubsub_name: subscription.pubsub_name,
        topic: subscription.topic,
        metadata: subscription.metadata.into_iter().collect(),
        rules: Some(pb::PubsubSubscriptionRules { rules: rules.collect() }),
        dead_letter_topic: subscription.dead_letter_topic,
        r#type: pb::PubsubSubscriptionType::from_str_name(subscription.kind)
            .unwrap_or(pb::PubsubSubscriptionType::Unknown)
            .into(),
    }
}

fn app_connection(connection: AppConnection) -> pb::AppConnectionProperties {
    let health = connection.health.map(|(path, interval, timeout, threshold)| pb::AppConnectionHealthProperties {
        health_check_path: path,
        health_probe_interval: format_go(interval),
        health_probe_timeout: format_go(timeout),
        health_threshold: i32::try_from(threshold).unwrap_or(i32::MAX),
    });
    pb::AppConnectionProperties {
        port: i32::from(connection.port),
        protocol: connection.protocol,
        channel_address: connection.channel_address,
        max_concurrency: connection.max_concurrency,
        health,
    }
}
