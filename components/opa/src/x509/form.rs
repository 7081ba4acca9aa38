//! A certificate as a policy sees it: the fields of Go's `x509.Certificate`.
//!
//! *Source:* OPA 1.4 prints that struct as JSON. *Difference:* constraints of names and policies are `null`; they are under
//! `Extensions`.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use regorus::Value;
use serde_json::{Map, Value as Json, json};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

/// Attributes of a name that have a field: identifier, field, whether it is a list.
#[rustfmt::skip] // a table
const ATTRIBUTES: &[(&str, &str, bool)] = &[
    ("2.5.4.6",  "Country",            true),
    ("2.5.4.10", "Organization",       true),
    ("2.5.4.11", "OrganizationalUnit", true),
    ("2.5.4.7",  "Locality",           true),
    ("2.5.4.8",  "Province",           true),
    ("2.5.4.9",  "StreetAddress",      true),
    ("2.5.4.17", "PostalCode",         true),
    ("2.5.4.5",  "SerialNumber",       false),
    ("2.5.4.3",  "CommonName",         false),
];
/// Numbers of Go's `x509.SignatureAlgorithm`; those of PSS are told apart by their hash, which no policy of this size asks for.
#[rustfmt::skip] // a table
const SIGNATURES: &[(&str, u8)] = &[
    ("1.2.840.113549.1.1.5",  3), ("1.2.840.113549.1.1.11", 4), ("1.2.840.113549.1.1.12", 5), ("1.2.840.113549.1.1.13", 6),
    ("1.2.840.10045.4.1",     9), ("1.2.840.10045.4.3.2",  10), ("1.2.840.10045.4.3.3",  11), ("1.2.840.10045.4.3.4",  12),
    ("1.2.840.113549.1.1.10", 13), ("1.3.101.112",         16),
];
/// Fields that are always empty here.
const EMPTY: &[&str] = &[
    "ExtraExtensions",
    "UnhandledCriticalExtensions",
    "PermittedDNSDomains",
    "ExcludedDNSDomains",
    "PermittedIPRanges",
    "ExcludedIPRanges",
    "PermittedEmailAddresses",
    "ExcludedEmailAddresses",
    "PermittedURIDomains",
    "ExcludedURIDomains",
    "PolicyIdentifiers",
    "Policies",
    "PolicyMappings",
];
/// Rules about policies of certificates, which are not read either.
const RULES: &[&str] = &["InhibitAnyPolicy", "InhibitPolicyMapping", "RequireExplicitPolicy"];

/// The first certificate of the bytes, and what follows it.
pub(super) fn parse(der: &[u8]) -> Option<(&[u8], X509Certificate<'_>)> {
    X509Certificate::from_der(der).ok()
}

/// The object; `None` for bytes that are no certificate.
pub(super) fn of(der: &[u8]) -> Option<Value> {
    let (_, certificate) = parse(der).filter(|(rest, _)| rest.is_empty())?;
    let mut fields = Map::new();
    let mut set = |name: &str, value: Json| _ = fields.insert(name.to_owned(), value);
    for name in EMPTY {
        set(name, Json::Null);
    }
    for name in RULES {
        set(name, json!(0));
        set(&format!("{name}Zero"), json!(false));
    }
    let info = certificate.public_key();
    let (key_kind, key) = public_key(info.parsed().ok(), &info.subject_public_key.data);
    set("Raw", bytes(der));
    set("RawTBSCertificate", bytes(certificate.tbs_certificate.as_ref()));
    set("RawSubjectPublicKeyInfo", bytes(info.raw));
    set("RawSubject", bytes(certificate.subject().as_raw()));
    set("RawIssuer", bytes(certificate.issuer().as_raw()));
    set("Signature", bytes(&certificate.signature_value.data));
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    set(
        "SignatureAlgorithm",
        json!(SIGNATURES.iter().find(|(id, _)| *id == algorithm).map_or(0, |(_, number)| *number)),
    );
    set("PublicKeyAlgorithm", json!(key_kind));
    set("PublicKey", key);
    set("Version", json!(certificate.version().0 + 1));
    set("SerialNumber", number(&certificate.tbs_certificate.serial));
    set("Issuer", name(certificate.issuer()));
    set("Subject", name(certificate.subject()));
    set("NotBefore", time(certificate.validity().not_before));
    set("NotAfter", time(certificate.validity().not_after));
    fields.extend(extensions(&certificate));
    // Through text, so that numbers of any length stay what they are.
    Value::from_json_str(&Json::Object(fields).to_string()).ok()
}

