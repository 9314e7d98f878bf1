//! One EVE event: <https://docs.suricata.io/en/latest/output/eve/eve-json-format.html>.
//!
//! `flow` events tell a whole connection with its `app_proto`, at its end. Events of a protocol (`tls`, `http`, `dns`, ...) come
//! while it goes on, and say the same by their type. Of all other events those that carry an `app_proto` count.

use std::borrow::Cow;

use serde::Deserialize;

use super::{OPEN_MS, Tuple, Verdict, protocols};
use crate::enrich::app::{App, protocol};
use crate::enrich::names::Names;
use crate::flow::Addr;

/// No JSON object with the fields of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow, default)]
    src_ip: Option<Cow<'a, str>>,
    #[serde(default)]
    src_port: Option<u16>,
    #[serde(borrow, default)]
    dest_ip: Option<Cow<'a, str>>,
    #[serde(default)]
    dest_port: Option<u16>,
    #[serde(borrow, default)]
    proto: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    app_proto: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    flow: Option<Flow<'a>>,
}

#[derive(Deserialize)]
struct Flow<'a> {
    #[serde(borrow, default)]
    start: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    end: Option<Cow<'a, str>>,
}

/// What an event says of a conversation; `None` when it says nothing about an application.
pub(super) fn read(event: &[u8], names: &Names) -> Result<Option<(Tuple, Verdict)>, Malformed> {
    let event: Event<'_> = serde_json::from_slice(event).map_err(|_| Malformed)?;
    let Some(app_proto) = app_proto(&event) else { return Ok(None) };
    let Some((name, category)) = protocols::app(app_proto) else { return Ok(None) };
    let (Some(src_port), Some(dst_port)) = (event.src_port, event.dest_port) else { return Ok(None) };
    let addr = |text: &Option<Cow<'_, str>>| -> Result<Addr, Malformed> {
        text.as_deref().and_then(|text| text.parse().ok()).ok_or(Malformed)
    };
    let (src, dst) = (addr(&event.src_ip)?, addr(&event.dest_ip)?);
    let transport = event.proto.as_deref().and_then(protocol::number).ok_or(Malformed)?;
    let at_ms = time(&event.timestamp).ok_or(Malformed)?;
    let flow = event.flow.as_ref();
    let start_ms = flow.and_then(|flow| flow.start.as_deref()).and_then(time);
    let end_ms = flow.and_then(|flow| flow.end.as_deref()).and_then(time);
    // Names that do not fit any more are as good as unknown ones.
    let number = |text: &str| if text.is_empty() { Ok(0) } else { names.texts.number(&text.into()) };
    let (Ok(name), Ok(category)) = (number(&name), number(category)) else { return Ok(None) };
    let verdict = Verdict {
        from_ms: start_ms.unwrap_or(at_ms),
        to_ms: end_ms.unwrap_or(at_ms.saturating_add(OPEN_MS)),
        app: App { name, category },
    };
    Ok(Some((Tuple::new((src, src_port), (dst, dst_port), transport), verdict)))
}

fn app_proto<'a>(event: &'a Event<'_>) -> Option<&'a str> {
    let by_type = || Some(&*event.event_type).filter(|event_type| protocols::is_protocol(event_type));
    event.app_proto.as_deref().or_else(by_type)
}

/// `2026-01-31T11:59:58.123456+0000`.
fn time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}
