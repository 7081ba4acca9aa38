//! HPACK against the examples of RFC 7541 appendix C, itself, and what is no HPACK.

use http::{HeaderMap, HeaderValue, Request, StatusCode};
use proptest::prelude::*;

use super::{Decoder, Encoder, huffman};
use crate::error::Reason;
use crate::head::Head;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Head, Reason> {
    let mut head = Head::new(1 << 20);
    decoder.decode(block, &mut head).map(|()| head)
}

fn request(decoder: &mut Decoder, hex: &str) -> Request<()> {
    decoded(decoder, &bytes(hex)).unwrap().into_request().unwrap()
}

/// C.3 (plain) and C.4 (Huffman).
#[test]
fn requests_of_the_rfc() {
    let plain = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    let huffman = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    for hex in [plain, huffman] {
        let mut decoder = Decoder::new();
        assert_eq!(*request(&mut decoder, hex[0]).uri(), "http://www.example.com/");
        let second = request(&mut decoder, hex[1]);
        assert_eq!(
            (second.uri().to_string().as_str(), &second.headers()["cache-control"]),
            ("http://www.example.com/", &HeaderValue::from_static("no-cache"))
        );
        let third = request(&mut decoder, hex[2]);
        assert_eq!(*third.uri(), "https://www.example.com/index.html");
        assert_eq!(third.headers()["custom-key"], "custom-value");
    }
}

/// C.5 and C.6, whose table is of 256 bytes, so that entries leave it.
#[test]
fn responses_of_the_rfc() {
    let plain = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ];
    let huffman = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ];
    for hex in [plain, huffman] {
        let mut decoder = Decoder::new();
        decoded(&mut decoder, &bytes("3fe101")).unwrap(); // 256
        let first = decoded(&mut decoder, &bytes(hex[0])).unwrap().into_response().unwrap();
        assert_eq!(
            (first.status(), &first.headers()["location"]),
            (StatusCode::FOUND, &HeaderValue::from_static("https://www.example.com"))
        );
        let second = decoded(&mut decoder, &bytes(hex[1])).unwrap().into_response().unwrap();
        assert_eq!((second.status(), second.headers()), (StatusCode::TEMPORARY_REDIRECT, first.headers()));
        let third = decoded(&mut decoder, &bytes(hex[2])).unwrap().into_response().unwrap();
        assert_eq!(third.status(), StatusCode::OK);
        assert_eq!(third.headers()["set-cookie"], "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
        assert_eq!(third.headers()["date"], "Mon, 21 Oct 2013 20:13:22 GMT");
    }
}

#[test]
fn what_is_no_hpack_is_refused() {
    for hex in [
        "80",                 // index 0
        "be",                 // index past the table
        "ffffffffff0f",       // a number past all
        "ff",                 // cut
        "4003",               // a name without its bytes
        "40036162638201",     // a value without its bytes
        "823fe101",           // a size update after a field
        "3fe21f",             // a table of more than 4096
        "400161 84 ffffffff", // Huffman: the end symbol
        "400161 81 00",       // Huffman: padding of zeros
        "400161 82 1fff",     // Huffman: padding of more than 7 bits
    ] {
        let refused = decoded(&mut Decoder::new(), &bytes(hex));
        assert_eq!(refused.err(), Some(Reason::COMPRESSION_ERROR), "{hex}");
    }
}

#[test]
fn fields_that_come_again_are_a_byte_each() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    let build = |timeout: &str| {
        Request::post("http://app.example:1234/package.Service/Method")
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("user-agent", "pillion")
            .header("grpc-timeout", timeout)
            .header("authorization", "secret")
            .body(())
            .unwrap()
    };
    let mut lengths = Vec::new();
    for timeout in ["1S", "2S", "3S", "4S"] {
        let mut out = Vec::new();
        encoder.request(&build(timeout), &mut out);
        lengths.push(out.len());
        let request = decoded(&mut decoder, &out).unwrap().into_request().unwrap();
        assert_eq!(
            (request.uri(), request.headers()["grpc-timeout"].to_str().unwrap()),
            (build(timeout).uri(), timeout)
        );
        assert!(request.headers()["authorization"].is_sensitive());
    }
    assert!(lengths[2] < 40 && lengths[2] == lengths[3], "{lengths:?}");
}

#[test]
fn a_peer_without_table_gets_none() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("b"));
    let mut say = |encoder: &mut Encoder| {
        let mut out = Vec::new();
        encoder.trailers(&headers, &mut out);
        assert_eq!(decoded(&mut decoder, &out).unwrap().into_trailers().unwrap(), headers);
        out.len()
    };
    let long = say(&mut encoder);
    say(&mut encoder);
    assert_eq!(say(&mut encoder), 1);
    encoder.resize(0);
    assert_eq!(say(&mut encoder), long + 1);
    assert_eq!((say(&mut encoder), say(&mut encoder)), (long, long));
    encoder.resize(100);
    encoder.resize(0);
    encoder.resize(4096);
    assert_eq!(say(&mut encoder), long + 1 + 3, "the smallest size, then the last");
    assert_eq!(say(&mut encoder), 1);
}

#[test]
fn lists_past_the_limit_are_counted_and_far_past_it_the_end() {
    let mut out = Vec::new();
    let mut headers = HeaderMap::new();
    for _ in 0..10 {
        headers.append("x-a", HeaderValue::from_static("0123456789"));
    }
    Encoder::new().trailers(&headers, &mut out);
    let mut head = Head::new(400);
    Decoder::new().decode(&out, &mut head).unwrap();
    assert!(head.is_oversize());
    let mut head = Head::new(100);
    assert_eq!(Decoder::new().decode(&out, &mut head), Err(Reason::ENHANCE_YOUR_CALM));
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        "[a-z][a-z0-9-]{0,12}",
        Just("content-type".to_owned()),
        Just("cookie".to_owned()),
        Just("grpc-timeout".to_owned())
    ];
    prop::collection::vec((name, prop_oneof!["[ -~]{0,20}", "[a-b]", "[ -~]{100,300}"]), 0..30)
}

proptest! {
    #[test]
    fn huffman_comes_back(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut coded, mut back) = (Vec::new(), Vec::new());
        huffman::tests::encode(&text, &mut coded);
        huffman::decode(&coded, &mut back).unwrap();
        prop_assert_eq!(back, text);
    }

    #[test]
    fn blocks_come_back(blocks in prop::collection::vec((fields(), prop::option::of(0usize..6000)), 1..12)) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new();
        for (fields, size) in blocks {
            if let Some(size) = size {
                encoder.resize(size);
            }
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                if !matches!(name.as_str(), "te" | "upgrade" | "connection") {
                    headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.trim().parse().unwrap());
                }
            }
            let mut out = Vec::new();
            encoder.trailers(&headers, &mut out);
            let back = decoded(&mut decoder, &out).unwrap().into_trailers().unwrap();
            prop_assert_eq!(back, headers);
        }
    }

    #[test]
    fn anything_can_be_decoded_or_refused(block in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::new();
        let _ = decoded(&mut decoder, &block);
        let _ = decoded(&mut decoder, &block);
    }
}
