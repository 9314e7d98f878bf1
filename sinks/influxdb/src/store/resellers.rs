//! Whose a subscriber is, so that only those series are read.
//!
//! `subscriber_id` is a field but in `usage`: a question about one subscriber to another rollup would read the points of all. Its
//! reseller is a tag everywhere, and `usage` says at once which one it was.

use std::collections::BTreeSet;

use sink_api::filter::{Filter, Test};
use sink_api::rollup::{Key, RollupDef};
use sink_api::store::plan::Plan;
use sink_api::store::{Question, StoreError};
use sink_api::{Field, Uuid};

use super::conditions::{Source, any_of, necessary};
use super::{InfluxStore, in_range};
use crate::schema::{self, OTHER};

/// Resellers that one subscriber may have had; with more, nothing is left out.
const RESELLERS_MAX: usize = 8;

impl InfluxStore {
    /// The condition that leaves only the series of the resellers that a question's one subscriber had in its range; `None` when
    /// there is nothing to leave out, or it cannot be known: subscribers beyond `tags_max`, or with nothing in `usage`.
    ///
    /// A row of a rollup has its flows in `usage` as well, in a bucket of the same hour or an earlier one of the range, and sums are
    /// emitted together when a question is asked.
    pub(super) fn of_resellers(
        &self,
        question: &Question,
        plan: &Plan,
        def: &RollupDef,
    ) -> Result<Option<String>, StoreError> {
        let usage = self.rollups.iter().find(|usage| schema::has_subscriber_tag(usage) && usage.name != def.name);
        let (Some(usage), Some(_)) = (usage, one_subscriber(&question.filter)) else { return Ok(None) };
        let source = Source::Rollup(usage);
        let by_reseller = Key::Field(Field::ResellerId);
        let is_known = def.by.contains(&by_reseller)
            && usage.by.contains(&by_reseller)
            && def.bucket_ms % usage.bucket_ms == 0
            && self.config.kept_days(usage.keep) >= self.config.kept_days(def.keep);
        let condition = necessary(&question.filter, source).filter(|_| is_known);
        let Some(condition) = condition else { return Ok(None) };
        let (subscriber, reseller) = (Field::SubscriberId.name(), Field::ResellerId.name());
        let statement = format!(
            "SELECT sum(\"bytes\") FROM {} WHERE {} AND {condition} GROUP BY \"{subscriber}\", \"{reseller}\"",
            crate::place::name(&usage.name),
            in_range(plan.range),
        );
        let (mut resellers, mut untagged) = (BTreeSet::new(), false);
        self.run(usage.keep, &statement, question.deadline, &mut |series| {
            untagged |= series.tags.get(subscriber).is_some_and(|tag| tag == OTHER);
            resellers.insert(series.tags.get(reseller).cloned().unwrap_or_default());
            Ok(!untagged && resellers.len() <= RESELLERS_MAX)
        })?;
        let found = !untagged && !resellers.is_empty() && resellers.len() <= RESELLERS_MAX;
        Ok(found.then(|| any_of(reseller, &resellers)))
    }
}

/// The subscriber whose rows alone match.
fn one_subscriber(filter: &Filter) -> Option<Uuid> {
    match filter {
        Filter::Test(Test::Uuid { field: Field::SubscriberId, value }) => Some(*value),
        Filter::And(filters) => filters.iter().find_map(one_subscriber),
        _ => None,
    }
}
