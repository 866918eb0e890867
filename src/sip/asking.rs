//! Requests of ours whose final answer somebody waits for: inside a call, or to a server. A challenge is answered once,
//! where there is a password for it; the gate has taken it off where it must not be answered.

use super::answers::prove;
use super::compose::Content;
use super::dialog::{Dialog, Ready, Writer};
use super::event::{DialogId, SipError};
use super::hub::Hub;
use super::register::Credential;
use super::transactions::{Key, Waits};
use super::wire::{Start, Wire};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

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
    mut write: impl FnMut(&Content, &Writer<'_>) -> Option<Ready>,
) -> Result<Wire<'static>, SipError> {
    let mut content = content.clone();
    let mut proved = false;
    loop {
        let ready = hub.writing(|w| write(&content, w)).ok_or(SipError::Gone)?;
        let (uri, (tell, told)) = (ready.uri.clone(), oneshot::channel());
        let _given_up_with_us = Question(hub, hub.ask(method, ready, Waits::Final(tell)));
        let answer = match tokio::time::timeout(limit, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Err(SipError::Timeout),
        };
        let proof = credential.filter(|_| !proved).and_then(|c| prove(&answer, status(&answer), c, method, &uri));
        let Some((name, value)) = proof else { return Ok(answer) };
        content = content.with(name, value);
        proved = true;
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
    let write = |content: &Content, w: &Writer<'_>| hub.entry(d, |e| e.dialog.request(method, content, w));
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
    let write = |content: &Content, w: &Writer<'_>| Some(dialog.outside(method, content, w));
    exchange(hub, method, &content, credential, limit, write).await
}
