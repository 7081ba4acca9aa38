//! What mDNS messages mean here: an app's sidecar as a service whose type is the app id.
//!
//! *Job:* builds announcements, answers and questions, reads the sidecars out of responses. *Neighbours:* `message` has the
//! bytes, `engine` decides when. *Invariant:* pure functions; every response carries PTR, SRV, TXT and address together, which
//! the original needs to see in one message.
//!
//! *Source:* components-contrib nameresolution/mdns over its zeroconf library: service `<app id>.local.`, TXT the app id.

use std::net::{IpAddr, SocketAddr};

use super::message::{CLASS_IN, Data, Message, Name, Question, Record, TOP_BIT, TYPE_PTR};

/// Life of the service records in caches of others, in seconds.
const TTL: u32 = 3200;
/// Life of the address records (RFC 6762 §10).
const ADDRESS_TTL: u32 = 120;
/// The name that asks for all service types.
const ENUMERATION: &str = "_services._dns-sd._udp.local";
/// Room for process id and port in the label of an instance.
const HOST_NAME_MAX: usize = 40;

/// A sidecar as others find it.
#[derive(Clone, Debug)]
pub(super) struct Service {
    app_id: String,
    service: Name,
    instance: Name,
    target: Name,
    enumeration: Name,
    address: SocketAddr,
}

/// A sidecar seen in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) app_id: String,
    pub(super) address: SocketAddr,
    /// Whether the message withdraws it.
    pub(super) is_goodbye: bool,
}

/// The service name of an app.
///
/// # Errors
/// A text for an app id that is no DNS name.
pub(super) fn service_name(app_id: &str) -> Result<Name, String> {
    Name::parse(&format!("{}.local", app_id.trim_matches('.')))
}

/// The question for all sidecars of a service.
pub(super) fn question(service: Name) -> Message {
    Message { questions: vec![Question { name: service, kind: TYPE_PTR, class: CLASS_IN }], ..Message::default() }
}

impl Service {
    /// `host_name` and `process_id` make the instance name together with the port. The original leaves the port out; with
    /// it, two sidecars of one process, or of two containers that share a host name, stay two.
    ///
    /// # Errors
    /// A text for an app id that is no DNS name.
    pub(super) fn new(app_id: &str, address: SocketAddr, host_name: &str, process_id: u32) -> Result<Self, String> {
        let service = service_name(app_id)?;
        if app_id.len() > 255 {
            return Err(format!("app id {app_id:?} is longer than 255 bytes, the limit of a TXT record"));
        }
        let mut host: String = host_name.split('.').next().unwrap_or_default().chars().filter(char::is_ascii).collect();
        host.truncate(HOST_NAME_MAX);
        let port = address.port();
        let instance = service.child(&format!("{host}:{process_id}:{port}"));
        if instance.wire_len() > 255 {
            return Err(format!("app id {app_id:?} is too long to be announced by mDNS"));
        }
        // Not the host name itself: its address belongs to the machine's own responder.
        let target = Name::parse("local")?.child(&format!("{host}-{process_id}-{port}"));
        Ok(Self {
            app_id: app_id.to_owned(),
            service,
            instance,
            target,
            enumeration: Name::parse(ENUMERATION)?,
            address,
        })
    }

