//! Fields that neither a person nor a log may see. Pure.
//!
//! A dead letter keeps its payload byte for byte; of what is shown or logged of it, the values of
//! these fields are masked, and a detail that may quote a value says only what it is about.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{
    Aggregate, Alert, Contract, Expression, Label,
    attribute::{AggregateSpec, AlertSpec},
    read::Reader,
};
use crate::failure::{Rejection, Stage};

/// Stands where a value is not shown.
pub const MASK: &str = "***";

/// Reasons of the stage decode whose details speak of schemas, not of an event.
const OF_SCHEMAS: [&str; 4] =
    ["unknown_schema_id", "unusable_schema", "wrong_schema", "incompatible_schema"];

impl Contract {
    /// An event's JSON, or a part of it under the fields' names, as it may be shown.
    pub fn shown(&self, mut event: Json) -> Json {
        if let Json::Object(fields) = &mut event {
            for (name, value) in fields {
                if self.private.contains(name) {
                    *value = Json::String(MASK.into());
                }
            }
        }
        event
    }

    /// A refusal as it may be shown. Where fields are private, a detail that may quote a value is
    /// replaced by what it is about: field, constraint or expression.
    pub fn shown_rejection(&self, rejection: Rejection) -> Rejection {
        if self.private.is_empty() {
            return rejection;
        }
        let Rejection { stage, reason, detail, about } = rejection;
        let failed = |name: &str, source: Option<&str>| match source {
            Some(source) => format!("can't be evaluated: {source}"),
            None => format!("\"{name}\" can't be evaluated"),
        };
        let shown = match (stage, reason.split_once(':')) {
            (Stage::Wire, _) | (Stage::Check, Some(("rule", _))) => detail,
            (Stage::Decode, None) if OF_SCHEMAS.contains(&&*reason) => detail,
            (Stage::Check, Some((_, name))) => {
                let rule = self.rules.iter().find(|rule| rule.name == name);
                failed(name, rule.map(|rule| rule.check.source.as_str()))
            }
            (Stage::Label, Some((_, name))) => {
                let label = self.labels.iter().find(|label| label.name == name);
                failed(name, label.map(|label| label.value.source.as_str()))
            }
            _ => match &about {
                Some(about) => {
                    format!("{about}; the rest is not shown: it may have private values")
                }
                None => "not shown: it may have private values".to_owned(),
            },
        };
        let rejection = Rejection::new(stage, reason, shown);
        Rejection { about, ..rejection }
    }

    /// Whether a label's value tells something of a private field.
    pub fn is_private_label(&self, label: &Label) -> bool {
        reads(&label.value, &self.private)
    }
}

fn reads(expression: &Expression, private: &BTreeSet<String>) -> bool {
    let whole = expression.whole_message && !private.is_empty();
    whole || expression.fields.iter().any(|field| private.contains(field))
}

/// What shows values to others: in metrics, in alerts, and in the tables of aggregates.
pub(super) struct Shows<'c> {
    pub(super) labels: &'c [Label],
    pub(super) aggregates: (&'c [(String, AggregateSpec)], &'c [Aggregate]),
    pub(super) alerts: (&'c [(String, AlertSpec)], &'c [Alert]),
}

