//! The one question of gRPC server reflection that is needed: which services are there?
//!
//! The messages are written by hand, cut to that question. *Source:* `grpc/reflection/v1alpha/reflection.proto`; `v1` is the
//! same under another name, and some servers have only that.

use http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

#[derive(Clone, PartialEq, prost::Message)]
struct ServerReflectionRequest {
    #[prost(oneof = "Question", tags = "7")]
    question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Question {
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ServerReflectionResponse {
    #[prost(oneof = "Answer", tags = "6, 7")]
    answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answer {
    #[prost(message, tag = "6")]
    Services(ListServiceResponse),
    #[prost(message, tag = "7")]
    Error(ErrorResponse),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListServiceResponse {
    #[prost(message, repeated, tag = "1")]
    service: Vec<ServiceResponse>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ServiceResponse {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ErrorResponse {
    #[prost(int32, tag = "1")]
    error_code: i32,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// The full names of the services of a server.
///
/// # Errors
/// The server's status; `Unimplemented` when it has no reflection.
pub(crate) async fn list_services(channel: &Channel) -> Result<Vec<String>, Status> {
    match ask(channel, V1ALPHA).await {
        Err(status) if status.code() == Code::Unimplemented => ask(channel, V1).await,
        answered => answered,
    }
}

async fn ask(channel: &Channel, path: &'static str) -> Result<Vec<String>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    // `*` is what other clients send; servers do not look at it.
    let question = ServerReflectionRequest { question: Some(Question::ListServices("*".to_owned())) };
    let request = Request::new(tokio_stream::iter([question]));
    let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let response = client.streaming(request, PathAndQuery::from_static(path), codec).await?;
    let answer = response.into_inner().message().await?.and_then(|response| response.answer);
    match answer {
        Some(Answer::Services(list)) => Ok(list.service.into_iter().map(|service| service.name).collect()),
        Some(Answer::Error(error)) => Err(Status::new(Code::from_i32(error.error_code), error.error_message)),
        None => Err(Status::internal("the server ended the stream without an answer")),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_messages_have_the_specified_bytes() {
        let question = ServerReflectionRequest { question: Some(Question::ListServices("*".to_owned())) };
        assert_eq!(question.encode_to_vec(), b"\x3a\x01*");
        // valid_host = "h" and original_request are skipped
        let wire = b"\x0a\x01h\x12\x03\x3a\x01*\x32\x05\x0a\x03\x0a\x01S";
        let answer = ServerReflectionResponse::decode(wire.as_slice()).unwrap().answer;
        let service = vec![ServiceResponse { name: "S".to_owned() }];
        assert_eq!(answer, Some(Answer::Services(ListServiceResponse { service })));
        let wire = b"\x3a\x06\x08\x0c\x12\x02no";
        let answer = ServerReflectionResponse::decode(wire.as_slice()).unwrap().answer;
        assert_eq!(answer, Some(Answer::Error(ErrorResponse { error_code: 12, error_message: "no".to_owned() })));
    }
}