fn public_key(key: Option<PublicKey<'_>>, raw: &[u8]) -> (u8, Json) {
    match key {
        Some(PublicKey::RSA(key)) => {
            let exponent = key.try_exponent().unwrap_or_default();
            (1, json!({"N": number(&BigUint::from_bytes_be(key.modulus)), "E": exponent}))
        }
        Some(PublicKey::EC(point)) => {
            let numbers = point.data().get(1..).unwrap_or_default();
            let (x, y) = numbers.split_at(numbers.len() / 2);
            let number = |bytes| number(&BigUint::from_bytes_be(bytes));
            (3, json!({"Curve": {}, "X": number(x), "Y": number(y)}))
        }
        _ if raw.len() == 32 => (4, bytes(raw)),
        _ => (0, Json::Null),
    }
}

/// What the extensions say.
fn extensions(certificate: &X509Certificate<'_>) -> Map<String, Json> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Json| _ = fields.insert(name.to_owned(), value);
    for list in [
        "DNSNames",
        "EmailAddresses",
        "IPAddresses",
        "URIs",
        "URIStrings",
        "ExtKeyUsage",
        "UnknownExtKeyUsage",
        "SubjectKeyId",
        "AuthorityKeyId",
        "OCSPServer",
        "IssuingCertificateURL",
        "CRLDistributionPoints",
    ] {
        set(list, Json::Null);
    }
    for (name, value) in [
        ("KeyUsage", json!(0)),
        ("BasicConstraintsValid", json!(false)),
        ("IsCA", json!(false)),
        ("MaxPathLen", json!(0)),
        ("MaxPathLenZero", json!(false)),
        ("PermittedDNSDomainsCritical", json!(false)),
    ] {
        set(name, value);
    }
    let raw = certificate.extensions().iter().map(|extension| {
        json!({"Id": numbers(&extension.oid.to_id_string()), "Critical": extension.critical, "Value": bytes(extension.value)})
    });
    set("Extensions", list(raw.collect()));
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => set("KeyUsage", json!(usage.flags)),
            ParsedExtension::BasicConstraints(constraints) => {
                let longest = constraints.path_len_constraint.map_or(-1, i64::from);
                set("BasicConstraintsValid", json!(true));
                set("IsCA", json!(constraints.ca));
                set("MaxPathLen", json!(longest));
                set("MaxPathLenZero", json!(longest == 0));
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let known = [
                    (usage.any, 0),
                    (usage.server_auth, 1),
                    (usage.client_auth, 2),
                    (usage.code_signing, 3),
                    (usage.email_protection, 4),
                    (usage.time_stamping, 8),
                    (usage.ocsp_signing, 9),
                ];
                let known = known.iter().filter(|(is_set, _)| *is_set).map(|(_, number)| json!(number));
                set("ExtKeyUsage", list(known.collect()));
                let unknown = usage.other.iter().map(|id| numbers(&id.to_id_string()));
                set("UnknownExtKeyUsage", list(unknown.collect()));
            }
            ParsedExtension::SubjectKeyIdentifier(id) => set("SubjectKeyId", bytes(id.0)),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                set("AuthorityKeyId", id.key_identifier.as_ref().map_or(Json::Null, |id| bytes(id.0)));
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for (name, values) in alternative_names(&names.general_names) {
                    set(name, list(values));
                }
            }
            ParsedExtension::AuthorityInfoAccess(access) => {
                for (id, field) in
                    [("1.3.6.1.5.5.7.48.1", "OCSPServer"), ("1.3.6.1.5.5.7.48.2", "IssuingCertificateURL")]
                {
                    let found = access.accessdescs.iter().filter(|one| one.access_method.to_id_string() == id);
                    set(field, list(found.filter_map(|one| uri(&one.access_location)).collect()));
                }
            }
            ParsedExtension::CRLDistributionPoints(points) => {
                let names = points.points.iter().filter_map(|point| match &point.distribution_point {
                    Some(DistributionPointName::FullName(names)) => Some(names),
                    _ => None,
                });
                set("CRLDistributionPoints", list(names.flatten().filter_map(uri).collect()));
            }
            _ => {}
        }
    }
    fields
}