impl Reader<'_> {
    /// Reads the names of private fields. What an event is known by, or what others are shown of it,
    /// can't be one.
    pub(super) fn private(
        &mut self,
        names: &[String],
        (id, time): (Option<usize>, Option<usize>),
        shows: &Shows<'_>,
    ) -> BTreeSet<String> {
        let mut private = BTreeSet::new();
        for (number, name) in names.iter().enumerate() {
            let place = format!("sluicegate.private[{number}]");
            let Some(index) = self.field(&place, name) else { continue };
            if !private.insert(name.clone()) {
                self.problem(&place, format!("\"{name}\" is named twice"));
            }
            if id == Some(index) {
                let message = format!("\"{name}\" is the id, by which an event is known again");
                self.problem(&place, message);
            }
            if time == Some(index) {
                let message = format!("\"{name}\" is the event time, which dead letters show");
                self.problem(&place, message);
            }
        }
        let labels = shows.labels.iter().filter(|label| reads(&label.value, &private));
        let hidden: BTreeSet<String> =
            labels.map(|label| label.name.clone()).chain(private.iter().cloned()).collect();
        let (specs, aggregates) = shows.aggregates;
        for (place, spec) in specs {
            self.refuse_shown(&format!("{place}.by"), &spec.by, &hidden);
            self.refuse_shown(&format!("{place}.of"), &spec.of, &hidden);
        }
        let (specs, alerts) = shows.alerts;
        for (place, spec) in specs {
            self.refuse_shown(&format!("{place}.by"), &spec.by, &hidden);
            // what it measures, where no declared aggregate does
            let alert = alerts.iter().find(|alert| alert.name == spec.name);
            let aggregate = alert.and_then(|alert| aggregates.get(alert.aggregate));
            let own = aggregate.filter(|aggregate| !aggregate.declared);
            // a share is made of a dimension
            let shown = own.into_iter().flat_map(|own| own.of.iter().chain(&own.by));
            let shown = shown.map(|column| column.name.clone());
            let shown: Vec<String> = shown.filter(|name| !spec.by.contains(name)).collect();
            self.refuse_shown(place, &shown, &hidden);
        }
        private
    }

    fn refuse_shown(&mut self, place: &str, names: &[String], hidden: &BTreeSet<String>) {
        for name in names.iter().filter(|name| hidden.contains(*name)) {
            let message =
                format!("\"{name}\" is private, or made of what is; metrics and alerts show it");
            self.problem(place, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(attribute: Json) -> Result<Contract, super::super::Problems> {
        let schema = json!({
            "type": "record", "name": "Payment", "sluicegate": attribute,
            "fields": [
                {"name": "event_id", "type": "string"},
                {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                {"name": "card", "type": "string"},
                {"name": "amount", "type": "double"},
            ],
        });
        Contract::parse("payments.avsc".as_ref(), schema.to_string())
    }

    #[test]
    fn whole_fields_are_masked_and_the_others_stay() {
        let contract = parse(json!({"private": ["card", "amount"]})).unwrap();
        let event = json!({"event_id": "1", "card": {"number": 7}, "amount": null});
        let shown = json!({"event_id": "1", "card": "***", "amount": "***"});
        assert_eq!(contract.shown(event), shown);
        assert_eq!(contract.shown(json!("card")), json!("card"));
    }

    #[test]
    fn a_contract_without_private_fields_shows_everything() {
        let contract = parse(json!({})).unwrap();
        let event = json!({"card": "1234"});
        assert_eq!(contract.shown(event.clone()), event);
        let rejection = Rejection::new(Stage::Check, "rule_error:known", "no such key: 1234");
        assert_eq!(contract.shown_rejection(rejection.clone()), rejection);
    }

    #[test]
    fn what_others_are_shown_can_not_be_private() {
        let problems = parse(json!({
            "time": "at",
            "private": ["crad", "event_id", "at", "card", "card", "amount"],
            "labels": [{"name": "issuer", "type": "string", "value": "message.card"}],
            "aggregates": [{"every": "1m", "by": ["card", "issuer"], "of": ["amount"]}],
            "alerts": [{"name": "much", "by": ["issuer"], "when": "avg(amount) > 5.0", "every": "1h"}],
        }));
        insta::assert_snapshot!(problems.unwrap_err(), @r#"
    9 problems in the contracts
    payments.avsc: sluicegate.private[0]: the record has no field "crad"; expected one of event_id, at, card, amount
    payments.avsc: sluicegate.private[1]: "event_id" is the id, by which an event is known again
    payments.avsc: sluicegate.private[2]: "at" is the event time, which dead letters show
    payments.avsc: sluicegate.private[4]: "card" is named twice
    payments.avsc: sluicegate.aggregates[0].by: "card" is private, or made of what is; metrics and alerts show it
    payments.avsc: sluicegate.aggregates[0].by: "issuer" is private, or made of what is; metrics and alerts show it
    payments.avsc: sluicegate.aggregates[0].of: "amount" is private, or made of what is; metrics and alerts show it
    payments.avsc: sluicegate.alerts[0].by: "issuer" is private, or made of what is; metrics and alerts show it
    payments.avsc: sluicegate.alerts[0]: "amount" is private, or made of what is; metrics and alerts show it
    "#);
    }

    #[test]
    fn a_share_of_what_is_private_makes_it_a_dimension_and_is_refused() {
        for of in ["card", "is_visa"] {
            let problems = parse(json!({
                "time": "at",
                "private": ["card"],
                "labels": [{"name": "is_visa", "type": "boolean", "value": "message.card == 'v'"}],
                "alerts": [{"name": "many", "when": format!("share({of}) > 0.5"), "every": "1h"}],
            }));
            let message = format!(
                "sluicegate.alerts[0]: \"{of}\" is private, or made of what is; metrics and alerts show it"
            );
            let said = problems.map(drop).unwrap_err().to_string();
            assert!(said.contains(&message), "{said}");
        }
    }

    #[test]
    fn a_label_made_of_a_private_field_is_private() {
        let contract = parse(json!({
            "private": ["card"],
            "labels": [
                {"name": "is_dear", "type": "boolean", "value": "message.amount > 5.0"},
                {"name": "issuer", "type": "string", "value": "message.card"},
            ],
        }));
        let contract = contract.unwrap();
        let private: Vec<bool> =
            contract.labels.iter().map(|label| contract.is_private_label(label)).collect();
        assert_eq!(private, [false, true]);
    }
}
