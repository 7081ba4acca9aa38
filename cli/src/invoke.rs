//! `invoke`: calls a method of an application through its sidecar.

use anyhow::{Context as _, Result, bail};
use http::Method;
use pillion_core::flags::{Flag, FlagSet, Kind, Parsed};

use crate::client::{self, Answer, Call};
use crate::command::{Command, Outcome, block_on_local};
use crate::context::Context;
use crate::{calls, console};

pub(crate) const COMMAND: Command = Command {
    name: "invoke",
    arguments: "[flags]",
    about: "Call a method of an application",
    details: "",
    examples: "  dapr invoke --app-id cart --method items --data '{\"id\": 1}'\n  dapr invoke --app-id cart --method items --verb GET",
    flags: || {
        FlagSet::new()
            .with_all([
                Flag::new(Kind::Text, "app-id", "", "the `id` of the application to call").short('a'),
                Flag::new(Kind::Text, "method", "", "the `method` to call").short('m'),
                Flag::new(Kind::Text, "verb", "POST", "the HTTP `verb`").short('v'),
                Flag::new(Kind::Repeated, "header", "", "a `header` \"name: value\"; may be given several times")
                    .short('H'),
            ])
            .with_all(calls::flags())
    },
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    calls::require(parsed, &["app-id", "method"])?;
    let app_id = parsed.text("app-id");
    let call = call(parsed)?;
    block_on_local(async {
        match invoke(context, parsed, app_id, call).await {
            Ok(answer) => {
                if !answer.body.is_empty() {
                    console::output_bytes(&[&answer.body[..], b"\n"].concat());
                }
                context.console.success("App invoked successfully");
                Ok(0)
            }
            Err(error) => Err(error.context(format!("error invoking app {app_id}"))),
        }
    })
}

fn call(parsed: &Parsed) -> Result<Call> {
    let verb = parsed.text("verb").to_uppercase();
    let method = Method::from_bytes(verb.as_bytes()).with_context(|| format!("{verb:?} is not an HTTP verb"))?;
    let path =
        format!("/v1.0/invoke/{}/method/{}", parsed.text("app-id"), parsed.text("method").trim_start_matches('/'));
    let mut call = Call::new(method, path);
    let mut typed = false;
    for header in parsed.list("header") {
        let Some((name, value)) = header.split_once(':') else {
            bail!("the header {header:?} has no colon; expected \"name: value\"");
        };
        typed |= name.trim().eq_ignore_ascii_case("content-type");
        call = call.header(name.trim(), value.trim());
    }
    if !typed {
        call = call.header("content-type", "application/json");
    }
    Ok(call.body(calls::data(parsed, "invoke")?))
}

async fn invoke(context: &Context, parsed: &Parsed, app_id: &str, call: Call) -> Result<Answer> {
    let endpoint = calls::sidecar(context, parsed, app_id).await?;
    let answer = client::send(&endpoint, context.with_token(call), parsed.duration("timeout")).await?;
    if !answer.status.is_success() {
        bail!("{}", calls::refusal(&answer));
    }
    Ok(answer)
}
