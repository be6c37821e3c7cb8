//! What is reached by plain HTTP: health, version and metrics, as etcd answers them.

mod health;
mod query;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tonic::body::Body;
use tracing::{error, warn};

use crate::backend::Backend;
use crate::metrics::classic;
use crate::version;
use health::{LIVEZ, READYZ};
use query::Query;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is reached by plain HTTP.
pub(crate) struct Http {
    backend: Arc<Backend>,
    registry: Arc<Registry>,
}

/// An answer.
struct Page {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl Http {
    pub(crate) fn new(backend: Arc<Backend>, registry: Arc<Registry>) -> Http {
        Http { backend, registry }
    }

    /// Answers a request; nothing here reads its body.
    pub(crate) async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        self.page(request).await.into_response()
    }

    /// Answers a request for metrics or health; as in etcd, the version is not among them.
    pub(crate) async fn observe<B>(&self, request: &Request<B>) -> Response<Body> {
        let page = match request.uri().path() {
            "/version" => Page::not_found(),
            _ => self.page(request).await,
        };
        page.into_response()
    }

    async fn page<B>(&self, request: &Request<B>) -> Page {
        let path = request.uri().path();
        let query = Query(request.uri().query().unwrap_or_default());
        let only_get = || (request.method() != Method::GET).then(not_allowed);
        match path {
            "/metrics" => self.metrics(request.headers()),
            "/version" => match only_get() {
                Some(page) => page,
                None => versions(),
            },
            "/health" => match only_get() {
                Some(page) => page,
                None => self.health(query).await,
            },
            _ => match checks_at(path) {
                Some(checks) => match only_get() {
                    Some(page) => page,
                    None => self.checks(checks, query).await,
                },
                None => Page::not_found(),
            },
        }
    }

    async fn health(&self, query: Query<'_>) -> Page {
        let reason = health::reason(&self.backend, query).await;
        match reason {
            None => Page::ok(TEXT, r#"{"health":"true","reason":""}"#.to_owned()),
            Some(reason) => {
                warn!(reason, "answering /health with false");
                let reason = json_string(&reason);
                let text = format!(r#"{{"health":"false","reason":{reason}}}"#);
                Page::error(StatusCode::SERVICE_UNAVAILABLE, &text)
            }
        }
    }

    async fn checks(&self, checks: &[health::Check], query: Query<'_>) -> Page {
        let mut report = String::new();
        let mut well = true;
        for check in checks.iter().filter(|check| !query.all("exclude").any(|name| name == check.name())) {
            match check.run(&self.backend).await {
                Ok(()) => report.push_str(&format!("[+]{} ok\n", check.name())),
                Err(reason) => {
                    well = false;
                    report.push_str(&format!("[-]{} failed: {reason}\n", check.name()));
                }
            }
        }
        if !well {
            warn!(report, "a health check failed");
            return Page::error(StatusCode::SERVICE_UNAVAILABLE, &report);
        }
        let report = if query.has("verbose") { report } else { String::new() };
        Page::ok(TEXT, format!("{report}ok\n"))
    }

    fn metrics(&self, headers: &HeaderMap) -> Page {
        self.backend.metrics.server.refresh(&self.backend);
        self.backend.metrics.fleet.refresh(&self.backend);
        let mut metrics = String::new();
        if let Err(error) = text::encode(&mut metrics, &self.registry) {
            error!(%error, "the metrics could not be written down");
            return Page::error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written down");
        }
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|kind| kind.to_str().ok());
        match accepted.into_iter().any(|kinds| kinds.contains("application/openmetrics-text")) {
            true => Page::ok(OPEN_METRICS, metrics),
            false => Page::ok(CLASSIC_METRICS, classic(&metrics)),
        }
    }
}

/// The checks behind a path: all of a kind, or a single one.
fn checks_at(path: &str) -> Option<&'static [health::Check]> {
    let (kind, name) = match path.trim_start_matches('/').split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (path.trim_start_matches('/'), None),
    };
    let checks: &'static [health::Check] = match kind {
        "livez" => &LIVEZ,
        "readyz" => &READYZ,
        _ => return None,
    };
    match name {
        None => Some(checks),
        Some(name) => checks.iter().find(|check| check.name() == name).map(std::slice::from_ref),
    }
}

fn versions() -> Page {
    let text = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}}"#,
        version::SERVER,
        version::CLUSTER,
        version::STORAGE
    );
    Page::ok(JSON, text)
}

fn not_allowed() -> Page {
    Page::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

pub(crate) fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            control if control.is_control() => json.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

impl Page {
    fn ok(kind: &'static str, text: String) -> Page {
        Page { status: StatusCode::OK, kind, text }
    }

    fn not_found() -> Page {
        Page::error(StatusCode::NOT_FOUND, "404 page not found")
    }

    /// As Go writes errors: a line of text.
    fn error(status: StatusCode, text: &str) -> Page {
        Page { status, kind: TEXT, text: format!("{text}\n") }
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::new(Full::new(Bytes::from(self.text))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(self.kind));
        let nosniff = header::HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, header::HeaderValue::from_static("GET"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_reason_is_valid_json() {
        assert_eq!(json_string("a \"b\" \\ \n"), r#""a \"b\" \\ \u000a""#);
    }

    #[test]
    fn a_check_has_a_path_of_its_own() {
        assert_eq!(checks_at("/readyz").unwrap().len(), READYZ.len());
        assert_eq!(checks_at("/readyz/linearizable_read").unwrap().len(), 1);
        assert!(checks_at("/livez/linearizable_read").is_none());
        assert!(checks_at("/").is_none());
    }
}
