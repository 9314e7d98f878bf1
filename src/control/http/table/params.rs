//! Parameters that several routes take.

use crate::control::http::params::{Param, ParamKind};

pub(super) const RANGE: &[Param] = &[period("24h"), FROM, TO];

pub(super) const WEEK: &[Param] = &[period("7d"), FROM, TO];

const fn period(default: &'static str) -> Param {
    Param {
        name: "period",
        kind: ParamKind::Period,
        default: Some(default),
        about: "Length of the time that is summed, before `to` or after `from`.",
    }
}

const FROM: Param =
    Param { name: "from", kind: ParamKind::Time, default: None, about: "Start of the time; belongs to it." };

const TO: Param = Param {
    name: "to",
    kind: ParamKind::Time,
    default: None,
    about: "End of the time; does not belong to it. Now when not given.",
};

pub(super) const FLOWS: &[Param] = &[
    Param { name: "filter", kind: ParamKind::Filter, default: None, about: "Only flows that match." },
    NAS_ID,
    SITE,
    RESELLER_ID,
    Param { name: "country", kind: ParamKind::Country, default: None, about: "Only flows from or to this country." },
    Param {
        name: "asn",
        kind: ParamKind::Whole { min: 1, max: u32::MAX as u64 },
        default: None,
        about: "Only flows from or to this AS.",
    },
    Param { name: "app", kind: ParamKind::Text, default: None, about: "Only flows of this application." },
    Param { name: "app_category", kind: ParamKind::Text, default: None, about: "Only applications of this category." },
];

pub(super) const PLACE: &[Param] = &[NAS_ID, SITE, RESELLER_ID];

pub(super) const NAS_ID: Param =
    Param { name: "nas_id", kind: ParamKind::Text, default: None, about: "Only flows of this access server." };
pub(super) const SITE: Param =
    Param { name: "site", kind: ParamKind::Text, default: None, about: "Only flows of this site." };
pub(super) const RESELLER_ID: Param =
    Param { name: "reseller_id", kind: ParamKind::Uuid, default: None, about: "Only flows of this reseller." };

pub(super) const UTC_OFFSET: &[Param] = &[Param {
    name: "utc_offset",
    kind: ParamKind::Offset,
    default: Some("Z"),
    about: "Where days, months and hours of the day begin.",
}];

/// Beside [`FLOWS`], where the path does not name the subscriber.
pub(super) const SUBSCRIBER: &[Param] =
    &[Param { name: "subscriber_id", kind: ParamKind::Uuid, default: None, about: "Only flows of this subscriber." }];

pub(super) const STORE: &[Param] = &[Param {
    name: "store",
    kind: ParamKind::Text,
    default: None,
    about: "Name of the sink whose store answers; the configured one when not given.",
}];

pub(super) const TIER: &[Param] = &[Param {
    name: "tier",
    kind: ParamKind::Text,
    default: None,
    about: "Which data answer: `flows` or a rollup's name; the coarsest that can when not given.",
}];
