use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{KeyRange, Revision};
use prost::Message;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use proto::spliced::WatchResponse;
use tonic::{Status, Streaming};
use tracing::{debug, warn};
use watch::{Filter, HistoryError, Request, Session, Update, WatchId};

use crate::backend::Backend;
use crate::clients::{Caller, WATCHERS_MAX};
use crate::convert::to_proto;
use crate::error::EtcdError;
use crate::failure;
use crate::watch::permits::Permits;

/// Why a range may not be watched, as etcd says it there.
const NOT_PERMITTED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
/// The watcher id of an answer that is about no watcher, or about all of a stream.
const NO_WATCHER: i64 = -1;

/// Drives one stream: from the client's requests and the session's updates to responses.
pub(super) struct Driver {
    backend: Arc<Backend>,
    session: Session,
    /// Whose watchers they are; nobody's in a call that no connection makes.
    caller: Option<Arc<Caller>>,
    permits: Permits,
    requests: Option<Streaming<WatchRequest>>,
    /// Responses that are ready to be sent: the fragments of one, or the answers to one request.
    outbound: VecDeque<WatchResponse>,
    /// Watchers that want large responses cut.
    fragmenting: HashSet<WatchId>,
    /// When watchers that were told nothing are to be told how far they are.
    next_tick: Duration,
    ended: bool,
    /// How many watchers read history, as last counted.
    behind: usize,
}

/// What a stream waits for.
enum Wake {
    Stopping,
    Request(Result<Option<WatchRequest>, Status>),
    Tick,
    Update(Result<Update, HistoryError>),
}

impl Driver {
    pub(super) fn new(
        backend: Arc<Backend>,
        session: Session,
        requests: Streaming<WatchRequest>,
        caller: Option<Arc<Caller>>,
        permits: Permits,
    ) -> Driver {
        backend.metrics.watch.streams.inc();
        let mut driver = Driver {
            backend,
            session,
            caller,
            permits,
            requests: Some(requests),
            outbound: VecDeque::new(),
            fragmenting: HashSet::new(),
            next_tick: Duration::ZERO,
            ended: false,
            behind: 0,
        };
        driver.set_tick();
        driver
    }

    /// The next response, or the status with which the stream ends; `None` after that.
    pub(super) async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        while !self.ended {
            if let Some(response) = self.outbound.pop_front() {
                return Some(Ok(response));
            }
            match self.wake().await {
                Wake::Stopping => return self.end(EtcdError::Stopped.into()),
                Wake::Request(Ok(Some(request))) => {
                    if let Err(status) = self.handle(request).await {
                        return self.end(status);
                    }
                }
                // A client may close its side and go on listening.
                Wake::Request(Ok(None)) => self.requests = None,
                Wake::Request(Err(status)) => {
                    debug!(error = %status, "a watch stream broke");
                    return self.end(status);
                }
                Wake::Tick => {
                    self.session.tick();
                    self.set_tick();
                }
                Wake::Update(Ok(update)) => self.take(update),
                Wake::Update(Err(error)) => return self.end(broken(&error)),
            }
            self.count_behind();
        }
        None
    }

    async fn wake(&mut self) -> Wake {
        let Driver { backend, session, requests, next_tick, .. } = self;
        let request = async {
            match requests {
                Some(requests) => requests.message().await,
                None => std::future::pending().await,
            }
        };
        // Stopping comes first, then what the client asks; what the store has to say waits for neither for long.
        tokio::select! {
            biased;
            () = backend.stopping.begun() => Wake::Stopping,
            request = request => Wake::Request(request),
            () = backend.clock.sleep_until(*next_tick) => Wake::Tick,
            update = session.next() => Wake::Update(update),
        }
    }

    /// The next tick comes after the interval and up to a tenth at random on top, so that the streams do not all
    /// speak at once (as etcd does it).
    fn set_tick(&mut self) {
        let interval = self.backend.config.watch_progress_notify_interval;
        let tenth = u64::try_from(interval.as_nanos() / 10).unwrap_or(u64::MAX).max(1);
        let jitter = Duration::from_nanos(self.backend.random.next_u64() % tenth);
        self.next_tick = self.backend.clock.now() + interval + jitter;
    }

    fn end(&mut self, status: Status) -> Option<Result<WatchResponse, Status>> {
        self.ended = true;
        Some(Err(status))
    }

    async fn handle(&mut self, request: WatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                // Who watches from now on is told when that is: not below anything that was acknowledged before.
                if create.start_revision == 0 {
                    let confirmed = self.backend.store.keys.confirm().await;
                    confirmed.map_err(|error| failure::read(error.into()))?;
                }
                self.create(create);
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                let id = WatchId(cancel.watch_id);
                if self.session.cancel(id) {
                    self.forget(id);
                    let response = self.response(self.session.revision(), id.0);
                    self.outbound.push_back(WatchResponse { canceled: true, ..response });
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.session.request_progress(),
            None => {}
        }
        Ok(())
    }

    fn create(&mut self, create: WatchCreateRequest) {
        let (start_revision, fragment) = (create.start_revision, create.fragment);
        let request = request_of(create);
        if self.permits.ask(&request.range).is_err() {
            return self.refuse(NOT_PERMITTED.to_owned());
        }
        if start_revision < 0 {
            return self.refuse(EtcdError::Compacted.text().to_owned());
        }
        if !self.caller.as_ref().is_none_or(|caller| caller.add_watcher()) {
            return self
                .refuse(format!("a connection may have at most {WATCHERS_MAX} watchers: open another"));
        }
        let range = request.range.clone();
        match self.session.watch(request) {
            Err(refusal) => {
                self.remove_watchers(1);
                self.refuse(refusal.to_string());
            }
            Ok(watched) => {
                self.permits.begin(watched.id, range);
                if fragment {
                    self.fragmenting.insert(watched.id);
                }
                self.backend.metrics.watch.watchers.inc();
                let response = self.response(watched.revision, watched.id.0);
                self.outbound.push_back(WatchResponse { created: true, ..response });
            }
        }
    }

    fn refuse(&mut self, cancel_reason: String) {
        let response = self.response(self.session.revision(), NO_WATCHER);
        self.outbound.push_back(WatchResponse { created: true, canceled: true, cancel_reason, ..response });
    }

    fn forget(&mut self, id: WatchId) {
        self.fragmenting.remove(&id);
        self.permits.end(id);
        self.remove_watchers(1);
        self.backend.metrics.watch.watchers.dec();
    }

    fn remove_watchers(&self, count: usize) {
        if let Some(caller) = &self.caller {
            caller.remove_watchers(count);
        }
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Progress { id, revision } => {
                let response = self.response(revision, id.map_or(NO_WATCHER, |id| id.0));
                self.outbound.push_back(response);
            }
            Update::Compacted { id, compacted, revision } => {
                self.forget(id);
                let response = self.response(revision, id.0);
                let compact_revision = compacted.get();
                self.outbound.push_back(WatchResponse { canceled: true, compact_revision, ..response });
            }
            Update::Events { id, events, revision } => {
                if self.withdraw(revision).contains(&id) {
                    return;
                }
                self.backend.metrics.watch.events.inc_by(events.len() as u64);
                if let Some(traces) = &self.backend.traces {
                    traces.delivered(id.0, &events);
                }
                if let Some((last, _)) = events.last() {
                    let now = self.backend.clock.now();
                    self.backend.metrics.published.delivered(last.change.revision, now);
                }
                let encoded = events.into_iter().map(|(event, previous)| to_proto::event(&event, previous));
                let events: Vec<Bytes> = encoded.collect();
                let response = WatchResponse { events, ..self.response(revision, id.0) };
                match self.fragmenting.contains(&id) {
                    true => self.outbound.extend(fragments(response, self.backend.config.max_request_bytes)),
                    false => self.outbound.push_back(response),
                }
            }
        }
    }

    /// Ends the watchers that may no longer watch what they do, and returns which.
    fn withdraw(&mut self, revision: Revision) -> Vec<WatchId> {
        let withdrawn = self.permits.withdrawn();
        for id in &withdrawn {
            self.session.cancel(*id);
            self.forget(*id);
            let cancel_reason = NOT_PERMITTED.to_owned();
            let response = self.response(revision, id.0);
            self.outbound.push_back(WatchResponse { canceled: true, cancel_reason, ..response });
        }
        withdrawn
    }

    fn response(&self, revision: Revision, watch_id: i64) -> WatchResponse {
        WatchResponse { header: self.backend.header(revision), watch_id, ..WatchResponse::default() }
    }

    fn count_behind(&mut self) {
        let behind = self.session.behind_count();
        if behind != self.behind {
            let slow = &self.backend.metrics.watch.slow_watchers;
            slow.inc_by(behind as i64 - self.behind as i64);
            self.behind = behind;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.remove_watchers(self.session.len());
        let watch = &self.backend.metrics.watch;
        watch.streams.dec();
        watch.watchers.dec_by(self.session.len() as i64);
        watch.slow_watchers.dec_by(self.behind as i64);
    }
}