    pub(super) fn app_id(&self) -> &str {
        &self.app_id
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The unasked response at the start.
    pub(super) fn announcement(&self) -> Message {
        self.everything(TTL, ADDRESS_TTL)
    }

    /// The unasked response at the end.
    pub(super) fn goodbye(&self) -> Message {
        self.everything(0, 0)
    }

    /// The response to a query, if any of its questions is about this service.
    pub(super) fn answer(&self, query: &Message) -> Option<Message> {
        if query.is_response || !query.authorities.is_empty() {
            return None; // a response, or the probe of somebody who looks for a free name
        }
        let mut response = Message { is_response: true, ..Message::default() };
        for question in &query.questions {
            if question.name.matches(&self.service) && !self.is_known(query) {
                response.answers.push(self.pointer(TTL));
                response.additionals = vec![self.location(TTL, 0), self.text(TTL, 0), self.host(ADDRESS_TTL, 0)];
            } else if question.name.matches(&self.instance) || question.name.matches(&self.target) {
                return Some(Message { id: query.id, ..self.everything(TTL, ADDRESS_TTL) });
            } else if question.name.matches(&self.enumeration) {
                response.answers.push(self.enumerated(TTL));
            }
        }
        (!response.answers.is_empty()).then_some(Message { id: query.id, ..response })
    }

    /// Whether the asker has this sidecar already (RFC 6762 §7.1).
    fn is_known(&self, query: &Message) -> bool {
        let known = |record: &Record| {
            record.ttl >= TTL / 2 && matches!(&record.data, Data::Ptr(name) if name.matches(&self.instance))
        };
        query.answers.iter().any(known)
    }

    fn everything(&self, ttl: u32, address_ttl: u32) -> Message {
        let answers = vec![
            self.location(ttl, TOP_BIT),
            self.text(ttl, TOP_BIT),
            self.pointer(ttl),
            self.enumerated(ttl),
            self.host(address_ttl, TOP_BIT),
        ];
        Message { is_response: true, answers, ..Message::default() }
    }

    fn pointer(&self, ttl: u32) -> Record {
        Record { name: self.service.clone(), class: CLASS_IN, ttl, data: Data::Ptr(self.instance.clone()) }
    }

    fn enumerated(&self, ttl: u32) -> Record {
        Record { name: self.enumeration.clone(), class: CLASS_IN, ttl, data: Data::Ptr(self.service.clone()) }
    }

    fn location(&self, ttl: u32, flush: u16) -> Record {
        let data = Data::Srv { port: self.address.port(), target: self.target.clone() };
        Record { name: self.instance.clone(), class: CLASS_IN | flush, ttl, data }
    }

    fn text(&self, ttl: u32, flush: u16) -> Record {
        let data = Data::Txt(vec![self.app_id.as_bytes().into()]);
        Record { name: self.instance.clone(), class: CLASS_IN | flush, ttl, data }
    }

    fn host(&self, ttl: u32, flush: u16) -> Record {
        let data = match self.address.ip() {
            IpAddr::V4(address) => Data::A(address),
            IpAddr::V6(address) => Data::Aaaa(address),
        };
        Record { name: self.target.clone(), class: CLASS_IN | flush, ttl, data }
    }
}

/// The sidecars a response tells of: instances whose TXT is the app id their name ends in. Of several addresses of one
/// family the first counts, as in the original.
pub(super) fn sightings(message: &Message) -> Vec<Sighting> {
    let mut found = Vec::new();
    if !message.is_response {
        return found;
    }
    for record in message.records() {
        let Data::Srv { port, target } = &record.data else { continue };
        let Some(app_id) = message.records().find_map(|text| text_of(text, &record.name)) else { continue };
        if !service_name(app_id).is_ok_and(|service| record.name.is_below(&service)) {
            continue;
        }
        let (mut v4, mut v6) = (None, None);
        for host in message.records().filter(|host| host.name.matches(target)) {
            match host.data {
                Data::A(address) => _ = v4.get_or_insert(IpAddr::V4(address)),
                Data::Aaaa(address) => _ = v6.get_or_insert(IpAddr::V6(address)),
                _ => {}
            }
        }
        for address in [v4, v6].into_iter().flatten() {
            let address = SocketAddr::new(address, *port);
            found.push(Sighting { app_id: app_id.to_owned(), address, is_goodbye: record.ttl == 0 });
        }
    }
    found
}

fn text_of<'a>(record: &'a Record, instance: &Name) -> Option<&'a str> {
    match &record.data {
        Data::Txt(texts) if record.name.matches(instance) => {
            texts.first().and_then(|text| std::str::from_utf8(text).ok())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(app_id: &str, address: &str) -> Service {
        Service::new(app_id, address.parse().unwrap(), "box.example.org", 42).unwrap()
    }

    fn sighting(app_id: &str, address: &str, is_goodbye: bool) -> Sighting {
        Sighting { app_id: app_id.to_owned(), address: address.parse().unwrap(), is_goodbye }
    }

    #[test]
    fn an_app_is_a_service_type_of_its_own() {
        let shop = service("shop", "10.0.0.1:50002");
        let answer = shop.answer(&question(service_name("shop").unwrap())).unwrap();
        let name = |text: &str| Name::parse(text).unwrap();
        let instance = name("box:42:50002.shop.local");
        assert_eq!(
            answer.answers,
            [Record { name: name("shop.local"), class: 1, ttl: 3200, data: Data::Ptr(instance.clone()) }]
        );
        let target = name("box-42-50002.local");
        let wanted = [
            Record {
                name: instance.clone(),
                class: 1,
                ttl: 3200,
                data: Data::Srv { port: 50002, target: target.clone() },
            },
            Record { name: instance, class: 1, ttl: 3200, data: Data::Txt(vec![b"shop"[..].into()]) },
            Record { name: target, class: 1, ttl: 120, data: Data::A([10, 0, 0, 1].into()) },
        ];
        assert_eq!(answer.additionals, wanted);
    }

    #[test]
    fn sidecars_are_read_out_of_what_they_send() {
        for (app_id, address) in [("shop", "10.0.0.1:1"), ("a.b-c", "[fd00::1]:2"), ("Ä", "10.0.0.1:3")] {
            let service = service(app_id, address);
            let query = question(service_name(app_id).unwrap());
            for message in [service.answer(&query).unwrap(), service.announcement()] {
                let received = Message::decode(&message.encode()).unwrap();
                assert_eq!(sightings(&received), [sighting(app_id, address, false)]);
            }
            assert_eq!(sightings(&service.goodbye()), [sighting(app_id, address, true)]);
        }
    }

    #[test]
    fn only_questions_about_it_are_answered() {
        let shop = service("shop", "10.0.0.1:1");
        let ask = |name: &str| shop.answer(&question(Name::parse(name).unwrap()));
        for name in ["shop.local", "SHOP.local", "box:42:1.shop.local", "box-42-1.local", ENUMERATION] {
            assert!(ask(name).is_some(), "{name}");
        }
        for name in ["shop", "shops.local", "x.shop.local", "local"] {
            assert!(ask(name).is_none(), "{name}");
        }
        let mut query = question(service_name("shop").unwrap());
        query.answers = shop.announcement().answers;
        assert!(shop.answer(&query).is_none(), "the asker knows it");
        query.answers.clear();
        query.authorities = shop.announcement().answers;
        assert!(shop.answer(&query).is_none(), "a probe");
        assert!(shop.answer(&shop.announcement()).is_none(), "a response");
    }

    #[test]
    fn foreign_and_incomplete_responses_are_no_sidecars() {
        let full = service("shop", "10.0.0.1:1").announcement();
        let printer =
            Message { answers: service("shop", "10.0.0.1:1").announcement().answers.split_off(2), ..full.clone() };
        assert_eq!(sightings(&printer), [], "no SRV");
        let mut other = full.clone();
        for record in &mut other.answers {
            if let Data::Txt(texts) = &mut record.data {
                *texts = vec![b"till".as_slice().into()];
            }
        }
        assert_eq!(sightings(&other), [], "TXT of another app");
        assert_eq!(sightings(&Message { is_response: false, ..full }), [], "a query");
    }

    #[test]
    fn an_app_id_that_is_no_name_is_told() {
        let address = "10.0.0.1:1".parse().unwrap();
        let error = Service::new(&"x".repeat(64), address, "box", 1).unwrap_err();
        assert!(error.contains("each part between dots must have 1 to 63 bytes"), "{error}");
        let error = Service::new(&"abcdefgh.".repeat(27), address, "box", 1).unwrap_err();
        assert!(error.contains("too long to be announced by mDNS"), "{error}");
        Service::new("shop", address, &"h".repeat(200), u32::MAX).unwrap();
    }
}
