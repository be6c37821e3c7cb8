//! Whose call it is that one server carries out for another: its client's name goes along, so that the permissions are
//! the same on every server.

use http::{HeaderMap, HeaderValue};

use crate::clients::Caller;
use crate::tls::ClientName;

/// The name in the certificate of the client, in hexadecimal; empty for a client without one.
const CLIENT: &str = "orlop-client";

/// Whose call it is, as another server says it: an extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnBehalf {
    /// Of a client with this name, or of one without.
    Of(Option<ClientName>),
    /// Nothing that can be read was said.
    Unknown,
}

/// Puts the caller's name into the headers of its call, in the place of whatever the client has put there.
pub(super) fn name(headers: &mut HeaderMap, caller: Option<&Caller>) {
    let name = caller.and_then(|caller| caller.name.as_ref()).map(ClientName::to_hex).unwrap_or_default();
    headers.insert(CLIENT, HeaderValue::from_str(&name).expect("hexadecimal digits can stand in a header"));
}

/// Whose call it is that came with these headers from another server.
pub(crate) fn named(headers: &HeaderMap) -> OnBehalf {
    match headers.get(CLIENT).map(|value| value.to_str()) {
        Some(Ok("")) => OnBehalf::Of(None),
        Some(Ok(name)) => {
            ClientName::from_hex(name).map_or(OnBehalf::Unknown, |name| OnBehalf::Of(Some(name)))
        }
        _ => OnBehalf::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clients::Clients;

    fn caller(name: Option<&str>) -> Arc<Caller> {
        let clients = Clients::new(crate::ClientLimits::default());
        let seat = clients.connect("192.0.2.1".parse().unwrap()).unwrap();
        Caller::new(seat, name.map(|name| ClientName::from_hex(name).unwrap()))
    }

    #[test]
    fn a_call_is_its_callers_whatever_the_client_has_written() {
        let mut headers = HeaderMap::new();
        headers.append(CLIENT, "6b6565706572".parse().unwrap());
        headers.append(CLIENT, "726f6f74".parse().unwrap());
        name(&mut headers, Some(&caller(Some("61"))));
        assert_eq!(named(&headers), OnBehalf::Of(ClientName::from_hex("61")));
        assert_eq!(headers.get_all(CLIENT).iter().count(), 1);
        name(&mut headers, Some(&caller(None)));
        assert_eq!(named(&headers), OnBehalf::Of(None));
    }

    #[test]
    fn what_says_nothing_is_nobodys() {
        assert_eq!(named(&HeaderMap::new()), OnBehalf::Unknown);
        let mut headers = HeaderMap::new();
        headers.insert(CLIENT, "keeper".parse().unwrap());
        assert_eq!(named(&headers), OnBehalf::Unknown);
    }
}