fn broken(error: &HistoryError) -> Status {
    warn!(error = %error, "a watch stream cannot go on");
    match error {
        HistoryError::Corrupt(_) => EtcdError::Corrupt.into(),
        // Clients resume where they were after this text; "no leader" would make them give up.
        HistoryError::Compacted(_) | HistoryError::Unavailable(_) => EtcdError::Timeout.into(),
    }
}

fn request_of(create: WatchCreateRequest) -> Request {
    let filter = Filter {
        no_put: create.filters.contains(&FilterType::Noput.into()),
        no_delete: create.filters.contains(&FilterType::Nodelete.into()),
    };
    // An empty key is the smallest that there is.
    let key = if create.key.is_empty() { Bytes::from_static(&[0]) } else { create.key };
    let range = KeyRange::from_wire(key, create.range_end).unwrap_or_else(|_| KeyRange::all());
    Request {
        range,
        start: (create.start_revision > 0).then(|| Revision::new(create.start_revision)),
        id: (create.watch_id != 0).then_some(WatchId(create.watch_id)),
        filter,
        previous: create.prev_kv,
        progress: create.progress_notify,
    }
}

/// What a response spends on an event beside its bytes: a tag and a length.
const EVENT_FRAME_BYTES: usize = 5;

/// Cuts a response into several of about `bytes_max` each; all but the last say that more follows.
pub(crate) fn fragments(response: WatchResponse, bytes_max: usize) -> Vec<WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < bytes_max {
        return vec![response];
    }
    let WatchResponse { events, .. } = response.clone();
    let head = WatchResponse { events: Vec::new(), fragment: true, ..response };
    let head_bytes = head.encoded_len();
    let mut fragments = Vec::new();
    let mut current = head.clone();
    let mut bytes = head_bytes;
    for event in events {
        if !current.events.is_empty() && bytes + event.len() + EVENT_FRAME_BYTES >= bytes_max {
            fragments.push(std::mem::replace(&mut current, head.clone()));
            bytes = head_bytes;
        }
        bytes += event.len() + EVENT_FRAME_BYTES;
        current.events.push(event);
    }
    current.fragment = false;
    fragments.push(current);
    fragments
}