fn alternative_names(names: &[GeneralName<'_>]) -> [(&'static str, Vec<Json>); 5] {
    let (mut dns, mut mail, mut addresses, mut uris, mut uri_texts) = (vec![], vec![], vec![], vec![], vec![]);
    for name in names {
        match name {
            GeneralName::DNSName(name) => dns.push(json!(name)),
            GeneralName::RFC822Name(name) => mail.push(json!(name)),
            GeneralName::IPAddress(address) => addresses.extend(ip(address).map(|address| json!(address.to_string()))),
            GeneralName::URI(text) => {
                uris.push(url(text));
                uri_texts.push(json!(text));
            }
            _ => {}
        }
    }
    [("DNSNames", dns), ("EmailAddresses", mail), ("IPAddresses", addresses), ("URIs", uris), ("URIStrings", uri_texts)]
}

fn uri(name: &GeneralName<'_>) -> Option<Json> {
    match name {
        GeneralName::URI(text) => Some(json!(text)),
        _ => None,
    }
}

/// Go's `url.URL`.
fn url(text: &str) -> Json {
    let uri: Option<Uri> = text.parse().ok();
    let part = |found: Option<&str>| found.unwrap_or_default().to_owned();
    let host = uri.as_ref().and_then(|uri| uri.authority()).map(|authority| authority.as_str());
    let path = uri.as_ref().map(Uri::path).filter(|path| *path != "/" || text.ends_with('/'));
    json!({
        "Scheme": part(uri.as_ref().and_then(Uri::scheme_str)), "Opaque": "", "User": null, "Host": part(host),
        "Path": part(path), "RawPath": "", "OmitHost": false, "ForceQuery": false,
        "RawQuery": part(uri.as_ref().and_then(Uri::query)), "Fragment": "", "RawFragment": "",
    })
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn name(name: &X509Name<'_>) -> Json {
    let mut fields = Map::new();
    for (_, field, is_list) in ATTRIBUTES {
        fields.insert((*field).to_owned(), if *is_list { Json::Null } else { json!("") });
    }
    let mut names = Vec::new();
    for attribute in name.iter_attributes() {
        let id = attribute.attr_type().to_id_string();
        let Ok(value) = attribute.as_str() else { continue };
        names.push(json!({"Type": numbers(&id), "Value": value}));
        match ATTRIBUTES.iter().find(|(known, ..)| *known == id) {
            Some((_, field, true)) => match &mut fields[*field] {
                Json::Array(values) => values.push(json!(value)),
                empty => *empty = json!([value]),
            },
            Some((_, field, false)) => fields[*field] = json!(value),
            None => {}
        }
    }
    fields.insert("Names".to_owned(), list(names));
    fields.insert("ExtraNames".to_owned(), Json::Null);
    Json::Object(fields)
}

/// RFC 3339 in UTC, as Go prints it.
fn time(time: ASN1Time) -> Json {
    let time = time.to_datetime();
    let (date, clock) = (time.date(), time.time());
    json!(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    ))
}

fn numbers(id: &str) -> Json {
    id.split('.').filter_map(|part| part.parse::<u64>().ok()).collect()
}

fn number(number: &BigUint) -> Json {
    number.to_string().parse().map_or(Json::Null, Json::Number)
}

fn bytes(bytes: &[u8]) -> Json {
    json!(STANDARD.encode(bytes))
}

/// A list, or `null` for an empty one, as Go prints it.
fn list(values: Vec<Json>) -> Json {
    if values.is_empty() { Json::Null } else { Json::Array(values) }
}
