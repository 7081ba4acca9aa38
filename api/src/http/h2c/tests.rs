use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    pairs.iter().map(pair).collect()
}

#[test]
fn an_offer_needs_all_three_headers_and_settings_that_can_be_used() {
    const SETTINGS: &str = "AAMAAABkAARAAAAAAAIAAAAA";
    let settings = |connection: &str, upgrade: &str, settings: &[&str]| {
        let mut all = headers(&[("connection", connection), ("upgrade", upgrade)]);
        for value in settings {
            all.append(HTTP2_SETTINGS, value.parse().unwrap());
        }
        super::settings(&all)
    };
    let usual = settings("Upgrade, HTTP2-Settings", "h2c", &[SETTINGS]).unwrap();
    assert_eq!(usual, b"\0\x03\0\0\0\x64\0\x04\x40\0\0\0\0\x02\0\0\0\0");
    assert!(settings("http2-settings", "websocket , H2C", &[SETTINGS]).is_some());
    assert_eq!(settings("Upgrade, HTTP2-Settings", "h2c", &[""]), Some(Vec::new()));
    for (connection, upgrade, values) in [
        ("Upgrade", "h2c", &[SETTINGS][..]),
        ("Upgrade, HTTP2-Settings", "websocket", &[SETTINGS]),
        ("Upgrade, HTTP2-Settings", "h2", &[SETTINGS]),
        ("Upgrade, HTTP2-Settings", "h2c", &[]),
        ("Upgrade, HTTP2-Settings", "h2c", &[SETTINGS, SETTINGS]),
        ("Upgrade, HTTP2-Settings", "h2c", &["not/base64url"]),
        ("Upgrade, HTTP2-Settings", "h2c", &["AAMAAABkAA"]),
        // A push that is neither on nor off, a window and a frame that are too large, a frame that is too small.
        ("Upgrade, HTTP2-Settings", "h2c", &["AAIAAAAC"]),
        ("Upgrade, HTTP2-Settings", "h2c", &["AASAAAAA"]),
        ("Upgrade, HTTP2-Settings", "h2c", &["AAUBAAAA"]),
        ("Upgrade, HTTP2-Settings", "h2c", &["AAUAAAAA"]),
    ] {
        assert_eq!(settings(connection, upgrade, values), None, "{connection} {upgrade} {values:?}");
    }
}

async fn begun(sent: &[u8], settings: &[u8]) -> Result<Vec<u8>, io::ErrorKind> {
    let mut stream = sent;
    let read = begin(&mut stream, settings).await.map_err(|error| error.kind())?;
    Ok([&read, stream].concat())
}

#[tokio::test]
async fn the_server_reads_one_settings_frame_and_then_stream_one() {
    let sent = [&PREFACE[..], b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\x01\0\0", b"\0\0\0\x04\x01\0\0\0\0"].concat();
    let read = begun(&sent, b"\0\x03\0\0\0\x64").await.unwrap();
    let expected = [
        &PREFACE[..],
        b"\0\0\x0c\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x01\0\0",
        b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84",
        b"\0\0\0\x04\x01\0\0\0\0",
    ]
    .concat();
    assert_eq!(read, expected);
    let empty = [&PREFACE[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
    let read = begun(&empty, b"").await.unwrap();
    assert_eq!(read[empty.len()..], *b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84");
    let long = [&PREFACE[..], b"\0\x40\0\x04\0\0\0\0\0", &[0; FRAME_BYTES_MAX]].concat();
    let read = begun(&long, b"\0\x03\0\0\0\x64").await.unwrap();
    assert_eq!(read[..long.len()], long, "both together would be too long");
}

#[tokio::test]
async fn what_is_no_preface_is_refused() {
    let with = |head: &[u8]| [&PREFACE[..], head].concat();
    for sent in [
        b"GET /v1.0/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        with(b"\0\0\0\x04\x01\0\0\0\0"),
        with(b"\0\0\0\x04\0\0\0\0\x01"),
        with(b"\0\0\0\x01\0\0\0\0\0"),
        with(b"\0\x40\x01\x04\0\0\0\0\0"),
    ] {
        assert_eq!(begun(&sent, b"").await, Err(io::ErrorKind::InvalidData), "{sent:?}");
    }
    assert_eq!(begun(&PREFACE[..20], b"").await, Err(io::ErrorKind::UnexpectedEof));
}
