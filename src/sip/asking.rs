//! Requests of ours whose final answer somebody waits for: inside a call, or to a server. A challenge is answered once,
//! where there is a password for it; the gate has taken it off where it must not be answered.

use super::answers::prove;
use super::compose::Content;
use super::dialog::{Dialog, Ready, Writer};
use super::event::{DialogId, SipError};
use super::hub::Hub;
use super::register::Credential;
use super::transactions::{Key, Waits};
use super::wire::{Start, Via, Wire, split_outside};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Proofs that are given for one request, while each challenge says that the one before only came too late.
pub(super) const MOST_PROOFS: u8 = 3;

/// Whether a challenge says that our proof was right but for its nonce (RFC 7616 section 3.3).
pub(super) fn is_stale(wire: &Wire) -> bool {
    let challenges = wire.all("www-authenticate").chain(wire.all("proxy-authenticate"));
    let stale = |c: &str| c.to_ascii_lowercase().replace([' ', '"'], "").contains("stale=true");
    challenges.into_iter().any(stale)
}

/// Where the sender of an answer saw our request come from (RFC 3581).
fn seen_at(answer: &Wire) -> Option<SocketAddr> {
    let via = split_outside(answer.get("via")?, b',')?.first().and_then(|v| Via::parse(v))?;
    let param = |name: &str| via.params.iter().find(|(n, _)| n == name)?.1.clone();
    let (ip, port) = (param("received")?.trim_matches(['[', ']']).parse().ok()?, param("rport")?.parse().ok()?);
    Some(SocketAddr::new(ip, port))
}

/// A Call-ID and a tag of ours that nobody can guess.
pub(super) fn names() -> (String, String) {
    (format!("{:032x}@zongji", rand::random::<u128>()), new_tag())
}

/// A tag of ours that nobody can guess.
pub(super) fn new_tag() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Status of a response.
pub(super) fn status(wire: &Wire) -> u16 {
    match wire.start {
        Start::Response { code, .. } => code,
        Start::Request { .. } => 0,
    }
}

/// A success, or why not.
pub(super) fn outcome(answer: Result<Wire<'static>, SipError>) -> Result<Wire<'static>, SipError> {
    let answer = answer?;
    match status(&answer) {
        200..=299 => Ok(answer),
        code => Err(SipError::Refused(code)),
    }
}

/// A request whose answer is waited for: repeated no longer than that.
struct Question<'h>(&'h Hub, Key);

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.0.transactions(|t| t.give_up(&self.1));
    }
}

/// Sends a request and waits for its final answer.
async fn exchange(
    hub: &Arc<Hub>,
    method: &str,
    content: &Content,
    credential: Option<&Credential>,
    limit: Duration,
    mut write: impl FnMut(&Content, Option<&Wire>, &Writer<'_>) -> Option<Ready>,
) -> Result<Wire<'static>, SipError> {
    let (mut proved, mut tried, mut challenge) = (content.clone(), 0, None);
    loop {
        let ready = hub.writing(|w| write(&proved, challenge.as_ref(), w)).ok_or(SipError::Gone)?;
        let (uri, (tell, told)) = (ready.uri.clone(), oneshot::channel());
        let _given_up_with_us = Question(hub, hub.ask(method, ready, Waits::Final(tell)));
        let answer = match tokio::time::timeout(limit, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Err(SipError::Timeout),
        };
        let asks_again = tried == 0 || tried < MOST_PROOFS && is_stale(&answer);
        let proof = credential.filter(|_| asks_again).and_then(|c| prove(&answer, status(&answer), c, method, &uri));
        let Some((name, value)) = proof else { return Ok(answer) };
        proved = content.clone().with(name, value);
        tried += 1;
        challenge = Some(answer);
    }
}

/// Inside a call.
pub(super) async fn ask(
    hub: &Arc<Hub>,
    d: DialogId,
    method: &str,
    content: Content,
) -> Result<Wire<'static>, SipError> {
    let limit = hub.gate.settings.t1 * 70;
    ask_within(hub, d, method, content, limit).await
}

/// The same within a time.
pub(super) async fn ask_within(
    hub: &Arc<Hub>,
    d: DialogId,
    method: &str,
    content: Content,
    limit: Duration,
) -> Result<Wire<'static>, SipError> {
    let credential = hub.entry(d, |e| e.credential.clone()).ok_or(SipError::Gone)?;
    let write =
        |content: &Content, _: Option<&Wire>, w: &Writer<'_>| hub.entry(d, |e| e.dialog.request(method, content, w));
    exchange(hub, method, &content, credential.as_deref(), limit, write).await
}

/// Outside of any call; `dialog` numbers what is said.
pub(super) async fn ask_outside(
    hub: &Arc<Hub>,
    dialog: &mut Dialog,
    method: &str,
    content: Content,
    credential: Option<&Credential>,
    limit: Duration,
) -> Result<Wire<'static>, SipError> {
    let write = |content: &Content, challenge: Option<&Wire>, w: &Writer<'_>| {
        // Who challenges us says where it sees us: behind address translation our Contact must lead there.
        let seen = challenge.filter(|_| hub.addresses.public.is_none()).and_then(seen_at);
        seen.filter(|_| !dialog.hop.transport.is_stream()).into_iter().for_each(|at| dialog.seen_at(at));
        Some(dialog.outside(method, content, w))
    };
    exchange(hub, method, &content, credential, limit, write).await
}
