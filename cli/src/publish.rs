//! `publish`: sends a message to a topic through the sidecar of an application.

use anyhow::{Result, bail};
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};
use serde_json::Value as Json;

use crate::calls;
use crate::client::{self, Call};
use crate::command::{Command, Outcome, block_on_local};
use crate::context::Context;

/// What is encoded in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What is encoded in a path; topics may hold slashes.
const PATH: &AsciiSet = &QUERY.remove(b'/');

pub(crate) const COMMAND: Command = Command {
    name: "publish",
    arguments: "[flags]",
    about: "Publish a message to a topic",
    details: "",
    examples: "  dapr publish --publish-app-id cart --pubsub pubsub --topic orders --data '{\"id\": 1}'",
    flags: || {
        FlagSet::new()
            .with_all([
                Flag::new(Kind::Text, "publish-app-id", "", "the `id` of the application that publishes").short('i'),
                Flag::new(Kind::Text, "pubsub", "", "the `name` of the pub/sub component").short('p'),
                Flag::new(Kind::Text, "topic", "", "the `topic` to publish to").short('t'),
                Flag::new(Kind::Text, "metadata", "", "`metadata` of the message, a JSON object of texts").short('m'),
            ])
            .with_all(calls::flags())
    },
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    calls::require(parsed, &["publish-app-id", "pubsub", "topic"])?;
    let call = call(parsed)?;
    block_on_local(async {
        match publish(context, parsed, call).await {
            Ok(()) => {
                context.console.success("Event published successfully");
                Ok(0)
            }
            Err(error) => Err(error.context(format!("error publishing topic {}", parsed.text("topic")))),
        }
    })
}

fn call(parsed: &Parsed) -> Result<Call> {
    let data = calls::data(parsed, "publish")?;
    let encode = |name: &str| utf8_percent_encode(parsed.text(name), PATH).to_string();
    let path = format!("/v1.0/publish/{}/{}{}", encode("pubsub"), encode("topic"), query(parsed.text("metadata"))?);
    Ok(Call::new(Method::POST, path).header("content-type", content_type(&data)).body(data))
}

/// *Source:* the original takes an object with these members for a finished CloudEvent, everything else for JSON data.
fn content_type(data: &[u8]) -> &'static str {
    let event = serde_json::from_slice::<Json>(data).is_ok_and(|value| {
        value.as_object().is_some_and(|object| {
            ["id", "source", "specversion", "type", "data"].iter().all(|key| object.contains_key(*key))
        })
    });
    if event { "application/cloudevents+json" } else { "application/json" }
}

fn query(metadata: &str) -> Result<String> {
    if metadata.is_empty() {
        return Ok(String::new());
    }
    let Ok(Json::Object(object)) = serde_json::from_str::<Json>(metadata) else {
        bail!("the metadata {metadata:?} is not a JSON object; expected something like {{\"ttlInSeconds\": \"60\"}}");
    };
    let mut pairs = Vec::new();
    for (name, value) in &object {
        let value = match value {
            Json::String(text) => text.clone(),
            Json::Array(_) | Json::Object(_) => {
                bail!("the value of {name:?} in the metadata is neither a text nor a number")
            }
            other => other.to_string(),
        };
        pairs.push(format!("metadata.{}={}", utf8_percent_encode(name, QUERY), utf8_percent_encode(&value, QUERY)));
    }
    Ok(format!("?{}", pairs.join("&")))
}

async fn publish(context: &Context, parsed: &Parsed, call: Call) -> Result<()> {
    let endpoint = calls::sidecar(context, parsed, parsed.text("publish-app-id")).await?;
    let answer = client::send(&endpoint, context.with_token(call), parsed.duration("timeout")).await?;
    if !answer.status.is_success() {
        bail!("{}", calls::refusal(&answer));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Parsed {
        (COMMAND.flags)().parse(arguments.iter().copied()).unwrap()
    }

    #[test]
    fn the_call_of_a_publication() {
        let call = call(&parsed(&["-p", "ps", "-t", "a/b c", "-d", "417", "-m", r#"{"ttlInSeconds": 5, "x": "y&z"}"#]))
            .unwrap();
        assert_eq!(call.path, "/v1.0/publish/ps/a/b%20c?metadata.ttlInSeconds=5&metadata.x=y%26z");
        assert_eq!(call.headers, [("content-type".to_owned(), "application/json".to_owned())]);
        assert_eq!(&call.body[..], b"417");
    }

    #[test]
    fn a_finished_event_has_its_own_content_type() {
        let event = br#"{"id":"1","source":"s","specversion":"1.0","type":"t","data":1}"#;
        assert_eq!(content_type(event), "application/cloudevents+json");
        assert_eq!(content_type(br#"{"id":"1"}"#), "application/json");
        assert_eq!(content_type(b"not json"), "application/json");
    }

    #[test]
    fn wrong_data_and_metadata_are_named() {
        let error = |arguments: &[&str]| call(&parsed(arguments)).unwrap_err().to_string();
        assert_eq!(
            error(&["-d", "x", "-f", "y"]),
            "Only one of --data and --data-file allowed in the same publish command"
        );
        assert!(error(&["-f", "/no/such"]).contains("/no/such"));
        assert!(error(&["-m", "[1]"]).contains("not a JSON object"));
        assert!(error(&["-m", "{\"a\": {}}"]).contains("\"a\""));
    }
}
