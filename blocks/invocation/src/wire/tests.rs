use pillion_proto::internals::v1 as internals;
use prost::Message;

use super::*;

fn request() -> InvokeRequest {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.append("x-many", HeaderValue::from_static("a"));
    headers.append("x-many", HeaderValue::from_static("b"));
    InvokeRequest {
        method: "orders/new".into(),
        verb: Method::PUT,
        query: "a=1".into(),
        headers,
        ..InvokeRequest::default()
    }
}

fn message(frame: Bytes) -> Bytes {
    let mut reader = FrameReader::default();
    reader.push(frame);
    let message = reader.next(0).unwrap().unwrap();
    assert!(reader.is_empty());
    message
}

#[test]
fn generated_code_reads_what_we_write() {
    let frame = first_request_frame(&request(), &[("dapr-caller-app-id", "cart")], Some(&Bytes::from("body")));
    let decoded = internals::InternalInvokeRequestStream::decode(message(frame)).unwrap();
    let inner = decoded.request.unwrap();
    assert_eq!(inner.ver, 1);
    assert_eq!(inner.metadata["X-Many"].values, ["a", "b"]);
    assert_eq!(inner.metadata["Content-Type"].values, ["application/json"]);
    assert_eq!(inner.metadata["dapr-caller-app-id"].values, ["cart"]);
    let call = inner.message.unwrap();
    assert_eq!((call.method.as_str(), call.content_type.as_str()), ("orders/new", "application/json"));
    let extension = call.http_extension.unwrap();
    assert_eq!((extension.verb, extension.querystring.as_str()), (4, "a=1"));
    let payload = decoded.payload.unwrap();
    assert_eq!((payload.data.as_ref(), payload.seq), (b"body".as_ref(), 0));
}

#[test]
fn requests_survive_a_round_trip() {
    let chunk =
        decode_request(message(first_request_frame(&request(), &[("dapr-caller-app-id", "cart")], None))).unwrap();
    let decoded = chunk.request.unwrap();
    assert!(chunk.payload.is_none());
    assert_eq!((decoded.method.as_str(), decoded.query.as_str(), &decoded.verb), ("orders/new", "a=1", &Method::PUT));
    assert_eq!(decoded.headers.get_all("x-many").iter().count(), 2);
    assert_eq!(decoded.headers["dapr-caller-app-id"], "cart");
}

#[test]
fn responses_survive_a_round_trip_in_both_codecs() {
    let mut headers = HeaderMap::new();
    headers.insert("x-one", HeaderValue::from_static("1"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let response = InvokeResponse {
        status: AppStatus::Http(404),
        status_message: String::new(),
        status_details: vec![Any { type_url: "x/a".into(), value: Bytes::from("1") }, Any::from_bytes("2")],
        headers,
        body: Body::empty(),
        data_type_url: String::new(),
    };
    let bytes = message(first_response_frame(&response, Some(&Bytes::from("gone"))));
    let generated = internals::InternalInvokeResponseStream::decode(bytes.clone()).unwrap();
    let status = generated.response.as_ref().unwrap().status.as_ref().unwrap();
    assert_eq!((status.code, &status.details), (404, &response.status_details));
    assert_eq!(generated.response.unwrap().message.unwrap().content_type, "text/plain");
    let chunk = decode_response(bytes).unwrap();
    let decoded = chunk.response.unwrap();
    assert_eq!((decoded.status, &decoded.status_details), (AppStatus::Http(404), &response.status_details));
    assert_eq!(decoded.headers["x-one"], "1");
    assert_eq!(decoded.content_type(), "text/plain");
    assert_eq!(chunk.payload.unwrap().data, "gone");
}

#[test]
fn later_frames_carry_their_number() {
    let chunk = decode_response(message(payload_frame(&Bytes::from("x"), 7))).unwrap();
    assert!(chunk.response.is_none());
    assert_eq!(chunk.payload, Some(Payload { data: Bytes::from("x"), seq: 7 }));
}

#[test]
fn frames_are_cut_wherever_the_bytes_are_split() {
    let frame = payload_frame(&Bytes::from("hello"), 1);
    let both = [frame.as_ref(), frame.as_ref()].concat();
    for split in 0..both.len() {
        let mut reader = FrameReader::default();
        reader.push(Bytes::copy_from_slice(&both[..split]));
        let mut found = 0;
        while reader.next(0).unwrap().is_some() {
            found += 1;
        }
        reader.push(Bytes::copy_from_slice(&both[split..]));
        while reader.next(0).unwrap().is_some() {
            found += 1;
        }
        assert_eq!(found, 2, "split at {split}");
        assert!(reader.is_empty());
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let frame = message(first_request_frame(&request(), &[("a", "b")], Some(&Bytes::from("body"))));
    for index in 0..frame.len() {
        for value in [0u8, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = frame.to_vec();
            bytes[index] = value;
            let _ = decode_request(Bytes::from(bytes.clone())); // only that it returns
            let _ = decode_response(Bytes::from(bytes)); // as above
        }
        let _ = decode_request(frame.slice(..index)); // as above
    }
}

#[test]
fn a_frame_over_the_limit_is_refused() {
    let mut reader = FrameReader::default();
    reader.push(payload_frame(&Bytes::from(vec![0; 100]), 0));
    assert!(reader.next(10).unwrap_err().to_string().contains("larger than max"));
}

#[test]
fn an_empty_last_frame_is_not_the_start_of_a_message() {
    let mut reader = FrameReader::default();
    reader.push(payload_frame(&Bytes::from_static(b"abc"), 0));
    assert!(reader.next(0).unwrap().is_some());
    reader.push(Bytes::new());
    assert!(reader.is_empty() && reader.next(0).unwrap().is_none());
}

#[test]
fn an_event_of_the_original_is_no_leading_message() {
    // Source: `streamResponseWriter.Flush` of the original sets an empty response in all messages but the first.
    let payload = pillion_proto::common::v1::StreamPayload { data: "data: 1\n\n".into(), seq: 3 };
    let response = Some(internals::InternalInvokeResponse::default());
    let event = internals::InternalInvokeResponseStream { response, payload: Some(payload) };
    let chunk = decode_response(event.encode_to_vec().into()).unwrap();
    assert!(chunk.response.is_none());
    assert_eq!(chunk.payload.unwrap().seq, 3);
}
